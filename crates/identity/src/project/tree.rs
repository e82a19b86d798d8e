//! What stands above and below a project: showing it, and changing or removing it with the project.

use std::collections::HashSet;

use model::{Error, Result, id::ProjectId};
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    identity::{
        projects::{self, Project},
        revocations,
    },
    list::{Direction, Page},
};
use web::{Cx, Reply};

use super::{LIST, load_project, show};
use crate::{State, wire, wire::Fields};

/// Projects that are shown below one.
const SUBTREE_MAX: u32 = 10_000;

/// `PATCH /v3/projects/{project_id}/cascade`: enables or disables it with all that stands below it.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = load_project(cx).await?.id;
    let mut fields = Fields::of(cx, "project")?;
    let enabled = fields.flag("enabled")?.ok_or_else(|| wire::required("enabled"))?;
    fields
        .nothing_else()
        .map_err(|_| Error::bad_request("ValidationError", "Cascade update is only allowed for enabled attribute."))?;
    let mut tx = state.begin().await?;
    let mut project = projects::get(&mut tx, &id).await?.ok_or_else(|| super::missing(&id))?;
    wire::changeable("project", id.as_str(), &project.options)?;
    projects::enable_subtree(&mut tx, &id, enabled).await?;
    enable(&mut tx, &mut project, enabled).await?;
    projects::update(&mut tx, &project).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "project": show(cx, &project) }))
}

/// `DELETE /v3/projects/{project_id}/cascade`: with all that stands below it, once all of that is disabled.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let project = load_project(cx).await?;
    let mut tx = state.begin().await?;
    let below = projects::subtree(&mut tx, &project.id, u32::MAX).await?;
    if below.iter().any(|p| p.enabled) {
        let message = format!("Cannot delete project {} since its subtree contains enabled projects.", project.id);
        return Err(Error::forbidden("ForbiddenNotSecurity", message));
    }
    // Children before their parents.
    for gone in below.iter().rev().chain([&project]) {
        wire::deletable("project", gone.id.as_str(), &gone.options)?;
        projects::delete(&mut tx, &gone.id).await?;
        revocations::record(&mut tx, &[("project_id", gone.id.as_str())]).await?;
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// Enables or disables a project, where what stands above and below allows it. The row is written by the caller.
pub async fn enable(tx: &mut Tx, project: &mut Project, enabled: bool) -> Result<()> {
    if project.enabled && !enabled {
        if projects::subtree(tx, &project.id, u32::MAX).await?.iter().any(|p| p.enabled) {
            let message = format!("Cannot disable project {} since its subtree contains enabled projects.", project.id);
            return Err(Error::forbidden("ForbiddenNotSecurity", message));
        }
        project.generation += 1;
        revocations::record(tx, &[("project_id", project.id.as_str())]).await?;
    }
    if !project.enabled && enabled && !parents_are_enabled(tx, project).await? {
        let message = format!("Cannot enable project {} since it has disabled parents.", project.id);
        return Err(Error::forbidden("ForbiddenNotSecurity", message));
    }
    project.enabled = enabled;
    Ok(())
}

/// Whether it and all projects above it are enabled.
pub async fn is_enabled_upwards(conn: &mut Conn, project: &Project) -> Result<bool> {
    Ok(project.enabled && parents_are_enabled(conn, project).await?)
}

async fn parents_are_enabled(conn: &mut Conn, project: &Project) -> Result<bool> {
    Ok(parents(conn, &project.id).await?.iter().all(|parent| parent.enabled))
}

/// The projects above, nearest first; the domain is none of them.
async fn parents(conn: &mut Conn, id: &ProjectId) -> Result<Vec<Project>> {
    let mut found = Vec::new();
    for id in projects::above(conn, id).await? {
        found.extend(projects::get(conn, &ProjectId::new(id)).await?);
    }
    Ok(found)
}

/// Adds `parents` and `subtree` to a project's document, as the query asks.
pub async fn add_relatives(cx: &Cx, document: &mut Value) -> Result<()> {
    let asked = |name: &str| wire::is_asked(cx, name);
    for (list, ids) in [("parents_as_list", "parents_as_ids"), ("subtree_as_list", "subtree_as_ids")] {
        if asked(list) && asked(ids) {
            let message = format!("Cannot use {list} and {ids} query params at the same time.");
            return Err(Error::bad_request("ValidationError", message));
        }
    }
    let id = ProjectId::new(cx.param("project_id"));
    let mut conn = cx.db().read().await?;
    if asked("parents_as_list") || asked("parents_as_ids") {
        let above = parents(&mut conn, &id).await?;
        document["parents"] = if asked("parents_as_list") {
            as_list(cx, &mut conn, &above).await?
        } else {
            let top = projects::above(&mut conn, &id).await?.pop();
            above_as_ids(&above, top)
        };
    }
    if asked("subtree_as_list") || asked("subtree_as_ids") {
        let below = projects::subtree(&mut conn, &id, SUBTREE_MAX).await?;
        document["subtree"] = if asked("subtree_as_list") {
            as_list(cx, &mut conn, &below).await?
        } else {
            below_as_ids(id.as_str(), &below)
        };
    }
    Ok(())
}

/// As Keystone has it: only those in which the caller has a role.
async fn as_list(cx: &Cx, conn: &mut Conn, relatives: &[Project]) -> Result<Value> {
    let mut select = projects::select();
    projects::with_role_of(&mut select, &cx.caller.user());
    let ids: Vec<&str> = relatives.iter().map(|p| p.id.as_str()).collect();
    select.in_list(cx.db().dialect(), "t.id", &ids);
    let sorts = LIST.sorts.iter().take(1).map(|key| (*key, Direction::Ascending)).collect();
    let page = Page { limit: SUBTREE_MAX, marker: None, sorts, reverse: false };
    let own: HashSet<ProjectId> = projects::list(conn, select, &page).await?.into_iter().map(|p| p.id).collect();
    let shown = relatives.iter().filter(|p| own.contains(&p.id)).map(|p| json!({ "project": show(cx, p) }));
    Ok(Value::Array(shown.collect()))
}

/// `{"parent": {"its parent": {"the domain": null}}}`.
fn above_as_ids(above: &[Project], domain: Option<String>) -> Value {
    let ids: Vec<&str> = above.iter().map(|p| p.id.as_str()).chain(domain.as_deref()).collect();
    ids.into_iter().rev().fold(Value::Null, |inner, id| json!({ id: inner }))
}

/// `{"child": {"grandchild": null}}`; null where there is nothing below.
fn below_as_ids(id: &str, below: &[Project]) -> Value {
    let children = below.iter().filter(|p| p.parent_id.as_ref().is_some_and(|parent| parent.as_str() == id));
    let object: Map<String, Value> =
        children.map(|p| (p.id.as_str().to_owned(), below_as_ids(p.id.as_str(), below))).collect();
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}
