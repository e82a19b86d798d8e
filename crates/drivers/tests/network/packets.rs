//! What only packets can prove. Guests are network namespaces, plugged in by a veth in place of a tap.

use std::net::SocketAddr;

use drivers::network::{
    ChassisPorts, Direction, MetadataSpec, Northbound, PlugSpec, PortSpec, Protocol, Remote, tap_name,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    chassis::next,
    lab::{Lab, in_lab, run, succeeds},
    things,
};

/// A namespace with one interface.
struct Guest<'a> {
    name: &'a str,
}

impl<'a> Guest<'a> {
    /// Makes it and waits until the switch serves its port.
    async fn start(lab: &Lab, name: &'a str, port: &PortSpec, gateway: &str) -> Self {
        let (tap, mac) = (tap_name(&port.id), port.mac.to_string());
        run("ip", &["netns", "add", name]);
        run("ip", &["link", "add", &tap, "type", "veth", "peer", "name", "eth0", "netns", name, "address", &mac]);
        let guest = Self { name };
        guest.ip(&["link", "set", "lo", "up"]);
        guest.ip(&["link", "set", "eth0", "mtu", "1442", "up"]);
        guest.ip(&["addr", "add", &format!("{}/24", port.ips[0]), "dev", "eth0"]);
        guest.ip(&["route", "add", "default", "via", gateway]);
        let spec = PlugSpec { port_id: port.id.clone(), tap, mac: port.mac, mtu: things::MTU, owner_uid: None };
        let mut installed = lab.ovs.watch_installed();
        lab.ovs.ensure_port_plugged(&spec).await.unwrap();
        next(&mut installed, |event| event.port_id == port.id && event.installed).await;
        guest
    }

    fn ip(&self, arguments: &[&str]) {
        run("ip", &[&["-n", self.name][..], arguments].concat());
    }

    async fn pings(&self, address: &str) -> bool {
        succeeds("ip", &["netns", "exec", self.name, "ping", "-c", "1", "-W", "1", address]).await
    }

    async fn pings_from(&self, source: &str, address: &str) -> bool {
        succeeds("ip", &["netns", "exec", self.name, "ping", "-I", source, "-c", "1", "-W", "1", address]).await
    }
}

fn icmp() -> Protocol {
    Protocol::Icmp { kind: None, code: None }
}

/// Flows reach the switch a moment after the database has them.
async fn soon(holds: impl AsyncFn() -> bool) -> bool {
    for _ in 0..10 {
        if holds().await {
            return true;
        }
    }
    false
}

#[test]
fn ovn_carries_what_it_should_and_nothing_else() {
    in_lab(|lab| async move {
        let north: &dyn Northbound = &lab.ovn;
        let (net, external) = (things::network(), things::external_network());
        let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
        let mut group = things::group(vec![]);
        let ports = ["10.0.0.5", "10.0.0.6"].map(|ip| things::port(&net, &subnet, ip, &[&group]));
        let router = things::router(&external, &[(&net, "10.0.0.1/24")]);
        north.ensure_network(&net).await.unwrap();
        north.ensure_network(&external).await.unwrap();
        north.ensure_subnet_dhcp(&subnet).await.unwrap();
        north.ensure_security_group(&group).await.unwrap();
        for port in &ports {
            north.ensure_port(port).await.unwrap();
        }
        north.ensure_router(&router).await.unwrap();
        let a = Guest::start(&lab, "a", &ports[0], "10.0.0.1").await;
        let _b = Guest::start(&lab, "b", &ports[1], "10.0.0.1").await;

        // SNAT: the guest gets out and the answer comes back, though nothing may call it.
        assert!(soon(async || a.pings("172.24.4.1").await).await, "SNAT");
        assert!(!a.pings("10.0.0.6").await, "no rule lets it in");
        let floating = things::floating_ip(&router, &ports[0], "172.24.4.20");
        north.ensure_floating_ip(&floating).await.unwrap();
        assert!(!succeeds("ping", &["-c", "1", "-W", "1", "172.24.4.20"]).await, "no rule lets it in from outside");

        group.rules.push(things::rule(Direction::Ingress, icmp(), Remote::Group(group.id.clone())));
        north.ensure_security_group(&group).await.unwrap();
        assert!(soon(async || a.pings("10.0.0.6").await).await, "the group's own members may");
        assert!(!succeeds("ping", &["-c", "1", "-W", "1", "172.24.4.20"]).await, "and nobody else");
        group.rules.push(things::rule(Direction::Ingress, icmp(), Remote::Any));
        north.ensure_security_group(&group).await.unwrap();
        assert!(soon(async || succeeds("ping", &["-c", "1", "-W", "1", "172.24.4.20"]).await).await, "floating IP");

        a.ip(&["addr", "add", "10.0.0.77/24", "dev", "eth0"]);
        assert!(!a.pings_from("10.0.0.77", "10.0.0.6").await, "a source address of one's own making");
        assert!(a.pings("10.0.0.6").await, "and the real one still");

        group.rules.truncate(1);
        north.ensure_security_group(&group).await.unwrap();
        assert!(soon(async || !a.pings("10.0.0.6").await).await, "closed again");
    });
}

