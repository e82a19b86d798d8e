//! Request and response shapes of ports.

use std::collections::HashMap;

use model::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    list::{Direction, Select, SortKey, Type},
    network::{
        ports::Port,
        trunks::{Subport, Trunk},
    },
};
use web::{
    Cx,
    paging::{Filter, ListSpec},
};

use crate::collection::{Names, Shape, flag, invalid, nullable, standard};

/// The domain of guests whose network has none of its own: what Nova calls them by too.
pub const DNS_DOMAIN: &str = "novalocal";

/// How it is called.
pub const NAMES: Names = Names { singular: "port", plural: "ports" };

/// What lists sort and filter by; see also [`filter`].
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
        SortKey { name: "network_id", sql: "r.network_id", kind: Type::Text },
        SortKey { name: "mac_address", sql: "r.mac", kind: Type::Text },
        SortKey { name: "device_id", sql: "r.device_id", kind: Type::Text },
        SortKey { name: "device_owner", sql: "r.device_owner", kind: Type::Text },
        SortKey { name: "status", sql: "r.status", kind: Type::Text },
        SortKey { name: "admin_state_up", sql: "r.admin_state_up", kind: Type::Int },
        SortKey { name: "project_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "tenant_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
        SortKey { name: "updated_at", sql: "r.updated_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("network_id", "r.network_id"),
        Filter::exact("mac_address", "r.mac"),
        Filter::exact("device_id", "r.device_id"),
        Filter::exact("device_owner", "r.device_owner"),
        Filter::exact("status", "r.status"),
        Filter::flag("admin_state_up", "r.admin_state_up"),
        Filter::flag("port_security_enabled", "r.port_security_enabled"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::exact("dns_name", "r.dns_name"),
        Filter::exact("qos_policy_id", "coalesce(r.qos_policy_id, '')"),
        Filter::exact("binding:host_id", "r.host"),
        Filter::exact("binding:vnic_type", "r.vnic_type"),
        Filter::number("revision_number", "r.revision"),
    ],
};

/// The filters that look into other tables: `fixed_ips=ip_address=...`, `fixed_ips=subnet_id=...`, `security_groups`.
///
/// # Errors
/// Bad request for a `fixed_ips` of another form.
pub fn filter(cx: &Cx, select: &mut Select) -> Result<()> {
    for text in cx.query.all("fixed_ips") {
        match text.split_once('=') {
            Some(("ip_address", ip)) => {
                select.filter("r.id in (select port_id from port_ips where ip = ?)", [ip.into()]);
            }
            Some(("ip_address_substr", part)) => {
                let pattern = format!("%{}%", part.replace('%', ""));
                select.filter("r.id in (select port_id from port_ips where ip like ?)", [pattern.into()]);
            }
            Some(("subnet_id" | "subnet", id)) => {
                select.filter("r.id in (select port_id from port_ips where subnet_id = ?)", [id.into()]);
            }
            _ => return Err(invalid(format!("fixed_ips filter '{text}' is neither ip_address=... nor subnet_id=..."))),
        }
    }
    for name in ["security_groups", "security_group_ids"] {
        for group in cx.query.all(name) {
            select.filter(
                "r.id in (select port_id from port_security_groups where security_group_id = ?)",
                [group.into()],
            );
        }
    }
    Ok(())
}

/// An address as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct FixedIp {
    pub subnet_id: Option<String>,
    pub ip_address: Option<String>,
}

/// Addresses that a guest may use besides its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Pair {
    pub mac_address: Option<String>,
    pub ip_address: String,
}

/// Something that a guest is told by DHCP; `null` as value takes it back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct DhcpOption {
    pub opt_name: String,
    pub opt_value: Option<String>,
    #[serde(default, deserialize_with = "number_or_text")]
    pub ip_version: Option<i64>,
}

/// Clients write the version as a number or as text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<i64>, D::Error> {
    use serde::de::Error as _;
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| D::Error::custom("ip_version is 4 or 6")),
        other => other.as_i64().map(Some).ok_or_else(|| D::Error::custom("ip_version is 4 or 6")),
    }
}

