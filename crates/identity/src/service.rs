//! Services of the catalog.

use model::{Result, id::ServiceId};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::catalog::{self, Service},
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

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "type", sql: "t.type", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[Filter::exact("type", "t.type"), Filter::exact("name", "t.name"), Filter::flag("enabled", "t.enabled")],
};

/// `GET /v3/services`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = catalog::select_services();
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = catalog::list_services(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "services", &page, &found, |s| (s.id.as_str(), show(cx, s)))
}

/// `GET /v3/services/{service_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let service = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "service": show(cx, &service) }))
}

/// `POST /v3/services`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "service")?;
    let service = Service {
        id: ServiceId::random_hex(),
        kind: fields.name("type", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("type"))?,
        name: fields.nullable_text("name")?.flatten(),
        description: fields.nullable_text("description")?.flatten(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        extra: fields.extra()?,
    };
    let mut tx = state.begin().await?;
    catalog::put_service(&mut tx, &service).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "service": show(cx, &service) }))
}

/// `PATCH /v3/services/{service_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "service")?;
    let mut tx = state.begin().await?;
    let mut service = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(service.id.as_str()))?;
    service.kind = fields.name("type", NAME_CHARS_MAX)?.unwrap_or(service.kind);
    service.name = fields.nullable_text("name")?.unwrap_or(service.name);
    service.description = fields.nullable_text("description")?.unwrap_or(service.description);
    service.enabled = fields.flag("enabled")?.unwrap_or(service.enabled);
    service.extra.extend(fields.extra()?);
    catalog::put_service(&mut tx, &service).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "service": show(cx, &service) }))
}

/// `DELETE /v3/services/{service_id}`: its endpoints go with it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let service = load(cx, &mut tx).await?;
    catalog::delete_service(&mut tx, &service.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn show(cx: &Cx, service: &Service) -> Value {
    let mut own = json!({ "type": service.kind, "enabled": service.enabled });
    // Keystone leaves out what was never given.
    for (key, value) in [("name", &service.name), ("description", &service.description)] {
        if let Some(text) = value {
            own[key] = json!(text);
        }
    }
    wire::resource(cx, "services", service.id.as_str(), &service.extra, own)
}

/// The service of the path.
///
/// # Errors
/// Not found.
pub async fn load(cx: &Cx, conn: &mut Conn) -> Result<Service> {
    let id = ServiceId::new(cx.param("service_id"));
    let found = catalog::get_service(conn, &id).await?;
    found.ok_or_else(|| wire::not_found("ServiceNotFound", "service", id.as_str()))
}
