//! Table `floating_ips`.

use std::net::IpAddr;

use model::{
    Error,
    id::{FloatingIpId, NetworkId, PortId, ProjectId, RouterId, SubnetId},
};
use sqlx::AssertSqlSafe;

use super::{
    Meta, OWNER_FLOATING_IP, OWNER_ROUTER_INTERFACE, RequestedIp, Viewer, address, charge, networks, opt_address,
    port_forwardings::{self, PortForwarding},
    ports::{self, NewPort, Port},
    release,
    rows::{self, Table},
    tags,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("floating-ip", "realize");

/// A floating IP.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatingIp {
    /// Its id.
    pub id: FloatingIpId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its description.
    pub description: String,
    /// `ACTIVE` or `DOWN`.
    pub status: String,
    /// The external network.
    pub floating_network_id: NetworkId,
    /// The port that holds the address.
    pub floating_port_id: PortId,
    /// The address.
    pub address: IpAddr,
    /// What it leads to.
    pub target: Option<Target>,
    /// The router that translates.
    pub router_id: Option<RouterId>,
    /// Single ports of it that lead to guests.
    pub forwardings: Vec<PortForwarding>,
    /// What all tables have.
    pub meta: Meta,
    /// Its tags.
    pub tags: Vec<String>,
}

/// What a floating IP leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The port.
    pub port_id: PortId,
    /// The address of it.
    pub fixed_ip: IpAddr,
    /// The router that translates.
    pub router_id: RouterId,
}

impl FloatingIp {
    fn from_row(row: &Row) -> Result<Self> {
        let port_id: Option<PortId> = row.opt_id("port_id")?;
        let fixed_ip = opt_address(row, "fixed_ip")?;
        let router_id: Option<RouterId> = row.opt_id("router_id")?;
        let target = port_id.zip(fixed_ip).zip(router_id.clone()).map(|((port_id, fixed_ip), router_id)| Target {
            port_id,
            fixed_ip,
            router_id,
        });
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            description: row.text("description")?,
            status: row.text("status")?,
            floating_network_id: row.id("floating_network_id")?,
            floating_port_id: row.id("floating_port_id")?,
            address: address(row, "address")?,
            target,
            router_id,
            forwardings: Vec::new(),
            meta: Meta::from_row(row)?,
            tags: Vec::new(),
        })
    }
}

/// A floating IP to make.
#[derive(Clone, Debug)]
pub struct NewFloatingIp {
    /// Its id.
    pub id: FloatingIpId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its description.
    pub description: String,
    /// The external network.
    pub network_id: NetworkId,
    /// The address, or the subnet that it is to come from; none takes any.
    pub address: Option<RequestedIp>,
    /// What it is to lead to: a port, and which address of it where it has several.
    pub target: Option<(PortId, Option<IpAddr>)>,
}

impl NewFloatingIp {
    /// Any address of the network, leading nowhere yet.
    pub fn new(project_id: &ProjectId, network_id: &NetworkId) -> Self {
        Self {
            id: FloatingIpId::random(),
            project_id: project_id.clone(),
            description: String::new(),
            network_id: network_id.clone(),
            address: None,
            target: None,
        }
    }
}

/// `FloatingIPNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("FloatingIPNotFound", format!("Floating IP {} could not be found", id.as_ref()))
}

fn bad_floating_ip(message: impl std::fmt::Display) -> Error {
    Error::bad_request("BadRequest", format!("Bad floatingip request: {message}."))
}

