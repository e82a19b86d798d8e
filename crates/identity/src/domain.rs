//! Domains: what holds users and projects.

use model::{Error, Result, id::DomainId};
use serde_json::{Value, json};
use store::{
    identity::domains::{self, Domain},
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
    LIST.filter(&cx.query, &mut select)?;
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

/// `POST /v3/domains`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "domain")?;
    fields.no_options()?;
    // Domains have no tags here; an empty list says the same.
    fields.tags()?;
    let domain = Domain {
        id: DomainId::random_hex(),
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    let mut tx = state.begin().await?;
    domains::insert(&mut tx, &domain).await.map_err(wire::duplicate("domain", &domain.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "domain": show(cx, &domain) }))
}

/// `PATCH /v3/domains/{domain_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = load(cx).await?.id;
    let mut fields = Fields::of(cx, "domain")?;
    fields.unchanged("id", Some(id.as_str()))?;
    fields.no_options()?;
    fields.tags()?;
    let mut tx = state.begin().await?;
    let mut domain = domains::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    let was_enabled = domain.enabled;
    domain.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(domain.name);
    if let Some(description) = fields.nullable_text("description")? {
        domain.description = description.unwrap_or_default();
    }
    domain.enabled = fields.flag("enabled")?.unwrap_or(was_enabled);
    domain.extra.extend(fields.extra()?);
    domains::update(&mut tx, &domain).await.map_err(wire::duplicate("domain", &domain.name))?;
    if was_enabled && !domain.enabled {
        domains::void_tokens(&mut tx, &domain.id).await?;
    }
    state.commit(tx).await?;
    Reply::ok(&json!({ "domain": show(cx, &domain) }))
}

/// `DELETE /v3/domains/{domain_id}`: only once it is disabled, and with all that is in it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = load(cx).await?.id;
    let mut tx = state.begin().await?;
    let domain = domains::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
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
        "name": domain.name, "description": domain.description, "enabled": domain.enabled, "tags": [], "options": {},
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
