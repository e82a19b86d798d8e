//! Table `networks`.

use model::{
    Error,
    id::{NetworkId, ProjectId},
};
use sqlx::AssertSqlSafe;

use super::{
    Meta, OWNER_METADATA, Viewer, charge, column, floating_ips, ports, release, routers,
    rows::{self, Table},
    subnets, tags,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("network", "realize");
/// `provider:network_type` of networks that live in OVN's overlay.
pub const TYPE_OVERLAY: &str = "geneve";
/// VNIs that are tried for a network: with 10,000 of 16 million taken, all of them fail once in 10^25.
const VNI_ATTEMPTS: u8 = 8;
/// Largest MTU of an overlay network on links of 1500 bytes: Geneve over IPv4 takes 58.
pub const MTU_OVERLAY: i64 = 1442;
/// MTU of provider networks.
pub const MTU_PROVIDER: i64 = 1500;

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it may carry traffic.
    pub admin_state_up: bool,
    /// `ACTIVE`, `DOWN`, `ERROR`. As in Neutron a network is active at once: what is on it waits for it.
    pub status: String,
    /// Whether every project may use it.
    pub shared: bool,
    /// Whether it leads outside: routers' gateways and floating IPs.
    pub external: bool,
    /// Whether it is the external network that `auto` uses.
    pub is_default: bool,
    /// Whether it was made for servers with networks `auto`.
    pub auto_allocated: bool,
    /// Largest packet in bytes.
    pub mtu: i64,
    /// What ports get where they don't say.
    pub port_security_enabled: bool,
    /// `geneve`, `flat`, `vlan`.
    pub network_type: String,
    /// The physical network behind it.
    pub physical_network: Option<String>,
    /// Its VLAN or VNI.
    pub segmentation_id: Option<i64>,
    /// The domain of its guests' names, with its last dot; empty is the cloud's own.
    pub dns_domain: String,
    /// How much of the network its guests may have each.
    pub qos_policy_id: Option<String>,
    /// What all tables have.
    pub meta: Meta,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Network {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            admin_state_up: row.flag("admin_state_up")?,
            status: row.text("status")?,
            shared: row.flag("shared")?,
            external: row.flag("external")?,
            is_default: row.flag("is_default")?,
            auto_allocated: row.flag("auto_allocated")?,
            mtu: row.int("mtu")?,
            port_security_enabled: row.flag("port_security_enabled")?,
            network_type: row.text("network_type")?,
            physical_network: row.opt_text("physical_network")?,
            segmentation_id: row.opt_int("segmentation_id")?,
            dns_domain: row.text("dns_domain")?,
            qos_policy_id: row.opt_text("qos_policy_id")?,
            meta: Meta::from_row(row)?,
            tags: Vec::new(),
        })
    }

    /// Whether someone of this project may see it.
    pub fn visible_to(&self, project: &ProjectId) -> bool {
        self.project_id == *project || self.shared || self.external
    }
}

/// A network to make.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it may carry traffic.
    pub admin_state_up: bool,
    /// Whether every project may use it.
    pub shared: bool,
    /// Whether it leads outside.
    pub external: bool,
    /// Whether `auto` uses it as the way outside.
    pub is_default: bool,
    /// Whether it is made for `auto`.
    pub auto_allocated: bool,
    /// Largest packet; none is the type's own.
    pub mtu: Option<i64>,
    /// What ports get where they don't say.
    pub port_security_enabled: bool,
    /// `geneve`, `flat`, `vlan`.
    pub network_type: String,
    /// The physical network behind it.
    pub physical_network: Option<String>,
    /// Its VLAN or VNI; none chooses a VNI.
    pub segmentation_id: Option<i64>,
    /// The domain of its guests' names; empty is the cloud's own.
    pub dns_domain: String,
    /// How much of the network its guests may have each.
    pub qos_policy_id: Option<String>,
}

impl NewNetwork {
    /// An overlay network with Neutron's defaults.
    pub fn new(project_id: &ProjectId, name: impl Into<String>) -> Self {
        Self {
            id: NetworkId::random(),
            project_id: project_id.clone(),
            name: name.into(),
            description: String::new(),
            admin_state_up: true,
            shared: false,
            external: false,
            is_default: false,
            auto_allocated: false,
            mtu: None,
            port_security_enabled: true,
            network_type: TYPE_OVERLAY.to_owned(),
            physical_network: None,
            segmentation_id: None,
            dns_domain: String::new(),
            qos_policy_id: None,
        }
    }
}