/// Makes a floating IP, the port that holds its address, and its flow; charges quota.
///
/// # Errors
/// `OverQuota`, `NetworkNotFound`; bad request for a network that is not external; what an address or a target can be
/// refused for.
pub async fn create(tx: &mut Tx, new: &NewFloatingIp) -> Result<FloatingIp, Error> {
    charge(tx, &new.project_id, "floatingip", 1).await?;
    let network = networks::get(tx, &new.network_id).await?.ok_or_else(|| networks::not_found(&new.network_id))?;
    if !network.external {
        return Err(bad_floating_ip(format_args!("Network {} is not a valid external network", network.id)));
    }
    let port = NewPort {
        fixed_ips: new.address.clone().map(|address| vec![address]),
        device_id: new.id.as_str().to_owned(),
        device_owner: OWNER_FLOATING_IP.to_owned(),
        ..NewPort::new(&ProjectId::new(""), &network.id)
    };
    let port = ports::create(tx, &port).await?;
    let address = port
        .fixed_ips
        .iter()
        .map(|ip| ip.ip)
        .find(IpAddr::is_ipv4)
        .ok_or_else(|| bad_floating_ip(format_args!("Network {} does not contain any IPv4 subnet", network.id)))?;
    insert(tx, new, &port, address).await?;
    events::created(tx, events::FLOATING_IP, &new.id);
    flows::insert(tx, &new.id, FLOW.0, FLOW.1, None).await?;
    let floating_ip = lock(tx, &new.id).await?;
    match &new.target {
        None => Ok(floating_ip),
        Some((port, fixed_ip)) => {
            associate(tx, &floating_ip, port, *fixed_ip).await?;
            lock(tx, &new.id).await
        }
    }
}

