//! What the compute service uses of `store::network`.

use model::id::ProjectId;
use store::network::{floating_ips, networks, ports};

use crate::{id, in_a_cloud, path};
use serde_json::json;

#[tokio::test]
async fn automatic_networks() {
    in_a_cloud(|world| async move {
        let project = ProjectId::new("green");
        let mut made = Vec::new();
        for _ in 0..2 {
            let mut tx = world.db.begin().await.unwrap();
            made.push(networks::auto_allocate(&mut tx, &project).await.unwrap());
            tx.commit().await.unwrap();
        }
        assert_eq!(made[0], made[1]);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        let mut conn = world.db.read().await.unwrap();
        let usable = networks::usable_by(&mut conn, &project).await.unwrap();
        assert_eq!(usable.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["auto_allocated_network"]);
    })
    .await;
}

#[tokio::test]
async fn a_servers_ports_and_floating_ips() {
    in_a_cloud(|world| async move {
        let (network, _, _) = world.connected(&world.blue).await;
        let project = ProjectId::new("blue");
        let mut tx = world.db.begin().await.unwrap();
        let new = ports::NewPort {
            device_id: "server-1".into(),
            device_owner: "compute:nova".into(),
            host: "host-1".into(),
            ..ports::NewPort::new(&project, &network.as_str().into())
        };
        let port = ports::create(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!port.is_realized());
        world.settle().await;
        let body = json!({"floatingip": {"floating_network_id": world.public, "port_id": port.id}});
        let floating = id(&crate::create(&world.blue, "floatingips", body).await);
        let mut conn = world.db.read().await.unwrap();
        let found = ports::of_devices(&mut conn, &["server-1", "server-2"]).await.unwrap();
        assert_eq!((found.len(), found[0].is_realized()), (1, true));
        let floating_ips = floating_ips::of_ports(&mut conn, &[&port.id]).await.unwrap();
        assert_eq!(floating_ips[0].id.as_str(), floating);
        drop(conn);
        let mut tx = world.db.begin().await.unwrap();
        ports::delete(&mut tx, &port.id).await.unwrap();
        ports::delete(&mut tx, &port.id).await.unwrap();
        tx.commit().await.unwrap();
        world.settle().await;
        world.blue.get(&path(&format!("ports/{}", port.id))).await.expect(404);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

/// Two requests at the same time never get the same address, and what fails leaves nothing.
#[tokio::test]
async fn concurrent_ports() {
    testkit::for_each_db(model::Clock::system, |db| async {
        let world = crate::World::new(db).await;
        let (network, _) = world.network(&world.blue).await;
        let requests = (0..24).map(|_| {
            let (client, network) = (world.blue.clone(), network.clone());
            tokio::spawn(async move { crate::create(&client, "ports", json!({"port": {"network_id": network}})).await })
        });
        let mut addresses = std::collections::BTreeSet::new();
        for made in requests.collect::<Vec<_>>() {
            let port = made.await.unwrap();
            assert!(addresses.insert(port["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned()));
        }
        assert_eq!(addresses.len(), 24);
        assert_eq!(world.doctor().await.iter().filter(|f| f.contains("quota")).count(), 0);
    })
    .await;
}
