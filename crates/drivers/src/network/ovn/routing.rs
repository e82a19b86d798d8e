//! Routers, their ports, SNAT, routes and floating IPs.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use model::addr::Mac;
use uuid::Uuid;

use super::{
    plan::{Parent, Plan, Wanted},
    rows::{self, BALANCER, GATEWAY_CHASSIS, NAT, ROUTE, ROUTER, ROUTER_PORT, SWITCH, SWITCH_PORT},
    switching::{needed, place},
};
use crate::network::{
    AddressMode, Advertisement, ChassisPriority, FloatingIpSpec, Forward, GatewaySpec, Leads, OwnedKind, Result,
    RouterSpec, ovsdb::Datum,
};

/// One port of a router: gateway or interface.
struct Side<'a> {
    port: &'a str,
    network: &'a str,
    mac: Mac,
    addresses: &'a [IpNet],
    is_gateway: bool,
    advertisement: Option<&'a Advertisement>,
}

pub(super) fn ensure_router(plan: &mut Plan<'_>, spec: &RouterSpec) -> Result<()> {
    let id = spec.id.as_str();
    let (router, _) = rows::locate(plan.replica(), ROUTER, OwnedKind::Router, id);
    let columns = vec![
        ("name", Datum::one(format!("nacre-{id}"))),
        ("enabled", Datum::one(spec.admin_up)),
        // Neutron's choice too: no table of every neighbour's neighbours, which grows with the square of the routers.
        ("options", Datum::map([("always_learn_from_arp_request", "false"), ("dynamic_neigh_routers", "true")])),
        ("external_ids", rows::marks(OwnedKind::Router, id, &[])),
    ];
    plan.ensure(Wanted { table: ROUTER, uuid: router, columns, parent: None });
    ensure_sides(plan, spec, router)?;
    ensure_routes(plan, spec, router);
    ensure_snat(plan, spec, router);
    Ok(())
}

pub(super) fn remove_router(plan: &mut Plan<'_>, id: &str) {
    let (router, there) = rows::locate(plan.replica(), ROUTER, OwnedKind::Router, id);
    if there {
        drop_sides(plan, router, |_| false);
        plan.remove_root(ROUTER, router);
    }
}

fn ensure_sides(plan: &mut Plan<'_>, spec: &RouterSpec, router: Uuid) -> Result<()> {
    let gateway = spec.gateway.iter().map(|g| Side {
        port: g.port_id.as_str(),
        network: g.network_id.as_str(),
        mac: g.mac,
        addresses: &g.addresses,
        is_gateway: true,
        advertisement: None,
    });
    let interfaces = spec.interfaces.iter().map(|i| Side {
        port: i.port_id.as_str(),
        network: i.network_id.as_str(),
        mac: i.mac,
        addresses: &i.addresses,
        is_gateway: false,
        advertisement: i.advertisement.as_ref(),
    });
    let mut kept = BTreeSet::new();
    for side in gateway.chain(interfaces) {
        let port = ensure_side(plan, router, spec.id.as_str(), &side)?;
        kept.insert(port);
        let chassis = spec.gateway.as_ref().filter(|_| side.is_gateway).map_or(&[][..], |g| &g.chassis);
        ensure_gateway_chassis(plan, port, &rows::router_port_name(side.port), chassis);
    }
    drop_sides(plan, router, |port| kept.contains(&port));
    Ok(())
}

/// Both halves of one port.
fn ensure_side(plan: &mut Plan<'_>, router: Uuid, router_id: &str, side: &Side<'_>) -> Result<Uuid> {
    let (port, _) = rows::locate(plan.replica(), ROUTER_PORT, OwnedKind::RouterPort, side.port);
    let name = rows::router_port_name(side.port);
    let marks = || {
        let more = [("nacre-network", side.network), ("nacre-router", router_id)];
        rows::marks(OwnedKind::RouterPort, side.port, &more)
    };
    let columns = vec![
        ("name", Datum::one(name.as_str())),
        ("mac", Datum::one(side.mac.to_string())),
        ("networks", Datum::set(side.addresses.iter().map(IpNet::to_string))),
        ("ipv6_ra_configs", Datum::map(advertised(side.advertisement))),
        ("external_ids", marks()),
    ];
    let parent = Some(Parent { table: ROUTER, column: "ports", uuid: router });
    plan.ensure(Wanted { table: ROUTER_PORT, uuid: port, columns, parent });
    let (peer, _) = rows::locate(plan.replica(), SWITCH_PORT, OwnedKind::RouterPort, side.port);
    // On the external network the switch announces the addresses that the router translates.
    let announce = side.is_gateway.then_some(("nat-addresses", "router"));
    let options = [("router-port", name.as_str()), ("exclude-lb-vips-from-garp", "true")].into_iter().chain(announce);
    let columns = vec![
        ("name", Datum::one(side.port)),
        ("type", Datum::one("router")),
        ("addresses", Datum::one("router")),
        ("options", Datum::map(options)),
        ("external_ids", marks()),
    ];
    let parent = Some(place(plan, side.network)?);
    plan.ensure(Wanted { table: SWITCH_PORT, uuid: peer, columns, parent });
    Ok(port)
}

