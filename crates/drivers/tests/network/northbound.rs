//! What every `Northbound` must do.

use drivers::network::{
    ChassisPriority, DhcpOption, Direction, DnsSpec, Family, Forward, Leads, NetworkError, Northbound, OwnedKind,
    Protocol, QosRule, Remote, Route, fake::FakeNetwork,
};
use futures_util::future::BoxFuture;
use model::id::PortId;

use crate::{
    lab::{Lab, in_lab},
    things,
};

/// An implementation and how often it wrote.
struct Subject<'a> {
    north: &'a dyn Northbound,
    writes: &'a dyn Fn() -> u64,
}

#[tokio::test]
async fn fake_conforms() {
    let fake = FakeNetwork::default();
    conforms(&Subject { north: &fake, writes: &|| fake.writes() }).await;
}

#[test]
fn ovn_conforms() {
    in_lab(|Lab { ovn, .. }| async move {
        conforms(&Subject { north: &ovn, writes: &|| ovn.transactions() }).await;
    });
}

#[tokio::test]
async fn fake_fails_when_told() {
    let fake = FakeNetwork::default();
    fake.fail_next("ensure_network", NetworkError::Rejected("told so".into()));
    let network = things::network();
    assert!(matches!(fake.ensure_network(&network).await, Err(NetworkError::Rejected(_))));
    fake.ensure_network(&network).await.unwrap();
}

async fn conforms(subject: &Subject<'_>) {
    everything_can_be_made_changed_and_removed(subject).await;
    what_is_missing_is_named(subject).await;
    a_network_takes_its_ports_with_it(subject).await;
}

impl Subject<'_> {
    /// Calls twice: the first call must write, the second must not.
    async fn once<'a>(&self, what: &str, call: impl Fn() -> BoxFuture<'a, drivers::network::Result<()>>) {
        let before = (self.writes)();
        call().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((self.writes)(), before + 1, "{what} writes");
        call().await.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert_eq!((self.writes)(), before + 1, "{what} writes nothing when repeated");
    }

    async fn has(&self, wanted: &[(OwnedKind, &str)]) {
        let inventory = self.north.inventory().await.unwrap();
        let mut there: Vec<(OwnedKind, &str)> =
            inventory.iter().map(|owned| (owned.kind, owned.nacre_id.as_str())).collect();
        let mut wanted = wanted.to_vec();
        there.sort();
        // Single ports of a floating IP are a row for each protocol.
        there.dedup();
        wanted.sort();
        assert_eq!(there, wanted);
    }
}

