//! What every `ChassisPorts` must do, with the `Northbound` it belongs to.

use std::time::Duration;

use drivers::network::{
    ChassisPorts, MetadataSpec, Northbound, PlugSpec, PortInstalled, PortSpec, PortUp, fake::FakeNetwork, tap_name,
};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::{
    lab::{CHASSIS, Lab, PATIENCE, in_lab, run},
    things,
};

#[tokio::test]
async fn fake_conforms() {
    let fake = FakeNetwork::default();
    ports_come_up_and_go_down(&fake, &fake.chassis(CHASSIS)).await;
    metadata_has_its_place(&fake, &fake.chassis(CHASSIS), 0).await;
}

#[test]
fn ovs_conforms() {
    in_lab(|Lab { ovn, ovs, .. }| async move {
        ports_come_up_and_go_down(&ovn, &ovs).await;
        assert_eq!(run("ip", &["-o", "link", "show", "type", "tun"]).matches("tap").count(), 0, "no tap is left");
        strays_are_found(&ovn, &ovs).await;
        metadata_has_its_place(&ovn, &ovs, 80).await;
        assert_eq!(run("ip", &["-o", "link", "show", "type", "veth"]), "", "no veth is left");
        assert_eq!(run("ip", &["netns", "list"]), "", "no namespace is left");
    });
}

async fn strays_are_found(north: &dyn Northbound, chassis: &dyn ChassisPorts) {
    let net = things::network();
    let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
    let (plugged, stray) = (things::port(&net, &subnet, "10.0.0.5", &[]), tap_name(&model::id::PortId::random()));
    chassis.ensure_port_plugged(&plug(&plugged)).await.unwrap();
    run("ip", &["tuntap", "add", &stray, "mode", "tap"]);
    run("ip", &["tuntap", "add", "tap0", "mode", "tap"]);
    assert_eq!(chassis.list_strays().await.unwrap(), [stray.as_str()], "neither the plugged one nor somebody else's");
    for device in [stray.as_str(), "tap0", &tap_name(&plugged.id)] {
        chassis.remove_stray(device).await.unwrap();
    }
    assert!(chassis.list_strays().await.unwrap().is_empty());
    run("ip", &["link", "del", "tap0"]);
    assert_eq!(chassis.list().await.unwrap().len(), 1);
    chassis.remove_port_plugged(&plugged.id).await.unwrap();
    north.remove_network(&net.id).await.unwrap();
}

fn plug(port: &PortSpec) -> PlugSpec {
    PlugSpec {
        port_id: port.id.clone(),
        tap: tap_name(&port.id),
        mac: port.mac,
        mtu: things::MTU,
        owner_uid: Some(65_534),
    }
}

/// The next item that satisfies; items before it are passed over.
pub async fn next<T: std::fmt::Debug>(stream: &mut (impl Stream<Item = T> + Unpin), wanted: impl Fn(&T) -> bool) -> T {
    let found = async {
        while let Some(item) = stream.next().await {
            if wanted(&item) {
                return item;
            }
        }
        panic!("the stream ended");
    };
    timeout(PATIENCE, found).await.expect("it did not come")
}

async fn ports_come_up_and_go_down(north: &dyn Northbound, chassis: &dyn ChassisPorts) {
    let (mut installed, mut ups) = (chassis.watch_installed(), north.watch_ports());
    let net = things::network();
    let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
    let port = things::port(&net, &subnet, "10.0.0.5", &[]);
    let spec = plug(&port);
    // Plugged before the control plane knows of it: not yet installed.
    chassis.ensure_port_plugged(&spec).await.unwrap();
    chassis.ensure_port_plugged(&spec).await.unwrap();
    let listed = chassis.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].port_id, listed[0].tap.as_str(), listed[0].installed), (&port.id, spec.tap.as_str(), false));

    north.ensure_network(&net).await.unwrap();
    north.ensure_subnet_dhcp(&subnet).await.unwrap();
    north.ensure_port(&port).await.unwrap();
    next(&mut installed, |event: &PortInstalled| event.port_id == port.id && event.installed).await;
    next(&mut ups, |event: &PortUp| event.port_id == port.id && event.up).await;
    assert!(chassis.list().await.unwrap()[0].installed);
    // A late watcher is told too.
    next(&mut chassis.watch_installed(), |event| event.port_id == port.id && event.installed).await;
    next(&mut north.watch_ports(), |event| event.port_id == port.id && event.up).await;

    chassis.remove_port_plugged(&port.id).await.unwrap();
    chassis.remove_port_plugged(&port.id).await.unwrap();
    next(&mut installed, |event| event.port_id == port.id && !event.installed).await;
    next(&mut ups, |event| event.port_id == port.id && !event.up).await;
    assert!(chassis.list().await.unwrap().is_empty());
    north.remove_subnet_dhcp(&subnet.id).await.unwrap();
    north.remove_network(&net.id).await.unwrap();
}

async fn metadata_has_its_place(north: &dyn Northbound, chassis: &dyn ChassisPorts, tcp_port: u16) {
    let net = things::network();
    let port = things::metadata_port(&net, "10.0.0.2");
    north.ensure_network(&net).await.unwrap();
    north.ensure_port(&port).await.unwrap();
    let spec = MetadataSpec {
        network_id: net.id.clone(),
        port_id: port.id.clone(),
        mac: port.mac,
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        mtu: things::MTU,
    };
    assert!(chassis.metadata_listener(&net.id, tcp_port).await.is_err(), "there is no place to listen yet");
    chassis.ensure_metadata_namespace(&spec).await.unwrap();
    chassis.ensure_metadata_namespace(&spec).await.unwrap();
    assert_eq!(chassis.list_metadata_namespaces().await.unwrap(), std::slice::from_ref(&net.id));
    assert!(chassis.list().await.unwrap().is_empty(), "it is no guest's port");
    let moved = MetadataSpec { addresses: vec!["10.0.0.3/24".parse().unwrap()], ..spec.clone() };
    chassis.ensure_metadata_namespace(&moved).await.unwrap();
    let listener = chassis.metadata_listener(&net.id, tcp_port).await.unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err(), "nobody calls");
    drop(listener);
    chassis.remove_metadata_namespace(&net.id).await.unwrap();
    chassis.remove_metadata_namespace(&net.id).await.unwrap();
    assert!(chassis.list_metadata_namespaces().await.unwrap().is_empty());
    north.remove_network(&net.id).await.unwrap();
}
