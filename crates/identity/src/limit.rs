//! Limits: what one project or domain may have of a service's resource, instead of the registered limit. The model is
//! flat: what stands above or below a project has no say.

use model::{
    Error, Result,
    id::{DomainId, LimitId, ProjectId, ServiceId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        Extra, domains,
        limits::{self, Limit},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Scope, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State,
    project::{self, Found},
    registered_limit::{RANGE, several},
    wire::{self, Fields},
};

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("service_id", "r.service_id"),
        Filter::exact("region_id", "r.region_id"),
        Filter::exact("resource_name", "r.resource_name"),
        Filter::exact("project_id", "t.project_id"),
        Filter::exact("domain_id", "t.domain_id"),
    ],
};

/// `GET /v3/limits`: all of them for administrators, services and the system's readers; one's own for others.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = limits::select();
    wire::filter(cx, &LIST, &mut select)?;
    let all = cx.caller.has_role("admin") || cx.caller.has_role("service");
    match &cx.caller.scope {
        _ if all => {}
        Scope::System => {}
        Scope::Domain { id, .. } => {
            select.filter("(t.domain_id = ? or p.domain_id = ?)", [id.into(), id.into()]);
        }
        Scope::Project { id, .. } => {
            select.equal("t.project_id", id.as_str());
        }
        Scope::Unscoped => {
            select.filter("1 = 0", []);
        }
    }
    let page = LIST.page(&cx.query)?;
    let found = limits::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "limits", &page, &found, |l| (l.id.as_str(), show(cx, l)))
}

/// `GET /v3/limits/{limit_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let id = LimitId::new(cx.param("limit_id"));
    let found = limits::get(&mut *cx.db().read().await?, &id).await?;
    let mut target = Target::none();
    if let Some(limit) = &found {
        let of = [
            ("target.limit.project_id", limit.project_id.as_ref().map(|id| id.as_str())),
            ("target.limit.project.domain_id", limit.project_domain_id.as_ref().map(|id| id.as_str())),
            ("target.limit.domain.id", limit.domain_id.as_ref().map(|id| id.as_str())),
        ];
        for (name, value) in of {
            if let Some(value) = value {
                target = target.with(name, value);
            }
        }
    }
    cx.authorize(&target)?;
    let limit = found.ok_or_else(|| missing(&id))?;
    Reply::ok(&json!({ "limit": show(cx, &limit) }))
}

/// `POST /v3/limits`: several at once, all or none.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let mut made = Vec::new();
    for fields in several(cx, "limits")? {
        let limit = new(&mut tx, fields).await?;
        limits::insert(&mut tx, &limit).await.map_err(wire::duplicate("limit", &limit.resource_name))?;
        made.push(show(cx, &limit));
    }
    state.commit(tx).await?;
    Reply::created(&json!({ "limits": made }))
}

/// A new limit out of a request; what it limits must be registered, and whom, must exist.
async fn new(conn: &mut Conn, mut fields: Fields) -> Result<Limit> {
    let service_id = fields.text("service_id")?.map(ServiceId::new).ok_or_else(|| wire::required("service_id"))?;
    let region_id = fields.nullable_text("region_id")?.flatten();
    let resource_name = fields.text("resource_name")?.ok_or_else(|| wire::required("resource_name"))?;
    let resource_limit = fields.number("resource_limit", RANGE)?.ok_or_else(|| wire::required("resource_limit"))?;
    let description = fields.nullable_text("description")?.flatten();
    let project = fields.nullable_text("project_id")?.flatten().map(ProjectId::new);
    let domain = fields.nullable_text("domain_id")?.flatten().map(DomainId::new);
    fields.nothing_else()?;
    let (project_id, domain_id, project_domain_id) = match (project, domain) {
        (Some(id), None) => match project::find(conn, &id).await? {
            Some(Found::Project(project)) => (Some(project.id), None, Some(project.domain_id)),
            Some(Found::Domain(domain)) => (None, Some(domain.id), None),
            None => return Err(Error::bad_request("ValidationError", format!("Could not find project: {id}."))),
        },
        (None, Some(id)) if domains::get(conn, &id).await?.is_some() => (None, Some(id), None),
        (None, Some(id)) => {
            return Err(Error::bad_request("ValidationError", format!("Could not find domain: {id}.")));
        }
        _ => return Err(Error::bad_request("ValidationError", "Specify either project_id or domain_id.")),
    };
    let registered = limits::find_registered(conn, &service_id, region_id.as_deref(), &resource_name).await?;
    let registered = registered.ok_or_else(|| {
        let message = format!(
            "Unable to create a limit that has no corresponding registered limit: {resource_name} of service {service_id}."
        );
        Error::forbidden("NoLimitReference", message)
    })?;
    Ok(Limit {
        id: LimitId::random_hex(),
        registered_limit_id: registered.id,
        project_id,
        domain_id,
        resource_limit,
        description,
        service_id,
        region_id,
        resource_name,
        project_domain_id,
    })
}

/// `PATCH /v3/limits/{limit_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "limit")?;
    let mut tx = state.begin().await?;
    let mut limit = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(limit.id.as_str()))?;
    limit.resource_limit = fields.number("resource_limit", RANGE)?.unwrap_or(limit.resource_limit);
    limit.description = fields.nullable_text("description")?.unwrap_or(limit.description);
    fields.nothing_else()?;
    limits::update(&mut tx, &limit).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "limit": show(cx, &limit) }))
}

/// `DELETE /v3/limits/{limit_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let limit = load(cx, &mut tx).await?;
    limits::delete(&mut tx, &limit.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/limits/model`.
pub async fn model(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let description = "Limit enforcement and validation does not take project hierarchy into consideration.";
    Reply::ok(&json!({ "model": { "name": "flat", "description": description } }))
}

fn show(cx: &Cx, limit: &Limit) -> Value {
    let own = json!({
        "service_id": limit.service_id, "region_id": limit.region_id, "resource_name": limit.resource_name,
        "project_id": limit.project_id, "domain_id": limit.domain_id, "resource_limit": limit.resource_limit,
        "description": limit.description,
    });
    wire::resource(cx, "limits", limit.id.as_str(), &Extra::new(), own)
}

async fn load(cx: &Cx, conn: &mut Conn) -> Result<Limit> {
    let id = LimitId::new(cx.param("limit_id"));
    limits::get(conn, &id).await?.ok_or_else(|| missing(&id))
}

fn missing(id: &LimitId) -> Error {
    wire::not_found("LimitNotFound", "limit for id", id.as_str())
}
