//! Resource providers: hosts, which come and go with their agents, and those that clients make.

use std::collections::{BTreeMap, BTreeSet};

use model::{Error, ErrorKind, Result, id};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn,
    placement::{self, Provider},
};
use web::{Cx, Reply, StatusCode, Target, Version};

use crate::{State, candidate::wire};

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 200;
/// A conflict that Placement has no code of its own for.
pub(crate) const UNDEFINED: &str = "placement.undefined_code";

/// Applies the route's rule: Placement's targets are nobody's.
pub(crate) fn authorize(cx: &Cx) -> Result<()> {
    cx.authorize(&Target::none())
}

/// Providers by their ids: all of them, or one.
pub(crate) async fn load(cx: &Cx, conn: &mut Conn, only: Option<&str>) -> Result<BTreeMap<String, Provider>> {
    Ok(placement::load(conn, cx.state::<State>()?.ratios, only).await?)
}

/// The provider that the path names.
pub(crate) async fn find(cx: &Cx, conn: &mut Conn) -> Result<Provider> {
    authorize(cx)?;
    let uuid = cx.param("uuid");
    let mut one = load(cx, conn, Some(uuid)).await?;
    one.remove(uuid).ok_or_else(|| not_found(uuid))
}

pub(crate) fn not_found(uuid: &str) -> Error {
    Error::not_found("placement.resource_provider.not_found", format!("No resource provider with uuid {uuid} found"))
}

pub(crate) fn bad(message: impl Into<String>) -> Error {
    Error::bad_request(UNDEFINED, message)
}

/// Since 1.15, answers say how old they are and that nobody may keep them.
pub(crate) fn fresh(cx: &Cx, reply: Reply) -> Reply {
    if cx.version < Version(1, 15) {
        return reply;
    }
    reply.with("last-modified", cx.now().to_http_date()).with("cache-control", "no-cache")
}

/// `GET /resource_providers`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let mut conn = cx.db().read().await?;
    let all = load(cx, &mut conn, None).await?;
    let filter = wire::ProviderFilter::parse(cx)?;
    let found = all.values().filter(|provider| filter.admits(provider, &all));
    let views: Vec<Value> = found.map(|provider| view(cx, provider, &all)).collect();
    Ok(fresh(cx, Reply::ok(&json!({"resource_providers": views}))?))
}

/// `GET /resource_providers/{uuid}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = find(cx, &mut conn).await?;
    let all = if found.parent.is_some() { load(cx, &mut conn, None).await? } else { BTreeMap::new() };
    Ok(fresh(cx, Reply::ok(&view(cx, &found, &all))?))
}

/// The provider at the top of the tree.
pub(crate) fn root<'a>(provider: &'a Provider, all: &'a BTreeMap<String, Provider>) -> &'a str {
    let mut at = provider;
    // Trees are small, and a parent is never below its child; whatever happens, this ends.
    for _ in 0..all.len() {
        match at.parent.as_deref().and_then(|parent| all.get(parent)) {
            Some(parent) => at = parent,
            None => break,
        }
    }
    &at.id
}

fn view(cx: &Cx, provider: &Provider, all: &BTreeMap<String, Provider>) -> Value {
    let path = format!("/placement/resource_providers/{}", provider.id);
    let mut links = vec![json!({"rel": "self", "href": path})];
    for (name, since) in [
        ("inventories", Version(1, 0)),
        ("usages", Version(1, 0)),
        ("aggregates", Version(1, 1)),
        ("traits", Version(1, 6)),
        ("allocations", Version(1, 11)),
    ] {
        if cx.version >= since {
            links.push(json!({"rel": name, "href": format!("{path}/{name}")}));
        }
    }
    let mut view =
        json!({"uuid": provider.id, "name": provider.name, "generation": provider.generation, "links": links});
    if cx.version >= Version(1, 14) {
        view["parent_provider_uuid"] = json!(provider.parent);
        view["root_provider_uuid"] = json!(root(provider, all));
    }
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    parent_provider_uuid: Option<Option<String>>,
}

/// Tells null from what is not there.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

fn check(cx: &Cx, body: &Body) -> Result<()> {
    if body.name.is_empty() || body.name.chars().count() > NAME_CHARS_MAX || body.name.contains('\0') {
        return Err(bad(format!("The name of a resource provider has 1 to {NAME_CHARS_MAX} characters.")));
    }
    if body.uuid.as_ref().is_some_and(|uuid| !id::is_uuid_like(uuid)) {
        return Err(bad("The uuid of a resource provider is a UUID."));
    }
    if body.parent_provider_uuid.is_some() && cx.version < Version(1, 14) {
        return Err(bad("Additional properties are not allowed ('parent_provider_uuid' was unexpected)"));
    }
    Ok(())
}

