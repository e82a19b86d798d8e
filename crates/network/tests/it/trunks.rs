//! Trunks and their subports; ports of floating IPs.

use drivers::network::{Forward, Leads, Northbound as _};
use serde_json::json;

use crate::{create, fault, id, in_a_cloud, path, show};

#[tokio::test]
async fn a_trunk_carries_ports() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let ports = [world.port(&world.blue, &network).await, world.port(&world.blue, &network).await];
        let (parent, child) = (id(&ports[0]), id(&ports[1]));
        let subport = |tag: i64| json!({"port_id": child, "segmentation_type": "vlan", "segmentation_id": tag});
        let body = json!({"trunk": {"name": "t", "port_id": parent, "sub_ports": [subport(101)]}});
        let trunk = create(&world.blue, "trunks", body.clone()).await;
        assert_eq!((&trunk["sub_ports"], &trunk["status"]), (&json!([subport(101)]), &json!("DOWN")));
        assert_eq!(fault(&world.blue.post(&path("trunks"), body).await.expect(409)), "ParentPortInUse");
        world.settle().await;
        let carrier = || world.fake.port(&child.as_str().into()).unwrap().carrier;
        assert_eq!(carrier(), Some((parent.as_str().into(), 101)));
        let shown = show(&world.blue, &format!("ports/{parent}")).await;
        assert_eq!(shown["trunk_details"]["sub_ports"][0]["mac_address"], ports[1]["mac_address"]);
        assert_eq!(show(&world.blue, &format!("ports/{child}")).await["device_owner"], "trunk:subport");
        // What its host reports of the parent holds for the subports too.
        let mut tx = world.db.begin().await.unwrap();
        store::network::ports::set_active(&mut tx, &parent.as_str().into(), true).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(show(&world.blue, &format!("ports/{child}")).await["status"], "ACTIVE");
        let at = path(&format!("trunks/{}", id(&trunk)));
        for used in [&parent, &child] {
            assert_eq!(
                fault(&world.blue.delete(&path(&format!("ports/{used}"))).await.expect(409)),
                "PortInUseAsTrunkParent"
            );
        }
        let third = id(&world.port(&world.blue, &network).await);
        let add =
            |tag: i64| json!({"sub_ports": [{"port_id": third, "segmentation_type": "vlan", "segmentation_id": tag}]});
        assert_eq!(
            fault(&world.blue.put(&format!("{at}/add_subports"), add(101)).await.expect(400)),
            "DuplicateSubPort"
        );
        world.blue.put(&format!("{at}/add_subports"), add(4095)).await.expect(400);
        let two = world.blue.put(&format!("{at}/add_subports"), add(102)).await.expect(200).json;
        assert_eq!(two["sub_ports"].as_array().unwrap().len(), 2);
        let remove = json!({"sub_ports": [{"port_id": child}]});
        world.blue.put(&format!("{at}/remove_subports"), remove.clone()).await.expect(200);
        assert_eq!(
            fault(&world.blue.put(&format!("{at}/remove_subports"), remove).await.expect(404)),
            "SubPortNotFound"
        );
        world.settle().await;
        assert_eq!(carrier(), None);
        let left = world.blue.get(&format!("{at}/get_subports")).await.expect(200).json;
        assert_eq!(left["sub_ports"].as_array().unwrap().len(), 1);
        world.blue.put(&at, json!({"trunk": {"admin_state_up": false}})).await.expect(200);
        assert_eq!(fault(&world.blue.put(&format!("{at}/add_subports"), add(103)).await.expect(409)), "TrunkDisabled");
        world.red.get(&at).await.expect(404);
        world.red.put(&at, json!({"trunk": {"name": "x"}})).await.expect(404);
        world.red.get(&format!("{at}/get_subports")).await.expect(404);
        world.red.put(&format!("{at}/add_subports"), add(103)).await.expect(404);
        world.red.put(&format!("{at}/remove_subports"), add(103)).await.expect(404);
        world.red.delete(&at).await.expect(404);
        world.blue.delete(&at).await.expect(204);
        world.blue.delete(&path(&format!("ports/{parent}"))).await.expect(204);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn single_ports_of_a_floating_ip_lead_to_guests() {
    in_a_cloud(|world| async move {
        let (network, subnet, router) = world.connected(&world.blue).await;
        let port = world.port(&world.blue, &network).await;
        let inside = port["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned();
        let body = json!({"floatingip": {"floating_network_id": world.public}});
        let floating_ip = id(&create(&world.blue, "floatingips", body).await);
        let at = format!("floatingips/{floating_ip}/port_forwardings");
        let body = |outside: u16| {
            json!({"port_forwarding": {"protocol": "tcp", "external_port": outside, "internal_port": 22,
            "internal_port_id": port["id"]}})
        };
        let made = create(&world.blue, &at, body(2222)).await;
        assert_eq!((&made["internal_ip_address"], &made["external_port_range"]), (&json!(inside), &json!("2222:2222")));
        assert_eq!(fault(&world.blue.post(&path(&at), body(2222)).await.expect(409)), "DuplicatePortForwarding");
        world.settle().await;
        let shown = show(&world.blue, &format!("floatingips/{floating_ip}")).await;
        assert_eq!((&shown["status"], &shown["router_id"]), (&json!("ACTIVE"), &json!(router)));
        assert_eq!(shown["port_forwardings"][0]["external_port"], 2222);
        assert!(matches!(world.fake.inventory().await, Ok(all) if all.iter().any(|o| o.nacre_id == floating_ip)));
        let forward = Forward { udp: false, external_port: 2222, address: inside.parse().unwrap(), port: 22 };
        assert_eq!(world.fake.floating_ip(&floating_ip.as_str().into()).unwrap().leads, Leads::Forwards(vec![forward]));
        assert_eq!(world.doctor().await, Vec::<String>::new());
        // As a whole it leads nowhere meanwhile, and what it goes through stays.
        let whole = json!({"floatingip": {"port_id": port["id"]}});
        let refused = world.blue.put(&path(&format!("floatingips/{floating_ip}")), whole.clone()).await.expect(409);
        assert_eq!(fault(&refused), "FipInUseByPortForwarding");
        let remove = path(&format!("routers/{router}/remove_router_interface"));
        let refused = world.blue.put(&remove, json!({"subnet_id": subnet})).await.expect(409);
        assert_eq!(fault(&refused), "RouterInterfaceInUseByFloatingIP");
        let one = path(&format!("{at}/{}", id(&made)));
        let changed = json!({"port_forwarding": {"internal_port": 80, "description": "d"}});
        assert_eq!(
            world.blue.put(&one, changed.clone()).await.expect(200).json["port_forwarding"]["internal_port"],
            80
        );
        world.blue.put(&one, json!({"port_forwarding": {"external_port": 0}})).await.expect(400);
        world.blue.post(&path(&at), json!({"port_forwarding": {"protocol": "icmp"}})).await.expect(400);
        world.red.get(&path(&at)).await.expect(404);
        world.red.get(&one).await.expect(404);
        world.red.post(&path(&at), body(2223)).await.expect(404);
        world.red.put(&one, changed).await.expect(404);
        world.red.delete(&one).await.expect(404);
        // They go with the port.
        world.blue.delete(&path(&format!("ports/{}", id(&port)))).await.expect(204);
        world.blue.get(&one).await.expect(404);
        world.settle().await;
        assert_eq!(show(&world.blue, &format!("floatingips/{floating_ip}")).await["router_id"], json!(null));
        let other = world.port(&world.blue, &network).await;
        let whole = json!({"floatingip": {"port_id": other["id"]}});
        world.blue.put(&path(&format!("floatingips/{floating_ip}")), whole).await.expect(200);
        let mut body = body(2222);
        body["port_forwarding"]["internal_port_id"] = other["id"].clone();
        assert_eq!(fault(&world.blue.post(&path(&at), body).await.expect(409)), "FloatingIPInUse");
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}
