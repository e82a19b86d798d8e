//! Ports: addresses, MACs, security, what others may do with them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use store::network::ports;

use crate::{create, fault, id, ids, in_a_cloud, in_a_small_cloud, path, show};

#[tokio::test]
async fn a_ports_life() {
    in_a_cloud(|world| async move {
        let (network, subnet) = world.network(&world.blue).await;
        let port = create(&world.blue, "ports", json!({"port": {"network_id": network, "name": "p"}})).await;
        assert_eq!(port["fixed_ips"], json!([{"subnet_id": subnet, "ip_address": "10.0.0.3"}]));
        assert_eq!(
            (&port["status"], &port["device_owner"], &port["admin_state_up"]),
            (&json!("DOWN"), &json!(""), &json!(true))
        );
        assert!(port["mac_address"].as_str().unwrap().starts_with("fa:16:3e:"));
        assert_eq!(port["security_groups"].as_array().unwrap().len(), 1, "the default group");
        assert!(port.get("binding:host_id").is_none(), "an administrator's");
        let at = format!("ports/{}", id(&port));
        assert_eq!(show(&world.admin, &at).await["binding:vif_type"], "unbound");
        world.settle().await;
        let spec = world.fake.port(&id(&port).as_str().into()).unwrap();
        assert_eq!((spec.ips.len(), spec.dhcp.len(), spec.security_groups.len(), spec.port_security), (1, 1, 1, true));
        let body = json!({"port": {"name": "q", "admin_state_up": false, "security_groups": [],
            "fixed_ips": [{"subnet_id": subnet}, {"ip_address": "10.0.0.77"}]}});
        let updated = world.blue.put(&path(&at), body).await.expect(200).json["port"].clone();
        let addresses: BTreeSet<&str> =
            updated["fixed_ips"].as_array().unwrap().iter().map(|ip| ip["ip_address"].as_str().unwrap()).collect();
        assert_eq!(addresses, BTreeSet::from(["10.0.0.3", "10.0.0.77"]), "one by its subnet is kept");
        assert_eq!((&updated["name"], &updated["security_groups"]), (&json!("q"), &json!([])));
        world.settle().await;
        assert!(!world.fake.port(&id(&port).as_str().into()).unwrap().admin_up);
        world.blue.delete(&path(&at)).await.expect(204);
        world.blue.get(&path(&at)).await.expect(404);
        world.settle().await;
        assert_eq!(world.fake.port(&id(&port).as_str().into()), None);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn addresses() {
    in_a_cloud(|world| async move {
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        let body =
            json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/29", "enable_dhcp": false}});
        let subnet = id(&create(&world.blue, "subnets", body).await);
        let post = async |fixed: Value| {
            let body = json!({"port": {"network_id": network, "fixed_ips": fixed}});
            world.blue.post(&path("ports"), body).await
        };
        for (fixed, status, code) in [
            (json!([{"ip_address": "10.9.0.3"}]), 400, "InvalidIpForNetwork"),
            (json!([{"ip_address": "10.0.0.7"}]), 400, "InvalidIpForSubnet"),
            (json!([{"subnet_id": "nothing"}]), 400, "InvalidInput"),
            (json!([{}]), 400, "InvalidInput"),
            (json!([{"ip_address": "10.0.0.3"}, {"ip_address": "10.0.0.3"}]), 409, "IpAddressAlreadyAllocated"),
        ] {
            let reply = post(fixed.clone()).await;
            assert_eq!((reply.status.as_u16(), fault(&reply)), (status, code), "{fixed}");
        }
        let none = post(json!([])).await.expect(201).json["port"].clone();
        assert_eq!(none["fixed_ips"], json!([]));
        let certain = post(json!([{"ip_address": "10.0.0.3"}])).await.expect(201).json["port"].clone();
        assert_eq!(certain["fixed_ips"][0]["subnet_id"], json!(subnet));
        // 10.0.0.2, .4, .5, .6 are left.
        let mut taken = BTreeSet::new();
        for _ in 0..4 {
            let port = world.port(&world.blue, &network).await;
            taken.insert(port["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned());
        }
        assert_eq!(taken, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(str::to_owned).into());
        let full = world.blue.post(&path("ports"), json!({"port": {"network_id": network}})).await.expect(409);
        assert_eq!(fault(&full), "IpAddressGenerationFailure");
        // What is given back can be had again.
        world.blue.delete(&path(&format!("ports/{}", id(&certain)))).await.expect(204);
        assert_eq!(world.port(&world.blue, &network).await["fixed_ips"][0]["ip_address"], "10.0.0.3");
        let found = ids(&world.blue, "ports?fixed_ips=ip_address%3D10.0.0.3").await;
        assert_eq!(found.len(), 1);
        assert_eq!(ids(&world.blue, &format!("ports?fixed_ips=subnet_id%3D{subnet}")).await.len(), 5);
        assert_eq!(world.doctor().await.iter().filter(|f| f.contains("quota")).count(), 0);
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_addresses_are_found_in_one_search_each() {
    in_a_cloud(|world| async move {
        use store::network::{networks, networks::NewNetwork, ports::NewPort, subnets, subnets::NewSubnet};
        let project = model::id::ProjectId::new("big");
        let mut tx = world.db.begin().await.unwrap();
        store::quotas::set_limit(&mut tx, &project, "port", -1).await.unwrap();
        let network = networks::create(&mut tx, &NewNetwork::new(&project, "big")).await.unwrap();
        let subnet = NewSubnet::new(&network, "big", "10.0.0.0/16".parse().unwrap());
        subnets::create(&mut tx, &subnet).await.unwrap();
        let group = store::network::security_groups::ensure_default(&mut tx, &project).await.unwrap();
        let mut seen = BTreeSet::new();
        // Enough that a search which reads all of them would show; not enough to slow the suite.
        for _ in 0..500 {
            let new = NewPort { security_groups: Some(vec![group.clone()]), ..NewPort::new(&project, &network.id) };
            let port = ports::create(&mut tx, &new).await.unwrap();
            assert!(seen.insert(port.fixed_ips[0].ip), "given twice");
        }
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn macs_and_pairs() {
    in_a_small_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let body = json!({"port": {"network_id": network, "mac_address": "fa:16:3e:00:00:09",
            "allowed_address_pairs": [{"ip_address": "10.0.0.200"}]}});
        let port = create(&world.blue, "ports", body.clone()).await;
        assert_eq!(
            port["allowed_address_pairs"],
            json!([{"mac_address": "fa:16:3e:00:00:09", "ip_address": "10.0.0.200"}])
        );
        assert_eq!(fault(&world.blue.post(&path("ports"), body).await.expect(409)), "MacAddressInUse");
        for (body, status, code) in [
            (json!({"mac_address": "nonsense"}), 400, "HTTPBadRequest"),
            (json!({"port_security_enabled": false, "security_groups": ["x"]}), 404, "SecurityGroupNotFound"),
            (
                json!({"port_security_enabled": false, "allowed_address_pairs": [{"ip_address": "10.0.0.9"}]}),
                409,
                "AddressPairAndPortSecurityRequired",
            ),
            (json!({"security_groups": ["nothing"]}), 404, "SecurityGroupNotFound"),
            (json!({"binding:vnic_type": "direct"}), 400, "InvalidInput"),
            (json!({"binding:host_id": "somewhere"}), 403, "PolicyNotAuthorized"),
        ] {
            let mut body = body;
            body["network_id"] = json!(network);
            let reply = world.blue.post(&path("ports"), json!({ "port": body })).await;
            assert_eq!((reply.status.as_u16(), fault(&reply)), (status, code), "{body}");
        }
        let at = path(&format!("ports/{}", id(&port)));
        let reply =
            world.blue.put(&at, json!({"port": {"port_security_enabled": false, "allowed_address_pairs": []}})).await;
        assert_eq!(fault(&reply.expect(409)), "PortSecurityPortHasSecurityGroup");
        let body =
            json!({"port": {"port_security_enabled": false, "allowed_address_pairs": [], "security_groups": []}});
        world.blue.put(&at, body).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn active_when_its_host_says_so() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let port = id(&world.port(&world.blue, &network).await);
        world.settle().await;
        let mut tx = world.db.begin().await.unwrap();
        flow::insert(&mut tx, "server", "server", "wait", None).await.unwrap();
        ports::bind(&mut tx, &port.as_str().into(), "host-1", "server", "compute:nova").await.unwrap();
        let other = ports::bind(&mut tx, &port.as_str().into(), "host-1", "another", "compute:nova").await;
        assert_eq!(other.unwrap_err().code, "PortInUse");
        tx.commit().await.unwrap();
        world.settle().await;
        let shown = show(&world.admin, &format!("ports/{port}")).await;
        assert_eq!(
            (&shown["status"], &shown["binding:host_id"], &shown["binding:vif_type"]),
            (&json!("DOWN"), &json!("host-1"), &json!("ovs"))
        );
        let woken = world.db.flow("server").await.unwrap().unwrap().wakes;
        assert!(woken > 0, "the server hears that its port is in OVN");
        for (active, status) in [(true, "ACTIVE"), (true, "ACTIVE"), (false, "DOWN"), (true, "ACTIVE")] {
            let mut tx = world.db.begin().await.unwrap();
            ports::set_active(&mut tx, &port.as_str().into(), active).await.unwrap();
            tx.commit().await.unwrap();
            world.settle().await;
            assert_eq!(show(&world.blue, &format!("ports/{port}")).await["status"], status);
        }
        assert_eq!(world.db.flow("server").await.unwrap().unwrap().wakes, woken + 3, "once for each change");
        let mut tx = world.db.begin().await.unwrap();
        ports::unbind(&mut tx, &port.as_str().into()).await.unwrap();
        tx.commit().await.unwrap();
        let shown = show(&world.admin, &format!("ports/{port}")).await;
        assert_eq!(
            (&shown["status"], &shown["device_id"], &shown["binding:host_id"]),
            (&json!("DOWN"), &json!(""), &json!(""))
        );
    })
    .await;
}
