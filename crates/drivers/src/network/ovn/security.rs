//! Security groups as OVN access-control lists.
//!
//! A group is a port group; a rule is an ACL on it that permits. Every port that groups apply to is also in the drop
//! group, whose ACLs, one step below in priority, refuse all other IP traffic both ways. DHCP requests always pass:
//! without them a guest whose rules don't permit them could never get its address.

use uuid::Uuid;

use super::{
    plan::{Parent, Plan, Wanted},
    rows::{self, ACL, GROUP},
};
use crate::network::{
    Direction, Family, OwnedKind, Protocol, Remote, SecurityGroupRule, SecurityGroupSpec, ovsdb::Datum,
};

const ALLOW_PRIORITY: i64 = 1002;
const DROP_PRIORITY: i64 = 1001;
const DROP_GROUP: &str = "nacre_pg_drop";

/// The row of the drop group.
pub(super) fn drop_group() -> Uuid {
    rows::derived(&[DROP_GROUP])
}

/// Makes the drop group be there.
pub(super) fn ensure_drop_group(plan: &mut Plan<'_>) {
    let group = drop_group();
    let columns = vec![("name", Datum::one(DROP_GROUP)), ("external_ids", rows::part_marks("drop-group"))];
    plan.ensure(Wanted { table: GROUP, uuid: group, columns, parent: None });
    let marks = || rows::part_marks("drop-rule");
    for (direction, way) in [(Direction::Egress, "inport"), (Direction::Ingress, "outport")] {
        let matches = format!("{way} == @{DROP_GROUP} && ip");
        plan.ensure(acl(group, rows::derived(&[DROP_GROUP, way]), direction, DROP_PRIORITY, &matches, "drop", marks()));
    }
    for (name, ports) in
        [("dhcp", "ip4 && udp.src == 68 && udp.dst == 67"), ("dhcpv6", "ip6 && udp.src == 546 && udp.dst == 547")]
    {
        let matches = format!("inport == @{DROP_GROUP} && {ports}");
        let uuid = rows::derived(&[DROP_GROUP, name]);
        plan.ensure(acl(group, uuid, Direction::Egress, ALLOW_PRIORITY, &matches, "allow", marks()));
    }
}

/// Makes a group be there with exactly its rules.
pub(super) fn ensure_group(plan: &mut Plan<'_>, spec: &SecurityGroupSpec) {
    let id = spec.id.as_str();
    let (group, _) = rows::locate(plan.replica(), GROUP, OwnedKind::SecurityGroup, id);
    let name = rows::group_name(id);
    let columns =
        vec![("name", Datum::one(name.as_str())), ("external_ids", rows::marks(OwnedKind::SecurityGroup, id, &[]))];
    plan.ensure(Wanted { table: GROUP, uuid: group, columns, parent: None });
    let action = if spec.stateful { "allow-related" } else { "allow-stateless" };
    let mut kept = std::collections::BTreeSet::new();
    for rule in &spec.rules {
        let marks = Datum::map([(rows::KIND_KEY, "security-group-rule"), (rows::ID_KEY, rule.id.as_str())]);
        let uuid = rows::uuid_of(rule.id.as_str());
        kept.insert(uuid);
        plan.ensure(acl(group, uuid, rule.direction, ALLOW_PRIORITY, &match_of(&name, rule), action, marks));
    }
    plan.keep_children(Parent { table: GROUP, column: "acls", uuid: group }, |acl| kept.contains(&acl));
}

fn acl(
    group: Uuid,
    uuid: Uuid,
    direction: Direction,
    priority: i64,
    matches: &str,
    action: &str,
    marks: Datum,
) -> Wanted {
    let direction = match direction {
        Direction::Ingress => "to-lport",
        Direction::Egress => "from-lport",
    };
    let columns = vec![
        ("direction", Datum::one(direction)),
        ("priority", Datum::one(priority)),
        ("match", Datum::one(matches)),
        ("action", Datum::one(action)),
        ("external_ids", marks),
    ];
    Wanted { table: ACL, uuid, columns, parent: Some(Parent { table: GROUP, column: "acls", uuid: group }) }
}

