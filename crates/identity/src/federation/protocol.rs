//! Protocols: each a way in through an identity provider, with the mapping that it goes by.

use model::{Error, Result};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::federation::{self, Protocol},
    list::{Direction, SortKey, Type},
};
use web::{Cx, Reply, Target, paging::ListSpec};

use super::{
    mapping,
    provider::{self, COLLECTION, id_of},
};
use crate::{
    State,
    wire::{self, Fields},
};

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[],
};

/// `GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let provider = provider::load(&mut conn, cx.param("idp_id")).await?;
    // A provider has a handful: one page holds them.
    let mut page = LIST.page(&cx.query)?;
    page.marker = None;
    let found = federation::list_protocols(&mut conn, federation::select_protocols(&provider.id), &page).await?;
    wire::collection(cx, "protocols", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

/// `GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let protocol = load(&mut *cx.db().read().await?, cx.param("idp_id"), cx.param("protocol_id")).await?;
    Reply::ok(&json!({ "protocol": show(cx, &protocol) }))
}

/// `PUT /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "protocol")?;
    let mut tx = state.begin().await?;
    let provider = provider::load(&mut tx, cx.param("idp_id")).await?;
    let protocol = Protocol {
        idp_id: provider.id,
        id: id_of(cx.param("protocol_id"))?,
        mapping_id: fields.text("mapping_id")?.ok_or_else(|| wire::required("mapping_id"))?,
        remote_id_attribute: fields.nullable_text("remote_id_attribute")?.flatten(),
    };
    fields.nothing_else()?;
    check_mapping(&mut tx, &protocol).await?;
    federation::insert_protocol(&mut tx, &protocol)
        .await
        .map_err(wire::duplicate("federation_protocol", &protocol.id))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "protocol": show(cx, &protocol) }))
}

/// `PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "protocol")?;
    let mut tx = state.begin().await?;
    let mut protocol = load(&mut tx, cx.param("idp_id"), cx.param("protocol_id")).await?;
    fields.unchanged("id", Some(protocol.id.as_str()))?;
    protocol.mapping_id = fields.text("mapping_id")?.unwrap_or(protocol.mapping_id);
    protocol.remote_id_attribute = fields.nullable_text("remote_id_attribute")?.unwrap_or(protocol.remote_id_attribute);
    fields.nothing_else()?;
    check_mapping(&mut tx, &protocol).await?;
    federation::update_protocol(&mut tx, &protocol).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "protocol": show(cx, &protocol) }))
}

/// `DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let protocol = load(&mut tx, cx.param("idp_id"), cx.param("protocol_id")).await?;
    federation::delete_protocol(&mut tx, &protocol.idp_id, &protocol.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// A protocol's mapping must be there.
async fn check_mapping(conn: &mut Conn, protocol: &Protocol) -> Result<()> {
    if federation::get_mapping(conn, &protocol.mapping_id).await?.is_none() {
        let message = format!("Could not find mapping: {}.", protocol.mapping_id);
        return Err(Error::bad_request("ValidationError", message));
    }
    Ok(())
}

fn show(cx: &Cx, protocol: &Protocol) -> Value {
    let provider = wire::link(cx, COLLECTION, &protocol.idp_id);
    json!({
        "id": protocol.id, "mapping_id": protocol.mapping_id, "remote_id_attribute": protocol.remote_id_attribute,
        "links": { "self": format!("{provider}/protocols/{}", protocol.id), "identity_provider": provider },
    })
}

/// One, by its provider's and its own id.
///
/// # Errors
/// Not found.
pub async fn load(conn: &mut Conn, idp_id: &str, id: &str) -> Result<Protocol> {
    let found = federation::get_protocol(conn, idp_id, id).await?;
    found.ok_or_else(|| wire::not_found("FederatedProtocolNotFound", "federated protocol", id))
}

/// The mapping of a protocol, ready to apply.
///
/// # Errors
/// Not found.
pub async fn mapping_of(conn: &mut Conn, protocol: &Protocol) -> Result<super::logic::Mapping> {
    let mapping = mapping::load(conn, &protocol.mapping_id).await?;
    super::logic::Mapping::parse(&mapping.rules, &mapping.schema_version)
}
