//! Quotas: how much of everything a project may have.
//!
//! Nova's names and default limits are `store::compute::QUOTAS`; usage is counted by `store::quotas` in the transactions
//! that change resources. Limits on networks were Nova's once: they are stored and shown to old clients, as Nova does,
//! and limit nothing; the network service has its own.

use std::collections::BTreeMap;

use model::{Error, Result, id::ProjectId, quota::UNLIMITED};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{Conn, compute::QUOTAS, compute::default_quota};
use web::{Cx, Reply, Target, Version};

use crate::input::{Flag, Whole, check_project, invalid, only_known};

/// Key pairs of a user.
pub const KEY_PAIRS: &str = "key_pairs";

/// Nova's limits on networks.
const OF_NETWORKS: [&str; 4] = ["fixed_ips", "floating_ips", "security_group_rules", "security_groups"];
const OF_FILES: [&str; 3] = ["injected_files", "injected_file_content_bytes", "injected_file_path_bytes"];
const OF_GROUPS: [&str; 2] = ["server_groups", "server_group_members"];
/// The one class that exists: what holds for projects without limits of their own.
const DEFAULT_CLASS: &str = "default";
const LIMIT_MAX: i64 = i32::MAX as i64;

/// A quota's limit and what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// At most; -1: any.
    pub limit: i64,
    /// Now.
    pub used: i64,
}

/// The limit that holds for a project.
///
/// # Errors
/// When the database fails.
pub async fn limit(conn: &mut Conn, project: &ProjectId, resource: &str) -> Result<i64> {
    Ok(store::quotas::limit(conn, project, resource).await?.unwrap_or(default_quota(resource)))
}

/// All quotas of a project.
///
/// # Errors
/// When the database fails.
pub async fn standings(conn: &mut Conn, project: &ProjectId) -> Result<BTreeMap<&'static str, Standing>> {
    let set: BTreeMap<String, i64> = store::quotas::limits(conn, project).await?.into_iter().collect();
    let used: BTreeMap<String, i64> = store::quotas::usages(conn, project).await?.into_iter().collect();
    let standing = |(name, default): (&'static str, i64)| {
        let limit = set.get(name).copied().unwrap_or(default);
        (name, Standing { limit, used: used.get(name).copied().unwrap_or(0) })
    };
    Ok(all().map(standing).collect())
}

/// `GET /v2.1/os-quota-sets/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let (project, standings) = project_and_standings(cx).await?;
    reply_of_project(cx, &project, &standings, |standing| json!(standing.limit))
}

/// `GET /v2.1/os-quota-sets/{id}/detail`.
pub async fn detail(cx: &Cx) -> Result<Reply> {
    let (project, standings) = project_and_standings(cx).await?;
    let shape = |s: &Standing| json!({"limit": s.limit, "in_use": s.used, "reserved": 0});
    reply_of_project(cx, &project, &standings, shape)
}

/// `GET /v2.1/os-quota-sets/{id}/defaults`.
pub async fn defaults(cx: &Cx) -> Result<Reply> {
    let project = ProjectId::new(cx.param("id"));
    cx.authorize(&Target::project(&project))?;
    let mut conn = cx.db().read().await?;
    check_project(&mut conn, &project).await?;
    let standings = standings(&mut conn, &whole_cloud()).await?;
    reply_of_project(cx, &project, &standings, |standing| json!(standing.limit))
}

/// `PUT /v2.1/os-quota-sets/{id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        quota_set: BTreeMap<String, Value>,
    }
    let project = ProjectId::new(cx.param("id"));
    cx.authorize(&Target::project(&project))?;
    refuse_user(cx)?;
    let mut given = cx.json::<Body>()?.quota_set;
    let force = given.remove("force").map(serde_json::from_value::<Flag>).transpose();
    let force = force.map_err(|e| invalid(format!("Invalid input for force: {e}")))?.is_some_and(|flag| flag.0);
    let limits = new_limits(given, &hidden(cx.version, Version(2, 36)))?;
    let mut tx = cx.db().begin().await?;
    check_project(&mut tx, &project).await?;
    let before = standings(&mut tx, &project).await?;
    for (name, limit) in &limits {
        let used = before.get(name).map_or(0, |standing| standing.used);
        if !force && *limit != UNLIMITED && *limit < used {
            return Err(Error::bad_request(
                "QuotaLimit",
                format!(
                    "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {used}."
                ),
            ));
        }
        store::quotas::set_limit(&mut tx, &project, name, *limit).await?;
    }
    let after = standings(&mut tx, &project).await?;
    tx.commit().await?;
    let shown = shape(&after, &hidden(cx.version, Version(2, 36)), |standing| json!(standing.limit));
    Reply::ok(&json!({"quota_set": shown}))
}

/// `DELETE /v2.1/os-quota-sets/{id}`: the defaults hold again.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let project = ProjectId::new(cx.param("id"));
    cx.authorize(&Target::project(&project))?;
    refuse_user(cx)?;
    let names: Vec<&str> = all().map(|(name, _)| name).collect();
    let mut tx = cx.db().begin().await?;
    store::quotas::reset_limits(&mut tx, &project, &names).await?;
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `GET /v2.1/os-quota-class-sets/{id}`.
pub async fn show_class(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let class = cx.param("id");
    let mut shape = class_shape(cx, &standings(&mut *cx.db().read().await?, &whole_cloud()).await?);
    shape.insert("id".to_owned(), json!(class));
    Reply::ok(&json!({"quota_class_set": shape}))
}

