//! Decisions about floating IPs.

use std::net::IpAddr;

use drivers::network::{FloatingIpSpec, Forward, Leads};
use model::{
    Error, Result,
    addr::Mac,
    id::{NetworkId, PortId, ProjectId, SubnetId},
};
use store::network::{
    RequestedIp,
    floating_ips::{FloatingIp, NewFloatingIp},
    port_forwardings::PortForwarding,
};

use super::wire::{Create, Update};
use crate::collection::text;

/// The floating IP that a request asks for.
///
/// # Errors
/// Bad request that says which attribute can't be.
pub fn new_floating_ip(create: &Create, network: &NetworkId, project: &ProjectId) -> Result<NewFloatingIp> {
    text("description", create.description.as_deref().unwrap_or_default())?;
    let ip = create.floating_ip_address.as_deref().map(|ip| address("floating_ip_address", ip)).transpose()?;
    let subnet_id = create.subnet_id.as_deref().map(SubnetId::new);
    let fixed = create.fixed_ip_address.as_deref().map(|ip| address("fixed_ip_address", ip)).transpose()?;
    if fixed.is_some() && create.port_id.is_none() {
        return Err(fixed_without_port());
    }
    Ok(NewFloatingIp {
        description: create.description.clone().unwrap_or_default(),
        address: (ip.is_some() || subnet_id.is_some()).then_some(RequestedIp { subnet_id, ip }),
        target: create.port_id.as_deref().map(|port| (PortId::new(port), fixed)),
        ..NewFloatingIp::new(project, network)
    })
}

fn address(attribute: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for {attribute}. Reason: '{text}' is not a valid IP address."),
        )
    })
}

fn fixed_without_port() -> Error {
    Error::bad_request("BadRequest", "Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
}

/// What an update makes of where a floating IP leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Nowhere.
    Disassociate,
    /// To this port, under this address of it.
    Associate(PortId, Option<IpAddr>),
}

/// As in Neutron, `fixed_ip_address` alone chooses another address of the same port; of `port_id`, absence keeps what
/// is and `null` ends it.
///
/// # Errors
/// Bad request for an address without a port.
pub fn change(floating_ip: &FloatingIp, update: &Update) -> Result<Change> {
    text("description", update.description.as_deref().unwrap_or_default())?;
    let fixed = update.fixed_ip_address.clone().flatten();
    let fixed = fixed.as_deref().map(|ip| address("fixed_ip_address", ip)).transpose()?;
    match (&update.port_id, &floating_ip.target) {
        (Some(Some(port)), _) => Ok(Change::Associate(PortId::new(port.as_str()), fixed)),
        (Some(None), _) if fixed.is_some() => Err(fixed_without_port()),
        (Some(None), Some(_)) => Ok(Change::Disassociate),
        (Some(None), None) => Ok(Change::None),
        (None, Some(target)) if fixed.is_some() => Ok(Change::Associate(target.port_id.clone(), fixed)),
        (None, None) if fixed.is_some() => Err(fixed_without_port()),
        (None, _) => Ok(Change::None),
    }
}

/// What OVN is to hold; none where it leads nowhere. `own_mac`: where set, the guest's own host translates.
pub fn spec(floating_ip: &FloatingIp, own_mac: Option<Mac>) -> Option<FloatingIpSpec> {
    let leads = match &floating_ip.target {
        Some(target) => {
            Leads::Guest { address: target.fixed_ip, port_id: target.port_id.clone(), external_mac: own_mac }
        }
        None if floating_ip.forwardings.is_empty() => return None,
        None => Leads::Forwards(floating_ip.forwardings.iter().filter_map(forward).collect()),
    };
    Some(FloatingIpSpec {
        id: floating_ip.id.clone(),
        router_id: floating_ip.router_id.clone()?,
        floating_address: floating_ip.address,
        leads,
    })
}

fn forward(item: &PortForwarding) -> Option<Forward> {
    Some(Forward {
        udp: item.protocol == "udp",
        external_port: u16::try_from(item.external_port).ok()?,
        address: item.internal_ip_address,
        port: u16::try_from(item.internal_port).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use model::{
        Timestamp,
        id::{FloatingIpId, RouterId},
    };
    use store::network::{Meta, floating_ips::Target};

    use super::*;

    fn floating_ip(target: Option<Target>) -> FloatingIp {
        FloatingIp {
            id: FloatingIpId::new("f"),
            project_id: ProjectId::new("p"),
            description: String::new(),
            status: "DOWN".into(),
            floating_network_id: NetworkId::new("n"),
            floating_port_id: PortId::new("fp"),
            address: "172.24.4.9".parse().unwrap(),
            router_id: target.as_ref().map(|t| t.router_id.clone()),
            target,
            forwardings: Vec::new(),
            meta: Meta {
                revision: 1,
                realized_revision: 1,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
                deleted: false,
            },
            tags: Vec::new(),
        }
    }

    #[test]
    fn where_an_update_leads() {
        let ip: IpAddr = "10.0.0.9".parse().unwrap();
        let bound = || {
            Some(Target {
                port_id: PortId::new("a"),
                fixed_ip: "10.0.0.5".parse().unwrap(),
                router_id: RouterId::new("r"),
            })
        };
        let cases = [
            (None, r#"{"port_id": "b"}"#, Ok(Change::Associate(PortId::new("b"), None))),
            (
                bound(),
                r#"{"port_id": "b", "fixed_ip_address": "10.0.0.9"}"#,
                Ok(Change::Associate(PortId::new("b"), Some(ip))),
            ),
            (bound(), r#"{"port_id": null}"#, Ok(Change::Disassociate)),
            (None, r#"{"port_id": null}"#, Ok(Change::None)),
            (bound(), r#"{"fixed_ip_address": "10.0.0.9"}"#, Ok(Change::Associate(PortId::new("a"), Some(ip)))),
            (None, r#"{"fixed_ip_address": "10.0.0.9"}"#, Err("BadRequest")),
            (bound(), r#"{"description": "x"}"#, Ok(Change::None)),
        ];
        for (target, body, expected) in cases {
            let update: Update = serde_json::from_str(body).unwrap();
            assert_eq!(change(&floating_ip(target), &update).map_err(|e| e.code), expected, "{body}");
        }
    }
}