#[test]
fn tenants_with_the_same_range_do_not_meet() {
    in_lab(|lab| async move {
        let north: &dyn Northbound = &lab.ovn;
        let external = things::external_network();
        let group = things::group(vec![(icmp(), Remote::Any)]);
        north.ensure_network(&external).await.unwrap();
        north.ensure_security_group(&group).await.unwrap();
        let mut guests = Vec::new();
        for (n, name, ip) in [(1, "one", "10.0.0.5"), (2, "two", "10.0.0.7")] {
            let net = things::network();
            let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
            let port = things::port(&net, &subnet, ip, &[&group]);
            let mut router = things::router(&external, &[(&net, "10.0.0.1/24")]);
            router.gateway.as_mut().unwrap().addresses = vec![format!("172.24.4.1{n}/24").parse().unwrap()];
            north.ensure_network(&net).await.unwrap();
            north.ensure_subnet_dhcp(&subnet).await.unwrap();
            north.ensure_port(&port).await.unwrap();
            north.ensure_router(&router).await.unwrap();
            let floating = things::floating_ip(&router, &port, &format!("172.24.4.2{n}"));
            north.ensure_floating_ip(&floating).await.unwrap();
            guests.push(Guest::start(&lab, name, &port, "10.0.0.1").await);
        }
        for floating in ["172.24.4.21", "172.24.4.22"] {
            assert!(soon(async || succeeds("ping", &["-c", "1", "-W", "1", floating]).await).await, "{floating}");
        }
        assert!(soon(async || guests[0].pings("172.24.4.22").await).await, "by the floating IP they do");
        assert!(!guests[0].pings("10.0.0.7").await, "by the fixed one they don't");
        assert!(!guests[1].pings("10.0.0.5").await);
    });
}

#[test]
fn guests_learn_their_address_by_dhcp() {
    in_lab(|lab| async move {
        let net = things::network();
        let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
        // A group that permits nothing at all: DHCP passes nevertheless.
        let mut group = things::group(vec![]);
        group.rules.clear();
        let port = things::port(&net, &subnet, "10.0.0.5", &[&group]);
        lab.ovn.ensure_network(&net).await.unwrap();
        lab.ovn.ensure_subnet_dhcp(&subnet).await.unwrap();
        lab.ovn.ensure_security_group(&group).await.unwrap();
        lab.ovn.ensure_port(&port).await.unwrap();
        let _guest = Guest::start(&lab, "d", &port, "10.0.0.1").await;
        let (script, answer) = (lab.directory.join("script"), lab.directory.join("answer"));
        std::fs::write(&script, format!("#!/bin/sh\n[ \"$1\" = bound ] && env > {}\nexit 0\n", answer.display()))
            .unwrap();
        run("chmod", &["755", script.to_str().unwrap()]);
        let client = [
            "busybox",
            "udhcpc",
            "-i",
            "eth0",
            "-n",
            "-q",
            "-f",
            "-t",
            "5",
            "-T",
            "1",
            "-O",
            "staticroutes",
            "-O",
            "mtu",
            "-O",
            "hostname",
        ];
        let arguments = [&["netns", "exec", "d"][..], &client, &["-s", script.to_str().unwrap()]].concat();
        assert!(succeeds("ip", &arguments).await, "a lease");
        let answer = std::fs::read_to_string(&answer).unwrap();
        for line in ["ip=10.0.0.5", "router=10.0.0.1", "dns=9.9.9.9", "mtu=1442", "lease=86400", "hostname=guest"] {
            assert!(answer.lines().any(|said| said == line), "{line} in {answer}");
        }
        assert!(answer.contains("staticroutes=169.254.169.254/32 10.0.0.2 0.0.0.0/0 10.0.0.1"), "{answer}");
    });
}

#[test]
fn guests_reach_their_metadata() {
    in_lab(|lab| async move {
        let net = things::network();
        let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
        let (group, metadata) = (things::group(vec![]), things::metadata_port(&net, "10.0.0.2"));
        let port = things::port(&net, &subnet, "10.0.0.5", &[&group]);
        lab.ovn.ensure_network(&net).await.unwrap();
        lab.ovn.ensure_subnet_dhcp(&subnet).await.unwrap();
        lab.ovn.ensure_security_group(&group).await.unwrap();
        lab.ovn.ensure_port(&metadata).await.unwrap();
        lab.ovn.ensure_port(&port).await.unwrap();
        let spec = MetadataSpec {
            network_id: net.id.clone(),
            port_id: metadata.id.clone(),
            mac: metadata.mac,
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            mtu: things::MTU,
        };
        lab.ovs.ensure_metadata_namespace(&spec).await.unwrap();
        let guest = Guest::start(&lab, "g", &port, "10.0.0.1").await;
        guest.ip(&["route", "add", "169.254.169.254/32", "via", "10.0.0.2"]);
        run("ip", &["netns", "exec", "g", "ethtool", "-K", "eth0", "tx", "off"]);

        let listener = lab.ovs.metadata_listener(&net.id, 80).await.unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let serve = async {
            let (mut stream, peer): (_, SocketAddr) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let body = "x".repeat(100_000);
            let reply = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
            peer
        };
        let ask = succeeds(
            "ip",
            &["netns", "exec", "g", "curl", "-sf", "-m", "10", "-o", "/dev/null", "http://169.254.169.254/"],
        );
        let (peer, answered) = tokio::join!(serve, ask);
        assert!(answered, "the guest got the whole answer");
        assert_eq!(peer.ip().to_canonical().to_string(), "10.0.0.5", "the service sees who asks");
    });
}