/// What the router tells guests, in OVN's syntax.
fn advertised(advertisement: Option<&Advertisement>) -> Vec<(&'static str, String)> {
    let Some(advertisement) = advertisement else { return Vec::new() };
    let mode = match advertisement.mode {
        AddressMode::Slaac => "slaac",
        AddressMode::Stateful => "dhcpv6_stateful",
        AddressMode::Stateless => "dhcpv6_stateless",
    };
    let mut configs = vec![
        ("address_mode", mode.to_owned()),
        ("send_periodic", "true".to_owned()),
        ("mtu", advertisement.mtu.to_string()),
    ];
    configs.extend(advertisement.dns_server.map(|server| ("rdnss", server.to_string())));
    configs
}

/// Removes both halves of the ports that are not kept.
fn drop_sides(plan: &mut Plan<'_>, router: Uuid, keep: impl Fn(Uuid) -> bool) {
    for gone in plan.keep_children(Parent { table: ROUTER, column: "ports", uuid: router }, keep) {
        let id = plan.row(ROUTER_PORT, gone).and_then(|row| row.get("external_ids").key(rows::ID_KEY));
        if let Some(id) = id {
            let (peer, _) = rows::locate(plan.replica(), SWITCH_PORT, OwnedKind::RouterPort, id);
            plan.remove_child(SWITCH, "ports", peer);
        }
    }
}

/// Sets the chassis of a router that is there; one without gateway has none.
pub(super) fn ensure_chassis(plan: &mut Plan<'_>, id: &str, chassis: &[ChassisPriority]) -> Result<()> {
    let router = needed(plan, ROUTER, OwnedKind::Router, id)?;
    let ports = plan.row(ROUTER, router).map(|row| row.get("ports").uuids().collect::<Vec<_>>()).unwrap_or_default();
    for port in ports {
        let Some(row) = plan.row(ROUTER_PORT, port) else { continue };
        // The gateway is the side whose peer announces.
        let peer = row.get("external_ids").key(rows::ID_KEY).map(|id| {
            let (peer, _) = rows::locate(plan.replica(), SWITCH_PORT, OwnedKind::RouterPort, id);
            plan.row(SWITCH_PORT, peer)
        });
        let is_gateway = peer.flatten().is_some_and(|peer| peer.get("options").key("nat-addresses").is_some());
        if let (true, Some(name)) = (is_gateway, row.get("name").as_text()) {
            ensure_gateway_chassis(plan, port, name, chassis);
        }
    }
    Ok(())
}

fn ensure_gateway_chassis(plan: &mut Plan<'_>, port: Uuid, port_name: &str, chassis: &[ChassisPriority]) {
    let parent = Parent { table: ROUTER_PORT, column: "gateway_chassis", uuid: port };
    let mut kept = BTreeSet::new();
    for one in chassis {
        let uuid = rows::derived(&["gateway-chassis", port_name, &one.chassis]);
        kept.insert(uuid);
        let columns = vec![
            ("name", Datum::one(format!("{port_name}_{}", one.chassis))),
            ("chassis_name", Datum::one(one.chassis.as_str())),
            ("priority", Datum::one(i64::from(one.priority))),
            ("external_ids", rows::part_marks("gateway-chassis")),
        ];
        plan.ensure(Wanted { table: GATEWAY_CHASSIS, uuid, columns, parent: Some(parent) });
    }
    plan.keep_children(parent, |uuid| kept.contains(&uuid));
}

fn ensure_routes(plan: &mut Plan<'_>, spec: &RouterSpec, router: Uuid) {
    let parent = Parent { table: ROUTER, column: "static_routes", uuid: router };
    let default = |gateway: &GatewaySpec| {
        let output = rows::router_port_name(gateway.port_id.as_str());
        let to = |hop: &IpAddr| if hop.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.to_owned();
        gateway.next_hops.iter().map(move |hop| (to(hop), *hop, Some(output.clone()))).collect::<Vec<_>>()
    };
    let defaults = spec.gateway.iter().flat_map(default);
    let others = spec.routes.iter().map(|route| (route.destination.trunc().to_string(), route.next_hop, None));
    let mut kept = BTreeSet::new();
    for (destination, hop, output) in defaults.chain(others) {
        let uuid = rows::derived(&["route", spec.id.as_str(), &destination, &hop.to_string()]);
        kept.insert(uuid);
        let columns = vec![
            ("ip_prefix", Datum::one(destination)),
            ("nexthop", Datum::one(hop)),
            ("output_port", Datum::set(output)),
            ("external_ids", rows::part_marks("route")),
        ];
        plan.ensure(Wanted { table: ROUTE, uuid, columns, parent: Some(parent) });
    }
    plan.keep_children(parent, |uuid| kept.contains(&uuid));
}

