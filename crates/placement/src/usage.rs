//! Usages: of a provider, and of a project.

use std::collections::BTreeMap;

use model::{Error, Result, id::ProjectId};
use serde_json::{Map, Value, json};
use store::placement;
use web::{Cx, Reply, Target, Version};

use crate::provider::{find, fresh};

/// `GET /resource_providers/{uuid}/usages`.
pub(crate) async fn of_provider(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    let usages: Map<String, Value> =
        found.inventories.iter().map(|(class, i)| (class.clone(), json!(i.used))).collect();
    Ok(fresh(cx, Reply::ok(&json!({"resource_provider_generation": found.generation, "usages": usages}))?))
}

/// `GET /usages?project_id=...`.
pub(crate) async fn of_project(cx: &Cx) -> Result<Reply> {
    let project = cx.query.get("project_id").ok_or_else(|| {
        Error::bad_request("placement.query.missing_value", "Required query parameter 'project_id' is missing.")
    })?;
    cx.authorize(&Target::project(ProjectId::new(project)))?;
    let (user, kind) = (cx.query.get("user_id"), cx.query.get("consumer_type"));
    let mut conn = cx.db().read().await?;
    let rows = placement::usages_in(&mut conn, project, user).await?;
    if cx.version < Version(1, 38) {
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for (_, class, used) in rows {
            *sums.entry(class).or_default() += used;
        }
        return Ok(fresh(cx, Reply::ok(&json!({"usages": sums}))?));
    }
    let mut sums: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    let group = |of: &str| if kind == Some("all") { "all".to_owned() } else { of.to_owned() };
    let wanted = |of: &str| kind.is_none_or(|kind| kind == "all" || kind == of);
    for (of, class, used) in rows.into_iter().filter(|(of, ..)| wanted(of)) {
        *sums.entry(group(&of)).or_default().entry(class).or_default() += used;
    }
    for consumer in placement::consumers_in(&mut conn, project, user).await?.iter().filter(|c| wanted(&c.kind)) {
        *sums.entry(group(&consumer.kind)).or_default().entry("consumer_count".to_owned()).or_default() += 1;
    }
    Ok(fresh(cx, Reply::ok(&json!({"usages": sums}))?))
}
