//! Decisions about networks.

use drivers::network::{NetworkSpec, Provider};
use model::{Error, Result, id::ProjectId};
use store::network::networks::{MTU_OVERLAY, MTU_PROVIDER, Network, NewNetwork, TYPE_OVERLAY};
use web::Target;

use super::wire::{Create, Update};
use crate::collection::{invalid, text};

/// Smallest MTU that IPv4 works with.
const MTU_MIN: i64 = 68;

/// What policy rules refer to.
pub fn target(network: &Network) -> Target {
    Target::project(&network.project_id)
        .with("shared", if network.shared { "True" } else { "False" })
        .with("router:external", if network.external { "True" } else { "False" })
}

/// The network that a request asks for.
///
/// # Errors
/// Bad request for values out of range, or a physical network without its attributes.
pub fn new_network(create: &Create, project: &ProjectId) -> Result<NewNetwork> {
    text("name", create.name.as_deref().unwrap_or_default())?;
    text("description", create.description.as_deref().unwrap_or_default())?;
    let network_type = create.network_type.as_deref().unwrap_or(TYPE_OVERLAY);
    segment(network_type, create.physical_network.as_deref(), create.segmentation_id)?;
    mtu(network_type, create.mtu)?;
    let base = NewNetwork::new(project, create.name.clone().unwrap_or_default());
    let external = create.external.unwrap_or(false);
    let is_default = create.is_default.unwrap_or(false);
    expect_external_default(external, is_default)?;
    Ok(NewNetwork {
        description: create.description.clone().unwrap_or_default(),
        admin_state_up: create.admin_state_up.unwrap_or(true),
        shared: create.shared.unwrap_or(false),
        external,
        is_default,
        // Zero is Neutron's way to write "the type's own".
        mtu: create.mtu.filter(|mtu| *mtu != 0),
        port_security_enabled: create.port_security_enabled.unwrap_or(true),
        network_type: network_type.to_owned(),
        physical_network: create.physical_network.clone(),
        segmentation_id: create.segmentation_id,
        qos_policy_id: create.qos_policy_id.clone(),
        dns_domain: domain(create.dns_domain.as_deref().unwrap_or_default())?,
        ..base
    })
}

fn segment(network_type: &str, physical: Option<&str>, id: Option<i64>) -> Result<()> {
    match (network_type, physical, id) {
        (TYPE_OVERLAY, None, None) => Ok(()),
        (TYPE_OVERLAY, None, Some(vni)) if (1..1 << 24).contains(&vni) => Ok(()),
        (TYPE_OVERLAY, None, Some(_)) => Err(invalid("segmentation_id out of range (1 through 16777215)")),
        (TYPE_OVERLAY, Some(_), _) => {
            Err(invalid(format!("provider:physical_network specified for {TYPE_OVERLAY} network")))
        }
        ("flat" | "vlan", None, _) => Err(invalid("physical_network required for this network type")),
        ("flat", Some(_), None) => Ok(()),
        ("flat", Some(_), Some(_)) => Err(invalid("segmentation_id prohibited for flat provider network")),
        ("vlan", Some(_), Some(vlan)) if (1..=4094).contains(&vlan) => Ok(()),
        ("vlan", Some(_), _) => Err(invalid("segmentation_id of a VLAN must be 1 through 4094")),
        (other, _, _) => {
            Err(invalid(format!("provider:network_type '{other}' is not supported; these are: geneve, flat, vlan")))
        }
    }
}

fn mtu(network_type: &str, mtu: Option<i64>) -> Result<()> {
    let max = if network_type == TYPE_OVERLAY { MTU_OVERLAY } else { MTU_PROVIDER };
    match mtu {
        None | Some(0) => Ok(()),
        Some(mtu) if (MTU_MIN..=max).contains(&mtu) => Ok(()),
        Some(mtu) => {
            Err(invalid(format!("Requested MTU {mtu} is outside the range {MTU_MIN} to {max} of this network")))
        }
    }
}

/// A domain that ends with a dot, as Neutron wants it; empty is the cloud's own.
fn domain(given: &str) -> Result<String> {
    let labels: Vec<&str> = given.trim_end_matches('.').split('.').collect();
    if given.is_empty() || (given.ends_with('.') && given.len() <= 255 && labels.iter().all(|label| is_label(label))) {
        return Ok(given.to_owned());
    }
    Err(Error::bad_request(
        "HTTPBadRequest",
        format!(
            "Invalid input for dns_domain. Reason: '{given}' is no fully qualified domain name: it must end with a dot."
        ),
    ))
}