/// `PUT /v2.1/os-quota-class-sets/{id}`: what holds for projects without limits of their own.
pub async fn update_class(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        quota_class_set: BTreeMap<String, Value>,
    }
    cx.authorize(&Target::none())?;
    if cx.param("id") != DEFAULT_CLASS {
        return Err(invalid(format!("Only the quota class {DEFAULT_CLASS:?} has an effect.")));
    }
    let limits = new_limits(cx.json::<Body>()?.quota_class_set, &hidden(cx.version, Version(2, 50)))?;
    let mut tx = cx.db().begin().await?;
    for (name, limit) in &limits {
        store::quotas::set_limit(&mut tx, &whole_cloud(), name, *limit).await?;
    }
    let after = standings(&mut tx, &whole_cloud()).await?;
    tx.commit().await?;
    Reply::ok(&json!({"quota_class_set": class_shape(cx, &after)}))
}

async fn project_and_standings(cx: &Cx) -> Result<(ProjectId, BTreeMap<&'static str, Standing>)> {
    let project = ProjectId::new(cx.param("id"));
    cx.authorize(&Target::project(&project))?;
    refuse_user(cx)?;
    let mut conn = cx.db().read().await?;
    check_project(&mut conn, &project).await?;
    let standings = standings(&mut conn, &project).await?;
    Ok((project, standings))
}

/// Limits by user are not enforced by anything here, so nobody must believe that they are.
fn refuse_user(cx: &Cx) -> Result<()> {
    only_known(cx, Version(2, 75), &["user_id"])?;
    match cx.query.get("user_id") {
        Some(_) => Err(invalid("Quotas by user are not supported; set the project's.")),
        None => Ok(()),
    }
}

/// The cloud's own limits stand in the rows without a project.
fn whole_cloud() -> ProjectId {
    ProjectId::new("")
}

fn all() -> impl Iterator<Item = (&'static str, i64)> {
    QUOTAS.iter().copied().chain(OF_NETWORKS.map(|name| (name, UNLIMITED)))
}

/// What a microversion does not know any more: limits on networks from `networks_until` on, on files from 2.57 on.
pub fn hidden(version: Version, networks_until: Version) -> Vec<&'static str> {
    let mut hidden = Vec::new();
    if version >= networks_until {
        hidden.extend(OF_NETWORKS);
    }
    if version >= Version(2, 57) {
        hidden.extend(OF_FILES);
    }
    hidden
}

/// The limits that a request sets.
fn new_limits(given: BTreeMap<String, Value>, hidden: &[&str]) -> Result<Vec<(&'static str, i64)>> {
    let one = |(key, value): (String, Value)| {
        let known = all().map(|(name, _)| name).find(|name| *name == key && !hidden.contains(name));
        let name =
            known.ok_or_else(|| invalid(format!("Additional properties are not allowed ('{key}' was unexpected)")))?;
        let limit: Whole =
            serde_json::from_value(value).map_err(|e| invalid(format!("Invalid input for {name}: {e}")))?;
        if (UNLIMITED..=LIMIT_MAX).contains(&limit.0) {
            return Ok((name, limit.0));
        }
        Err(invalid(format!("Invalid input for {name}: {} is not between -1 and {LIMIT_MAX}.", limit.0)))
    };
    given.into_iter().map(one).collect()
}

fn shape(
    standings: &BTreeMap<&'static str, Standing>,
    hidden: &[&str],
    one: impl Fn(&Standing) -> Value,
) -> Map<String, Value> {
    let shown = standings.iter().filter(|(name, _)| !hidden.contains(*name));
    shown.map(|(name, standing)| ((*name).to_owned(), one(standing))).collect()
}

fn reply_of_project(
    cx: &Cx,
    project: &ProjectId,
    standings: &BTreeMap<&'static str, Standing>,
    one: impl Fn(&Standing) -> Value,
) -> Result<Reply> {
    let mut shape = shape(standings, &hidden(cx.version, Version(2, 36)), one);
    shape.insert("id".to_owned(), json!(project));
    Reply::ok(&json!({"quota_set": shape}))
}

/// Classes lost networks in 2.50 and got server groups only then.
fn class_shape(cx: &Cx, standings: &BTreeMap<&'static str, Standing>) -> Map<String, Value> {
    let mut hidden = hidden(cx.version, Version(2, 50));
    if cx.version < Version(2, 50) {
        hidden.extend(OF_GROUPS);
    }
    shape(standings, &hidden, |standing| json!(standing.limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_set() {
        let set = |key: &str, value: Value, minor| {
            let hidden = hidden(Version(2, minor), Version(2, 36));
            new_limits(BTreeMap::from([(key.to_owned(), value)]), &hidden).map(|limits| limits[0].1)
        };
        assert_eq!(set("cores", json!(5), 1).unwrap(), 5);
        assert_eq!(set("ram", json!("-1"), 100).unwrap(), -1);
        assert_eq!(set("floating_ips", json!(3), 35).unwrap(), 3);
        for (key, value, minor) in [
            ("cores", json!(-2), 1),
            ("cores", json!("many"), 1),
            ("cores", json!(4_294_967_296_i64), 1),
            ("floating_ips", json!(3), 36),
            ("injected_files", json!(3), 57),
            ("gold", json!(3), 1),
        ] {
            assert!(set(key, value, minor).is_err(), "{key} in 2.{minor}");
        }
    }
}
