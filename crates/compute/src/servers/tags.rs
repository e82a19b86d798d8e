//! `/servers/{id}/tags`, from 2.26 on.

use model::{Error, Result};
use serde_json::json;
use store::compute::{server_labels, servers};
use web::{Cx, Reply, StatusCode};

use super::{api, create, logic, logic::legal};

/// `GET`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    Reply::ok(&json!({"tags": server_labels::tags(&mut conn, &server.id).await?}))
}

/// `GET .../{tag}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    let tag = cx.param("tag");
    if server_labels::tags(&mut conn, &server.id).await?.iter().any(|t| t == tag) {
        return Ok(Reply::no_content());
    }
    Err(not_found(server.id.as_str(), tag))
}

fn not_found(server: &str, tag: &str) -> Error {
    Error::not_found("InstanceTagNotFound", format!("Server {server} has no tag '{tag}'"))
}

/// `PUT .../{tag}`.
pub async fn add(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("tag").to_owned();
    let location = cx.self_url();
    let mut is_new = false;
    change(cx, |tags| {
        is_new = !tags.contains(&tag);
        if is_new {
            tags.push(tag);
        }
        Ok(())
    })
    .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok(Reply::empty(status).with("location", location))
}

/// `PUT`: replaces all.
pub async fn replace(cx: &Cx) -> Result<Reply> {
    let given: Vec<String> = cx.json_in("tags")?;
    let tags = change(cx, |tags| {
        *tags = given;
        Ok(())
    })
    .await?;
    Reply::ok(&json!({ "tags": tags }))
}

/// `DELETE .../{tag}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("tag");
    change(cx, |tags| {
        let before = tags.len();
        tags.retain(|t| t != tag);
        if tags.len() < before { Ok(()) } else { Err(not_found(cx.param("id"), tag)) }
    })
    .await?;
    Ok(Reply::no_content())
}

/// `DELETE`.
pub async fn delete_all(cx: &Cx) -> Result<Reply> {
    change(cx, |tags| {
        tags.clear();
        Ok(())
    })
    .await?;
    Ok(Reply::no_content())
}

async fn change(cx: &Cx, how: impl FnOnce(&mut Vec<String>) -> Result<()>) -> Result<Vec<String>> {
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal::TAGS)?;
    let mut tags = server_labels::tags(&mut tx, &server.id).await?;
    how(&mut tags)?;
    tags.sort();
    tags.dedup();
    create::check_tags(&tags)?;
    server_labels::set_tags(&mut tx, &server.id, &tags).await?;
    server.updated_at = tx.now();
    servers::update(&mut tx, &server).await?;
    tx.commit().await?;
    Ok(tags)
}
