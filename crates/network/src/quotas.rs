//! Quotas of a project: limits, defaults, usage. Counting happens in `store`, with each resource.

use std::collections::BTreeMap;

use model::{Error, Result, id::ProjectId, quota::UNLIMITED};
use serde_json::{Value, json};
use store::{Conn, network::QUOTAS};
use web::{Cx, Reply, StatusCode, Target};

use crate::collection::{self, Shape, invalid};

/// Largest limit that Neutron takes.
const LIMIT_MAX: i64 = i32::MAX as i64;

/// `GET /quotas`: projects that have limits of their own.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let mut quotas = Vec::new();
    for project in store::network::projects_with_limits(&mut conn).await? {
        let mut shape = limits(&mut conn, &project).await?;
        shape.insert("project_id".into(), project.as_str().into());
        shape.insert("tenant_id".into(), project.as_str().into());
        quotas.push(shape);
    }
    Reply::ok(&json!({ "quotas": quotas }))
}

/// `GET /quotas/{project_id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let project = authorized(cx)?;
    let limits = limits(&mut *cx.db().read().await?, &project).await?;
    collection::one(cx, StatusCode::OK, "quota", limits)
}

/// `GET /quotas/{project_id}/default`
pub async fn show_default(cx: &Cx) -> Result<Reply> {
    authorized(cx)?;
    let limits = limits(&mut *cx.db().read().await?, &ProjectId::new("")).await?;
    collection::one(cx, StatusCode::OK, "quota", limits)
}

/// `GET /quotas/{project_id}/details`
pub async fn show_details(cx: &Cx) -> Result<Reply> {
    let project = authorized(cx)?;
    let mut conn = cx.db().read().await?;
    let limits = limits(&mut conn, &project).await?;
    let used: BTreeMap<String, i64> = store::quotas::usages(&mut conn, &project).await?.into_iter().collect();
    let detail = |(name, limit): (String, Value)| {
        let used = used.get(&name).copied().unwrap_or(0);
        (name, json!({"limit": limit, "used": used, "reserved": 0}))
    };
    collection::one(cx, StatusCode::OK, "quota", limits.into_iter().map(detail).collect())
}

/// `PUT /quotas/{project_id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let project = authorized(cx)?;
    let mut body: Shape = cx.json_in("quota")?;
    let check = [body.remove("check_limit"), body.remove("force").map(|force| json!(force == json!(false)))];
    let check = check.iter().flatten().any(|flag| *flag == json!(true));
    for own in ["project_id", "tenant_id"] {
        body.remove(own);
    }
    let mut tx = cx.db().begin().await?;
    for (name, value) in &body {
        let (resource, _) = QUOTAS
            .iter()
            .find(|(known, _)| known == name)
            .ok_or_else(|| Error::bad_request("HTTPBadRequest", format!("Unrecognized attribute(s) '{name}'")))?;
        let limit = limit(name, value)?;
        let used = store::quotas::used(&mut tx, &project, resource).await?;
        if check && limit != UNLIMITED && used > limit {
            return Err(invalid(format!("Quota limit {limit} of {name} is below the {used} in use")));
        }
        store::quotas::set_limit(&mut tx, &project, resource, limit).await?;
    }
    let limits = limits(&mut tx, &project).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, "quota", limits)
}

fn limit(name: &str, value: &Value) -> Result<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|limit| (UNLIMITED..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
        Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for {name}. Reason: '{value}' is not an integer from -1 to {LIMIT_MAX}."),
        )
    })
}

/// `DELETE /quotas/{project_id}`: the defaults hold again.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let project = authorized(cx)?;
    let names: Vec<&str> = QUOTAS.iter().map(|(name, _)| *name).collect();
    let mut tx = cx.db().begin().await?;
    store::quotas::reset_limits(&mut tx, &project, &names).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn authorized(cx: &Cx) -> Result<ProjectId> {
    let project = ProjectId::new(cx.param("project_id"));
    cx.authorize(&Target::project(&project))?;
    Ok(project)
}

/// The limits in force; those of an empty project are the defaults.
async fn limits(conn: &mut Conn, project: &ProjectId) -> Result<Shape> {
    let set: BTreeMap<String, i64> = store::quotas::limits(conn, project).await?.into_iter().collect();
    let limit =
        |(name, default): &(&str, i64)| ((*name).to_owned(), set.get(*name).copied().unwrap_or(*default).into());
    Ok(QUOTAS.iter().map(limit).collect())
}
