//! Allocations: compute's and clients', which exclude each other.

use serde_json::{Value, json};

use crate::world::{BIG, SERVER, SMALL, on_each_db, provider, used};

const CONSUMER: &str = "55555555-5555-4555-8555-555555555555";

fn wanted(generation: Value, allocations: Value) -> Value {
    json!({
        "allocations": allocations, "project_id": "blue", "user_id": "user-someone",
        "consumer_generation": generation, "consumer_type": "RESERVATION",
    })
}

fn of(host: &str, vcpus: i64) -> Value {
    json!({ host: {"resources": {"VCPU": vcpus, "MEMORY_MB": 256}} })
}

#[tokio::test]
async fn what_clients_claim_is_taken_from_compute() {
    on_each_db(|world| async move {
        let admin = world.admin();
        let path = format!("/placement/allocations/{CONSUMER}");
        assert_eq!(admin.get(&path).await.expect(200).json["allocations"], json!({}));
        world.user("member").put(&path, wanted(Value::Null, of(SMALL, 1))).await.expect(403);
        admin.put(&path, wanted(Value::Null, of(SMALL, 8))).await.expect(204);
        assert_eq!(used(&world, SMALL).await, (8, 256));
        let shown = admin.get(&path).await.expect(200).json;
        assert_eq!(shown["allocations"][SMALL]["resources"], json!({"VCPU": 8, "MEMORY_MB": 256}));
        assert_eq!((&shown["consumer_generation"], &shown["consumer_type"]), (&json!(1), &json!("RESERVATION")));
        let late = admin.put(&path, wanted(Value::Null, of(SMALL, 1))).await.expect(409);
        assert_eq!(late.json["errors"][0]["code"], "placement.concurrent_update");
        // 2 processors four times over, and not one more; what it holds counts once.
        admin.put(&path, wanted(json!(1), of(SMALL, 9))).await.expect(409);
        admin.put(&path, wanted(json!(1), of(SMALL, 7))).await.expect(204);
        let other = format!("/placement/allocations/{SERVER}");
        admin.put(&other, wanted(Value::Null, of(SMALL, 2))).await.expect(409);
        let two = json!({BIG: {"resources": {"VCPU": 1}}, SMALL: {"resources": {"VCPU": 1}}});
        admin.put(&path, wanted(json!(2), two)).await.expect(409);
        for (bad, status) in [
            (json!({"allocations": of(SMALL, 1)}), 400),
            (wanted(json!(2), of("66666666-6666-4666-8666-666666666666", 1)), 400),
            (wanted(json!(2), json!({SMALL: {"resources": {"VCPU": 0}}})), 400),
            (wanted(json!(2), json!({SMALL: {"resources": {"VGPU": 1}}})), 409),
        ] {
            admin.put(&path, bad).await.expect(status);
        }
        let usages = admin.get("/placement/usages?project_id=blue").await.expect(200).json;
        assert_eq!(usages["usages"]["RESERVATION"], json!({"VCPU": 7, "MEMORY_MB": 256, "consumer_count": 1}));
        let usages = world.at("reader", "1.9").get("/placement/usages?project_id=blue").await.expect(200).json;
        assert_eq!(usages["usages"], json!({"VCPU": 7, "MEMORY_MB": 256}));
        world.user("reader").get("/placement/usages?project_id=red").await.expect(403);
        admin.get("/placement/usages").await.expect(400);
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.expect(404);
        assert_eq!(used(&world, SMALL).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn several_at_once_and_reshaping() {
    on_each_db(|world| async move {
        let admin = world.admin();
        let pool = provider(&admin, "pool").await;
        let ips = json!({"resource_provider_generation": 0, "inventories": {"IPV4_ADDRESS": {"total": 4}}});
        admin.put(&format!("/placement/resource_providers/{pool}/inventories"), ips).await.expect(200);
        let take = |n: i64| json!({&pool: {"resources": {"IPV4_ADDRESS": n}}});
        let both =
            |a: i64, b: i64| json!({CONSUMER: wanted(Value::Null, take(a)), SERVER: wanted(Value::Null, take(b))});
        admin.post("/placement/allocations", both(2, 3)).await.expect(409);
        admin.post("/placement/allocations", both(2, 2)).await.expect(204);
        let held = admin.get(&format!("/placement/resource_providers/{pool}/allocations")).await.expect(200).json;
        assert_eq!(held["allocations"][CONSUMER], json!({"resources": {"IPV4_ADDRESS": 2}, "consumer_generation": 1}));
        let generation = held["resource_provider_generation"].as_i64().unwrap();
        let none = json!({"resource_provider_generation": generation, "inventories": {}});
        let used =
            admin.put(&format!("/placement/resource_providers/{pool}/inventories"), none.clone()).await.expect(409);
        assert_eq!(used.json["errors"][0]["code"], "placement.inventory.inuse");
        let in_use = admin.delete(&format!("/placement/resource_providers/{pool}")).await.expect(409);
        assert_eq!(in_use.json["errors"][0]["code"], "placement.resource_provider.inuse");
        // Inventory and holders move to a child at once.
        let child = provider(&admin, "child").await;
        let moved = json!({&child: {"resources": {"IPV4_ADDRESS": 2}}});
        let reshape = json!({
            "inventories": {
                &pool: none,
                &child: {"resource_provider_generation": 0, "inventories": {"IPV4_ADDRESS": {"total": 4}}},
            },
            "allocations": {CONSUMER: wanted(json!(1), moved.clone()), SERVER: wanted(json!(1), moved)},
        });
        let service = world.user("service");
        admin.post("/placement/reshaper", reshape.clone()).await.expect(403);
        service.post("/placement/reshaper", reshape.clone()).await.expect(204);
        service.post("/placement/reshaper", reshape).await.expect(409);
        let usages = admin.get(&format!("/placement/resource_providers/{child}/usages")).await.expect(200).json;
        assert_eq!(usages["usages"]["IPV4_ADDRESS"], 4);
        admin.delete(&format!("/placement/resource_providers/{pool}")).await.expect(204);
    })
    .await;
}
