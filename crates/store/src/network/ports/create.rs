//! Making a port: quota, MAC, addresses, security groups and flow in one transaction.

use model::{
    Error,
    addr::Mac,
    id::{NetworkId, PortId, ProjectId, SecurityGroupId},
};

use super::{
    AddressPair, DhcpOption, FLOW, Port, get, is_of_router, mac_in_use, not_found, quota_of,
    security_group_needs_port_security, set_groups,
};
use crate::{
    Result, RowExt, Tx, events, flows,
    network::{
        Meta, OWNER_FLOATING_IP, OWNER_SERVER_PREFIX, RequestedIp, addresses, charge, json, networks, security_groups,
    },
    query,
};

/// How often a random MAC that is taken is chosen anew.
const MAC_ATTEMPTS: usize = 16;

/// A port to make.
#[derive(Clone, Debug)]
pub struct NewPort {
    /// Its id.
    pub id: PortId,
    /// The network it is on.
    pub network_id: NetworkId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether it may carry traffic.
    pub admin_state_up: bool,
    /// Its MAC; none makes one.
    pub mac: Option<Mac>,
    /// Its addresses; none takes one of each IP version that the network has, an empty list takes none.
    pub fixed_ips: Option<Vec<RequestedIp>>,
    /// Its security groups; none is the project's default group.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// Whether source addresses are checked; none is as the network has it.
    pub port_security: Option<bool>,
    /// Further addresses allowed as source.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// What uses it.
    pub device_id: String,
    /// What sort of thing that is.
    pub device_owner: String,
    /// The host it is to be plugged in on.
    pub host: String,
    /// `normal`.
    pub vnic_type: String,
    /// What the hypervisor's driver is told about it.
    pub binding_profile: serde_json::Value,
    /// What its guest is told by DHCP besides what its subnets say.
    pub extra_dhcp_opts: Vec<DhcpOption>,
    /// The name that others find it by; of a server's port empty is the server's own.
    pub dns_name: String,
    /// How much of the network it may have; none is as its network has it.
    pub qos_policy_id: Option<String>,
}

impl NewPort {
    /// A port with Neutron's defaults, used by nothing yet.
    pub fn new(project_id: &ProjectId, network_id: &NetworkId) -> Self {
        Self {
            id: PortId::random(),
            network_id: network_id.clone(),
            project_id: project_id.clone(),
            name: String::new(),
            description: String::new(),
            admin_state_up: true,
            mac: None,
            fixed_ips: None,
            security_groups: None,
            port_security: None,
            allowed_address_pairs: Vec::new(),
            device_id: String::new(),
            device_owner: String::new(),
            host: String::new(),
            vnic_type: "normal".to_owned(),
            binding_profile: serde_json::Value::Object(serde_json::Map::new()),
            extra_dhcp_opts: Vec::new(),
            dns_name: String::new(),
            qos_policy_id: None,
        }
    }
}

/// Makes a port and its flow: charges quota, chooses MAC and addresses, gives it the project's default security group
/// where none is named.
///
/// # Errors
/// `OverQuota`, `NetworkNotFound`, `MacAddressInUse`, `SecurityGroupNotFound`, and what addresses can be refused for.
pub async fn create(tx: &mut Tx, new: &NewPort) -> Result<Port, Error> {
    charge(tx, &new.project_id, "port", quota_of(&new.device_owner)).await?;
    let network = networks::lock(tx, &new.network_id).await?;
    let mac = choose_mac(tx, new).await?;
    let fixed_ips = addresses::choose(tx, &network, new.fixed_ips.as_deref(), (&new.device_owner, mac)).await?;
    let port_security =
        new.port_security.unwrap_or(network.port_security_enabled) && !addresses::is_own(&new.device_owner);
    let groups = choose_groups(tx, new, port_security).await?;
    insert(tx, new, mac, port_security).await?;
    events::created(tx, events::PORT, &new.id);
    addresses::insert(tx, &new.id, &fixed_ips).await?;
    set_groups(tx, &new.id, &groups).await?;
    if is_of_router(&new.device_owner) {
        flows::wake(tx, &new.device_id);
    } else if new.device_owner != OWNER_FLOATING_IP {
        flows::insert(tx, &new.id, FLOW.0, FLOW.1, None).await?;
    }
    get(tx, &new.id).await?.ok_or_else(|| not_found(&new.id))
}

