//! Floating IPs: where they come from and where they lead.

use serde_json::{Value, json};

use crate::{create, fault, id, ids, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn a_floating_ips_life() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let (one, two) = (id(&world.port(&world.blue, &network).await), world.port(&world.blue, &network).await);
        let body = json!({"floatingip": {"floating_network_id": world.public, "port_id": one}});
        let made = create(&world.blue, "floatingips", body).await;
        let at = format!("floatingips/{}", id(&made));
        assert_eq!(
            (&made["port_id"], &made["router_id"], &made["status"]),
            (&json!(one), &json!(router), &json!("DOWN"))
        );
        assert_eq!(made["floating_ip_address"], "172.24.4.11", "the router has the first");
        assert_eq!(made["port_details"]["network_id"], json!(network));
        world.settle().await;
        assert_eq!(show(&world.blue, &at).await["status"], "ACTIVE");
        assert_eq!(world.doctor().await, Vec::<String>::new());

        let body = json!({"floatingip": {"floating_network_id": world.public, "port_id": one}});
        assert_eq!(
            fault(&world.blue.post(&path("floatingips"), body).await.expect(409)),
            "FloatingIPPortAlreadyAssociated"
        );
        let moved = world.blue.put(&path(&at), json!({"floatingip": {"port_id": two["id"]}})).await.expect(200).json;
        assert_eq!(moved["floatingip"]["fixed_ip_address"], two["fixed_ips"][0]["ip_address"]);
        world.settle().await;
        let remove = path(&format!("routers/{router}/remove_router_interface"));
        let refused = world.blue.put(&remove, json!({"subnet_id": subnet})).await.expect(409);
        assert_eq!(fault(&refused), "RouterInterfaceInUseByFloatingIP");
        let clear = json!({"router": {"external_gateway_info": null}});
        let refused = world.blue.put(&path(&format!("routers/{router}")), clear).await.expect(409);
        assert_eq!(fault(&refused), "RouterExternalGatewayInUseByFloatingIp");
        assert_eq!(ids(&world.blue, &format!("floatingips?port_id={}", id(&two))).await.len(), 1);

        // The port goes, the floating IP stays.
        world.blue.delete(&path(&format!("ports/{}", id(&two)))).await.expect(204);
        let shown = show(&world.blue, &at).await;
        assert_eq!(
            (&shown["port_id"], &shown["router_id"], &shown["fixed_ip_address"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        world.settle().await;
        assert_eq!(show(&world.blue, &at).await["status"], "DOWN");
        world.blue.put(&path(&at), json!({"floatingip": {"port_id": one}})).await.expect(200);
        world.blue.put(&path(&at), json!({"floatingip": {"port_id": null}})).await.expect(200);
        world.blue.delete(&path(&at)).await.expect(204);
        world.blue.get(&path(&at)).await.expect(404);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        assert_eq!(ids(&world.admin, "ports?device_owner=network:floatingip").await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_can_not_be() {
    in_a_small_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let port = id(&world.port(&world.blue, &network).await);
        let post = async |client: &testkit::Client, body: Value| {
            let reply = client.post(&path("floatingips"), json!({ "floatingip": body })).await;
            (reply.status.as_u16(), reply.json["NeutronError"]["type"].as_str().unwrap_or("-").to_owned())
        };
        let public = &world.public;
        for (body, status, code) in [
            (json!({"floating_network_id": public, "port_id": port}), 404, "ExternalGatewayForFloatingIPNotFound"),
            (json!({"floating_network_id": network}), 400, "BadRequest"),
            (json!({"floating_network_id": "nothing"}), 404, "NetworkNotFound"),
            (json!({}), 400, "HTTPBadRequest"),
            (json!({"floating_network_id": public, "port_id": "nothing"}), 404, "PortNotFound"),
            (json!({"floating_network_id": public, "fixed_ip_address": "10.0.0.9"}), 400, "BadRequest"),
            (json!({"floating_network_id": public, "floating_ip_address": "172.24.4.200"}), 403, "PolicyNotAuthorized"),
        ] {
            assert_eq!(post(&world.blue, body.clone()).await, (status, code.to_owned()), "{body}");
        }
        let certain = json!({"floating_network_id": public, "floating_ip_address": "172.24.4.200"});
        assert_eq!(post(&world.admin, certain.clone()).await.0, 201);
        assert_eq!(post(&world.admin, certain).await, (409, "IpAddressAlreadyAllocated".into()));
        // A refused request leaves nothing behind.
        assert_eq!(ids(&world.admin, "floatingips").await.len(), 1);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn an_external_network_takes_its_unused_floating_ips_with_it() {
    in_a_cloud(|world| async move {
        let network = id(&create(&world.admin, "networks", json!({"network": {"router:external": true}})).await);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.100.0.0/28"}});
        create(&world.admin, "subnets", subnet).await;
        let floating = json!({"floatingip": {"floating_network_id": network}});
        let floating = id(&create(&world.blue, "floatingips", floating).await);
        world.admin.delete(&path(&format!("networks/{network}"))).await.expect(204);
        world.blue.get(&path(&format!("floatingips/{floating}"))).await.expect(404);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
