//! Decisions about ports.

use std::net::IpAddr;

use drivers::network::{
    AddressPair as DriverPair, DhcpOption as DriverOption, Direction, Family, PortKind, PortSpec, QosRule,
};
use ipnet::IpNet;
use model::{
    Error, Result,
    addr::Mac,
    id::{ProjectId, SecurityGroupId, SubnetId},
};
use serde_json::Value;
use store::network::{
    OWNER_METADATA, RequestedIp,
    networks::Network,
    ports::{AddressPair, DhcpOption, NewPort, Port},
    qos,
    subnets::Subnet,
};
use web::Target;

use super::wire::{self, Create, DNS_DOMAIN, FixedIp, Pair, Update};
use crate::{
    collection::{invalid, text},
    networks::logic::is_label,
};

/// Neutron's `max_allowed_address_pair`.
const ADDRESS_PAIRS_MAX: usize = 10;
/// An option in itself: no answers at all.
const DHCP_DISABLED: &str = "dhcp_disabled";
/// Options of one port: more do not fit into an answer.
const DHCP_OPTIONS_MAX: usize = 20;
/// The kinds of ports that this cloud's hosts can plug in.
const VNIC_TYPES: &[&str] = &["normal"];
/// `device_owner` of ports that belong to the network service itself begins so.
const NETWORK_OWNER_PREFIX: &str = "network:";

/// What policy rules refer to. `device_owner` is that of the request where it has one.
pub fn target(project: &ProjectId, network: &Network, device_owner: &str) -> Target {
    Target::project(project)
        .with("shared", flag(network.shared))
        .with("network:project_id", network.project_id.as_str())
        .with("network:tenant_id", network.project_id.as_str())
        .with("device_owner", device_owner)
}

fn flag(flag: bool) -> &'static str {
    if flag { "True" } else { "False" }
}

/// The port that a request asks for.
///
/// # Errors
/// Bad request that says which attribute can't be.
pub fn new_port(create: &Create, network: &Network, project: &ProjectId) -> Result<NewPort> {
    texts(create.name.as_deref(), create.description.as_deref())?;
    let mac = create.mac_address.as_deref().filter(|m| !m.is_empty()).map(mac).transpose()?;
    let base = NewPort::new(project, &network.id);
    let pairs = pairs(create.allowed_address_pairs.as_deref().unwrap_or_default(), mac)?;
    let port_security = create.port_security_enabled.unwrap_or(network.port_security_enabled);
    expect_pairs_secured(&pairs, port_security)?;
    Ok(NewPort {
        name: create.name.clone().unwrap_or_default(),
        description: create.description.clone().unwrap_or_default(),
        admin_state_up: create.admin_state_up.unwrap_or(true),
        mac,
        fixed_ips: create.fixed_ips.as_deref().map(requested).transpose()?,
        security_groups: create.security_groups.as_ref().map(|ids| groups(ids)),
        port_security: create.port_security_enabled,
        allowed_address_pairs: pairs,
        device_id: create.device_id.clone().unwrap_or_default(),
        device_owner: create.device_owner.clone().unwrap_or_default(),
        host: create.host.clone().unwrap_or_default(),
        vnic_type: vnic_type(create.vnic_type.as_deref())?,
        binding_profile: create.profile.clone().map_or(base.binding_profile.clone(), Value::Object),
        dns_name: create.dns_name.as_deref().map(dns_name).transpose()?.unwrap_or_default(),
        qos_policy_id: create.qos_policy_id.clone(),
        extra_dhcp_opts: dhcp_options(&[], create.extra_dhcp_opts.as_deref().unwrap_or_default())?,
        ..base
    })
}

fn texts(name: Option<&str>, description: Option<&str>) -> Result<()> {
    text("name", name.unwrap_or_default())?;
    text("description", description.unwrap_or_default())
}

fn mac(text: &str) -> Result<Mac> {
    text.parse().map_err(|()| {
        Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for mac_address. Reason: '{text}' is not a valid MAC address."),
        )
    })
}

fn groups(ids: &[String]) -> Vec<SecurityGroupId> {
    ids.iter().map(|id| SecurityGroupId::new(id.as_str())).collect()
}

