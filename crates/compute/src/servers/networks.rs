//! Which networks new servers are put on: from what the request says to ports.

use std::net::IpAddr;

use model::{
    Error, ErrorKind, Result,
    id::{NetworkId, PortId, ProjectId, SecurityGroupId, ServerId},
};
use store::{
    Tx,
    compute::server_ports::{self, ServerPort},
    network::{
        OWNER_SERVER_PREFIX, RequestedIp,
        networks::{self, Network},
        ports::{self, NewPort},
        security_groups, subnets,
    },
};
use web::{Cx, Target, Version};

use super::wire::{GroupName, NetworkRef, Networks};
use crate::input::invalid;

/// One interface of each of the servers.
#[derive(Clone, Debug)]
pub struct Plan {
    source: Source,
    tag: Option<String>,
}

impl Plan {
    /// Where the plan's locks are taken among those of others: new ports lock their network, others only themselves.
    pub fn lock_order(&self) -> (bool, &str) {
        match &self.source {
            Source::New(network, _) => (false, network.as_str()),
            Source::Port(port) => (true, port.as_str()),
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    /// A port to make on the network, with that address.
    New(NetworkId, Option<IpAddr>),
    /// A port that the user made.
    Port(PortId),
}

impl Plan {
    /// A port on the network.
    pub fn on(network: NetworkId, fixed_ip: Option<IpAddr>, tag: Option<String>) -> Self {
        Self { source: Source::New(network, fixed_ip), tag }
    }

    /// A port that the user made.
    pub fn port(port: PortId, tag: Option<String>) -> Self {
        Self { source: Source::Port(port), tag }
    }
}

/// What the request's networks come to.
///
/// # Errors
/// Bad request, forbidden or conflict, in Nova's words.
pub async fn plan(
    cx: &Cx,
    tx: &mut Tx,
    project: &ProjectId,
    wanted: Option<&Networks>,
    servers: u32,
) -> Result<Vec<Plan>> {
    match wanted {
        None if cx.version >= Version(2, 37) => {
            Err(invalid("Invalid input for field/attribute server. 'networks' is a required property"))
        }
        None => default(tx, project).await,
        Some(Networks::Word(_)) if cx.version < Version(2, 37) => {
            Err(invalid("Invalid input for field/attribute networks: it must be a list"))
        }
        Some(Networks::Word(word)) => match word.as_str() {
            "none" => Ok(Vec::new()),
            "auto" => automatic(tx, project).await,
            _ => Err(invalid(format!(
                "Invalid input for field/attribute networks. Value: {word}. It is neither auto nor none"
            ))),
        },
        Some(Networks::List(list)) if list.is_empty() => default(tx, project).await,
        Some(Networks::List(list)) => {
            let mut plans = Vec::with_capacity(list.len());
            for network in list {
                plans.push(one(cx, tx, project, network, servers).await?);
            }
            Ok(plans)
        }
    }
}

/// The project's only network, or none where there is none.
async fn default(tx: &mut Tx, project: &ProjectId) -> Result<Vec<Plan>> {
    let usable = networks::usable_by(tx, project).await?;
    match usable.as_slice() {
        [] => Ok(Vec::new()),
        [only] => {
            expect_subnet(tx, only).await?;
            Ok(vec![Plan::on(only.id.clone(), None, None)])
        }
        _ => Err(ambiguous()),
    }
}

/// The project's only network; where there is none, one is made.
async fn automatic(tx: &mut Tx, project: &ProjectId) -> Result<Vec<Plan>> {
    let usable = networks::usable_by(tx, project).await?;
    let id = match usable.as_slice() {
        [] => networks::auto_allocate(tx, project).await.map_err(|error| match error.code {
            "AutoAllocationFailure" => Error::bad_request("UnableToAutoAllocateNetwork", error.message),
            _ => error,
        })?,
        [only] => only.id.clone(),
        _ => return Err(ambiguous()),
    };
    Ok(vec![Plan::on(id, None, None)])
}

fn ambiguous() -> Error {
    Error::conflict("NetworkAmbiguous", "Multiple possible networks found, use a Network ID to be more specific.")
}

async fn one(cx: &Cx, tx: &mut Tx, project: &ProjectId, wanted: &NetworkRef, servers: u32) -> Result<Plan> {
    let tag = wanted.tag.clone();
    if tag.is_some() && !((Version(2, 32)..=Version(2, 36)).contains(&cx.version) || cx.version >= Version(2, 42)) {
        return Err(invalid(
            "Invalid input for networks. Additional properties are not allowed ('tag' was unexpected)",
        ));
    }
    if let Some(port) = &wanted.port {
        if servers > 1 {
            return Err(bad(
                "MultiplePortsNotApplicable",
                "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.",
            ));
        }
        let port = PortId::new(port.clone());
        expect_usable_port(tx, project, &port).await?;
        return Ok(Plan::port(port, tag));
    }
    let id = wanted.uuid.as_deref().ok_or_else(|| invalid("Invalid input for networks: each has a uuid or a port"))?;
    let fixed_ip = wanted.fixed_ip.as_deref().map(parse_ip).transpose()?;
    if fixed_ip.is_some() && servers > 1 {
        return Err(bad("InvalidInput", "max_count cannot be greater than 1 if an fixed_ip is specified."));
    }
    let network = expect_usable(cx, tx, project, id).await?;
    Ok(Plan::on(network.id, fixed_ip, tag))
}

fn bad(code: &'static str, message: impl Into<String>) -> Error {
    Error::bad_request(code, message)
}

/// An address, as the request has it.
///
/// # Errors
/// Bad request for what is none.
pub fn parse_ip(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| bad("FixedIpInvalid", format!("Invalid fixed IP address ({text})")))
}

/// A network that servers of the project may be put on.
///
/// # Errors
/// Bad request where the project does not see it or it has no subnet; forbidden for another's external network.
pub async fn expect_usable(cx: &Cx, tx: &mut Tx, project: &ProjectId, id: &str) -> Result<Network> {
    let is_admin = cx.caller.has_role("admin");
    let network = networks::get(tx, id).await?.filter(|n| is_admin || n.visible_to(project));
    let network = network.ok_or_else(|| bad("NetworkNotFound", format!("Network {id} could not be found.")))?;
    if network.external && !network.shared && network.project_id != *project {
        let rule = "network:attach_external_network";
        if !is_admin && !cx.can(rule, &Target::project(project)) {
            return Err(Error::forbidden(
                "ExternalNetworkAttachForbidden",
                format!("It is not allowed to create an interface on external network {id}"),
            ));
        }
    }
    expect_subnet(tx, &network).await?;
    Ok(network)
}

async fn expect_subnet(tx: &mut Tx, network: &Network) -> Result<()> {
    if network.port_security_enabled && subnets::of_network(tx, &network.id).await?.is_empty() {
        let id = &network.id;
        return Err(bad(
            "NetworkRequiresSubnet",
            format!("Network {id} requires a subnet in order to boot instances on."),
        ));
    }
    Ok(())
}

/// A port of the project that nothing uses.
///
/// # Errors
/// Bad request or conflict, in Nova's words.
pub async fn expect_usable_port(tx: &mut Tx, project: &ProjectId, id: &PortId) -> Result<()> {
    let port = ports::get(tx, id).await?.filter(|port| port.project_id == *project);
    let port = port.ok_or_else(|| bad("PortNotFound", format!("Port id {id} could not be found.")))?;
    if !port.device_id.is_empty() {
        return Err(Error::conflict("PortInUse", format!("Port {id} is still in use.")));
    }
    if port.fixed_ips.is_empty() && port.port_security_enabled {
        return Err(bad("PortRequiresFixedIP", format!("Port {id} requires a FixedIP in order to be used.")));
    }
    Ok(())
}

/// The security groups that the request names.
///
/// # Errors
/// Bad request for a group that the project does not have, conflict for a name that several have.
pub async fn groups(tx: &mut Tx, project: &ProjectId, named: &[GroupName]) -> Result<Option<Vec<SecurityGroupId>>> {
    let mut ids: Vec<SecurityGroupId> = Vec::with_capacity(named.len());
    for GroupName { name } in named {
        let mut found = security_groups::by_name(tx, project, name).await?;
        if found.is_empty() && name == "default" {
            found.push(security_groups::ensure_default(tx, project).await?);
        }
        match found.as_slice() {
            [] => {
                let message = format!("Security group {name} not found for project {project}.");
                return Err(bad("SecurityGroupNotFound", message));
            }
            [only] => ids.push(only.clone()),
            _ => {
                let message =
                    format!("Multiple security groups found matching '{name}'. Use an ID to be more specific.");
                return Err(Error::conflict("NoUniqueMatch", message));
            }
        }
    }
    ids.sort();
    ids.dedup();
    Ok(if ids.is_empty() { None } else { Some(ids) })
}

/// Gives a server the interface: makes the port, or takes the user's. `host` is empty until one is chosen.
///
/// # Errors
/// What the network service refuses it for, in Nova's words.
pub async fn attach(
    tx: &mut Tx,
    (project, server): (&ProjectId, &ServerId),
    plan: &Plan,
    groups: Option<&[SecurityGroupId]>,
    (position, host, zone): (i64, &str, &str),
) -> Result<PortId> {
    let device_owner = format!("{OWNER_SERVER_PREFIX}{zone}");
    let (port_id, ours) = match &plan.source {
        Source::Port(id) => {
            ports::bind(tx, id, host, server.as_str(), &device_owner).await?;
            (id.clone(), false)
        }
        Source::New(network, ip) => {
            let new = NewPort {
                fixed_ips: ip.map(|ip| vec![RequestedIp::address(ip)]),
                security_groups: groups.map(<[SecurityGroupId]>::to_vec),
                device_id: server.as_str().to_owned(),
                device_owner,
                host: host.to_owned(),
                ..NewPort::new(project, network)
            };
            (ports::create(tx, &new).await.map_err(in_novas_words)?.id, true)
        }
    };
    let port = ServerPort { port_id: port_id.clone(), position, ours, tag: plan.tag.clone(), detach: false };
    server_ports::insert(tx, server, &port).await?;
    Ok(port_id)
}

/// Neutron's refusals of a port, as Nova passes them on.
fn in_novas_words(error: Error) -> Error {
    match (error.kind, error.code) {
        (ErrorKind::OverQuota, _) => Error::over_quota("PortLimitExceeded", "Maximum number of ports exceeded"),
        (_, "IpAddressAlreadyAllocated") => bad("FixedIpAlreadyInUse", error.message),
        (ErrorKind::NotFound, code) => bad(code, error.message),
        _ => error,
    }
}
