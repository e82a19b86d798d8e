//! Records: versions, schemas, create, show, update, delete, tags.

use std::time::Duration;

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::world::{active, create, on_each_db, patch, queued, show};

const ID: &str = "0f9c9a80-7c2b-4b62-9a4e-9dbb0f0b9d0f";

#[tokio::test]
async fn version_documents() {
    on_each_db(|world| async move {
        let choices = world.nobody().get("/image").await.expect(300);
        assert_eq!(choices.json["versions"][0]["status"], "CURRENT");
        assert_eq!(choices.json["versions"][0]["links"][0]["href"], "http://nacre.test/image/v2/");
        assert_eq!(world.nobody().get("/image/").await.expect(300).json, choices.json);
        assert_eq!(world.nobody().get("/image/versions").await.expect(200).json, choices.json);
    })
    .await;
}

#[tokio::test]
async fn documents_for_clients() {
    on_each_db(|world| async move {
        let blue = world.user("reader", "blue");
        let schema = blue.get("/image/v2/schemas/image").await.expect(200).json;
        assert_eq!(schema["name"], "image");
        let formats = schema["properties"]["disk_format"]["enum"].as_array().unwrap();
        assert!(formats.contains(&json!("qcow2")) && formats.contains(&Value::Null));
        assert_eq!(schema["properties"]["container_format"]["enum"][1], "bare");
        for name in ["images", "member", "members"] {
            assert_eq!(blue.get(&format!("/image/v2/schemas/{name}")).await.expect(200).json["name"], name);
        }
        let methods = blue.get("/image/v2/info/import").await.expect(200).json["import-methods"]["value"].clone();
        assert_eq!(methods, json!(["glance-direct", "web-download"]));
        assert_eq!(blue.get("/image/v2/info/stores").await.expect(200).json["stores"][0]["id"], "file");
        blue.get("/image/v2/info/stores/detail").await.expect(403);
        let detail = world.admin().get("/image/v2/info/stores/detail").await.expect(200).json;
        assert_eq!(detail["stores"][0]["type"], "file");
        world.nobody().get("/image/v2/schemas/image").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn create_and_show() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let body = json!({
            "id": ID, "name": "n", "disk_format": "raw", "container_format": "bare", "min_disk": 2, "min_ram": 64,
            "tags": ["b", "a", "b"], "protected": true, "os_hidden": true, "visibility": "private", "os_distro": "debian"
        });
        let created = blue.post("/image/v2/images", body.clone()).await.expect(201);
        assert_eq!(created.header("location"), Some(format!("http://nacre.test/image/v2/images/{ID}").as_str()));
        assert_eq!(
            created.json,
            json!({
                "id": ID, "name": "n", "owner": "blue", "status": "queued", "visibility": "private",
                "disk_format": "raw", "container_format": "bare", "min_disk": 2, "min_ram": 64,
                "tags": ["a", "b"], "protected": true, "os_hidden": true, "os_distro": "debian",
                "size": null, "virtual_size": null, "checksum": null, "os_hash_algo": null, "os_hash_value": null,
                "created_at": "2026-01-01T12:00:00Z", "updated_at": "2026-01-01T12:00:00Z",
                "self": format!("/v2/images/{ID}"), "file": format!("/v2/images/{ID}/file"),
                "schema": "/v2/schemas/image"
            })
        );
        assert_eq!(show(&blue, ID).await.expect(200).json, created.json);
        // The id is taken, also for those who can't see the image.
        blue.post("/image/v2/images", body.clone()).await.expect(409);
        world.red().post("/image/v2/images", body).await.expect(409);
        blue.get("/image/v2/images/").await.expect(404);
        blue.delete("/image/v2/images/").await.expect(404);
        let empty = blue.post("/image/v2/images", json!({})).await.expect(201).json;
        assert_eq!((&empty["name"], &empty["visibility"]), (&Value::Null, &json!("shared")));
    })
    .await;
}

#[tokio::test]
async fn what_create_refuses() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let many: Vec<String> = (0..129).map(|n| format!("t{n}")).collect();
        let properties: serde_json::Map<String, Value> = (0..129).map(|n| (format!("p{n}"), json!("x"))).collect();
        let table = [
            (json!({"id": "not-a-uuid"}), 400),
            (json!({"name": 1}), 400),
            (json!({"disk_format": "floppy"}), 400),
            (json!({"os_distro": {"nested": 1}}), 400),
            (json!({"disk_format": "aki", "container_format": "bare"}), 400),
            (json!({"status": "active"}), 403),
            (json!({"location": "file:///etc/passwd"}), 403),
            (json!({"owner": "red"}), 403),
            (json!({"visibility": "public"}), 403),
            (json!({"tags": many}), 413),
            (Value::Object(properties), 413),
            (json!([]), 400),
        ];
        for (body, status) in table {
            blue.post("/image/v2/images", body.clone()).await.expect(status);
        }
        world.user("reader", "blue").post("/image/v2/images", json!({})).await.expect(403);
        world.nobody().post("/image/v2/images", json!({})).await.expect(401);
        assert_eq!(world.doctor().await, Vec::<String>::new(), "what was refused costs no quota");
        let theirs = json!({"owner": "red", "visibility": "public"});
        assert_eq!(world.admin().post("/image/v2/images", theirs).await.expect(201).json["owner"], "red");
    })
    .await;
}

