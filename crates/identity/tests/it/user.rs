//! Users.

use serde_json::json;

use crate::{by_password, grant, id_in, make_user, names, on_each_db};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let body = json!({ "user": { "name": "mia", "password": "secret", "email": "mia@example.org" } });
        let made = admin.post("/identity/v3/users", body.clone()).await.expect(201);
        let id = id_in(&made, "user");
        assert_eq!(
            made.json["user"],
            json!({ "id": id, "name": "mia", "domain_id": "default", "enabled": true, "email": "mia@example.org",
                "password_expires_at": null, "options": {},
                "links": { "self": format!("http://nacre.test/identity/v3/users/{id}") } })
        );
        admin.post("/identity/v3/users", body).await.expect(409);
        let path = format!("/identity/v3/users/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        let changed = admin.patch(&path, json!({ "user": { "name": "maya", "description": "d" } })).await.expect(200);
        assert_eq!(
            (&changed.json["user"]["name"], &changed.json["user"]["description"]),
            (&json!("maya"), &json!("d"))
        );
        assert_eq!(admin.get(&path).await.expect(200).json, changed.json);
        admin.patch(&path, json!({ "user": { "domain_id": "other" } })).await.expect(400);
        admin.patch(&path, json!({ "user": { "name": "demo" } })).await.expect(409);
        let invalid = [
            json!({}),
            json!({ "name": "x".repeat(256) }),
            json!({ "name": "x", "enabled": 1 }),
            json!({ "name": "x", "password": 1 }),
            json!({ "name": "x", "password": "x".repeat(5000) }),
        ];
        for user in invalid {
            admin.post("/identity/v3/users", json!({ "user": user })).await.expect(400);
        }
        let nowhere = json!({ "user": { "name": "x", "domain_id": "nowhere" } });
        admin.post("/identity/v3/users", nowhere).await.expect(404);
        assert_eq!(names(&admin.get("/identity/v3/users?name=maya&enabled=true").await.expect(200), "users"), ["maya"]);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
        cloud.log_in(&by_password("maya", "secret"), None).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn others_see_themselves() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let mia = make_user(&admin, "mia").await;
        let all = admin.get("/identity/v3/users?name=demo").await.expect(200);
        let own = format!("/identity/v3/users/{}", all.json["users"][0]["id"].as_str().unwrap());
        demo.get(&own).await.expect(200);
        demo.patch(&own, json!({ "user": { "name": "x" } })).await.expect(403);
        demo.delete(&own).await.expect(403);
        demo.get(&format!("/identity/v3/users/{mia}")).await.expect(403);
        demo.get("/identity/v3/users/nobody").await.expect(403);
        demo.get("/identity/v3/users").await.expect(403);
        demo.post("/identity/v3/users", json!({ "user": { "name": "x" } })).await.expect(403);
        // A reader of the system sees all and changes nothing.
        grant(&admin, &mia, "reader", "system").await;
        let system = json!({ "system": { "all": true } });
        let reader = cloud.with_token(&by_password("mia", "mia's"), Some(system)).await;
        assert_eq!(names(&reader.get("/identity/v3/users").await.expect(200), "users"), ["admin", "demo", "mia"]);
        reader.delete(&own).await.expect(403);
    })
    .await;
}

#[tokio::test]
async fn a_domains_reader_sees_its_users_only() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let body = json!({ "user": { "name": "eve", "domain_id": east, "password": "eve's" } });
        let eve = id_in(&admin.post("/identity/v3/users", body).await.expect(201), "user");
        grant(&admin, &eve, "reader", &format!("domains/{east}")).await;
        let identity = json!({ "methods": ["password"], "password": { "user": { "id": eve, "password": "eve's" } } });
        let eve = cloud.with_token(&identity, Some(json!({ "domain": { "name": "east" } }))).await;
        assert_eq!(names(&eve.get("/identity/v3/users").await.expect(200), "users"), ["eve"]);
        assert_eq!(names(&eve.get("/identity/v3/users?domain_id=default").await.expect(200), "users"), [""; 0]);
    })
    .await;
}
