//! What one project must not see or do to another's.

use serde_json::{Value, json};

use crate::{create, fault, id, ids, in_a_cloud, path};

#[tokio::test]
async fn strangers_find_nothing() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let port = id(&world.port(&world.blue, &network).await);
        let group = id(&create(&world.blue, "security-groups", json!({"security_group": {"name": "g"}})).await);
        let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress"}});
        let rule = id(&create(&world.blue, "security-group-rules", rule).await);
        let floating = json!({"floatingip": {"floating_network_id": world.public, "port_id": port}});
        let floating = id(&create(&world.blue, "floatingips", floating).await);
        let all = [
            ("networks", "network", &network),
            ("subnets", "subnet", &subnet),
            ("ports", "port", &port),
            ("routers", "router", &router),
            ("security-groups", "security_group", &group),
            ("security-group-rules", "", &rule),
            ("floatingips", "floatingip", &floating),
        ];
        for (collection, singular, id) in all {
            let at = path(&format!("{collection}/{id}"));
            let missing = world.red.get(&at).await.expect(404);
            let never = path(&format!("{collection}/00000000-0000-0000-0000-000000000000"));
            assert_eq!(
                fault(&missing),
                fault(&world.red.get(&never).await.expect(404)),
                "the same as what is not there"
            );
            world.red.delete(&at).await.expect(404);
            if !singular.is_empty() {
                world.red.put(&at, json!({ singular: {"description": "mine"} })).await.expect(404);
            }
            let seen = ids(&world.red, &format!("{collection}?id={id}")).await;
            assert!(seen.is_empty(), "{collection}");
            let seen = ids(&world.red, &format!("{collection}?project_id=blue")).await;
            assert!(seen.is_empty(), "{collection}");
            assert!(ids(&world.admin, collection).await.contains(id), "an administrator sees all: {collection}");
            // A reader of the project sees it and changes nothing.
            world.reader.get(&at).await.expect(200);
            world.reader.delete(&at).await.expect(403);
        }
        assert_eq!(world.doctor().await.iter().filter(|f| f.contains("quota")).count(), 0);
    })
    .await;
}

#[tokio::test]
async fn strangers_can_not_use_it_either() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let port = id(&world.port(&world.blue, &network).await);
        let group = id(&create(&world.blue, "security-groups", json!({"security_group": {"name": "g"}})).await);
        let (own, _, _) = world.connected(&world.red).await;
        let own_router = ids(&world.red, "routers").await.pop().unwrap();
        let own_group = id(&create(&world.red, "security-groups", json!({"security_group": {"name": "g"}})).await);
        let tries: [(&str, String, Value, u16); 11] = [
            ("post", "ports".into(), json!({"port": {"network_id": network}}), 404),
            ("post", "subnets".into(), json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.7.0.0/24"}}), 404),
            ("post", "ports".into(), json!({"port": {"network_id": own, "security_groups": [group]}}), 404),
            ("post", "ports".into(), json!({"port": {"network_id": own, "project_id": "blue"}}), 403),
            ("post", "ports".into(), json!({"port": {"network_id": world.public, "fixed_ips": [{"ip_address": "172.24.4.66"}]}}), 403),
            ("put", format!("routers/{own_router}/add_router_interface"), json!({"subnet_id": subnet}), 404),
            ("put", format!("routers/{own_router}/add_router_interface"), json!({"port_id": port}), 404),
            ("put", format!("routers/{router}/remove_router_interface"), json!({"subnet_id": subnet}), 404),
            ("post", "floatingips".into(), json!({"floatingip": {"floating_network_id": world.public, "port_id": port}}), 404),
            ("post", "security-group-rules".into(), json!({"security_group_rule": {"security_group_id": group, "direction": "ingress"}}), 404),
            (
                "post",
                "security-group-rules".into(),
                json!({"security_group_rule": {"security_group_id": own_group, "direction": "ingress", "remote_group_id": group}}),
                404,
            ),
        ];
        for (verb, rest, body, status) in tries {
            let reply = match verb {
                "post" => world.red.post(&path(&rest), body.clone()).await,
                _ => world.red.put(&path(&rest), body.clone()).await,
            };
            assert_eq!(reply.status.as_u16(), status, "{verb} {rest} {body}: {}", reply.json);
        }
        // What is visible but not one's own: forbidden, not hidden.
        let public = path(&format!("networks/{}", world.public));
        world.red.get(&public).await.expect(200);
        world.red.delete(&public).await.expect(403);
        world.red.put(&public, json!({"network": {"name": "mine"}})).await.expect(403);
        // Its subnets are the operator's.
        let of_public = format!("subnets?network_id={}", world.public);
        assert!(ids(&world.red, &of_public).await.is_empty());
        let subnet = path(&format!("subnets/{}", ids(&world.admin, &of_public).await[0]));
        world.red.get(&subnet).await.expect(404);
        world.red.delete(&subnet).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn shared_networks_are_everybodys() {
    in_a_cloud(|world| async move {
        let network = id(&create(&world.admin, "networks", json!({"network": {"shared": true}})).await);
        let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"}});
        let subnet = id(&create(&world.admin, "subnets", body).await);
        world.red.get(&path(&format!("subnets/{subnet}"))).await.expect(200);
        let port = world.port(&world.red, &network).await;
        assert_eq!(port["project_id"], "red");
        let chosen = json!({"port": {"network_id": network, "fixed_ips": [{"subnet_id": subnet}]}});
        create(&world.red, "ports", chosen).await;
        for forbidden in [
            json!({"fixed_ips": [{"ip_address": "10.0.0.99"}]}),
            json!({"mac_address": "fa:16:3e:00:00:01"}),
            json!({"port_security_enabled": false}),
            json!({"device_owner": "network:dhcp"}),
        ] {
            let mut body = forbidden;
            body["network_id"] = json!(network);
            world.red.post(&path("ports"), json!({ "port": body })).await.expect(403);
        }
        assert!(ids(&world.blue, "ports").await.is_empty(), "others' ports on it are not shared");
        let unshare = json!({"network": {"shared": false}});
        let refused = world.admin.put(&path(&format!("networks/{network}")), unshare).await.expect(409);
        assert_eq!(fault(&refused), "InvalidSharedSetting");
    })
    .await;
}

#[tokio::test]
async fn same_ranges_do_not_meet() {
    in_a_cloud(|world| async move {
        let (_, _, blue) = world.connected(&world.blue).await;
        let (_, _, red) = world.connected(&world.red).await;
        world.settle().await;
        let router = |id: &str| world.fake.router(&id.into()).unwrap();
        let (blue, red) = (router(&blue), router(&red));
        assert_eq!(blue.interfaces[0].addresses, red.interfaces[0].addresses);
        assert_ne!(blue.interfaces[0].network_id, red.interfaces[0].network_id);
        assert_ne!(blue.gateway.unwrap().addresses, red.gateway.unwrap().addresses);
    })
    .await;
}
