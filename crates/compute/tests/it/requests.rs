//! What requests are refused and what lists show.

use model::Clock;
use serde_json::{Value, json};
use testkit::for_each_db;

use crate::world::World;

#[tokio::test]
async fn requests_to_create_that_are_refused() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let missing = "00000000-0000-4000-8000-000000000000";
        let table = [
            ("name", json!(""), 400),
            ("name", json!(" web"), 400),
            ("imageRef", json!("nonsense"), 400),
            ("imageRef", json!(missing), 400),
            ("imageRef", json!(""), 400),
            ("flavorRef", json!("nope"), 400),
            ("key_name", json!("nope"), 400),
            ("networks", json!([{"uuid": missing}]), 400),
            ("networks", json!([{"port": missing}]), 400),
            ("networks", json!([{}]), 400),
            ("networks", json!("some"), 400),
            ("networks", json!([{"uuid": world.net, "fixed_ip": "10.9.9.9"}]), 400),
            ("security_groups", json!([{"name": "nope"}]), 400),
            ("user_data", json!("###"), 400),
            ("availability_zone", json!("nowhere"), 400),
            ("availability_zone", json!("nova:h1"), 403),
            ("min_count", json!(0), 400),
            ("metadata", json!({"a": 1}), 400),
            ("metadata", json!({"": "x"}), 400),
            ("metadata", json!({"a": "x".repeat(256)}), 400),
            ("accessIPv4", json!("somewhere"), 400),
            ("tags", json!(["a,b"]), 400),
            ("hostname", json!("-x"), 400),
            ("personality", json!([]), 400),
            ("block_device_mapping_v2", json!([{"source_type": "volume", "uuid": missing, "boot_index": 0}]), 400),
            ("unheard_of", json!(1), 400),
        ];
        for (field, value, status) in table {
            let mut request = world.request("web");
            request["server"][field] = value.clone();
            let answer = world.blue().post("/compute/v2.1/servers", request).await;
            assert_eq!(answer.status.as_u16(), status, "{field} {value}: {:?}", answer.json);
            let fault = answer.json.as_object().unwrap().values().next().unwrap();
            assert!(fault["message"].as_str().unwrap().len() > 10, "{fault}");
        }
        // What a microversion does not know it refuses.
        for (field, value, version) in
            [("description", json!("x"), "2.18"), ("tags", json!([]), "2.51"), ("hostname", json!("x1"), "2.89")]
        {
            let mut request = world.request("web");
            request["server"][field] = value;
            let answer = world.as_("member", "blue", version).post("/compute/v2.1/servers", request).await.expect(400);
            assert!(answer.json["badRequest"]["message"].as_str().unwrap().contains(field));
        }
        let list = world.blue().get("/compute/v2.1/servers").await.expect(200);
        assert_eq!(list.json["servers"], json!([]));
        world.assert_sound().await;
    })
    .await;
}

