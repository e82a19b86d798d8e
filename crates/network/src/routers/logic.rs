//! Decisions about routers.

use drivers::network::{
    AddressMode, Advertisement, ChassisPriority, GatewaySpec, InterfaceSpec, Route as DriverRoute, RouterSpec,
};
use ipnet::IpNet;
use model::{
    Error, Result,
    id::{NetworkId, ProjectId},
};
use store::network::{
    OWNER_ROUTER_GATEWAY, Route,
    chassis::Chassis,
    networks::Network,
    ports::Port,
    routers::{NewGateway, NewRouter, Router},
    subnets::{MODE_SLAAC, MODE_STATELESS, Subnet},
};

use super::wire::{Create, Gateway, Update};
use crate::{
    collection::{invalid, text},
    ports::logic::requested,
};

/// Neutron's `max_routes`.
const ROUTES_MAX: usize = 30;
/// The smallest MTU that IPv6 works with.
const MTU_IPV6_MIN: u32 = 1280;
/// Hosts that may hold a gateway: OVN's BFD between more costs more than a sixth host helps.
const GATEWAY_CHASSIS_MAX: usize = 5;

/// The router that a request asks for.
///
/// # Errors
/// Bad request that says which attribute can't be.
pub fn new_router(create: &Create, project: &ProjectId) -> Result<NewRouter> {
    text("name", create.name.as_deref().unwrap_or_default())?;
    text("description", create.description.as_deref().unwrap_or_default())?;
    Ok(NewRouter {
        description: create.description.clone().unwrap_or_default(),
        admin_state_up: create.admin_state_up.unwrap_or(true),
        gateway: create.external_gateway_info.as_ref().map(new_gateway).transpose()?,
        ..NewRouter::new(project, create.name.clone().unwrap_or_default())
    })
}

/// The gateway that a request asks for.
///
/// # Errors
/// Bad request where the network is missing or an address is none.
pub fn new_gateway(gateway: &Gateway) -> Result<NewGateway> {
    let network = gateway.network_id.as_deref().ok_or_else(|| {
        Error::bad_request("HTTPBadRequest", "Invalid input for external_gateway_info. Reason: network_id is missing.")
    })?;
    Ok(NewGateway {
        network_id: NetworkId::new(network),
        enable_snat: gateway.enable_snat,
        fixed_ips: gateway.external_fixed_ips.as_deref().map(requested).transpose()?,
    })
}

/// The router as it is after the update, gateway apart. `connected` are the subnets that it has ports on.
///
/// # Errors
/// Bad request that says which attribute can't be.
pub fn updated(router: &Router, update: &Update, connected: &[Subnet]) -> Result<Router> {
    text("name", update.name.as_deref().unwrap_or_default())?;
    text("description", update.description.as_deref().unwrap_or_default())?;
    let mut after = router.clone();
    after.name = update.name.clone().unwrap_or(after.name);
    after.description = update.description.clone().unwrap_or(after.description);
    after.admin_state_up = update.admin_state_up.unwrap_or(after.admin_state_up);
    if let Some(routes) = &update.routes {
        after.routes = routes.clone().unwrap_or_default();
        let ranges: Vec<IpNet> = connected.iter().map(|s| s.cidr).collect();
        expect_routes(&after.routes, &ranges)?;
    }
    Ok(after)
}

/// Each next hop must lie on a network that the router is connected to.
fn expect_routes(routes: &[Route], connected: &[IpNet]) -> Result<()> {
    if routes.len() > ROUTES_MAX {
        return Err(Error::bad_request(
            "RoutesExhausted",
            format!("Unable to complete operation: The number of routes exceeds the maximum {ROUTES_MAX}."),
        ));
    }
    for (at, route) in routes.iter().enumerate() {
        let (_, hop) = route
            .parsed()
            .filter(|(destination, hop)| destination.addr().is_ipv4() == hop.is_ipv4())
            .ok_or_else(|| invalid(format!("'{} via {}' is no route", route.destination, route.nexthop)))?;
        if !connected.iter().any(|range| range.contains(&hop)) {
            return Err(Error::bad_request(
                "InvalidRoutes",
                format!("Invalid format for routes: {hop}, the nexthop is not connected with router."),
            ));
        }
        if routes.iter().take(at).any(|earlier| earlier == route) {
            return Err(invalid(format!("Duplicate route '{} via {}'", route.destination, route.nexthop)));
        }
    }
    Ok(())
}

