//! Table `routers`; their ports are in `ports`, with the router as device.

use std::{collections::HashMap, net::IpAddr};

use model::{
    Error,
    id::{NetworkId, PortId, ProjectId, RouterId, SubnetId},
};
use sqlx::AssertSqlSafe;

use super::{
    Meta, OWNER_ROUTER_GATEWAY, OWNER_ROUTER_INTERFACE, RequestedIp, Route, Viewer, charge, floating_ips, json,
    networks,
    ports::{self, NewPort, Port},
    release,
    rows::{self, Table},
    subnets::{self, Subnet},
    tags,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("router", "realize");

/// A router.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Its id.
    pub id: RouterId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it routes.
    pub admin_state_up: bool,
    /// `ACTIVE`, `ERROR`. As in Neutron a router is active at once.
    pub status: String,
    /// The network of its gateway.
    pub external_network_id: Option<NetworkId>,
    /// Whether guests without floating IP get out.
    pub enable_snat: bool,
    /// Static routes.
    pub routes: Vec<Route>,
    /// What all tables have.
    pub meta: Meta,
    /// Its gateway port.
    pub gateway_port: Option<Port>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Router {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            admin_state_up: row.flag("admin_state_up")?,
            status: row.text("status")?,
            external_network_id: row.opt_id("external_network_id")?,
            enable_snat: row.flag("enable_snat")?,
            routes: row.json("routes")?,
            meta: Meta::from_row(row)?,
            gateway_port: None,
            tags: Vec::new(),
        })
    }
}

/// A way out.
#[derive(Clone, Debug)]
pub struct NewGateway {
    /// The external network.
    pub network_id: NetworkId,
    /// Whether guests without floating IP get out; none leaves it, or true.
    pub enable_snat: Option<bool>,
    /// The router's addresses there; none leaves them, or takes any.
    pub fixed_ips: Option<Vec<RequestedIp>>,
}

impl NewGateway {
    /// With Neutron's defaults.
    pub fn on(network_id: &NetworkId) -> Self {
        Self { network_id: network_id.clone(), enable_snat: None, fixed_ips: None }
    }
}

/// A router to make.
#[derive(Clone, Debug)]
pub struct NewRouter {
    /// Its id.
    pub id: RouterId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it routes.
    pub admin_state_up: bool,
    /// Its way out.
    pub gateway: Option<NewGateway>,
}

impl NewRouter {
    /// With Neutron's defaults.
    pub fn new(project_id: &ProjectId, name: impl Into<String>) -> Self {
        Self {
            id: RouterId::random(),
            project_id: project_id.clone(),
            name: name.into(),
            description: String::new(),
            admin_state_up: true,
            gateway: None,
        }
    }
}

/// `RouterNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("RouterNotFound", format!("Router {} could not be found", id.as_ref()))
}

fn bad_router(message: impl std::fmt::Display) -> Error {
    Error::bad_request("BadRequest", format!("Bad router request: {message}."))
}

/// Makes a router, with its gateway where it has one, and its flow; charges quota.
///
/// # Errors
/// `OverQuota`; what a gateway can be refused for.
pub async fn create(tx: &mut Tx, new: &NewRouter) -> Result<Router, Error> {
    charge(tx, &new.project_id, "router", 1).await?;
    let meta = Meta::new(tx.now());
    query(
        "insert into routers (id, project_id, name, description, admin_state_up, status, enable_snat, routes, revision, \
         realized_revision, created_at, updated_at) values ($1, $2, $3, $4, $5, 'ACTIVE', 1, '[]', $6, $7, $8, $8)",
    )
    .bind(new.id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.name.as_str())
    .bind(new.description.as_str())
    .bind(i64::from(new.admin_state_up))
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    events::created(tx, events::ROUTER, &new.id);
    flows::insert(tx, &new.id, FLOW.0, FLOW.1, None).await?;
    let router = lock(tx, &new.id).await?;
    match &new.gateway {
        None => Ok(router),
        Some(gateway) => {
            set_gateway(tx, &router, gateway).await?;
            lock(tx, &new.id).await
        }
    }
}

/// One router, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Router>> {
    Ok(find(conn, id).await?.filter(|router| !router.meta.deleted))
}

/// One router, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Router>> {
    let row = query("select * from routers where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One router, locked until the transaction ends: its gateway and interfaces change under this lock.
///
/// # Errors
/// `RouterNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<Router, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from routers where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?;
    complete(tx, row.as_slice()).await?.pop().ok_or_else(|| not_found(id.as_ref()))
}