/// `NetworkNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("NetworkNotFound", format!("Network {} could not be found.", id.as_ref()))
}

/// Makes a network and its flow; charges quota.
///
/// # Errors
/// `OverQuota`; `NetworkInUse`-like conflicts of the physical segment.
pub async fn create(tx: &mut Tx, new: &NewNetwork) -> Result<Network, Error> {
    charge(tx, &new.project_id, "network", 1).await?;
    let segmentation_id = match new.network_type.as_str() {
        TYPE_OVERLAY => Some(free_vni(tx, new).await?),
        _ => new.segmentation_id,
    };
    if segment_taken(tx, &new.network_type, new.physical_network.as_deref(), segmentation_id).await? {
        return Err(segment_in_use(new, segmentation_id));
    }
    let meta = Meta::new(tx.now());
    let mtu = new.mtu.unwrap_or(if new.network_type == TYPE_OVERLAY { MTU_OVERLAY } else { MTU_PROVIDER });
    let inserted = query(
        "insert into networks (id, project_id, name, description, admin_state_up, status, shared, external, is_default, \
         auto_allocated, mtu, port_security_enabled, network_type, physical_network, segmentation_id, dns_domain, \
         qos_policy_id, revision, realized_revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, 'ACTIVE', $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19)",
    )
    .bind(new.id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.name.as_str())
    .bind(new.description.as_str())
    .bind(i64::from(new.admin_state_up))
    .bind(i64::from(new.shared))
    .bind(i64::from(new.external))
    .bind(i64::from(new.is_default))
    .bind(i64::from(new.auto_allocated))
    .bind(mtu)
    .bind(i64::from(new.port_security_enabled))
    .bind(new.network_type.as_str())
    .bind(new.physical_network.as_deref())
    .bind(segmentation_id)
    .bind(new.dns_domain.as_str())
    .bind(new.qos_policy_id.as_deref())
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from);
    match inserted {
        Err(error) if error.is_unique_violation() => return Err(segment_in_use(new, segmentation_id)),
        other => other?,
    };
    events::created(tx, events::NETWORK, &new.id);
    flows::insert(tx, &new.id, FLOW.0, FLOW.1, None).await?;
    get(tx, &new.id).await?.ok_or_else(|| not_found(&new.id))
}

/// The VNI asked for, or one derived from the network's id that nobody has.
async fn free_vni(tx: &mut Tx, new: &NewNetwork) -> Result<i64, Error> {
    if let Some(asked) = new.segmentation_id {
        return Ok(asked);
    }
    for attempt in 0..VNI_ATTEMPTS {
        let vni = vni_of(&new.id, attempt);
        if !segment_taken(tx, TYPE_OVERLAY, None, Some(vni)).await? {
            return Ok(vni);
        }
    }
    Err(Error::unavailable("NoNetworkAvailable", "Unable to create the network. No tenant network is available."))
}

/// A number of 24 bits that is not zero, the same each time (FNV-1a).
fn vni_of(id: &NetworkId, attempt: u8) -> i64 {
    let hash = id
        .as_str()
        .bytes()
        .chain([attempt])
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    i64::try_from((hash >> 20) % ((1 << 24) - 1)).unwrap_or(0) + 1
}

async fn segment_taken(tx: &mut Tx, kind: &str, physical: Option<&str>, segment: Option<i64>) -> Result<bool> {
    let row = query(
        "select 1 as taken from networks where network_type = $1 and coalesce(physical_network, '') = $2 \
         and coalesce(segmentation_id, -1) = $3 and deleted_at is null",
    )
    .bind(kind)
    .bind(physical.unwrap_or_default())
    .bind(segment.unwrap_or(-1))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

fn segment_in_use(new: &NewNetwork, segment: Option<i64>) -> Error {
    let physical = new.physical_network.as_deref().unwrap_or_default();
    match (new.network_type.as_str(), segment) {
        ("flat", _) => Error::conflict(
            "FlatNetworkInUse",
            format!("Unable to create the flat network. Physical network {physical} is in use."),
        ),
        ("vlan", Some(vlan)) => Error::conflict(
            "VlanIdInUse",
            format!("Unable to create the network. The VLAN {vlan} on physical network {physical} is in use."),
        ),
        (_, segment) => Error::conflict(
            "TunnelIdInUse",
            format!("Unable to create the network. The tunnel ID {} is in use.", segment.unwrap_or_default()),
        ),
    }
}

/// One network, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Network>> {
    let found = find(conn, id).await?;
    Ok(found.filter(|network| !network.meta.deleted))
}

