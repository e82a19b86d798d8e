//! Decisions about security group rules: Neutron's checks, in its order and words.

use ipnet::IpNet;
use model::{Error, Result, id::SecurityGroupId};
use store::network::security_groups::{NewRule, Rule};

use super::wire::Create;
use crate::collection::{invalid, text};

/// What a protocol's port range means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ProtocolClass {
    Any,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Other(u8),
}

/// Neutron's names of IP protocols and their numbers.
const PROTOCOLS: &[(&str, u8)] = &[
    ("hopopt", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6-encap", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("pgm", 113),
    ("sctp", 132),
    ("udplite", 136),
];

/// Names that only IPv6 has.
const ONLY_IPV6: &[&str] = &["ipv6-encap", "ipv6-frag", "ipv6-icmp", "icmpv6", "ipv6-nonxt", "ipv6-opts", "ipv6-route"];

/// What the protocol is; none for a name that means nothing.
pub fn classify(protocol: Option<&str>) -> Option<ProtocolClass> {
    let Some(name) = protocol.filter(|p| !p.is_empty() && *p != "any") else { return Some(ProtocolClass::Any) };
    let number = match name.parse::<u8>() {
        Ok(number) => number,
        Err(_) => PROTOCOLS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?.1,
    };
    Some(match number {
        1 | 58 => ProtocolClass::Icmp,
        6 => ProtocolClass::Tcp,
        17 => ProtocolClass::Udp,
        132 => ProtocolClass::Sctp,
        other => ProtocolClass::Other(other),
    })
}

/// The rule that a request asks for.
///
/// # Errors
/// Bad request that says what does not fit together.
pub fn new_rule(create: &Create) -> Result<NewRule> {
    text("description", create.description.as_deref().unwrap_or_default())?;
    let direction = match create.direction.as_deref() {
        Some(given @ ("ingress" | "egress")) => given,
        Some(other) => return Err(one_of("direction", other, "['ingress', 'egress']")),
        None => {
            return Err(Error::bad_request(
                "HTTPBadRequest",
                "Failed to parse request. Required attribute 'direction' not specified",
            ));
        }
    };
    let ethertype = match create.ethertype.as_deref().unwrap_or("IPv4") {
        given if given.eq_ignore_ascii_case("ipv4") => "IPv4",
        given if given.eq_ignore_ascii_case("ipv6") => "IPv6",
        other => {
            return Err(Error::bad_request(
                "SecurityGroupRuleInvalidEtherType",
                format!(
                    "Security group rule for ethertype '{other}' not supported. Allowed values are ['IPv4', 'IPv6']."
                ),
            ));
        }
    };
    let protocol = protocol(create.protocol.as_deref(), ethertype)?;
    ports(create, protocol.as_deref())?;
    let remote_ip_prefix = prefix(create.remote_ip_prefix.as_deref(), ethertype)?;
    let remote_group_id = create.remote_group_id.as_deref().filter(|id| !id.is_empty()).map(SecurityGroupId::new);
    let remote_address_group_id = create.remote_address_group_id.clone().filter(|id| !id.is_empty());
    let remotes = [remote_ip_prefix.is_some(), remote_group_id.is_some(), remote_address_group_id.is_some()];
    if remotes.iter().filter(|given| **given).count() > 1 {
        return Err(Error::bad_request(
            "SecurityGroupMultipleRemoteEntites",
            "Only remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
        ));
    }
    Ok(NewRule {
        description: create.description.clone().unwrap_or_default(),
        protocol,
        port_range_min: create.port_range_min,
        port_range_max: create.port_range_max,
        remote_ip_prefix,
        remote_group_id,
        remote_address_group_id,
        ..NewRule::new(direction, ethertype)
    })
}

fn one_of(attribute: &str, given: &str, known: &str) -> Error {
    Error::bad_request("HTTPBadRequest", format!("Invalid input for {attribute}. Reason: '{given}' is not in {known}."))
}

fn protocol(given: Option<&str>, ethertype: &str) -> Result<Option<String>> {
    let Some(name) = given.filter(|p| !p.is_empty()) else { return Ok(None) };
    let name = name.to_ascii_lowercase();
    if classify(Some(&name)).is_none() {
        let known: Vec<String> = PROTOCOLS.iter().map(|(name, _)| format!("'{name}'")).collect();
        return Err(Error::bad_request(
            "SecurityGroupRuleInvalidProtocol",
            format!(
                "Security group rule protocol {name} not supported. Only protocol values [None, {}] and integer \
                 representations [0 to 255] are supported.",
                known.join(", ")
            ),
        ));
    }
    if ethertype == "IPv4" && ONLY_IPV6.contains(&name.as_str()) {
        return Err(Error::bad_request(
            "SecurityGroupEthertypeConflictWithProtocol",
            format!("Invalid ethertype {ethertype} for protocol {name}."),
        ));
    }
    Ok((name != "any").then_some(name))
}

fn ports(create: &Create, protocol: Option<&str>) -> Result<()> {
    let (min, max) = (create.port_range_min, create.port_range_max);
    if min.is_none() && max.is_none() {
        return Ok(());
    }
    if let Some(port) = [min, max].into_iter().flatten().find(|port| !(0..=65535).contains(port)) {
        return Err(invalid_port(port));
    }
    match classify(protocol) {
        Some(ProtocolClass::Any) | None => Err(Error::bad_request(
            "SecurityGroupProtocolRequiredWithPorts",
            "Must also specify protocol if port range is given.",
        )),
        Some(ProtocolClass::Tcp | ProtocolClass::Udp | ProtocolClass::Sctp) => match (min, max) {
            (Some(0), _) | (_, Some(0)) => Err(invalid_port(0)),
            (Some(min), Some(max)) if min <= max => Ok(()),
            _ => Err(Error::bad_request(
                "SecurityGroupInvalidPortRange",
                "For TCP/UDP protocols, port_range_min must be <= port_range_max",
            )),
        },
        Some(ProtocolClass::Icmp) => icmp(min, max),
        Some(ProtocolClass::Other(_)) => {
            Err(invalid(format!("protocol {} has no ports", protocol.unwrap_or_default())))
        }
    }
}

fn invalid_port(port: i64) -> Error {
    Error::bad_request("SecurityGroupInvalidPortValue", format!("Invalid value for port {port}"))
}

/// Of ICMP the range's ends are type and code.
fn icmp(kind: Option<i64>, code: Option<i64>) -> Result<()> {
    for (field, attribute, value) in [("type", "port-range-min", kind), ("code", "port-range-max", code)] {
        if let Some(value) = value.filter(|v| !(0..=255).contains(v)) {
            return Err(Error::bad_request(
                "SecurityGroupInvalidIcmpValue",
                format!("Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to 255."),
            ));
        }
    }
    match (kind, code) {
        (None, Some(code)) => Err(Error::bad_request(
            "SecurityGroupMissingIcmpType",
            format!("ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."),
        )),
        _ => Ok(()),
    }
}

/// A CIDR of the right family. An address alone is its own range, as Neutron shows it.
fn prefix(given: Option<&str>, ethertype: &str) -> Result<Option<String>> {
    let Some(text) = given.filter(|p| !p.is_empty()) else { return Ok(None) };
    let range = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip)))
        .ok_or_else(|| {
            Error::bad_request(
                "HTTPBadRequest",
                format!("Invalid input for remote_ip_prefix. Reason: '{text}' is not a valid CIDR."),
            )
        })?;
    if range.addr().is_ipv4() != (ethertype == "IPv4") {
        return Err(Error::bad_request(
            "SecurityGroupRuleParameterConflict",
            format!("Conflicting value ethertype {ethertype} for CIDR {text}"),
        ));
    }
    Ok(Some(range.trunc().to_string()))
}