/// The ACL match of a rule.
fn match_of(group: &str, rule: &SecurityGroupRule) -> String {
    let (port, other) = match rule.direction {
        Direction::Ingress => ("outport", "src"),
        Direction::Egress => ("inport", "dst"),
    };
    let (ip, icmp) = match rule.family {
        Family::V4 => ("ip4", "icmp4"),
        Family::V6 => ("ip6", "icmp6"),
    };
    let mut terms = vec![format!("{port} == @{group}"), ip.to_owned()];
    match &rule.remote {
        Remote::Any => {}
        Remote::Cidr(net) if net.prefix_len() == 0 => {}
        Remote::Cidr(net) => terms.push(format!("{ip}.{other} == {}", net.trunc())),
        Remote::Addresses(all) => {
            let own = all.iter().filter(|net| net.addr().is_ipv4() == (rule.family == Family::V4));
            let own: Vec<String> = own.map(|net| net.trunc().to_string()).collect();
            // A set must not be empty: what matches nothing is said in another way.
            let set = if own.is_empty() { "0".to_owned() } else { format!("{ip}.{other} == {{{}}}", own.join(", ")) };
            terms.push(set);
        }
        Remote::Group(id) => terms.push(format!("{ip}.{other} == ${}_{ip}", rows::group_name(id.as_str()))),
    }
    match rule.protocol {
        Protocol::Any => {}
        Protocol::Tcp(ports) => terms.extend(port_terms("tcp", ports)),
        Protocol::Udp(ports) => terms.extend(port_terms("udp", ports)),
        Protocol::Sctp(ports) => terms.extend(port_terms("sctp", ports)),
        Protocol::Icmp { kind, code } => {
            terms.push(icmp.to_owned());
            terms.extend(kind.map(|kind| format!("{icmp}.type == {kind}")));
            terms.extend(code.map(|code| format!("{icmp}.code == {code}")));
        }
        Protocol::Number(number) => terms.push(format!("ip.proto == {number}")),
    }
    terms.join(" && ")
}

fn port_terms(protocol: &str, ports: Option<(u16, u16)>) -> Vec<String> {
    let range = match ports {
        None | Some((0 | 1, u16::MAX)) => None,
        Some((first, last)) if first == last => Some(format!("{protocol}.dst == {first}")),
        Some((first, last)) => Some(format!("{protocol}.dst >= {first} && {protocol}.dst <= {last}")),
    };
    std::iter::once(protocol.to_owned()).chain(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_say_what_rules_say() {
        let rule = |direction, family, protocol, remote| {
            match_of("pg_g", &SecurityGroupRule { id: "r".into(), direction, family, protocol, remote })
        };
        let cidr = |text: &str| Remote::Cidr(text.parse().unwrap());
        let cases = [
            (
                rule(Direction::Ingress, Family::V4, Protocol::Tcp(Some((22, 22))), cidr("0.0.0.0/0")),
                "outport == @pg_g && ip4 && tcp && tcp.dst == 22",
            ),
            (rule(Direction::Egress, Family::V6, Protocol::Any, Remote::Any), "inport == @pg_g && ip6"),
            (
                rule(Direction::Ingress, Family::V4, Protocol::Any, Remote::Group("a-b".into())),
                "outport == @pg_g && ip4 && ip4.src == $pg_a_b_ip4",
            ),
            (
                rule(
                    Direction::Ingress,
                    Family::V4,
                    Protocol::Any,
                    Remote::Addresses(vec!["10.0.0.1/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()]),
                ),
                "outport == @pg_g && ip4 && ip4.src == {10.0.0.1/32}",
            ),
            (
                rule(Direction::Ingress, Family::V6, Protocol::Any, Remote::Addresses(Vec::new())),
                "outport == @pg_g && ip6 && 0",
            ),
            (
                rule(Direction::Egress, Family::V4, Protocol::Udp(Some((1000, 2000))), cidr("10.1.2.3/8")),
                "inport == @pg_g && ip4 && ip4.dst == 10.0.0.0/8 && udp && udp.dst >= 1000 && udp.dst <= 2000",
            ),
            (
                rule(Direction::Ingress, Family::V6, Protocol::Icmp { kind: Some(128), code: Some(0) }, Remote::Any),
                "outport == @pg_g && ip6 && icmp6 && icmp6.type == 128 && icmp6.code == 0",
            ),
            (
                rule(Direction::Ingress, Family::V4, Protocol::Number(112), Remote::Any),
                "outport == @pg_g && ip4 && ip.proto == 112",
            ),
            (
                rule(Direction::Ingress, Family::V4, Protocol::Tcp(Some((1, 65535))), Remote::Any),
                "outport == @pg_g && ip4 && tcp",
            ),
        ];
        for (made, wanted) in cases {
            assert_eq!(made, wanted);
        }
    }
}
