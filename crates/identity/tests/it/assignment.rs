//! Giving, taking, checking and listing roles.

use http::Method;
use serde_json::{Value, json};
use testkit::Client;

use crate::{grant, id_in, make_project, make_user, names, on_each_db, role_id};

#[tokio::test]
async fn on_projects_domains_and_the_system() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let user = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        let member = role_id(&admin, "member").await;
        for target in [format!("projects/{project}"), "domains/default".to_owned(), "system".to_owned()] {
            let list = format!("/identity/v3/{target}/users/{user}/roles");
            let one = format!("{list}/{member}");
            admin.head(&one).await.expect(404);
            admin.delete(&one).await.expect(404);
            for _twice in 0..2 {
                admin.send(Method::PUT, &one, None).await.expect(204);
            }
            admin.head(&one).await.expect(204);
            admin.get(&one).await.expect(204);
            assert_eq!(names(&admin.get(&list).await.expect(200), "roles"), ["member"]);
            demo.get(&list).await.expect(403);
            demo.get(&one).await.expect(403);
            demo.send(Method::PUT, &one, None).await.expect(403);
            demo.delete(&one).await.expect(403);
            admin.delete(&one).await.expect(204);
            assert_eq!(names(&admin.get(&list).await.expect(200), "roles"), [""; 0]);
            let nobody = format!("/identity/v3/{target}/users/nobody/roles/{member}");
            admin.send(Method::PUT, &nobody, None).await.expect(404);
            let nothing = format!("{list}/nothing");
            admin.send(Method::PUT, &nothing, None).await.expect(404);
        }
        let nowhere = format!("/identity/v3/projects/nowhere/users/{user}/roles/{member}");
        admin.send(Method::PUT, &nowhere, None).await.expect(404);
        demo.send(Method::PUT, &nowhere, None).await.expect(403);
    })
    .await;
}

async fn listed(client: &Client, query: &str) -> Vec<(String, String, String)> {
    let list = client.get(&format!("/identity/v3/role_assignments?include_names=true&{query}")).await.expect(200);
    let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_owned();
    let items = list.json["role_assignments"].as_array().unwrap().clone();
    let mut found: Vec<(String, String, String)> = items
        .iter()
        .map(|a| {
            let scope = a["scope"].as_object().unwrap();
            let (kind, target) = scope.iter().find(|(key, _)| !key.starts_with("OS-INHERIT")).unwrap();
            let target = if kind == "system" { "system".to_owned() } else { name(target) };
            (name(&a["user"]), name(&a["role"]), target)
        })
        .collect();
    found.sort();
    found
}

fn triples(of: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    of.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

#[tokio::test]
async fn lists() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let user = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        grant(&admin, &user, "member", &format!("projects/{project}")).await;
        grant(&admin, &user, "reader", "domains/default").await;
        grant(&admin, &user, "reader", "system").await;
        let mias = [("mia", "member", "shop"), ("mia", "reader", "Default"), ("mia", "reader", "system")];
        assert_eq!(listed(&admin, &format!("user.id={user}")).await, triples(&mias));
        let on_project = format!("scope.project.id={project}");
        assert_eq!(listed(&admin, &on_project).await, triples(&mias[..1]));
        let effective = [("mia", "member", "shop"), ("mia", "reader", "shop")];
        assert_eq!(listed(&admin, &format!("{on_project}&effective=0")).await, triples(&mias[..1]));
        assert_eq!(listed(&admin, &format!("{on_project}&effective")).await, triples(&effective));
        assert_eq!(listed(&admin, &format!("{on_project}&effective=true")).await, triples(&effective));
        let reader = role_id(&admin, "reader").await;
        let filtered = format!("{on_project}&effective=1&role.id={reader}");
        assert_eq!(listed(&admin, &filtered).await, triples(&effective[1..]));
        assert_eq!(listed(&admin, &format!("role.id={reader}")).await, triples(&mias[1..]));
        assert_eq!(listed(&admin, "scope.domain.id=default").await, triples(&mias[1..2]));
        let system = [("admin", "admin", "system"), ("mia", "reader", "system")];
        assert_eq!(listed(&admin, "scope.system=all").await, triples(&system));
        assert_eq!(listed(&admin, "group.id=g").await, triples(&[]));
        admin.get("/identity/v3/role_assignments?scope.domain.id=a&scope.project.id=b").await.expect(400);
        demo.get("/identity/v3/role_assignments").await.expect(403);
        let plain = admin.get(&format!("/identity/v3/role_assignments?{on_project}")).await.expect(200);
        let member = role_id(&admin, "member").await;
        let link = format!("http://nacre.test/identity/v3/projects/{project}/users/{user}/roles/{member}");
        assert_eq!(
            plain.json["role_assignments"],
            json!([{ "user": { "id": user }, "role": { "id": member }, "scope": { "project": { "id": project } },
                "links": { "assignment": link } }])
        );
    })
    .await;
}

