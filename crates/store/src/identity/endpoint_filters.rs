//! Tables `project_endpoints`, `endpoint_groups`, `project_endpoint_groups`: which endpoints a project's catalog shows.

use model::id::{EndpointGroupId, EndpointId, ProjectId};
use serde::{Deserialize, Serialize};

use super::{catalog::Endpoint, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// What an endpoint must match to be in a group: all that is given.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// Its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_id: Option<String>,
    /// Its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl Filters {
    /// Whether the endpoint matches all of them.
    pub fn match_endpoint(&self, endpoint: &Endpoint) -> bool {
        self.service_id.as_ref().is_none_or(|id| id == endpoint.service_id.as_str())
            && self.region_id.as_ref().is_none_or(|id| Some(id) == endpoint.region_id.as_ref())
            && self.interface.as_ref().is_none_or(|interface| *interface == endpoint.interface)
    }
}

/// A group of endpoints, by what they have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointGroup {
    /// Its id.
    pub id: EndpointGroupId,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What its endpoints match.
    pub filters: Filters,
}

fn from_row(row: &Row) -> Result<EndpointGroup> {
    Ok(EndpointGroup {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        filters: row.json("filters")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from endpoint_groups t", "endpoint_groups t", "t.id")
}

/// Narrows a list of endpoint groups to those of a project.
pub fn of_project(select: &mut Select, project: &ProjectId) {
    select.filter(
        "t.id in (select endpoint_group_id from project_endpoint_groups where project_id = ?)",
        [project.into()],
    );
}

/// Narrows a list of projects to those that an endpoint group was given to.
pub fn projects_with_group(select: &mut Select, group: &EndpointGroupId) {
    select
        .filter("t.id in (select project_id from project_endpoint_groups where endpoint_group_id = ?)", [group.into()]);
}

/// Narrows a list of projects to those that an endpoint was given to.
pub fn projects_with_endpoint(select: &mut Select, endpoint: &EndpointId) {
    select.filter("t.id in (select project_id from project_endpoints where endpoint_id = ?)", [endpoint.into()]);
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<EndpointGroup>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &EndpointGroupId) -> Result<Option<EndpointGroup>> {
    let row = query("select * from endpoint_groups where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one, or writes over the one of that id.
pub async fn put(tx: &mut Tx, group: &EndpointGroup) -> Result<()> {
    query(
        "insert into endpoint_groups (id, name, description, filters) values ($1, $2, $3, $4) \
         on conflict (id) do update set name = excluded.name, description = excluded.description, \
         filters = excluded.filters",
    )
    .bind(group.id.as_str())
    .bind(group.name.as_str())
    .bind(group.description.as_deref())
    .bind(json_text(&group.filters))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes one; projects that had it no longer do.
pub async fn delete(tx: &mut Tx, id: &EndpointGroupId) -> Result<()> {
    query("delete from endpoint_groups where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// What was given to a project: endpoints by id, and groups.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Given {
    /// Endpoints.
    pub endpoints: Vec<EndpointId>,
    /// Endpoint groups' filters.
    pub groups: Vec<Filters>,
}

impl Given {
    /// Whether nothing was: then the project sees every endpoint.
    pub fn is_nothing(&self) -> bool {
        self.endpoints.is_empty() && self.groups.is_empty()
    }

    /// Whether the endpoint is among it.
    pub fn includes(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.contains(&endpoint.id) || self.groups.iter().any(|filters| filters.match_endpoint(endpoint))
    }
}

/// What was given to a project.
pub async fn given_to(conn: &mut Conn, project: &ProjectId) -> Result<Given> {
    let endpoints = query("select endpoint_id from project_endpoints where project_id = $1 order by endpoint_id")
        .bind(project.as_str())
        .fetch_all(&mut *conn)
        .await?;
    let groups = query(
        "select g.filters from project_endpoint_groups p join endpoint_groups g on g.id = p.endpoint_group_id \
         where p.project_id = $1 order by g.id",
    )
    .bind(project.as_str())
    .fetch_all(conn)
    .await?;
    Ok(Given {
        endpoints: endpoints.iter().map(|row| row.id("endpoint_id")).collect::<Result<_>>()?,
        groups: groups.iter().map(|row| row.json("filters")).collect::<Result<_>>()?,
    })
}

/// Whether anything was given to any project: catalogs ask no further where nothing was.
pub async fn any(conn: &mut Conn) -> Result<bool> {
    let row = query(
        "select 1 as one from (select project_id from project_endpoints \
         union all select project_id from project_endpoint_groups) x limit 1",
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Whether an endpoint was given to a project.
pub async fn has_endpoint(conn: &mut Conn, project: &ProjectId, endpoint: &EndpointId) -> Result<bool> {
    let row = query("select 1 as one from project_endpoints where project_id = $1 and endpoint_id = $2")
        .bind(project.as_str())
        .bind(endpoint.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Gives an endpoint to a project; whether it hadn't it yet.
pub async fn give_endpoint(tx: &mut Tx, project: &ProjectId, endpoint: &EndpointId) -> Result<bool> {
    let done = query(
        "insert into project_endpoints (project_id, endpoint_id) values ($1, $2) \
         on conflict (project_id, endpoint_id) do nothing",
    )
    .bind(project.as_str())
    .bind(endpoint.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes an endpoint back from a project; whether it had it.
pub async fn take_endpoint(tx: &mut Tx, project: &ProjectId, endpoint: &EndpointId) -> Result<bool> {
    let done = query("delete from project_endpoints where project_id = $1 and endpoint_id = $2")
        .bind(project.as_str())
        .bind(endpoint.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether an endpoint group was given to a project.
pub async fn has_group(conn: &mut Conn, project: &ProjectId, group: &EndpointGroupId) -> Result<bool> {
    let row = query("select 1 as one from project_endpoint_groups where project_id = $1 and endpoint_group_id = $2")
        .bind(project.as_str())
        .bind(group.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Gives an endpoint group to a project; whether it hadn't it yet.
pub async fn give_group(tx: &mut Tx, project: &ProjectId, group: &EndpointGroupId) -> Result<bool> {
    let done = query(
        "insert into project_endpoint_groups (project_id, endpoint_group_id) values ($1, $2) \
         on conflict (project_id, endpoint_group_id) do nothing",
    )
    .bind(project.as_str())
    .bind(group.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes an endpoint group back from a project; whether it had it.
pub async fn take_group(tx: &mut Tx, project: &ProjectId, group: &EndpointGroupId) -> Result<bool> {
    let done = query("delete from project_endpoint_groups where project_id = $1 and endpoint_group_id = $2")
        .bind(project.as_str())
        .bind(group.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
