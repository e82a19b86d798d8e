//! Domains.

use serde_json::json;

use crate::{grant, id_in, make_user, names, on_each_db};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let body = json!({ "domain": { "name": "east", "description": "sunrise", "colour": "red" } });
        let made = admin.post("/identity/v3/domains", body.clone()).await.expect(201);
        let id = id_in(&made, "domain");
        assert_eq!(
            made.json["domain"],
            json!({ "id": id, "name": "east", "description": "sunrise", "enabled": true, "tags": [], "options": {},
                "colour": "red", "links": { "self": format!("http://nacre.test/identity/v3/domains/{id}") } })
        );
        admin.post("/identity/v3/domains", body).await.expect(409);
        let path = format!("/identity/v3/domains/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        assert_eq!(names(&admin.get("/identity/v3/domains").await.expect(200), "domains"), ["Default", "east"]);
        assert_eq!(names(&admin.get("/identity/v3/domains?name=east").await, "domains"), ["east"]);
        let invalid = [
            json!({}),
            json!({ "name": "" }),
            json!({ "name": 1 }),
            json!({ "name": "x", "enabled": "yes" }),
            json!({ "name": "x".repeat(65) }),
        ];
        for domain in invalid {
            admin.post("/identity/v3/domains", json!({ "domain": domain })).await.expect(400);
        }
        let user = json!({ "user": { "name": "u", "domain_id": id } });
        let user = id_in(&admin.post("/identity/v3/users", user).await.expect(201), "user");
        let project = json!({ "project": { "name": "p", "domain_id": id } });
        let project = id_in(&admin.post("/identity/v3/projects", project).await.expect(201), "project");
        let below = json!({ "project": { "name": "q", "parent_id": project } });
        admin.post("/identity/v3/projects", below).await.expect(201);
        grant(&admin, &user, "member", &format!("projects/{project}")).await;
        // Only once it is disabled, and then with all that is in it.
        admin.delete(&path).await.expect(403);
        let off = admin.patch(&path, json!({ "domain": { "enabled": false } })).await.expect(200);
        assert_eq!(off.json["domain"]["enabled"], false);
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.expect(404);
        admin.get(&format!("/identity/v3/users/{user}")).await.expect(404);
        admin.get(&format!("/identity/v3/projects/{project}")).await.expect(404);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn others_see_their_own() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        demo.get("/identity/v3/domains").await.expect(403);
        demo.get("/identity/v3/domains/default").await.expect(200);
        demo.get(&format!("/identity/v3/domains/{east}")).await.expect(403);
        demo.get("/identity/v3/domains/nowhere").await.expect(403);
        demo.post("/identity/v3/domains", json!({ "domain": { "name": "x" } })).await.expect(403);
        demo.patch("/identity/v3/domains/default", json!({ "domain": { "name": "x" } })).await.expect(403);
        demo.delete("/identity/v3/domains/default").await.expect(403);
        // A reader of a domain lists that one.
        let user = make_user(&admin, "ron").await;
        grant(&admin, &user, "reader", &format!("domains/{east}")).await;
        let scope = json!({ "domain": { "id": east } });
        let ron = cloud.with_token(&crate::by_password("ron", "ron's"), Some(scope)).await;
        assert_eq!(names(&ron.get("/identity/v3/domains").await.expect(200), "domains"), ["east"]);
    })
    .await;
}
