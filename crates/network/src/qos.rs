//! Quality of service: policies and their rules.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn, Tx,
    list::{Direction, SortKey, Type},
    network::{
        plain,
        qos::{self, BANDWIDTH_LIMIT, DSCP_MARKING, MINIMUM_BANDWIDTH, Policy, Rule},
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, flag, invalid};

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::flag("shared", "r.shared"),
        Filter::flag("is_default", "r.is_default"),
    ],
};

/// Marks that may be set: those that have a meaning.
const DSCP_MARKS: &[i64] = &[0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 46, 48, 56];

impl Shown for Policy {
    const NAMES: Names = Names { singular: "policy", plural: "policies" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_policy";

    fn not_found(id: &str) -> Error {
        Error::not_found("QosPolicyNotFound", format!("QoS policy {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        shape.insert("name".into(), json!(self.standard.name));
        shape.insert("shared".into(), json!(self.shared));
        shape.insert("is_default".into(), json!(self.is_default));
        shape
    }

    fn target(&self) -> Target {
        Target::project(&self.standard.project_id).with("shared", if self.shared { "True" } else { "False" })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<String>,
    description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    shared: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    is_default: Option<bool>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

/// `GET /qos/policies`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = plain::select::<Policy>(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let policies: Vec<Policy> = plain::list(&mut conn, select, &page).await?;
    let shapes = with_rules(&mut conn, &policies).await?;
    collection::page(cx, Policy::NAMES.plural, &page, shapes)
}

/// `GET /qos/policies/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let policy: Policy = plain::get(&mut conn, id).await?.ok_or_else(|| Policy::not_found(id))?;
    collection::authorize(cx, Policy::GET, &policy.target(), || Policy::not_found(id))?;
    let shapes = with_rules(&mut conn, std::slice::from_ref(&policy)).await?;
    collection::one(cx, StatusCode::OK, Policy::NAMES.singular, shapes.into_iter().next().unwrap_or_default())
}

async fn with_rules(conn: &mut Conn, policies: &[Policy]) -> Result<Vec<Shape>> {
    let ids: Vec<&str> = policies.iter().map(|policy| policy.standard.id.as_str()).collect();
    let rules = qos::rules(conn, &ids).await?;
    let whole = |policy: &Policy| {
        let own = rules.iter().filter(|rule| rule.policy_id == policy.standard.id);
        let own: Vec<Value> = own
            .map(|rule| {
                let mut shape = rule_shape(rule);
                shape.insert("qos_policy_id".into(), json!(rule.policy_id));
                shape.insert("type".into(), json!(rule.kind));
                Value::Object(shape)
            })
            .collect();
        let mut shape = collection::whole(policy);
        shape.insert("rules".into(), Value::Array(own));
        shape
    };
    Ok(policies.iter().map(whole).collect())
}

/// `POST /qos/policies`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let body = collection::input::<Body>(cx, Policy::NAMES)?.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    cx.authorize(&Target::project(&project))?;
    let name = body.name.as_deref().ok_or_else(|| collection::missing("name"))?;
    let mut policy = Policy {
        standard: collection::fresh(&project, Some(name), body.description.as_deref())?,
        shared: body.shared.unwrap_or(false),
        is_default: body.is_default.unwrap_or(false),
    };
    let mut tx = cx.db().begin().await?;
    expect_one_default(&mut tx, &policy).await?;
    plain::insert(&mut tx, &mut policy).await?;
    let shapes = with_rules(&mut tx, std::slice::from_ref(&policy)).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, Policy::NAMES.singular, shapes.into_iter().next().unwrap_or_default())
}

async fn expect_one_default(tx: &mut Tx, policy: &Policy) -> Result<()> {
    let other = qos::default_of(tx, &policy.standard.project_id).await?;
    match other.filter(|other| policy.is_default && other.standard.id != policy.standard.id) {
        None => Ok(()),
        Some(other) => Err(Error::conflict(
            "QoSPolicyDefaultAlreadyExists",
            format!("A default QoS policy exists for project {}: {}.", policy.standard.project_id, other.standard.id),
        )),
    }
}

/// `PUT /qos/policies/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut policy: Policy = collection::locked(cx, &mut tx).await?;
    let body = collection::input::<Body>(cx, Policy::NAMES)?.body;
    if body.project_id.is_some() || body.tenant_id.is_some() {
        return Err(invalid("project_id of a policy can't be changed"));
    }
    collection::rename(&mut policy.standard, body.name.as_deref(), body.description.as_deref())?;
    policy.shared = body.shared.unwrap_or(policy.shared);
    policy.is_default = body.is_default.unwrap_or(policy.is_default);
    expect_one_default(&mut tx, &policy).await?;
    plain::update(&mut tx, &mut policy).await?;
    let shapes = with_rules(&mut tx, std::slice::from_ref(&policy)).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, Policy::NAMES.singular, shapes.into_iter().next().unwrap_or_default())
}

