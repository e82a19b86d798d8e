//! Mappings: who a provider's users are here.

use model::{Error, Result};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::federation::{self, Mapping},
    list::{Direction, SortKey, Type},
};
use web::{Cx, Reply, Target, paging::ListSpec};

use super::{logic, provider::id_of};
use crate::{
    State,
    wire::{self, Fields},
};

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[],
};

/// `GET /v3/OS-FEDERATION/mappings`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let page = LIST.page(&cx.query)?;
    let select = federation::select_mappings();
    let found = federation::list_mappings(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "mappings", &page, &found, |m| (m.id.as_str(), show(cx, m)))
}

/// `GET /v3/OS-FEDERATION/mappings/{mapping_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mapping = load(&mut *cx.db().read().await?, cx.param("mapping_id")).await?;
    Reply::ok(&json!({ "mapping": show(cx, &mapping) }))
}

/// `PUT /v3/OS-FEDERATION/mappings/{mapping_id}`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "mapping")?;
    let mapping = Mapping {
        id: id_of(cx.param("mapping_id"))?,
        rules: fields.value("rules").ok_or_else(|| wire::required("rules"))?,
        schema_version: fields.text("schema_version")?.unwrap_or_else(|| "1.0".to_owned()),
    };
    fields.nothing_else()?;
    logic::Mapping::parse(&mapping.rules, &mapping.schema_version)?;
    let mut tx = state.begin().await?;
    federation::insert_mapping(&mut tx, &mapping).await.map_err(wire::duplicate("mapping", &mapping.id))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "mapping": show(cx, &mapping) }))
}

/// `PATCH /v3/OS-FEDERATION/mappings/{mapping_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "mapping")?;
    let mut tx = state.begin().await?;
    let mut mapping = load(&mut tx, cx.param("mapping_id")).await?;
    fields.unchanged("id", Some(mapping.id.as_str()))?;
    mapping.rules = fields.value("rules").unwrap_or(mapping.rules);
    mapping.schema_version = fields.text("schema_version")?.unwrap_or(mapping.schema_version);
    fields.nothing_else()?;
    logic::Mapping::parse(&mapping.rules, &mapping.schema_version)?;
    federation::update_mapping(&mut tx, &mapping).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "mapping": show(cx, &mapping) }))
}

/// `DELETE /v3/OS-FEDERATION/mappings/{mapping_id}`: not while a protocol uses it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let mapping = load(&mut tx, cx.param("mapping_id")).await?;
    if federation::mapping_is_used(&mut tx, &mapping.id).await? {
        let message = "A protocol uses this mapping: give the protocol another one, or delete it, first.";
        return Err(Error::conflict("Conflict", message));
    }
    federation::delete_mapping(&mut tx, &mapping.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn show(cx: &Cx, mapping: &Mapping) -> Value {
    json!({
        "id": mapping.id, "rules": mapping.rules, "schema_version": mapping.schema_version,
        "links": { "self": wire::link(cx, "OS-FEDERATION/mappings", &mapping.id) },
    })
}

/// One, by id.
///
/// # Errors
/// Not found.
pub async fn load(conn: &mut Conn, id: &str) -> Result<Mapping> {
    let found = federation::get_mapping(conn, id).await?;
    found.ok_or_else(|| wire::not_found("MappingNotFound", "mapping", id))
}
