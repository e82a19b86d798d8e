//! Table `port_ips`: which addresses ports get.
//!
//! Within a pool addresses are given in a round: the pool remembers where the next search begins, so that a search
//! reads one index entry, however many are taken, and a released address rests as long as possible. Whoever allocates
//! holds the network's lock.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    Error,
    addr::{Mac, from_number, to_number},
    id::{PortId, SubnetId},
};

use super::{
    OWNER_FLOATING_IP, OWNER_METADATA, OWNER_ROUTER_GATEWAY, OWNER_ROUTER_INTERFACE,
    networks::Network,
    ports::{FixedIp, Port},
    subnets::{self, Subnet},
};
use crate::{Conn, Result, RowExt, Tx, query};

/// Most addresses of one port (Neutron's `max_fixed_ips_per_port` is as good as none; ours fits DHCP and port security).
const IPS_PER_PORT_MAX: usize = 16;

/// An address as asked for: one of the two at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedIp {
    /// Any address of this subnet, or the address in this one.
    pub subnet_id: Option<SubnetId>,
    /// This very address.
    pub ip: Option<IpAddr>,
}

impl RequestedIp {
    /// Any address of a subnet.
    pub fn in_subnet(id: &SubnetId) -> Self {
        Self { subnet_id: Some(id.clone()), ip: None }
    }

    /// This very address, in whichever subnet of the network it lies.
    pub fn address(ip: IpAddr) -> Self {
        Self { subnet_id: None, ip: Some(ip) }
    }
}

/// How far an address is from the first of its subnet. Beyond 2^63 (IPv6) it wraps, still one to one.
pub(super) fn host_of(cidr: IpNet, ip: IpAddr) -> i64 {
    let distance = to_number(ip).wrapping_sub(to_number(cidr.network()));
    #[allow(clippy::cast_possible_truncation, reason = "a subnet's hosts fit into 64 bits; see above")]
    let host = distance as u64;
    host.cast_signed()
}

/// The address that far from the first of its subnet.
pub(super) fn address_of(cidr: IpNet, host: i64) -> IpAddr {
    let distance = u128::from(host.cast_unsigned());
    from_number(to_number(cidr.network()).wrapping_add(distance), cidr.network())
}

/// Gives a new port its addresses: those asked for, or one of each IP version that the network's subnets have.
///
/// # Errors
/// `InvalidInput`, `InvalidIpForNetwork`, `InvalidIpForSubnet`, `SubnetNotFound` for what can't be;
/// `IpAddressAlreadyAllocated`, `IpAddressGenerationFailure` for what is taken.
pub(super) async fn choose(
    tx: &mut Tx,
    network: &Network,
    requested: Option<&[RequestedIp]>,
    (device_owner, mac): (&str, Mac),
) -> Result<Vec<FixedIp>, Error> {
    let mut subnets = subnets::of_network(tx, &network.id).await?;
    if device_owner == OWNER_FLOATING_IP {
        subnets.retain(|subnet| subnet.cidr.addr().is_ipv4());
    }
    let Some(requested) = requested else {
        return automatic(tx, network, &subnets, (device_owner, mac)).await;
    };
    if requested.len() > IPS_PER_PORT_MAX {
        return Err(Error::bad_request(
            "InvalidInput",
            format!("Invalid input for operation: Exceeded maximum amount of fixed ips per port: {IPS_PER_PORT_MAX}."),
        ));
    }
    let mut chosen: Vec<FixedIp> = Vec::with_capacity(requested.len());
    // Certain addresses first, so that none of them is given to one that takes any.
    let certain = requested.iter().filter(|r| r.ip.is_some());
    for request in certain.chain(requested.iter().filter(|r| r.ip.is_none())) {
        let subnet = subnet_for(network, &subnets, request, device_owner)?;
        let own = of_mac(subnet, device_owner, mac);
        let ip = match request.ip.or(own) {
            Some(ip) if own.is_some_and(|own| own != ip) => return Err(made_by_guest(ip, subnet)),
            Some(ip) if chosen.iter().any(|c| c.ip == ip) || is_taken(tx, subnet, ip).await? => {
                return Err(already_allocated(ip, subnet));
            }
            Some(ip) => ip,
            None => next_free(tx, subnet, &chosen).await?.ok_or_else(|| exhausted(network))?,
        };
        chosen.push(FixedIp { subnet_id: subnet.id.clone(), ip });
    }
    if !requested.is_empty() {
        chosen.extend(implied(&subnets, device_owner, mac, &chosen));
    }
    Ok(chosen)
}

