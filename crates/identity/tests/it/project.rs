//! Projects.

use serde_json::{Value, json};

use crate::{by_password, grant, id_in, make_project, make_user, names, on_each_db};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let body = json!({ "project": { "name": "shop", "tags": ["a", "b"], "owner": "mia" } });
        let made = admin.post("/identity/v3/projects", body.clone()).await.expect(201);
        let id = id_in(&made, "project");
        assert_eq!(
            made.json["project"],
            json!({ "id": id, "name": "shop", "description": "", "enabled": true, "domain_id": "default",
                "parent_id": "default", "is_domain": false, "tags": ["a", "b"], "options": {}, "owner": "mia",
                "links": { "self": format!("http://nacre.test/identity/v3/projects/{id}") } })
        );
        admin.post("/identity/v3/projects", body).await.expect(409);
        let path = format!("/identity/v3/projects/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        let change = json!({ "project": { "name": "store", "description": "d", "tags": [], "domain_id": "default" } });
        let changed = admin.patch(&path, change).await.expect(200);
        assert_eq!(changed.json["project"]["name"], "store");
        assert_eq!(changed.json["project"]["owner"], "mia");
        assert_eq!(admin.get(&path).await.expect(200).json, changed.json);
        admin.patch(&path, json!({ "project": { "name": "demo" } })).await.expect(409);
        admin.patch(&path, json!({ "project": { "domain_id": "other" } })).await.expect(400);
        let invalid = [
            json!({}),
            json!({ "name": " " }),
            json!({ "name": "x", "domain_id": "nowhere" }),
            json!({ "name": "x", "enabled": "true" }),
            json!({ "name": "x", "tags": ["a,b"] }),
            json!({ "name": "x", "is_domain": true }),
        ];
        for project in invalid {
            admin.post("/identity/v3/projects", json!({ "project": project })).await.expect(400);
        }
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn below_projects() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let top = make_project(&admin, "level1").await;
        let mut parent = top.clone();
        for level in 2..=5 {
            let body = json!({ "project": { "name": format!("level{level}"), "parent_id": parent } });
            let made = admin.post("/identity/v3/projects", body).await.expect(201);
            assert_eq!(made.json["project"]["parent_id"], json!(parent));
            parent = id_in(&made, "project");
        }
        let too_deep = json!({ "project": { "name": "level6", "parent_id": parent } });
        admin.post("/identity/v3/projects", too_deep).await.expect(403);
        let list = admin.get(&format!("/identity/v3/projects?parent_id={top}")).await.expect(200);
        assert_eq!(names(&list, "projects"), ["level2"]);
        let top_path = format!("/identity/v3/projects/{top}");
        admin.delete(&top_path).await.expect(403);
        admin.patch(&top_path, json!({ "project": { "enabled": false } })).await.expect(403);
        admin.delete(&format!("/identity/v3/projects/{parent}")).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn lists_and_pages() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        for name in ["c", "a", "b"] {
            make_project(&admin, name).await;
        }
        let all = admin.get("/identity/v3/projects").await.expect(200);
        assert_eq!(names(&all, "projects"), ["a", "admin", "b", "c", "demo"]);
        assert_eq!(all.json["links"]["next"], Value::Null);
        assert_eq!(names(&admin.get("/identity/v3/projects?name=a").await, "projects"), ["a"]);
        assert_eq!(names(&admin.get("/identity/v3/projects?domain_id=nowhere").await, "projects"), [""; 0]);
        assert_eq!(names(&admin.get("/identity/v3/projects?enabled=false").await, "projects"), [""; 0]);
        let mut seen = Vec::new();
        let mut next = Some("http://nacre.test/identity/v3/projects?limit=2".to_owned());
        while let Some(url) = next {
            let page = admin.get(url.strip_prefix("http://nacre.test").unwrap()).await.expect(200);
            seen.extend(names(&page, "projects"));
            next = page.json["links"]["next"].as_str().map(str::to_owned);
        }
        assert_eq!(seen, ["a", "admin", "b", "c", "demo"]);
        admin.get("/identity/v3/projects?marker=nowhere").await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn others_see_their_own() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let other = make_project(&admin, "other").await;
        let own = demo.get("/identity/v3/auth/projects").await.expect(200).json["projects"][0]["id"].clone();
        let own = own.as_str().unwrap();
        demo.get(&format!("/identity/v3/projects/{own}")).await.expect(200);
        demo.get(&format!("/identity/v3/projects/{other}")).await.expect(403);
        demo.get("/identity/v3/projects/nowhere").await.expect(403);
        demo.get("/identity/v3/projects").await.expect(403);
        demo.post("/identity/v3/projects", json!({ "project": { "name": "x" } })).await.expect(403);
        demo.patch(&format!("/identity/v3/projects/{own}"), json!({ "project": { "name": "x" } })).await.expect(403);
        demo.delete(&format!("/identity/v3/projects/{own}")).await.expect(403);
        let user = make_user(&admin, "mia").await;
        grant(&admin, &user, "member", &format!("projects/{other}")).await;
        let path = format!("/identity/v3/users/{user}/projects");
        assert_eq!(names(&admin.get(&path).await.expect(200), "projects"), ["other"]);
        demo.get(&path).await.expect(403);
        let mia = cloud.with_token(&by_password("mia", "mia's"), None).await;
        assert_eq!(names(&mia.get(&path).await.expect(200), "projects"), ["other"]);
    })
    .await;
}

#[tokio::test]
async fn a_domains_manager_manages_its_projects_only() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let user = make_user(&admin, "max").await;
        grant(&admin, &user, "manager", &format!("domains/{east}")).await;
        let scope = json!({ "domain": { "id": east } });
        let max = cloud.with_token(&by_password("max", "max's"), Some(scope)).await;
        // Without a domain in the request it is the token's.
        let made = max.post("/identity/v3/projects", json!({ "project": { "name": "p" } })).await.expect(201);
        assert_eq!(made.json["project"]["domain_id"], json!(east));
        assert_eq!(names(&max.get("/identity/v3/projects").await.expect(200), "projects"), ["p"]);
        let elsewhere = json!({ "project": { "name": "x", "domain_id": "default" } });
        max.post("/identity/v3/projects", elsewhere).await.expect(403);
        // Nor through a parent there.
        let parent = make_project(&admin, "top").await;
        max.post("/identity/v3/projects", json!({ "project": { "name": "x", "parent_id": parent } })).await.expect(403);
        max.delete(&format!("/identity/v3/projects/{parent}")).await.expect(403);
        let path = format!("/identity/v3/projects/{}", id_in(&made, "project"));
        max.patch(&path, json!({ "project": { "description": "d" } })).await.expect(200);
        max.delete(&path).await.expect(204);
    })
    .await;
}
