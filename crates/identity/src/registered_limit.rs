//! Registered limits: what each project may have of a service's resource, unless it has a limit of its own.

use model::{
    Error, Result,
    id::{RegisteredLimitId, ServiceId},
};
use serde_json::{Map, Value, json};
use store::{
    Conn,
    identity::{
        Extra, catalog,
        limits::{self, RegisteredLimit},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;
/// Limits that one request may create.
pub const PER_REQUEST_MAX: usize = 1000;
/// Any number of it: -1.
pub const RANGE: std::ops::RangeInclusive<i64> = -1..=0x7fff_ffff;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("service_id", "t.service_id"),
        Filter::exact("region_id", "t.region_id"),
        Filter::exact("resource_name", "t.resource_name"),
    ],
};

/// `GET /v3/registered_limits`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = limits::select_registered();
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = limits::list_registered(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "registered_limits", &page, &found, |l| (l.id.as_str(), show(cx, l)))
}

/// `GET /v3/registered_limits/{registered_limit_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let limit = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "registered_limit": show(cx, &limit) }))
}

/// `POST /v3/registered_limits`: several at once, all or none.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let mut made = Vec::new();
    for mut fields in several(cx, "registered_limits")? {
        let limit = RegisteredLimit {
            id: RegisteredLimitId::random_hex(),
            service_id: fields.text("service_id")?.map(ServiceId::new).ok_or_else(|| wire::required("service_id"))?,
            region_id: fields.nullable_text("region_id")?.flatten(),
            resource_name: fields
                .name("resource_name", NAME_CHARS_MAX)?
                .ok_or_else(|| wire::required("resource_name"))?,
            default_limit: fields.number("default_limit", RANGE)?.ok_or_else(|| wire::required("default_limit"))?,
            description: fields.nullable_text("description")?.flatten(),
        };
        fields.nothing_else()?;
        check(&mut tx, &limit).await?;
        let duplicate = wire::duplicate("registered_limit", &limit.resource_name);
        limits::insert_registered(&mut tx, &limit).await.map_err(duplicate)?;
        made.push(show(cx, &limit));
    }
    state.commit(tx).await?;
    Reply::created(&json!({ "registered_limits": made }))
}

/// The objects of a request that creates several.
///
/// # Errors
/// Bad request for none or too many.
pub fn several(cx: &Cx, key: &str) -> Result<Vec<Fields>> {
    let objects: Vec<Map<String, Value>> = cx.json_in(key)?;
    if objects.is_empty() || objects.len() > PER_REQUEST_MAX {
        let message = format!("'{key}' takes 1 to {PER_REQUEST_MAX} objects.");
        return Err(Error::bad_request("SchemaValidationError", message));
    }
    Ok(objects.into_iter().map(Fields::from_map).collect())
}

/// `PATCH /v3/registered_limits/{registered_limit_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "registered_limit")?;
    let mut tx = state.begin().await?;
    let before = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(before.id.as_str()))?;
    let limit = RegisteredLimit {
        id: before.id.clone(),
        service_id: fields.text("service_id")?.map_or_else(|| before.service_id.clone(), ServiceId::new),
        region_id: fields.nullable_text("region_id")?.unwrap_or_else(|| before.region_id.clone()),
        resource_name: fields.name("resource_name", NAME_CHARS_MAX)?.unwrap_or_else(|| before.resource_name.clone()),
        default_limit: fields.number("default_limit", RANGE)?.unwrap_or(before.default_limit),
        description: fields.nullable_text("description")?.unwrap_or_else(|| before.description.clone()),
    };
    fields.nothing_else()?;
    let moved = limit.service_id != before.service_id
        || limit.region_id != before.region_id
        || limit.resource_name != before.resource_name;
    if moved && limits::is_overridden(&mut tx, &limit.id).await? {
        return Err(in_use(&limit));
    }
    check(&mut tx, &limit).await?;
    let duplicate = wire::duplicate("registered_limit", &limit.resource_name);
    limits::update_registered(&mut tx, &limit).await.map_err(duplicate)?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "registered_limit": show(cx, &limit) }))
}

/// `DELETE /v3/registered_limits/{registered_limit_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let limit = load(cx, &mut tx).await?;
    if limits::is_overridden(&mut tx, &limit.id).await? {
        return Err(in_use(&limit));
    }
    limits::delete_registered(&mut tx, &limit.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// Service and region must exist.
async fn check(conn: &mut Conn, limit: &RegisteredLimit) -> Result<()> {
    if catalog::get_service(conn, &limit.service_id).await?.is_none() {
        return Err(Error::bad_request("ValidationError", format!("Could not find service: {}.", limit.service_id)));
    }
    if let Some(region) = &limit.region_id
        && catalog::get_region(conn, region).await?.is_none()
    {
        return Err(Error::bad_request("ValidationError", format!("Could not find region: {region}.")));
    }
    Ok(())
}

fn show(cx: &Cx, limit: &RegisteredLimit) -> Value {
    let own = json!({
        "service_id": limit.service_id, "region_id": limit.region_id, "resource_name": limit.resource_name,
        "default_limit": limit.default_limit, "description": limit.description,
    });
    wire::resource(cx, "registered_limits", limit.id.as_str(), &Extra::new(), own)
}

async fn load(cx: &Cx, conn: &mut Conn) -> Result<RegisteredLimit> {
    let id = RegisteredLimitId::new(cx.param("registered_limit_id"));
    let found = limits::get_registered(conn, &id).await?;
    found.ok_or_else(|| wire::not_found("RegisteredLimitNotFound", "registered limit for id", id.as_str()))
}

fn in_use(limit: &RegisteredLimit) -> Error {
    let message = format!(
        "Unable to update or delete registered limit {} because there are project limits associated with it.",
        limit.id
    );
    Error::forbidden("RegisteredLimitError", message)
}
