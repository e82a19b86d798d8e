//! Groups, and who is in them.

use http::Method;
use serde_json::json;

use crate::{by_password, grant, id_in, make_project, make_user, names, on_each_db, role_id};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let body = json!({ "group": { "name": "ops", "colour": "red" } });
        let made = admin.post("/identity/v3/groups", body.clone()).await.expect(201);
        let id = id_in(&made, "group");
        assert_eq!(
            made.json["group"],
            json!({ "id": id, "name": "ops", "description": "", "domain_id": "default", "colour": "red",
                "links": { "self": format!("http://nacre.test/identity/v3/groups/{id}") } })
        );
        admin.post("/identity/v3/groups", body.clone()).await.expect(409);
        for invalid in [json!({}), json!({ "name": "" }), json!({ "name": 1 })] {
            admin.post("/identity/v3/groups", json!({ "group": invalid })).await.expect(400);
        }
        let nowhere = json!({ "group": { "name": "x", "domain_id": "nowhere" } });
        admin.post("/identity/v3/groups", nowhere).await.expect(404);
        let path = format!("/identity/v3/groups/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        admin.head(&path).await.expect(200);
        let change = json!({ "group": { "name": "devs", "description": "d" } });
        let changed = admin.patch(&path, change).await.expect(200);
        assert_eq!(changed.json["group"]["description"], "d");
        admin.patch(&path, json!({ "group": { "domain_id": "other" } })).await.expect(400);
        assert_eq!(names(&admin.get("/identity/v3/groups?name__startswith=de").await.expect(200), "groups"), ["devs"]);
        assert_eq!(names(&admin.get("/identity/v3/groups?domain_id=x").await.expect(200), "groups"), [""; 0]);
        demo.get("/identity/v3/groups").await.expect(403);
        demo.get(&path).await.expect(403);
        demo.post("/identity/v3/groups", body).await.expect(403);
        demo.patch(&path, json!({ "group": { "name": "x" } })).await.expect(403);
        demo.delete(&path).await.expect(403);
        demo.get("/identity/v3/groups/nothing").await.expect(403);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn members_have_its_roles() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let body = json!({ "group": { "name": "ops" } });
        let group = id_in(&admin.post("/identity/v3/groups", body).await.expect(201), "group");
        let user = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        let member = role_id(&admin, "member").await;
        let grant = format!("/identity/v3/projects/{project}/groups/{group}/roles/{member}");
        let membership = format!("/identity/v3/groups/{group}/users/{user}");
        for path in [&grant, &membership] {
            demo.send(Method::PUT, path, None).await.expect(403);
            demo.get(path).await.expect(403);
            demo.delete(path).await.expect(403);
            admin.head(path).await.expect(404);
            admin.delete(path).await.expect(404);
            for _twice in 0..2 {
                admin.send(Method::PUT, path, None).await.expect(204);
            }
            admin.head(path).await.expect(204);
            admin.get(path).await.expect(204);
        }
        admin.send(Method::PUT, &format!("/identity/v3/groups/{group}/users/nobody"), None).await.expect(404);
        admin.send(Method::PUT, &format!("/identity/v3/groups/nothing/users/{user}"), None).await.expect(404);
        let users = format!("/identity/v3/groups/{group}/users");
        let groups = format!("/identity/v3/users/{user}/groups");
        assert_eq!(names(&admin.get(&users).await.expect(200), "users"), ["mia"]);
        assert_eq!(names(&admin.get(&format!("{users}?name=x")).await.expect(200), "users"), [""; 0]);
        assert_eq!(names(&admin.get(&groups).await.expect(200), "groups"), ["ops"]);
        demo.get(&users).await.expect(403);
        demo.get(&groups).await.expect(403);
        let granted = format!("/identity/v3/projects/{project}/groups/{group}/roles");
        assert_eq!(names(&admin.get(&granted).await.expect(200), "roles"), ["member"]);
        demo.get(&granted).await.expect(403);
        // The token has them, and loses them with the membership.
        let scope = json!({ "project": { "id": project } });
        let mia = cloud.with_token(&by_password("mia", "mia's"), Some(scope.clone())).await;
        assert_eq!(names(&mia.get("/identity/v3/auth/projects").await.expect(200), "projects"), ["shop"]);
        assert_eq!(names(&mia.get(&groups).await.expect(200), "groups"), ["ops"]);
        admin.delete(&membership).await.expect(204);
        mia.get("/identity/v3/auth/projects").await.expect(401);
        cloud.log_in(&by_password("mia", "mia's"), Some(scope.clone())).await.expect(401);
        admin.send(Method::PUT, &membership, None).await.expect(204);
        cloud.log_in(&by_password("mia", "mia's"), Some(scope.clone())).await.expect(201);
        admin.delete(&format!("/identity/v3/groups/{group}")).await.expect(204);
        cloud.log_in(&by_password("mia", "mia's"), Some(scope)).await.expect(401);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn on_domains_and_the_system() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let body = json!({ "group": { "name": "ops" } });
        let group = id_in(&admin.post("/identity/v3/groups", body).await.expect(201), "group");
        let user = make_user(&admin, "mia").await;
        admin.send(Method::PUT, &format!("/identity/v3/groups/{group}/users/{user}"), None).await.expect(204);
        let unscoped = cloud.with_token(&by_password("mia", "mia's"), None).await;
        assert_eq!(unscoped.get("/identity/v3/auth/system").await.expect(200).json["system"], json!([]));
        for (target, scope) in [
            ("domains/default", json!({ "domain": { "id": "default" } })),
            ("system", json!({ "system": { "all": true } })),
        ] {
            cloud.log_in(&by_password("mia", "mia's"), Some(scope.clone())).await.expect(401);
            let member = role_id(&admin, "member").await;
            let path = format!("/identity/v3/{target}/groups/{group}/roles/{member}");
            admin.send(Method::PUT, &path, None).await.expect(204);
            admin.head(&path).await.expect(204);
            let all = admin.get(&format!("/identity/v3/{target}/groups/{group}/roles")).await.expect(200);
            assert_eq!(names(&all, "roles"), ["member"]);
            cloud.log_in(&by_password("mia", "mia's"), Some(scope)).await.expect(201);
        }
        let unscoped = cloud.with_token(&by_password("mia", "mia's"), None).await;
        assert_eq!(names(&unscoped.get("/identity/v3/auth/domains").await.expect(200), "domains"), ["Default"]);
        assert_eq!(unscoped.get("/identity/v3/auth/system").await.expect(200).json["system"], json!([{ "all": true }]));
    })
    .await;
}

