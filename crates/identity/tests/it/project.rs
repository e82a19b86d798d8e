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
            json!({ "name": "x", "is_domain": true, "domain_id": "default" }),
            json!({ "name": "x", "options": { "unknown": true } }),
            json!({ "name": "x", "options": { "immutable": "yes" } }),
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

#[tokio::test]
async fn relatives_and_cascades() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let top = make_project(&admin, "top").await;
        let below = |name: &'static str, parent: String| {
            let (admin, body) = (admin.clone(), json!({ "project": { "name": name, "parent_id": parent } }));
            async move { id_in(&admin.post("/identity/v3/projects", body).await.expect(201), "project") }
        };
        let middle = below("middle", top.clone()).await;
        let (leaf, other) = (below("leaf", middle.clone()).await, below("other", middle.clone()).await);
        let path = |id: &str| format!("/identity/v3/projects/{id}");
        let ids = admin.get(&format!("{}?parents_as_ids&subtree_as_ids", path(&middle))).await.expect(200);
        assert_eq!(ids.json["project"]["parents"], json!({ &top: { "default": null } }));
        assert_eq!(ids.json["project"]["subtree"], json!({ &leaf: null, &other: null }));
        let leaf_ids = admin.get(&format!("{}?subtree_as_ids", path(&leaf))).await.expect(200);
        assert_eq!(leaf_ids.json["project"]["subtree"], Value::Null);
        admin.get(&format!("{}?parents_as_ids&parents_as_list", path(&leaf))).await.expect(400);
        // Lists show only where one has a role.
        let listed = |query: &'static str| {
            let (admin, path) = (admin.clone(), format!("{}?{query}", path(&middle)));
            async move { admin.get(&path).await.expect(200).json["project"].clone() }
        };
        assert_eq!(listed("subtree_as_list").await["subtree"], json!([]));
        let me = admin.get("/identity/v3/users?name=admin").await.json["users"][0]["id"].as_str().unwrap().to_owned();
        grant(&admin, &me, "reader", &format!("projects/{leaf}")).await;
        grant(&admin, &me, "reader", &format!("projects/{top}")).await;
        assert_eq!(listed("subtree_as_list").await["subtree"][0]["project"]["id"], json!(leaf));
        assert_eq!(listed("parents_as_list").await["parents"][0]["project"]["id"], json!(top));
        // Down and up again.
        let cascade = |id: &str| format!("{}/cascade", path(id));
        demo.patch(&cascade(&top), json!({ "project": { "enabled": false } })).await.expect(403);
        admin.patch(&cascade(&top), json!({ "project": { "enabled": false, "name": "x" } })).await.expect(400);
        admin.delete(&cascade(&top)).await.expect(403);
        admin.patch(&cascade(&top), json!({ "project": { "enabled": false } })).await.expect(200);
        assert_eq!(admin.get(&path(&leaf)).await.expect(200).json["project"]["enabled"], json!(false));
        admin.patch(&path(&leaf), json!({ "project": { "enabled": true } })).await.expect(403);
        let in_disabled = json!({ "project": { "name": "new", "parent_id": leaf } });
        admin.post("/identity/v3/projects", in_disabled).await.expect(400);
        admin.patch(&cascade(&top), json!({ "project": { "enabled": true } })).await.expect(200);
        assert_eq!(admin.get(&path(&leaf)).await.expect(200).json["project"]["enabled"], json!(true));
        admin.patch(&path(&leaf), json!({ "project": { "parent_id": top } })).await.expect(403);
        admin.patch(&cascade(&top), json!({ "project": { "enabled": false } })).await.expect(200);
        demo.delete(&cascade(&top)).await.expect(403);
        admin.delete(&cascade(&top)).await.expect(204);
        admin.get(&path(&other)).await.expect(404);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn tags() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let (a, b) = (make_project(&admin, "a").await, make_project(&admin, "b").await);
        let all = format!("/identity/v3/projects/{a}/tags");
        let put = |path: String, body: Option<Value>| {
            let admin = admin.clone();
            async move { admin.send(http::Method::PUT, &path, body).await }
        };
        let made = put(format!("{all}/red"), None).await.expect(201);
        assert_eq!(made.header("location").unwrap(), format!("http://nacre.test{all}/red"));
        put(format!("{all}/red"), None).await.expect(201);
        put(format!("{all}/re%2Fd"), None).await.expect(400);
        admin.head(&format!("{all}/red")).await.expect(204);
        admin.get(&format!("{all}/blue")).await.expect(404);
        put(all.clone(), Some(json!({ "tags": ["red", "blue"] }))).await.expect(200);
        put(all.clone(), Some(json!({ "tags": ["red", "red"] }))).await.expect(400);
        put(format!("/identity/v3/projects/{b}/tags"), Some(json!({ "tags": ["red", "dark\"red"] }))).await.expect(200);
        assert_eq!(admin.get(&all).await.expect(200).json["tags"], json!(["red", "blue"]));
        let cases: [(&str, &[&str]); 7] = [
            ("tags=red", &["a", "b"]),
            ("tags=red,blue", &["a"]),
            ("tags-any=blue,green", &["a"]),
            ("tags=re", &[]),
            ("not-tags=red,blue", &["admin", "b", "demo"]),
            ("not-tags-any=blue,green", &["admin", "b", "demo"]),
            ("not-tags-any=red", &["admin", "demo"]),
        ];
        for (query, expected) in cases {
            let found = admin.get(&format!("/identity/v3/projects?{query}")).await.expect(200);
            assert_eq!(names(&found, "projects"), expected, "{query}");
        }
        demo.get(&all).await.expect(403);
        demo.get(&format!("{all}/red")).await.expect(403);
        demo.put(&all, json!({ "tags": [] })).await.expect(403);
        demo.send(http::Method::PUT, &format!("{all}/x"), None).await.expect(403);
        demo.delete(&all).await.expect(403);
        demo.delete(&format!("{all}/red")).await.expect(403);
        admin.delete(&format!("{all}/red")).await.expect(204);
        admin.delete(&format!("{all}/red")).await.expect(404);
        admin.delete(&all).await.expect(204);
        assert_eq!(admin.get(&all).await.expect(200).json["tags"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn domains_are_projects_too() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let body = json!({ "project": { "name": "east", "is_domain": true, "domain_id": null } });
        let made = admin.post("/identity/v3/projects", body.clone()).await.expect(201);
        let id = id_in(&made, "project");
        assert_eq!(made.json["project"]["domain_id"], Value::Null);
        admin.post("/identity/v3/projects", body).await.expect(409);
        let path = format!("/identity/v3/projects/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        admin.get(&format!("/identity/v3/domains/{id}")).await.expect(200);
        let acting = admin.get("/identity/v3/projects?is_domain=true").await.expect(200);
        assert_eq!(names(&acting, "projects"), ["Default", "east"]);
        assert_eq!(names(&admin.get("/identity/v3/projects").await, "projects"), ["admin", "demo"]);
        let child = json!({ "project": { "name": "p", "parent_id": id, "domain_id": id } });
        assert_eq!(
            admin.post("/identity/v3/projects", child).await.expect(201).json["project"]["domain_id"],
            json!(id)
        );
        let tag = format!("{path}/tags/red");
        admin.send(http::Method::PUT, &tag, None).await.expect(201);
        assert_eq!(names(&admin.get("/identity/v3/projects?is_domain=1&tags=red").await, "projects"), ["east"]);
        admin.patch(&path, json!({ "project": { "is_domain": false } })).await.expect(400);
        admin.delete(&path).await.expect(403);
        let off = admin.patch(&path, json!({ "project": { "enabled": false } })).await.expect(200);
        assert_eq!(off.json["project"]["is_domain"], json!(true));
        admin.delete(&path).await.expect(204);
        admin.get(&format!("/identity/v3/domains/{id}")).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn what_is_immutable_stays() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        for kind in ["project", "domain", "role"] {
            let body = json!({ kind: { "name": "fixed", "enabled": false, "options": { "immutable": true } } });
            let made = admin.post(&format!("/identity/v3/{kind}s"), body).await.expect(201);
            assert_eq!(made.json[kind]["options"], json!({ "immutable": true }));
            let path = format!("/identity/v3/{kind}s/{}", id_in(&made, kind));
            admin.patch(&path, json!({ kind: { "name": "x" } })).await.expect(403);
            let both = json!({ kind: { "name": "x", "options": { "immutable": false } } });
            admin.patch(&path, both).await.expect(403);
            admin.delete(&path).await.expect(403);
            if kind == "project" {
                admin.send(http::Method::PUT, &format!("{path}/tags/x"), None).await.expect(403);
                admin.delete(&format!("{path}/cascade")).await.expect(403);
            }
            let freed = json!({ kind: { "options": { "immutable": null } } });
            admin.patch(&path, freed).await.expect(200);
            admin.patch(&path, json!({ kind: { "name": "x" } })).await.expect(200);
            admin.delete(&path).await.expect(204);
        }
        // The standard roles are.
        let member = crate::role_id(&admin, "member").await;
        admin.delete(&format!("/identity/v3/roles/{member}")).await.expect(403);
    })
    .await;
}