async fn everything_can_be_made_changed_and_removed(subject: &Subject<'_>) {
    let north = subject.north;
    let (mut net, external) = (things::network(), things::external_network());
    let mut subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
    let remote = things::group(vec![]);
    let mut group = things::group(vec![
        (Protocol::Icmp { kind: None, code: None }, Remote::Any),
        (Protocol::Tcp(Some((22, 22))), Remote::Group(remote.id.clone())),
    ]);
    let mut port = things::port(&net, &subnet, "10.0.0.5", &[&group, &remote]);
    let metadata = things::metadata_port(&net, "10.0.0.2");
    let mut router = things::router(&external, &[(&net, "10.0.0.1/24")]);
    let mut floating = things::floating_ip(&router, &port, "172.24.4.20");
    let dns = DnsSpec { network_id: net.id.clone(), records: vec![("Guest.example.org".into(), port.ips.clone())] };

    subject.once("a network", || north.ensure_network(&net)).await;
    subject.once("an external network", || north.ensure_network(&external)).await;
    subject.once("DHCP", || north.ensure_subnet_dhcp(&subnet)).await;
    subject.once("a group", || north.ensure_security_group(&group)).await;
    subject.once("a remote group", || north.ensure_security_group(&remote)).await;
    subject.once("a port", || north.ensure_port(&port)).await;
    subject.once("a metadata port", || north.ensure_port(&metadata)).await;
    subject.once("a router", || north.ensure_router(&router)).await;
    subject.once("a floating IP", || north.ensure_floating_ip(&floating)).await;
    subject.once("names", || north.ensure_dns(&dns)).await;

    let gateway = router.gateway.as_ref().unwrap().port_id.clone();
    let interface = router.interfaces[0].port_id.clone();
    let all = [
        (OwnedKind::Network, net.id.as_str()),
        (OwnedKind::Network, external.id.as_str()),
        (OwnedKind::Subnet, subnet.id.as_str()),
        (OwnedKind::SecurityGroup, group.id.as_str()),
        (OwnedKind::SecurityGroup, remote.id.as_str()),
        (OwnedKind::Port, port.id.as_str()),
        (OwnedKind::Port, metadata.id.as_str()),
        (OwnedKind::Router, router.id.as_str()),
        (OwnedKind::RouterPort, gateway.as_str()),
        (OwnedKind::RouterPort, interface.as_str()),
        (OwnedKind::FloatingIp, floating.id.as_str()),
        (OwnedKind::Dns, net.id.as_str()),
    ];
    subject.has(&all).await;

    net.mtu = 1400;
    subject.once("another MTU", || north.ensure_network(&net)).await;
    subnet.dns_servers.clear();
    subject.once("other DHCP answers", || north.ensure_subnet_dhcp(&subnet)).await;
    group.rules.remove(1);
    group.rules.push(things::rule(drivers::network::Direction::Ingress, Protocol::Udp(None), Remote::Any));
    subject.once("other rules", || north.ensure_security_group(&group)).await;
    port.security_groups.pop();
    port.admin_up = false;
    subject.once("fewer groups", || north.ensure_port(&port)).await;
    port.port_security = false;
    subject.once("no port security", || north.ensure_port(&port)).await;
    port.names = vec!["web".into(), "web.example.org".into()];
    subject.once("names of its own", || north.ensure_port(&port)).await;
    port.dhcp_options = vec![DhcpOption::parse(Family::V4, "bootfile-name", "pxelinux.0").unwrap()];
    subject.once("answers of its own", || north.ensure_port(&port)).await;
    port.qos = vec![
        QosRule::Limit { direction: Direction::Egress, kbps: 1000, burst_kb: Some(100) },
        QosRule::Mark(46),
        QosRule::Minimum { kbps: 500 },
    ];
    subject.once("limits", || north.ensure_port(&port)).await;
    port.carrier = Some((PortId::random(), 101));
    subject.once("on a trunk", || north.ensure_port(&port)).await;
    (port.names, port.dhcp_options, port.qos, port.carrier) = Default::default();
    subject.once("nothing of its own", || north.ensure_port(&port)).await;
    let route = Route { destination: "10.8.0.0/16".parse().unwrap(), next_hop: "10.0.0.9".parse().unwrap() };
    router.routes.push(route);
    subject.once("a route", || north.ensure_router(&router)).await;
    let chassis =
        [ChassisPriority { chassis: "a".into(), priority: 2 }, ChassisPriority { chassis: "b".into(), priority: 1 }];
    subject.once("other gateway chassis", || north.ensure_chassis_gateway(&router.id, &chassis)).await;
    router.gateway.as_mut().unwrap().chassis = chassis.to_vec();
    let before = (subject.writes)();
    north.ensure_router(&router).await.unwrap();
    assert_eq!((subject.writes)(), before, "the router's spec says the same");
    let Leads::Guest { port_id, .. } = floating.leads.clone() else { panic!("it leads to a guest") };
    floating.leads = Leads::Guest { address: "10.0.0.6".parse().unwrap(), port_id, external_mac: None };
    subject.once("a floating IP elsewhere", || north.ensure_floating_ip(&floating)).await;
    let inside = "10.0.0.6".parse().unwrap();
    floating.leads = Leads::Forwards(vec![
        Forward { udp: false, external_port: 2222, address: inside, port: 22 },
        Forward { udp: true, external_port: 53, address: inside, port: 53 },
    ]);
    subject.once("single ports of it", || north.ensure_floating_ip(&floating)).await;
    router.interfaces.clear();
    router.snat_cidrs.clear();
    subject.once("no interface", || north.ensure_router(&router)).await;
    let without: Vec<_> = all.iter().filter(|(_, id)| *id != interface.as_str()).copied().collect();
    subject.has(&without).await;

    subject.once("floating IP gone", || north.remove_floating_ip(&floating.id)).await;
    subject.once("router gone", || north.remove_router(&router.id)).await;
    subject.once("port gone", || north.remove_port(&port.id)).await;
    subject.once("group gone", || north.remove_security_group(&group.id)).await;
    subject.once("remote group gone", || north.remove_security_group(&remote.id)).await;
    subject.once("names gone", || north.remove_dns(&net.id)).await;
    subject.once("DHCP gone", || north.remove_subnet_dhcp(&subnet.id)).await;
    subject.once("network gone", || north.remove_network(&net.id)).await;
    subject.once("external network gone", || north.remove_network(&external.id)).await;
    subject.has(&[]).await;
}

async fn what_is_missing_is_named(subject: &Subject<'_>) {
    let north = subject.north;
    let net = things::network();
    let subnet = things::subnet(&net, "10.0.0.0/24", "10.0.0.1", "10.0.0.2");
    let group = things::group(vec![]);
    let port = things::port(&net, &subnet, "10.0.0.5", &[&group]);
    let router = things::router(&net, &[]);
    let missing = |error: NetworkError| match error {
        NetworkError::Missing { kind, id } => (kind, id),
        other => panic!("{other}"),
    };
    let port_lacks = async || missing(north.ensure_port(&port).await.unwrap_err());
    assert_eq!(port_lacks().await, (OwnedKind::Network, net.id.to_string()));
    let router_lacks = north.ensure_router(&router).await.unwrap_err();
    assert_eq!(missing(router_lacks), (OwnedKind::Network, net.id.to_string()));
    north.ensure_network(&net).await.unwrap();
    assert_eq!(port_lacks().await, (OwnedKind::Subnet, subnet.id.to_string()));
    north.ensure_subnet_dhcp(&subnet).await.unwrap();
    assert_eq!(port_lacks().await, (OwnedKind::SecurityGroup, group.id.to_string()));
    let floating_lacks = north.ensure_floating_ip(&things::floating_ip(&router, &port, "172.24.4.9")).await;
    assert_eq!(missing(floating_lacks.unwrap_err()), (OwnedKind::Router, router.id.to_string()));
    subject.has(&[(OwnedKind::Network, net.id.as_str()), (OwnedKind::Subnet, subnet.id.as_str())]).await;
    north.remove_subnet_dhcp(&subnet.id).await.unwrap();
    north.remove_network(&net.id).await.unwrap();
}

async fn a_network_takes_its_ports_with_it(subject: &Subject<'_>) {
    let north = subject.north;
    let net = things::network();
    let metadata = things::metadata_port(&net, "10.0.0.2");
    north.ensure_network(&net).await.unwrap();
    north.ensure_port(&metadata).await.unwrap();
    north.remove_network(&net.id).await.unwrap();
    subject.has(&[]).await;
    north.remove_port(&metadata.id).await.unwrap();
    // The same ids again: nothing of the first time is in the way.
    north.ensure_network(&net).await.unwrap();
    north.ensure_port(&metadata).await.unwrap();
    north.remove_network(&net.id).await.unwrap();
    subject.has(&[]).await;
}