async fn names(world: &World, query: &str) -> Vec<String> {
    let list = world.blue().get(&format!("/compute/v2.1/servers/detail?{query}")).await.expect(200);
    let mut names: Vec<String> =
        list.json["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut ids = Vec::new();
        for name in ["alpha", "beta", "gamma"] {
            let mut request = world.request(name);
            request["server"]["tags"] = json!([name, "all"]);
            let created = world.blue().post("/compute/v2.1/servers", request).await.expect(202);
            ids.push(created.json["server"]["id"].as_str().unwrap().to_owned());
        }
        for id in &ids {
            world.status(id, "ACTIVE").await;
        }
        world.act(&ids[0], json!({"os-stop": null})).await.expect(202);
        let stopped = world.status(&ids[0], "SHUTOFF").await;
        let ip = stopped["addresses"]["private"][0]["addr"].as_str().unwrap().to_owned();
        let (all, none): (&[&str], &[&str]) = (&["alpha", "beta", "gamma"], &[]);
        let table: Vec<(String, &[&str])> = vec![
            (String::new(), all),
            ("name=ET".into(), &["beta"]),
            ("name=^beta$".into(), &["beta"]),
            ("status=active".into(), &["beta", "gamma"]),
            ("status=SHUTOFF&status=ERROR".into(), &["alpha"]),
            ("status=nonsense".into(), none),
            (format!("image={}", world.image), all),
            ("flavor=1".into(), none),
            (format!("ip={ip}"), &["alpha"]),
            ("tags=all,beta".into(), &["beta"]),
            ("tags-any=alpha,gamma".into(), &["alpha", "gamma"]),
            ("not-tags-any=alpha,gamma".into(), &["beta"]),
            ("not-tags=all,beta".into(), &["alpha", "gamma"]),
            ("vm_state=stopped".into(), &["alpha"]),
            ("changes-since=2001-01-01T00:00:00Z".into(), all),
        ];
        for (query, expected) in table {
            assert_eq!(names(&world, &query).await, expected, "{query}");
        }
        let blue = world.blue();
        let page = blue.get("/compute/v2.1/servers?limit=2&sort_key=display_name&sort_dir=asc").await.expect(200);
        let next = page.json["servers_links"][0]["href"].as_str().unwrap().strip_prefix("http://nacre.test").unwrap();
        let rest = blue.get(next).await.expect(200);
        assert_eq!(rest.json["servers"][0]["name"], "gamma");
        assert!(rest.json["servers_links"].is_null());
        for bad in ["limit=x", "sort_key=secret", "marker=nope", "unheard_of=1", "changes-since=soon"] {
            blue.get(&format!("/compute/v2.1/servers?{bad}")).await.expect(400);
        }
        blue.get("/compute/v2.1/servers?status=deleted").await.expect(403);

        blue.delete(&format!("/compute/v2.1/servers/{}", ids[1])).await.expect(204);
        world.gone(&ids[1]).await;
        assert_eq!(names(&world, "").await, ["alpha", "gamma"]);
        let changes = blue.get("/compute/v2.1/servers/detail?changes-since=2001-01-01T00:00:00Z").await.expect(200);
        let gone: Vec<&Value> =
            changes.json["servers"].as_array().unwrap().iter().filter(|s| s["status"] == "DELETED").collect();
        assert_eq!(gone.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn metadata_tags_name_and_console() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let (blue, server) = (world.blue(), format!("/compute/v2.1/servers/{id}"));
        let metadata = format!("{server}/metadata");
        blue.post(&metadata, json!({"metadata": {"a": "1", "b": "2"}})).await.expect(200);
        blue.put(&format!("{metadata}/a"), json!({"meta": {"a": "3"}})).await.expect(200);
        blue.put(&format!("{metadata}/a"), json!({"meta": {"b": "3"}})).await.expect(400);
        blue.delete(&format!("{metadata}/b")).await.expect(204);
        blue.delete(&format!("{metadata}/b")).await.expect(404);
        assert_eq!(blue.get(&metadata).await.expect(200).json, json!({"metadata": {"a": "3"}}));
        blue.put(&metadata, json!({"metadata": {"c": "4"}})).await.expect(200);
        assert_eq!(blue.get(&format!("{metadata}/c")).await.expect(200).json, json!({"meta": {"c": "4"}}));
        let tags = format!("{server}/tags");
        blue.put(&format!("{tags}/x"), Value::Null).await.expect(201);
        blue.put(&format!("{tags}/x"), Value::Null).await.expect(204);
        blue.get(&format!("{tags}/x")).await.expect(204);
        blue.put(&tags, json!({"tags": ["b", "a"]})).await.expect(200);
        assert_eq!(blue.get(&tags).await.expect(200).json, json!({"tags": ["a", "b"]}));
        blue.delete(&format!("{tags}/x")).await.expect(404);
        blue.delete(&tags).await.expect(204);
        let updated = blue.put(&server, json!({"server": {"name": "new", "description": null}})).await.expect(200);
        assert_eq!(updated.json["server"]["name"], "new");
        blue.put(&server, json!({"server": {"status": "ACTIVE"}})).await.expect(400);
        let console = json!({"os-getConsoleOutput": {"length": 5}});
        assert!(world.act(&id, console).await.expect(200).json["output"].is_string());
        world.act(&id, json!({"os-getConsoleOutput": {"length": "x"}})).await.expect(400);
        world.act(&id, json!({"fly": null})).await.expect(400);
        world.act(&id, json!({"reboot": {"type": "MEDIUM"}})).await.expect(400);
        blue.get(&format!("{server}/ips/nowhere")).await.expect(404);
        world.waits(&id, "nothing to do").await;
        assert_eq!(world.show(&id).await["status"], "ACTIVE");
        world.assert_sound().await;
    })
    .await;
}
