//! Networks, DHCP answers, names and the ports of guests: logical switches and what hangs on them.

use std::net::IpAddr;

use uuid::Uuid;

use super::{
    plan::{Parent, Plan, Wanted},
    qos,
    rows::{self, DHCP, DNS, GROUP, SWITCH, SWITCH_PORT},
    security,
};
use crate::network::{
    DhcpOption, DnsSpec, Family, METADATA_IP, NetworkError, NetworkSpec, OwnedKind, PortKind, PortSpec, Result,
    SubnetSpec,
    ovsdb::{Atom, Datum},
};

/// The row of something that must be there already.
pub(super) fn needed(plan: &Plan<'_>, table: &str, kind: OwnedKind, id: &str) -> Result<Uuid> {
    match rows::locate(plan.replica(), table, kind, id) {
        (uuid, true) => Ok(uuid),
        _ => Err(NetworkError::Missing { kind, id: id.to_owned() }),
    }
}

/// The place of a port in its network.
pub(super) fn place(plan: &Plan<'_>, network: &str) -> Result<Parent> {
    let uuid = needed(plan, SWITCH, OwnedKind::Network, network)?;
    Ok(Parent { table: SWITCH, column: "ports", uuid })
}

pub(super) fn ensure_network(plan: &mut Plan<'_>, spec: &NetworkSpec) {
    let id = spec.id.as_str();
    let (switch, _) = rows::locate(plan.replica(), SWITCH, OwnedKind::Network, id);
    let columns = vec![
        ("name", Datum::one(format!("nacre-{id}"))),
        ("external_ids", rows::marks(OwnedKind::Network, id, &[("nacre-mtu", &spec.mtu.to_string())])),
    ];
    plan.ensure(Wanted { table: SWITCH, uuid: switch, columns, parent: None });
    let localnet = rows::derived(&["localnet", id]);
    let Some(provider) = &spec.provider else {
        plan.remove_child(SWITCH, "ports", localnet);
        return;
    };
    let columns = vec![
        ("name", Datum::one(format!("provnet-{id}"))),
        ("type", Datum::one("localnet")),
        ("addresses", Datum::one("unknown")),
        ("tag", Datum::set(provider.vlan.map(i64::from))),
        ("options", Datum::map([("network_name", provider.physical_network.as_str())])),
        ("external_ids", rows::part_marks("localnet")),
    ];
    let parent = Some(Parent { table: SWITCH, column: "ports", uuid: switch });
    plan.ensure(Wanted { table: SWITCH_PORT, uuid: localnet, columns, parent });
}

pub(super) fn remove_network(plan: &mut Plan<'_>, id: &str) {
    remove_dns(plan, id);
    let (switch, _) = rows::locate(plan.replica(), SWITCH, OwnedKind::Network, id);
    plan.remove_root(SWITCH, switch);
}

pub(super) fn ensure_subnet_dhcp(plan: &mut Plan<'_>, spec: &SubnetSpec) {
    let (uuid, _) = rows::locate(plan.replica(), DHCP, OwnedKind::Subnet, spec.id.as_str());
    let marks = rows::marks(OwnedKind::Subnet, spec.id.as_str(), &[("nacre-network", spec.network_id.as_str())]);
    let columns = vec![
        ("cidr", Datum::one(spec.cidr.trunc().to_string())),
        ("options", Datum::map(dhcp_options(spec))),
        ("external_ids", marks),
    ];
    plan.ensure(Wanted { table: DHCP, uuid, columns, parent: None });
}

pub(super) fn remove_subnet_dhcp(plan: &mut Plan<'_>, id: &str) {
    let (uuid, _) = rows::locate(plan.replica(), DHCP, OwnedKind::Subnet, id);
    plan.remove_root(DHCP, uuid);
}