async fn insert(tx: &mut Tx, new: &NewFloatingIp, port: &Port, address: IpAddr) -> Result<()> {
    let meta = Meta::new(tx.now());
    query(
        "insert into floating_ips (id, project_id, description, status, floating_network_id, floating_port_id, address, \
         revision, realized_revision, created_at, updated_at) values ($1, $2, $3, 'DOWN', $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(new.id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.description.as_str())
    .bind(new.network_id.as_str())
    .bind(port.id.as_str())
    .bind(address.to_string())
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One floating IP, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<FloatingIp>> {
    Ok(find(conn, id).await?.filter(|ip| !ip.meta.deleted))
}

/// One floating IP, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<FloatingIp>> {
    let row = query("select * from floating_ips where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One floating IP, locked until the transaction ends.
///
/// # Errors
/// `FloatingIPNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<FloatingIp, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from floating_ips where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?;
    complete(tx, row.as_slice()).await?.pop().ok_or_else(|| not_found(id.as_ref()))
}

/// A `select` of the floating IPs that someone sees.
pub fn select(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from floating_ips r", "floating_ips r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.equal("r.project_id", project);
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<FloatingIp>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

/// Those that lead to any of the ports: for servers' addresses.
pub async fn of_ports(conn: &mut Conn, ports: &[&PortId]) -> Result<Vec<FloatingIp>> {
    let mut select = select(&Viewer::Admin);
    select.any_of("r.port_id", ports.iter().map(|id| (*id).into()));
    let rows = select.all(conn, "r.created_at, r.id").await?;
    complete(conn, &rows).await
}

async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<FloatingIp>> {
    let mut ips: Vec<FloatingIp> = rows.iter().map(FloatingIp::from_row).collect::<Result<_>>()?;
    let forwarding: Vec<&FloatingIpId> =
        ips.iter().filter(|f| f.target.is_none() && f.router_id.is_some()).map(|f| &f.id).collect();
    let mut forwardings = port_forwardings::of(conn, &forwarding).await?;
    for ip in &mut ips {
        ip.forwardings = forwardings.extract_if(.., |item| item.floating_ip_id == ip.id).collect();
    }
    tags::fill(conn, &mut ips, |f| (f.id.as_str(), &mut f.tags)).await?;
    Ok(ips)
}

/// Changes the description.
pub async fn update(tx: &mut Tx, id: &FloatingIpId, description: &str) -> Result<()> {
    query("update floating_ips set description = $2 where id = $1")
        .bind(id.as_str())
        .bind(description)
        .execute(&mut **tx)
        .await?;
    rows::touch(tx, Table::FloatingIps, id.as_str()).await
}

/// Leads a locked floating IP to a port.
///
/// # Errors
/// Bad request where the address is not clear; `FloatingIPPortAlreadyAssociated`;
/// `ExternalGatewayForFloatingIPNotFound` where no router connects the two.
pub async fn associate(
    tx: &mut Tx,
    floating_ip: &FloatingIp,
    port: &PortId,
    fixed_ip: Option<IpAddr>,
) -> Result<(), Error> {
    if !floating_ip.forwardings.is_empty() {
        return Err(Error::conflict(
            "FipInUseByPortForwarding",
            format!("Floating IP {} in use by Port Forwarding resources.", floating_ip.id),
        ));
    }
    let port = ports::lock(tx, port).await?;
    let (fixed_ip, subnet) = address_of(&port, fixed_ip)?;
    let router = router_to(tx, &subnet, floating_ip, &port.id).await?;
    let others = of_ports(tx, &[&port.id]).await?;
    let leads_there = |other: &&FloatingIp| {
        other.id != floating_ip.id
            && other.floating_network_id == floating_ip.floating_network_id
            && other.target.as_ref().is_some_and(|t| t.fixed_ip == fixed_ip)
    };
    if let Some(other) = others.iter().find(leads_there) {
        return Err(Error::conflict(
            "FloatingIPPortAlreadyAssociated",
            format!(
                "Cannot associate floating IP {} ({}) with port {} using fixed IP {fixed_ip}, as that fixed IP already \
                 has a floating IP on external network {}.",
                floating_ip.address, floating_ip.id, port.id, other.floating_network_id
            ),
        ));
    }
    query("update floating_ips set port_id = $2, fixed_ip = $3, router_id = $4, status = 'DOWN' where id = $1")
        .bind(floating_ip.id.as_str())
        .bind(port.id.as_str())
        .bind(fixed_ip.to_string())
        .bind(router.as_str())
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    // The guest's metadata names its floating IP.
    flows::wake(tx, &port.device_id);
    Ok(rows::touch(tx, Table::FloatingIps, floating_ip.id.as_str()).await?)
}

/// The address of the port that a floating IP leads to, and its subnet.
fn address_of(port: &Port, fixed_ip: Option<IpAddr>) -> Result<(IpAddr, SubnetId), Error> {
    let candidates: Vec<_> = port.fixed_ips.iter().filter(|ip| ip.ip.is_ipv4()).collect();
    let chosen = match (fixed_ip, candidates.as_slice()) {
        (Some(wanted), all) => all
            .iter()
            .find(|ip| ip.ip == wanted)
            .ok_or_else(|| bad_floating_ip(format_args!("Port {} does not have fixed ip {wanted}", port.id)))?,
        (None, []) => {
            return Err(bad_floating_ip(format_args!(
                "Cannot add floating IP to port {} that has no fixed IPv4 addresses",
                port.id
            )));
        }
        (None, [only]) => only,
        (None, _) => {
            return Err(bad_floating_ip(format_args!(
                "Port {} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a \
                 floating IP",
                port.id
            )));
        }
    };
    Ok((chosen.ip, chosen.subnet_id.clone()))
}

/// The router between a floating IP and a port's subnet.
///
/// # Errors
/// `ExternalGatewayForFloatingIPNotFound`.
pub(super) async fn router_to(
    tx: &mut Tx,
    subnet: &SubnetId,
    floating_ip: &FloatingIp,
    port: &PortId,
) -> Result<RouterId, Error> {
    router_between(tx, subnet, &floating_ip.floating_network_id).await?.ok_or_else(|| {
        Error::not_found(
            "ExternalGatewayForFloatingIPNotFound",
            format!(
                "External network {} is not reachable from subnet {subnet}.  Therefore, cannot associate Port {port} with \
                 a Floating IP.",
                floating_ip.floating_network_id
            ),
        )
    })
}

/// A router with an interface in the subnet and its gateway on the external network; one that is the subnet's own
/// gateway before others.
async fn router_between(conn: &mut Conn, subnet: &SubnetId, external: &NetworkId) -> Result<Option<RouterId>> {
    let row = query(
        "select r.id from port_ips i join ports p on p.id = i.port_id join routers r on r.id = p.device_id \
         join subnets s on s.id = i.subnet_id \
         where i.subnet_id = $1 and p.device_owner = $2 and r.external_network_id = $3 and r.deleted_at is null \
         order by case when i.ip = s.gateway_ip then 0 else 1 end, r.id limit 1",
    )
    .bind(subnet.as_str())
    .bind(OWNER_ROUTER_INTERFACE)
    .bind(external.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.id("id")).transpose()
}

/// Leads a floating IP nowhere.
pub async fn disassociate(tx: &mut Tx, id: &FloatingIpId) -> Result<()> {
    let device = query("select p.device_id from floating_ips f join ports p on p.id = f.port_id where f.id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(row) = device {
        flows::wake(tx, row.text("device_id")?);
    }
    query("update floating_ips set port_id = null, fixed_ip = null, router_id = null, status = 'DOWN' where id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    rows::touch(tx, Table::FloatingIps, id.as_str()).await
}

/// Leads nowhere what led to the port.
pub(super) async fn disassociate_port(tx: &mut Tx, port: &PortId) -> Result<()> {
    for floating_ip in of_ports(tx, &[port]).await? {
        disassociate(tx, &floating_ip.id).await?;
    }
    Ok(())
}

/// Leads nowhere what led to this address of the port.
pub(super) async fn disassociate_address(tx: &mut Tx, port: &PortId, ip: IpAddr) -> Result<()> {
    for floating_ip in of_ports(tx, &[port]).await? {
        if floating_ip.target.as_ref().is_some_and(|t| t.fixed_ip == ip) {
            disassociate(tx, &floating_ip.id).await?;
        }
    }
    Ok(())
}

/// Deletes a floating IP and gives its address back.
///
/// # Errors
/// `FloatingIPNotFound`.
pub async fn delete(tx: &mut Tx, id: &FloatingIpId) -> Result<(), Error> {
    let floating_ip = lock(tx, id).await?;
    query("delete from port_forwardings where floating_ip_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    rows::mark_deleted(tx, Table::FloatingIps, id.as_str()).await?;
    ports::delete(tx, &floating_ip.floating_port_id).await?;
    Ok(release(tx, &floating_ip.project_id, "floatingip", 1).await?)
}

/// Deletes the floating IPs of an external network that lead nowhere: the network is going.
pub(super) async fn delete_unused(tx: &mut Tx, network: &NetworkId) -> Result<(), Error> {
    let rows = query(
        "select id from floating_ips where floating_network_id = $1 and router_id is null and deleted_at is null order by id",
    )
    .bind(network.as_str())
    .fetch_all(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    for row in &rows {
        delete(tx, &row.id("id")?).await?;
    }
    Ok(())
}

/// The ids of those that the router translates.
pub(super) async fn on_router(conn: &mut Conn, router: &RouterId) -> Result<Vec<String>> {
    let rows = query("select id from floating_ips where router_id = $1").bind(router.as_str()).fetch_all(conn).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

/// How many the router translates.
pub(super) async fn count_on_router(conn: &mut Conn, router: &RouterId) -> Result<i64> {
    let row = query("select count(*) as n from floating_ips where router_id = $1 and deleted_at is null")
        .bind(router.as_str())
        .fetch_one(conn)
        .await?;
    row.int("n")
}

/// Whether the router translates for an address of the subnet.
pub(super) async fn through(conn: &mut Conn, router: &RouterId, subnet: &SubnetId) -> Result<bool> {
    let row = query(
        "select f.id from floating_ips f join port_ips i on i.port_id = f.port_id and i.ip = f.fixed_ip \
         where f.router_id = $1 and i.subnet_id = $2 and f.deleted_at is null \
         union all select f.id from floating_ips f join port_forwardings w on w.floating_ip_id = f.id \
         join port_ips i on i.port_id = w.internal_port_id and i.ip = w.internal_ip_address \
         where f.router_id = $1 and i.subnet_id = $2 and f.deleted_at is null limit 1",
    )
    .bind(router.as_str())
    .bind(subnet.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Shows a status unless intent has changed since that revision. For its flow.
pub async fn set_status_as_of(tx: &mut Tx, id: &FloatingIpId, revision: i64, status: &str) -> Result<()> {
    let changed = query("update floating_ips set status = $3 where id = $1 and revision = $2 and status <> $3")
        .bind(id.as_str())
        .bind(revision)
        .bind(status)
        .execute(&mut **tx)
        .await?;
    if changed.rows_affected() > 0 {
        events::updated(tx, events::FLOATING_IP, id);
    }
    Ok(())
}
