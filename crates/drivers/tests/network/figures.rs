//! How long things take on a real OVN, as one line of JSON: `cargo test -p drivers --test network figures -- --ignored
//! --nocapture`.

use std::time::Instant;

use drivers::network::{ChassisPorts, Northbound, PlugSpec, engine::Engine, tap_name};

use crate::{
    chassis::next,
    lab::{Lab, binaries, in_lab, settings},
    things,
};

const PORTS: u32 = 500;

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[test]
#[ignore = "measures, proves nothing"]
fn figures() {
    in_lab(|Lab { engine, ovn, ovs, directory }| async move {
        engine.stop_all().await.unwrap();
        let start = Instant::now();
        let engine = Engine::new(settings(binaries().unwrap(), directory)).unwrap();
        engine.ensure_running().await.unwrap();
        let engine_start_ms = millis(start);
        ovn.ready().await.unwrap();

        let net = things::network();
        let subnet = things::subnet(&net, "10.0.0.0/16", "10.0.0.1", "10.0.0.2");
        let group = things::group(vec![]);
        ovn.ensure_network(&net).await.unwrap();
        ovn.ensure_subnet_dhcp(&subnet).await.unwrap();
        ovn.ensure_security_group(&group).await.unwrap();
        let ports: Vec<_> = (0..PORTS)
            .map(|n| things::port(&net, &subnet, &format!("10.0.{}.{}", n / 250 + 1, n % 250 + 1), &[&group]))
            .collect();
        let start = Instant::now();
        for port in &ports {
            ovn.ensure_port(port).await.unwrap();
        }
        let ensure_port_ms = millis(start) / f64::from(PORTS);
        let start = Instant::now();
        for port in &ports {
            ovn.ensure_port(port).await.unwrap();
        }
        let ensure_port_again_ms = millis(start) / f64::from(PORTS);

        let mut installed = ovs.watch_installed();
        let mut waits = Vec::new();
        for port in ports.iter().take(5) {
            let spec = PlugSpec {
                port_id: port.id.clone(),
                tap: tap_name(&port.id),
                mac: port.mac,
                mtu: things::MTU,
                owner_uid: None,
            };
            let start = Instant::now();
            ovs.ensure_port_plugged(&spec).await.unwrap();
            let plugged = millis(start);
            next(&mut installed, |event| event.port_id == port.id && event.installed).await;
            waits.push((plugged, millis(start)));
        }
        println!(
            "{{\"engine_start_ms\": {engine_start_ms:.0}, \"ensure_port_ms\": {ensure_port_ms:.2}, \
             \"ensure_port_again_ms\": {ensure_port_again_ms:.3}, \"plugged_and_installed_ms\": \"{waits:.1?}\"}}"
        );
    });
}
