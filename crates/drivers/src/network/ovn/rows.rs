//! Which rows of the northbound database stand for which of Nacre's things, and under which UUID.
//!
//! A thing's row has the thing's own id as UUID, so `ovn-nbctl list Logical_Switch NETWORK-ID` works and no two writers
//! can ever make the same thing twice: OVSDB refuses the second insert. Rows that Nacre has no id for (a router's
//! SNAT entries) get a UUID computed from what they say.

use uuid::Uuid;

use crate::network::{
    OwnedKind,
    ovsdb::{Datum, Replica, Row, TableSpec},
};

pub(super) const DATABASE: &str = "OVN_Northbound";

pub(super) const SWITCH: &str = "Logical_Switch";
pub(super) const SWITCH_PORT: &str = "Logical_Switch_Port";
pub(super) const ROUTER: &str = "Logical_Router";
pub(super) const ROUTER_PORT: &str = "Logical_Router_Port";
pub(super) const ROUTE: &str = "Logical_Router_Static_Route";
pub(super) const NAT: &str = "NAT";
pub(super) const GATEWAY_CHASSIS: &str = "Gateway_Chassis";
pub(super) const DHCP: &str = "DHCP_Options";
pub(super) const DNS: &str = "DNS";
pub(super) const GROUP: &str = "Port_Group";
pub(super) const ACL: &str = "ACL";
pub(super) const QOS: &str = "QoS";
pub(super) const BALANCER: &str = "Load_Balancer";

pub(super) const ID_KEY: &str = "nacre-id";
pub(super) const KIND_KEY: &str = "nacre-kind";

const INDEX: Option<(&str, &str)> = Some(("external_ids", ID_KEY));

const fn table(
    table: &'static str,
    columns: &'static [&'static str],
    references: &'static [&'static str],
) -> TableSpec {
    TableSpec { table, columns, index: INDEX, references, notify: false }
}

/// What the driver keeps a replica of: everything it compares.
pub(super) const TABLES: &[TableSpec] = &[
    table(
        SWITCH,
        &["name", "ports", "dns_records", "qos_rules", "other_config", "external_ids"],
        &["ports", "dns_records", "qos_rules"],
    ),
    TableSpec {
        table: SWITCH_PORT,
        columns: &[
            "name",
            "type",
            "addresses",
            "port_security",
            "enabled",
            "up",
            "tag",
            "parent_name",
            "dhcpv4_options",
            "dhcpv6_options",
            "options",
            "external_ids",
        ],
        index: INDEX,
        references: &[],
        notify: true,
    },
    table(
        ROUTER,
        &["name", "enabled", "ports", "nat", "static_routes", "load_balancer", "options", "external_ids"],
        &["ports", "nat", "static_routes", "load_balancer"],
    ),
    table(
        ROUTER_PORT,
        &["name", "mac", "networks", "ipv6_ra_configs", "gateway_chassis", "options", "external_ids"],
        &["gateway_chassis"],
    ),
    table(ROUTE, &["ip_prefix", "nexthop", "output_port", "external_ids"], &[]),
    table(NAT, &["type", "external_ip", "logical_ip", "external_mac", "logical_port", "external_ids"], &[]),
    table(GATEWAY_CHASSIS, &["name", "chassis_name", "priority", "external_ids"], &[]),
    table(DHCP, &["cidr", "options", "external_ids"], &[]),
    table(DNS, &["records", "external_ids"], &[]),
    table(GROUP, &["name", "ports", "acls", "external_ids"], &["ports", "acls"]),
    table(QOS, &["direction", "priority", "match", "action", "bandwidth", "external_ids"], &[]),
    table(BALANCER, &["name", "vips", "protocol", "options", "external_ids"], &[]),
    table(ACL, &["direction", "priority", "match", "action", "external_ids"], &[]),
];

/// The tables that hold things of a kind.
pub(super) const OWNED: [(OwnedKind, &str); 10] = [
    (OwnedKind::Network, SWITCH),
    (OwnedKind::Subnet, DHCP),
    (OwnedKind::Port, SWITCH_PORT),
    (OwnedKind::RouterPort, SWITCH_PORT),
    (OwnedKind::RouterPort, ROUTER_PORT),
    (OwnedKind::Router, ROUTER),
    (OwnedKind::FloatingIp, NAT),
    (OwnedKind::FloatingIp, BALANCER),
    (OwnedKind::SecurityGroup, GROUP),
    (OwnedKind::Dns, DNS),
];

/// The UUID of the row for an id: the id itself where it is a UUID.
pub(super) fn uuid_of(id: &str) -> Uuid {
    Uuid::try_parse(id).unwrap_or_else(|_| derived(&[id]))
}

/// A UUID computed from what a row says (FNV-1a, 128 bits): the same always, everywhere.
pub(super) fn derived(parts: &[&str]) -> Uuid {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    }
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

/// The row of a thing as it is, or the UUID that it will have. A row made by hand or restored may have another UUID:
/// `nacre-id` decides.
pub(super) fn locate(replica: &Replica, table: &str, kind: OwnedKind, id: &str) -> (Uuid, bool) {
    let mut rows = replica.by_key(table, id).filter(|(_, row)| kind_of(row) == Some(kind));
    rows.next().map_or_else(|| (uuid_of(id), false), |(uuid, _)| (uuid, true))
}

/// Whose row it is.
pub(super) fn kind_of(row: &Row) -> Option<OwnedKind> {
    row.get("external_ids").key(KIND_KEY).and_then(OwnedKind::parse)
}

/// `external_ids` of a thing, with more keys if need be.
pub(super) fn marks(kind: OwnedKind, id: &str, more: &[(&str, &str)]) -> Datum {
    Datum::map([(KIND_KEY, kind.as_str()), (ID_KEY, id)].into_iter().chain(more.iter().copied()))
}

/// `external_ids` of a row that belongs to a thing but is none itself.
pub(super) fn part_marks(part: &str) -> Datum {
    Datum::map([(KIND_KEY, part)])
}

/// The name of a router's port on the router.
pub(super) fn router_port_name(port: &str) -> String {
    format!("lrp-{port}")
}

/// The name of a security group's port group; OVN makes the address sets `$NAME_ip4` and `$NAME_ip6` of it.
pub(super) fn group_name(id: &str) -> String {
    format!("pg_{}", id.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_stable_and_apart() {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(uuid_of(id).to_string(), id);
        assert_eq!(uuid_of("default"), derived(&["default"]));
        assert_ne!(derived(&["a", "bc"]), derived(&["ab", "c"]));
        assert_eq!(derived(&["a"]).get_version_num(), 8, "a custom UUID, never mistaken for a random one");
    }
}