/// The addresses that a guest makes itself, whether anybody asks for them or not, in the subnets it has none in yet.
fn implied(subnets: &[Subnet], device_owner: &str, mac: Mac, chosen: &[FixedIp]) -> Vec<FixedIp> {
    let fresh = subnets.iter().filter(|s| chosen.iter().all(|c| c.subnet_id != s.id));
    fresh.filter_map(|s| Some(FixedIp { subnet_id: s.id.clone(), ip: of_mac(s, device_owner, mac)? })).collect()
}

/// The address that a guest of this MAC has in the subnet, if guests make theirs there. The service's own ports don't.
pub(super) fn of_mac(subnet: &Subnet, device_owner: &str, mac: Mac) -> Option<IpAddr> {
    match subnet.cidr {
        IpNet::V6(cidr) if subnet.is_automatic() && !is_own(device_owner) => Some(mac.eui64(cidr.network()).into()),
        _ => None,
    }
}

fn made_by_guest(ip: IpAddr, subnet: &Subnet) -> Error {
    Error::bad_request(
        "InvalidInput",
        format!(
            "Invalid input for operation: IPv6 address {ip} can not be directly assigned to a port on subnet {} since \
             the subnet is configured for automatic addresses.",
            subnet.id
        ),
    )
}

/// One address of each IP version, from the first subnet that has one left, and those that the guest makes itself.
async fn automatic(
    tx: &mut Tx,
    network: &Network,
    subnets: &[Subnet],
    (device_owner, mac): (&str, Mac),
) -> Result<Vec<FixedIp>, Error> {
    let mut chosen = Vec::new();
    let served = |s: &&Subnet| s.serves(device_owner) && of_mac(s, device_owner, mac).is_none();
    for version in [4, 6] {
        let (mut found, mut any) = (None, false);
        for subnet in subnets.iter().filter(|s| s.ip_version() == version).filter(served) {
            any = true;
            found = next_free(tx, subnet, &[]).await?.map(|ip| FixedIp { subnet_id: subnet.id.clone(), ip });
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(ip) => chosen.push(ip),
            None if any => return Err(exhausted(network)),
            None => {}
        }
    }
    chosen.extend(implied(subnets, device_owner, mac, &chosen));
    Ok(chosen)
}

/// The subnet that an address asked for belongs to.
fn subnet_for<'a>(
    network: &Network,
    subnets: &'a [Subnet],
    request: &RequestedIp,
    device_owner: &str,
) -> Result<&'a Subnet, Error> {
    let subnet = match (&request.subnet_id, request.ip) {
        (Some(id), _) => subnets.iter().find(|s| s.id == *id).ok_or_else(|| {
            Error::bad_request(
                "InvalidInput",
                format!(
                    "Invalid input for operation: Failed to create port on network {}, because fixed_ips included \
                     invalid subnet {id}.",
                    network.id
                ),
            )
        })?,
        (None, Some(ip)) => subnets.iter().find(|s| s.cidr.contains(&ip)).ok_or_else(|| {
            Error::bad_request(
                "InvalidIpForNetwork",
                format!("IP address {ip} is not a valid IP for any of the subnets on the specified network."),
            )
        })?,
        (None, None) => {
            return Err(Error::bad_request(
                "InvalidInput",
                "Invalid input for operation: IP allocation requires subnet_id or ip_address.",
            ));
        }
    };
    match request.ip {
        Some(ip) if !is_usable(subnet.cidr, ip, device_owner) => Err(Error::bad_request(
            "InvalidIpForSubnet",
            format!("IP address {ip} is not a valid IP for the specified subnet."),
        )),
        _ => Ok(subnet),
    }
}

