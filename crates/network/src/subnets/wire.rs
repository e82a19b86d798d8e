//! Request and response shapes of subnets.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    list::{Direction, SortKey, Type},
    network::{Route, subnets::Subnet},
};
use web::paging::{Filter, ListSpec};

use crate::collection::{Names, Shape, flag, nullable, standard};

/// How it is called.
pub const NAMES: Names = Names { singular: "subnet", plural: "subnets" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
        SortKey { name: "network_id", sql: "r.network_id", kind: Type::Text },
        SortKey { name: "cidr", sql: "r.cidr", kind: Type::Text },
        SortKey { name: "ip_version", sql: "r.ip_version", kind: Type::Int },
        SortKey { name: "enable_dhcp", sql: "r.enable_dhcp", kind: Type::Int },
        SortKey { name: "gateway_ip", sql: "coalesce(r.gateway_ip, '')", kind: Type::Text },
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
        Filter::exact("cidr", "r.cidr"),
        Filter::exact("subnetpool_id", "coalesce(r.subnetpool_id, '')"),
        Filter::exact("gateway_ip", "coalesce(r.gateway_ip, '')"),
        Filter::number("ip_version", "r.ip_version"),
        Filter::flag("enable_dhcp", "r.enable_dhcp"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("revision_number", "r.revision"),
        Filter::exact("ipv6_ra_mode", "coalesce(r.ipv6_ra_mode, '')"),
        Filter::exact("ipv6_address_mode", "coalesce(r.ipv6_address_mode, '')"),
    ],
};

/// A range of addresses.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Pool {
    pub start: String,
    pub end: String,
}

/// `POST /subnets`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub network_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "version")]
    pub ip_version: Option<i64>,
    pub cidr: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub gateway_ip: Option<Option<String>>,
    pub allocation_pools: Option<Vec<Pool>>,
    #[serde(default, deserialize_with = "flag")]
    pub enable_dhcp: Option<bool>,
    pub dns_nameservers: Option<Vec<String>>,
    pub host_routes: Option<Vec<Route>>,
    pub ipv6_ra_mode: Option<String>,
    pub ipv6_address_mode: Option<String>,
    pub service_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "version")]
    pub prefixlen: Option<i64>,
    pub subnetpool_id: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub use_default_subnetpool: Option<bool>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// Clients write version and length as a number or as text.
fn version<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    use serde::de::Error as _;
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::Number(n) => Ok(n.as_i64()),
        Value::String(text) => {
            text.parse().map(Some).map_err(|_| D::Error::custom("ip_version is 4 or 6, prefixlen a number"))
        }
        _ => Err(D::Error::custom("ip_version is 4 or 6, prefixlen a number")),
    }
}

/// `PUT /subnets/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub gateway_ip: Option<Option<String>>,
    pub allocation_pools: Option<Vec<Pool>>,
    #[serde(default, deserialize_with = "flag")]
    pub enable_dhcp: Option<bool>,
    pub dns_nameservers: Option<Vec<String>>,
    pub host_routes: Option<Vec<Route>>,
    pub service_types: Option<Vec<String>>,
}

/// A subnet as the API shows it.
pub fn shape(subnet: &Subnet) -> Shape {
    let mut shape = standard(subnet.id.as_str(), &subnet.project_id, &subnet.description, &subnet.meta, &subnet.tags);
    let pools: Vec<Value> = subnet.pools.iter().map(|(start, end)| json!({"start": start, "end": end})).collect();
    shape.insert("name".into(), subnet.name.as_str().into());
    shape.insert("network_id".into(), subnet.network_id.as_str().into());
    shape.insert("ip_version".into(), subnet.ip_version().into());
    shape.insert("cidr".into(), subnet.cidr.to_string().into());
    shape.insert("gateway_ip".into(), subnet.gateway_ip.map(|ip| ip.to_string()).into());
    shape.insert("enable_dhcp".into(), subnet.enable_dhcp.into());
    shape.insert("allocation_pools".into(), pools.into());
    shape.insert("dns_nameservers".into(), subnet.dns_nameservers.as_slice().into());
    shape.insert("host_routes".into(), json!(subnet.host_routes));
    shape.insert("ipv6_ra_mode".into(), subnet.ipv6_ra_mode.as_deref().into());
    shape.insert("ipv6_address_mode".into(), subnet.ipv6_address_mode.as_deref().into());
    shape.insert("service_types".into(), subnet.service_types.as_slice().into());
    shape.insert("subnetpool_id".into(), subnet.subnetpool_id.as_deref().into());
    shape
}
