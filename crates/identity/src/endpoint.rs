//! Endpoints of the catalog: where a service is.

use model::{
    Error, Result,
    id::{EndpointId, ServiceId},
};
use serde_json::{Value, json};
use store::{
    Conn, Tx,
    identity::{
        Extra,
        catalog::{self, Endpoint, Region},
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

const URL_CHARS_MAX: usize = 2048;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("interface", "t.interface"),
        Filter::exact("service_id", "t.service_id"),
        Filter::exact("region_id", "t.region_id"),
        Filter::flag("enabled", "t.enabled"),
    ],
};

/// `GET /v3/endpoints`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = catalog::select_endpoints();
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = catalog::list_endpoints(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "endpoints", &page, &found, |e| (e.id.as_str(), show(cx, e)))
}

/// `GET /v3/endpoints/{endpoint_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let endpoint = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "endpoint": show(cx, &endpoint) }))
}

/// `POST /v3/endpoints`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "endpoint")?;
    let (region_id, older) = region(&mut fields)?;
    let endpoint = Endpoint {
        id: EndpointId::random_hex(),
        service_id: fields.text("service_id")?.map(ServiceId::new).ok_or_else(|| wire::required("service_id"))?,
        region_id: region_id.flatten(),
        interface: interface(&mut fields)?.ok_or_else(|| wire::required("interface"))?,
        url: fields.name("url", URL_CHARS_MAX)?.ok_or_else(|| wire::required("url"))?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
        extra: fields.extra()?,
    };
    let mut tx = state.begin().await?;
    if older {
        ensure_region(&mut tx, &endpoint).await?;
    }
    check(&mut tx, &endpoint).await?;
    catalog::put_endpoint(&mut tx, &endpoint).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "endpoint": show(cx, &endpoint) }))
}

/// `PATCH /v3/endpoints/{endpoint_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "endpoint")?;
    let mut tx = state.begin().await?;
    let mut endpoint = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(endpoint.id.as_str()))?;
    endpoint.service_id = fields.text("service_id")?.map_or(endpoint.service_id, ServiceId::new);
    let (region_id, older) = region(&mut fields)?;
    endpoint.region_id = region_id.unwrap_or(endpoint.region_id);
    endpoint.interface = interface(&mut fields)?.unwrap_or(endpoint.interface);
    endpoint.url = fields.name("url", URL_CHARS_MAX)?.unwrap_or(endpoint.url);
    endpoint.enabled = fields.flag("enabled")?.unwrap_or(endpoint.enabled);
    endpoint.extra.extend(fields.extra()?);
    if older {
        ensure_region(&mut tx, &endpoint).await?;
    }
    check(&mut tx, &endpoint).await?;
    catalog::put_endpoint(&mut tx, &endpoint).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "endpoint": show(cx, &endpoint) }))
}

/// `DELETE /v3/endpoints/{endpoint_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let endpoint = load(cx, &mut tx).await?;
    catalog::delete_endpoint(&mut tx, &endpoint.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `region_id`, or `region` as it was called before, and whether it is the latter.
fn region(fields: &mut Fields) -> Result<(Option<Option<String>>, bool)> {
    let (older, region_id) = (fields.nullable_text("region")?, fields.nullable_text("region_id")?);
    let is_older = older.is_some() && region_id.is_none();
    Ok((region_id.or(older), is_older))
}

/// Clients that say `region` expect that it comes to be.
async fn ensure_region(tx: &mut Tx, endpoint: &Endpoint) -> Result<()> {
    let Some(id) = &endpoint.region_id else { return Ok(()) };
    if catalog::get_region(tx, id).await?.is_none() {
        let (description, extra) = (String::new(), Extra::new());
        catalog::put_region(tx, &Region { id: id.clone(), description, parent_region_id: None, extra }).await?;
    }
    Ok(())
}

fn interface(fields: &mut Fields) -> Result<Option<String>> {
    let interface = fields.text("interface")?;
    match interface.as_deref() {
        None | Some("public" | "internal" | "admin") => Ok(interface),
        Some(other) => Err(Error::bad_request(
            "SchemaValidationError",
            format!("Invalid input for field 'interface': {other:?} is not one of ['admin', 'internal', 'public']"),
        )),
    }
}

/// Service and region must exist.
async fn check(conn: &mut Conn, endpoint: &Endpoint) -> Result<()> {
    if catalog::get_service(conn, &endpoint.service_id).await?.is_none() {
        let message = format!("Could not find service: {}.", endpoint.service_id);
        return Err(Error::bad_request("ValidationError", message));
    }
    if let Some(region) = &endpoint.region_id
        && catalog::get_region(conn, region).await?.is_none()
    {
        return Err(Error::bad_request("ValidationError", format!("Could not find region: {region}.")));
    }
    Ok(())
}

/// As clients see it.
pub fn show(cx: &Cx, endpoint: &Endpoint) -> Value {
    let own = json!({
        "service_id": endpoint.service_id, "region_id": endpoint.region_id, "region": endpoint.region_id,
        "interface": endpoint.interface, "url": endpoint.url, "enabled": endpoint.enabled,
    });
    wire::resource(cx, "endpoints", endpoint.id.as_str(), &endpoint.extra, own)
}

/// The endpoint of the path.
///
/// # Errors
/// Not found.
pub async fn load(cx: &Cx, conn: &mut Conn) -> Result<Endpoint> {
    let id = EndpointId::new(cx.param("endpoint_id"));
    let found = catalog::get_endpoint(conn, &id).await?;
    found.ok_or_else(|| wire::not_found("EndpointNotFound", "endpoint", id.as_str()))
}
