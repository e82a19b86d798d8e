//! Table `projects`.

use model::{
    Timestamp,
    id::{DomainId, ProjectId, UserId},
};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Page, Select},
    query,
};

/// A project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its domain.
    pub domain_id: DomainId,
    /// The project above it; none: it stands directly below its domain.
    pub parent_id: Option<ProjectId>,
    /// Unique in the domain.
    pub name: String,
    /// For people.
    pub description: String,
    /// No token works for a disabled one.
    pub enabled: bool,
    /// Tokens of an older generation are void.
    pub generation: i64,
    /// Words.
    pub tags: Vec<String>,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Project> {
    Ok(Project {
        id: row.id("id")?,
        domain_id: row.id("domain_id")?,
        parent_id: row.opt_id("parent_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.flag("enabled")?,
        generation: row.int("generation")?,
        tags: row.json("tags")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from projects t", "projects t", "t.id")
}

/// Narrows a list to the projects in which a user has a role.
pub fn with_role_of(select: &mut Select, user: &UserId) {
    select.filter(
        "t.id in (select target_id from role_assignments \
         where actor_kind = 'user' and actor_id = ? and target_kind = 'project' and inherited = 0)",
        [user.into()],
    );
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Project>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &ProjectId) -> Result<Option<Project>> {
    let row = query("select * from projects where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One, by its name in a domain.
pub async fn get_by_name(conn: &mut Conn, domain: &DomainId, name: &str) -> Result<Option<Project>> {
    let row = query("select * from projects where domain_id = $1 and name = $2")
        .bind(domain.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Whether any project stands directly below it, or any that is enabled.
pub async fn has_children(conn: &mut Conn, id: &ProjectId, only_enabled: bool) -> Result<bool> {
    let row = query("select 1 as one from projects where parent_id = $1 and enabled >= $2 limit 1")
        .bind(id.as_str())
        .bind(i64::from(only_enabled))
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// How many projects stand above it, up to the domain.
pub async fn depth(conn: &mut Conn, id: &ProjectId) -> Result<i64> {
    let row = query(
        "with recursive above (id, parent_id) as ( \
           select id, parent_id from projects where id = $1 \
           union select p.id, p.parent_id from projects p join above a on p.id = a.parent_id) \
         select count(*) as depth from above",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    row.int("depth")
}

/// Adds one.
pub async fn insert(tx: &mut Tx, project: &Project) -> Result<()> {
    query(
        "insert into projects (id, domain_id, parent_id, name, description, enabled, generation, tags, extra, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(project.id.as_str())
    .bind(project.domain_id.as_str())
    .bind(project.parent_id.as_ref().map(|id| id.as_str()))
    .bind(project.name.as_str())
    .bind(project.description.as_str())
    .bind(i64::from(project.enabled))
    .bind(project.generation)
    .bind(json_text(&project.tags))
    .bind(json_text(&project.extra))
    .bind(project.created_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::PROJECT, &project.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, project: &Project) -> Result<()> {
    query(
        "update projects set name = $2, description = $3, enabled = $4, generation = $5, tags = $6, extra = $7 \
         where id = $1",
    )
    .bind(project.id.as_str())
    .bind(project.name.as_str())
    .bind(project.description.as_str())
    .bind(i64::from(project.enabled))
    .bind(project.generation)
    .bind(json_text(&project.tags))
    .bind(json_text(&project.extra))
    .execute(&mut **tx)
    .await?;
    events::updated(tx, events::PROJECT, &project.id);
    Ok(())
}

/// Removes it and the assignments on it.
pub async fn delete(tx: &mut Tx, id: &ProjectId) -> Result<()> {
    events::deleted(tx, events::PROJECT, id).await?;
    query("delete from role_assignments where target_kind = 'project' and target_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    query("delete from projects where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}
