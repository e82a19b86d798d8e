//! Decisions about security groups.

use drivers::network::{Direction, Family, Protocol, Remote, SecurityGroupRule as DriverRule, SecurityGroupSpec};
use ipnet::IpNet;
use model::{Error, Result};
use store::network::{
    address_groups::AddressGroup,
    security_groups::{DEFAULT_NAME, Rule, SecurityGroup},
};

use super::wire::Update;
use crate::{
    collection::text,
    security_group_rules::logic::{ProtocolClass, classify},
};

/// The group as it is after the update. `in_use`: ports have it.
///
/// # Errors
/// `SecurityGroupCannotUpdateDefault` for its name; `SecurityGroupInUse` for statefulness while ports have it.
pub fn updated(group: &SecurityGroup, update: &Update, in_use: bool) -> Result<SecurityGroup> {
    text("name", update.name.as_deref().unwrap_or_default())?;
    text("description", update.description.as_deref().unwrap_or_default())?;
    let mut after = group.clone();
    after.name = update.name.clone().unwrap_or(after.name);
    after.description = update.description.clone().unwrap_or(after.description);
    after.stateful = update.stateful.unwrap_or(after.stateful);
    if after.name != group.name && (group.name == DEFAULT_NAME || after.name == DEFAULT_NAME) {
        return Err(Error::conflict(
            "SecurityGroupCannotUpdateDefault",
            "Updating default security group not allowed.",
        ));
    }
    if after.stateful != group.stateful && in_use {
        return Err(Error::conflict("SecurityGroupInUse", format!("Security Group {} in use.", group.id)));
    }
    Ok(after)
}

/// The name of a new group may not be that of the project's first.
///
/// # Errors
/// `SecurityGroupDefaultAlreadyExists`.
pub fn expect_not_default(name: &str) -> Result<()> {
    if name == DEFAULT_NAME {
        return Err(Error::conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
    }
    Ok(())
}

/// What OVN is to hold.
pub fn spec(group: &SecurityGroup, addresses: &[AddressGroup]) -> SecurityGroupSpec {
    SecurityGroupSpec {
        id: group.id.clone(),
        stateful: group.stateful,
        rules: group.rules.iter().filter_map(|rule| rule_spec(rule, addresses)).collect(),
    }
}

/// A rule in the driver's terms. The API let only such in that have some.
fn rule_spec(rule: &Rule, addresses: &[AddressGroup]) -> Option<DriverRule> {
    let family = if rule.ethertype == "IPv6" { Family::V6 } else { Family::V4 };
    let port = |value: Option<i64>| value.and_then(|v| u16::try_from(v).ok());
    let byte = |value: Option<i64>| value.and_then(|v| u8::try_from(v).ok());
    let ports = port(rule.port_range_min).zip(port(rule.port_range_max));
    let protocol = match classify(rule.protocol.as_deref())? {
        ProtocolClass::Any => Protocol::Any,
        ProtocolClass::Tcp => Protocol::Tcp(ports),
        ProtocolClass::Udp => Protocol::Udp(ports),
        ProtocolClass::Sctp => Protocol::Sctp(ports),
        ProtocolClass::Icmp => Protocol::Icmp { kind: byte(rule.port_range_min), code: byte(rule.port_range_max) },
        ProtocolClass::Other(number) => Protocol::Number(number),
    };
    let remote = match (&rule.remote_group_id, &rule.remote_ip_prefix, &rule.remote_address_group_id) {
        (Some(group), ..) => Remote::Group(group.clone()),
        (None, Some(prefix), _) => Remote::Cidr(prefix.parse::<IpNet>().ok()?),
        (None, None, Some(id)) => {
            let group = addresses.iter().find(|group| group.standard.id == *id);
            Remote::Addresses(group.map(|group| group.addresses.clone()).unwrap_or_default())
        }
        (None, None, None) => Remote::Any,
    };
    let direction = if rule.direction == "egress" { Direction::Egress } else { Direction::Ingress };
    Some(DriverRule { id: rule.id.clone(), direction, family, protocol, remote })
}
