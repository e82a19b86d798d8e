//! Tables `registered_limits` and `limits`: what services' resources are limited to, by default and for some.

use model::id::{DomainId, LimitId, ProjectId, RegisteredLimitId, ServiceId};

use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// The default limit of a service's resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredLimit {
    /// Its id.
    pub id: RegisteredLimitId,
    /// The service.
    pub service_id: ServiceId,
    /// Only in this region.
    pub region_id: Option<String>,
    /// What is limited: `servers`.
    pub resource_name: String,
    /// How many.
    pub default_limit: i64,
    /// For people.
    pub description: Option<String>,
}

/// The limit of one project or domain instead of the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its id.
    pub id: LimitId,
    /// The default that it overrides.
    pub registered_limit_id: RegisteredLimitId,
    /// Whose: a project...
    pub project_id: Option<ProjectId>,
    /// ...or a domain.
    pub domain_id: Option<DomainId>,
    /// How many.
    pub resource_limit: i64,
    /// For people.
    pub description: Option<String>,
    /// Of the registered limit.
    pub service_id: ServiceId,
    /// Of the registered limit.
    pub region_id: Option<String>,
    /// Of the registered limit.
    pub resource_name: String,
    /// The domain of the project.
    pub project_domain_id: Option<DomainId>,
}

fn registered(row: &Row) -> Result<RegisteredLimit> {
    Ok(RegisteredLimit {
        id: row.id("id")?,
        service_id: row.id("service_id")?,
        region_id: row.opt_text("region_id")?,
        resource_name: row.text("resource_name")?,
        default_limit: row.int("default_limit")?,
        description: row.opt_text("description")?,
    })
}

fn limit(row: &Row) -> Result<Limit> {
    Ok(Limit {
        id: row.id("id")?,
        registered_limit_id: row.id("registered_limit_id")?,
        project_id: row.opt_id("project_id")?,
        domain_id: row.opt_id("domain_id")?,
        resource_limit: row.int("resource_limit")?,
        description: row.opt_text("description")?,
        service_id: row.id("service_id")?,
        region_id: row.opt_text("region_id")?,
        resource_name: row.text("resource_name")?,
        project_domain_id: row.opt_id("project_domain_id")?,
    })
}

/// Filters are added by the caller.
pub fn select_registered() -> Select {
    Select::new("select t.* from registered_limits t", "registered_limits t", "t.id")
}

/// Filters are added by the caller: `t` is the limit, `r` its registered limit, `p` its project.
pub fn select() -> Select {
    Select::new(
        "select t.*, r.service_id, r.region_id, r.resource_name, p.domain_id as project_domain_id from limits t \
         join registered_limits r on r.id = t.registered_limit_id left join projects p on p.id = t.project_id",
        "limits t",
        "t.id",
    )
}

/// One page of registered limits.
pub async fn list_registered(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<RegisteredLimit>> {
    select.page(conn, page).await?.iter().map(registered).collect()
}

/// One page of limits.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Limit>> {
    select.page(conn, page).await?.iter().map(limit).collect()
}

/// A registered limit, by id.
pub async fn get_registered(conn: &mut Conn, id: &RegisteredLimitId) -> Result<Option<RegisteredLimit>> {
    let row = query("select * from registered_limits where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(registered).transpose()
}

/// The registered limit of a resource.
pub async fn find_registered(
    conn: &mut Conn,
    service: &ServiceId,
    region: Option<&str>,
    resource: &str,
) -> Result<Option<RegisteredLimit>> {
    let row = query(
        "select * from registered_limits where service_id = $1 and coalesce(region_id, '') = $2 and resource_name = $3",
    )
    .bind(service.as_str())
    .bind(region.unwrap_or_default())
    .bind(resource)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(registered).transpose()
}

/// A limit, by id.
pub async fn get(conn: &mut Conn, id: &LimitId) -> Result<Option<Limit>> {
    let mut select = select();
    select.equal("t.id", id.as_str());
    select.all(conn, "t.id").await?.first().map(limit).transpose()
}

/// Whether any project or domain has a limit of its own for it.
pub async fn is_overridden(conn: &mut Conn, id: &RegisteredLimitId) -> Result<bool> {
    let row = query("select 1 as one from limits where registered_limit_id = $1 limit 1")
        .bind(id.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Adds a registered limit.
pub async fn insert_registered(tx: &mut Tx, limit: &RegisteredLimit) -> Result<()> {
    query(
        "insert into registered_limits (id, service_id, region_id, resource_name, default_limit, description) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(limit.id.as_str())
    .bind(limit.service_id.as_str())
    .bind(limit.region_id.as_deref())
    .bind(limit.resource_name.as_str())
    .bind(limit.default_limit)
    .bind(limit.description.as_deref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes all of a registered limit but its id.
pub async fn update_registered(tx: &mut Tx, limit: &RegisteredLimit) -> Result<()> {
    query(
        "update registered_limits set service_id = $2, region_id = $3, resource_name = $4, default_limit = $5, \
         description = $6 where id = $1",
    )
    .bind(limit.id.as_str())
    .bind(limit.service_id.as_str())
    .bind(limit.region_id.as_deref())
    .bind(limit.resource_name.as_str())
    .bind(limit.default_limit)
    .bind(limit.description.as_deref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a registered limit.
pub async fn delete_registered(tx: &mut Tx, id: &RegisteredLimitId) -> Result<()> {
    query("delete from registered_limits where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Adds a limit.
pub async fn insert(tx: &mut Tx, limit: &Limit) -> Result<()> {
    query(
        "insert into limits (id, registered_limit_id, project_id, domain_id, resource_limit, description) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(limit.id.as_str())
    .bind(limit.registered_limit_id.as_str())
    .bind(limit.project_id.as_ref().map(|id| id.as_str()))
    .bind(limit.domain_id.as_ref().map(|id| id.as_str()))
    .bind(limit.resource_limit)
    .bind(limit.description.as_deref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what may change of a limit.
pub async fn update(tx: &mut Tx, limit: &Limit) -> Result<()> {
    query("update limits set resource_limit = $2, description = $3 where id = $1")
        .bind(limit.id.as_str())
        .bind(limit.resource_limit)
        .bind(limit.description.as_deref())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a limit.
pub async fn delete(tx: &mut Tx, id: &LimitId) -> Result<()> {
    query("delete from limits where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}