#[tokio::test]
async fn a_domains_manager_manages_its_groups_only() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let max = make_user(&admin, "max").await;
        grant(&admin, &max, "manager", &format!("domains/{east}")).await;
        let scope = json!({ "domain": { "id": east } });
        let manager = cloud.with_token(&by_password("max", "max's"), Some(scope)).await;
        let made = manager.post("/identity/v3/groups", json!({ "group": { "name": "own" } })).await.expect(201);
        assert_eq!(made.json["group"]["domain_id"], json!(east));
        let foreign = json!({ "group": { "name": "x", "domain_id": "default" } });
        manager.post("/identity/v3/groups", foreign.clone()).await.expect(403);
        let other = id_in(&admin.post("/identity/v3/groups", foreign).await.expect(201), "group");
        assert_eq!(names(&manager.get("/identity/v3/groups").await.expect(200), "groups"), ["own"]);
        manager.get(&format!("/identity/v3/groups/{other}")).await.expect(403);
        // Nor foreign users into it.
        let membership = format!("/identity/v3/groups/{}/users/{max}", id_in(&made, "group"));
        manager.send(Method::PUT, &membership, None).await.expect(403);
        let own = json!({ "user": { "name": "eve", "domain_id": east } });
        let own = id_in(&admin.post("/identity/v3/users", own).await.expect(201), "user");
        let membership = format!("/identity/v3/groups/{}/users/{own}", id_in(&made, "group"));
        manager.send(Method::PUT, &membership, None).await.expect(204);
        admin
            .patch(&format!("/identity/v3/domains/{east}"), json!({ "domain": { "enabled": false } }))
            .await
            .expect(200);
        admin.delete(&format!("/identity/v3/domains/{east}")).await.expect(204);
        admin.get(&format!("/identity/v3/groups/{}", id_in(&made, "group"))).await.expect(404);
    })
    .await;
}
