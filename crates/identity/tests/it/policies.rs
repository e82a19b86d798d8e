//! Policy documents and what they are for.

use http::Method;
use serde_json::json;

use crate::{id_in, on_each_db};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let body = json!({ "policy": { "type": "application/json", "blob": "{}", "colour": "red" } });
        let made = admin.post("/identity/v3/policies", body.clone()).await.expect(201);
        let path = format!("/identity/v3/policies/{}", id_in(&made, "policy"));
        assert_eq!(admin.get(&path).await.expect(200).json, made.json);
        assert_eq!(made.json["policy"]["colour"], "red");
        admin.post("/identity/v3/policies", json!({ "policy": { "type": "x" } })).await.expect(400);
        let changed = admin.patch(&path, json!({ "policy": { "type": "text/plain" } })).await.expect(200);
        assert_eq!(
            (&changed.json["policy"]["type"], &changed.json["policy"]["blob"]),
            (&json!("text/plain"), &json!("{}"))
        );
        let list = |kind: &str| format!("/identity/v3/policies?type={kind}");
        assert_eq!(admin.get(&list("text/plain")).await.expect(200).json["policies"].as_array().unwrap().len(), 1);
        assert_eq!(admin.get(&list("x")).await.expect(200).json["policies"], json!([]));
        demo.get("/identity/v3/policies").await.expect(403);
        demo.get(&path).await.expect(403);
        demo.post("/identity/v3/policies", body).await.expect(403);
        demo.patch(&path, json!({ "policy": {} })).await.expect(403);
        demo.delete(&path).await.expect(403);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn the_nearest_one_is_an_endpoints() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let below = json!({ "region": { "id": "below", "parent_region_id": "RegionOne" } });
        admin.post("/identity/v3/regions", below).await.expect(201);
        let service = json!({ "service": { "type": "toy" } });
        let service = id_in(&admin.post("/identity/v3/services", service).await.expect(201), "service");
        let endpoint = json!({ "endpoint": { "service_id": service, "interface": "public", "url": "http://x",
            "region_id": "below" } });
        let endpoint = id_in(&admin.post("/identity/v3/endpoints", endpoint).await.expect(201), "endpoint");
        let of_endpoint = format!("/identity/v3/endpoints/{endpoint}/OS-ENDPOINT-POLICY/policy");
        admin.get(&of_endpoint).await.expect(404);
        let spots = [
            format!("services/{service}"),
            format!("services/{service}/regions/RegionOne"),
            format!("services/{service}/regions/below"),
            format!("endpoints/{endpoint}"),
        ];
        let mut paths = Vec::new();
        for spot in spots {
            let body = json!({ "policy": { "type": "text/plain", "blob": spot } });
            let id = id_in(&admin.post("/identity/v3/policies", body).await.expect(201), "policy");
            let path = format!("/identity/v3/policies/{id}/OS-ENDPOINT-POLICY/{spot}");
            admin.get(&path).await.expect(404);
            demo.send(Method::PUT, &path, None).await.expect(403);
            admin.send(Method::PUT, &path, None).await.expect(204);
            admin.head(&path).await.expect(204);
            demo.get(&path).await.expect(403);
            demo.delete(&path).await.expect(403);
            assert_eq!(admin.get(&of_endpoint).await.expect(200).json["policy"]["id"], json!(id));
            let endpoints = format!("/identity/v3/policies/{id}/OS-ENDPOINT-POLICY/endpoints");
            assert_eq!(admin.get(&endpoints).await.expect(200).json["endpoints"][0]["id"], json!(endpoint));
            demo.get(&endpoints).await.expect(403);
            paths.push((path, id));
        }
        demo.get(&of_endpoint).await.expect(403);
        admin.send(Method::PUT, &paths[0].0.replace(&service, "nothing"), None).await.expect(404);
        for (path, id) in paths.iter().rev() {
            assert_eq!(admin.get(&of_endpoint).await.expect(200).json["policy"]["id"], json!(id));
            admin.delete(path).await.expect(204);
        }
        admin.get(&of_endpoint).await.expect(404);
    })
    .await;
}
