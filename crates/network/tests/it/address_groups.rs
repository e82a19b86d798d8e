//! Address groups, names of guests, metering, tags of rules.

use drivers::network::Remote;
use serde_json::json;

use crate::{create, fault, id, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn rules_follow_the_addresses_that_they_name() {
    in_a_cloud(|world| async move {
        let body = json!({"address_group": {"name": "a", "addresses": ["10.1.0.0/16", "192.0.2.7"]}});
        let addresses = create(&world.blue, "address-groups", body).await;
        assert_eq!(addresses["addresses"], json!(["10.1.0.0/16", "192.0.2.7/32"]));
        let at = path(&format!("address-groups/{}", id(&addresses)));
        let group = id(&create(&world.blue, "security-groups", json!({"security_group": {"name": "g"}})).await);
        let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress",
            "remote_address_group_id": addresses["id"]}});
        let made = create(&world.blue, "security-group-rules", rule.clone()).await;
        assert_eq!(made["remote_address_group_id"], addresses["id"]);
        let twice = world.blue.post(&path("security-group-rules"), rule).await.expect(409);
        assert_eq!(fault(&twice), "SecurityGroupRuleExists");
        world.settle().await;
        let permitted = || {
            let spec = world.fake.security_group(&group.as_str().into()).unwrap();
            spec.rules
                .into_iter()
                .find_map(|r| if let Remote::Addresses(all) = r.remote { Some(all.len()) } else { None })
        };
        assert_eq!(permitted(), Some(2));
        let change = |list: serde_json::Value| json!({"address_group": {"addresses": list}});
        let add = |verb: &str| format!("{at}/{verb}_addresses");
        world.blue.put(&add("add"), change(json!(["10.9.0.0/24"]))).await.expect(200);
        world.settle().await;
        assert_eq!(permitted(), Some(3));
        world.blue.put(&add("remove"), change(json!(["10.9.0.0/24", "10.1.0.0/16"]))).await.expect(200);
        world.settle().await;
        assert_eq!(permitted(), Some(1));
        world.blue.put(&add("remove"), change(json!(["10.9.0.0/24"]))).await.expect(404);
        world.blue.put(&add("add"), change(json!(["nonsense"]))).await.expect(400);
        world.blue.put(&at, json!({"address_group": {"name": "b"}})).await.expect(200);
        assert_eq!(fault(&world.blue.delete(&at).await.expect(409)), "AddressGroupInUse");
        for verb in ["add", "remove"] {
            world.red.put(&add(verb), change(json!(["10.9.0.0/24"]))).await.expect(404);
        }
        world.red.get(&at).await.expect(404);
        world.red.put(&at, json!({"address_group": {"name": "b"}})).await.expect(404);
        world.red.delete(&at).await.expect(404);
        world.blue.delete(&path(&format!("security-group-rules/{}", id(&made)))).await.expect(204);
        world.blue.delete(&at).await.expect(204);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn guests_have_names() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let body = json!({"port": {"network_id": network, "dns_name": "Web-1"}});
        let port = create(&world.blue, "ports", body).await;
        assert_eq!(port["dns_name"], "web-1");
        world.settle().await;
        let names = || world.fake.port(&id(&port).as_str().into()).unwrap().names;
        assert_eq!(names(), ["web-1", "web-1.novalocal"]);
        let at = path(&format!("networks/{network}"));
        world.blue.put(&at, json!({"network": {"dns_domain": "example.org."}})).await.expect(200);
        world.settle().await;
        assert_eq!(names(), ["web-1", "web-1.example.org"]);
        for bad in ["-x", "a b", "a.b"] {
            let body = json!({"port": {"network_id": network, "dns_name": bad}});
            world.blue.post(&path("ports"), body).await.expect(400);
        }
        world.blue.put(&at, json!({"network": {"dns_domain": "example.org"}})).await.expect(400);
        world.blue.put(&path(&format!("ports/{}", id(&port))), json!({"port": {"dns_name": ""}})).await.expect(200);
        world.settle().await;
        assert!(names().is_empty());
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn metering() {
    in_a_small_cloud(|world| async move {
        let body = json!({"metering_label": {"name": "l", "description": "d"}});
        world.blue.post(&path("metering/metering-labels"), body.clone()).await.expect(403);
        let label = id(&create(&world.admin, "metering/metering-labels", body).await);
        let rule = |more: serde_json::Value| {
            let mut rule = json!({"metering_label_id": label, "direction": "egress"});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "metering_label_rule": rule })
        };
        let rules = "metering/metering-label-rules";
        let made = create(&world.admin, rules, rule(json!({"source_ip_prefix": "10.0.0.0/24"}))).await;
        assert_eq!((&made["excluded"], &made["remote_ip_prefix"]), (&json!(false), &json!(null)));
        for bad in [
            json!({}),
            json!({"remote_ip_prefix": "10.0.0.0/8", "source_ip_prefix": "10.0.0.0/8"}),
            json!({"remote_ip_prefix": "x"}),
            json!({"remote_ip_prefix": "10.0.0.0/8", "direction": "up"}),
        ] {
            world.admin.post(&path(rules), rule(bad)).await.expect(400);
        }
        let nowhere = rule(json!({"remote_ip_prefix": "10.0.0.0/8", "metering_label_id": "nothing"}));
        world.admin.post(&path(rules), nowhere).await.expect(404);
        world.blue.get(&path(rules)).await.expect(403);
        world.blue.get(&path(&format!("metering/metering-labels/{label}"))).await.expect(404);
        let second = create(&world.admin, rules, rule(json!({"remote_ip_prefix": "10.2.0.0/24"}))).await;
        world.admin.delete(&path(&format!("{rules}/{}", id(&second)))).await.expect(204);
        world.admin.delete(&path(&format!("metering/metering-labels/{label}"))).await.expect(204);
        world.admin.get(&path(&format!("{rules}/{}", id(&made)))).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn rules_have_tags_too() {
    in_a_small_cloud(|world| async move {
        let groups = world.blue.get(&path("security-groups")).await.expect(200).json;
        let rule = id(&groups["security_groups"][0]["security_group_rules"][0]);
        let at = path(&format!("security-group-rules/{rule}/tags"));
        world.blue.put(&at, json!({"tags": ["b", "a"]})).await.expect(200);
        assert_eq!(show(&world.blue, &format!("security-group-rules/{rule}")).await["tags"], json!(["a", "b"]));
        world.red.put(&format!("{at}/c"), json!({})).await.expect(404);
        world.blue.delete(&at).await.expect(204);
    })
    .await;
}
