//! Quotas and limits.

use model::id::ProjectId;
use serde_json::json;
use store::quotas::Charge;
use testkit::{for_each_db, virtual_clock};

use crate::administration::{Cloud, keys};

const BLUE: &str = "/compute/v2.1/os-quota-sets/blue";

#[tokio::test]
async fn are_set_shown_and_reset() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let mut tx = db.begin().await.unwrap();
        let charge = Charge { resource: "cores", default_limit: 20, amount: 3 };
        store::quotas::charge(&mut tx, &ProjectId::new("blue"), &[charge]).await.unwrap();
        tx.commit().await.unwrap();

        let before = cloud.blue("2.1").get(BLUE).await.expect(200).json["quota_set"].clone();
        assert_eq!((before["cores"].clone(), before["floating_ips"].clone()), (json!(20), json!(-1)));
        assert_eq!(keys(&before).len(), 15);
        let set = |limits: serde_json::Value| json!({"quota_set": limits});
        let admin = cloud.admin("2.100");
        let after = admin.put(BLUE, set(json!({"cores": "5", "ram": -1}))).await.expect(200).json;
        assert_eq!(after["quota_set"]["cores"], 5);
        assert_eq!(keys(&after["quota_set"]).len(), 7);
        admin.put(BLUE, set(json!({"cores": 2}))).await.expect(400);
        admin.put(BLUE, set(json!({"cores": 2, "force": true}))).await.expect(200);
        for bad in [json!({"floating_ips": 1}), json!({"cores": -2}), json!({"gold": 1})] {
            admin.put(BLUE, set(bad)).await.expect(400);
        }
        admin.put("/compute/v2.1/os-quota-sets/nowhere", set(json!({"cores": 1}))).await.expect(400);
        let detail = cloud.blue("2.57").get(&format!("{BLUE}/detail")).await.expect(200).json["quota_set"].clone();
        assert_eq!(detail["cores"], json!({"limit": 2, "in_use": 3, "reserved": 0}));
        admin.delete(BLUE).await.expect(202);
        assert_eq!(cloud.blue("2.100").get(BLUE).await.expect(200).json["quota_set"]["cores"], 20);
    })
    .await;
}

#[tokio::test]
async fn of_other_projects_are_not_shown() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        cloud.red("2.100").get(BLUE).await.expect(403);
        cloud.red("2.100").get(&format!("{BLUE}/detail")).await.expect(403);
        cloud.red("2.100").put(BLUE, json!({"quota_set": {"cores": 1}})).await.expect(403);
        cloud.blue("2.100").put(BLUE, json!({"quota_set": {"cores": 1}})).await.expect(403);
        cloud.red("2.100").delete(BLUE).await.expect(403);
        cloud.red("2.100").get("/compute/v2.1/limits?tenant_id=blue").await.expect(403);
        cloud.admin("2.100").get("/compute/v2.1/limits?tenant_id=blue").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn of_the_whole_cloud() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let class = "/compute/v2.1/os-quota-class-sets/default";
        let shown = cloud.admin("2.1").get(class).await.expect(200).json["quota_class_set"].clone();
        assert!(shown.get("server_groups").is_none() && shown["fixed_ips"] == -1 && shown["id"] == "default");
        let set = json!({"quota_class_set": {"cores": 7}});
        cloud.blue("2.100").put(class, set.clone()).await.expect(403);
        let after = cloud.admin("2.100").put(class, set).await.expect(200).json["quota_class_set"].clone();
        assert!(after["cores"] == 7 && after["server_groups"] == 10 && after.get("fixed_ips").is_none());
        assert_eq!(cloud.blue("2.100").get(BLUE).await.expect(200).json["quota_set"]["cores"], 7);
        let defaults = cloud.blue("2.100").get(&format!("{BLUE}/defaults")).await.expect(200).json;
        assert_eq!(defaults["quota_set"]["cores"], 7);
    })
    .await;
}

#[tokio::test]
async fn limits_by_microversion() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        for (version, count) in [("2.1", 19), ("2.36", 14), ("2.39", 13), ("2.57", 11), ("2.100", 11)] {
            let limits = cloud.blue(version).get("/compute/v2.1/limits").await.expect(200).json["limits"].clone();
            assert_eq!(keys(&limits["absolute"]).len(), count, "{version}");
            assert_eq!(limits["absolute"]["maxTotalCores"], 20);
            assert_eq!(limits["rate"], json!([]));
        }
    })
    .await;
}
