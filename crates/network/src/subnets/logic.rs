//! Decisions about subnets.

use std::{net::IpAddr, time::Duration};

use drivers::network::{Route as DriverRoute, SubnetSpec};
use ipnet::IpNet;
use model::{
    Error, Result,
    addr::{Mac, default_pools, first_usable, to_number},
    id::ProjectId,
};
use store::network::{
    Route,
    networks::Network,
    ports::Port,
    subnets::{MODE_SLAAC, MODE_STATEFUL, MODE_STATELESS, NewSubnet, Pool, Subnet},
};
use web::Target;

use super::wire::{Create, Pool as WirePool, Update};
use crate::collection::{invalid, text};

/// Neutron's limits.
const DNS_SERVERS_MAX: usize = 5;
const HOST_ROUTES_MAX: usize = 20;
/// How long a DHCP lease lasts: OVN answers the renewal itself, so that half a day costs nothing.
const LEASE: Duration = Duration::from_secs(43_200);

/// What policy rules refer to. That a network is external is left out: Neutron's rules would admit everyone to its subnets, its
/// queries show them to nobody else.
pub fn target(project: &ProjectId, network: &Network) -> Target {
    Target::project(project)
        .with("shared", if network.shared { "True" } else { "False" })
        .with("network:project_id", network.project_id.as_str())
        .with("network:tenant_id", network.project_id.as_str())
}

/// The subnet that a request asks for, of that range.
///
/// # Errors
/// Bad request that says which attribute can't be.
pub fn new_subnet(create: &Create, cidr: Option<IpNet>, network: &Network, project: &ProjectId) -> Result<NewSubnet> {
    text("name", create.name.as_deref().unwrap_or_default())?;
    text("description", create.description.as_deref().unwrap_or_default())?;
    let cidr = cidr.ok_or_else(|| {
        Error::bad_request(
            "BadRequest",
            "Bad subnets request: A cidr must be specified in the absence of a subnet pool.",
        )
    })?;
    expect_version(create, cidr)?;
    let gateway_ip = match &create.gateway_ip {
        None => first_usable(cidr),
        Some(None) => None,
        Some(Some(given)) => Some(gateway(given, cidr)?),
    };
    let pools = create.allocation_pools.as_deref().map(|given| pools(given, cidr, gateway_ip)).transpose()?;
    let base = NewSubnet::new(network, create.name.clone().unwrap_or_default(), cidr);
    let new = NewSubnet {
        project_id: project.clone(),
        description: create.description.clone().unwrap_or_default(),
        gateway_ip,
        pools,
        enable_dhcp: create.enable_dhcp.unwrap_or(true),
        dns_nameservers: create.dns_nameservers.clone().unwrap_or_default(),
        host_routes: create.host_routes.clone().unwrap_or_default(),
        ipv6_ra_mode: create.ipv6_ra_mode.clone(),
        ipv6_address_mode: create.ipv6_address_mode.clone(),
        service_types: create.service_types.clone().unwrap_or_default(),
        ..base
    };
    ipv6_modes(&new)?;
    dns_servers(&new.dns_nameservers)?;
    host_routes(&new.host_routes)?;
    service_types(&new.service_types)?;
    Ok(new)
}

/// A range whose address is its first: what Neutron takes is normalised likewise.
///
/// # Errors
/// Bad request for what is no range that guests can be in.
pub fn cidr_of(text: &str) -> Result<IpNet> {
    let not_a_subnet = || {
        Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for cidr. Reason: '{text}' is not a valid IP subnet."),
        )
    };
    let cidr: IpNet = text.parse().map_err(|_| not_a_subnet())?;
    if cidr.prefix_len() == 0 || cidr.addr().is_multicast() || cidr.addr().is_loopback() {
        return Err(not_a_subnet());
    }
    Ok(cidr.trunc())
}

fn expect_version(create: &Create, cidr: IpNet) -> Result<()> {
    let version = if cidr.addr().is_ipv4() { 4 } else { 6 };
    match create.ip_version {
        None => Err(Error::bad_request(
            "HTTPBadRequest",
            "Failed to parse request. Required attribute 'ip_version' not specified",
        )),
        Some(given) if given != version => {
            Err(invalid(format!("The address family of cidr '{cidr}' is not that of ip_version {given}")))
        }
        Some(4) if create.ipv6_ra_mode.is_some() || create.ipv6_address_mode.is_some() => {
            Err(invalid("ipv6_ra_mode and ipv6_address_mode must be unset for IPv4"))
        }
        Some(_) => Ok(()),
    }
}

