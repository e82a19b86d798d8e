//! Tables `ports`, `port_ips` and `port_security_groups`.
//!
//! A port of a server or of the metadata service has a flow that realizes it. A router's port has none: its router's
//! flow realizes it. A floating IP's port only holds the address.

mod create;

use std::{collections::HashMap, net::IpAddr};

use model::{
    Error,
    addr::Mac,
    id::{NetworkId, PortId, ProjectId, SecurityGroupId, SubnetId},
};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::{
    Meta, OWNER_FLOATING_IP, OWNER_METADATA, OWNER_ROUTER_GATEWAY, OWNER_ROUTER_INTERFACE, RequestedIp, Viewer,
    addresses, column, floating_ips, json, networks, port_forwardings, release,
    rows::{self, Table},
    security_groups, subnets, tags, trunks,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

pub use create::{NewPort, create};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("port", "realize");

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedIp {
    /// The subnet it lies in.
    pub subnet_id: SubnetId,
    /// The address.
    pub ip: IpAddr,
}

/// Addresses that a guest may use besides its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    /// The MAC.
    pub mac_address: String,
    /// An address or a CIDR, as the client wrote it.
    pub ip_address: String,
}

/// Something that a guest is told by DHCP, as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    /// Its name.
    pub opt_name: String,
    /// Its value.
    pub opt_value: String,
    /// 4 or 6.
    pub ip_version: i64,
}

/// A port.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// The network it is on.
    pub network_id: NetworkId,
    /// Whose it is; empty for gateways and floating IPs, which belong to nobody.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it may carry traffic.
    pub admin_state_up: bool,
    /// `ACTIVE`, `DOWN`, `N/A`.
    pub status: String,
    /// Its MAC.
    pub mac: Mac,
    /// What uses it: a server's or router's id; empty when nothing does.
    pub device_id: String,
    /// What sort of thing that is: `compute:nova`, `network:router_interface`.
    pub device_owner: String,
    /// Whether source addresses are checked and security groups apply.
    pub port_security_enabled: bool,
    /// Further addresses allowed as source.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// The host it is plugged in on; empty when none.
    pub host: String,
    /// `normal`.
    pub vnic_type: String,
    /// What the hypervisor's driver was told about it.
    pub binding_profile: serde_json::Value,
    /// What its guest is told by DHCP besides what its subnets say.
    pub extra_dhcp_opts: Vec<DhcpOption>,
    /// The name that others find it by; empty is none.
    pub dns_name: String,
    /// How much of the network it may have; none is as its network has it.
    pub qos_policy_id: Option<String>,
    /// Whether its host reports that packets flow.
    pub active: bool,
    /// What all tables have.
    pub meta: Meta,
    /// Its addresses, in order.
    pub fixed_ips: Vec<FixedIp>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Port {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            network_id: row.id("network_id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            admin_state_up: row.flag("admin_state_up")?,
            status: row.text("status")?,
            mac: row.text("mac")?.parse().map_err(|()| column("mac", "no MAC"))?,
            device_id: row.text("device_id")?,
            device_owner: row.text("device_owner")?,
            port_security_enabled: row.flag("port_security_enabled")?,
            allowed_address_pairs: row.json("allowed_address_pairs")?,
            host: row.text("host")?,
            vnic_type: row.text("vnic_type")?,
            binding_profile: row.json("binding_profile")?,
            extra_dhcp_opts: row.json("extra_dhcp_opts")?,
            dns_name: row.text("dns_name")?,
            qos_policy_id: row.opt_text("qos_policy_id")?,
            active: row.flag("active")?,
            meta: Meta::from_row(row)?,
            fixed_ips: Vec::new(),
            security_groups: Vec::new(),
            tags: Vec::new(),
        })
    }

    /// Whether its row in OVN is as wanted: a server may be started on it.
    pub fn is_realized(&self) -> bool {
        self.meta.is_realized()
    }

    /// Whether a router has it.
    pub fn is_of_router(&self) -> bool {
        is_of_router(&self.device_owner)
    }
}

