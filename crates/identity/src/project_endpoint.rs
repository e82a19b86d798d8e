//! Endpoints given to projects (OS-EP-FILTER): a project that was given any sees only these in its catalog.

use model::{Error, Result};
use store::{
    Conn,
    identity::{
        catalog::{self, Endpoint},
        endpoint_filters,
        projects::{self, Project},
    },
};
use web::{Cx, Reply, Target};

use crate::{
    State, endpoint,
    endpoint_group::{ENDPOINTS_MAX, load_project},
    project, wire,
};

/// `GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints`: by themselves and by groups.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let project = load_project(cx, &mut conn).await?;
    let given = endpoint_filters::given_to(&mut conn, &project.id).await?;
    let mut found = catalog::all_endpoints(&mut conn, ENDPOINTS_MAX).await?;
    found.retain(|endpoint| given.includes(endpoint));
    wire::whole(cx, "endpoints", &found, |e| endpoint::show(cx, e))
}

/// `GET /v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects`.
pub async fn list_projects(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let endpoint = endpoint::load(cx, &mut *cx.db().read().await?).await?;
    let mut select = projects::select();
    endpoint_filters::projects_with_endpoint(&mut select, &endpoint.id);
    project::page_of(cx, select).await
}

/// `PUT /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn add(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let (project, endpoint) = pair(cx, &mut tx).await?;
    endpoint_filters::give_endpoint(&mut tx, &project.id, &endpoint.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET` and `HEAD /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn check(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let (project, endpoint) = pair(cx, &mut conn).await?;
    if endpoint_filters::has_endpoint(&mut conn, &project.id, &endpoint.id).await? {
        Ok(Reply::no_content())
    } else {
        Err(not_given(&project, &endpoint))
    }
}

/// `DELETE /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}`.
pub async fn remove(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let (project, endpoint) = pair(cx, &mut tx).await?;
    if !endpoint_filters::take_endpoint(&mut tx, &project.id, &endpoint.id).await? {
        return Err(not_given(&project, &endpoint));
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

async fn pair(cx: &Cx, conn: &mut Conn) -> Result<(Project, Endpoint)> {
    Ok((load_project(cx, conn).await?, endpoint::load(cx, conn).await?))
}

fn not_given(project: &Project, endpoint: &Endpoint) -> Error {
    let message = format!("Endpoint {} is not associated with project {}.", endpoint.id, project.id);
    Error::not_found("NotFound", message)
}