fn vnic_type(given: Option<&str>) -> Result<String> {
    let given = given.unwrap_or("normal");
    if VNIC_TYPES.contains(&given) {
        return Ok(given.to_owned());
    }
    Err(invalid(format!("binding:vnic_type '{given}' is not supported; these are: {}", VNIC_TYPES.join(", "))))
}

/// Addresses as asked for.
///
/// # Errors
/// Bad request for text that is no address.
pub fn requested(given: &[FixedIp]) -> Result<Vec<RequestedIp>> {
    let one = |fixed: &FixedIp| {
        let ip = fixed.ip_address.as_deref().map(|ip| {
            ip.parse::<IpAddr>().map_err(|_| {
                Error::bad_request(
                    "HTTPBadRequest",
                    format!("Invalid input for fixed_ips. Reason: '{ip}' is not a valid IP address."),
                )
            })
        });
        Ok(RequestedIp { subnet_id: fixed.subnet_id.as_deref().map(SubnetId::new), ip: ip.transpose()? })
    };
    given.iter().map(one).collect()
}

/// What a guest is told by DHCP after a change: options of the same name are replaced, those without value go.
fn dhcp_options(now: &[DhcpOption], given: &[wire::DhcpOption]) -> Result<Vec<DhcpOption>> {
    let mut options = now.to_vec();
    for option in given {
        let version = option.ip_version.unwrap_or(4);
        options.retain(|known| known.opt_name != option.opt_name || known.ip_version != version);
        let Some(value) = &option.opt_value else { continue };
        let made = DhcpOption { opt_name: option.opt_name.clone(), opt_value: value.clone(), ip_version: version };
        if ![4, 6].contains(&version) || !is_option(&made) {
            return Err(invalid(format!(
                "extra_dhcp_opts: '{}' = '{value}' is no option of DHCPv{version} that this cloud's guests can be told",
                option.opt_name
            )));
        }
        options.push(made);
    }
    if options.len() > DHCP_OPTIONS_MAX {
        return Err(invalid(format!("a port has at most {DHCP_OPTIONS_MAX} extra_dhcp_opts")));
    }
    Ok(options)
}

/// Whether the network engine has such an option. An address of the other IP version, which clients do send, is kept
/// and told to nobody.
fn is_option(option: &DhcpOption) -> bool {
    option.opt_name == DHCP_DISABLED
        || driver_option(option).is_some()
        || (option.opt_value.parse::<IpAddr>().is_ok() && DriverOption::is_known(family(option), &option.opt_name))
}

fn family(option: &DhcpOption) -> Family {
    if option.ip_version == 6 { Family::V6 } else { Family::V4 }
}

fn driver_option(option: &DhcpOption) -> Option<DriverOption> {
    DriverOption::parse(family(option), &option.opt_name, &option.opt_value)
}

/// Whether the port's guest is to get no answers for that family.
fn is_silenced(port: &Port, wanted: Family) -> bool {
    let off = |option: &&DhcpOption| option.opt_name == DHCP_DISABLED && family(option) == wanted;
    port.extra_dhcp_opts.iter().find(off).is_some_and(|option| option.opt_value.eq_ignore_ascii_case("true"))
}

/// A name that a guest can be looked up by: one label.
fn dns_name(given: &str) -> Result<String> {
    if given.is_empty() || is_label(given) {
        return Ok(given.to_lowercase());
    }
    Err(Error::bad_request(
        "HTTPBadRequest",
        format!("Invalid input for dns_name. Reason: '{given}' is not a valid host name."),
    ))
}

/// The names under which guests of its network find the port: alone and with the domain.
fn names(port: &Port, network: &Network) -> Vec<String> {
    if !is_label(&port.dns_name) {
        return Vec::new();
    }
    let domain = match network.dns_domain.trim_end_matches('.') {
        "" => DNS_DOMAIN,
        domain => domain,
    };
    vec![port.dns_name.clone(), format!("{}.{domain}", port.dns_name)]
}