/// `POST /ports`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub network_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    pub mac_address: Option<String>,
    pub fixed_ips: Option<Vec<FixedIp>>,
    pub device_id: Option<String>,
    pub device_owner: Option<String>,
    pub security_groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "flag")]
    pub port_security_enabled: Option<bool>,
    pub allowed_address_pairs: Option<Vec<Pair>>,
    #[serde(rename = "binding:host_id")]
    pub host: Option<String>,
    #[serde(rename = "binding:vnic_type")]
    pub vnic_type: Option<String>,
    #[serde(rename = "binding:profile")]
    pub profile: Option<serde_json::Map<String, Value>>,
    pub extra_dhcp_opts: Option<Vec<DhcpOption>>,
    pub dns_name: Option<String>,
    pub qos_policy_id: Option<String>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `PUT /ports/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    pub mac_address: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub fixed_ips: Option<Option<Vec<FixedIp>>>,
    pub device_id: Option<String>,
    pub device_owner: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub security_groups: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "flag")]
    pub port_security_enabled: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    pub allowed_address_pairs: Option<Option<Vec<Pair>>>,
    #[serde(rename = "binding:host_id", default, deserialize_with = "nullable")]
    pub host: Option<Option<String>>,
    #[serde(rename = "binding:vnic_type")]
    pub vnic_type: Option<String>,
    #[serde(rename = "binding:profile", default, deserialize_with = "nullable")]
    pub profile: Option<Option<serde_json::Map<String, Value>>>,
    pub extra_dhcp_opts: Option<Vec<DhcpOption>>,
    pub dns_name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub qos_policy_id: Option<Option<String>>,
}

/// What a port shows that other tables hold.
#[derive(Default)]
pub struct Beside {
    /// The policies of networks, by network.
    pub network_policies: HashMap<String, String>,
    /// The domains of networks that have their own, by network.
    pub domains: HashMap<String, String>,
    /// The trunks of ports, by port.
    pub trunks: HashMap<String, Value>,
}

impl Beside {
    fn domain_of(&self, port: &Port) -> &str {
        self.domains.get(port.network_id.as_str()).map_or(DNS_DOMAIN, String::as_str)
    }
}

/// A port as the API shows it. `binding`: with the host and what its switch was told.
pub fn shape(port: &Port, beside: &Beside, binding: bool) -> Shape {
    let mut shape = standard(port.id.as_str(), &port.project_id, &port.description, &port.meta, &port.tags);
    let ips: Vec<Value> =
        port.fixed_ips.iter().map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.ip})).collect();
    let groups: Vec<&str> = port.security_groups.iter().map(|id| id.as_str()).collect();
    shape.insert("name".into(), port.name.as_str().into());
    shape.insert("network_id".into(), port.network_id.as_str().into());
    shape.insert("admin_state_up".into(), port.admin_state_up.into());
    shape.insert("status".into(), port.status.as_str().into());
    shape.insert("mac_address".into(), port.mac.to_string().into());
    shape.insert("device_id".into(), port.device_id.as_str().into());
    shape.insert("device_owner".into(), port.device_owner.as_str().into());
    shape.insert("fixed_ips".into(), ips.into());
    shape.insert("security_groups".into(), groups.into());
    shape.insert("port_security_enabled".into(), port.port_security_enabled.into());
    shape.insert("allowed_address_pairs".into(), json!(port.allowed_address_pairs));
    shape.insert("qos_policy_id".into(), port.qos_policy_id.as_deref().into());
    let of_network = beside.network_policies.get(port.network_id.as_str());
    shape.insert("qos_network_policy_id".into(), of_network.map(String::as_str).into());
    if let Some(trunk) = beside.trunks.get(port.id.as_str()) {
        shape.insert("trunk_details".into(), trunk.clone());
    }
    let assigned = port.fixed_ips.iter().filter(|_| !port.dns_name.is_empty()).map(|ip| {
        json!({"hostname": port.dns_name, "ip_address": ip.ip, "fqdn": format!("{}.{}.", port.dns_name, beside.domain_of(port))})
    });
    shape.insert("dns_assignment".into(), assigned.collect());
    shape.insert("dns_name".into(), port.dns_name.as_str().into());
    shape.insert("extra_dhcp_opts".into(), json!(port.extra_dhcp_opts));
    shape.insert("binding:vnic_type".into(), port.vnic_type.as_str().into());
    if binding {
        let bound = !port.host.is_empty();
        let details =
            if bound { json!({"port_filter": true, "connectivity": "l2", "bridge_name": "br-int"}) } else { json!({}) };
        shape.insert("binding:host_id".into(), port.host.as_str().into());
        shape.insert("binding:profile".into(), port.binding_profile.clone());
        shape.insert("binding:vif_type".into(), if bound { "ovs" } else { "unbound" }.into());
        shape.insert("binding:vif_details".into(), details);
    }
    shape
}

/// The trunk of a port as the port shows it: what a guest's network configuration is made of.
pub fn trunk_details(trunk: &Trunk, subports: &[Subport], ports: &[Port]) -> Value {
    let one = |subport: &Subport| {
        let mac = ports.iter().find(|port| port.id == subport.port_id).map(|port| port.mac.to_string());
        json!({"port_id": subport.port_id, "segmentation_type": "vlan", "segmentation_id": subport.segmentation_id,
            "mac_address": mac})
    };
    json!({"trunk_id": trunk.standard.id, "sub_ports": subports.iter().map(one).collect::<Vec<_>>()})
}
