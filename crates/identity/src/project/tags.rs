//! A project's tags, each by itself.

use model::{Error, Result, id::ProjectId};
use serde_json::{Value, json};
use store::identity::{domains, projects};
use web::{Cx, Reply, StatusCode};

use super::{Found, load};
use crate::{State, wire};

/// `GET /v3/projects/{project_id}/tags`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let found = load(cx).await?;
    show(cx, tags_of(&found))
}

/// `GET` and `HEAD /v3/projects/{project_id}/tags/{value}`.
pub async fn check(cx: &Cx) -> Result<Reply> {
    let found = load(cx).await?;
    let tag = cx.param("value");
    if tags_of(&found).iter().any(|t| t == tag) { Ok(Reply::no_content()) } else { Err(missing(tag)) }
}

/// `PUT /v3/projects/{project_id}/tags`: these and no others.
pub async fn replace(cx: &Cx) -> Result<Reply> {
    let body: Value = cx.json()?;
    let given = body.get("tags").cloned().ok_or_else(|| wire::required("tags"))?;
    let wanted = wire::tags(given)?;
    let tags = change(cx, |tags| {
        *tags = wanted;
        Ok(())
    })
    .await?;
    show(cx, &tags)
}

/// `PUT /v3/projects/{project_id}/tags/{value}`.
pub async fn add(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("value").to_owned();
    change(cx, |tags| {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        wire::tags(json!(tags)).map(|_| ())
    })
    .await?;
    Ok(Reply::empty(StatusCode::CREATED).with("location", cx.self_url()))
}

/// `DELETE /v3/projects/{project_id}/tags`.
pub async fn clear(cx: &Cx) -> Result<Reply> {
    change(cx, |tags| {
        tags.clear();
        Ok(())
    })
    .await?;
    Ok(Reply::no_content())
}

/// `DELETE /v3/projects/{project_id}/tags/{value}`.
pub async fn remove(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("value").to_owned();
    change(cx, |tags| {
        let at = tags.iter().position(|t| *t == tag).ok_or_else(|| missing(&tag))?;
        tags.remove(at);
        Ok(())
    })
    .await?;
    Ok(Reply::no_content())
}

fn tags_of(found: &Found) -> &Vec<String> {
    match found {
        Found::Project(project) => &project.tags,
        Found::Domain(domain) => &domain.tags,
    }
}

fn show(cx: &Cx, tags: &[String]) -> Result<Reply> {
    Reply::ok(&json!({ "tags": tags, "links": { "self": cx.self_url() } }))
}

/// Changes the tags of the path's project, or of the domain that acts as one; what they are then.
async fn change(cx: &Cx, how: impl FnOnce(&mut Vec<String>) -> Result<()>) -> Result<Vec<String>> {
    let state: &State = cx.state()?;
    let id: ProjectId = load(cx).await?.id();
    let mut tx = state.begin().await?;
    let tags = match super::find(&mut tx, &id).await?.ok_or_else(|| super::missing(&id))? {
        Found::Project(mut project) => {
            wire::changeable("project", id.as_str(), &project.options)?;
            how(&mut project.tags)?;
            projects::update(&mut tx, &project).await?;
            project.tags
        }
        Found::Domain(mut domain) => {
            wire::changeable("domain", id.as_str(), &domain.options)?;
            how(&mut domain.tags)?;
            domains::update(&mut tx, &domain).await?;
            domain.tags
        }
    };
    state.commit(tx).await?;
    Ok(tags)
}

fn missing(tag: &str) -> Error {
    wire::not_found("ProjectTagNotFound", "project tag", tag)
}
