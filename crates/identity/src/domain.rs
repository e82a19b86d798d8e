//! Domains: what holds users and projects.

use model::{Error, Result, id::DomainId};
use serde_json::{Value, json};
use store::{
    identity::{
        domains::{self, Domain},
        revocations,
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Scope, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 64;
/// The domain that bootstrap makes and that names are looked up in where a request has none.
pub const DEFAULT: &str = "default";

/// How domains are listed.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "name", sql: "t.name", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[Filter::exact("name", "t.name"), Filter::flag("enabled", "t.enabled")],
};

/// `GET /v3/domains`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain.id", id.as_str())))?;
    let mut select = domains::select();
    wire::filter(cx, &LIST, &mut select)?;
    if let Some(own) = own {
        select.equal("t.id", own.as_str());
    }
    let page = LIST.page(&cx.query)?;
    let found = domains::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "domains", &page, &found, |d| (d.id.as_str(), show(cx, d)))
}

/// `GET /v3/domains/{domain_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let domain = load(cx).await?;
    Reply::ok(&json!({ "domain": show(cx, &domain) }))
}

/// `POST /v3/domains`: with a random id, or one that the client chooses.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "domain")?;
    let id = match fields.text("explicit_domain_id")? {
        None => DomainId::random_hex(),
        Some(id) if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) => DomainId::new(id.to_lowercase()),
        Some(_) => {
            let message = "explicit_domain_id must be a UUID without dashes: 32 hexadecimal digits.";
            return Err(Error::bad_request("DomainIdInvalid", message));
        }
    };
    let domain = new(cx, fields, id)?;
    let mut tx = state.begin().await?;
    if domains::get(&mut tx, &domain.id).await?.is_some() {
        let message = format!("Conflict occurred attempting to store domain - Duplicate ID, {}.", domain.id);
        return Err(Error::conflict("Conflict", message));
    }
    domains::insert(&mut tx, &domain).await.map_err(wire::duplicate("domain", &domain.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "domain": show(cx, &domain) }))
}

/// A new domain out of a request.
///
/// # Errors
/// Bad request.
pub fn new(cx: &Cx, mut fields: Fields, id: DomainId) -> Result<Domain> {
    Ok(Domain {
        id,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        tags: fields.tags()?.unwrap_or_default(),
        options: fields.immutable()?.options(),
        extra: fields.extra()?,
        created_at: cx.now(),
    })
}

/// `PATCH /v3/domains/{domain_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = load(cx).await?.id;
    let domain = change(cx, Fields::of(cx, "domain")?, &id).await?;
    Reply::ok(&json!({ "domain": show(cx, &domain) }))
}

/// Changes a domain as a request says.
///
/// # Errors
/// Bad request, forbidden where it is immutable, conflict where another has the name.
pub async fn change(cx: &Cx, mut fields: Fields, id: &DomainId) -> Result<Domain> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let mut domain = domains::get(&mut tx, id).await?.ok_or_else(|| missing(id))?;
    fields.immutable()?.apply("domain", id.as_str(), &mut domain.options)?;
    fields.unchanged("id", Some(id.as_str()))?;
    let was_enabled = domain.enabled;
    domain.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(domain.name);
    if let Some(description) = fields.nullable_text("description")? {
        domain.description = description.unwrap_or_default();
    }
    domain.enabled = fields.flag("enabled")?.unwrap_or(was_enabled);
    domain.tags = fields.tags()?.unwrap_or(domain.tags);
    domain.extra.extend(fields.extra()?);
    domains::update(&mut tx, &domain).await.map_err(wire::duplicate("domain", &domain.name))?;
    if was_enabled && !domain.enabled {
        domains::void_tokens(&mut tx, &domain.id).await?;
        revocations::record(&mut tx, &[("domain_id", domain.id.as_str())]).await?;
    }
    state.commit(tx).await?;
    Ok(domain)
}

/// `DELETE /v3/domains/{domain_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = load(cx).await?.id;
    remove(cx, &id).await
}

/// Removes a domain: only once it is disabled, and with all that is in it.
///
/// # Errors
/// Forbidden where it is enabled or immutable.
pub async fn remove(cx: &Cx, id: &DomainId) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let domain = domains::get(&mut tx, id).await?.ok_or_else(|| missing(id))?;
    wire::deletable("domain", id.as_str(), &domain.options)?;
    if domain.enabled {
        let message = "Cannot delete a domain that is enabled, please disable it first.";
        return Err(Error::forbidden("ForbiddenNotSecurity", message));
    }
    domains::delete(&mut tx, &domain.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// As clients see it.
pub fn show(cx: &Cx, domain: &Domain) -> Value {
    let own = json!({
        "name": domain.name, "description": domain.description, "enabled": domain.enabled, "tags": domain.tags,
        "options": domain.options,
    });
    wire::resource(cx, "domains", domain.id.as_str(), &domain.extra, own)
}

/// The domain of the path, once the caller may.
async fn load(cx: &Cx) -> Result<Domain> {
    let id = DomainId::new(cx.param("domain_id"));
    let found = domains::get(&mut *cx.db().read().await?, &id).await?;
    let target = found.as_ref().map_or_else(Target::none, |d| Target::none().with("target.domain.id", d.id.as_str()));
    cx.authorize(&target)?;
    found.ok_or_else(|| missing(&id))
}

/// That there is no such domain.
pub fn missing(id: &DomainId) -> Error {
    wire::not_found("DomainNotFound", "domain", id.as_str())
}

/// The domain that the caller's token is scoped to: lists show nothing beyond it.
pub fn own(cx: &Cx) -> Option<&DomainId> {
    match &cx.caller.scope {
        Scope::Domain { id, .. } => Some(id),
        Scope::Unscoped | Scope::Project { .. } | Scope::System => None,
    }
}

/// The domain of something new: the one that the request names, else the token's, else the default one.
pub fn of_new(cx: &Cx, named: Option<Option<String>>) -> DomainId {
    match named.flatten() {
        Some(id) => DomainId::new(id),
        None => own(cx).cloned().unwrap_or_else(|| DomainId::new(DEFAULT)),
    }
}
