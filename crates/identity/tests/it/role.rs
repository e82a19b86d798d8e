//! Roles and implications.

use http::Method;
use serde_json::{Value, json};

use crate::{by_password, grant, id_in, make_project, make_user, names, on_each_db, role_id};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let made = admin.post("/identity/v3/roles", json!({ "role": { "name": "auditor" } })).await.expect(201);
        let id = id_in(&made, "role");
        assert_eq!(
            made.json["role"],
            json!({ "id": id, "name": "auditor", "domain_id": null, "description": null, "options": {},
                "links": { "self": format!("http://nacre.test/identity/v3/roles/{id}") } })
        );
        let path = format!("/identity/v3/roles/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        admin.post("/identity/v3/roles", json!({ "role": { "name": "auditor" } })).await.expect(409);
        let changed =
            admin.patch(&path, json!({ "role": { "name": "checker", "description": "d" } })).await.expect(200);
        assert_eq!(changed.json["role"]["description"], "d");
        assert_eq!(names(&admin.get("/identity/v3/roles?name=checker").await.expect(200), "roles"), ["checker"]);
        demo.get("/identity/v3/roles").await.expect(403);
        demo.get(&path).await.expect(403);
        demo.post("/identity/v3/roles", json!({ "role": { "name": "x" } })).await.expect(403);
        demo.patch(&path, json!({ "role": { "name": "x" } })).await.expect(403);
        demo.delete(&path).await.expect(403);
        let user = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        grant(&admin, &user, "checker", &format!("projects/{project}")).await;
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn implications() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let inferences = admin.get("/identity/v3/role_inferences").await.expect(200);
        let pairs: Vec<(String, String)> = inferences.json["role_inferences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| {
                let name = |role: &Value| role["name"].as_str().unwrap().to_owned();
                (name(&i["prior_role"]), name(&i["implies"][0]))
            })
            .collect();
        let expected = [("admin", "manager"), ("manager", "member"), ("member", "reader")];
        assert_eq!(pairs, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        admin.post("/identity/v3/roles", json!({ "role": { "name": "auditor" } })).await.expect(201);
        let (auditor, reader) = (role_id(&admin, "auditor").await, role_id(&admin, "reader").await);
        let path = format!("/identity/v3/roles/{auditor}/implies/{reader}");
        admin.get(&path).await.expect(404);
        let made = admin.send(Method::PUT, &path, None).await.expect(201);
        assert_eq!(made.json["role_inference"]["implies"]["name"], "reader");
        admin.get(&path).await.expect(200);
        admin.head(&path).await.expect(204);
        let implied = admin.get(&format!("/identity/v3/roles/{auditor}/implies")).await.expect(200);
        assert_eq!(implied.json["role_inference"]["implies"].as_array().unwrap().len(), 1);
        let to_admin = format!("/identity/v3/roles/{auditor}/implies/{}", role_id(&admin, "admin").await);
        admin.send(Method::PUT, &to_admin, None).await.expect(403);
        demo.send(Method::PUT, &path, None).await.expect(403);
        // Tokens carry what is implied, and lose it with the implication.
        let user = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        grant(&admin, &user, "auditor", &format!("projects/{project}")).await;
        let scope = json!({ "project": { "id": project } });
        let roles = || async {
            let token = cloud.log_in(&by_password("mia", "mia's"), Some(scope.clone())).await.expect(201);
            token.json["token"]["roles"].as_array().unwrap().len()
        };
        assert_eq!(roles().await, 2);
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.expect(404);
        assert_eq!(roles().await, 1);
    })
    .await;
}

#[tokio::test]
async fn of_a_domains_own() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let body = json!({ "role": { "name": "member", "domain_id": east } });
        let made = admin.post("/identity/v3/roles", body.clone()).await.expect(201);
        assert_eq!(made.json["role"]["domain_id"], json!(east));
        let id = id_in(&made, "role");
        admin.post("/identity/v3/roles", body.clone()).await.expect(409);
        let nowhere = json!({ "role": { "name": "x", "domain_id": "nowhere" } });
        admin.post("/identity/v3/roles", nowhere).await.expect(404);
        let path = format!("/identity/v3/roles/{id}");
        let own = format!("/identity/v3/roles?domain_id={east}");
        assert_eq!(names(&admin.get(&own).await.expect(200), "roles"), ["member"]);
        assert_eq!(names(&admin.get("/identity/v3/roles?name=member").await.expect(200), "roles"), ["member"]);
        for refused in [
            demo.get(&own).await,
            demo.get(&path).await,
            demo.post("/identity/v3/roles", body).await,
            demo.patch(&path, json!({ "role": { "name": "x" } })).await,
            demo.delete(&path).await,
        ] {
            refused.expect(403);
        }
        // Only in its own domain, and only to imply others.
        let user = make_user(&admin, "mia").await;
        let foreign = make_project(&admin, "shop").await;
        let at = |project: &str| format!("/identity/v3/projects/{project}/users/{user}/roles/{id}");
        admin.send(Method::PUT, &at(&foreign), None).await.expect(403);
        let body = json!({ "project": { "name": "p", "domain_id": east } });
        let project = id_in(&admin.post("/identity/v3/projects", body).await.expect(201), "project");
        admin.send(Method::PUT, &at(&project), None).await.expect(204);
        let scope = json!({ "project": { "id": project } });
        cloud.log_in(&by_password("mia", "mia's"), Some(scope.clone())).await.expect(401);
        let reader = role_id(&admin, "reader").await;
        admin.send(Method::PUT, &format!("{path}/implies/{reader}"), None).await.expect(201);
        admin.send(Method::PUT, &format!("/identity/v3/roles/{reader}/implies/{id}"), None).await.expect(403);
        let token = cloud.log_in(&by_password("mia", "mia's"), Some(scope)).await.expect(201);
        let held: Vec<&str> =
            token.json["token"]["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(held, ["reader"]);
        let list = |query: &str| format!("/identity/v3/role_assignments?user.id={user}{query}");
        let roles =
            |list: &testkit::Response| list.json["role_assignments"][0]["role"]["id"].as_str().unwrap().to_owned();
        assert_eq!(roles(&admin.get(&list("")).await.expect(200)), id);
        assert_eq!(roles(&admin.get(&list("&effective")).await.expect(200)), reader);
        admin.patch(&path, json!({ "role": { "name": "own", "domain_id": east } })).await.expect(200);
        admin.patch(&path, json!({ "role": { "domain_id": "default" } })).await.expect(400);
        admin.delete(&path).await.expect(204);
    })
    .await;
}