/// Whether a host of the subnet may have the address: neither the network's own nor, in IPv4, the broadcast address.
pub fn is_usable(cidr: IpNet, ip: IpAddr, _device_owner: &str) -> bool {
    let narrow = cidr.max_prefix_len() - cidr.prefix_len() < 2;
    cidr.contains(&ip) && (narrow || (ip != cidr.network() && (cidr.addr().is_ipv6() || ip != cidr.broadcast())))
}

async fn is_taken(tx: &mut Tx, subnet: &Subnet, ip: IpAddr) -> Result<bool> {
    let row = query("select 1 as taken from port_ips where subnet_id = $1 and host = $2")
        .bind(subnet.id.as_str())
        .bind(host_of(subnet.cidr, ip))
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

/// The next free address of the subnet's pools, besides those just chosen for the same port.
async fn next_free(tx: &mut Tx, subnet: &Subnet, chosen: &[FixedIp]) -> Result<Option<IpAddr>> {
    let rows =
        query("select first_host, last_host, next_host from allocation_pools where subnet_id = $1 order by first_host")
            .bind(subnet.id.as_str())
            .fetch_all(&mut **tx)
            .await?;
    for row in &rows {
        let (first, last, next) = (row.int("first_host")?, row.int("last_host")?, row.int("next_host")?);
        // An IPv6 pool that ends beyond 2^63 wraps: nobody comes to the end of its first half.
        let last = if last < first { i64::MAX } else { last };
        let mut from = next;
        let mut wrapped = false;
        loop {
            match first_gap(tx, &subnet.id, from, last).await? {
                Some(host) => {
                    let ip = address_of(subnet.cidr, host);
                    if chosen.iter().all(|c| c.ip != ip) {
                        remember_next(tx, &subnet.id, first, if host < last { host + 1 } else { first }).await?;
                        return Ok(Some(ip));
                    }
                    from = host + 1;
                }
                None if wrapped || next == first => break,
                None => (from, wrapped) = (first, true),
            }
        }
    }
    Ok(None)
}

/// The first address from `from` up to `last` that nobody has.
async fn first_gap(tx: &mut Tx, subnet: &SubnetId, from: i64, last: i64) -> Result<Option<i64>> {
    if from > last {
        return Ok(None);
    }
    let row = query("select 1 as taken from port_ips where subnet_id = $1 and host = $2")
        .bind(subnet.as_str())
        .bind(from)
        .fetch_optional(&mut **tx)
        .await?;
    if row.is_none() {
        return Ok(Some(from));
    }
    // The first that is taken and whose neighbour is not: the index is read only as far as that.
    let row = query(
        "select a.host + 1 as host from port_ips a where a.subnet_id = $1 and a.host >= $2 and a.host < $3 \
         and not exists (select 1 from port_ips b where b.subnet_id = a.subnet_id and b.host = a.host + 1) \
         order by a.host limit 1",
    )
    .bind(subnet.as_str())
    .bind(from)
    .bind(last)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.int("host")).transpose()
}

