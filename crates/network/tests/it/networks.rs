//! Networks: create, list, show, update, delete; pages and filters.

use serde_json::{Value, json};

use crate::{create, fault, id, ids, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn a_networks_life() {
    in_a_cloud(|world| async move {
        let network = create(&world.blue, "networks", json!({"network": {"name": "a", "description": "d"}})).await;
        let at = format!("networks/{}", id(&network));
        assert_eq!(
            (&network["name"], &network["status"], &network["mtu"], &network["project_id"], &network["tenant_id"]),
            (&json!("a"), &json!("ACTIVE"), &json!(1442), &json!("blue"), &json!("blue"))
        );
        assert_eq!(network["created_at"], "2026-01-01T12:00:00Z");
        assert!(network.get("provider:network_type").is_none(), "an administrator's");
        assert_eq!(show(&world.admin, &at).await["provider:network_type"], "geneve");
        world.settle().await;
        let updated = world.blue.put(&path(&at), json!({"network": {"name": "b"}})).await.expect(200);
        assert_eq!(updated.json["network"]["name"], "b");
        assert_eq!(updated.json["network"]["revision_number"], 2);
        world.blue.delete(&path(&at)).await.expect(204);
        let gone = world.blue.get(&path(&at)).await.expect(404);
        assert_eq!(fault(&gone), "NetworkNotFound");
        world.blue.delete(&path(&at)).await.expect(404);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_a_request_may_not_say() {
    in_a_small_cloud(|world| async move {
        let post = async |client: &testkit::Client, body: Value| {
            let reply = client.post(&path("networks"), json!({ "network": body })).await;
            (reply.status.as_u16(), fault(&reply).to_owned())
        };
        for (body, status, code) in [
            (json!({"nonsense": 1}), 400, "HTTPBadRequest"),
            (json!({"name": "x".repeat(256)}), 400, "HTTPBadRequest"),
            (json!({"name": 7}), 400, "InvalidInput"),
            (json!({"mtu": 20000}), 400, "InvalidInput"),
            (json!({"shared": true}), 403, "PolicyNotAuthorized"),
            (json!({"router:external": true}), 403, "PolicyNotAuthorized"),
            (json!({"provider:network_type": "flat"}), 403, "PolicyNotAuthorized"),
            (json!({"project_id": "red"}), 403, "PolicyNotAuthorized"),
            (json!({"project_id": "blue", "tenant_id": "red"}), 400, "HTTPBadRequest"),
        ] {
            assert_eq!(post(&world.blue, body.clone()).await, (status, code.to_owned()), "{body}");
        }
        let flat = json!({"provider:network_type": "flat", "provider:physical_network": "public"});
        assert_eq!(post(&world.admin, flat).await, (409, "FlatNetworkInUse".into()));
        world.blue.post(&path("networks"), json!({"network": {"shared": false}})).await.expect(201);
        world.reader.post(&path("networks"), json!({"network": {}})).await.expect(403);
        world.blue.post(&path("networks"), json!({"net": {}})).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn several_at_once_or_none() {
    in_a_small_cloud(|world| async move {
        let made = world.blue.post(&path("networks"), json!({"networks": [{"name": "a"}, {"name": "b"}]})).await;
        assert_eq!(made.expect(201).json["networks"].as_array().unwrap().len(), 2);
        let refused = world.blue.post(&path("networks"), json!({"networks": [{"name": "c"}, {"shared": true}]})).await;
        refused.expect(403);
        assert_eq!(ids(&world.blue, "networks?name=c").await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn lists() {
    in_a_cloud(|world| async move {
        for name in ["c", "a", "b"] {
            create(&world.blue, "networks", json!({"network": {"name": name}})).await;
        }
        let names = async |query: &str| -> Vec<String> {
            let reply = world.blue.get(&path(&format!("networks?{query}"))).await.expect(200);
            let list = reply.json["networks"].as_array().unwrap().clone();
            list.iter().map(|n| n["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("sort_key=name&sort_dir=desc").await, ["public", "c", "b", "a"]);
        assert_eq!(names("name=a&name=c&sort_key=name").await, ["a", "c"]);
        assert_eq!(names("router:external=True").await, ["public"]);
        assert_eq!(names("router:external=False&sort_key=name").await, ["a", "b", "c"]);
        assert_eq!(names("project_id=blue&sort_key=name").await.len(), 3);
        assert_eq!(names("status=DOWN").await.len(), 0);
        let fields = world.blue.get(&path("networks?fields=id&fields=name&name=a")).await.expect(200);
        let keys: Vec<&String> = fields.json["networks"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["id", "name"]);

        let first = world.blue.get(&path("networks?limit=2&sort_key=name")).await.expect(200).json;
        let next = first["networks_links"][0].clone();
        assert_eq!((&next["rel"], first["networks_links"].as_array().unwrap().len()), (&json!("next"), 1));
        let next = next["href"].as_str().unwrap().strip_prefix("http://nacre.test").unwrap().to_owned();
        let second = world.blue.get(&next).await.expect(200).json;
        assert_eq!((&second["networks"][0]["name"], &second["networks"][1]["name"]), (&json!("c"), &json!("public")));
        let previous = second["networks_links"].as_array().unwrap().iter().find(|l| l["rel"] == "previous").unwrap();
        let previous = previous["href"].as_str().unwrap().strip_prefix("http://nacre.test").unwrap().to_owned();
        let back = world.blue.get(&previous).await.expect(200).json;
        assert_eq!((&back["networks"][0]["name"], &back["networks"][1]["name"]), (&json!("a"), &json!("b")));
        for bad in ["sort_key=secret", "limit=x", "marker=nothing", "admin_state_up=perhaps"] {
            world.blue.get(&path(&format!("networks?{bad}"))).await.expect(400);
        }
    })
    .await;
}

#[tokio::test]
async fn in_use() {
    in_a_cloud(|world| async move {
        let (network, subnet) = world.network(&world.blue).await;
        let port = id(&world.port(&world.blue, &network).await);
        let refused = world.blue.delete(&path(&format!("networks/{network}"))).await.expect(409);
        assert_eq!(fault(&refused), "NetworkInUse");
        let refused = world.blue.delete(&path(&format!("subnets/{subnet}"))).await.expect(409);
        assert_eq!(fault(&refused), "SubnetInUse");
        world.blue.delete(&path(&format!("ports/{port}"))).await.expect(204);
        // The metadata port and the subnets go with the network.
        world.blue.delete(&path(&format!("networks/{network}"))).await.expect(204);
        let left = world.blue.get(&path("subnets?project_id=blue")).await.expect(200).json;
        assert_eq!(left["subnets"], json!([]));
        assert_eq!(ids(&world.blue, "ports").await.len(), 0);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn versions_and_extensions() {
    in_a_small_cloud(|world| async move {
        let root = world.blue.get("/networking").await.expect(200).json;
        assert_eq!(root["versions"][0]["id"], "v2.0");
        assert_eq!(root["versions"][0]["links"][0]["href"], "http://nacre.test/networking/v2.0/");
        let resources = world.blue.get("/networking/v2.0/").await.expect(200).json;
        assert!(resources["resources"].as_array().unwrap().iter().any(|r| r["name"] == "subnet"));
        let extensions = world.blue.get(&path("extensions")).await.expect(200).json;
        assert!(extensions["extensions"].as_array().unwrap().iter().any(|e| e["alias"] == "router"));
        assert_eq!(show(&world.blue, "extensions/net-mtu").await["alias"], "net-mtu");
        world.blue.get(&path("extensions/magic")).await.expect(404);
        assert_eq!(
            world.blue.get(&path("availability_zones")).await.expect(200).json["availability_zones"][0]["name"],
            "nova"
        );
        assert_eq!(world.blue.get(&path("agents")).await.expect(200).json["agents"], json!([]));
        assert_eq!(world.admin.get(&path("agents")).await.expect(200).json["agents"], json!([]));
    })
    .await;
}