#[tokio::test]
async fn filters_that_are_not_exact() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        for name in ["Shop-east", "shop-west", "bar%_"] {
            make_project(&admin, name).await;
        }
        let cases: [(&str, &[&str]); 9] = [
            ("name__contains=op-e", &["Shop-east"]),
            ("name__contains=SHOP", &[]),
            ("name__icontains=SHOP", &["Shop-east", "shop-west"]),
            ("name__startswith=shop", &["shop-west"]),
            ("name__istartswith=sHop", &["Shop-east", "shop-west"]),
            ("name__endswith=west", &["shop-west"]),
            ("name__iendswith=EAST", &["Shop-east"]),
            ("name__contains=%25_", &["bar%_"]),
            ("name__endswith=a-very-long-name-that-nothing-has", &[]),
        ];
        for (query, expected) in cases {
            let found = admin.get(&format!("/identity/v3/projects?{query}")).await.expect(200);
            let mut found = names(&found, "projects");
            found.sort();
            assert_eq!(found, expected, "{query}");
        }
        let page = admin.get("/identity/v3/projects?limit=2").await.expect(200);
        assert_eq!(page.json["truncated"], json!(true));
        let all = admin.get("/identity/v3/projects").await.expect(200);
        assert_eq!(all.json["truncated"], Value::Null);
    })
    .await;
}