#[tokio::test]
async fn a_domains_manager_gives_ordinary_roles_in_it() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let make = |kind: &'static str, name: &'static str| {
            let (admin, body) = (admin.clone(), json!({ kind: { "name": name, "domain_id": east, "password": "p" } }));
            async move { id_in(&admin.post(&format!("/identity/v3/{kind}s"), body).await.expect(201), kind) }
        };
        let (max, eve, project) = (make("user", "max").await, make("user", "eve").await, make("project", "p").await);
        grant(&admin, &max, "manager", &format!("domains/{east}")).await;
        let identity = json!({ "methods": ["password"], "password": { "user": { "id": max, "password": "p" } } });
        let manager = cloud.with_token(&identity, Some(json!({ "domain": { "id": east } }))).await;
        let (member, strong) = (role_id(&admin, "member").await, role_id(&admin, "admin").await);
        let at = |project: &str, user: &str, role: &str| {
            format!("/identity/v3/projects/{project}/users/{user}/roles/{role}")
        };
        manager.send(Method::PUT, &at(&project, &eve, &member), None).await.expect(204);
        manager.send(Method::PUT, &at(&project, &eve, &strong), None).await.expect(403);
        // Neither foreign users nor foreign projects.
        let foreign_user = make_user(&admin, "mia").await;
        let foreign_project = make_project(&admin, "shop").await;
        manager.send(Method::PUT, &at(&project, &foreign_user, &member), None).await.expect(403);
        manager.send(Method::PUT, &at(&foreign_project, &eve, &member), None).await.expect(403);
        let theirs = [("eve", "member", "p"), ("max", "manager", "east")];
        assert_eq!(listed(&manager, "").await, triples(&theirs));
        manager.delete(&at(&project, &eve, &member)).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn inherited_ones_hold_in_the_projects_below() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let user = make_user(&admin, "mia").await;
        let top = make_project(&admin, "top").await;
        let below = json!({ "project": { "name": "leaf", "parent_id": top } });
        let leaf = id_in(&admin.post("/identity/v3/projects", below).await.expect(201), "project");
        let body = json!({ "group": { "name": "ops" } });
        let group = id_in(&admin.post("/identity/v3/groups", body).await.expect(201), "group");
        admin.send(Method::PUT, &format!("/identity/v3/groups/{group}/users/{user}"), None).await.expect(204);
        let (member, reader) = (role_id(&admin, "member").await, role_id(&admin, "reader").await);
        let v3 = "/identity/v3/OS-INHERIT";
        let on_top = format!("{v3}/projects/{top}/users/{user}/roles/{member}/inherited_to_projects");
        let on_domain = format!("{v3}/domains/default/groups/{group}/roles/{reader}/inherited_to_projects");
        for path in [&on_top, &on_domain] {
            admin.head(path).await.expect(404);
            demo.send(Method::PUT, path, None).await.expect(403);
            admin.send(Method::PUT, path, None).await.expect(204);
            admin.get(path).await.expect(204);
            demo.get(path).await.expect(403);
            demo.delete(path).await.expect(403);
        }
        let list = format!("{v3}/domains/default/groups/{group}/roles/inherited_to_projects");
        assert_eq!(names(&admin.get(&list).await.expect(200), "roles"), ["reader"]);
        // It isn't a role on the domain itself.
        assert_eq!(
            names(&admin.get(&format!("/identity/v3/domains/default/groups/{group}/roles")).await.expect(200), "roles"),
            [""; 0]
        );
        let roles = |scope: Value| {
            let cloud = &cloud;
            async move {
                let token = cloud.log_in(&crate::by_password("mia", "mia's"), Some(scope)).await;
                let mut found: Vec<String> = token.json["token"]["roles"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|r| r["name"].as_str().unwrap().to_owned())
                    .collect();
                found.sort();
                found
            }
        };
        assert_eq!(roles(json!({ "project": { "id": leaf } })).await, ["member", "reader"]);
        assert_eq!(roles(json!({ "project": { "id": top } })).await, ["reader"]);
        assert_eq!(roles(json!({ "domain": { "id": "default" } })).await, [""; 0]);
        let mia = cloud.with_token(&crate::by_password("mia", "mia's"), None).await;
        assert_eq!(
            names(&mia.get("/identity/v3/auth/projects").await.expect(200), "projects"),
            ["admin", "demo", "leaf", "top"]
        );
        assert_eq!(names(&mia.get("/identity/v3/auth/domains").await.expect(200), "domains"), [""; 0]);
        effective_lists(&admin, &user, &group, &top, &leaf).await;
        admin.delete(&on_top).await.expect(204);
        admin.delete(&on_domain).await.expect(204);
        let none = listed(&admin, &format!("scope.project.id={leaf}&user.id={user}&effective")).await;
        assert_eq!(none, triples(&[]));
    })
    .await;
}