/// A rule that permits exactly the same must not be there.
///
/// # Errors
/// `SecurityGroupRuleExists`.
pub fn expect_new(new: &NewRule, existing: &[Rule]) -> Result<()> {
    let normal = |protocol: Option<&str>| classify(protocol);
    let anyone =
        |prefix: &Option<String>| prefix.as_deref().filter(|p| !["0.0.0.0/0", "::/0"].contains(p)).map(str::to_owned);
    let same = |rule: &&Rule| {
        rule.direction == new.direction
            && rule.ethertype == new.ethertype
            && normal(rule.protocol.as_deref()) == normal(new.protocol.as_deref())
            && (rule.port_range_min, rule.port_range_max) == (new.port_range_min, new.port_range_max)
            && anyone(&rule.remote_ip_prefix) == anyone(&new.remote_ip_prefix)
            && rule.remote_group_id == new.remote_group_id
            && rule.remote_address_group_id == new.remote_address_group_id
    };
    match existing.iter().find(same) {
        None => Ok(()),
        Some(rule) => Err(Error::conflict(
            "SecurityGroupRuleExists",
            format!("Security group rule already exists. Rule id is {}.", rule.id),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<NewRule, &'static str> {
        new_rule(&serde_json::from_str::<Create>(body).unwrap()).map_err(|e| e.code)
    }

    #[test]
    fn what_is_a_rule() {
        let table = [
            (r#"{"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}"#, None),
            (r#"{"direction": "ingress", "protocol": "icmp", "ethertype": "IPv6"}"#, None),
            (r#"{"direction": "egress", "protocol": "icmp", "port_range_min": 8, "port_range_max": 0}"#, None),
            (r#"{"direction": "ingress", "protocol": 6, "port_range_min": "80", "port_range_max": "81"}"#, None),
            (r#"{"direction": "ingress", "ethertype": "ipv4", "remote_ip_prefix": "10.0.0.7"}"#, None),
            (r#"{"direction": "sideways"}"#, Some("HTTPBadRequest")),
            (r#"{"direction": "ingress", "ethertype": "IPX"}"#, Some("SecurityGroupRuleInvalidEtherType")),
            (r#"{"direction": "ingress", "protocol": "bad"}"#, Some("SecurityGroupRuleInvalidProtocol")),
            (r#"{"direction": "ingress", "protocol": 256}"#, Some("SecurityGroupRuleInvalidProtocol")),
            (
                r#"{"direction": "ingress", "protocol": "ipv6-icmp"}"#,
                Some("SecurityGroupEthertypeConflictWithProtocol"),
            ),
            (
                r#"{"direction": "ingress", "port_range_min": 1, "port_range_max": 2}"#,
                Some("SecurityGroupProtocolRequiredWithPorts"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "tcp", "port_range_min": 9, "port_range_max": 2}"#,
                Some("SecurityGroupInvalidPortRange"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "tcp", "port_range_min": 9}"#,
                Some("SecurityGroupInvalidPortRange"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "tcp", "port_range_min": 0, "port_range_max": 2}"#,
                Some("SecurityGroupInvalidPortValue"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "tcp", "port_range_min": 1, "port_range_max": 65536}"#,
                Some("SecurityGroupInvalidPortValue"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "icmp", "port_range_max": 2}"#,
                Some("SecurityGroupMissingIcmpType"),
            ),
            (
                r#"{"direction": "ingress", "protocol": "icmp", "port_range_min": 256}"#,
                Some("SecurityGroupInvalidIcmpValue"),
            ),
            (r#"{"direction": "ingress", "remote_ip_prefix": "10.0.0.0/33"}"#, Some("HTTPBadRequest")),
            (
                r#"{"direction": "ingress", "remote_ip_prefix": "2001:db8::/64"}"#,
                Some("SecurityGroupRuleParameterConflict"),
            ),
            (
                r#"{"direction": "ingress", "remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "g"}"#,
                Some("SecurityGroupMultipleRemoteEntites"),
            ),
        ];
        for (body, error) in table {
            assert_eq!(check(body).err(), error, "{body}");
        }
        assert_eq!(
            check(r#"{"direction": "ingress", "remote_ip_prefix": "10.0.0.7/24"}"#)
                .unwrap()
                .remote_ip_prefix
                .as_deref(),
            Some("10.0.0.0/24")
        );
    }
}