/// One network, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Network>> {
    let row = query("select * from networks where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(None) };
    let mut network = Network::from_row(&row)?;
    network.tags = tags::get(conn, network.id.as_str()).await?;
    Ok(Some(network))
}

/// One network, locked until the transaction ends: whoever puts something into it or deletes it queues here.
///
/// # Errors
/// `NetworkNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<Network, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from networks where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?.ok_or_else(|| not_found(id.as_ref()))?;
    let mut network = Network::from_row(&row)?;
    network.tags = tags::get(tx, network.id.as_str()).await?;
    Ok(network)
}

/// A `select` of the networks that someone sees, for filters to be added.
pub fn select(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from networks r", "networks r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.filter("(r.project_id = ? or r.shared = 1 or r.external = 1)", [project.into()]);
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Network>> {
    let rows = select.page(conn, page).await?;
    with_tags(conn, rows.iter().map(Network::from_row).collect::<Result<_>>()?).await
}

/// Several networks, by id.
pub async fn by_ids(conn: &mut Conn, ids: &[&str]) -> Result<Vec<Network>> {
    let mut select = select(&Viewer::Admin);
    select.any_of("r.id", ids.iter().map(|id| (*id).into()));
    select.all(conn, "r.id").await?.iter().map(Network::from_row).collect()
}

async fn with_tags(conn: &mut Conn, mut networks: Vec<Network>) -> Result<Vec<Network>> {
    tags::fill(conn, &mut networks, |n| (n.id.as_str(), &mut n.tags)).await?;
    Ok(networks)
}

/// The networks that a server of the project may be put on when none is named: its own and shared ones, external ones
/// apart unless shared.
pub async fn usable_by(conn: &mut Conn, project: &ProjectId) -> Result<Vec<Network>> {
    let mut select = select(&Viewer::Project(project.clone()));
    select.filter("(r.shared = 1 or (r.project_id = ? and r.external = 0))", [project.into()]);
    let rows = select.all(conn, "r.id").await?;
    with_tags(conn, rows.iter().map(Network::from_row).collect::<Result<_>>()?).await
}

/// The external network that `auto` uses: the default one, or else the only one.
pub async fn default_external(conn: &mut Conn) -> Result<Option<Network>> {
    let mut select = select(&Viewer::Admin);
    select.equal("r.external", true);
    let rows = select.all(conn, "r.is_default desc, r.id").await?;
    let networks: Vec<Network> = rows.iter().map(Network::from_row).collect::<Result<_>>()?;
    let only = networks.len() == 1;
    Ok(networks.into_iter().next().filter(|n| only || n.is_default))
}

/// Writes what may change of a network, raises its revision, wakes its flow.
pub async fn update(tx: &mut Tx, network: &Network) -> Result<()> {
    query(
        "update networks set name = $2, description = $3, admin_state_up = $4, shared = $5, external = $6, \
         is_default = $7, mtu = $8, port_security_enabled = $9, dns_domain = $10, qos_policy_id = $11, \
         revision = revision + 1, updated_at = $12 where id = $1 and deleted_at is null",
    )
    .bind(network.id.as_str())
    .bind(network.name.as_str())
    .bind(network.description.as_str())
    .bind(i64::from(network.admin_state_up))
    .bind(i64::from(network.shared))
    .bind(i64::from(network.external))
    .bind(i64::from(network.is_default))
    .bind(network.mtu)
    .bind(i64::from(network.port_security_enabled))
    .bind(network.dns_domain.as_str())
    .bind(network.qos_policy_id.as_deref())
    .bind(tx.now().0)
    .execute(&mut **tx)
    .await?;
    events::updated(tx, events::NETWORK, &network.id);
    flows::wake(tx, &network.id);
    Ok(())
}

/// Deletes a network with its subnets, its metadata port, and its floating IPs that lead nowhere.
///
/// # Errors
/// `NetworkNotFound`, or `NetworkInUse` while other ports are on it.
pub async fn delete(tx: &mut Tx, id: &NetworkId) -> Result<(), Error> {
    let network = lock(tx, id).await?;
    floating_ips::delete_unused(tx, id).await?;
    let ports = ports::on_network(tx, id).await?;
    if let Some(port) = ports.iter().find(|p| p.device_owner != OWNER_METADATA) {
        return Err(Error::conflict(
            "NetworkInUse",
            format!(
                "Unable to complete operation on network {id}. There are one or more ports still in use on the network, \
                 id for these ports is: {}.",
                port.id
            ),
        ));
    }
    for port in &ports {
        ports::delete(tx, &port.id).await?;
    }
    for subnet in subnets::of_network(tx, id).await? {
        subnets::remove(tx, &subnet).await?;
    }
    rows::mark_deleted(tx, Table::Networks, id.as_str()).await?;
    release(tx, &network.project_id, "network", 1).await?;
    Ok(())
}

/// The network that servers of the project with networks `auto` are put on; where there is none, made with a subnet
/// and a router to the default external network.
///
/// # Errors
/// `OverQuota`; `AutoAllocationFailure` where there is no default external network.
pub async fn auto_allocate(tx: &mut Tx, project: &ProjectId) -> Result<NetworkId, Error> {
    let row = query("select id from networks where project_id = $1 and auto_allocated = 1 and deleted_at is null")
        .bind(project.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    if let Some(row) = row {
        return Ok(row.id("id")?);
    }
    let external = default_external(tx).await?.ok_or_else(|| {
        Error::conflict(
            "AutoAllocationFailure",
            "Deployment error: No default router:external network. Ask an administrator for one, or name a network.",
        )
    })?;
    let network = NewNetwork { auto_allocated: true, ..NewNetwork::new(project, "auto_allocated_network") };
    let network = create(tx, &network).await?;
    let cidr = AUTO_CIDR.parse().map_err(|e| column("cidr", format!("{e}")))?;
    let subnet = subnets::NewSubnet::new(&network, "auto_allocated_subnet_v4", cidr);
    let subnet = subnets::create(tx, &subnet).await?;
    let router = routers::NewRouter {
        gateway: Some(routers::NewGateway::on(&external.id)),
        ..routers::NewRouter::new(project, "auto_allocated_router")
    };
    let router = routers::create(tx, &router).await?;
    routers::add_subnet(tx, &router.id, &subnet).await?;
    Ok(network.id)
}

/// Takes the project's automatic network away with its router.
///
/// # Errors
/// `NetworkInUse` while other ports are on it; `NetworkNotFound` where there is none.
pub async fn remove_allocated(tx: &mut Tx, project: &ProjectId) -> Result<(), Error> {
    let row = query("select id from networks where project_id = $1 and auto_allocated = 1 and deleted_at is null")
        .bind(project.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    let id: NetworkId = row.ok_or_else(|| not_found("of the automatic topology"))?.id("id")?;
    let interfaces: Vec<_> = ports::on_network(tx, &id).await?.into_iter().filter(ports::Port::is_of_router).collect();
    for port in interfaces {
        let router = model::id::RouterId::new(port.device_id.as_str());
        routers::remove_interface(tx, &router, &port, None).await?;
        if routers::interfaces(tx, &router).await?.is_empty() {
            routers::delete(tx, &router).await?;
        }
    }
    delete(tx, &id).await
}

/// The range of each project's automatic network. Projects' networks don't meet, so that it can be the same.
const AUTO_CIDR: &str = "10.233.0.0/20";

/// Wakes what lies in the network: its subnets, ports, and the routers connected to it.
pub async fn wake_contents(tx: &mut Tx, id: &NetworkId) -> Result<()> {
    let rows = query(
        "select id from subnets where network_id = $1 union select id from ports where network_id = $1 \
         union select device_id as id from ports where network_id = $1 and device_owner in ($2, $3)",
    )
    .bind(id.as_str())
    .bind(super::OWNER_ROUTER_INTERFACE)
    .bind(super::OWNER_ROUTER_GATEWAY)
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}
