//! Tables `subnets` and `allocation_pools`.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use model::{
    Error,
    addr::{default_pools, first_usable},
    id::{NetworkId, ProjectId, SubnetId},
};
use sqlx::AssertSqlSafe;

use super::{
    Meta, OWNER_METADATA, OWNER_ROUTER_GATEWAY, OWNER_ROUTER_INTERFACE, Route, Viewer, address, addresses, charge,
    column, json, networks,
    networks::Network,
    opt_address, ports, release,
    rows::{self, Table},
    tags,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("subnet", "realize");

/// Guests make their addresses themselves, from what routers advertise.
pub const MODE_SLAAC: &str = "slaac";
/// Guests ask for their addresses.
pub const MODE_STATEFUL: &str = "dhcpv6-stateful";
/// Guests make their addresses themselves and ask for the rest.
pub const MODE_STATELESS: &str = "dhcpv6-stateless";

/// A range of addresses, both ends included.
pub type Pool = (IpAddr, IpAddr);

/// A subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// The network it lies in.
    pub network_id: NetworkId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its range.
    pub cidr: IpNet,
    /// The guests' default gateway.
    pub gateway_ip: Option<IpAddr>,
    /// Whether guests get their addresses by DHCP.
    pub enable_dhcp: bool,
    /// Name servers for guests.
    pub dns_nameservers: Vec<String>,
    /// Further routes for guests.
    pub host_routes: Vec<Route>,
    /// How IPv6 guests learn of routers.
    pub ipv6_ra_mode: Option<String>,
    /// How IPv6 guests get addresses.
    pub ipv6_address_mode: Option<String>,
    /// The device owners whose ports may have addresses here unasked; none is all.
    pub service_types: Vec<String>,
    /// The pool that it was cut from.
    pub subnetpool_id: Option<String>,
    /// Where addresses come from when nobody asks for a certain one.
    pub pools: Vec<Pool>,
    /// What all tables have.
    pub meta: Meta,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Subnet {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            network_id: row.id("network_id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            cidr: row.text("cidr")?.parse().map_err(|e| column("cidr", e))?,
            gateway_ip: opt_address(row, "gateway_ip")?,
            enable_dhcp: row.flag("enable_dhcp")?,
            dns_nameservers: row.json("dns_nameservers")?,
            host_routes: row.json("host_routes")?,
            ipv6_ra_mode: row.opt_text("ipv6_ra_mode")?,
            ipv6_address_mode: row.opt_text("ipv6_address_mode")?,
            service_types: row.json("service_types")?,
            subnetpool_id: row.opt_text("subnetpool_id")?,
            pools: Vec::new(),
            meta: Meta::from_row(row)?,
            tags: Vec::new(),
        })
    }

    /// 4 or 6.
    pub fn ip_version(&self) -> i64 {
        version(self.cidr)
    }

    /// Whether guests make their addresses here themselves, of their MAC.
    pub fn is_automatic(&self) -> bool {
        [&self.ipv6_address_mode, &self.ipv6_ra_mode]
            .into_iter()
            .flatten()
            .any(|mode| [MODE_SLAAC, MODE_STATELESS].contains(&mode.as_str()))
    }

    /// Whether guests have anything to ask DHCP for.
    pub fn answers_dhcp(&self) -> bool {
        let mode = self.ipv6_address_mode.as_deref();
        self.enable_dhcp && (self.cidr.addr().is_ipv4() || [Some(MODE_STATEFUL), Some(MODE_STATELESS)].contains(&mode))
    }

    /// Whether ports of this owner get addresses here without asking for them.
    pub(super) fn serves(&self, device_owner: &str) -> bool {
        self.service_types.is_empty() || self.service_types.iter().any(|kind| device_owner.starts_with(kind.as_str()))
    }
}

fn version(cidr: IpNet) -> i64 {
    if cidr.addr().is_ipv4() { 4 } else { 6 }
}