#[tokio::test]
async fn update() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = create(&blue, json!({"name": "old", "os_distro": "debian"})).await;
        let changes = json!([
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/tags", "value": ["x"]},
            {"op": "add", "path": "/os_version", "value": "12"},
            {"op": "remove", "path": "/os_distro"},
            {"op": "replace", "path": "/visibility", "value": "community"},
        ]);
        let updated = patch(&blue, &id, changes).await.expect(200).json;
        assert_eq!(show(&blue, &id).await.json, updated);
        assert_eq!(
            (&updated["name"], &updated["tags"], &updated["os_version"]),
            (&json!("new"), &json!(["x"]), &json!("12"))
        );
        assert_eq!((updated.get("os_distro"), &updated["visibility"]), (None, &json!("community")));
        // The older spelling.
        let old = Body::from(r#"[{"replace": "/name", "value": "newest"}]"#);
        let kind = Some("application/openstack-images-v2.0-json-patch");
        let path = format!("/image/v2/images/{id}");
        assert_eq!(blue.send_body(Method::PATCH, &path, kind, old).await.expect(200).json["name"], "newest");
        blue.send_body(Method::PATCH, &path, Some("application/json"), Body::from("[]")).await.expect(415);
        // One change that is refused undoes those before it.
        let half = json!([{"op": "replace", "path": "/name", "value": "half"}, {"op": "remove", "path": "/nothing"}]);
        patch(&blue, &id, half).await.expect(409);
        assert_eq!(show(&blue, &id).await.json["name"], "newest");
        patch(&blue, &id, json!([{"op": "replace", "path": "/visibility", "value": "public"}])).await.expect(403);
        let public = json!([{"op": "replace", "path": "/visibility", "value": "public"}]);
        patch(&world.admin(), &id, public).await.expect(200);
        // Everybody sees it now; nobody else may change it.
        patch(&world.red(), &id, json!([])).await.expect(403);
        patch(&world.user("reader", "blue"), &id, json!([])).await.expect(403);
    })
    .await;
}

#[tokio::test]
async fn delete() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = active(&blue, b"data", "private").await;
        let path = format!("/image/v2/images/{id}");
        patch(&blue, &id, json!([{"op": "replace", "path": "/protected", "value": true}])).await.expect(200);
        blue.delete(&path).await.expect(403);
        patch(&blue, &id, json!([{"op": "replace", "path": "/protected", "value": false}])).await.expect(200);
        world.red().delete(&path).await.expect(404);
        blue.delete(&path).await.expect(204);
        // Gone at once for everyone; the files follow.
        for answer in [show(&blue, &id).await, show(&world.admin(), &id).await, blue.delete(&path).await] {
            answer.expect(404);
        }
        assert_eq!(blue.get("/image/v2/images").await.json["images"], json!([]));
        world.engine.settle().await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
        assert!(!world.path(&id).exists());
        // A list may go on from it; and then it is forgotten.
        let rest = format!("/image/v2/images?marker={id}");
        blue.get(&rest).await.expect(200);
        show(&blue, &id).await.expect(404);
        world.db.clock().advance(Duration::from_secs(3600));
        world.engine.settle().await.unwrap();
        blue.get(&rest).await.expect(400);
        assert_eq!(world.db.flow(&id).await.unwrap(), None);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn tags() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        let path = |tag: &str| format!("/image/v2/images/{id}/tags/{tag}");
        let put = |client: testkit::Client, tag: &'static str| {
            let path = path(tag);
            async move { client.send(Method::PUT, &path, None).await }
        };
        put(blue.clone(), "one").await.expect(204);
        put(blue.clone(), "one").await.expect(204);
        put(blue.clone(), "t%C3%BCr%20auf").await.expect(204);
        put(world.red(), "two").await.expect(404);
        put(world.user("reader", "blue"), "two").await.expect(403);
        assert_eq!(show(&blue, &id).await.json["tags"], json!(["one", "tür auf"]));
        blue.delete(&path("one")).await.expect(204);
        blue.delete(&path("one")).await.expect(404);
        put(blue.clone(), Box::leak("x".repeat(256).into_boxed_str())).await.expect(400);
        assert_eq!(show(&blue, &id).await.json["tags"], json!(["tür auf"]));
    })
    .await;
}

#[tokio::test]
async fn an_image_that_changes_hands_takes_its_quota_along() {
    on_each_db(|world| async move {
        let id = active(&world.blue(), &[7; 3 << 20], "private").await;
        let owner = json!([{"op": "replace", "path": "/owner", "value": "red"}]);
        patch(&world.blue(), &id, owner.clone()).await.expect(403);
        patch(&world.admin(), &id, owner).await.expect(200);
        show(&world.blue(), &id).await.expect(404);
        show(&world.red(), &id).await.expect(200);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
