//! Lists: filters, order, pages.

use std::time::Duration;

use axum::body::Body;
use serde_json::json;
use testkit::Client;

use crate::world::{World, create, on_each_db, upload};

/// Five images, `a` to `e`, a minute apart; every second one has data of as many bytes as its place.
async fn five(world: &World) {
    let blue = world.blue();
    for (at, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let format = if at < 2 { "raw" } else { "iso" };
        let id = create(
            &blue,
            json!({
                "name": name, "disk_format": format, "container_format": "bare", "min_ram": at, "visibility": "private",
                "protected": at == 3, "os_hidden": name == "e", "tags": if at % 2 == 0 { vec!["even", "all"] } else { vec!["all"] },
                "os_distro": if at == 0 { "debian" } else { "other" }
            }),
        )
        .await;
        if at % 2 == 0 {
            upload(&blue, &id, Body::from(vec![1; at])).await.expect(204);
        }
        world.db.clock().advance(Duration::from_secs(60));
    }
}

async fn names(client: &Client, query: &str) -> String {
    let list = client.get(&format!("/image/v2/images?{query}")).await.expect(200);
    list.json["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_and_order() {
    on_each_db(|world| async move {
        five(&world).await;
        let blue = world.blue();
        for (query, expected) in [
            ("", "dcba"),
            ("sort_dir=asc", "abcd"),
            ("sort=name:asc", "abcd"),
            ("sort_key=disk_format&sort_dir=asc&sort_key=name&sort_dir=desc", "dcba"),
            ("sort_key=size&sort_dir=desc", "cdba"),
            ("name=b", "b"),
            ("name=in:a,c", "ca"),
            ("status=active", "ca"),
            ("status=in:queued,active", "dcba"),
            ("disk_format=iso", "dc"),
            ("container_format=bare&disk_format=in:raw,qcow2", "ba"),
            ("protected=true", "d"),
            ("os_hidden=true", "e"),
            ("tag=even", "ca"),
            ("tag=even&tag=all", "ca"),
            ("tag=even&tag=none", ""),
            ("min_ram=2", "c"),
            ("size_min=1", "c"),
            ("size_max=1", "a"),
            ("os_distro=debian", "a"),
            ("created_at=gt:2026-01-01T12:01:00Z", "dc"),
            ("created_at=lte:2026-01-01T12:01:00Z", "ba"),
            ("created_at=2026-01-01T12:02:00Z", "c"),
            ("updated_at=neq:2026-01-01T12:02:00Z", "dba"),
            ("owner=blue", "dcba"),
            ("owner=red", ""),
            ("visibility=public", ""),
            ("limit=0", ""),
        ] {
            // Images of a second that differ in nothing else come in the order of their random ids.
            let (mut found, mut expected) = (names(&blue, query).await, expected.to_owned());
            if query.contains("size&") {
                let sorted = |text: &str| {
                    let mut c: Vec<char> = text.chars().skip(1).collect();
                    c.sort_unstable();
                    format!("{}{}", &text[..1], c.iter().collect::<String>())
                };
                (found, expected) = (sorted(&found), sorted(&expected));
            }
            assert_eq!(found, expected, "{query}");
        }
        for bad in
            ["created_at=soon", "limit=-1", "limit=x", "sort_key=secret", "visibility=x", "marker=none", "size_min=x"]
        {
            blue.get(&format!("/image/v2/images?{bad}")).await.expect(400);
        }
    })
    .await;
}

#[tokio::test]
async fn pages() {
    on_each_db(|world| async move {
        five(&world).await;
        let blue = world.blue();
        let first = blue.get("/image/v2/images?limit=3&sort=name:asc&disk_format=in:raw,iso").await.expect(200).json;
        assert_eq!(first["first"], "/v2/images?limit=3&sort=name%3Aasc&disk_format=in%3Araw%2Ciso");
        assert_eq!(first["schema"], "/v2/schemas/images");
        let next = first["next"].as_str().unwrap();
        assert!(next.ends_with(&format!("&marker={}", first["images"][2]["id"].as_str().unwrap())), "{next}");
        let second = blue.get(&format!("/image{next}")).await.expect(200).json;
        assert_eq!(second["images"][0]["name"], "d");
        assert_eq!((second["images"].as_array().unwrap().len(), second.get("next")), (1, None));
        // Without a limit a page has 25.
        for n in 0..25 {
            create(&blue, json!({"name": format!("n{n}")})).await;
        }
        let page = blue.get("/image/v2/images").await.expect(200).json;
        assert_eq!(page["images"].as_array().unwrap().len(), 25);
        let rest = blue.get(&format!("/image{}", page["next"].as_str().unwrap())).await.expect(200).json;
        assert_eq!(rest["images"].as_array().unwrap().len(), 4);
    })
    .await;
}
