//! Request and response shapes of routers.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use store::{
    list::{Direction, SortKey, Type},
    network::{Route, ports::Port, routers::Router},
};
use web::paging::{Filter, ListSpec};

use crate::{
    collection::{Names, Shape, flag, nullable, standard},
    ports::wire::FixedIp,
};

/// How it is called.
pub const NAMES: Names = Names { singular: "router", plural: "routers" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
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
        Filter::exact("status", "r.status"),
        Filter::flag("admin_state_up", "r.admin_state_up"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("revision_number", "r.revision"),
    ],
};

/// `external_gateway_info`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Gateway {
    pub network_id: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub enable_snat: Option<bool>,
    pub external_fixed_ips: Option<Vec<FixedIp>>,
}

/// A new router's gateway: `{}` means none, as `null` does.
fn gateway_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Gateway>, D::Error> {
    let gateway = Option::<Gateway>::deserialize(from)?;
    Ok(gateway.filter(|g| g.network_id.is_some() || g.enable_snat.is_some() || g.external_fixed_ips.is_some()))
}

/// `POST /routers`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    #[serde(default, deserialize_with = "gateway_or_none")]
    pub external_gateway_info: Option<Gateway>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `PUT /routers/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub admin_state_up: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    pub external_gateway_info: Option<Option<Value>>,
    #[serde(default, deserialize_with = "nullable")]
    pub routes: Option<Option<Vec<Route>>>,
}

/// `PUT /routers/{id}/add_router_interface` and its opposite.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Interface {
    pub subnet_id: Option<String>,
    pub port_id: Option<String>,
}

/// `PUT /routers/{id}/add_extraroutes` and its opposite.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct ExtraRoutes {
    pub routes: Vec<Route>,
}

/// A router as the API shows it.
pub fn shape(router: &Router) -> Shape {
    let mut shape = standard(router.id.as_str(), &router.project_id, &router.description, &router.meta, &router.tags);
    shape.insert("name".into(), router.name.as_str().into());
    shape.insert("status".into(), router.status.as_str().into());
    shape.insert("admin_state_up".into(), router.admin_state_up.into());
    shape.insert("external_gateway_info".into(), gateway(router));
    shape.insert("routes".into(), json!(router.routes));
    shape
}

fn gateway(router: &Router) -> Value {
    let Some(port) = &router.gateway_port else { return Value::Null };
    let ips: Vec<Value> =
        port.fixed_ips.iter().map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.ip})).collect();
    json!({"network_id": port.network_id, "enable_snat": router.enable_snat, "external_fixed_ips": ips})
}

/// What connecting and disconnecting answer.
pub fn interface(router: &Router, port: &Port) -> Value {
    let subnets: Vec<&str> = port.fixed_ips.iter().map(|ip| ip.subnet_id.as_str()).collect();
    json!({
        "id": router.id,
        "tenant_id": router.project_id,
        "project_id": router.project_id,
        "port_id": port.id,
        "network_id": port.network_id,
        "subnet_id": subnets.first(),
        "subnet_ids": subnets,
        "tags": router.tags,
    })
}