/// Modes of IPv6: both the same where both are given, only with DHCP on, and guests' own addresses only in ranges of
/// 64 bits.
fn ipv6_modes(new: &NewSubnet) -> Result<()> {
    let modes = [("ipv6_ra_mode", &new.ipv6_ra_mode), ("ipv6_address_mode", &new.ipv6_address_mode)];
    let given: Vec<(&str, &str)> = modes.iter().filter_map(|(name, mode)| Some((*name, mode.as_deref()?))).collect();
    for (name, mode) in &given {
        if ![MODE_SLAAC, MODE_STATEFUL, MODE_STATELESS].contains(mode) {
            return Err(Error::bad_request(
                "HTTPBadRequest",
                format!(
                    "Invalid input for {name}. Reason: '{mode}' is not in ['dhcpv6-stateful', 'dhcpv6-stateless', 'slaac']."
                ),
            ));
        }
    }
    if !given.is_empty() && !new.enable_dhcp {
        return Err(invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"));
    }
    if let [(_, ra), (_, address)] = given.as_slice()
        && ra != address
    {
        return Err(invalid(format!(
            "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are \
             set, they must be the same value"
        )));
    }
    let automatic = given.iter().find(|(_, mode)| *mode != MODE_STATEFUL);
    match automatic {
        Some((_, mode)) if new.cidr.prefix_len() != 64 => Err(invalid(format!(
            "Invalid CIDR {} for IPv6 address mode {mode}. OpenStack uses the EUI-64 address format, which requires the \
             prefix to be /64",
            new.cidr
        ))),
        _ => Ok(()),
    }
}

/// Beginnings of `device_owner`, as Neutron has them.
fn service_types(given: &[String]) -> Result<()> {
    match given.iter().find(|kind| !(kind.starts_with("network:") || kind.starts_with("compute:"))) {
        Some(kind) => Err(Error::bad_request(
            "InvalidSubnetServiceType",
            format!("Subnet service type {kind} does not correspond to a valid device owner."),
        )),
        None => Ok(()),
    }
}

fn gateway(text: &str, cidr: IpNet) -> Result<IpAddr> {
    let ip: IpAddr = address("gateway_ip", text)?;
    if ip.is_ipv4() != cidr.addr().is_ipv4() {
        return Err(invalid(format!("gateway_ip {ip} has another address family than the subnet")));
    }
    let narrow = cidr.max_prefix_len() - cidr.prefix_len() < 2;
    if cidr.contains(&ip) && !narrow && ip.is_ipv4() && (ip == cidr.network() || ip == cidr.broadcast()) {
        return Err(invalid("Gateway is not valid on subnet"));
    }
    Ok(ip)
}

fn address(attribute: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for {attribute}. Reason: '{text}' is not a valid IP address."),
        )
    })
}

/// Pools as addresses, in order, checked: each in the range, none over another, the gateway in none.
fn pools(given: &[WirePool], cidr: IpNet, gateway: Option<IpAddr>) -> Result<Vec<Pool>> {
    let mut pools = Vec::with_capacity(given.len());
    for pool in given {
        let (start, end) = (address("allocation_pools", &pool.start)?, address("allocation_pools", &pool.end)?);
        if start.is_ipv4() != cidr.addr().is_ipv4() || start.is_ipv4() != end.is_ipv4() || start > end {
            return Err(Error::bad_request(
                "InvalidAllocationPool",
                format!("The allocation pool {start}-{end} is not valid."),
            ));
        }
        let usable = default_pools(cidr, None);
        if !usable.iter().any(|(first, last)| *first <= start && end <= *last) {
            return Err(Error::bad_request(
                "OutOfBoundsAllocationPool",
                format!("The allocation pool {start}-{end} spans beyond the subnet cidr {cidr}."),
            ));
        }
        pools.push((start, end));
    }
    pools.sort_by_key(|(start, _)| to_number(*start));
    if let Some(pair) = pools.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
        return Err(Error::conflict(
            "OverlappingAllocationPools",
            format!(
                "Found overlapping allocation pools: {}-{} {}-{} for subnet {cidr}.",
                pair[0].0, pair[0].1, pair[1].0, pair[1].1
            ),
        ));
    }
    expect_gateway_outside(&pools, gateway)?;
    Ok(pools)
}

fn expect_gateway_outside(pools: &[Pool], gateway: Option<IpAddr>) -> Result<()> {
    let holds = |gateway: IpAddr| pools.iter().find(|(start, end)| *start <= gateway && gateway <= *end);
    match gateway.and_then(|g| holds(g).map(|pool| (g, pool))) {
        None => Ok(()),
        Some((gateway, (start, end))) => Err(Error::conflict(
            "GatewayConflictWithAllocationPools",
            format!("Gateway ip {gateway} conflicts with allocation pool {start}-{end}."),
        )),
    }
}

fn dns_servers(given: &[String]) -> Result<()> {
    if given.len() > DNS_SERVERS_MAX {
        return Err(Error::bad_request(
            "DNSNameServersExhausted",
            format!("Unable to complete operation: The number of DNS nameservers exceeds the limit {DNS_SERVERS_MAX}."),
        ));
    }
    given.iter().try_for_each(|server| address("dns_nameservers", server).map(drop))
}

fn host_routes(given: &[Route]) -> Result<()> {
    if given.len() > HOST_ROUTES_MAX {
        return Err(Error::bad_request(
            "HostRoutesExhausted",
            format!("Unable to complete operation: The number of host routes exceeds the limit {HOST_ROUTES_MAX}."),
        ));
    }
    given.iter().try_for_each(|route| match route.parsed() {
        Some((destination, hop)) if destination.addr().is_ipv4() == hop.is_ipv4() => Ok(()),
        _ => Err(invalid(format!("'{} via {}' is no route", route.destination, route.nexthop))),
    })
}