/// `DELETE /qos/policies/{id}`: its rules go with it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let policy: Policy = collection::locked(cx, &mut tx).await?;
    let id = &policy.standard.id;
    if qos::is_used(&mut tx, id).await? {
        return Err(Error::conflict("QosPolicyInUse", format!("QoS Policy {id} is used by ports or networks.")));
    }
    qos::forget(&mut tx, id).await?;
    plain::delete::<Policy>(&mut tx, id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// What a route's path says its rules are about: the kind, and how one is called.
fn kind_of(cx: &Cx) -> (&'static str, &'static str) {
    if cx.path.contains("/bandwidth_limit_rules") {
        (BANDWIDTH_LIMIT, "bandwidth_limit_rule")
    } else if cx.path.contains("/dscp_marking_rules") {
        (DSCP_MARKING, "dscp_marking_rule")
    } else {
        (MINIMUM_BANDWIDTH, "minimum_bandwidth_rule")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    max_kbps: Option<i64>,
    max_burst_kbps: Option<i64>,
    min_kbps: Option<i64>,
    dscp_mark: Option<i64>,
    direction: Option<String>,
}

fn rule_shape(rule: &Rule) -> Shape {
    let mut shape = Shape::new();
    shape.insert("id".into(), json!(rule.id));
    match rule.kind.as_str() {
        BANDWIDTH_LIMIT => {
            shape.insert("max_kbps".into(), json!(rule.kbps));
            shape.insert("max_burst_kbps".into(), json!(rule.burst_kb));
            shape.insert("direction".into(), json!(rule.direction));
        }
        DSCP_MARKING => {
            shape.insert("dscp_mark".into(), json!(rule.dscp_mark));
        }
        _ => {
            shape.insert("min_kbps".into(), json!(rule.kbps));
            shape.insert("direction".into(), json!(rule.direction));
        }
    }
    shape
}

fn filled(mut rule: Rule, body: &RuleBody) -> Result<Rule> {
    let needs = |value: Option<i64>, now: i64, name: &str| match value.unwrap_or(now) {
        value if (1..=i64::from(i32::MAX)).contains(&value) => Ok(value),
        _ => Err(invalid(format!("{name} must be 1 to {}", i32::MAX))),
    };
    match rule.kind.as_str() {
        BANDWIDTH_LIMIT => {
            rule.kbps = needs(body.max_kbps, rule.kbps, "max_kbps")?;
            rule.burst_kb = body.max_burst_kbps.unwrap_or(rule.burst_kb).clamp(0, i64::from(i32::MAX));
        }
        DSCP_MARKING => {
            rule.dscp_mark = body.dscp_mark.unwrap_or(rule.dscp_mark);
            if !DSCP_MARKS.contains(&rule.dscp_mark) {
                return Err(invalid(format!("dscp_mark must be one of {DSCP_MARKS:?}")));
            }
        }
        _ => rule.kbps = needs(body.min_kbps, rule.kbps, "min_kbps")?,
    }
    match body.direction.as_deref().unwrap_or(&rule.direction) {
        "egress" => "egress".clone_into(&mut rule.direction),
        "ingress" if rule.kind == BANDWIDTH_LIMIT => "ingress".clone_into(&mut rule.direction),
        other => {
            return Err(Error::bad_request(
                "QoSRuleNotSupported",
                format!("Rule {} with direction {other} is not supported by the network's driver.", rule.kind),
            ));
        }
    }
    Ok(rule)
}

/// The policy of the path, locked, once the caller may do to it what the route does.
async fn policy(cx: &Cx, tx: &mut Tx) -> Result<Policy> {
    let id = cx.param("policy_id");
    let policy: Policy = plain::lock(tx, id).await?.ok_or_else(|| Policy::not_found(id))?;
    collection::authorize(cx, Policy::GET, &policy.target(), || Policy::not_found(id))?;
    Ok(policy)
}

async fn rule(cx: &Cx, conn: &mut Conn, policy: &Policy) -> Result<Rule> {
    let (id, kind) = (cx.param("id"), kind_of(cx).0);
    let rules = qos::rules(conn, &[&policy.standard.id]).await?;
    rules.into_iter().find(|rule| rule.id == id && rule.kind == kind).ok_or_else(|| {
        let policy = &policy.standard.id;
        Error::not_found("QosRuleNotFound", format!("QoS rule {id} for policy {policy} could not be found."))
    })
}

/// `GET /qos/policies/{policy_id}/..._rules`
pub async fn list_rules(cx: &Cx) -> Result<Reply> {
    let (kind, singular) = kind_of(cx);
    let mut tx = cx.db().begin().await?;
    let policy = policy(cx, &mut tx).await?;
    let rules = qos::rules(&mut tx, &[&policy.standard.id]).await?;
    let shapes: Vec<Shape> = rules.iter().filter(|rule| rule.kind == kind).map(rule_shape).collect();
    Reply::ok(&json!({ format!("{singular}s"): shapes }))
}

/// `GET /qos/policies/{policy_id}/..._rules/{id}`
pub async fn show_rule(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let policy = policy(cx, &mut tx).await?;
    let rule = rule(cx, &mut tx, &policy).await?;
    collection::one(cx, StatusCode::OK, kind_of(cx).1, rule_shape(&rule))
}

/// `POST /qos/policies/{policy_id}/..._rules`
pub async fn create_rule(cx: &Cx) -> Result<Reply> {
    let (kind, singular) = kind_of(cx);
    let mut tx = cx.db().begin().await?;
    let mut policy = policy(cx, &mut tx).await?;
    let body = collection::input::<RuleBody>(cx, Names { singular, plural: "" })?.body;
    let rule = Rule {
        id: model::id::random_uuid().to_string(),
        policy_id: policy.standard.id.clone(),
        kind: kind.to_owned(),
        direction: "egress".to_owned(),
        kbps: 0,
        burst_kb: 0,
        dscp_mark: if kind == DSCP_MARKING { -1 } else { 0 },
    };
    let rule = filled(rule, &body)?;
    qos::put_rule(&mut tx, &mut policy, &rule).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, singular, rule_shape(&rule))
}

/// `PUT /qos/policies/{policy_id}/..._rules/{id}`
pub async fn update_rule(cx: &Cx) -> Result<Reply> {
    let singular = kind_of(cx).1;
    let mut tx = cx.db().begin().await?;
    let mut policy = policy(cx, &mut tx).await?;
    let rule = rule(cx, &mut tx, &policy).await?;
    let body = collection::input::<RuleBody>(cx, Names { singular, plural: "" })?.body;
    let rule = filled(rule, &body)?;
    qos::put_rule(&mut tx, &mut policy, &rule).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, singular, rule_shape(&rule))
}

/// `DELETE /qos/policies/{policy_id}/..._rules/{id}`
pub async fn delete_rule(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut policy = policy(cx, &mut tx).await?;
    let rule = rule(cx, &mut tx, &policy).await?;
    qos::remove_rule(&mut tx, &mut policy, &rule.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `GET /qos/rule-types`: what the network's driver makes true.
pub async fn list_types(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let types: Vec<Value> =
        [BANDWIDTH_LIMIT, DSCP_MARKING, MINIMUM_BANDWIDTH].iter().map(|kind| json!({ "type": kind })).collect();
    Reply::ok(&json!({ "rule_types": types }))
}

/// A policy that a port or network is to have must be one that the caller may see.
///
/// # Errors
/// `QosPolicyNotFound`.
pub async fn expect_visible(cx: &Cx, tx: &mut Tx, id: Option<&str>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    let policy: Option<Policy> = plain::lock(tx, id).await?;
    policy.filter(|policy| cx.can(Policy::GET, &policy.target())).map(drop).ok_or_else(|| Policy::not_found(id))
}
