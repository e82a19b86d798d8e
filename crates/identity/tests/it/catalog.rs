//! Version documents, regions, services and endpoints.

use http::Method;
use serde_json::{Value, json};

use crate::{DEMO_PASSWORD, by_password, id_in, on_each_db, project_scope};

#[tokio::test]
async fn versions() {
    on_each_db(|cloud| async move {
        for path in ["/identity", "/identity/"] {
            let list = cloud.anyone.get(path).await.expect(300);
            assert_eq!(list.json["versions"]["values"][0]["id"], "v3.14");
            assert_eq!(list.header("location"), Some("http://nacre.test/identity/v3/"));
        }
        for path in ["/identity/v3", "/identity/v3/"] {
            let one = cloud.anyone.get(path).await.expect(200);
            assert_eq!(one.json["version"]["links"][0]["href"], "http://nacre.test/identity/v3/");
        }
        cloud.anyone.get("/identity/v2.0").await.expect(404);
        cloud.anyone.get("/identity/v3/users").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn regions() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let made = admin.post("/identity/v3/regions", json!({ "region": { "id": "north", "description": "d" } })).await;
        assert_eq!(
            made.expect(201).json["region"],
            json!({ "id": "north", "description": "d", "parent_region_id": null,
                "links": { "self": "http://nacre.test/identity/v3/regions/north" } })
        );
        admin.post("/identity/v3/regions", json!({ "region": { "id": "north" } })).await.expect(409);
        let below = json!({ "region": { "parent_region_id": "north" } });
        admin.send(Method::PUT, "/identity/v3/regions/city", Some(below.clone())).await.expect(201);
        let circle = json!({ "region": { "parent_region_id": "city" } });
        admin.patch("/identity/v3/regions/north", circle).await.expect(400);
        let nowhere = json!({ "region": { "parent_region_id": "nowhere" } });
        admin.post("/identity/v3/regions", nowhere).await.expect(404);
        let random = id_in(&admin.post("/identity/v3/regions", below).await.expect(201), "region");
        assert_eq!(random.len(), 32);
        let list = demo.get("/identity/v3/regions?parent_region_id=north").await.expect(200);
        assert_eq!(list.json["regions"].as_array().unwrap().len(), 2);
        demo.get("/identity/v3/regions/north").await.expect(200);
        demo.patch("/identity/v3/regions/north", json!({ "region": {} })).await.expect(403);
        demo.post("/identity/v3/regions", json!({ "region": {} })).await.expect(403);
        demo.delete("/identity/v3/regions/north").await.expect(403);
        admin.delete("/identity/v3/regions/north").await.expect(403);
        admin.delete("/identity/v3/regions/RegionOne").await.expect(403);
        admin.delete("/identity/v3/regions/city").await.expect(204);
        admin.delete("/identity/v3/regions/city").await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn services_and_endpoints() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let service = json!({ "service": { "type": "object-store", "name": "swift", "description": "objects" } });
        let made = admin.post("/identity/v3/services", service).await.expect(201);
        let service = id_in(&made, "service");
        assert_eq!(
            made.json["service"],
            json!({ "id": service, "type": "object-store", "name": "swift", "description": "objects", "enabled": true,
                "links": { "self": format!("http://nacre.test/identity/v3/services/{service}") } })
        );
        let url = "http://nacre.test/object-store/v1/AUTH_$(project_id)s";
        let endpoint = json!({ "endpoint": { "service_id": service, "interface": "public", "url": url, "region_id": "RegionOne" } });
        let made = admin.post("/identity/v3/endpoints", endpoint).await.expect(201);
        let endpoint = id_in(&made, "endpoint");
        assert_eq!(made.json["endpoint"]["region"], "RegionOne");
        let invalid = [
            json!({ "interface": "public", "url": "u" }),
            json!({ "service_id": "nothing", "interface": "public", "url": "u" }),
            json!({ "service_id": service, "interface": "private", "url": "u" }),
            json!({ "service_id": service, "interface": "public", "url": "u", "region_id": "nowhere" }),
        ];
        for body in invalid {
            admin.post("/identity/v3/endpoints", json!({ "endpoint": body })).await.expect(400);
        }
        // As it was called before, it comes to be.
        let older = json!({ "service_id": service, "interface": "admin", "url": "u", "region": "new" });
        let older = admin.post("/identity/v3/endpoints", json!({ "endpoint": older })).await.expect(201);
        admin.get("/identity/v3/regions/new").await.expect(200);
        admin.delete(&format!("/identity/v3/endpoints/{}", id_in(&older, "endpoint"))).await.expect(204);
        // Filled in where there is a project; new tokens and old ones show it at once.
        let shown = |catalog: &Value| {
            let services = catalog.as_array().unwrap().clone();
            services.iter().find(|s| s["type"] == "object-store").map(|s| s["endpoints"].clone())
        };
        let own = demo.get("/identity/v3/auth/projects").await.json["projects"][0]["id"].as_str().unwrap().to_owned();
        let catalog = demo.get("/identity/v3/auth/catalog").await.expect(200);
        let expected = format!("http://nacre.test/object-store/v1/AUTH_{own}");
        assert_eq!(shown(&catalog.json["catalog"]).unwrap()[0]["url"], json!(expected));
        let system = json!({ "system": { "all": true } });
        let system = cloud.log_in(&by_password("admin", crate::ADMIN_PASSWORD), Some(system)).await.expect(201);
        assert_eq!(shown(&system.json["token"]["catalog"]), Some(json!([])));
        let path = format!("/identity/v3/endpoints/{endpoint}");
        admin.patch(&path, json!({ "endpoint": { "enabled": false } })).await.expect(200);
        let token = cloud.log_in(&by_password("demo", DEMO_PASSWORD), Some(project_scope("demo"))).await.expect(201);
        assert_eq!(shown(&token.json["token"]["catalog"]), Some(json!([])));
        for kind in ["services", "endpoints"] {
            demo.get(&format!("/identity/v3/{kind}")).await.expect(403);
            demo.post(&format!("/identity/v3/{kind}"), json!({ "x": {} })).await.expect(403);
        }
        demo.get(&path).await.expect(403);
        demo.delete(&path).await.expect(403);
        let list = admin.get(&format!("/identity/v3/endpoints?service_id={service}")).await.expect(200);
        assert_eq!(list.json["endpoints"].as_array().unwrap().len(), 1);
        let service_path = format!("/identity/v3/services/{service}");
        let off = admin.patch(&service_path, json!({ "service": { "enabled": false } })).await.expect(200);
        assert_eq!(off.json["service"]["enabled"], false);
        assert_eq!(shown(&demo.get("/identity/v3/auth/catalog").await.json["catalog"]), None);
        admin.delete(&service_path).await.expect(204);
        admin.get(&service_path).await.expect(404);
        admin.get(&path).await.expect(404);
    })
    .await;
}