/// A subnet to make. Checked: the pools lie in the range and don't overlap, the gateway is in none of them.
#[derive(Clone, Debug)]
pub struct NewSubnet {
    /// Its id.
    pub id: SubnetId,
    /// The network it lies in.
    pub network_id: NetworkId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its range.
    pub cidr: IpNet,
    /// The guests' default gateway.
    pub gateway_ip: Option<IpAddr>,
    /// Where addresses come from; none is all that the gateway leaves.
    pub pools: Option<Vec<Pool>>,
    /// Whether guests get their addresses by DHCP.
    pub enable_dhcp: bool,
    /// Name servers for guests.
    pub dns_nameservers: Vec<String>,
    /// Further routes for guests.
    pub host_routes: Vec<Route>,
    /// How IPv6 guests learn of routers.
    pub ipv6_ra_mode: Option<String>,
    /// How IPv6 guests get addresses.
    pub ipv6_address_mode: Option<String>,
    /// The device owners whose ports may have addresses here unasked; none is all.
    pub service_types: Vec<String>,
    /// The pool that it was cut from.
    pub subnetpool_id: Option<String>,
}

impl NewSubnet {
    /// A subnet with Neutron's defaults: the first address is the gateway, DHCP is on.
    pub fn new(network: &Network, name: impl Into<String>, cidr: IpNet) -> Self {
        Self {
            id: SubnetId::random(),
            network_id: network.id.clone(),
            project_id: network.project_id.clone(),
            name: name.into(),
            description: String::new(),
            cidr,
            gateway_ip: first_usable(cidr),
            pools: None,
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
            service_types: Vec::new(),
            subnetpool_id: None,
        }
    }
}

/// `SubnetNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("SubnetNotFound", format!("Subnet {} could not be found.", id.as_ref()))
}

/// Makes a subnet, its pools, its flow and, if it is the network's first with DHCP, the network's metadata port.
///
/// # Errors
/// `OverQuota`, `NetworkNotFound`, `InvalidInput` for a range that overlaps another of the network.
pub async fn create(tx: &mut Tx, new: &NewSubnet) -> Result<Subnet, Error> {
    charge(tx, &new.project_id, "subnet", 1).await?;
    let network = networks::lock(tx, &new.network_id).await?;
    for other in of_network(tx, &network.id).await? {
        if other.cidr.contains(&new.cidr) || new.cidr.contains(&other.cidr) {
            return Err(Error::bad_request(
                "InvalidInput",
                format!(
                    "Invalid input for operation: Requested subnet with cidr: {} for network: {} overlaps with another \
                     subnet.",
                    new.cidr, network.id
                ),
            ));
        }
    }
    insert(tx, new).await?;
    let pools = new.pools.clone().unwrap_or_else(|| default_pools(new.cidr, new.gateway_ip));
    set_pools(tx, &new.id, new.cidr, &pools).await?;
    flows::insert(tx, &new.id, FLOW.0, FLOW.1, None).await?;
    rows::touch(tx, Table::Networks, network.id.as_str()).await?;
    let subnet = get(tx, &new.id).await?.ok_or_else(|| not_found(&new.id))?;
    ensure_metadata_address(tx, &network, &subnet).await?;
    if subnet.is_automatic() {
        ports::add_automatic(tx, &subnet).await?;
    }
    Ok(subnet)
}

async fn insert(tx: &mut Tx, new: &NewSubnet) -> Result<()> {
    let meta = Meta::new(tx.now());
    query(
        "insert into subnets (id, network_id, project_id, name, description, ip_version, cidr, gateway_ip, enable_dhcp, \
         dns_nameservers, host_routes, ipv6_ra_mode, ipv6_address_mode, service_types, subnetpool_id, revision, \
         realized_revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)",
    )
    .bind(new.id.as_str())
    .bind(new.network_id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.name.as_str())
    .bind(new.description.as_str())
    .bind(version(new.cidr))
    .bind(new.cidr.to_string())
    .bind(new.gateway_ip.map(|ip| ip.to_string()))
    .bind(i64::from(new.enable_dhcp))
    .bind(json(&new.dns_nameservers))
    .bind(json(&new.host_routes))
    .bind(new.ipv6_ra_mode.as_deref())
    .bind(new.ipv6_address_mode.as_deref())
    .bind(json(&new.service_types))
    .bind(new.subnetpool_id.as_deref())
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::SUBNET, &new.id);
    Ok(())
}

