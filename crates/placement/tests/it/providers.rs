//! Providers, inventories, traits, classes, aggregates.

use serde_json::{Value, json};

use crate::world::{BIG, on_each_db, provider};

#[tokio::test]
async fn hosts_are_providers() {
    on_each_db(|world| async move {
        let admin = world.admin();
        world.user("member").get("/placement/resource_providers").await.expect(403);
        let list = admin.get("/placement/resource_providers?name=big").await.expect(200);
        assert!(list.header("last-modified").unwrap().ends_with(" GMT"));
        let big = &list.json["resource_providers"][0];
        assert_eq!((&big["uuid"], &big["root_provider_uuid"]), (&json!(BIG), &json!(BIG)));
        let path = format!("/placement/resource_providers/{BIG}");
        let inventories = admin.get(&format!("{path}/inventories")).await.expect(200).json;
        assert_eq!(inventories["inventories"]["VCPU"]["total"], 16);
        assert_eq!(inventories["inventories"]["VCPU"]["allocation_ratio"], 4.0);
        let before = admin.get(&path).await.expect(200).json["generation"].as_i64().unwrap();
        world.claim(3).await;
        let usages = admin.get(&format!("{path}/usages")).await.expect(200).json;
        assert_eq!(usages["usages"], json!({"VCPU": 3, "MEMORY_MB": 512, "DISK_GB": 0}));
        assert_eq!(usages["resource_provider_generation"], before + 1);
        // What is compute's is changed by compute.
        admin.delete(&path).await.expect(409);
        admin.put(&path, json!({"name": "other"})).await.expect(409);
        admin.delete(&format!("{path}/inventories/VCPU")).await.expect(409);
        let more = json!({"resource_provider_generation": before + 1, "total": 99});
        admin.put(&format!("{path}/inventories/VCPU"), more).await.expect(409);
        // Besides, it may have what no agent knows of.
        admin.put("/placement/resource_classes/CUSTOM_LICENSE", Value::Null).await.expect(201);
        let license =
            json!({"resource_class": "CUSTOM_LICENSE", "total": 5, "resource_provider_generation": before + 1});
        admin.post(&format!("{path}/inventories"), license.clone()).await.expect(201);
        let again = admin.post(&format!("{path}/inventories"), license).await.expect(409);
        assert_eq!(again.json["errors"][0]["status"], 409);
        admin.get(&format!("{path}/inventories/CUSTOM_LICENSE")).await.expect(200);
        admin.delete("/placement/resource_classes/CUSTOM_LICENSE").await.expect(409);
        admin.delete(&format!("{path}/inventories/CUSTOM_LICENSE")).await.expect(204);
        admin.delete("/placement/resource_classes/CUSTOM_LICENSE").await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn providers_of_clients() {
    on_each_db(|world| async move {
        let admin = world.admin();
        let pool = provider(&admin, "pool").await;
        let twice = admin.post("/placement/resource_providers", json!({"name": "pool"})).await.expect(409);
        assert_eq!(twice.json["errors"][0]["code"], "placement.duplicate_name");
        let old =
            world.at("admin", "1.0").post("/placement/resource_providers", json!({"name": "old"})).await.expect(201);
        assert!(old.header("location").unwrap().contains("/placement/resource_providers/") && old.body.is_empty());
        let child = json!({"name": "child", "parent_provider_uuid": pool});
        let child = admin.post("/placement/resource_providers", child).await.expect(200).json;
        assert_eq!((&child["parent_provider_uuid"], &child["root_provider_uuid"]), (&json!(pool), &json!(pool)));
        let path = format!("/placement/resource_providers/{pool}");
        let cannot = admin.delete(&path).await.expect(409);
        assert_eq!(cannot.json["errors"][0]["code"], "placement.resource_provider.cannot_delete_parent");
        let looped = json!({"name": "pool", "parent_provider_uuid": child["uuid"]});
        admin.put(&path, looped).await.expect(400);
        let tree = admin.get(&format!("/placement/resource_providers?in_tree={pool}")).await.expect(200).json;
        assert_eq!(tree["resource_providers"].as_array().unwrap().len(), 2);
        admin.put(&path, json!({"name": "renamed"})).await.expect(200);
        admin.get("/placement/resource_providers?color=red").await.expect(400);
        let inventories =
            json!({"resource_provider_generation": 0, "inventories": {"IPV4_ADDRESS": {"total": 10, "reserved": 2}}});
        admin.put(&format!("{path}/inventories"), inventories.clone()).await.expect(200);
        let late = admin.put(&format!("{path}/inventories"), inventories).await.expect(409);
        assert_eq!(late.json["errors"][0]["code"], "placement.concurrent_update");
        let unknown = json!({"resource_provider_generation": 1, "inventories": {"CUSTOM_NONE": {"total": 10}}});
        admin.put(&format!("{path}/inventories"), unknown).await.expect(400);
        for (query, count) in [("resources=IPV4_ADDRESS:8", 1), ("resources=IPV4_ADDRESS:9", 0), ("name=renamed", 1)] {
            let found = admin.get(&format!("/placement/resource_providers?{query}")).await.expect(200).json;
            assert_eq!(found["resource_providers"].as_array().unwrap().len(), count, "{query}");
        }
        admin.delete(&format!("/placement/resource_providers/{}", child["uuid"].as_str().unwrap())).await.expect(204);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn traits_and_aggregates() {
    on_each_db(|world| async move {
        let admin = world.admin();
        let path = format!("/placement/resource_providers/{BIG}");
        admin.put("/placement/traits/LOUD", Value::Null).await.expect(400);
        admin.put("/placement/traits/CUSTOM_LOUD", Value::Null).await.expect(201);
        admin.put("/placement/traits/CUSTOM_LOUD", Value::Null).await.expect(204);
        admin.get("/placement/traits/CUSTOM_LOUD").await.expect(204);
        admin.get("/placement/traits/CUSTOM_QUIET").await.expect(404);
        admin.delete("/placement/traits/HW_CPU_X86_AVX2").await.expect(400);
        let set =
            |generation: i64, traits: &[&str]| json!({"resource_provider_generation": generation, "traits": traits});
        let at = admin.get(&path).await.expect(200).json["generation"].as_i64().unwrap();
        admin.put(&format!("{path}/traits"), set(at, &["CUSTOM_QUIET"])).await.expect(400);
        let now =
            admin.put(&format!("{path}/traits"), set(at, &["CUSTOM_LOUD", "HW_CPU_X86_AVX2"])).await.expect(200).json;
        assert_eq!(now["traits"], json!(["CUSTOM_LOUD", "HW_CPU_X86_AVX2"]));
        admin.put(&format!("{path}/traits"), set(at, &[])).await.expect(409);
        for (query, count) in [("name=in:CUSTOM_LOUD,X", 1), ("name=startswith:CUSTOM_", 1), ("associated=true", 2)] {
            let found = admin.get(&format!("/placement/traits?{query}")).await.expect(200).json;
            assert_eq!(found["traits"].as_array().unwrap().len(), count, "{query}");
        }
        let found = admin.get("/placement/resource_providers?required=CUSTOM_LOUD").await.expect(200).json;
        assert_eq!(found["resource_providers"][0]["uuid"], BIG);
        admin.delete("/placement/traits/CUSTOM_LOUD").await.expect(409);
        admin.delete(&format!("{path}/traits")).await.expect(204);
        admin.delete("/placement/traits/CUSTOM_LOUD").await.expect(204);
        let aggregate = "44444444-4444-4444-8444-444444444444";
        let at = admin.get(&path).await.expect(200).json["generation"].as_i64().unwrap();
        let body = json!({"aggregates": [aggregate], "resource_provider_generation": at});
        admin.put(&format!("{path}/aggregates"), body.clone()).await.expect(200);
        admin.put(&format!("{path}/aggregates"), body).await.expect(409);
        world.at("admin", "1.1").put(&format!("{path}/aggregates"), json!([aggregate])).await.expect(200);
        for (query, count) in [(format!("member_of={aggregate}"), 1), (format!("member_of=!{aggregate}"), 1)] {
            let found = admin.get(&format!("/placement/resource_providers?{query}")).await.expect(200).json;
            assert_eq!(found["resource_providers"].as_array().unwrap().len(), count, "{query}");
        }
        let classes = admin.get("/placement/resource_classes").await.expect(200).json;
        assert_eq!(classes["resource_classes"][0]["name"], "VCPU");
        admin.post("/placement/resource_classes", json!({"name": "CUSTOM_A"})).await.expect(201);
        admin.post("/placement/resource_classes", json!({"name": "CUSTOM_A"})).await.expect(409);
        admin.post("/placement/resource_classes", json!({"name": "A"})).await.expect(400);
        admin.delete("/placement/resource_classes/VCPU").await.expect(400);
        admin.delete("/placement/resource_classes/CUSTOM_A").await.expect(204);
        admin.get("/placement/resource_classes/CUSTOM_A").await.expect(404);
    })
    .await;
}
