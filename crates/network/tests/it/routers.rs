//! Routers: gateways, interfaces, routes.

use serde_json::{Value, json};

use crate::{create, fault, id, ids, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn a_routers_life() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let at = format!("routers/{router}");
        let shown = show(&world.blue, &at).await;
        assert_eq!(shown["external_gateway_info"]["network_id"], json!(world.public));
        assert_eq!(shown["external_gateway_info"]["external_fixed_ips"][0]["ip_address"], "172.24.4.10");
        assert_eq!(
            (&shown["external_gateway_info"]["enable_snat"], &shown["status"]),
            (&json!(true), &json!("ACTIVE"))
        );
        world.settle().await;
        let spec = world.fake.router(&router.as_str().into()).unwrap();
        assert_eq!(spec.interfaces[0].addresses, ["10.0.0.1/24".parse().unwrap()]);
        let gateway = spec.gateway.unwrap();
        assert_eq!(gateway.addresses, ["172.24.4.10/24".parse().unwrap()]);
        assert_eq!(gateway.next_hops, ["172.24.4.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((spec.snat_cidrs.len(), gateway.snat), (1, true));
        let interface = ids(&world.blue, &format!("ports?device_id={router}")).await;
        assert_eq!(interface.len(), 1, "the gateway belongs to nobody");
        assert_eq!(show(&world.blue, &format!("ports/{}", interface[0])).await["status"], "ACTIVE");
        assert_eq!(ids(&world.admin, &format!("ports?device_id={router}")).await.len(), 2);

        for (target, code) in [
            (format!("routers/{router}"), "RouterInUse"),
            (format!("subnets/{subnet}"), "SubnetInUse"),
            (format!("networks/{network}"), "NetworkInUse"),
            (format!("ports/{}", interface[0]), "ServicePortInUse"),
        ] {
            assert_eq!(fault(&world.blue.delete(&path(&target)).await.expect(409)), code);
        }
        let gone = json!({"subnet": {"gateway_ip": null}});
        assert_eq!(
            fault(&world.blue.put(&path(&format!("subnets/{subnet}")), gone).await.expect(409)),
            "GatewayIpInUse"
        );
        let removed =
            world.blue.put(&path(&format!("{at}/remove_router_interface")), json!({"subnet_id": subnet})).await;
        assert_eq!(removed.expect(200).json["port_id"], json!(interface[0]));
        world.blue.put(&path(&format!("{at}/remove_router_interface")), json!({"subnet_id": subnet})).await.expect(404);
        world.blue.delete(&path(&format!("subnets/{subnet}"))).await.expect(204);
        world.blue.delete(&path(&at)).await.expect(204);
        world.blue.delete(&path(&format!("networks/{network}"))).await.expect(204);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        assert_eq!(ids(&world.admin, "ports?device_owner=network:router_gateway").await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn interfaces_by_port_and_what_can_not_be_connected() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let add =
            async |body: Value| world.blue.put(&path(&format!("routers/{router}/add_router_interface")), body).await;
        assert_eq!(fault(&add(json!({"subnet_id": subnet})).await.expect(400)), "BadRequest");
        assert_eq!(fault(&add(json!({})).await.expect(400)), "BadRequest");
        assert_eq!(fault(&add(json!({"subnet_id": "nothing"})).await.expect(404)), "SubnetNotFound");
        // Another network with an overlapping range.
        let (_, other) = world.network(&world.blue).await;
        assert!(add(json!({"subnet_id": other})).await.expect(400).json.to_string().contains("overlaps"));

        let second = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.5.0.0/24"}});
        let second = id(&create(&world.blue, "subnets", second).await);
        let port = json!({"port": {"network_id": network, "fixed_ips": [{"subnet_id": second}]}});
        let port = id(&create(&world.blue, "ports", port).await);
        world.settle().await;
        assert!(world.fake.port(&port.as_str().into()).is_some());
        assert_eq!(add(json!({"port_id": port})).await.expect(200).json["subnet_id"], json!(second));
        world.settle().await;
        assert_eq!(world.fake.port(&port.as_str().into()), None, "it is its router's now");
        assert_eq!(world.fake.router(&router.as_str().into()).unwrap().interfaces.len(), 2);
        assert_eq!(show(&world.blue, &format!("ports/{port}")).await["status"], "ACTIVE");
        assert_eq!(fault(&add(json!({"port_id": port})).await.expect(409)), "PortInUse");
        assert_eq!(world.doctor().await, Vec::<String>::new());
        let remove = path(&format!("routers/{router}/remove_router_interface"));
        world.blue.put(&remove, json!({"port_id": port})).await.expect(200);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn gateways_and_routes() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let put = async |client: &testkit::Client, body: Value| {
            client.put(&path(&format!("routers/{router}")), json!({ "router": body })).await
        };
        let gateway = json!({"network_id": world.public, "enable_snat": false});
        put(&world.blue, json!({"external_gateway_info": gateway})).await.expect(403);
        let shown = put(&world.admin, json!({"external_gateway_info": gateway})).await.expect(200).json;
        assert_eq!(shown["router"]["external_gateway_info"]["enable_snat"], false);
        let fixed = json!({"network_id": world.public, "external_fixed_ips": [{"ip_address": "172.24.4.99"}]});
        let shown = put(&world.admin, json!({"external_gateway_info": fixed})).await.expect(200).json;
        assert_eq!(shown["router"]["external_gateway_info"]["external_fixed_ips"][0]["ip_address"], "172.24.4.99");
        world.settle().await;
        let spec = world.fake.router(&router.as_str().into()).unwrap().gateway.unwrap();
        assert_eq!((spec.snat, spec.addresses[0]), (false, "172.24.4.99/24".parse().unwrap()));
        let inner = json!({"network_id": network});
        assert_eq!(fault(&put(&world.blue, json!({"external_gateway_info": inner})).await.expect(400)), "BadRequest");

        let routes = json!([{"destination": "10.77.0.0/16", "nexthop": "10.0.0.9"}]);
        let shown = put(&world.blue, json!({"routes": routes})).await.expect(200).json;
        assert_eq!(shown["router"]["routes"], routes);
        let bad = json!({"routes": [{"destination": "10.77.0.0/16", "nexthop": "10.66.0.9"}]});
        assert_eq!(fault(&put(&world.blue, bad).await.expect(400)), "InvalidRoutes");
        let remove = path(&format!("routers/{router}/remove_router_interface"));
        let used = world.blue.put(&remove, json!({"subnet_id": subnet})).await.expect(409);
        assert_eq!(fault(&used), "RouterInterfaceInUseByRoute");
        let shown = put(&world.blue, json!({"routes": null, "external_gateway_info": {}})).await.expect(200).json;
        assert_eq!((&shown["router"]["routes"], &shown["router"]["external_gateway_info"]), (&json!([]), &Value::Null));
        world.settle().await;
        let spec = world.fake.router(&router.as_str().into()).unwrap();
        assert_eq!((spec.gateway, spec.routes.len()), (None, 0));
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn hosts_that_join_may_hold_gateways() {
    in_a_small_cloud(|world| async move {
        let (_, _, router) = world.connected(&world.blue).await;
        world.settle().await;
        let chassis = || world.fake.router(&router.as_str().into()).unwrap().gateway.unwrap().chassis;
        assert_eq!(chassis().len(), 0);
        for (name, alive) in [("c1", true), ("c2", true), ("c1", false)] {
            let mut tx = world.db.begin().await.unwrap();
            store::network::chassis::report(&mut tx, name, "host", alive).await.unwrap();
            tx.commit().await.unwrap();
        }
        world.settle().await;
        assert_eq!(chassis().len(), 2, "OVN itself moves gateways off a host that is away");
        let agents = world.admin.get(&path("agents")).await.expect(200).json;
        assert_eq!((&agents["agents"][0]["alive"], &agents["agents"][1]["alive"]), (&json!(false), &json!(true)));
        let mut tx = world.db.begin().await.unwrap();
        store::network::chassis::forget(&mut tx, "c1").await.unwrap();
        tx.commit().await.unwrap();
        world.settle().await;
        assert_eq!(chassis().iter().map(|c| c.chassis.as_str()).collect::<Vec<_>>(), ["c2"]);
    })
    .await;
}