/// A `select` of the routers that someone sees.
pub fn select(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from routers r", "routers r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.equal("r.project_id", project);
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Router>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<Router>> {
    let mut routers: Vec<Router> = rows.iter().map(Router::from_row).collect::<Result<_>>()?;
    let with_gateway: Vec<&RouterId> =
        routers.iter().filter(|r| r.external_network_id.is_some()).map(|r| &r.id).collect();
    let mut gateways: HashMap<String, Port> = HashMap::new();
    if !with_gateway.is_empty() {
        let found = ports::of_devices(conn, &with_gateway).await?.into_iter();
        gateways.extend(found.filter(|p| p.device_owner == OWNER_ROUTER_GATEWAY).map(|p| (p.device_id.clone(), p)));
    }
    for router in &mut routers {
        router.gateway_port = gateways.remove(router.id.as_str());
    }
    tags::fill(conn, &mut routers, |r| (r.id.as_str(), &mut r.tags)).await?;
    Ok(routers)
}

/// Writes what may change of a router, gateway apart; raises its revision, wakes its flow.
pub async fn update(tx: &mut Tx, router: &Router) -> Result<()> {
    query("update routers set name = $2, description = $3, admin_state_up = $4, routes = $5 where id = $1")
        .bind(router.id.as_str())
        .bind(router.name.as_str())
        .bind(router.description.as_str())
        .bind(i64::from(router.admin_state_up))
        .bind(json(&router.routes))
        .execute(&mut **tx)
        .await?;
    rows::touch(tx, Table::Routers, router.id.as_str()).await
}

/// The router's interfaces.
pub async fn interfaces(conn: &mut Conn, id: &RouterId) -> Result<Vec<Port>> {
    let ports = ports::of_device(conn, id).await?;
    Ok(ports.into_iter().filter(|p| p.device_owner == OWNER_ROUTER_INTERFACE).collect())
}

/// Gives a locked router a way out, or changes the one it has.
///
/// # Errors
/// Bad request for a network that is not external or has no addresses; `RouterExternalGatewayInUseByFloatingIp`.
pub async fn set_gateway(tx: &mut Tx, router: &Router, new: &NewGateway) -> Result<(), Error> {
    let network = networks::get(tx, &new.network_id).await?.ok_or_else(|| networks::not_found(&new.network_id))?;
    if !network.external {
        return Err(bad_router(format_args!("Network {} is not an external network", network.id)));
    }
    match &router.gateway_port {
        Some(port) if port.network_id == network.id => {
            if let Some(ips) = &new.fixed_ips {
                ports::set_addresses(tx, port, ips).await?;
            }
        }
        other => {
            if other.is_some() {
                clear_gateway(tx, router).await?;
            }
            add_gateway(tx, router, &network, new).await?;
        }
    }
    query("update routers set external_network_id = $2, enable_snat = $3 where id = $1")
        .bind(router.id.as_str())
        .bind(network.id.as_str())
        .bind(i64::from(new.enable_snat.unwrap_or(router.enable_snat)))
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    Ok(rows::touch(tx, Table::Routers, router.id.as_str()).await?)
}

async fn add_gateway(tx: &mut Tx, router: &Router, network: &networks::Network, new: &NewGateway) -> Result<(), Error> {
    let outside = subnets::of_network(tx, &network.id).await?;
    if outside.is_empty() {
        return Err(bad_router(format_args!("No IPs available for external network {}", network.id)));
    }
    for subnet in &outside {
        expect_no_overlap(tx, router, subnet).await?;
    }
    let port = NewPort {
        fixed_ips: new.fixed_ips.clone().filter(|ips| !ips.is_empty()),
        device_id: router.id.as_str().to_owned(),
        device_owner: OWNER_ROUTER_GATEWAY.to_owned(),
        ..NewPort::new(&ProjectId::new(""), &network.id)
    };
    ports::create(tx, &port).await.map(|_| ())
}

/// Takes the way out from a locked router.
///
/// # Errors
/// `RouterExternalGatewayInUseByFloatingIp`.
pub async fn clear_gateway(tx: &mut Tx, router: &Router) -> Result<(), Error> {
    let Some(port) = &router.gateway_port else { return Ok(()) };
    if floating_ips::count_on_router(tx, &router.id).await? > 0 {
        return Err(Error::conflict(
            "RouterExternalGatewayInUseByFloatingIp",
            format!(
                "Gateway cannot be updated for router {}, since a gateway to external network {} is required by one or \
                 more floating IPs.",
                router.id, port.network_id
            ),
        ));
    }
    ports::delete(tx, &port.id).await?;
    query("update routers set external_network_id = null, enable_snat = 1 where id = $1")
        .bind(router.id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    Ok(rows::touch(tx, Table::Routers, router.id.as_str()).await?)
}

/// Connects the subnet: the router gets its gateway address there. The new port.
///
/// # Errors
/// Bad request for a subnet that has no gateway address, is connected already or overlaps another;
/// `IpAddressAlreadyAllocated`.
pub async fn add_subnet(tx: &mut Tx, id: &RouterId, subnet: &Subnet) -> Result<Port, Error> {
    let router = lock(tx, id).await?;
    let gateway = subnet.gateway_ip.ok_or_else(|| bad_router("Subnet for router interface must have a gateway IP"))?;
    expect_no_overlap(tx, &router, subnet).await?;
    let wanted = RequestedIp { subnet_id: Some(subnet.id.clone()), ip: Some(gateway) };
    if let Some(port) = ipv6_interface(tx, id, subnet).await? {
        // As in Neutron all IPv6 subnets of a network are behind one port: it sends one advertisement for all.
        let kept = port.fixed_ips.iter().map(|ip| RequestedIp::address(ip.ip));
        let all: Vec<RequestedIp> = kept.chain([wanted]).collect();
        ports::set_addresses(tx, &port, &all).await?;
        rows::touch(tx, Table::Routers, id.as_str()).await?;
        return ports::get(tx, &port.id).await?.ok_or_else(|| ports::not_found(&port.id));
    }
    let new = NewPort {
        fixed_ips: Some(vec![wanted]),
        device_id: id.as_str().to_owned(),
        device_owner: OWNER_ROUTER_INTERFACE.to_owned(),
        ..NewPort::new(&router.project_id, &subnet.network_id)
    };
    let port = ports::create(tx, &new).await?;
    rows::touch(tx, Table::Routers, id.as_str()).await?;
    Ok(port)
}

/// The router's port on the network that has IPv6 addresses, where the subnet is an IPv6 one.
async fn ipv6_interface(conn: &mut Conn, id: &RouterId, subnet: &Subnet) -> Result<Option<Port>> {
    if subnet.cidr.addr().is_ipv4() {
        return Ok(None);
    }
    let on_network =
        |port: &Port| port.network_id == subnet.network_id && port.fixed_ips.iter().any(|ip| ip.ip.is_ipv6());
    Ok(interfaces(conn, id).await?.into_iter().find(on_network))
}

/// Connects a port that nothing uses yet.
///
/// # Errors
/// `PortInUse`; bad request for a port without address, or whose subnets are connected already.
pub async fn add_port(tx: &mut Tx, id: &RouterId, port: &PortId) -> Result<Port, Error> {
    let router = lock(tx, id).await?;
    let port = ports::lock(tx, port).await?;
    if !port.device_id.is_empty() {
        return Err(Error::conflict(
            "PortInUse",
            format!(
                "Unable to complete operation on port {} for network {}. Port already has an attached device {}.",
                port.id, port.network_id, port.device_id
            ),
        ));
    }
    if port.fixed_ips.is_empty() {
        return Err(bad_router("Router port must have at least one fixed IP"));
    }
    for ip in &port.fixed_ips {
        let subnet = subnets::get(tx, &ip.subnet_id).await?.ok_or_else(|| subnets::not_found(&ip.subnet_id))?;
        expect_no_overlap(tx, &router, &subnet).await?;
    }
    ports::set_security_groups(tx, &port, &[]).await?;
    let port = Port {
        device_id: id.as_str().to_owned(),
        device_owner: OWNER_ROUTER_INTERFACE.to_owned(),
        port_security_enabled: false,
        ..port
    };
    ports::update(tx, &port).await?;
    // Its flow takes it out of OVN as what it was; then the router's flow puts it in as what it is.
    rows::set_realized(tx, Table::Ports, port.id.as_str(), rows::HANDED_OVER).await?;
    rows::touch(tx, Table::Routers, id.as_str()).await?;
    ports::get(tx, &port.id).await?.ok_or_else(|| ports::not_found(&port.id))
}

async fn expect_no_overlap(tx: &mut Tx, router: &Router, subnet: &Subnet) -> Result<(), Error> {
    let ports = ports::of_device(tx, &router.id).await?;
    for ip in ports.iter().flat_map(|p| &p.fixed_ips) {
        if ip.subnet_id == subnet.id {
            return Err(bad_router(format_args!("Router already has a port on subnet {}", subnet.id)));
        }
        let Some(other) = subnets::get(tx, &ip.subnet_id).await? else { continue };
        if other.cidr.contains(&subnet.cidr) || subnet.cidr.contains(&other.cidr) {
            return Err(bad_router(format_args!(
                "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
                subnet.cidr, subnet.id, other.cidr, other.id
            )));
        }
    }
    Ok(())
}

/// Disconnects a router from one of several subnets behind the same port, or from the whole port, which is deleted.
///
/// # Errors
/// `RouterInterfaceInUseByFloatingIP`, `RouterInterfaceInUseByRoute`.
pub async fn remove_interface(tx: &mut Tx, id: &RouterId, port: &Port, subnet: Option<&SubnetId>) -> Result<(), Error> {
    let router = lock(tx, id).await?;
    let (going, kept): (Vec<&ports::FixedIp>, Vec<_>) =
        port.fixed_ips.iter().partition(|ip| subnet.is_none_or(|subnet| ip.subnet_id == *subnet));
    for ip in going {
        if floating_ips::through(tx, id, &ip.subnet_id).await? {
            return Err(Error::conflict(
                "RouterInterfaceInUseByFloatingIP",
                format!(
                    "Router interface for subnet {} on router {id} cannot be deleted, as it is required by one or more \
                     floating IPs.",
                    ip.subnet_id
                ),
            ));
        }
        let subnet = subnets::get(tx, &ip.subnet_id).await?;
        let in_subnet = |hop: IpAddr| subnet.as_ref().is_some_and(|s| s.cidr.contains(&hop));
        if router.routes.iter().filter_map(Route::parsed).any(|(_, hop)| in_subnet(hop)) {
            return Err(Error::conflict(
                "RouterInterfaceInUseByRoute",
                format!(
                    "Router interface for subnet {} on router {id} cannot be deleted, as it is required by one or more \
                     routes.",
                    ip.subnet_id
                ),
            ));
        }
    }
    if kept.is_empty() {
        ports::delete(tx, &port.id).await?;
    } else {
        let kept: Vec<RequestedIp> = kept.iter().map(|ip| RequestedIp::address(ip.ip)).collect();
        ports::set_addresses(tx, port, &kept).await?;
    }
    Ok(rows::touch(tx, Table::Routers, id.as_str()).await?)
}

/// Deletes a router with its gateway.
///
/// # Errors
/// `RouterNotFound`; `RouterInUse` while it has interfaces.
pub async fn delete(tx: &mut Tx, id: &RouterId) -> Result<(), Error> {
    let router = lock(tx, id).await?;
    if !interfaces(tx, id).await?.is_empty() {
        return Err(Error::conflict("RouterInUse", format!("Router {id} still has ports")));
    }
    clear_gateway(tx, &router).await?;
    rows::mark_deleted(tx, Table::Routers, id.as_str()).await?;
    Ok(release(tx, &router.project_id, "router", 1).await?)
}

/// Records that OVN has the router and these ports as of the revisions that were read; ports that are to go are gone.
/// For its flow.
pub async fn set_realized(tx: &mut Tx, router: &Router, ports: &[Port]) -> Result<()> {
    rows::set_realized(tx, Table::Routers, router.id.as_str(), router.meta.revision).await?;
    rows::set_status(tx, Table::Routers, router.id.as_str(), "ACTIVE").await?;
    for port in ports {
        if port.meta.deleted {
            rows::purge(tx, Table::Ports, port.id.as_str()).await?;
        } else {
            rows::set_realized(tx, Table::Ports, port.id.as_str(), port.meta.revision).await?;
            let status = if port.admin_state_up { "ACTIVE" } else { "DOWN" };
            rows::set_status(tx, Table::Ports, port.id.as_str(), status).await?;
        }
    }
    if !router.meta.exists_in_ovn() {
        let waiting = floating_ips::on_router(tx, &router.id).await?;
        flows::wake_many(tx, waiting);
    }
    Ok(())
}
