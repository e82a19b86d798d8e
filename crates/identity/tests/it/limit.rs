//! Registered limits and limits.

use serde_json::json;

use crate::{by_password, grant, id_in, make_project, make_user, on_each_db};

#[tokio::test]
async fn of_projects_and_domains() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let services = admin.get("/identity/v3/services?type=compute").await.expect(200);
        let service = services.json["services"][0]["id"].as_str().unwrap().to_owned();
        let project = make_project(&admin, "shop").await;
        let registered = "/identity/v3/registered_limits";
        let limits = "/identity/v3/limits";
        let early = json!({ "limits": [{ "service_id": service, "resource_name": "servers", "resource_limit": 5,
            "project_id": project }] });
        admin.post(limits, early.clone()).await.expect(403);
        let body = json!({ "registered_limits": [
            { "service_id": service, "resource_name": "servers", "default_limit": 10 },
            { "service_id": service, "resource_name": "cores", "default_limit": -1, "region_id": "RegionOne" },
        ] });
        let made = admin.post(registered, body.clone()).await.expect(201);
        let servers = made.json["registered_limits"][0].clone();
        assert_eq!((&servers["default_limit"], &servers["region_id"]), (&json!(10), &json!(null)));
        admin.post(registered, body.clone()).await.expect(409);
        for wrong in [
            json!([]),
            json!([{ "service_id": service, "resource_name": "x" }]),
            json!([{ "service_id": service, "resource_name": "x", "default_limit": -2 }]),
            json!([{ "service_id": service, "resource_name": "x", "default_limit": 1, "colour": "red" }]),
            json!([{ "service_id": "nothing", "resource_name": "x", "default_limit": 1 }]),
        ] {
            admin.post(registered, json!({ "registered_limits": wrong })).await.expect(400);
        }
        let one = format!("{registered}/{}", servers["id"].as_str().unwrap());
        assert_eq!(demo.get(&one).await.expect(200).json["registered_limit"], servers);
        assert_eq!(
            demo.get(&format!("{registered}?resource_name=cores")).await.json["registered_limits"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        demo.post(registered, body).await.expect(403);
        demo.patch(&one, json!({ "registered_limit": { "default_limit": 1 } })).await.expect(403);
        demo.delete(&one).await.expect(403);
        let changed = admin.patch(&one, json!({ "registered_limit": { "default_limit": 20 } })).await.expect(200);
        assert_eq!(changed.json["registered_limit"]["default_limit"], 20);

        let made = admin.post(limits, early.clone()).await.expect(201);
        let own = format!("{limits}/{}", made.json["limits"][0]["id"].as_str().unwrap());
        admin.post(limits, early.clone()).await.expect(409);
        let of_domain = json!({ "limits": [{ "service_id": service, "resource_name": "servers", "resource_limit": 50,
            "domain_id": "default" }] });
        admin.post(limits, of_domain).await.expect(201);
        let both = json!({ "limits": [{ "service_id": service, "resource_name": "servers", "resource_limit": 50,
            "domain_id": "default", "project_id": project }] });
        admin.post(limits, both).await.expect(400);
        assert_eq!(admin.get(limits).await.expect(200).json["limits"].as_array().unwrap().len(), 2);
        assert_eq!(demo.get(limits).await.expect(200).json["limits"], json!([]));
        demo.get(&own).await.expect(403);
        demo.post(limits, early).await.expect(403);
        demo.patch(&own, json!({ "limit": { "resource_limit": 1 } })).await.expect(403);
        demo.delete(&own).await.expect(403);
        // The project's people see theirs.
        let user = make_user(&admin, "mia").await;
        grant(&admin, &user, "member", &format!("projects/{project}")).await;
        let mia = cloud.with_token(&by_password("mia", "mia's"), Some(json!({ "project": { "id": project } }))).await;
        assert_eq!(mia.get(limits).await.expect(200).json["limits"][0]["resource_limit"], 5);
        mia.get(&own).await.expect(200);
        let changed = admin.patch(&own, json!({ "limit": { "resource_limit": 7, "description": "d" } })).await;
        assert_eq!(changed.expect(200).json["limit"]["resource_limit"], 7);
        assert_eq!(demo.get(&format!("{limits}/model")).await.expect(200).json["model"]["name"], "flat");
        // What has exceptions stays where it is.
        admin.delete(&one).await.expect(403);
        admin.patch(&one, json!({ "registered_limit": { "resource_name": "x" } })).await.expect(403);
        admin.delete(&format!("/identity/v3/projects/{project}")).await.expect(204);
        admin.get(&own).await.expect(404);
        let left = admin.get(limits).await.expect(200);
        admin.delete(&format!("{limits}/{}", left.json["limits"][0]["id"].as_str().unwrap())).await.expect(204);
        admin.delete(&one).await.expect(204);
        admin.get(&one).await.expect(404);
        let domain = json!({ "domain": { "name": "east" } });
        id_in(&admin.post("/identity/v3/domains", domain).await.expect(201), "domain");
    })
    .await;
}