/// SNAT for the tenant ranges; floating IPs, which are in the same column, stay.
fn ensure_snat(plan: &mut Plan<'_>, spec: &RouterSpec, router: Uuid) {
    let parent = Parent { table: ROUTER, column: "nat", uuid: router };
    let external =
        spec.gateway.as_ref().filter(|g| g.snat).and_then(|g| g.addresses.iter().find(|a| a.addr().is_ipv4()));
    let mut kept = BTreeSet::new();
    if let Some(external) = external {
        for cidr in spec.snat_cidrs.iter().filter(|cidr| cidr.addr().is_ipv4()) {
            let logical = cidr.trunc().to_string();
            let uuid = rows::derived(&["snat", spec.id.as_str(), &logical]);
            kept.insert(uuid);
            let columns = vec![
                ("type", Datum::one("snat")),
                ("external_ip", Datum::one(external.addr())),
                ("logical_ip", Datum::one(logical)),
                ("external_ids", rows::part_marks("snat")),
            ];
            plan.ensure(Wanted { table: NAT, uuid, columns, parent: Some(parent) });
        }
    }
    let replica = plan.replica();
    let is_floating =
        |uuid| replica.row(NAT, uuid).is_some_and(|row| rows::kind_of(row) == Some(OwnedKind::FloatingIp));
    plan.keep_children(parent, |uuid| kept.contains(&uuid) || is_floating(uuid));
}

pub(super) fn ensure_floating_ip(plan: &mut Plan<'_>, spec: &FloatingIpSpec) -> Result<()> {
    let id = spec.id.as_str();
    let router = needed(plan, ROUTER, OwnedKind::Router, spec.router_id.as_str())?;
    match &spec.leads {
        Leads::Guest { address, port_id, external_mac } => {
            remove_forwards(plan, id);
            let (uuid, _) = rows::locate(plan.replica(), NAT, OwnedKind::FloatingIp, id);
            let port = external_mac.map(|_| port_id.as_str());
            let more = [("nacre-router", spec.router_id.as_str()), ("nacre-port", port_id.as_str())];
            let columns = vec![
                ("type", Datum::one("dnat_and_snat")),
                ("external_ip", Datum::one(spec.floating_address)),
                ("logical_ip", Datum::one(*address)),
                ("external_mac", Datum::set(external_mac.map(|mac| mac.to_string()))),
                ("logical_port", Datum::set(port)),
                ("external_ids", rows::marks(OwnedKind::FloatingIp, id, &more)),
            ];
            let parent = Some(Parent { table: ROUTER, column: "nat", uuid: router });
            plan.ensure(Wanted { table: NAT, uuid, columns, parent });
        }
        Leads::Forwards(forwards) => {
            remove_translation(plan, id);
            for udp in [false, true] {
                ensure_forwards(plan, spec, router, forwards, udp);
            }
        }
    }
    Ok(())
}

/// The forwarded ports of one protocol, as one load balancer of the router with one target each.
fn ensure_forwards(plan: &mut Plan<'_>, spec: &FloatingIpSpec, router: Uuid, forwards: &[Forward], udp: bool) {
    let uuid = balancer_row(spec.id.as_str(), udp);
    let vips: Vec<(String, String)> = forwards
        .iter()
        .filter(|forward| forward.udp == udp)
        .map(|f| (format!("{}:{}", spec.floating_address, f.external_port), format!("{}:{}", f.address, f.port)))
        .collect();
    if vips.is_empty() {
        plan.remove_root(BALANCER, uuid);
        return;
    }
    let protocol = protocol(udp);
    let columns = vec![
        ("name", Datum::one(format!("nacre-{}-{protocol}", spec.id))),
        ("protocol", Datum::one(protocol)),
        ("vips", Datum::map(vips)),
        (
            "external_ids",
            rows::marks(OwnedKind::FloatingIp, spec.id.as_str(), &[("nacre-router", spec.router_id.as_str())]),
        ),
    ];
    let parent = Some(Parent { table: ROUTER, column: "load_balancer", uuid: router });
    plan.ensure(Wanted { table: BALANCER, uuid, columns, parent });
}

fn protocol(udp: bool) -> &'static str {
    if udp { "udp" } else { "tcp" }
}

fn balancer_row(floating_ip: &str, udp: bool) -> Uuid {
    rows::derived(&["forwards", floating_ip, protocol(udp)])
}

fn remove_forwards(plan: &mut Plan<'_>, id: &str) {
    for udp in [false, true] {
        plan.remove_root(BALANCER, balancer_row(id, udp));
    }
}

fn remove_translation(plan: &mut Plan<'_>, id: &str) {
    let (uuid, there) = rows::locate(plan.replica(), NAT, OwnedKind::FloatingIp, id);
    if there {
        plan.remove_child(ROUTER, "nat", uuid);
    }
}

pub(super) fn remove_floating_ip(plan: &mut Plan<'_>, id: &str) {
    remove_forwards(plan, id);
    remove_translation(plan, id);
}
