//! Quality of service: policies, their rules, and whom they concern.

use drivers::network::{Direction, QosRule};
use serde_json::{Value, json};

use crate::{create, fault, id, in_a_cloud, path, show};

#[tokio::test]
async fn policies_reach_their_ports() {
    in_a_cloud(|world| async move {
        let policy = create(&world.admin, "qos/policies", json!({"policy": {"name": "slow", "shared": true}})).await;
        assert_eq!((&policy["rules"], &policy["is_default"]), (&json!([]), &json!(false)));
        let at = format!("qos/policies/{}", id(&policy));
        let limits = format!("{at}/bandwidth_limit_rules");
        let body = |kbps: i64, direction: &str| json!({"bandwidth_limit_rule": {"max_kbps": kbps, "max_burst_kbps": 100, "direction": direction}});
        let limit = create(&world.admin, &limits, body(1000, "egress")).await;
        let twice = world.admin.post(&path(&limits), body(2000, "egress")).await.expect(409);
        assert_eq!(fault(&twice), "QoSRulesConflict");
        create(&world.admin, &format!("{at}/dscp_marking_rules"), json!({"dscp_marking_rule": {"dscp_mark": 46}})).await;
        create(&world.admin, &format!("{at}/minimum_bandwidth_rules"), json!({"minimum_bandwidth_rule": {"min_kbps": 500}})).await;

        let (network, _) = world.network(&world.blue).await;
        let body = json!({"port": {"network_id": network, "qos_policy_id": policy["id"]}});
        let port = id(&create(&world.blue, "ports", body).await);
        world.settle().await;
        let rules = |port: &str| world.fake.port(&port.into()).unwrap().qos;
        let limited = |kbps| QosRule::Limit { direction: Direction::Egress, kbps, burst_kb: Some(100) };
        assert_eq!(rules(&port), [limited(1000), QosRule::Mark(46), QosRule::Minimum { kbps: 500 }]);
        let change = json!({"bandwidth_limit_rule": {"max_kbps": 3000}});
        world.admin.put(&path(&format!("{limits}/{}", id(&limit))), change).await.expect(200);
        world.settle().await;
        assert_eq!(rules(&port)[0], limited(3000));
        // A network's policy holds for those that have none of their own.
        let other = id(&world.port(&world.blue, &network).await);
        world.blue.put(&path(&format!("networks/{network}")), json!({"network": {"qos_policy_id": policy["id"]}})).await.expect(200);
        world.settle().await;
        assert_eq!(rules(&other).len(), 3);
        assert_eq!(show(&world.blue, &format!("ports/{other}")).await["qos_network_policy_id"], policy["id"]);
        assert_eq!(fault(&world.admin.delete(&path(&at)).await.expect(409)), "QosPolicyInUse");
        world.admin.delete(&path(&format!("{limits}/{}", id(&limit)))).await.expect(204);
        world.settle().await;
        assert_eq!(rules(&other).len(), 2);
        for rest in [format!("ports/{port}"), format!("networks/{network}")] {
            let envelope = if rest.starts_with("ports") { "port" } else { "network" };
            world.blue.put(&path(&rest), json!({envelope: {"qos_policy_id": null}})).await.expect(200);
        }
        world.settle().await;
        assert!(rules(&port).is_empty() && rules(&other).is_empty());
        world.admin.delete(&path(&at)).await.expect(204);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_policies_may_not_be() {
    in_a_cloud(|world| async move {
        world.blue.post(&path("qos/policies"), json!({"policy": {"name": "x"}})).await.expect(403);
        let hidden =
            id(&create(&world.admin, "qos/policies", json!({"policy": {"name": "h", "is_default": true}})).await);
        let second =
            world.admin.post(&path("qos/policies"), json!({"policy": {"name": "i", "is_default": true}})).await;
        assert_eq!(fault(&second.expect(409)), "QoSPolicyDefaultAlreadyExists");
        let at = path(&format!("qos/policies/{hidden}"));
        world.blue.get(&at).await.expect(404);
        let (network, _) = world.network(&world.blue).await;
        let body = json!({"port": {"network_id": network, "qos_policy_id": hidden}});
        assert_eq!(fault(&world.blue.post(&path("ports"), body).await.expect(404)), "QosPolicyNotFound");
        let types = world.blue.get(&path("qos/rule-types")).await.expect(200).json;
        assert_eq!(types["rule_types"].as_array().unwrap().len(), 3);
        for (kind, bad) in [
            ("bandwidth_limit", json!({"max_kbps": 0})),
            ("bandwidth_limit", json!({"max_kbps": 5, "direction": "up"})),
            ("dscp_marking", json!({"dscp_mark": 1})),
            ("minimum_bandwidth", json!({"min_kbps": 5, "direction": "ingress"})),
        ] {
            let body: Value = json!({format!("{kind}_rule"): bad});
            world.admin.post(&format!("{at}/{kind}_rules"), body).await.expect(400);
            world.blue.get(&format!("{at}/{kind}_rules")).await.expect(404);
            world.blue.get(&format!("{at}/{kind}_rules/x")).await.expect(404);
            world.admin.get(&format!("{at}/{kind}_rules/x")).await.expect(404);
            world.admin.delete(&format!("{at}/{kind}_rules/x")).await.expect(404);
        }
        world.admin.put(&at, json!({"policy": {"name": "j", "shared": true}})).await.expect(200);
        world.blue.get(&at).await.expect(200);
        world.blue.put(&at, json!({"policy": {"name": "k"}})).await.expect(403);
        world.blue.delete(&at).await.expect(403);
    })
    .await;
}
