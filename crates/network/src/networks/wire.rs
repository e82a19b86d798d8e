//! Request and response shapes of networks.

use std::collections::HashMap;

use serde::Deserialize;
use store::{
    list::{Direction, SortKey, Type},
    network::{networks::Network, subnets::Subnet},
};
use web::paging::{Filter, ListSpec};

use crate::collection::{Names, Shape, flag, nullable, standard};

/// How it is called.
pub const NAMES: Names = Names { singular: "network", plural: "networks" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
        SortKey { name: "status", sql: "r.status", kind: Type::Text },
        SortKey { name: "project_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "tenant_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "admin_state_up", sql: "r.admin_state_up", kind: Type::Int },
        SortKey { name: "mtu", sql: "r.mtu", kind: Type::Int },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
        SortKey { name: "updated_at", sql: "r.updated_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("status", "r.status"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::flag("admin_state_up", "r.admin_state_up"),
        Filter::flag("shared", "r.shared"),
        Filter::flag("router:external", "r.external"),
        Filter::flag("is_default", "r.is_default"),
        Filter::flag("port_security_enabled", "r.port_security_enabled"),
        Filter::number("mtu", "r.mtu"),
        Filter::number("revision_number", "r.revision"),
        Filter::exact("provider:network_type", "r.network_type"),
        Filter::exact("provider:physical_network", "coalesce(r.physical_network, '')"),
        Filter::number("provider:segmentation_id", "r.segmentation_id"),
    ],
};

/// `POST /networks`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub shared: Option<bool>,
    #[serde(rename = "router:external", default, deserialize_with = "flag")]
    pub external: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub is_default: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub port_security_enabled: Option<bool>,
    pub mtu: Option<i64>,
    pub dns_domain: Option<String>,
    pub qos_policy_id: Option<String>,
    #[serde(rename = "provider:network_type")]
    pub network_type: Option<String>,
    #[serde(rename = "provider:physical_network")]
    pub physical_network: Option<String>,
    #[serde(rename = "provider:segmentation_id")]
    pub segmentation_id: Option<i64>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `PUT /networks/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub shared: Option<bool>,
    #[serde(rename = "router:external", default, deserialize_with = "flag")]
    pub external: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub is_default: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub port_security_enabled: Option<bool>,
    pub mtu: Option<i64>,
    pub dns_domain: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub qos_policy_id: Option<Option<String>>,
}

/// A network as the API shows it. `provider`: with what lies below it.
pub fn shape(network: &Network, subnets: &[Subnet], scopes: &HashMap<String, String>, provider: bool) -> Shape {
    let mut shape =
        standard(network.id.as_str(), &network.project_id, &network.description, &network.meta, &network.tags);
    let ids: Vec<&str> = subnets.iter().filter(|s| s.network_id == network.id).map(|s| s.id.as_str()).collect();
    shape.insert("name".into(), network.name.as_str().into());
    shape.insert("status".into(), network.status.as_str().into());
    shape.insert("admin_state_up".into(), network.admin_state_up.into());
    shape.insert("subnets".into(), ids.into());
    shape.insert("shared".into(), network.shared.into());
    shape.insert("router:external".into(), network.external.into());
    shape.insert("mtu".into(), network.mtu.into());
    shape.insert("port_security_enabled".into(), network.port_security_enabled.into());
    shape.insert("qos_policy_id".into(), network.qos_policy_id.as_deref().into());
    shape.insert("dns_domain".into(), network.dns_domain.as_str().into());
    for (name, version) in [("ipv4_address_scope", 4), ("ipv6_address_scope", 6)] {
        let own = subnets.iter().filter(|s| s.network_id == network.id && s.ip_version() == version);
        let scope = own.filter_map(|s| scopes.get(s.subnetpool_id.as_deref()?)).next();
        shape.insert(name.into(), scope.map(String::as_str).into());
    }
    if network.external {
        shape.insert("is_default".into(), network.is_default.into());
    }
    if provider {
        shape.insert("provider:network_type".into(), network.network_type.as_str().into());
        shape.insert("provider:physical_network".into(), network.physical_network.as_deref().into());
        shape.insert("provider:segmentation_id".into(), network.segmentation_id.into());
    }
    shape
}
