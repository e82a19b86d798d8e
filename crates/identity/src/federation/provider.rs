//! Identity providers.

use model::{Error, Result, id::DomainId};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        Extra,
        domains::{self, Domain},
        federation::{self, IdentityProvider},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, domain,
    wire::{self, Fields},
};

/// Longest id of anything in federation.
const ID_CHARS_MAX: usize = 64;
const REMOTE_IDS_MAX: usize = 100;
const REMOTE_ID_CHARS_MAX: usize = 255;
/// The longest that groups may be kept: half a year.
const TTL_MINUTES_MAX: i64 = 183 * 24 * 60;
/// Where they are.
pub const COLLECTION: &str = "OS-FEDERATION/identity_providers";

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("id", "t.id"), Filter::flag("enabled", "t.enabled")],
};

/// `GET /v3/OS-FEDERATION/identity_providers`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = federation::select_providers();
    LIST.filter(&cx.query, &mut select)?;
    if let Some(remote_id) = cx.query.get("remote_id") {
        federation::with_remote_id(&mut select, remote_id);
    }
    let page = LIST.page(&cx.query)?;
    let found = federation::list_providers(&mut *cx.db().read().await?, cx.db().dialect(), select, &page).await?;
    wire::collection(cx, "identity_providers", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

/// `GET /v3/OS-FEDERATION/identity_providers/{idp_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let provider = load(&mut *cx.db().read().await?, cx.param("idp_id")).await?;
    Reply::ok(&json!({ "identity_provider": show(cx, &provider) }))
}

/// `PUT /v3/OS-FEDERATION/identity_providers/{idp_id}`: with a domain of its own where none is named.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "identity_provider")?;
    let domain_id = fields.nullable_text("domain_id")?.flatten().map(DomainId::new);
    let provider = IdentityProvider {
        id: id_of(cx.param("idp_id"))?,
        domain_id: domain_id.clone().unwrap_or_else(DomainId::random_hex),
        description: fields.nullable_text("description")?.flatten(),
        enabled: fields.flag("enabled")?.unwrap_or(false),
        authorization_ttl: ttl(fields.value("authorization_ttl"))?,
        remote_ids: remote_ids(fields.value("remote_ids"))?.unwrap_or_default(),
        created_at: cx.now(),
    };
    fields.nothing_else()?;
    let mut tx = state.begin().await?;
    match domain_id {
        Some(id) => drop(domains::get(&mut tx, &id).await?.ok_or_else(|| domain::missing(&id))?),
        None => domains::insert(&mut tx, &own_domain(cx, &provider)).await?,
    }
    federation::insert_provider(&mut tx, &provider).await.map_err(conflict(&provider))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "identity_provider": show(cx, &provider) }))
}

/// The domain of a provider that was made without one.
fn own_domain(cx: &Cx, provider: &IdentityProvider) -> Domain {
    Domain {
        id: provider.domain_id.clone(),
        name: provider.domain_id.as_str().to_owned(),
        description: format!("The users of identity provider {}.", provider.id),
        enabled: true,
        tags: Vec::new(),
        options: Extra::new(),
        extra: Extra::new(),
        created_at: cx.now(),
    }
}

/// `PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "identity_provider")?;
    let mut tx = state.begin().await?;
    let mut provider = load(&mut tx, cx.param("idp_id")).await?;
    fields.unchanged("id", Some(provider.id.as_str()))?;
    fields.unchanged("domain_id", Some(provider.domain_id.as_str()))?;
    let was_enabled = provider.enabled;
    provider.description = fields.nullable_text("description")?.unwrap_or(provider.description);
    provider.enabled = fields.flag("enabled")?.unwrap_or(was_enabled);
    if let Some(value) = fields.value("authorization_ttl") {
        provider.authorization_ttl = ttl(Some(value))?;
    }
    provider.remote_ids = remote_ids(fields.value("remote_ids"))?.unwrap_or(provider.remote_ids);
    fields.nothing_else()?;
    federation::update_provider(&mut tx, &provider).await.map_err(conflict(&provider))?;
    if was_enabled && !provider.enabled {
        federation::void_tokens(&mut tx, &provider.id).await?;
    }
    state.commit(tx).await?;
    Reply::ok(&json!({ "identity_provider": show(cx, &provider) }))
}

/// `DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}`: its protocols go with it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let provider = load(&mut tx, cx.param("idp_id")).await?;
    federation::delete_provider(&mut tx, &provider.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn show(cx: &Cx, provider: &IdentityProvider) -> Value {
    let link = wire::link(cx, COLLECTION, &provider.id);
    json!({
        "id": provider.id, "domain_id": provider.domain_id, "description": provider.description,
        "enabled": provider.enabled, "authorization_ttl": provider.authorization_ttl,
        "remote_ids": provider.remote_ids,
        "links": { "self": link, "protocols": format!("{link}/protocols") },
    })
}

/// One, by id.
///
/// # Errors
/// Not found.
pub async fn load(conn: &mut Conn, id: &str) -> Result<IdentityProvider> {
    let found = federation::get_provider(conn, id).await?;
    found.ok_or_else(|| wire::not_found("IdentityProviderNotFound", "Identity Provider", id))
}

/// An id that a client chose: what an address can hold as it is.
///
/// # Errors
/// Bad request for anything else.
pub fn id_of(text: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if text.is_empty() || text.len() > ID_CHARS_MAX || !text.chars().all(fits) {
        let message = format!("An id here has 1 to {ID_CHARS_MAX} letters, digits and -._~ only: {text:?} has not.");
        return Err(Error::bad_request("ValidationError", message));
    }
    Ok(text.to_owned())
}

fn ttl(value: Option<Value>) -> Result<Option<i64>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(minutes) if (0..=TTL_MINUTES_MAX).contains(&minutes) => Ok(Some(minutes)),
            _ => {
                let message = format!("authorization_ttl is 0 to {TTL_MINUTES_MAX} minutes, or null: {value} is not.");
                Err(Error::bad_request("ValidationError", message))
            }
        },
    }
}

fn remote_ids(value: Option<Value>) -> Result<Option<Vec<String>>> {
    let Some(value) = value else { return Ok(None) };
    if value.is_null() {
        return Ok(Some(Vec::new()));
    }
    let mut ids: Vec<String> = serde_json::from_value(value).map_err(|_| {
        Error::bad_request("SchemaValidationError", "Invalid input for field 'remote_ids': it is not a list of texts")
    })?;
    ids.sort();
    ids.dedup();
    if ids.len() > REMOTE_IDS_MAX || ids.iter().any(|id| id.is_empty() || id.len() > REMOTE_ID_CHARS_MAX) {
        let message =
            format!("remote_ids has {REMOTE_IDS_MAX} elements at the most, of 1 to {REMOTE_ID_CHARS_MAX} characters.");
        return Err(Error::bad_request("ValidationError", message));
    }
    Ok(Some(ids))
}

fn conflict(provider: &IdentityProvider) -> impl FnOnce(store::Error) -> Error {
    let message = format!(
        "Conflict occurred attempting to store identity_provider - Duplicate entry found with id {} or with one of its \
         remote ids.",
        provider.id
    );
    move |error| if error.is_unique_violation() { Error::conflict("Conflict", message) } else { error.into() }
}
