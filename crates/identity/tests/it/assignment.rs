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
            let (kind, target) = scope.iter().next().unwrap();
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
