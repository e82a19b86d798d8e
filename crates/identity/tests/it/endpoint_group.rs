//! Endpoint groups and endpoints of projects, and what catalogs show then.

use http::Method;
use serde_json::{Value, json};
use testkit::Client;

use crate::{Cloud, id_in, make_project, names, on_each_db};

async fn catalog(cloud: &Cloud) -> Vec<String> {
    let demo = cloud.demo().await;
    let catalog = demo.get("/identity/v3/auth/catalog").await.expect(200);
    let kinds = catalog.json["catalog"].as_array().unwrap().iter();
    let mut kinds: Vec<String> = kinds.map(|s| s["type"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

async fn first(admin: &Client, path: &str, key: &str) -> String {
    admin.get(&format!("/identity/v3/{path}")).await.expect(200).json[key][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_project_sees_what_it_was_given() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let all = catalog(&cloud).await;
        assert!(all.len() > 2, "{all:?}");
        let project = first(&admin, "projects?name=demo", "projects").await;
        let compute = first(&admin, "services?type=compute", "services").await;
        let image = first(&admin, "services?type=image", "services").await;
        let groups = "/identity/v3/OS-EP-FILTER/endpoint_groups";
        let body =
            json!({ "endpoint_group": { "name": "vm", "filters": { "service_id": compute, "interface": "public" } } });
        let made = admin.post(groups, body.clone()).await.expect(201);
        let group = format!("{groups}/{}", id_in(&made, "endpoint_group"));
        for filters in [json!({}), json!({ "colour": "red" }), json!({ "service_id": 1 })] {
            let invalid = json!({ "endpoint_group": { "name": "x", "filters": filters } });
            admin.post(groups, invalid).await.expect(400);
        }
        assert_eq!(admin.get(&group).await.expect(200).json, made.json);
        assert_eq!(admin.get(groups).await.expect(200).json["endpoint_groups"][0], made.json["endpoint_group"]);
        let in_group = admin.get(&format!("{group}/endpoints")).await.expect(200);
        assert_eq!(in_group.json["endpoints"].as_array().unwrap().len(), 1);
        let given = format!("{group}/projects/{project}");
        let endpoint = first(&admin, &format!("endpoints?service_id={image}"), "endpoints").await;
        let one = format!("/identity/v3/OS-EP-FILTER/projects/{project}/endpoints/{endpoint}");
        for path in [&given, &one] {
            admin.get(path).await.expect(404);
            demo.send(Method::PUT, path, None).await.expect(403);
            for _twice in 0..2 {
                admin.send(Method::PUT, path, None).await.expect(204);
            }
            assert!(admin.head(path).await.status.is_success());
            demo.get(path).await.expect(403);
            demo.delete(path).await.expect(403);
        }
        assert_eq!(catalog(&cloud).await, ["compute", "image"]);
        let of_project = format!("/identity/v3/OS-EP-FILTER/projects/{project}");
        let listed = admin.get(&format!("{of_project}/endpoints")).await.expect(200);
        assert_eq!(listed.json["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(names(&admin.get(&format!("{of_project}/endpoint_groups")).await, "endpoint_groups"), ["vm"]);
        assert_eq!(names(&admin.get(&format!("{group}/projects")).await.expect(200), "projects"), ["demo"]);
        let of_endpoint = format!("/identity/v3/OS-EP-FILTER/endpoints/{endpoint}/projects");
        assert_eq!(names(&admin.get(&of_endpoint).await.expect(200), "projects"), ["demo"]);
        let change = json!({ "endpoint_group": { "filters": { "service_id": image } } });
        admin.patch(&group, change).await.expect(200);
        assert_eq!(catalog(&cloud).await, ["image"]);
        for path in [groups, group.as_str(), &of_endpoint, &format!("{of_project}/endpoints")] {
            demo.get(path).await.expect(403);
        }
        demo.post(groups, body).await.expect(403);
        demo.patch(&group, json!({ "endpoint_group": { "name": "x" } })).await.expect(403);
        demo.delete(&group).await.expect(403);
        admin.delete(&one).await.expect(204);
        admin.delete(&one).await.expect(404);
        admin.delete(&group).await.expect(204);
        admin.get(&group).await.expect(404);
        assert_eq!(catalog(&cloud).await, all);
        // It goes with its project.
        let short = make_project(&admin, "short").await;
        admin.send(Method::PUT, &one.replace(&project, &short), None).await.expect(204);
        admin.delete(&format!("/identity/v3/projects/{short}")).await.expect(204);
        let left = admin.get(&of_endpoint).await.expect(200);
        assert_eq!(left.json["projects"], Value::Array(Vec::new()));
    })
    .await;
}
