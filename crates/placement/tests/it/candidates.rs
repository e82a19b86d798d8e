//! Candidates: always what compute would find.

use serde_json::json;

use crate::world::{BIG, SMALL, on_each_db};

#[tokio::test]
async fn candidates_and_versions() {
    on_each_db(|world| async move {
        let admin = world.admin();
        let ask = |query: &'static str| {
            let admin = admin.clone();
            async move { admin.get(&format!("/placement/allocation_candidates?{query}")).await }
        };
        let found = ask("resources=VCPU:4,MEMORY_MB:512").await.expect(200).json;
        assert_eq!(found["allocation_requests"].as_array().unwrap().len(), 2);
        let first = &found["allocation_requests"][0];
        assert_eq!(first["allocations"], json!({BIG: {"resources": {"VCPU": 4, "MEMORY_MB": 512}}}));
        assert_eq!(first["mappings"], json!({"": [BIG]}));
        let summary = &found["provider_summaries"][BIG];
        assert_eq!(summary["resources"]["VCPU"], json!({"capacity": 64, "used": 0}));
        assert_eq!((&summary["root_provider_uuid"], &summary["traits"]), (&json!(BIG), &json!([])));
        // Compute takes nearly all of it.
        world.claim(62).await;
        let found = ask("resources=VCPU:4").await.expect(200).json;
        assert_eq!(
            found["allocation_requests"],
            json!([{"allocations": {SMALL: {"resources": {"VCPU": 4}}}, "mappings": {"": [SMALL]}}])
        );
        world.give_back().await;
        assert_eq!(ask("resources=VCPU:64").await.expect(200).json["allocation_requests"].as_array().unwrap().len(), 1);
        ask("required=CUSTOM_X").await.expect(400);
        let old =
            world.at("admin", "1.10").get("/placement/allocation_candidates?resources=VCPU:9").await.expect(200).json;
        assert_eq!(
            old["allocation_requests"][0]["allocations"],
            json!([{"resource_provider": {"uuid": BIG}, "resources": {"VCPU": 9}}])
        );
        world.at("admin", "1.9").get("/placement/allocation_candidates?resources=VCPU:9").await.expect(404);
        world.user("member").get("/placement/allocation_candidates?resources=VCPU:1").await.expect(403);
        let versions = world.user("member").get("/placement/").await.expect(200).json;
        assert_eq!(versions["versions"][0]["max_version"], "1.39");
    })
    .await;
}
