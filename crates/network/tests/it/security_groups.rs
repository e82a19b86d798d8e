//! Security groups and their rules.

use drivers::network::{Protocol, Remote};
use serde_json::json;

use crate::{create, fault, id, ids, in_a_cloud, path, show};

#[tokio::test]
async fn a_groups_life() {
    in_a_cloud(|world| async move {
        let list = world.reader.get(&path("security-groups")).await.expect(200).json;
        let default = &list["security_groups"][0];
        assert_eq!(
            (&default["name"], default["security_group_rules"].as_array().unwrap().len()),
            (&json!("default"), 4)
        );
        let group =
            create(&world.blue, "security-groups", json!({"security_group": {"name": "web", "description": "w"}}))
                .await;
        assert_eq!(group["security_group_rules"].as_array().unwrap().len(), 2, "everything out");
        let at = format!("security-groups/{}", id(&group));
        let updated = world.blue.put(&path(&at), json!({"security_group": {"name": "www"}})).await.expect(200).json;
        assert_eq!(updated["security_group"]["name"], "www");
        let rename = json!({"security_group": {"name": "x"}});
        let refused = world.blue.put(&path(&format!("security-groups/{}", id(default))), rename).await.expect(409);
        assert_eq!(fault(&refused), "SecurityGroupCannotUpdateDefault");
        let refused = world.blue.delete(&path(&format!("security-groups/{}", id(default)))).await.expect(409);
        assert_eq!(fault(&refused), "SecurityGroupCannotRemoveDefault");
        world.admin.delete(&path(&format!("security-groups/{}", id(default)))).await.expect(204);
        let refused = world.blue.post(&path("security-groups"), json!({"security_group": {"name": "default"}})).await;
        assert_eq!(fault(&refused.expect(409)), "SecurityGroupDefaultAlreadyExists");
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());

        let (network, _) = world.network(&world.blue).await;
        let port = json!({"port": {"network_id": network, "security_groups": [id(&group)]}});
        let port = id(&create(&world.blue, "ports", port).await);
        assert_eq!(ids(&world.blue, &format!("ports?security_groups={}", id(&group))).await, [port.as_str()]);
        assert_eq!(fault(&world.blue.delete(&path(&at)).await.expect(409)), "SecurityGroupInUse");
        world.blue.delete(&path(&format!("ports/{port}"))).await.expect(204);
        world.blue.delete(&path(&at)).await.expect(204);
        world.blue.get(&path(&at)).await.expect(404);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn rules() {
    in_a_cloud(|world| async move {
        let group = id(&create(&world.blue, "security-groups", json!({"security_group": {"name": "a"}})).await);
        let other = id(&create(&world.blue, "security-groups", json!({"security_group": {"name": "b"}})).await);
        let ssh = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22}});
        let rule = create(&world.blue, "security-group-rules", ssh.clone()).await;
        assert_eq!((&rule["ethertype"], &rule["remote_ip_prefix"], &rule["remote_group_id"]), (&json!("IPv4"), &json!(null), &json!(null)));
        let again = world.blue.post(&path("security-group-rules"), ssh).await.expect(409);
        assert_eq!(fault(&again), "SecurityGroupRuleExists");
        let same = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "6",
            "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0"}});
        world.blue.post(&path("security-group-rules"), same).await.expect(409);
        let remote = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "remote_group_id": other}});
        create(&world.blue, "security-group-rules", remote).await;
        let ping = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "icmp",
            "port_range_min": 8, "remote_ip_prefix": "10.0.0.7"}});
        assert_eq!(create(&world.blue, "security-group-rules", ping).await["remote_ip_prefix"], "10.0.0.7/32");
        world.settle().await;
        let spec = world.fake.security_group(&group.as_str().into()).unwrap();
        let permits = |protocol: Protocol, remote: Remote| spec.rules.iter().any(|r| r.protocol == protocol && r.remote == remote);
        assert!(permits(Protocol::Tcp(Some((22, 22))), Remote::Any));
        assert!(permits(Protocol::Any, Remote::Group(other.as_str().into())));
        assert!(permits(Protocol::Icmp { kind: Some(8), code: None }, Remote::Cidr("10.0.0.7/32".parse().unwrap())));

        assert_eq!(ids(&world.blue, &format!("security-group-rules?security_group_id={group}&protocol=tcp")).await, [id(&rule)]);
        world.blue.delete(&path(&format!("security-group-rules/{}", id(&rule)))).await.expect(204);
        world.blue.delete(&path(&format!("security-group-rules/{}", id(&rule)))).await.expect(404);
        // A group that others name takes those rules with it.
        world.blue.delete(&path(&format!("security-groups/{other}"))).await.expect(204);
        assert_eq!(show(&world.blue, &format!("security-groups/{group}")).await["security_group_rules"].as_array().unwrap().len(), 3);
        world.settle().await;
        assert_eq!(world.fake.security_group(&group.as_str().into()).unwrap().rules.len(), 3);
        assert_eq!(world.doctor().await, Vec::<String>::new());
        let nowhere = json!({"security_group_rule": {"security_group_id": "nothing", "direction": "ingress"}});
        world.blue.post(&path("security-group-rules"), nowhere).await.expect(404);
    })
    .await;
}