/// What OVN is to hold: the router with all its ports that are not to go.
pub fn spec(
    router: &Router,
    ports: &[Port],
    (networks, subnets): (&[Network], &[Subnet]),
    chassis: &[Chassis],
) -> RouterSpec {
    let subnet = |id: &model::id::SubnetId| subnets.iter().find(|s| s.id == *id);
    let addresses = |port: &Port| -> Vec<IpNet> {
        let address =
            |ip: &store::network::ports::FixedIp| IpNet::new(ip.ip, subnet(&ip.subnet_id)?.cidr.prefix_len()).ok();
        port.fixed_ips.iter().filter_map(address).collect()
    };
    let (gateways, interfaces): (Vec<&Port>, Vec<&Port>) =
        ports.iter().partition(|port| port.device_owner == OWNER_ROUTER_GATEWAY);
    let gateway = gateways.first().map(|port| GatewaySpec {
        port_id: port.id.clone(),
        network_id: port.network_id.clone(),
        mac: port.mac,
        addresses: addresses(port),
        next_hops: port.fixed_ips.iter().filter_map(|ip| subnet(&ip.subnet_id)?.gateway_ip).collect(),
        snat: router.enable_snat,
        chassis: priorities(router, chassis),
    });
    let inside = interfaces.iter().flat_map(|port| &port.fixed_ips).filter_map(|ip| subnet(&ip.subnet_id));
    let mut snat_cidrs: Vec<IpNet> = inside.map(|s| s.cidr).filter(|cidr| cidr.addr().is_ipv4()).collect();
    snat_cidrs.sort_unstable();
    RouterSpec {
        id: router.id.clone(),
        admin_up: router.admin_state_up,
        gateway,
        interfaces: interfaces
            .iter()
            .map(|port| InterfaceSpec {
                port_id: port.id.clone(),
                network_id: port.network_id.clone(),
                mac: port.mac,
                addresses: addresses(port),
                advertisement: advertisement(port, networks, subnets),
            })
            .collect(),
        snat_cidrs,
        routes: router
            .routes
            .iter()
            .filter_map(Route::parsed)
            .map(|(destination, next_hop)| DriverRoute { destination, next_hop })
            .collect(),
    }
}

/// What the router tells guests of the port's network unasked: how to come to addresses, where an IPv6 subnet says so.
fn advertisement(port: &Port, networks: &[Network], subnets: &[Subnet]) -> Option<Advertisement> {
    let mtu = networks.iter().find(|n| n.id == port.network_id).and_then(|n| u32::try_from(n.mtu).ok());
    let behind = |subnet: &&Subnet| port.fixed_ips.iter().any(|ip| ip.subnet_id == subnet.id);
    let subnet = subnets.iter().filter(behind).find(|s| s.ipv6_ra_mode.is_some())?;
    let mode = match subnet.ipv6_ra_mode.as_deref()? {
        MODE_SLAAC => AddressMode::Slaac,
        MODE_STATELESS => AddressMode::Stateless,
        _ => AddressMode::Stateful,
    };
    let servers = subnets.iter().filter(behind).flat_map(|s| &s.dns_nameservers);
    let dns_server = servers.filter_map(|server| server.parse().ok()).next();
    Some(Advertisement { mode, mtu: mtu.unwrap_or(MTU_IPV6_MIN), dns_server })
}

/// Hosts that may hold the router's gateway, best first. Which is best depends on the router, so that gateways are
/// spread, and does not change when other hosts come.
fn priorities(router: &Router, chassis: &[Chassis]) -> Vec<ChassisPriority> {
    let mut ranked: Vec<(u64, &str)> =
        chassis.iter().map(|c| (weight(router.id.as_str(), &c.name), c.name.as_str())).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.truncate(GATEWAY_CHASSIS_MAX);
    let count = ranked.len();
    let priority = |at: usize| u16::try_from(count - at).unwrap_or(u16::MAX);
    ranked
        .iter()
        .enumerate()
        .map(|(at, (_, name))| ChassisPriority { chassis: (*name).to_owned(), priority: priority(at) })
        .collect()
}

/// Rendezvous hashing (FNV-1a): the same on every server, for ever.
fn weight(router: &str, chassis: &str) -> u64 {
    let bytes = router.bytes().chain([0]).chain(chassis.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The last bytes of names that count up would hardly reach the upper bits.
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_need_a_connected_hop() {
        let route = |d: &str, n: &str| Route { destination: d.into(), nexthop: n.into() };
        let connected: Vec<IpNet> = vec!["10.0.0.0/24".parse().unwrap()];
        let check = |routes: &[Route]| expect_routes(routes, &connected).map_err(|e| e.code);
        assert_eq!(check(&[route("10.9.0.0/16", "10.0.0.5")]), Ok(()));
        assert_eq!(check(&[route("10.9.0.0/16", "10.1.0.5")]), Err("InvalidRoutes"));
        assert_eq!(check(&[route("nonsense", "10.0.0.5")]), Err("InvalidInput"));
        let twice = [route("10.9.0.0/16", "10.0.0.5"), route("10.9.0.0/16", "10.0.0.5")];
        assert_eq!(check(&twice), Err("InvalidInput"));
    }

    #[test]
    fn gateways_spread_over_hosts() {
        let hosts: Vec<String> = (0..4).map(|n| format!("host-{n}")).collect();
        let best = |n: usize| {
            let router = format!("router-{n}");
            hosts.iter().max_by_key(|host| weight(&router, host)).cloned()
        };
        for host in &hosts {
            let share = (0..400).filter(|n| best(*n).as_ref() == Some(host)).count();
            assert!((60..140).contains(&share), "{host} has {share} of 400");
        }
    }
}