/// Whether a host may be called so.
pub fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&label.len()) && label.chars().all(plain) && !label.starts_with('-') && !label.ends_with('-')
}

fn expect_external_default(external: bool, is_default: bool) -> Result<()> {
    if is_default && !external {
        return Err(invalid("is_default needs router:external"));
    }
    Ok(())
}

/// The network as it is after the update.
///
/// # Errors
/// Bad request for values out of range.
pub fn updated(network: &Network, update: &Update) -> Result<Network> {
    text("name", update.name.as_deref().unwrap_or_default())?;
    text("description", update.description.as_deref().unwrap_or_default())?;
    mtu(&network.network_type, update.mtu)?;
    let mut after = network.clone();
    after.name = update.name.clone().unwrap_or(after.name);
    after.description = update.description.clone().unwrap_or(after.description);
    after.admin_state_up = update.admin_state_up.unwrap_or(after.admin_state_up);
    after.shared = update.shared.unwrap_or(after.shared);
    after.external = update.external.unwrap_or(after.external);
    after.is_default = update.is_default.unwrap_or(after.is_default && after.external);
    after.port_security_enabled = update.port_security_enabled.unwrap_or(after.port_security_enabled);
    if let Some(policy) = &update.qos_policy_id {
        after.qos_policy_id.clone_from(policy);
    }
    if let Some(given) = &update.dns_domain {
        after.dns_domain = domain(given)?;
    }
    after.mtu = update.mtu.filter(|mtu| *mtu != 0).unwrap_or(after.mtu);
    expect_external_default(after.external, after.is_default)?;
    Ok(after)
}

/// Whether what lies in the network is realized otherwise after the update.
pub fn concerns_contents(before: &Network, after: &Network) -> bool {
    before.admin_state_up != after.admin_state_up
        || before.mtu != after.mtu
        || before.dns_domain != after.dns_domain
        || before.qos_policy_id != after.qos_policy_id
}

/// Whether sharing may end or the way outside may close, given who uses the network.
///
/// # Errors
/// `InvalidSharedSetting`, `ExternalNetworkInUse`.
pub fn expect_unused(before: &Network, after: &Network, port_of_others: bool, used_outside: bool) -> Result<()> {
    if before.shared && !after.shared && port_of_others {
        return Err(Error::conflict(
            "InvalidSharedSetting",
            format!("Unable to reconfigure sharing settings for network {}. Multiple tenants are using it.", before.id),
        ));
    }
    if before.external && !after.external && used_outside {
        return Err(Error::conflict(
            "ExternalNetworkInUse",
            format!(
                "External network {} cannot be updated to be made non-external, since it has existing gateway ports.",
                before.id
            ),
        ));
    }
    Ok(())
}

/// What OVN is to hold.
pub fn spec(network: &Network) -> NetworkSpec {
    let vlan = network.segmentation_id.and_then(|id| u16::try_from(id).ok());
    let provider = network.physical_network.clone().map(|physical_network| Provider { physical_network, vlan });
    NetworkSpec { id: network.id.clone(), mtu: u32::try_from(network.mtu).unwrap_or(1500), provider }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        let table = [
            (TYPE_OVERLAY, None, None, true),
            (TYPE_OVERLAY, None, Some(7), true),
            (TYPE_OVERLAY, None, Some(0), false),
            (TYPE_OVERLAY, Some("public"), None, false),
            ("flat", Some("public"), None, true),
            ("flat", None, None, false),
            ("flat", Some("public"), Some(1), false),
            ("vlan", Some("public"), Some(4094), true),
            ("vlan", Some("public"), Some(4095), false),
            ("vlan", Some("public"), None, false),
            ("gre", None, Some(1), false),
        ];
        for (kind, physical, id, ok) in table {
            assert_eq!(segment(kind, physical, id).is_ok(), ok, "{kind} {physical:?} {id:?}");
        }
    }

    #[test]
    fn mtus() {
        for (kind, value, ok) in [
            (TYPE_OVERLAY, 1442, true),
            (TYPE_OVERLAY, 1443, false),
            ("flat", 1500, true),
            ("flat", 67, false),
            ("flat", 0, true),
        ] {
            assert_eq!(mtu(kind, Some(value)).is_ok(), ok, "{kind} {value}");
        }
    }
}
