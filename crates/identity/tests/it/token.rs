//! Asking for tokens, validating and revoking them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    ADMIN_PASSWORD, DEMO_PASSWORD, by_password, by_token, grant, log_in, make_project, make_user, names, on_each_db,
    project_scope, token_of,
};

#[tokio::test]
async fn scopes() {
    on_each_db(|cloud| async move {
        let admin = by_password("admin", ADMIN_PASSWORD);
        let cases = [
            (None, None, 0),
            (Some(json!("unscoped")), None, 0),
            (Some(project_scope("admin")), Some("project"), 4),
            (Some(json!({ "system": { "all": true } })), Some("system"), 4),
        ];
        for (scope, shown, roles) in cases {
            let response = cloud.log_in(&admin, scope.clone()).await.expect(201);
            let token = &response.json["token"];
            for kind in ["project", "domain", "system"] {
                assert_eq!(token.get(kind).is_some(), shown == Some(kind), "{scope:?} {token}");
            }
            assert_eq!(token.get("roles").map_or(0, |r| r.as_array().unwrap().len()), roles);
            assert_eq!(token.get("catalog").is_some(), shown.is_some());
            assert_eq!(token["methods"], json!(["password"]));
            assert_eq!(token["user"]["domain"], json!({ "id": "default", "name": "Default" }));
            assert_eq!(token["audit_ids"].as_array().unwrap().len(), 1);
            assert!(token_of(&response).len() <= 255);
        }
        let project = cloud.log_in(&admin, Some(project_scope("admin"))).await.expect(201).json["token"].clone();
        assert_eq!(project["project"]["name"], "admin");
        assert_eq!(project["is_domain"], false);
        let mut roles: Vec<&str> =
            project["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        roles.sort_unstable();
        assert_eq!(roles, ["admin", "manager", "member", "reader"]);
        assert_eq!(project["catalog"][0]["endpoints"].as_array().unwrap().len(), 3);
        let system = cloud.log_in(&admin, Some(json!({ "system": { "all": true } }))).await.json["token"].clone();
        assert_eq!(system["system"], json!({ "all": true }));
    })
    .await;
}

#[tokio::test]
async fn every_failure_looks_the_same() {
    on_each_db(|cloud| async move {
        let demo = by_password("demo", DEMO_PASSWORD);
        let refused = [
            (by_password("demo", "wrong"), None),
            (by_password("nobody", "wrong"), None),
            (demo.clone(), Some(project_scope("admin"))),
            (demo.clone(), Some(project_scope("nowhere"))),
            (demo.clone(), Some(json!({ "project": { "id": "nowhere" } }))),
            (demo.clone(), Some(json!({ "domain": { "id": "default" } }))),
            (demo.clone(), Some(json!({ "domain": { "name": "nowhere" } }))),
            (demo.clone(), Some(json!({ "system": { "all": true } }))),
        ];
        let mut bodies = Vec::new();
        for (identity, scope) in refused {
            let response = cloud.log_in(&identity, scope).await.expect(401);
            assert_eq!(response.header("www-authenticate"), Some("Keystone uri=\"http://nacre.test/identity\""));
            bodies.push(response.json);
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        cloud.log_in(&by_token("gAAAAA"), None).await.expect(404);
        let malformed = [json!({}), json!({ "identity": {} }), json!({ "identity": { "methods": ["password"] } })];
        for auth in malformed {
            cloud.anyone.post("/identity/v3/auth/tokens", json!({ "auth": auth })).await.expect(400);
        }
        cloud.anyone.post("/identity/v3/auth/tokens", json!({})).await.expect(400);
        cloud.anyone.get("/identity/v3/auth/tokens").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn validation() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let issued = cloud.log_in(&by_password("demo", DEMO_PASSWORD), Some(project_scope("demo"))).await.expect(201);
        let token = token_of(&issued);
        let shown = admin.clone().header("x-subject-token", &token).get("/identity/v3/auth/tokens").await.expect(200);
        assert_eq!(shown.json, issued.json);
        assert_eq!(shown.header("x-subject-token"), Some(token.as_str()));
        assert_eq!(shown.header("vary"), Some("X-Auth-Token"));
        // Not from the cache: from a server that never saw it.
        let (_, other) = crate::server(cloud.db.reconnect().await, cloud.master.clone()).await;
        let elsewhere = other.token(&token).header("x-subject-token", &token);
        assert_eq!(elsewhere.get("/identity/v3/auth/tokens").await.expect(200).json, issued.json);
        elsewhere.head("/identity/v3/auth/tokens").await.expect(200);
        let without = elsewhere.get("/identity/v3/auth/tokens?nocatalog").await.expect(200);
        assert_eq!(without.json["token"].get("catalog"), None);
        // One's own token, whatever one's role; nobody else's without one.
        let demo = cloud.demo().await;
        demo.clone().header("x-subject-token", &token).get("/identity/v3/auth/tokens").await.expect(200);
        let admins = token_of(&cloud.log_in(&by_password("admin", ADMIN_PASSWORD), None).await);
        demo.clone().header("x-subject-token", &admins).get("/identity/v3/auth/tokens").await.expect(403);
        demo.clone().header("x-subject-token", &admins).delete("/identity/v3/auth/tokens").await.expect(403);
        admin.clone().header("x-subject-token", "nonsense").get("/identity/v3/auth/tokens").await.expect(404);
        admin.get("/identity/v3/auth/tokens").await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn tokens_end() {
    on_each_db(|cloud| async move {
        let demo = cloud.demo().await;
        demo.get("/identity/v3/auth/projects").await.expect(200);
        cloud.db.clock().advance(identity::state::TOKEN_LIFETIME - Duration::from_secs(1));
        demo.get("/identity/v3/auth/projects").await.expect(200);
        cloud.db.clock().advance(Duration::from_secs(1));
        demo.get("/identity/v3/auth/projects").await.expect(401);
        // A fresh one, whatever stale one is sent along.
        log_in(&demo, &by_password("demo", DEMO_PASSWORD), None).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn rescoping_continues_the_chain_and_the_end() {
    on_each_db(|cloud| async move {
        let first = cloud.log_in(&by_password("admin", ADMIN_PASSWORD), Some(json!("unscoped"))).await.expect(201);
        cloud.db.clock().advance(Duration::from_secs(60));
        let second = cloud.log_in(&by_token(&token_of(&first)), Some(project_scope("admin"))).await.expect(201);
        let third = cloud.log_in(&by_token(&token_of(&second)), Some(json!({ "system": { "all": true } }))).await;
        let third = third.expect(201);
        assert_eq!(third.json["token"]["expires_at"], first.json["token"]["expires_at"]);
        assert_ne!(third.json["token"]["issued_at"], first.json["token"]["issued_at"]);
        assert_eq!(third.json["token"]["audit_ids"][1], first.json["token"]["audit_ids"][0]);
        assert_eq!(third.json["token"]["methods"], json!(["password", "token"]));
        assert_eq!(second.json["token"]["project"]["name"], "admin");
    })
    .await;
}

#[tokio::test]
async fn a_default_project_is_the_scope_of_those_who_ask_for_none() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let (user, project) = (make_user(&admin, "mia").await, make_project(&admin, "home").await);
        let identity = by_password("mia", "mia's");
        let default = json!({ "user": { "default_project_id": project } });
        let path = format!("/identity/v3/users/{user}");
        let updated = admin.patch(&path, default).await.expect(200);
        assert_eq!(updated.json["user"]["default_project_id"], json!(project));
        // Without a role there it is passed over.
        assert_eq!(cloud.log_in(&identity, None).await.expect(201).json["token"].get("project"), None);
        grant(&admin, &user, "member", &format!("projects/{project}")).await;
        assert_eq!(cloud.log_in(&identity, None).await.expect(201).json["token"]["project"]["id"], json!(project));
        let unscoped = cloud.log_in(&identity, Some(json!("unscoped"))).await.expect(201);
        assert_eq!(unscoped.json["token"].get("project"), None);
    })
    .await;
}

#[tokio::test]
async fn revoking_one_token_leaves_the_others() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let token = token_of(&cloud.log_in(&by_password("demo", DEMO_PASSWORD), None).await);
        let revoked = cloud.anyone.clone().token(&token);
        revoked.get("/identity/v3/auth/projects").await.expect(200);
        demo.clone().header("x-subject-token", &token).delete("/identity/v3/auth/tokens").await.expect(204);
        revoked.get("/identity/v3/auth/projects").await.expect(401);
        admin.clone().header("x-subject-token", &token).head("/identity/v3/auth/tokens").await.expect(404);
        admin.clone().header("x-subject-token", &token).delete("/identity/v3/auth/tokens").await.expect(404);
        cloud.log_in(&by_token(&token), None).await.expect(404);
        demo.get("/identity/v3/auth/projects").await.expect(200);
    })
    .await;
}

/// What voids a token, does so at once, and for good.
#[tokio::test]
async fn what_voids_tokens() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let patch = |path: String, body: Value| {
            let admin = admin.clone();
            async move { admin.patch(&path, body).await.expect(200) }
        };
        for (at, what) in
            ["password", "user", "project", "role", "user gone", "project gone", "domain"].iter().enumerate()
        {
            let domain = crate::id_in(
                &admin
                    .post("/identity/v3/domains", json!({ "domain": { "name": format!("d{at}") } }))
                    .await
                    .expect(201),
                "domain",
            );
            let user = json!({ "user": { "name": "u", "domain_id": domain, "password": "p" } });
            let user = crate::id_in(&admin.post("/identity/v3/users", user).await.expect(201), "user");
            let project = json!({ "project": { "name": "p", "domain_id": domain } });
            let project = crate::id_in(&admin.post("/identity/v3/projects", project).await.expect(201), "project");
            grant(&admin, &user, "member", &format!("projects/{project}")).await;
            let identity = json!({ "methods": ["password"], "password": { "user": { "id": user, "password": "p" } } });
            let scope = json!({ "project": { "id": project } });
            let client = cloud.with_token(&identity, Some(scope.clone())).await;
            client.get("/identity/v3/auth/catalog").await.expect(200);
            let (user_path, project_path) =
                (format!("/identity/v3/users/{user}"), format!("/identity/v3/projects/{project}"));
            let role = crate::role_id(&admin, "member").await;
            match *what {
                "password" => drop(patch(user_path, json!({ "user": { "password": "p" } })).await),
                "user" => {
                    patch(user_path.clone(), json!({ "user": { "enabled": false } })).await;
                    cloud.log_in(&identity, Some(scope)).await.expect(401);
                    patch(user_path, json!({ "user": { "enabled": true } })).await;
                }
                "project" => {
                    patch(project_path.clone(), json!({ "project": { "enabled": false } })).await;
                    cloud.log_in(&identity, Some(scope)).await.expect(401);
                    patch(project_path, json!({ "project": { "enabled": true } })).await;
                }
                "role" => drop(admin.delete(&format!("{project_path}/users/{user}/roles/{role}")).await.expect(204)),
                "user gone" => drop(admin.delete(&user_path).await.expect(204)),
                "project gone" => drop(admin.delete(&project_path).await.expect(204)),
                _ => {
                    let path = format!("/identity/v3/domains/{domain}");
                    patch(path.clone(), json!({ "domain": { "enabled": false } })).await;
                    cloud.log_in(&identity, Some(scope)).await.expect(401);
                    patch(path, json!({ "domain": { "enabled": true } })).await;
                }
            }
            client.get("/identity/v3/auth/catalog").await.expect(401);
        }
    })
    .await;
}

#[tokio::test]
async fn what_one_may_ask_a_token_for() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        assert_eq!(names(&demo.get("/identity/v3/auth/projects").await.expect(200), "projects"), ["demo"]);
        assert_eq!(demo.get("/identity/v3/auth/domains").await.expect(200).json["domains"], json!([]));
        assert_eq!(demo.get("/identity/v3/auth/system").await.expect(200).json["system"], json!([]));
        assert_eq!(admin.get("/identity/v3/auth/system").await.expect(200).json["system"], json!([{ "all": true }]));
        let catalog = demo.get("/identity/v3/auth/catalog").await.expect(200);
        let types: Vec<&str> =
            catalog.json["catalog"].as_array().unwrap().iter().map(|s| s["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["compute", "identity", "image", "network", "placement"]);
        let unscoped = cloud.with_token(&by_password("demo", DEMO_PASSWORD), None).await;
        unscoped.get("/identity/v3/auth/catalog").await.expect(403);
        assert_eq!(names(&unscoped.get("/identity/v3/auth/projects").await.expect(200), "projects"), ["demo"]);
    })
    .await;
}
