//! Quotas hold, exactly.

use serde_json::json;
use testkit::auth::token;

use crate::{create, fault, in_a_cloud, path};

#[tokio::test]
async fn limits_defaults_and_usage() {
    in_a_cloud(|world| async move {
        let quota = |client: &testkit::Client, rest: &str| {
            // Quotas are shown to those who manage a project.
            let client = client.clone().token(&token("mia", "manager", "blue"));
            let at = path(&format!("quotas/blue{rest}"));
            async move { client.get(&at).await.expect(200).json["quota"].clone() }
        };
        assert_eq!(quota(&world.blue, "").await["network"], 100);
        world.blue.put(&path("quotas/blue"), json!({"quota": {"network": 1}})).await.expect(403);
        world.blue.get(&path("quotas/red")).await.expect(403);
        world.blue.get(&path("quotas")).await.expect(403);
        let set = world.admin.put(&path("quotas/blue"), json!({"quota": {"network": 1, "port": 1}})).await.expect(200);
        assert_eq!(set.json["quota"]["network"], 1);
        for bad in [json!({"network": -2}), json!({"network": "x"}), json!({"nonsense": 1})] {
            world.admin.put(&path("quotas/blue"), json!({ "quota": bad })).await.expect(400);
        }
        assert_eq!(world.admin.get(&path("quotas")).await.expect(200).json["quotas"][0]["project_id"], "blue");
        assert_eq!(quota(&world.blue, "/default").await["network"], 100);

        let (network, _) = world.network(&world.blue).await;
        let over = world.blue.post(&path("networks"), json!({"network": {}})).await.expect(409);
        assert_eq!(fault(&over), "OverQuota");
        let port = world.port(&world.blue, &network).await;
        world.blue.post(&path("ports"), json!({"port": {"network_id": network}})).await.expect(409);
        let details = quota(&world.blue, "/details").await;
        assert_eq!(details["port"], json!({"limit": 1, "used": 1, "reserved": 0}), "the metadata port costs nothing");
        let check = json!({"quota": {"port": 0, "check_limit": true}});
        world.admin.put(&path("quotas/blue"), check).await.expect(400);
        world.blue.delete(&path(&format!("ports/{}", crate::id(&port)))).await.expect(204);
        create(&world.blue, "ports", json!({"port": {"network_id": network}})).await;
        world.admin.delete(&path("quotas/blue")).await.expect(204);
        assert_eq!(quota(&world.blue, "").await["network"], 100);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