async fn insert(tx: &mut Tx, new: &NewPort, mac: Mac, port_security: bool) -> Result<(), Error> {
    let meta = Meta::new(tx.now());
    let name = match new.dns_name.as_str() {
        "" => name_of_server(tx, &new.device_id, &new.device_owner).await?,
        name => name.to_owned(),
    };
    let status = if new.device_owner == OWNER_FLOATING_IP { "N/A" } else { "DOWN" };
    let inserted = query(
        "insert into ports (id, network_id, project_id, name, description, admin_state_up, status, mac, device_id, \
         device_owner, port_security_enabled, allowed_address_pairs, host, vnic_type, binding_profile, extra_dhcp_opts, \
         dns_name, qos_policy_id, active, revision, realized_revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 0, $19, $20, $21, \
         $21)",
    )
    .bind(new.id.as_str())
    .bind(new.network_id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.name.as_str())
    .bind(new.description.as_str())
    .bind(i64::from(new.admin_state_up))
    .bind(status)
    .bind(mac.to_string())
    .bind(new.device_id.as_str())
    .bind(new.device_owner.as_str())
    .bind(i64::from(port_security))
    .bind(json(&new.allowed_address_pairs))
    .bind(new.host.as_str())
    .bind(new.vnic_type.as_str())
    .bind(new.binding_profile.to_string())
    .bind(json(&new.extra_dhcp_opts))
    .bind(name)
    .bind(new.qos_policy_id.as_deref())
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from);
    match inserted {
        Err(error) if error.is_unique_violation() => Err(mac_in_use(mac, &new.network_id)),
        other => other.map(|_| ()).map_err(Error::from),
    }
}

/// The host name of the server that has the port; empty where none has it.
pub(super) async fn name_of_server(tx: &mut Tx, device_id: &str, device_owner: &str) -> Result<String> {
    if !device_owner.starts_with(OWNER_SERVER_PREFIX) {
        return Ok(String::new());
    }
    let row = query("select hostname from servers where id = $1").bind(device_id).fetch_optional(&mut **tx).await?;
    row.map_or_else(|| Ok(String::new()), |row| row.text("hostname"))
}

async fn choose_mac(tx: &mut Tx, new: &NewPort) -> Result<Mac, Error> {
    if let Some(mac) = new.mac {
        return if is_mac_taken(tx, &new.network_id, mac).await? {
            Err(mac_in_use(mac, &new.network_id))
        } else {
            Ok(mac)
        };
    }
    for _ in 0..MAC_ATTEMPTS {
        let mac = Mac::random();
        if !is_mac_taken(tx, &new.network_id, mac).await? {
            return Ok(mac);
        }
    }
    Err(Error::unavailable(
        "MacAddressGenerationFailure",
        format!("Unable to generate unique mac on network {}.", new.network_id),
    ))
}

async fn is_mac_taken(tx: &mut Tx, network: &NetworkId, mac: Mac) -> Result<bool> {
    let row = query("select 1 as taken from ports where network_id = $1 and mac = $2 and deleted_at is null")
        .bind(network.as_str())
        .bind(mac.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

async fn choose_groups(tx: &mut Tx, new: &NewPort, port_security: bool) -> Result<Vec<SecurityGroupId>, Error> {
    if addresses::is_own(&new.device_owner) {
        return Ok(Vec::new());
    }
    match &new.security_groups {
        Some(groups) if groups.is_empty() => Ok(Vec::new()),
        Some(_) if !port_security => Err(security_group_needs_port_security()),
        Some(groups) => {
            security_groups::expect_all(tx, groups).await?;
            Ok(groups.clone())
        }
        None if !port_security => Ok(Vec::new()),
        None => Ok(vec![security_groups::ensure_default(tx, &new.project_id).await?]),
    }
}
