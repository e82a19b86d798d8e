//! Subnets: ranges, gateways, pools, DHCP and the metadata port.

use serde_json::{Value, json};

use crate::{create, fault, id, ids, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn a_subnets_life() {
    in_a_cloud(|world| async move {
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24", "name": "s",
            "dns_nameservers": ["9.9.9.9"], "host_routes": [{"destination": "10.20.0.0/16", "nexthop": "10.9.0.7"}]}});
        let subnet = create(&world.blue, "subnets", body).await;
        assert_eq!(subnet["gateway_ip"], "10.9.0.1");
        assert_eq!(subnet["allocation_pools"], json!([{"start": "10.9.0.2", "end": "10.9.0.254"}]));
        assert_eq!(show(&world.blue, &format!("networks/{network}")).await["subnets"], json!([subnet["id"]]));
        world.settle().await;
        let at = format!("subnets/{}", id(&subnet));
        let body = json!({"subnet": {"name": "t", "dns_nameservers": [], "gateway_ip": null}});
        let updated = world.blue.put(&path(&at), body).await.expect(200).json;
        assert_eq!((&updated["subnet"]["name"], &updated["subnet"]["gateway_ip"]), (&json!("t"), &Value::Null));
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        world.blue.delete(&path(&at)).await.expect(204);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        world.blue.get(&path(&at)).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn what_a_subnet_may_not_be() {
    in_a_small_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        for (body, status, code) in [
            (json!({"cidr": "10.0.0.128/25", "ip_version": 4}), 400, "InvalidInput"),
            (json!({"cidr": "10.1.0.0/24", "ip_version": 6}), 400, "InvalidInput"),
            (json!({"cidr": "2001:db8::/64", "ip_version": 6, "ipv6_ra_mode": "magic"}), 400, "HTTPBadRequest"),
            (json!({"cidr": "2001:db8::/80", "ip_version": 6, "ipv6_address_mode": "slaac"}), 400, "InvalidInput"),
            (
                json!({"cidr": "2001:db8::/64", "ip_version": 6, "ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"}),
                400,
                "InvalidInput",
            ),
            (
                json!({"cidr": "2001:db8::/64", "ip_version": 6, "ipv6_ra_mode": "slaac", "enable_dhcp": false}),
                400,
                "InvalidInput",
            ),
            (json!({"cidr": "10.1.0.0/24", "ip_version": 4, "ipv6_ra_mode": "slaac"}), 400, "InvalidInput"),
            (json!({"cidr": "10.1.0.0/24", "ip_version": 4, "service_types": ["x"]}), 400, "InvalidSubnetServiceType"),
            (json!({"ip_version": 4}), 400, "BadRequest"),
            (json!({"cidr": "10.1.0.0/24"}), 400, "HTTPBadRequest"),
            (json!({"cidr": "nonsense", "ip_version": 4}), 400, "HTTPBadRequest"),
            (json!({"cidr": "10.1.0.0/24", "ip_version": 4, "gateway_ip": "10.1.0.255"}), 400, "InvalidInput"),
            (
                json!({"cidr": "10.1.0.0/24", "ip_version": 4, "allocation_pools": [{"start": "10.1.0.1", "end": "10.1.0.9"}]}),
                409,
                "GatewayConflictWithAllocationPools",
            ),
            (json!({"cidr": "10.1.0.0/24", "ip_version": 4, "dns_nameservers": ["x"]}), 400, "HTTPBadRequest"),
        ] {
            let mut body = body;
            body["network_id"] = json!(network);
            let reply = world.blue.post(&path("subnets"), json!({ "subnet": body })).await;
            assert_eq!((reply.status.as_u16(), fault(&reply)), (status, code), "{body}");
        }
        let overlap = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/16"}});
        let reply = world.blue.post(&path("subnets"), overlap).await.expect(400);
        let message = reply.json["NeutronError"]["message"].as_str().unwrap();
        assert!(message.contains("overlaps with another subnet"), "tempest looks for it: {message}");
    })
    .await;
}

#[tokio::test]
async fn the_metadata_port_follows_dhcp() {
    in_a_cloud(|world| async move {
        let (network, subnet) = world.network(&world.blue).await;
        let ports = format!("ports?network_id={network}&device_owner=network:distributed");
        let port = ids(&world.blue, &ports).await.pop().unwrap();
        let shown = show(&world.blue, &format!("ports/{port}")).await;
        assert_eq!(shown["fixed_ips"][0]["ip_address"], "10.0.0.2");
        world.settle().await;
        // One port for all subnets of the network.
        let second = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24"}});
        let second = id(&create(&world.blue, "subnets", second).await);
        assert_eq!(show(&world.blue, &format!("ports/{port}")).await["fixed_ips"].as_array().unwrap().len(), 2);
        // Without DHCP no address; deleted likewise.
        let off = json!({"subnet": {"enable_dhcp": false}});
        world.blue.put(&path(&format!("subnets/{subnet}")), off).await.expect(200);
        world.blue.delete(&path(&format!("subnets/{second}"))).await.expect(204);
        assert_eq!(show(&world.blue, &format!("ports/{port}")).await["fixed_ips"], json!([]));
        let refused = world.blue.delete(&path(&format!("ports/{port}"))).await.expect(409);
        assert_eq!(fault(&refused), "ServicePortInUse");
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
