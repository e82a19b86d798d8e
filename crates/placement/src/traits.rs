//! Traits: what providers are like.

use std::collections::{BTreeMap, BTreeSet};

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn,
    placement::{self, Provider},
};
use web::{Cx, Reply, StatusCode, paging::parse_flag};

use crate::{
    names::{TRAITS, is_custom},
    provider::{UNDEFINED, authorize, bad, find, fresh, take_generation},
};

/// Every trait, and whether any provider has it.
async fn known(conn: &mut Conn) -> Result<BTreeMap<String, bool>> {
    let mut all: BTreeMap<String, bool> = TRAITS.iter().map(|name| ((*name).to_owned(), false)).collect();
    all.extend(placement::traits(conn).await?);
    Ok(all)
}

/// `GET /traits`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let all = known(&mut *cx.db().read().await?).await?;
    let by_name: Box<dyn Fn(&str) -> bool + Send> = match cx.query.get("name").map(|text| text.split_once(':')) {
        None => Box::new(|_| true),
        Some(Some(("in", names))) => {
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            Box::new(move |name| names.iter().any(|wanted| wanted == name))
        }
        Some(Some(("startswith", prefix))) => {
            let prefix = prefix.to_owned();
            Box::new(move |name| name.starts_with(&prefix))
        }
        Some(_) => {
            let text = "Badly formatted name parameter. Expected name query string parameter in form: \
                        ?name=[in|startswith]:[name1,name2|prefix].";
            return Err(Error::bad_request("placement.query.bad_value", text));
        }
    };
    let associated = match cx.query.get("associated") {
        None => None,
        Some(text) => {
            Some(parse_flag(text).ok_or_else(|| bad("The query parameter \"associated\" is true or false."))?)
        }
    };
    let found = all.iter().filter(|(name, used)| by_name(name) && associated.is_none_or(|wanted| wanted == **used));
    let names: Vec<&String> = found.map(|(name, _)| name).collect();
    Ok(fresh(cx, Reply::ok(&json!({"traits": names}))?))
}

fn missing(name: &str) -> Error {
    Error::not_found(UNDEFINED, format!("No such trait(s): {name}."))
}

/// `GET /traits/{name}`: whether it is there.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    if known(&mut *cx.db().read().await?).await?.contains_key(name) {
        return Ok(fresh(cx, Reply::no_content()));
    }
    Err(missing(name))
}

/// `PUT /traits/{name}`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    if !is_custom(name) {
        let text = "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \
                    \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"";
        return Err(bad(text));
    }
    let mut tx = cx.db().begin().await?;
    let is_there = placement::traits(&mut tx).await?.contains_key(name);
    placement::insert_trait(&mut tx, name).await?;
    tx.commit().await?;
    let status = if is_there { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    let location = format!("{}/traits/{name}", cx.service_url());
    Ok(fresh(cx, Reply::empty(status)).with("location", location))
}

/// `DELETE /traits/{name}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let name = cx.param("name");
    if TRAITS.contains(&name) {
        return Err(bad(format!("Cannot delete standard trait {name}.")));
    }
    let mut tx = cx.db().begin().await?;
    if placement::traits(&mut tx).await?.get(name) == Some(&true) {
        return Err(Error::conflict(UNDEFINED, format!("The trait {name} is in use by a resource provider.")));
    }
    if !placement::delete_trait(&mut tx, name).await? {
        return Err(missing(name));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn view(provider: &Provider) -> Value {
    json!({"traits": provider.traits, "resource_provider_generation": provider.generation})
}

/// `GET /resource_providers/{uuid}/traits`.
pub(crate) async fn of_provider(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    Ok(fresh(cx, Reply::ok(&view(&found))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    traits: BTreeSet<String>,
    resource_provider_generation: i64,
}

/// `PUT /resource_providers/{uuid}/traits`. What compute says of a host by a trait stays compute's.
pub(crate) async fn update_provider(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    let mut body: Body = cx.json()?;
    let all = known(&mut tx).await?;
    if let Some(odd) = body.traits.iter().find(|name| !all.contains_key(*name)) {
        return Err(bad(format!("No such trait {odd}.")));
    }
    take_generation(&mut tx, &found, body.resource_provider_generation).await?;
    if found.is_host {
        body.traits.remove("COMPUTE_STATUS_DISABLED");
    }
    // A custom trait stays known when the last provider loses it.
    for name in found.traits.iter().filter(|name| is_custom(name)) {
        placement::insert_trait(&mut tx, name).await?;
    }
    placement::set_traits(&mut tx, &found.id, &body.traits).await?;
    let now = find(cx, &mut tx).await?;
    tx.commit().await?;
    Ok(fresh(cx, Reply::ok(&view(&now))?))
}

/// `DELETE /resource_providers/{uuid}/traits`.
pub(crate) async fn delete_provider(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    take_generation(&mut tx, &found, found.generation).await?;
    for name in found.traits.iter().filter(|name| is_custom(name)) {
        placement::insert_trait(&mut tx, name).await?;
    }
    placement::set_traits(&mut tx, &found.id, &BTreeSet::new()).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
