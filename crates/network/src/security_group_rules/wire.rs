//! Request and response shapes of security group rules.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use store::{
    list::{Direction, SortKey, Type},
    network::{Meta, security_groups::Rule},
};
use web::paging::{Filter, ListSpec};

use crate::collection::{Names, Shape, standard};

/// How it is called.
pub const NAMES: Names = Names { singular: "security_group_rule", plural: "security_group_rules" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "security_group_id", sql: "r.security_group_id", kind: Type::Text },
        SortKey { name: "direction", sql: "r.direction", kind: Type::Text },
        SortKey { name: "ethertype", sql: "r.ethertype", kind: Type::Text },
        SortKey { name: "protocol", sql: "coalesce(r.protocol, '')", kind: Type::Text },
        SortKey { name: "port_range_min", sql: "coalesce(r.port_range_min, -1)", kind: Type::Int },
        SortKey { name: "port_range_max", sql: "coalesce(r.port_range_max, -1)", kind: Type::Int },
        SortKey { name: "project_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "tenant_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
        SortKey { name: "updated_at", sql: "r.updated_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("security_group_id", "r.security_group_id"),
        Filter::exact("direction", "r.direction"),
        Filter::exact("ethertype", "r.ethertype"),
        Filter::exact("protocol", "coalesce(r.protocol, '')"),
        Filter::number("port_range_min", "r.port_range_min"),
        Filter::number("port_range_max", "r.port_range_max"),
        Filter::exact("remote_ip_prefix", "coalesce(r.remote_ip_prefix, '')"),
        Filter::exact("remote_group_id", "coalesce(r.remote_group_id, '')"),
        Filter::exact("remote_address_group_id", "coalesce(r.remote_address_group_id, '')"),
        Filter::exact("description", "r.description"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("revision_number", "r.revision"),
    ],
};

/// `POST /security-group-rules`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub security_group_id: Option<String>,
    pub direction: Option<String>,
    pub ethertype: Option<String>,
    #[serde(default, deserialize_with = "text_or_number")]
    pub protocol: Option<String>,
    #[serde(default, deserialize_with = "number")]
    pub port_range_min: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    pub port_range_max: Option<i64>,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
    pub remote_address_group_id: Option<String>,
    pub description: Option<String>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    use serde::de::Error as _;
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(D::Error::custom(format!("'{other}' is no protocol"))),
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    use serde::de::Error as _;
    let bad = |value: &Value| D::Error::custom(format!("'{value}' is not a valid port number"));
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| bad(&Value::String(text))),
        value => value.as_i64().map(Some).ok_or_else(|| bad(&value)),
    }
}

/// A rule as the API shows it.
pub fn shape(rule: &Rule) -> Shape {
    let meta = Meta {
        revision: rule.revision,
        realized_revision: rule.revision,
        created_at: rule.created_at,
        updated_at: rule.updated_at,
        deleted: false,
    };
    let mut shape = standard(rule.id.as_str(), &rule.project_id, &rule.description, &meta, &rule.tags);
    shape.insert("security_group_id".into(), rule.security_group_id.as_str().into());
    shape.insert("direction".into(), rule.direction.as_str().into());
    shape.insert("ethertype".into(), rule.ethertype.as_str().into());
    shape.insert("protocol".into(), rule.protocol.as_deref().into());
    shape.insert("port_range_min".into(), rule.port_range_min.into());
    shape.insert("port_range_max".into(), rule.port_range_max.into());
    shape.insert("remote_ip_prefix".into(), rule.remote_ip_prefix.as_deref().into());
    shape.insert("remote_group_id".into(), rule.remote_group_id.as_ref().map(|id| id.as_str()).into());
    shape.insert("remote_address_group_id".into(), rule.remote_address_group_id.as_deref().into());
    shape.insert("normalized_cidr".into(), rule.remote_ip_prefix.as_deref().into());
    shape
}
