//! Endpoint groups: endpoints by what they have in common, given to projects together (OS-EP-FILTER).

use model::{
    Error, Result,
    id::{EndpointGroupId, ProjectId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        catalog,
        endpoint_filters::{self, EndpointGroup, Filters},
        projects::{self, Project},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, endpoint, project,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;
/// Endpoints that are looked through for those of a group.
pub const ENDPOINTS_MAX: u32 = 10_000;

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "name", sql: "t.name", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[Filter::exact("name", "t.name")],
};

/// `GET /v3/OS-EP-FILTER/endpoint_groups`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    page_of(cx, endpoint_filters::select()).await
}

async fn page_of(cx: &Cx, mut select: store::list::Select) -> Result<Reply> {
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = endpoint_filters::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "endpoint_groups", &page, &found, |g| (g.id.as_str(), show(cx, g)))
}

/// `GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let group = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "endpoint_group": show(cx, &group) }))
}

/// `POST /v3/OS-EP-FILTER/endpoint_groups`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "endpoint_group")?;
    let group = EndpointGroup {
        id: EndpointGroupId::random_hex(),
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten(),
        filters: filters(&mut fields)?.filter(|f| *f != Filters::default()).ok_or_else(|| wire::required("filters"))?,
    };
    fields.nothing_else()?;
    let mut tx = state.begin().await?;
    endpoint_filters::put(&mut tx, &group).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "endpoint_group": show(cx, &group) }))
}

/// `PATCH /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "endpoint_group")?;
    let mut tx = state.begin().await?;
    let mut group = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(group.id.as_str()))?;
    group.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(group.name);
    group.description = fields.nullable_text("description")?.unwrap_or(group.description);
    group.filters = filters(&mut fields)?.unwrap_or(group.filters);
    fields.nothing_else()?;
    endpoint_filters::put(&mut tx, &group).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "endpoint_group": show(cx, &group) }))
}

/// `DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let group = load(cx, &mut tx).await?;
    endpoint_filters::delete(&mut tx, &group.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `PUT /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}`.
pub async fn add_to_project(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let (group, project) = pair(cx, &mut tx).await?;
    endpoint_filters::give_group(&mut tx, &project.id, &group.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}`.
pub async fn check_in_project(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let (group, project) = pair(cx, &mut conn).await?;
    if !endpoint_filters::has_group(&mut conn, &project.id, &group.id).await? {
        return Err(not_given(&group, &project));
    }
    Reply::ok(&json!({ "project_endpoint_group": {
        "endpoint_group_id": group.id, "project_id": project.id, "links": { "self": cx.self_url() },
    } }))
}

/// `GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints`.
pub async fn list_endpoints(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let group = load(cx, &mut conn).await?;
    let mut found = catalog::all_endpoints(&mut conn, ENDPOINTS_MAX).await?;
    found.retain(|endpoint| group.filters.match_endpoint(endpoint));
    wire::whole(cx, "endpoints", &found, |e| endpoint::show(cx, e))
}

/// `GET /v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups`.
pub async fn list_of_project(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let project = load_project(cx, &mut *cx.db().read().await?).await?;
    let mut select = endpoint_filters::select();
    endpoint_filters::of_project(&mut select, &project.id);
    page_of(cx, select).await
}

/// `GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects`.
pub async fn list_projects(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let group = load(cx, &mut *cx.db().read().await?).await?;
    let mut select = projects::select();
    endpoint_filters::projects_with_group(&mut select, &group.id);
    project::page_of(cx, select).await
}

/// `DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}`.
pub async fn remove_from_project(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let (group, project) = pair(cx, &mut tx).await?;
    if !endpoint_filters::take_group(&mut tx, &project.id, &group.id).await? {
        return Err(not_given(&group, &project));
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn filters(fields: &mut Fields) -> Result<Option<Filters>> {
    let read = |value: Value| {
        serde_json::from_value(value.clone()).map_err(|_| {
            wire::invalid("filters", &value, "is not an object of service_id, region_id and interface, each a text")
        })
    };
    fields.value("filters").map(read).transpose()
}

fn show(cx: &Cx, group: &EndpointGroup) -> Value {
    let own = json!({ "name": group.name, "description": group.description, "filters": group.filters });
    wire::resource(cx, "OS-EP-FILTER/endpoint_groups", group.id.as_str(), &store::identity::Extra::new(), own)
}

async fn load(cx: &Cx, conn: &mut Conn) -> Result<EndpointGroup> {
    let id = EndpointGroupId::new(cx.param("endpoint_group_id"));
    let found = endpoint_filters::get(conn, &id).await?;
    found.ok_or_else(|| wire::not_found("EndpointGroupNotFound", "endpoint group", id.as_str()))
}

/// The project of the path.
///
/// # Errors
/// Not found.
pub async fn load_project(cx: &Cx, conn: &mut Conn) -> Result<Project> {
    let id = ProjectId::new(cx.param("project_id"));
    projects::get(conn, &id).await?.ok_or_else(|| project::missing(&id))
}

async fn pair(cx: &Cx, conn: &mut Conn) -> Result<(EndpointGroup, Project)> {
    Ok((load(cx, conn).await?, load_project(cx, conn).await?))
}

fn not_given(group: &EndpointGroup, project: &Project) -> Error {
    let message = format!("Endpoint group {} is not associated with project {}.", group.id, project.id);
    Error::not_found("NotFound", message)
}