/// The answers, in OVN's syntax. IPv6 has few: the rest comes with router advertisements.
fn dhcp_options(spec: &SubnetSpec) -> Vec<(&'static str, String)> {
    let family = |ip: &&IpAddr| ip.is_ipv4() == spec.cidr.addr().is_ipv4();
    let servers: Vec<String> = spec.dns_servers.iter().filter(family).map(IpAddr::to_string).collect();
    let mac = spec.server_mac.to_string();
    let domain = spec.dns_domain.as_deref().and_then(quoted);
    let mut options = Vec::new();
    if !servers.is_empty() {
        options.push(("dns_server", format!("{{{}}}", servers.join(", "))));
    }
    if spec.cidr.addr().is_ipv6() {
        options.push(("server_id", mac));
        options.extend(domain.map(|domain| ("domain_search", domain)));
        options.extend(spec.stateless.then(|| ("dhcpv6_stateless", "true".to_owned())));
        return options;
    }
    let server = spec.gateway.or(spec.metadata_ip).unwrap_or_else(|| spec.cidr.network());
    options.push(("server_id", server.to_string()));
    options.push(("server_mac", mac));
    options.push(("lease_time", spec.lease.as_secs().to_string()));
    options.push(("mtu", spec.mtu.to_string()));
    options.extend(domain.map(|domain| ("domain_name", domain)));
    options.extend(spec.gateway.iter().map(|gateway| ("router", gateway.to_string())));
    // A client that takes classless routes ignores the router option (RFC 3442), so the default route is in both.
    let metadata = spec.metadata_ip.map(|via| format!("{METADATA_IP}/32,{via}"));
    let further = spec.host_routes.iter().map(|r| format!("{},{}", r.destination, r.next_hop));
    let default = spec.gateway.map(|gateway| format!("0.0.0.0/0,{gateway}"));
    let listed: Vec<String> = metadata.into_iter().chain(further).collect();
    if !listed.is_empty() {
        let all: Vec<String> = listed.into_iter().chain(default).collect();
        options.push(("classless_static_route", format!("{{{}}}", all.join(", "))));
    }
    options
}

/// A name as a string constant of OVN's expression language. A name that could end the string and say more, which no
/// host name does, is left out.
fn quoted(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!name.is_empty() && name.chars().all(plain)).then(|| format!("\"{name}\""))
}

pub(super) fn ensure_port(plan: &mut Plan<'_>, spec: &PortSpec) -> Result<()> {
    let id = spec.id.as_str();
    let parent = place(plan, spec.network_id.as_str())?;
    let (uuid, _) = rows::locate(plan.replica(), SWITCH_PORT, OwnedKind::Port, id);
    let (v4, v6) = dhcp_rows(plan, spec)?;
    let (v4, v6) = (own_dhcp(plan, spec, Family::V4, v4), own_dhcp(plan, spec, Family::V6, v6));
    let mut groups = std::collections::BTreeSet::new();
    if spec.kind == PortKind::Server && spec.port_security {
        security::ensure_drop_group(plan);
        groups.insert(security::drop_group());
        for group in &spec.security_groups {
            groups.insert(needed(plan, GROUP, OwnedKind::SecurityGroup, group.as_str())?);
        }
    }
    let (addresses, allowed) = addresses(spec);
    let options = [
        ("hostname", spec.hostname.as_deref().and_then(quoted)),
        ("requested-chassis", spec.chassis.clone()),
        ("qos_min_rate", qos::minimum(spec).map(|rate| rate.to_string())),
    ];
    let kind = match spec.kind {
        PortKind::Server => "",
        PortKind::Metadata => "localport",
    };
    let columns = vec![
        ("name", Datum::one(id)),
        ("type", Datum::one(kind)),
        ("addresses", Datum::set(addresses)),
        ("port_security", Datum::set(allowed)),
        ("enabled", Datum::one(spec.admin_up)),
        ("parent_name", Datum::set(spec.carrier.as_ref().map(|(parent, _)| parent.as_str()))),
        ("tag", Datum::set(spec.carrier.as_ref().map(|(_, tag)| i64::from(*tag)))),
        ("dhcpv4_options", Datum::set(v4)),
        ("dhcpv6_options", Datum::set(v6)),
        ("options", Datum::map(options.into_iter().filter_map(|(key, value)| Some((key, value?))))),
        ("external_ids", rows::marks(OwnedKind::Port, id, &[("nacre-network", spec.network_id.as_str())])),
    ];
    plan.ensure(Wanted { table: SWITCH_PORT, uuid, columns, parent: Some(parent) });
    ensure_names(plan, spec, parent.uuid);
    qos::ensure(plan, spec, parent.uuid);
    plan.ensure_memberships(GROUP, "ports", uuid, &groups);
    Ok(())
}

/// The port's names, in a row of its own: a network with many guests costs no more than one with few.
fn ensure_names(plan: &mut Plan<'_>, spec: &PortSpec, switch: Uuid) {
    let uuid = names_row(spec.id.as_str());
    if spec.names.is_empty() || spec.ips.is_empty() {
        plan.remove_root(DNS, uuid);
        return;
    }
    let addresses = spec.ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let marks = Datum::map([(rows::KIND_KEY, "port-names"), ("nacre-port", spec.id.as_str())]);
    let records = spec.names.iter().map(|name| (name.to_lowercase(), addresses.clone()));
    let columns = vec![("records", Datum::map(records)), ("external_ids", marks)];
    let parent = Some(Parent { table: SWITCH, column: "dns_records", uuid: switch });
    plan.ensure(Wanted { table: DNS, uuid, columns, parent });
}

