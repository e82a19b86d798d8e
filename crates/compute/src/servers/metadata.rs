//! `/servers/{id}/metadata`.

use std::collections::BTreeMap;

use model::{Error, Result};
use serde_json::json;
use store::{
    Tx,
    compute::{
        default_quota, server_labels,
        servers::{self, Server},
    },
    flows, quotas,
};
use web::{Cx, Reply};

use super::{api, create, logic, logic::legal};
use crate::input::invalid;

type Metadata = BTreeMap<String, String>;

/// `GET`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    Reply::ok(&json!({"metadata": server_labels::metadata(&mut conn, &server.id).await?}))
}

/// `GET .../{key}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    let key = cx.param("key");
    let metadata = server_labels::metadata(&mut conn, &server.id).await?;
    let value = metadata.get(key).ok_or_else(no_such_item)?;
    Reply::ok(&json!({"meta": {key: value}}))
}

fn no_such_item() -> Error {
    Error::not_found("InstanceMetadataNotFound", "Metadata item was not found")
}

/// `POST`: adds and replaces items.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let given: Metadata = cx.json_in("metadata")?;
    let all = change(cx, |all| {
        all.extend(given);
        Ok(())
    })
    .await?;
    Reply::ok(&json!({ "metadata": all }))
}

/// `PUT`: replaces all items.
pub async fn update_all(cx: &Cx) -> Result<Reply> {
    let given: Metadata = cx.json_in("metadata")?;
    let all = change(cx, |all| {
        *all = given;
        Ok(())
    })
    .await?;
    Reply::ok(&json!({ "metadata": all }))
}

/// `PUT .../{key}`: sets one item.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let given: Metadata = cx.json_in("meta")?;
    let key = cx.param("key");
    let Some(value) = given.get(key).filter(|_| given.len() == 1).cloned() else {
        return Err(if given.len() == 1 {
            Error::bad_request("InvalidInput", "Request body and URI mismatch")
        } else {
            invalid("Request body contains too many items or none")
        });
    };
    change(cx, |all| {
        all.insert(key.to_owned(), value);
        Ok(())
    })
    .await?;
    Reply::ok(&json!({ "meta": given }))
}

/// `DELETE .../{key}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    change(cx, |all| all.remove(cx.param("key")).map(|_| ()).ok_or_else(no_such_item)).await?;
    Ok(Reply::no_content())
}

/// Changes the items; guests read them anew.
async fn change(cx: &Cx, how: impl FnOnce(&mut Metadata) -> Result<()>) -> Result<Metadata> {
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal::METADATA)?;
    let mut all = server_labels::metadata(&mut tx, &server.id).await?;
    how(&mut all)?;
    let limit = quotas::limit(&mut tx, &server.project_id, "metadata_items").await?;
    create::check_metadata(&all, limit.unwrap_or_else(|| default_quota("metadata_items")))?;
    server_labels::set_metadata(&mut tx, &server.id, &all).await?;
    touch(&mut tx, &mut server).await?;
    tx.commit().await?;
    Ok(all)
}

async fn touch(tx: &mut Tx, server: &mut Server) -> Result<()> {
    server.updated_at = tx.now();
    servers::update(tx, server).await?;
    flows::wake(tx, &server.id);
    Ok(())
}
