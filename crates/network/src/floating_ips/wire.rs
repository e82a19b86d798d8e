//! Request and response shapes of floating IPs.

use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    list::{Direction, SortKey, Type},
    network::{floating_ips::FloatingIp, ports::Port},
};
use web::paging::{Filter, ListSpec};

use crate::collection::{Names, Shape, nullable, standard};

/// How it is called.
pub const NAMES: Names = Names { singular: "floatingip", plural: "floatingips" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "floating_ip_address", sql: "r.address", kind: Type::Text },
        SortKey { name: "fixed_ip_address", sql: "coalesce(r.fixed_ip, '')", kind: Type::Text },
        SortKey { name: "floating_network_id", sql: "r.floating_network_id", kind: Type::Text },
        SortKey { name: "port_id", sql: "coalesce(r.port_id, '')", kind: Type::Text },
        SortKey { name: "router_id", sql: "coalesce(r.router_id, '')", kind: Type::Text },
        SortKey { name: "status", sql: "r.status", kind: Type::Text },
        SortKey { name: "project_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "tenant_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
        SortKey { name: "updated_at", sql: "r.updated_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("description", "r.description"),
        Filter::exact("status", "r.status"),
        Filter::exact("floating_network_id", "r.floating_network_id"),
        Filter::exact("floating_ip_address", "r.address"),
        Filter::exact("fixed_ip_address", "coalesce(r.fixed_ip, '')"),
        Filter::exact("port_id", "coalesce(r.port_id, '')"),
        Filter::exact("router_id", "coalesce(r.router_id, '')"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("revision_number", "r.revision"),
    ],
};

/// `POST /floatingips`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub floating_network_id: Option<String>,
    pub floating_ip_address: Option<String>,
    pub subnet_id: Option<String>,
    pub port_id: Option<String>,
    pub fixed_ip_address: Option<String>,
    pub description: Option<String>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `PUT /floatingips/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    #[serde(default, deserialize_with = "nullable")]
    pub port_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub fixed_ip_address: Option<Option<String>>,
    pub description: Option<String>,
}

/// A floating IP as the API shows it. `port`: what it leads to.
pub fn shape(floating_ip: &FloatingIp, port: Option<&Port>) -> Shape {
    let mut shape = standard(
        floating_ip.id.as_str(),
        &floating_ip.project_id,
        &floating_ip.description,
        &floating_ip.meta,
        &floating_ip.tags,
    );
    let target = floating_ip.target.as_ref();
    shape.insert("floating_network_id".into(), floating_ip.floating_network_id.as_str().into());
    shape.insert("floating_ip_address".into(), floating_ip.address.to_string().into());
    shape.insert("status".into(), floating_ip.status.as_str().into());
    shape.insert("port_id".into(), target.map(|t| t.port_id.as_str()).into());
    shape.insert("fixed_ip_address".into(), target.map(|t| t.fixed_ip.to_string()).into());
    shape.insert("router_id".into(), floating_ip.router_id.as_ref().map(|id| id.as_str()).into());
    let forwardings = floating_ip.forwardings.iter().map(|f| {
        json!({"id": f.standard.id, "protocol": f.protocol, "external_port": f.external_port,
            "internal_ip_address": f.internal_ip_address, "internal_port": f.internal_port})
    });
    shape.insert("port_forwardings".into(), forwardings.collect());
    shape.insert("port_details".into(), port.map_or(Value::Null, details));
    shape
}

fn details(port: &Port) -> Value {
    json!({
        "name": port.name,
        "network_id": port.network_id,
        "mac_address": port.mac.to_string(),
        "admin_state_up": port.admin_state_up,
        "status": port.status,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
    })
}