fn is_of_router(device_owner: &str) -> bool {
    [OWNER_ROUTER_INTERFACE, OWNER_ROUTER_GATEWAY].contains(&device_owner)
}

/// `PortNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("PortNotFound", format!("Port {} could not be found.", id.as_ref()))
}

/// `PortSecurityAndIPRequiredForSecurityGroups`.
pub fn security_group_needs_port_security() -> Error {
    Error::bad_request(
        "PortSecurityAndIPRequiredForSecurityGroups",
        "Port security must be enabled and port must have an IP address in order to use security groups.",
    )
}

async fn set_groups(tx: &mut Tx, id: &PortId, groups: &[SecurityGroupId]) -> Result<()> {
    query("delete from port_security_groups where port_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    for group in groups {
        query("insert into port_security_groups (port_id, security_group_id) values ($1, $2) on conflict do nothing")
            .bind(id.as_str())
            .bind(group.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// What a port costs its project: the metadata service's nothing.
fn quota_of(device_owner: &str) -> i64 {
    i64::from(device_owner != OWNER_METADATA)
}

fn mac_in_use(mac: Mac, network: &NetworkId) -> Error {
    Error::conflict(
        "MacAddressInUse",
        format!("Unable to complete operation for network {network}. The mac address {mac} is in use."),
    )
}

/// One port, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Port>> {
    Ok(find(conn, id).await?.filter(|port| !port.meta.deleted))
}

/// One port, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Port>> {
    let row = query("select * from ports where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One port, locked until the transaction ends.
///
/// # Errors
/// `PortNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<Port, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from ports where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?;
    complete(tx, row.as_slice()).await?.pop().ok_or_else(|| not_found(id.as_ref()))
}

/// The ports of a device, in the order in which they were made.
pub async fn of_device(conn: &mut Conn, device_id: impl AsRef<str>) -> Result<Vec<Port>> {
    of_devices(conn, &[device_id]).await
}

/// The ports of several devices, in the order in which they were made: for lists of servers.
pub async fn of_devices(conn: &mut Conn, device_ids: &[impl AsRef<str>]) -> Result<Vec<Port>> {
    let mut select = select(&Viewer::Admin);
    // The condition of the partial index, so that it is used.
    select.filter("r.device_id <> ''", []);
    select.any_of("r.device_id", device_ids.iter().map(|id| id.as_ref().into()));
    let rows = select.all(conn, "r.created_at, r.id").await?;
    complete(conn, &rows).await
}

/// A router's ports, also those that are to go: for its flow.
pub async fn of_router(conn: &mut Conn, router: &str) -> Result<Vec<Port>> {
    let rows = query("select * from ports where device_id = $1 and device_owner in ($2, $3) order by created_at, id")
        .bind(router)
        .bind(OWNER_ROUTER_INTERFACE)
        .bind(OWNER_ROUTER_GATEWAY)
        .fetch_all(&mut *conn)
        .await?;
    complete(conn, &rows).await
}

/// Several ports, by id.
pub async fn by_ids(conn: &mut Conn, ids: &[&PortId]) -> Result<Vec<Port>> {
    let mut select = select(&Viewer::Admin);
    select.any_of("r.id", ids.iter().map(|id| (*id).into()));
    let rows = select.all(conn, "r.id").await?;
    complete(conn, &rows).await
}

/// The ports of a network.
pub async fn on_network(conn: &mut Conn, network: &NetworkId) -> Result<Vec<Port>> {
    let mut select = select(&Viewer::Admin);
    select.equal("r.network_id", network);
    let rows = select.all(conn, "r.created_at, r.id").await?;
    complete(conn, &rows).await
}

/// The metadata port of a network.
pub async fn metadata_of(conn: &mut Conn, network: &NetworkId) -> Result<Option<Port>> {
    let mut select = select(&Viewer::Admin);
    select.equal("r.network_id", network).equal("r.device_owner", OWNER_METADATA);
    let rows = select.all(conn, "r.created_at, r.id").await?;
    Ok(complete(conn, &rows).await?.into_iter().next())
}

/// A `select` of the ports that someone sees: its own, and those on its own networks.
pub fn select(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from ports r", "ports r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.filter(
            "(r.project_id = ? or r.network_id in (select id from networks where project_id = ?))",
            [project.into(), project.into()],
        );
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Port>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

/// Adds addresses, security groups and tags.
async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = rows.iter().map(Port::from_row).collect::<Result<_>>()?;
    if ports.is_empty() {
        return Ok(ports);
    }
    let mut ips: HashMap<String, Vec<FixedIp>> = HashMap::new();
    let mut select = Select::new("select i.* from port_ips i", "port_ips i", "i.port_id");
    select.any_of("i.port_id", ports.iter().map(|p| (&p.id).into()));
    for row in select.all(conn, "i.port_id, i.position").await? {
        let ip = FixedIp { subnet_id: row.id("subnet_id")?, ip: subnets::ip_column(&row)? };
        ips.entry(row.text("port_id")?).or_default().push(ip);
    }
    let mut groups: HashMap<String, Vec<SecurityGroupId>> = HashMap::new();
    let mut select = Select::new("select g.* from port_security_groups g", "port_security_groups g", "g.port_id");
    select.any_of("g.port_id", ports.iter().map(|p| (&p.id).into()));
    for row in select.all(conn, "g.port_id, g.security_group_id").await? {
        groups.entry(row.text("port_id")?).or_default().push(row.id("security_group_id")?);
    }
    for port in &mut ports {
        port.fixed_ips = ips.remove(port.id.as_str()).unwrap_or_default();
        port.security_groups = groups.remove(port.id.as_str()).unwrap_or_default();
    }
    tags::fill(conn, &mut ports, |p| (p.id.as_str(), &mut p.tags)).await?;
    Ok(ports)
}

/// Writes what may change of a port, raises its revision, wakes its flow.
///
/// # Errors
/// `MacAddressInUse`.
pub async fn update(tx: &mut Tx, port: &Port) -> Result<(), Error> {
    let updated = query(
        "update ports set name = $2, description = $3, admin_state_up = $4, mac = $5, device_id = $6, device_owner = $7, \
         port_security_enabled = $8, allowed_address_pairs = $9, host = $10, vnic_type = $11, binding_profile = $12, \
         extra_dhcp_opts = $13, dns_name = $14, qos_policy_id = $15 where id = $1",
    )
    .bind(port.id.as_str())
    .bind(port.name.as_str())
    .bind(port.description.as_str())
    .bind(i64::from(port.admin_state_up))
    .bind(port.mac.to_string())
    .bind(port.device_id.as_str())
    .bind(port.device_owner.as_str())
    .bind(i64::from(port.port_security_enabled))
    .bind(json(&port.allowed_address_pairs))
    .bind(port.host.as_str())
    .bind(port.vnic_type.as_str())
    .bind(port.binding_profile.to_string())
    .bind(json(&port.extra_dhcp_opts))
    .bind(port.dns_name.as_str())
    .bind(port.qos_policy_id.as_deref())
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from);
    match updated {
        Err(error) if error.is_unique_violation() => return Err(mac_in_use(port.mac, &port.network_id)),
        other => other?,
    };
    Ok(touch(tx, port).await?)
}

/// Gives a port other addresses. One that is kept is named by its address, or by its subnet alone.
///
/// # Errors
/// As for a new port.
pub async fn set_addresses(tx: &mut Tx, port: &Port, requested: &[RequestedIp]) -> Result<(), Error> {
    let network = networks::lock(tx, &port.network_id).await?;
    let mut kept: Vec<&FixedIp> = port.fixed_ips.iter().collect();
    let requested: Vec<RequestedIp> = requested
        .iter()
        .map(|request| {
            let held = |have: &&&FixedIp| request.ip.is_none() && request.subnet_id.as_ref() == Some(&have.subnet_id);
            match kept.iter().find(held).copied() {
                Some(have) => {
                    kept.retain(|other| *other != have);
                    RequestedIp { ip: Some(have.ip), ..request.clone() }
                }
                None => request.clone(),
            }
        })
        .collect();
    addresses::release_all(tx, &port.id).await?;
    let chosen = addresses::choose(tx, &network, Some(&requested), (&port.device_owner, port.mac)).await?;
    addresses::insert(tx, &port.id, &chosen).await?;
    for gone in port.fixed_ips.iter().filter(|ip| !chosen.contains(ip)) {
        port_forwardings::remove_of_port(tx, &port.id, Some(gone.ip)).await?;
        floating_ips::disassociate_address(tx, &port.id, gone.ip).await?;
    }
    // A server's guest is told its addresses.
    flows::wake(tx, &port.device_id);
    Ok(touch(tx, port).await?)
}

/// Gives a port other security groups.
///
/// # Errors
/// `SecurityGroupNotFound`.
pub async fn set_security_groups(tx: &mut Tx, port: &Port, groups: &[SecurityGroupId]) -> Result<(), Error> {
    security_groups::expect_all(tx, groups).await?;
    set_groups(tx, &port.id, groups).await?;
    // A server's guest is told what groups it has.
    flows::wake(tx, &port.device_id);
    Ok(touch(tx, port).await?)
}

/// Raises a port's revision and wakes who realizes it.
pub async fn touch(tx: &mut Tx, port: &Port) -> Result<()> {
    rows::touch(tx, Table::Ports, port.id.as_str()).await?;
    if port.is_of_router() {
        flows::wake(tx, &port.device_id);
    }
    Ok(())
}

/// Gives a port to a device on a host. The device may be that which has it already.
///
/// # Errors
/// `PortInUse` when another device has it.
pub async fn bind(tx: &mut Tx, id: &PortId, host: &str, device_id: &str, device_owner: &str) -> Result<(), Error> {
    let port = lock(tx, id).await?;
    if !port.device_id.is_empty() && port.device_id != device_id {
        return Err(Error::conflict("PortInUse", format!("Port {id} is still in use.")));
    }
    if (port.host.as_str(), port.device_id.as_str(), port.device_owner.as_str()) == (host, device_id, device_owner) {
        return Ok(());
    }
    let dns_name = match port.dns_name.as_str() {
        "" => create::name_of_server(tx, device_id, device_owner).await?,
        name => name.to_owned(),
    };
    let (host, device_id, device_owner) = (host.to_owned(), device_id.to_owned(), device_owner.to_owned());
    update(tx, &Port { host, device_id, device_owner, dns_name, ..port }).await
}

/// Takes a port from its device; the port stays.
pub async fn unbind(tx: &mut Tx, id: &PortId) -> Result<(), Error> {
    let Some(port) = get(tx, id).await? else { return Ok(()) };
    if port.is_of_router() {
        return Ok(());
    }
    let port = Port { host: String::new(), device_id: String::new(), device_owner: String::new(), ..port };
    set_active(tx, id, false).await?;
    update(tx, &port).await
}

/// Deletes a port: gives back its addresses, MAC and quota, takes floating IPs off it. One that is gone already is
/// nobody's loss.
pub async fn delete(tx: &mut Tx, id: &PortId) -> Result<()> {
    let Some(port) = get(tx, id).await? else { return Ok(()) };
    if !rows::mark_deleted(tx, Table::Ports, id.as_str()).await? {
        return Ok(());
    }
    addresses::release_all(tx, id).await?;
    set_groups(tx, id, &[]).await?;
    floating_ips::disassociate_port(tx, id).await?;
    port_forwardings::remove_of_port(tx, id, None).await?;
    release(tx, &port.project_id, "port", quota_of(&port.device_owner)).await?;
    // A router's flow realizes it; a server's has it unplugged.
    flows::wake(tx, &port.device_id);
    if port.device_owner == OWNER_FLOATING_IP {
        rows::purge(tx, Table::Ports, id.as_str()).await?;
    }
    Ok(())
}

/// Records whether packets flow, as the port's host reports it; wakes the port's server where that changes anything.
pub async fn set_active(tx: &mut Tx, id: &PortId, active: bool) -> Result<()> {
    let changed = query(
        "update ports set active = $2, \
         status = case when $2 = 1 and admin_state_up = 1 and realized_revision > 0 then 'ACTIVE' else 'DOWN' end \
         where id = $1 and active <> $2 and deleted_at is null returning device_id",
    )
    .bind(id.as_str())
    .bind(i64::from(active))
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(row) = changed {
        trunks::follow(tx, id, active).await?;
        events::updated(tx, events::PORT, id);
        let device = row.text("device_id")?;
        if !device.is_empty() {
            flows::wake(tx, device);
        }
    }
    Ok(())
}

/// Records that OVN has the port as of that revision, and the status that follows; wakes its server. For its flow.
pub async fn set_realized(tx: &mut Tx, port: &Port) -> Result<()> {
    rows::set_realized(tx, Table::Ports, port.id.as_str(), port.meta.revision).await?;
    let up = port.admin_state_up && port.active;
    rows::set_status(tx, Table::Ports, port.id.as_str(), if up { "ACTIVE" } else { "DOWN" }).await?;
    if !port.is_realized() && !port.device_id.is_empty() && !port.is_of_router() {
        flows::wake(tx, &port.device_id);
    }
    Ok(())
}

/// Wakes the ports that have addresses in the subnet: their DHCP changes.
pub async fn wake_in_subnet(tx: &mut Tx, subnet: &SubnetId) -> Result<()> {
    let rows = query("select distinct port_id from port_ips where subnet_id = $1")
        .bind(subnet.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("port_id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}

/// Wakes the ports whose own DHCP answers contain what the subnet says.
pub async fn wake_with_dhcp_options(tx: &mut Tx, subnet: &SubnetId) -> Result<()> {
    let rows = query(
        "select distinct i.port_id from port_ips i join ports p on p.id = i.port_id \
         where i.subnet_id = $1 and p.extra_dhcp_opts <> '[]'",
    )
    .bind(subnet.as_str())
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("port_id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}

/// Gives every guest on the network of a new subnet the address that it will make itself there.
pub(super) async fn add_automatic(tx: &mut Tx, subnet: &subnets::Subnet) -> Result<()> {
    for port in on_network(tx, &subnet.network_id).await? {
        if let Some(ip) = addresses::of_mac(subnet, &port.device_owner, port.mac) {
            addresses::append(tx, &port, subnet, ip).await?;
            flows::wake(tx, &port.device_id);
            touch(tx, &port).await?;
        }
    }
    Ok(())
}

/// Takes the addresses that guests made themselves in a subnet that goes.
pub(super) async fn remove_automatic(tx: &mut Tx, subnet: &subnets::Subnet) -> Result<()> {
    for port in on_network(tx, &subnet.network_id).await? {
        if port.fixed_ips.iter().any(|ip| ip.subnet_id == subnet.id) {
            addresses::release_in(tx, &port.id, &subnet.id).await?;
            flows::wake(tx, &port.device_id);
            touch(tx, &port).await?;
        }
    }
    Ok(())
}

/// Whether any port has the security group.
pub async fn has_group(conn: &mut Conn, group: &SecurityGroupId) -> Result<bool> {
    let row = query("select 1 as used from port_security_groups where security_group_id = $1 limit 1")
        .bind(group.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Wakes the ports that have the security group.
pub async fn wake_with_group(tx: &mut Tx, group: &SecurityGroupId) -> Result<()> {
    let rows = query("select port_id from port_security_groups where security_group_id = $1")
        .bind(group.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("port_id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}