/// Allowed pairs; one without MAC has the port's own, or none yet where that is still to be made.
fn pairs(given: &[Pair], own: Option<Mac>) -> Result<Vec<AddressPair>> {
    if given.len() > ADDRESS_PAIRS_MAX {
        return Err(Error::bad_request(
            "AllowedAddressPairExhausted",
            format!("The number of allowed address pair exceeds the maximum {ADDRESS_PAIRS_MAX}."),
        ));
    }
    let mut pairs: Vec<AddressPair> = Vec::with_capacity(given.len());
    for pair in given {
        if range(&pair.ip_address).is_none() {
            return Err(invalid(format!("'{}' is not a valid IP address or CIDR", pair.ip_address)));
        }
        let mac = pair.mac_address.as_deref().map(mac).transpose()?.or(own);
        let mac_address = mac.map_or_else(String::new, |m| m.to_string());
        let pair = AddressPair { mac_address, ip_address: pair.ip_address.clone() };
        if pairs.contains(&pair) {
            return Err(Error::bad_request(
                "DuplicateAddressPairInRequest",
                format!(
                    "Request contains duplicate address pair: mac_address {} ip_address {}.",
                    pair.mac_address, pair.ip_address
                ),
            ));
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

fn expect_pairs_secured(pairs: &[AddressPair], port_security: bool) -> Result<()> {
    if pairs.is_empty() || port_security {
        return Ok(());
    }
    Err(Error::conflict(
        "AddressPairAndPortSecurityRequired",
        "Port Security must be enabled in order to have allowed address pairs on a port.",
    ))
}

fn range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The port as it is after the update, addresses apart.
///
/// # Errors
/// Bad request or conflict that says which attribute can't be.
pub fn updated(port: &Port, update: &Update) -> Result<Port> {
    texts(update.name.as_deref(), update.description.as_deref())?;
    let mut after = port.clone();
    after.name = update.name.clone().unwrap_or(after.name);
    after.description = update.description.clone().unwrap_or(after.description);
    after.admin_state_up = update.admin_state_up.unwrap_or(after.admin_state_up);
    if let Some(given) = &update.mac_address {
        after.mac = mac(given)?;
        if after.mac != port.mac && !port.host.is_empty() {
            return Err(Error::conflict(
                "PortBound",
                format!(
                    "Unable to complete operation on port {}, port is already bound, port type: ovs, old_mac {}, new_mac {}.",
                    port.id, port.mac, after.mac
                ),
            ));
        }
    }
    after.device_id = update.device_id.clone().unwrap_or(after.device_id);
    after.device_owner = update.device_owner.clone().unwrap_or(after.device_owner);
    if let Some(host) = &update.host {
        after.host = host.clone().unwrap_or_default();
    }
    if update.vnic_type.is_some() {
        after.vnic_type = vnic_type(update.vnic_type.as_deref())?;
    }
    if let Some(profile) = &update.profile {
        after.binding_profile = Value::Object(profile.clone().unwrap_or_default());
    }
    if let Some(policy) = &update.qos_policy_id {
        after.qos_policy_id.clone_from(policy);
    }
    if let Some(name) = &update.dns_name {
        after.dns_name = dns_name(name)?;
    }
    after.extra_dhcp_opts = dhcp_options(&port.extra_dhcp_opts, update.extra_dhcp_opts.as_deref().unwrap_or_default())?;
    if let Some(given) = &update.allowed_address_pairs {
        after.allowed_address_pairs = pairs(given.as_deref().unwrap_or_default(), Some(after.mac))?;
    }
    security(&mut after, update)?;
    Ok(after)
}

/// Security groups and port security belong together.
fn security(after: &mut Port, update: &Update) -> Result<()> {
    after.port_security_enabled = update.port_security_enabled.unwrap_or(after.port_security_enabled);
    if let Some(given) = &update.security_groups {
        after.security_groups = groups(given.as_deref().unwrap_or_default());
    }
    expect_pairs_secured(&after.allowed_address_pairs, after.port_security_enabled)?;
    if after.port_security_enabled || after.security_groups.is_empty() {
        return Ok(());
    }
    if update.security_groups.is_some() {
        return Err(store::network::ports::security_group_needs_port_security());
    }
    Err(Error::conflict(
        "PortSecurityPortHasSecurityGroup",
        "Port has security group associated. Cannot disable port security or ip address until security group is \
         removed.",
    ))
}

/// Ports of routers, floating IPs and the metadata service go with what they belong to.
///
/// # Errors
/// `ServicePortInUse`.
pub fn expect_deletable(port: &Port) -> Result<()> {
    if !port.device_owner.starts_with(NETWORK_OWNER_PREFIX) || port.device_owner == "network:dhcp" {
        return Ok(());
    }
    Err(Error::conflict(
        "ServicePortInUse",
        format!(
            "Port {} cannot be deleted directly via the port API: has device owner {}.",
            port.id, port.device_owner
        ),
    ))
}

/// What OVN is to hold. `subnets` are those of the port's addresses.
pub fn spec(port: &Port, network: &Network, subnets: &[Subnet]) -> PortSpec {
    let pair = |pair: &AddressPair| {
        let mac = pair.mac_address.parse().unwrap_or(port.mac);
        Some(DriverPair { mac, addresses: range(&pair.ip_address)? })
    };
    let kind = if port.device_owner == OWNER_METADATA { PortKind::Metadata } else { PortKind::Server };
    PortSpec {
        id: port.id.clone(),
        network_id: port.network_id.clone(),
        kind,
        mac: port.mac,
        ips: port.fixed_ips.iter().map(|ip| ip.ip).collect(),
        admin_up: port.admin_state_up && network.admin_state_up,
        port_security: port.port_security_enabled && kind == PortKind::Server,
        allowed_pairs: port.allowed_address_pairs.iter().filter_map(pair).collect(),
        security_groups: if port.port_security_enabled { port.security_groups.clone() } else { Vec::new() },
        dhcp: match kind {
            PortKind::Metadata => Vec::new(),
            PortKind::Server => {
                let family = |subnet: &Subnet| if subnet.cidr.addr().is_ipv4() { Family::V4 } else { Family::V6 };
                let asked = subnets.iter().filter(|s| s.answers_dhcp() && !is_silenced(port, family(s)));
                asked.map(|s| s.id.clone()).collect()
            }
        },
        names: names(port, network),
        dhcp_options: port.extra_dhcp_opts.iter().filter_map(driver_option).collect(),
        carrier: None,
        qos: Vec::new(),
        hostname: Some(port.dns_name.clone()).filter(|name| is_label(name)),
        chassis: None,
    }
}

/// A policy's rule in the driver's terms.
pub fn qos_rule(rule: &qos::Rule) -> Option<QosRule> {
    let kbps = u32::try_from(rule.kbps).ok()?;
    match rule.kind.as_str() {
        qos::BANDWIDTH_LIMIT => Some(QosRule::Limit {
            direction: if rule.direction == "ingress" { Direction::Ingress } else { Direction::Egress },
            kbps,
            burst_kb: u32::try_from(rule.burst_kb).ok().filter(|burst| *burst > 0),
        }),
        qos::DSCP_MARKING => u8::try_from(rule.dscp_mark).ok().map(QosRule::Mark),
        _ => Some(QosRule::Minimum { kbps }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_pairs() {
        let pair = |mac: Option<&str>, ip: &str| Pair { mac_address: mac.map(Into::into), ip_address: ip.into() };
        let own: Mac = "fa:16:3e:00:00:01".parse().unwrap();
        let made = pairs(&[pair(None, "10.0.0.9"), pair(Some("fa:16:3e:00:00:02"), "10.0.1.0/24")], Some(own)).unwrap();
        assert_eq!(made[0].mac_address, "fa:16:3e:00:00:01");
        for (given, code) in [
            (
                vec![pair(None, "10.0.0.9"), pair(Some("fa:16:3e:00:00:01"), "10.0.0.9")],
                "DuplicateAddressPairInRequest",
            ),
            (vec![pair(None, "nonsense")], "InvalidInput"),
            ((0..11).map(|n| pair(None, &format!("10.0.0.{n}"))).collect(), "AllowedAddressPairExhausted"),
        ] {
            assert_eq!(pairs(&given, Some(own)).unwrap_err().code, code);
        }
    }
}