/// The metadata service of a network has one address in each IPv4 subnet with DHCP, and none in others: in IPv6 it has
/// the same link-local one everywhere.
async fn ensure_metadata_address(tx: &mut Tx, network: &Network, subnet: &Subnet) -> Result<(), Error> {
    let wanted = subnet.enable_dhcp && subnet.cidr.addr().is_ipv4();
    let port = ports::metadata_of(tx, &network.id).await?;
    match (port, wanted) {
        (None, _) if subnet.enable_dhcp => {
            let new = ports::NewPort {
                fixed_ips: Some(wanted.then(|| super::RequestedIp::in_subnet(&subnet.id)).into_iter().collect()),
                device_owner: OWNER_METADATA.to_owned(),
                device_id: format!("ovnmeta-{}", network.id),
                ..ports::NewPort::new(&network.project_id, &network.id)
            };
            ports::create(tx, &new).await?;
        }
        (Some(port), true) if port.fixed_ips.iter().all(|ip| ip.subnet_id != subnet.id) => {
            addresses::add(tx, &port, subnet).await?;
            ports::touch(tx, &port).await?;
        }
        (Some(port), false) if port.fixed_ips.iter().any(|ip| ip.subnet_id == subnet.id) => {
            addresses::release_in(tx, &port.id, &subnet.id).await?;
            ports::touch(tx, &port).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn set_pools(tx: &mut Tx, id: &SubnetId, cidr: IpNet, pools: &[Pool]) -> Result<()> {
    query("delete from allocation_pools where subnet_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    for (first, last) in pools {
        query("insert into allocation_pools (subnet_id, first_host, last_host, next_host) values ($1, $2, $3, $2)")
            .bind(id.as_str())
            .bind(addresses::host_of(cidr, *first))
            .bind(addresses::host_of(cidr, *last))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// One subnet, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Subnet>> {
    Ok(find(conn, id).await?.filter(|subnet| !subnet.meta.deleted))
}

/// One subnet, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Subnet>> {
    let row = query("select * from subnets where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One subnet, locked until the transaction ends.
///
/// # Errors
/// `SubnetNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<Subnet, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from subnets where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?;
    complete(tx, row.as_slice()).await?.pop().ok_or_else(|| not_found(id.as_ref()))
}

/// The subnets of a network, in the order in which they were made.
pub async fn of_network(conn: &mut Conn, id: &NetworkId) -> Result<Vec<Subnet>> {
    of_networks(conn, &[id]).await
}

/// The subnets of several networks, in the order in which they were made.
pub async fn of_networks(conn: &mut Conn, ids: &[&NetworkId]) -> Result<Vec<Subnet>> {
    let mut select = select(&Viewer::Admin);
    select.any_of("r.network_id", ids.iter().map(|id| (*id).into()));
    let rows = select.all(conn, "r.created_at, r.id").await?;
    complete(conn, &rows).await
}

/// Several subnets, by id.
pub async fn by_ids(conn: &mut Conn, ids: &[&SubnetId]) -> Result<Vec<Subnet>> {
    let mut select = select(&Viewer::Admin);
    select.any_of("r.id", ids.iter().map(|id| (*id).into()));
    let rows = select.all(conn, "r.id").await?;
    complete(conn, &rows).await
}

/// A `select` of the subnets that someone sees: its own, and those of networks that are shared. Those of external networks
/// are the operator's, as in Neutron.
pub fn select(viewer: &Viewer) -> Select {
    let base = "select r.* from subnets r join networks n on n.id = r.network_id";
    let mut select = Select::new(base, "subnets r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.filter("(r.project_id = ? or n.shared = 1)", [project.into()]);
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Subnet>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<Subnet>> {
    let mut subnets: Vec<Subnet> = rows.iter().map(Subnet::from_row).collect::<Result<_>>()?;
    if subnets.is_empty() {
        return Ok(subnets);
    }
    let mut pools: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
    let mut select = Select::new("select p.* from allocation_pools p", "allocation_pools p", "p.subnet_id");
    select.any_of("p.subnet_id", subnets.iter().map(|s| (&s.id).into()));
    for row in select.all(conn, "p.subnet_id, p.first_host").await? {
        pools.entry(row.text("subnet_id")?).or_default().push((row.int("first_host")?, row.int("last_host")?));
    }
    for subnet in &mut subnets {
        let at = |host| addresses::address_of(subnet.cidr, host);
        subnet.pools = pools
            .remove(subnet.id.as_str())
            .unwrap_or_default()
            .into_iter()
            .map(|(first, last)| (at(first), at(last)))
            .collect();
    }
    tags::fill(conn, &mut subnets, |s| (s.id.as_str(), &mut s.tags)).await?;
    Ok(subnets)
}

/// Writes what may change of a subnet, raises its revision, wakes its flow. Its network must be locked.
pub async fn update(tx: &mut Tx, network: &Network, before: &Subnet, subnet: &Subnet) -> Result<(), Error> {
    query(
        "update subnets set name = $2, description = $3, gateway_ip = $4, enable_dhcp = $5, dns_nameservers = $6, \
         host_routes = $7, service_types = $8, revision = revision + 1, updated_at = $9 where id = $1",
    )
    .bind(subnet.id.as_str())
    .bind(subnet.name.as_str())
    .bind(subnet.description.as_str())
    .bind(subnet.gateway_ip.map(|ip| ip.to_string()))
    .bind(i64::from(subnet.enable_dhcp))
    .bind(json(&subnet.dns_nameservers))
    .bind(json(&subnet.host_routes))
    .bind(json(&subnet.service_types))
    .bind(tx.now().0)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    if subnet.pools != before.pools {
        set_pools(tx, &subnet.id, subnet.cidr, &subnet.pools).await?;
    }
    if subnet.enable_dhcp != before.enable_dhcp {
        ensure_metadata_address(tx, network, subnet).await?;
        ports::wake_in_subnet(tx, &subnet.id).await?;
    }
    let advertised = subnet.cidr.addr().is_ipv6() && subnet.dns_nameservers != before.dns_nameservers;
    if subnet.gateway_ip != before.gateway_ip || advertised {
        wake_routers(tx, subnet).await?;
    }
    events::updated(tx, events::SUBNET, &subnet.id);
    flows::wake(tx, &subnet.id);
    Ok(())
}

/// Routers leave through the gateway of their own gateway's subnet, and advertise what others hold.
async fn wake_routers(tx: &mut Tx, subnet: &Subnet) -> Result<()> {
    let rows = query(
        "select p.device_id as id from port_ips i join ports p on p.id = i.port_id \
         where i.subnet_id = $1 and p.device_owner in ($2, $3)",
    )
    .bind(subnet.id.as_str())
    .bind(OWNER_ROUTER_GATEWAY)
    .bind(OWNER_ROUTER_INTERFACE)
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}

/// Deletes a subnet.
///
/// # Errors
/// `SubnetNotFound`, or `SubnetInUse` while ports other than the metadata service's have addresses in it.
pub async fn delete(tx: &mut Tx, id: &SubnetId) -> Result<(), Error> {
    let subnet = get(tx, id).await?.ok_or_else(|| not_found(id))?;
    networks::lock(tx, &subnet.network_id).await?;
    let subnet = lock(tx, id).await?;
    if let Some((ip, port)) = addresses::first_in_use(tx, &subnet).await? {
        return Err(Error::conflict(
            "SubnetInUse",
            format!(
                "Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet \
                 ({ip} on port {port})."
            ),
        ));
    }
    if subnet.is_automatic() {
        ports::remove_automatic(tx, &subnet).await?;
    }
    remove(tx, &subnet).await?;
    rows::touch(tx, Table::Networks, subnet.network_id.as_str()).await?;
    Ok(())
}

/// Deletes a subnet whose network is locked and in which only the metadata service can still have an address.
pub(super) async fn remove(tx: &mut Tx, subnet: &Subnet) -> Result<()> {
    if let Some(port) = ports::metadata_of(tx, &subnet.network_id).await? {
        addresses::release_in(tx, &port.id, &subnet.id).await?;
        ports::touch(tx, &port).await?;
    }
    rows::mark_deleted(tx, Table::Subnets, subnet.id.as_str()).await?;
    release(tx, &subnet.project_id, "subnet", 1).await
}

/// The address as a port of this subnet shows it, checked to lie in it.
pub(super) fn ip_column(row: &Row) -> Result<IpAddr> {
    address(row, "ip")
}

/// Whether a router's interface has this address of the subnet.
pub async fn router_at(conn: &mut Conn, subnet: &Subnet, ip: IpAddr) -> Result<bool> {
    let row = query(
        "select 1 as there from port_ips i join ports p on p.id = i.port_id \
         where i.subnet_id = $1 and i.host = $2 and p.device_owner = $3",
    )
    .bind(subnet.id.as_str())
    .bind(addresses::host_of(subnet.cidr, ip))
    .bind(OWNER_ROUTER_INTERFACE)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}