/// `POST /resource_providers`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let body: Body = cx.json()?;
    check(cx, &body)?;
    let uuid = body.uuid.clone().unwrap_or_else(|| id::random_uuid().to_string());
    let parent = body.parent_provider_uuid.flatten();
    let mut tx = cx.db().begin().await?;
    let all = load(cx, &mut tx, None).await?;
    if let Some(parent) = parent.as_deref().filter(|parent| !all.contains_key(*parent)) {
        return Err(bad(format!("parent provider UUID {parent} does not exist.")));
    }
    if all.values().any(|other| other.name == body.name || other.id == uuid) {
        return Err(taken(&body.name));
    }
    placement::insert_provider(&mut tx, &uuid, &body.name, parent.as_deref())
        .await
        .map_err(|e| named(e, &body.name))?;
    let all = load(cx, &mut tx, None).await?;
    tx.commit().await?;
    let location = format!("{}/resource_providers/{uuid}", cx.service_url());
    if cx.version < Version(1, 20) {
        return Ok(Reply::empty(StatusCode::CREATED).with("location", location));
    }
    let made = all.get(&uuid).ok_or_else(|| not_found(&uuid))?;
    Ok(fresh(cx, Reply::ok(&view(cx, made, &all))?).with("location", location))
}

fn taken(name: &str) -> Error {
    let text = format!("Conflicting resource provider name: {name} already exists.");
    Error::conflict("placement.duplicate_name", text)
}

fn named(error: store::Error, name: &str) -> Error {
    if error.is_unique_violation() { taken(name) } else { error.into() }
}

/// What compute's rows say can't be said otherwise here.
pub(crate) fn refuse_host(provider: &Provider, what: &str) -> Result<()> {
    if provider.is_host {
        let text = format!("{} is a compute host: {what} is what its agent reports.", provider.name);
        return Err(Error::conflict(UNDEFINED, text));
    }
    Ok(())
}

/// `PUT /resource_providers/{uuid}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    let body: Body = cx.json()?;
    check(cx, &body)?;
    refuse_host(&found, "its name")?;
    let all = load(cx, &mut tx, None).await?;
    let parent = match body.parent_provider_uuid {
        None => found.parent.clone(),
        Some(parent) => {
            check_move(cx, &found, parent.as_deref(), &all)?;
            parent
        }
    };
    if all.values().any(|other| other.name == body.name && other.id != found.id) {
        return Err(taken(&body.name));
    }
    placement::update_provider(&mut tx, &found.id, &body.name, parent.as_deref())
        .await
        .map_err(|e| named(e, &body.name))?;
    let all = load(cx, &mut tx, None).await?;
    tx.commit().await?;
    let now = all.get(&found.id).ok_or_else(|| not_found(&found.id))?;
    Ok(fresh(cx, Reply::ok(&view(cx, now, &all))?))
}

/// Before 1.37 a provider got a parent once; never may one become a part of itself.
fn check_move(cx: &Cx, found: &Provider, parent: Option<&str>, all: &BTreeMap<String, Provider>) -> Result<()> {
    if found.parent.as_deref() == parent {
        return Ok(());
    }
    if found.parent.is_some() && cx.version < Version(1, 37) {
        return Err(bad("re-parenting a provider is not currently allowed."));
    }
    let Some(parent) = parent else { return Ok(()) };
    let below = below(&found.id, all);
    match all.get(parent) {
        None => Err(bad(format!("parent provider UUID {parent} does not exist."))),
        Some(_) if below.contains(parent) => Err(bad("creating loop in the provider tree is not allowed.")),
        Some(_) => Ok(()),
    }
}

/// A provider and whatever is a part of it.
pub(crate) fn below(id: &str, all: &BTreeMap<String, Provider>) -> BTreeSet<String> {
    let mut found = BTreeSet::from([id.to_owned()]);
    loop {
        let before = found.len();
        let more = all.values().filter(|p| p.parent.as_ref().is_some_and(|parent| found.contains(parent)));
        let more: Vec<String> = more.map(|p| p.id.clone()).collect();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

/// `DELETE /resource_providers/{uuid}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    store::compute::allocations::lock(&mut tx).await?;
    let found = find(cx, &mut tx).await?;
    refuse_host(&found, "whether it is there")?;
    if below(&found.id, &load(cx, &mut tx, None).await?).len() > 1 {
        return Err(Error::new(
            ErrorKind::Conflict,
            "placement.resource_provider.cannot_delete_parent",
            format!("Unable to delete parent resource provider {}: It has child resource providers.", found.id),
        ));
    }
    if !placement::held_of(&mut tx, &found.id).await?.is_empty() {
        let text = format!("Unable to delete resource provider {}: Resource provider has allocations.", found.id);
        return Err(Error::conflict("placement.resource_provider.inuse", text));
    }
    placement::delete_provider(&mut tx, &found.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// Takes the provider's generation for a change, or says that somebody else did.
pub(crate) async fn take_generation(tx: &mut store::Tx, provider: &Provider, generation: i64) -> Result<()> {
    if placement::use_generation(tx, provider, generation).await? {
        return Ok(());
    }
    let text = format!("resource provider generation conflict: {} is at {}", provider.id, provider.generation);
    Err(Error::conflict("placement.concurrent_update", text))
}