fn names_row(port: &str) -> Uuid {
    rows::derived(&["port-names", port])
}

/// The port's own DHCP answers: those of its subnet and what it is told besides. Without the latter, the subnet's row.
fn own_dhcp(plan: &mut Plan<'_>, spec: &PortSpec, family: Family, subnet: Option<Uuid>) -> Option<Uuid> {
    let own = own_dhcp_row(spec.id.as_str(), family);
    let extra: Vec<&DhcpOption> = spec.dhcp_options.iter().filter(|option| option.family == family).collect();
    let Some(base) = subnet.filter(|_| !extra.is_empty()).and_then(|uuid| plan.row(DHCP, uuid).cloned()) else {
        plan.remove_root(DHCP, own);
        return subnet;
    };
    let mut options: std::collections::BTreeMap<String, String> =
        base.get("options").pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for option in extra {
        options.insert(option.name.to_owned(), option.value.clone());
    }
    let cidr = base.get("cidr").as_text().unwrap_or_default().to_owned();
    let marks = Datum::map([(rows::KIND_KEY, "port-dhcp"), ("nacre-port", spec.id.as_str())]);
    let columns = vec![("cidr", Datum::one(cidr)), ("options", Datum::map(options)), ("external_ids", marks)];
    plan.ensure(Wanted { table: DHCP, uuid: own, columns, parent: None });
    Some(own)
}

fn own_dhcp_row(port: &str, family: Family) -> Uuid {
    rows::derived(&["port-dhcp", port, if family == Family::V4 { "4" } else { "6" }])
}

pub(super) fn remove_port(plan: &mut Plan<'_>, id: &str) {
    let (uuid, there) = rows::locate(plan.replica(), SWITCH_PORT, OwnedKind::Port, id);
    for family in [Family::V4, Family::V6] {
        plan.remove_root(DHCP, own_dhcp_row(id, family));
    }
    plan.remove_root(DNS, names_row(id));
    qos::remove(plan, id);
    if there {
        plan.remove_child(SWITCH, "ports", uuid);
    }
}

/// The first DHCP row of each family among the port's subnets.
fn dhcp_rows(plan: &Plan<'_>, spec: &PortSpec) -> Result<(Option<Uuid>, Option<Uuid>)> {
    let (mut v4, mut v6) = (None, None);
    for subnet in &spec.dhcp {
        let uuid = needed(plan, DHCP, OwnedKind::Subnet, subnet.as_str())?;
        let cidr = plan.row(DHCP, uuid).and_then(|row| row.get("cidr").as_text()).unwrap_or_default();
        let family = if cidr.contains(':') { &mut v6 } else { &mut v4 };
        family.get_or_insert(uuid);
    }
    Ok((v4, v6))
}

/// Where the switch delivers to the port, and what it may send as source. Without port security: to it also what is
/// for addresses that nobody has, and from it everything.
fn addresses(spec: &PortSpec) -> (Vec<Atom>, Vec<Atom>) {
    let mut own = spec.mac.to_string();
    let mut add = |text: String| {
        own.push(' ');
        own.push_str(&text);
    };
    spec.ips.iter().for_each(|ip| add(ip.to_string()));
    if !spec.port_security || spec.kind == PortKind::Metadata {
        let unknown = (spec.kind == PortKind::Server).then(|| Atom::from("unknown"));
        return (std::iter::once(own.into()).chain(unknown).collect(), Vec::new());
    }
    spec.allowed_pairs.iter().filter(|pair| pair.mac == spec.mac).for_each(|pair| add(pair.addresses.to_string()));
    let others = || spec.allowed_pairs.iter().filter(|pair| pair.mac != spec.mac);
    let allowed = others().map(|pair| format!("{} {}", pair.mac, pair.addresses).into());
    let allowed = std::iter::once(own.as_str().into()).chain(allowed).collect();
    let delivered = others().map(|pair| pair.mac.to_string().into());
    (std::iter::once(Atom::from(plain(spec))).chain(delivered).collect(), allowed)
}

/// The port's own addresses, with those allowed pairs of its own MAC that are single addresses: the switch answers ARP
/// for them.
fn plain(spec: &PortSpec) -> String {
    let own = spec
        .allowed_pairs
        .iter()
        .filter(|p| p.mac == spec.mac && p.addresses.prefix_len() == p.addresses.max_prefix_len());
    let ips = spec.ips.iter().copied().chain(own.map(|pair| pair.addresses.addr()));
    ips.fold(spec.mac.to_string(), |text, ip| format!("{text} {ip}"))
}

