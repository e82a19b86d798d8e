//! `os-extra_specs` of a flavor: words for the scheduler and the hypervisor.

use std::collections::BTreeMap;

use model::{Error, Result, id::FlavorId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::compute::flavors;
use web::{Cx, Reply, Target};

use super::{find, logic, not_found};
use crate::input::invalid;

/// `GET /v2.1/flavors/{id}/os-extra_specs`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize_own_project()?;
    let flavor = find(cx, &mut *cx.db().read().await?, cx.param("id")).await?;
    Reply::ok(&json!({"extra_specs": flavor.extra_specs}))
}

/// `GET /v2.1/flavors/{id}/os-extra_specs/{key}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize_own_project()?;
    let flavor = find(cx, &mut *cx.db().read().await?, cx.param("id")).await?;
    let key = cx.param("key");
    let value = flavor.extra_specs.get(key).ok_or_else(|| no_such_key(&flavor.id, key))?;
    Reply::ok(&json!({ key: value }))
}

/// `POST /v2.1/flavors/{id}/os-extra_specs`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        extra_specs: BTreeMap<String, Value>,
    }
    cx.authorize(&Target::none())?;
    let specs = logic::specs(cx.json::<Body>()?.extra_specs)?;
    change(cx, |held| {
        held.extend(specs.clone());
        Ok(())
    })
    .await?;
    Reply::ok(&json!({"extra_specs": specs}))
}

/// `PUT /v2.1/flavors/{id}/os-extra_specs/{key}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let specs = logic::specs(cx.json()?)?;
    if specs.len() != 1 {
        return Err(invalid("The body holds the one extra spec that the path names."));
    }
    if !specs.contains_key(cx.param("key")) {
        return Err(invalid("Request body and URI mismatch"));
    }
    change(cx, |held| {
        held.extend(specs.clone());
        Ok(())
    })
    .await?;
    Reply::ok(&specs)
}

/// `DELETE /v2.1/flavors/{id}/os-extra_specs/{key}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let key = cx.param("key");
    let id = FlavorId::new(cx.param("id"));
    change(cx, |held| held.remove(key).map(drop).ok_or_else(|| no_such_key(&id, key))).await?;
    Ok(Reply::empty(web::StatusCode::OK))
}

/// Changes the specs under a lock: two requests that each add one must not lose the other's.
async fn change(cx: &Cx, change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<()>) -> Result<()> {
    let id = FlavorId::new(cx.param("id"));
    let mut tx = cx.db().begin().await?;
    let mut flavor = flavors::get_for_update(&mut tx, &id).await?.ok_or_else(|| not_found(&id))?;
    change(&mut flavor.extra_specs)?;
    flavors::update(&mut tx, &flavor).await?;
    Ok(tx.commit().await?)
}

fn no_such_key(id: &FlavorId, key: &str) -> Error {
    Error::not_found("FlavorExtraSpecsNotFound", format!("Flavor {id} has no extra specs with key {key}."))
}