/// The subnet as it is after the update.
///
/// # Errors
/// Bad request or conflict that says which attribute can't be.
pub fn updated(subnet: &Subnet, update: &Update) -> Result<Subnet> {
    text("name", update.name.as_deref().unwrap_or_default())?;
    text("description", update.description.as_deref().unwrap_or_default())?;
    let mut after = subnet.clone();
    after.name = update.name.clone().unwrap_or(after.name);
    after.description = update.description.clone().unwrap_or(after.description);
    after.enable_dhcp = update.enable_dhcp.unwrap_or(after.enable_dhcp);
    match &update.gateway_ip {
        None => {}
        Some(None) => after.gateway_ip = None,
        Some(Some(given)) => after.gateway_ip = Some(gateway(given, subnet.cidr)?),
    }
    match &update.allocation_pools {
        Some(given) => after.pools = pools(given, subnet.cidr, after.gateway_ip)?,
        None if after.gateway_ip != subnet.gateway_ip => expect_gateway_outside(&after.pools, after.gateway_ip)?,
        None => {}
    }
    if let Some(servers) = &update.dns_nameservers {
        dns_servers(servers)?;
        after.dns_nameservers.clone_from(servers);
    }
    if let Some(routes) = &update.host_routes {
        host_routes(routes)?;
        after.host_routes.clone_from(routes);
    }
    if let Some(kinds) = &update.service_types {
        service_types(kinds)?;
        after.service_types.clone_from(kinds);
    }
    if !after.enable_dhcp && (after.ipv6_ra_mode.is_some() || after.ipv6_address_mode.is_some()) {
        return Err(invalid("DHCP can't be disabled while ipv6_ra_mode or ipv6_address_mode is set"));
    }
    Ok(after)
}

/// What OVN is to answer DHCP requests with; none where the subnet has no DHCP.
pub fn spec(subnet: &Subnet, network: &Network, metadata: Option<&Port>) -> Option<SubnetSpec> {
    if !subnet.answers_dhcp() {
        return None;
    }
    let metadata_ip =
        metadata.and_then(|port| port.fixed_ips.iter().find(|ip| ip.subnet_id == subnet.id)).map(|ip| ip.ip);
    let route = |route: &Route| {
        let (destination, next_hop) = route.parsed()?;
        Some(DriverRoute { destination, next_hop })
    };
    Some(SubnetSpec {
        id: subnet.id.clone(),
        network_id: subnet.network_id.clone(),
        cidr: subnet.cidr,
        gateway: subnet.gateway_ip,
        metadata_ip,
        server_mac: metadata.map_or(Mac([0xfa, 0x16, 0x3e, 0, 0, 1]), |port| port.mac),
        dns_servers: subnet.dns_nameservers.iter().filter_map(|s| s.parse().ok()).collect(),
        dns_domain: None,
        host_routes: subnet.host_routes.iter().filter_map(route).collect(),
        mtu: u32::try_from(network.mtu).unwrap_or(1500),
        lease: LEASE,
        stateless: subnet.ipv6_address_mode.as_deref() == Some(MODE_STATELESS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_checked() {
        let check = |given: &[(&str, &str)], gateway: Option<&str>| {
            let given: Vec<WirePool> =
                given.iter().map(|(s, e)| WirePool { start: (*s).into(), end: (*e).into() }).collect();
            let gateway = gateway.map(|g| g.parse().unwrap());
            pools(&given, "10.0.0.0/24".parse().unwrap(), gateway).map_err(|e| e.code)
        };
        assert_eq!(check(&[("10.0.0.9", "10.0.0.5")], None).unwrap_err(), "InvalidAllocationPool");
        assert_eq!(check(&[("10.0.0.2", "10.0.1.5")], None).unwrap_err(), "OutOfBoundsAllocationPool");
        assert_eq!(check(&[("10.0.0.0", "10.0.0.5")], None).unwrap_err(), "OutOfBoundsAllocationPool");
        assert_eq!(
            check(&[("10.0.0.2", "10.0.0.9"), ("10.0.0.9", "10.0.0.12")], None).unwrap_err(),
            "OverlappingAllocationPools"
        );
        assert_eq!(
            check(&[("10.0.0.1", "10.0.0.9")], Some("10.0.0.1")).unwrap_err(),
            "GatewayConflictWithAllocationPools"
        );
        assert_eq!(check(&[("10.0.0.9", "10.0.0.12"), ("10.0.0.2", "10.0.0.5")], Some("10.0.0.1")).unwrap().len(), 2);
    }

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("10.0.0.0/24", Some("10.0.0.0/24")),
            ("10.0.0.7/24", Some("10.0.0.0/24")),
            ("0.0.0.0/0", None),
            ("224.0.0.0/8", None),
            ("10.0.0.0", None),
            ("nonsense", None),
        ] {
            assert_eq!(cidr_of(text).ok().map(|c| c.to_string()).as_deref(), expected, "{text}");
        }
    }
}
