//! Request and response shapes of security groups.

use serde::Deserialize;
use serde_json::Value;
use store::{
    list::{Direction, SortKey, Type},
    network::security_groups::SecurityGroup,
};
use web::paging::{Filter, ListSpec};

use crate::{
    collection::{Names, Shape, flag, standard},
    security_group_rules::wire as rules,
};

/// How it is called.
pub const NAMES: Names = Names { singular: "security_group", plural: "security_groups" };

/// What lists sort and filter by.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
        SortKey { name: "project_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "tenant_id", sql: "r.project_id", kind: Type::Text },
        SortKey { name: "stateful", sql: "r.stateful", kind: Type::Int },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
        SortKey { name: "updated_at", sql: "r.updated_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::flag("stateful", "r.stateful"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("revision_number", "r.revision"),
    ],
};

/// `POST /security-groups`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Create {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub stateful: Option<bool>,
    pub project_id: Option<String>,
    pub tenant_id: Option<String>,
}

/// `PUT /security-groups/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "Neutron's attributes")]
pub struct Update {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub stateful: Option<bool>,
}

/// A group with its rules as the API shows it.
pub fn shape(group: &SecurityGroup) -> Shape {
    let mut shape = standard(group.id.as_str(), &group.project_id, &group.description, &group.meta, &group.tags);
    let rules: Vec<Value> = group.rules.iter().map(|rule| Value::Object(rules::shape(rule))).collect();
    shape.insert("name".into(), group.name.as_str().into());
    shape.insert("stateful".into(), group.stateful.into());
    shape.insert("shared".into(), false.into());
    shape.insert("security_group_rules".into(), rules.into());
    shape
}
