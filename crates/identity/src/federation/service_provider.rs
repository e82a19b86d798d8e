//! Service providers: other clouds that trust this one. Scoped tokens show those that are enabled.

use model::{Error, Result};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::federation::{self, ServiceProvider},
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use super::provider::id_of;
use crate::{
    State,
    wire::{self, Fields},
};

/// What relay states begin with where nothing else is said.
const RELAY_STATE_PREFIX: &str = "ss:mem:";
const URL_CHARS_MAX: usize = 256;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("id", "t.id"), Filter::flag("enabled", "t.enabled")],
};

/// `GET /v3/OS-FEDERATION/service_providers`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = federation::select_service_providers();
    LIST.filter(&cx.query, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = federation::list_service_providers(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "service_providers", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

/// `GET /v3/OS-FEDERATION/service_providers/{sp_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let provider = load(&mut *cx.db().read().await?, cx.param("sp_id")).await?;
    Reply::ok(&json!({ "service_provider": show(cx, &provider) }))
}

/// `PUT /v3/OS-FEDERATION/service_providers/{sp_id}`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "service_provider")?;
    let provider = ServiceProvider {
        id: id_of(cx.param("sp_id"))?,
        description: fields.nullable_text("description")?.flatten(),
        enabled: fields.flag("enabled")?.unwrap_or(false),
        auth_url: url(&mut fields, "auth_url")?.ok_or_else(|| wire::required("auth_url"))?,
        sp_url: url(&mut fields, "sp_url")?.ok_or_else(|| wire::required("sp_url"))?,
        relay_state_prefix: fields
            .nullable_text("relay_state_prefix")?
            .flatten()
            .unwrap_or_else(|| RELAY_STATE_PREFIX.to_owned()),
    };
    fields.nothing_else()?;
    let mut tx = state.begin().await?;
    federation::insert_service_provider(&mut tx, &provider)
        .await
        .map_err(wire::duplicate("service_provider", &provider.id))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "service_provider": show(cx, &provider) }))
}

/// `PATCH /v3/OS-FEDERATION/service_providers/{sp_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "service_provider")?;
    let mut tx = state.begin().await?;
    let mut provider = load(&mut tx, cx.param("sp_id")).await?;
    fields.unchanged("id", Some(provider.id.as_str()))?;
    provider.description = fields.nullable_text("description")?.unwrap_or(provider.description);
    provider.enabled = fields.flag("enabled")?.unwrap_or(provider.enabled);
    provider.auth_url = url(&mut fields, "auth_url")?.unwrap_or(provider.auth_url);
    provider.sp_url = url(&mut fields, "sp_url")?.unwrap_or(provider.sp_url);
    if let Some(prefix) = fields.nullable_text("relay_state_prefix")? {
        provider.relay_state_prefix = prefix.unwrap_or_else(|| RELAY_STATE_PREFIX.to_owned());
    }
    fields.nothing_else()?;
    federation::update_service_provider(&mut tx, &provider).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "service_provider": show(cx, &provider) }))
}

/// `DELETE /v3/OS-FEDERATION/service_providers/{sp_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let provider = load(&mut tx, cx.param("sp_id")).await?;
    federation::delete_service_provider(&mut tx, &provider.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn url(fields: &mut Fields, field: &'static str) -> Result<Option<String>> {
    let Some(text) = fields.text(field)? else { return Ok(None) };
    let sound = text.len() <= URL_CHARS_MAX && (text.starts_with("https://") || text.starts_with("http://"));
    if !sound {
        let message = format!("{field} must be an http(s) address of {URL_CHARS_MAX} characters at the most.");
        return Err(Error::bad_request("ValidationError", message));
    }
    Ok(Some(text))
}

fn show(cx: &Cx, provider: &ServiceProvider) -> Value {
    json!({
        "id": provider.id, "description": provider.description, "enabled": provider.enabled,
        "auth_url": provider.auth_url, "sp_url": provider.sp_url, "relay_state_prefix": provider.relay_state_prefix,
        "links": { "self": wire::link(cx, "OS-FEDERATION/service_providers", &provider.id) },
    })
}

async fn load(conn: &mut Conn, id: &str) -> Result<ServiceProvider> {
    let found = federation::get_service_provider(conn, id).await?;
    found.ok_or_else(|| wire::not_found("ServiceProviderNotFound", "Service Provider", id))
}