async fn remember_next(tx: &mut Tx, subnet: &SubnetId, pool: i64, next: i64) -> Result<()> {
    query("update allocation_pools set next_host = $3 where subnet_id = $1 and first_host = $2")
        .bind(subnet.as_str())
        .bind(pool)
        .bind(next)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn already_allocated(ip: IpAddr, subnet: &Subnet) -> Error {
    Error::conflict("IpAddressAlreadyAllocated", format!("IP address {ip} already allocated in subnet {}.", subnet.id))
}

fn exhausted(network: &Network) -> Error {
    Error::conflict("IpAddressGenerationFailure", format!("No more IP addresses available on network {}.", network.id))
}

/// Writes the addresses of a port.
pub(super) async fn insert(tx: &mut Tx, port: &PortId, ips: &[FixedIp]) -> Result<()> {
    for (position, ip) in (0_i64..).zip(ips) {
        let cidr = query("select cidr from subnets where id = $1").bind(ip.subnet_id.as_str());
        let cidr = cidr.fetch_one(&mut **tx).await?.text("cidr")?;
        let cidr: IpNet = cidr.parse().map_err(|e| super::column("cidr", e))?;
        query("insert into port_ips (subnet_id, host, port_id, ip, position) values ($1, $2, $3, $4, $5)")
            .bind(ip.subnet_id.as_str())
            .bind(host_of(cidr, ip.ip))
            .bind(port.as_str())
            .bind(ip.ip.to_string())
            .bind(position)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Adds any address of one more subnet to a port.
pub(super) async fn add(tx: &mut Tx, port: &Port, subnet: &Subnet) -> Result<(), Error> {
    let network = super::networks::lock(tx, &subnet.network_id).await?;
    let ip = next_free(tx, subnet, &[]).await?.ok_or_else(|| exhausted(&network))?;
    let mut all = port.fixed_ips.clone();
    all.push(FixedIp { subnet_id: subnet.id.clone(), ip });
    release_all(tx, &port.id).await?;
    Ok(insert(tx, &port.id, &all).await?)
}

/// Adds one address to a port, after those that it has.
pub(super) async fn append(tx: &mut Tx, port: &Port, subnet: &Subnet, ip: IpAddr) -> Result<()> {
    query("insert into port_ips (subnet_id, host, port_id, ip, position) values ($1, $2, $3, $4, $5)")
        .bind(subnet.id.as_str())
        .bind(host_of(subnet.cidr, ip))
        .bind(port.id.as_str())
        .bind(ip.to_string())
        .bind(i64::try_from(port.fixed_ips.len()).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes all addresses from a port.
pub(super) async fn release_all(tx: &mut Tx, port: &PortId) -> Result<()> {
    query("delete from port_ips where port_id = $1").bind(port.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Takes a port's addresses in one subnet from it.
pub(super) async fn release_in(tx: &mut Tx, port: &PortId, subnet: &SubnetId) -> Result<()> {
    query("delete from port_ips where port_id = $1 and subnet_id = $2")
        .bind(port.as_str())
        .bind(subnet.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// An address of the subnet that someone uses, the metadata service and guests that make theirs themselves apart.
pub(super) async fn first_in_use(conn: &mut Conn, subnet: &Subnet) -> Result<Option<(String, String)>> {
    let row = query(
        "select i.ip, i.port_id from port_ips i join ports p on p.id = i.port_id \
         where i.subnet_id = $1 and p.device_owner <> $2 and ($3 = 0 or p.device_owner in ($4, $5)) limit 1",
    )
    .bind(subnet.id.as_str())
    .bind(OWNER_METADATA)
    .bind(i64::from(subnet.is_automatic()))
    .bind(OWNER_ROUTER_INTERFACE)
    .bind(OWNER_ROUTER_GATEWAY)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.text("ip")?, row.text("port_id")?))).transpose()
}

/// Whether ports of this owner are the service's own: no security groups, no quota but a router's interface.
pub(super) fn is_own(device_owner: &str) -> bool {
    [OWNER_METADATA, OWNER_ROUTER_GATEWAY, OWNER_ROUTER_INTERFACE, OWNER_FLOATING_IP].contains(&device_owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_addresses() {
        let table =
            [("10.0.0.0/24", "10.0.0.7", 7), ("10.0.4.0/22", "10.0.5.1", 257), ("2001:db8::/64", "2001:db8::a", 10)];
        for (cidr, ip, host) in table {
            let (cidr, ip): (IpNet, IpAddr) = (cidr.parse().unwrap(), ip.parse().unwrap());
            assert_eq!(host_of(cidr, ip), host);
            assert_eq!(address_of(cidr, host), ip);
        }
        let (cidr, ip): (IpNet, IpAddr) =
            ("2001:db8::/64".parse().unwrap(), "2001:db8::ffff:ffff:ffff:ffff".parse().unwrap());
        assert_eq!(address_of(cidr, host_of(cidr, ip)), ip, "wraps and comes back");
    }

    #[test]
    fn usable_addresses() {
        let table = [
            ("10.0.0.0/24", "10.0.0.0", false),
            ("10.0.0.0/24", "10.0.0.1", true),
            ("10.0.0.0/24", "10.0.0.255", false),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("10.0.0.0/31", "10.0.0.0", true),
            ("10.0.0.4/32", "10.0.0.4", true),
        ];
        for (cidr, ip, usable) in table {
            assert_eq!(is_usable(cidr.parse().unwrap(), ip.parse().unwrap(), ""), usable, "{ip} in {cidr}");
        }
    }
}
