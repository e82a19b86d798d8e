//! Resource classes: what can be had of providers.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Conn, placement};
use web::{Cx, Reply, StatusCode};

use crate::{
    names::{CLASSES, is_custom},
    provider::{UNDEFINED, authorize, bad, fresh},
};

/// Whether there is such a class.
pub(crate) async fn exists(conn: &mut Conn, name: &str) -> Result<bool> {
    Ok(CLASSES.contains(&name) || placement::classes(conn).await?.contains(name))
}

fn view(name: &str) -> Value {
    json!({"name": name, "links": [{"rel": "self", "href": format!("/placement/resource_classes/{name}")}]})
}

fn missing(name: &str) -> Error {
    Error::not_found(UNDEFINED, format!("No such resource class {name}."))
}

/// `GET /resource_classes`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let custom = placement::classes(&mut *cx.db().read().await?).await?;
    let all: Vec<Value> = CLASSES.iter().copied().chain(custom.iter().map(String::as_str)).map(view).collect();
    Ok(fresh(cx, Reply::ok(&json!({"resource_classes": all}))?))
}

/// `GET /resource_classes/{name}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    if !exists(&mut *cx.db().read().await?, name).await? {
        return Err(missing(name));
    }
    Ok(fresh(cx, Reply::ok(&view(name))?))
}

fn check(name: &str) -> Result<()> {
    if is_custom(name) {
        return Ok(());
    }
    Err(bad(format!("JSON does not validate: {name} is not CUSTOM_ with capitals, digits and underscores after it.")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
}

/// `POST /resource_classes`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let body: Body = cx.json()?;
    check(&body.name)?;
    let mut tx = cx.db().begin().await?;
    if !placement::insert_class(&mut tx, &body.name).await? {
        let text = format!("Conflicting resource class already exists: {}", body.name);
        return Err(Error::conflict("placement.duplicate_name", text));
    }
    tx.commit().await?;
    Ok(Reply::empty(StatusCode::CREATED).with("location", location(cx, &body.name)))
}

fn location(cx: &Cx, name: &str) -> String {
    format!("{}/resource_classes/{name}", cx.service_url())
}

/// `PUT /resource_classes/{name}`: makes it where there is none.
pub(crate) async fn ensure(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    check(name)?;
    let mut tx = cx.db().begin().await?;
    let made = placement::insert_class(&mut tx, name).await?;
    tx.commit().await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok(Reply::empty(status).with("location", location(cx, name)))
}

/// `DELETE /resource_classes/{name}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    if CLASSES.contains(&name) {
        return Err(bad(format!("Cannot delete standard resource class {name}.")));
    }
    let mut tx = cx.db().begin().await?;
    if placement::class_is_used(&mut tx, name).await? {
        let text = format!("Cannot delete resource class {name}: Class is in use in inventory.");
        return Err(Error::conflict(UNDEFINED, text));
    }
    if !placement::delete_class(&mut tx, name).await? {
        return Err(missing(name));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}
