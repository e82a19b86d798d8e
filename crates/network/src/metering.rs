//! Metering labels and their rules: an administrator's names for traffic.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    list::{Direction, SortKey, Type},
    network::{
        metering::{Label, LabelRule},
        plain,
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, flag, invalid};

const SORTS: &[SortKey] = &[SortKey { name: "id", sql: "r.id", kind: Type::Text }];

const LABELS: ListSpec = ListSpec {
    sorts: SORTS,
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::flag("shared", "r.shared"),
    ],
};

const RULES: ListSpec = ListSpec {
    sorts: SORTS,
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("metering_label_id", "r.metering_label_id"),
        Filter::exact("direction", "r.direction"),
        Filter::flag("excluded", "r.excluded"),
        Filter::exact("remote_ip_prefix", "coalesce(r.remote_ip_prefix, '')"),
        Filter::exact("source_ip_prefix", "coalesce(r.source_ip_prefix, '')"),
        Filter::exact("destination_ip_prefix", "coalesce(r.destination_ip_prefix, '')"),
    ],
};

impl Shown for Label {
    const NAMES: Names = Names { singular: "metering_label", plural: "metering_labels" };
    const LIST: &'static ListSpec = &LABELS;
    const GET: &'static str = "get_metering_label";

    fn not_found(id: &str) -> Error {
        Error::not_found("MeteringLabelNotFound", format!("Metering label {id} does not exist."))
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        shape.insert("name".into(), json!(self.standard.name));
        shape.insert("shared".into(), json!(self.shared));
        shape
    }
}

impl Shown for LabelRule {
    const NAMES: Names = Names { singular: "metering_label_rule", plural: "metering_label_rules" };
    const LIST: &'static ListSpec = &RULES;
    const GET: &'static str = "get_metering_label_rule";

    fn not_found(id: &str) -> Error {
        Error::not_found("MeteringLabelRuleNotFound", format!("Metering label rule {id} does not exist."))
    }

    fn shape(&self) -> Shape {
        let shape = json!({
            "metering_label_id": self.metering_label_id,
            "direction": self.direction,
            "excluded": self.excluded,
            "remote_ip_prefix": self.remote_ip_prefix,
            "source_ip_prefix": self.source_ip_prefix,
            "destination_ip_prefix": self.destination_ip_prefix,
        });
        match shape {
            Value::Object(shape) => shape,
            _ => Shape::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelBody {
    name: Option<String>,
    description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    shared: Option<bool>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    metering_label_id: Option<String>,
    direction: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    excluded: Option<bool>,
    remote_ip_prefix: Option<String>,
    source_ip_prefix: Option<String>,
    destination_ip_prefix: Option<String>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

/// `POST /metering/metering-labels`
pub async fn create_label(cx: &Cx) -> Result<Reply> {
    let body = collection::input::<LabelBody>(cx, Label::NAMES)?.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    cx.authorize(&Target::project(&project))?;
    let standard = collection::fresh(&project, body.name.as_deref(), body.description.as_deref())?;
    let mut label = Label { standard, shared: body.shared.unwrap_or(false) };
    let mut tx = cx.db().begin().await?;
    plain::insert(&mut tx, &mut label).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, Label::NAMES.singular, collection::whole(&label))
}

/// `DELETE /metering/metering-labels/{id}`: its rules go with it.
pub async fn delete_label(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let label: Label = collection::locked(cx, &mut tx).await?;
    plain::delete::<Label>(&mut tx, &label.standard.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `POST /metering/metering-label-rules`
pub async fn create_rule(cx: &Cx) -> Result<Reply> {
    let body = collection::input::<RuleBody>(cx, LabelRule::NAMES)?.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    cx.authorize(&Target::project(&project))?;
    let label_id = body.metering_label_id.clone().ok_or_else(|| collection::missing("metering_label_id"))?;
    let mut rule = LabelRule {
        standard: collection::fresh(&project, None, None)?,
        direction: direction(body.direction.as_deref())?,
        excluded: body.excluded.unwrap_or(false),
        remote_ip_prefix: prefix("remote_ip_prefix", body.remote_ip_prefix.as_deref())?,
        source_ip_prefix: prefix("source_ip_prefix", body.source_ip_prefix.as_deref())?,
        destination_ip_prefix: prefix("destination_ip_prefix", body.destination_ip_prefix.as_deref())?,
        metering_label_id: label_id,
    };
    expect_ends(&rule)?;
    let mut tx = cx.db().begin().await?;
    let label: Option<Label> = plain::lock(&mut tx, &rule.metering_label_id).await?;
    let label = label.filter(|label| cx.can(Label::GET, &label.target()));
    label.ok_or_else(|| Label::not_found(&rule.metering_label_id))?;
    plain::insert(&mut tx, &mut rule).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, LabelRule::NAMES.singular, collection::whole(&rule))
}

fn direction(given: Option<&str>) -> Result<String> {
    match given.unwrap_or("ingress") {
        given @ ("ingress" | "egress") => Ok(given.to_owned()),
        other => Err(invalid(format!("direction '{other}' is neither ingress nor egress"))),
    }
}

fn prefix(name: &str, given: Option<&str>) -> Result<Option<String>> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    let net: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.map(|net| Some(net.to_string())).ok_or_else(|| invalid(format!("{name} '{text}' is no range of addresses")))
}

/// Either the old way of naming the other end, or one end or both by themselves.
fn expect_ends(rule: &LabelRule) -> Result<()> {
    let ends = rule.source_ip_prefix.is_some() || rule.destination_ip_prefix.is_some();
    match (rule.remote_ip_prefix.is_some(), ends) {
        (true, true) => Err(invalid("remote_ip_prefix excludes source_ip_prefix and destination_ip_prefix")),
        (false, false) => Err(invalid("one of remote_ip_prefix, source_ip_prefix and destination_ip_prefix is needed")),
        _ => Ok(()),
    }
}

/// `DELETE /metering/metering-label-rules/{id}`
pub async fn delete_rule(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let rule: LabelRule = collection::locked(cx, &mut tx).await?;
    plain::delete::<LabelRule>(&mut tx, &rule.standard.id).await?;
    tx.commit().await?;
    // As in Neutron what was deleted is shown once more to nobody: the answer is empty.
    Ok(Reply::no_content())
}