pub(super) fn ensure_dns(plan: &mut Plan<'_>, spec: &DnsSpec) -> Result<()> {
    let network = spec.network_id.as_str();
    let switch = needed(plan, SWITCH, OwnedKind::Network, network)?;
    let text = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let records = spec.records.iter().map(|(name, ips)| (name.to_lowercase(), text(ips)));
    let columns = vec![("records", Datum::map(records)), ("external_ids", rows::marks(OwnedKind::Dns, network, &[]))];
    let parent = Some(Parent { table: SWITCH, column: "dns_records", uuid: switch });
    plan.ensure(Wanted { table: DNS, uuid: dns_row(network), columns, parent });
    Ok(())
}

pub(super) fn remove_dns(plan: &mut Plan<'_>, network: &str) {
    plan.remove_root(DNS, dns_row(network));
}

pub(super) fn dns_row(network: &str) -> Uuid {
    rows::derived(&["dns", network])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::network::{AddressPair, Route};

    #[test]
    fn dhcp_answers() {
        let mut spec = SubnetSpec {
            id: "s".into(),
            network_id: "n".into(),
            cidr: "10.0.0.0/24".parse().unwrap(),
            gateway: "10.0.0.1".parse().ok(),
            metadata_ip: "10.0.0.2".parse().ok(),
            server_mac: "fa:16:3e:00:00:01".parse().unwrap(),
            dns_servers: vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()],
            dns_domain: Some("example.org".into()),
            host_routes: vec![Route {
                destination: "10.9.0.0/16".parse().unwrap(),
                next_hop: "10.0.0.9".parse().unwrap(),
            }],
            mtu: 1442,
            lease: Duration::from_secs(86400),
            stateless: false,
        };
        let options = |spec: &SubnetSpec| dhcp_options(spec).into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let v4 = options(&spec);
        assert_eq!(v4["dns_server"], "{9.9.9.9}");
        assert_eq!(v4["domain_name"], "\"example.org\"");
        assert_eq!(
            v4["classless_static_route"],
            "{169.254.169.254/32,10.0.0.2, 10.9.0.0/16,10.0.0.9, 0.0.0.0/0,10.0.0.1}"
        );
        (spec.gateway, spec.metadata_ip, spec.host_routes) = (None, None, Vec::new());
        assert!(!options(&spec).contains_key("router") && !options(&spec).contains_key("classless_static_route"));
        spec.cidr = "fd00::/64".parse().unwrap();
        assert_eq!(options(&spec).keys().copied().collect::<Vec<_>>(), ["dns_server", "domain_search", "server_id"]);
        spec.stateless = true;
        assert_eq!(options(&spec)["dhcpv6_stateless"], "true");
    }

    #[test]
    fn names_cannot_say_more_than_a_name() {
        assert_eq!(quoted("web-1.example.org").as_deref(), Some("\"web-1.example.org\""));
        for bad in ["", "a\"); drop; (\"", "a b", "ä", "a\\"] {
            assert_eq!(quoted(bad), None, "{bad}");
        }
    }

    #[test]
    fn port_addresses() {
        let mac = |n: u8| model::addr::Mac([2, 0, 0, 0, 0, n]);
        let pair = |n: u8, net: &str| AddressPair { mac: mac(n), addresses: net.parse().unwrap() };
        let mut spec = PortSpec {
            ips: vec!["10.0.0.5".parse().unwrap()],
            allowed_pairs: vec![pair(1, "10.0.0.6/32"), pair(1, "10.1.0.0/16"), pair(2, "10.0.0.7/32")],
            ..PortSpec::new(&"p".into(), &"n".into(), mac(1))
        };
        let texts = |atoms: Vec<Atom>| atoms.iter().map(|a| a.as_text().unwrap().to_owned()).collect::<Vec<_>>();
        let of = |spec: &PortSpec| {
            let (to, from) = addresses(spec);
            (texts(to), texts(from))
        };
        let (to, from) = of(&spec);
        assert_eq!(to, ["02:00:00:00:00:01 10.0.0.5 10.0.0.6", "02:00:00:00:00:02"]);
        assert_eq!(from, ["02:00:00:00:00:01 10.0.0.5 10.0.0.6/32 10.1.0.0/16", "02:00:00:00:00:02 10.0.0.7/32"]);
        spec.port_security = false;
        assert_eq!(of(&spec), (vec!["02:00:00:00:00:01 10.0.0.5".into(), "unknown".into()], vec![]));
        spec.kind = PortKind::Metadata;
        assert_eq!(of(&spec), (vec!["02:00:00:00:00:01 10.0.0.5".into()], vec![]));
    }
}