async fn effective_lists(admin: &Client, user: &str, group: &str, top: &str, leaf: &str) {
    let of_user = format!("user.id={user}&effective");
    let everywhere = [
        ("mia", "member", "leaf"),
        ("mia", "reader", "admin"),
        ("mia", "reader", "demo"),
        ("mia", "reader", "leaf"),
        ("mia", "reader", "top"),
    ];
    assert_eq!(listed(admin, &of_user).await, triples(&everywhere));
    assert_eq!(
        listed(admin, &format!("{of_user}&scope.project.id={leaf}")).await,
        triples(&[("mia", "member", "leaf"), ("mia", "reader", "leaf")])
    );
    assert_eq!(listed(admin, &format!("{of_user}&scope.project.id={top}")).await, triples(&[("mia", "reader", "top")]));
    let tree = [("mia", "member", "leaf"), ("mia", "reader", "leaf"), ("mia", "reader", "top")];
    assert_eq!(listed(admin, &format!("scope.project.id={top}&include_subtree&effective")).await, triples(&tree));
    assert_eq!(
        listed(admin, &format!("scope.project.id={top}&scope.OS-INHERIT:inherited_to=projects")).await,
        triples(&[("mia", "member", "top")])
    );
    // As given: a group, and where.
    let given = admin.get(&format!("/identity/v3/role_assignments?group.id={group}")).await.expect(200);
    let given = &given.json["role_assignments"][0];
    assert_eq!(given["scope"], json!({ "domain": { "id": "default" }, "OS-INHERIT:inherited_to": "projects" }));
    assert!(given["links"]["assignment"].as_str().unwrap().contains("/OS-INHERIT/domains/default/groups/"), "{given}");
    let worked_out =
        admin.get(&format!("/identity/v3/role_assignments?{of_user}&scope.project.id={top}")).await.expect(200);
    let links = &worked_out.json["role_assignments"][0]["links"];
    assert_eq!(links["membership"], json!(format!("http://nacre.test/identity/v3/groups/{group}/users/{user}")));
    for contradiction in [
        "include_subtree".to_owned(),
        format!("effective&group.id={group}"),
        format!("user.id={user}&group.id={group}"),
        "scope.system=all&scope.domain.id=default".to_owned(),
        "effective&scope.domain.id=default&scope.OS-INHERIT:inherited_to=projects".to_owned(),
    ] {
        admin.get(&format!("/identity/v3/role_assignments?{contradiction}")).await.expect(400);
    }
    admin.get("/identity/v3/role_assignments?include_subtree&scope.project.id=nowhere").await.expect(404);
}

#[tokio::test]
async fn a_tree_is_listed_for_its_domains_readers() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let body = json!({ "project": { "name": "p", "domain_id": east } });
        let project = id_in(&admin.post("/identity/v3/projects", body).await.expect(201), "project");
        let user = make_user(&admin, "max").await;
        grant(&admin, &user, "reader", &format!("domains/{east}")).await;
        grant(&admin, &user, "reader", &format!("projects/{project}")).await;
        let scope = json!({ "domain": { "id": east } });
        let reader = cloud.with_token(&crate::by_password("max", "max's"), Some(scope)).await;
        let query = format!("scope.project.id={project}&include_subtree=true");
        assert_eq!(listed(&reader, &query).await, triples(&[("max", "reader", "p")]));
        let foreign = make_project(&admin, "shop").await;
        let elsewhere = format!("/identity/v3/role_assignments?scope.project.id={foreign}&include_subtree=true");
        reader.get(&elsewhere).await.expect(403);
        demo.get(&elsewhere).await.expect(403);
    })
    .await;
}
