//! Table `projects`.

use model::{
    Timestamp,
    id::{DomainId, ProjectId, UserId},
};

use sqlx::AssertSqlSafe;

use super::{Extra, json_text};
use crate::{
    Conn, Dialect, Result, Row, RowExt, Tx, events,
    list::{Page, Select, Value},
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
    /// Resource options: `immutable`.
    pub options: Extra,
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
        options: row.json("options")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from projects t", "projects t", "t.id")
}

/// Narrows a list to the projects in which a user has a role: its own or a group's, given there or inherited.
pub fn with_role_of(select: &mut Select, user: &UserId) {
    let values = std::iter::repeat_n(Value::from(user), 6);
    select.filter(
        "(t.id in (select a.target_id from role_assignments a \
             where a.actor_id in (select ? union all select group_id from group_members where user_id = ?) \
             and a.target_kind = 'project' and a.inherited = 0) \
         or t.domain_id in (select a.target_id from role_assignments a \
             where a.actor_id in (select ? union all select group_id from group_members where user_id = ?) \
             and a.target_kind = 'domain' and a.inherited = 1) \
         or t.id in (with recursive below (id) as ( \
             select p.id from projects p where p.parent_id in (select a.target_id from role_assignments a \
                 where a.actor_id in (select ? union all select group_id from group_members where user_id = ?) \
                 and a.target_kind = 'project' and a.inherited = 1) \
             union select p.id from projects p join below b on p.parent_id = b.id) select id from below))",
        values,
    );
}

/// How a list is narrowed by tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagged {
    /// All of them.
    All,
    /// At least one.
    Any,
    /// Not all of them.
    NotAll,
    /// None of them.
    NotAny,
}

/// Narrows a list to projects by their tags.
pub fn tagged(select: &mut Select, how: Tagged, tags: &[&str]) {
    // The column is a JSON list, and no tag has a comma: `,"tag"` is that tag and nothing else.
    let needle = |tag: &&str| Value::from(format!(",{}", json_text(tag)));
    const HAS: &str = "replace(',' || substr(t.tags, 2), ?, '') <> ',' || substr(t.tags, 2)";
    const HAS_NOT: &str = "replace(',' || substr(t.tags, 2), ?, '') = ',' || substr(t.tags, 2)";
    let needles: Vec<Value> = tags.iter().map(needle).collect();
    match how {
        Tagged::All => needles.into_iter().for_each(|n| {
            select.filter(HAS, [n]);
        }),
        Tagged::NotAny => needles.into_iter().for_each(|n| {
            select.filter(HAS_NOT, [n]);
        }),
        Tagged::Any => {
            select.any_holds(HAS, needles);
        }
        Tagged::NotAll => {
            select.any_holds(HAS_NOT, needles);
        }
    }
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

/// The ids of what stands above it, nearest first: projects, and its domain last.
pub async fn above(conn: &mut Conn, id: &ProjectId) -> Result<Vec<String>> {
    let rows = query(
        "with recursive above (id, parent_id, domain_id, height) as ( \
           select id, parent_id, domain_id, 0 from projects where id = $1 \
           union all select p.id, p.parent_id, p.domain_id, a.height + 1 \
             from projects p join above a on p.id = a.parent_id where a.height < 32) \
         select id, domain_id from above order by height",
    )
    .bind(id.as_str())
    .fetch_all(conn)
    .await?;
    let mut ids: Vec<String> = rows.iter().skip(1).map(|row| row.text("id")).collect::<Result<_>>()?;
    if let Some(row) = rows.last() {
        ids.push(row.text("domain_id")?);
    }
    Ok(ids)
}

/// The projects that stand below it, parents before children, up to a number.
pub async fn subtree(conn: &mut Conn, id: &ProjectId, at_most: u32) -> Result<Vec<Project>> {
    let sql = format!(
        "with recursive below (id, depth) as ( \
           select id, 1 from projects where parent_id = $1 \
           union all select p.id, b.depth + 1 from projects p join below b on p.parent_id = b.id where b.depth < 32) \
         select p.* from below b join projects p on p.id = b.id order by b.depth, p.name limit {at_most}"
    );
    let rows = query(AssertSqlSafe(sql)).bind(id.as_str()).fetch_all(conn).await?;
    rows.iter().map(from_row).collect()
}

/// The projects below some projects and in some domains, as (what they are below, project), up to a number.
pub async fn below(
    conn: &mut Conn,
    dialect: Dialect,
    roots: &[&str],
    at_most: u32,
) -> Result<Vec<(String, ProjectId)>> {
    let roots_in = dialect.elements("$1");
    let sql = format!(
        "with recursive below (root, id, depth) as ( \
           select parent_id, id, 1 from projects where parent_id in ({roots_in}) \
           union all select b.root, p.id, b.depth + 1 from projects p join below b on p.parent_id = b.id \
             where b.depth < 32) \
         select root, id from (select root, id from below \
           union all select domain_id, id from projects where domain_id in ({roots_in})) x \
         order by root, id limit {at_most}"
    );
    let rows = query(AssertSqlSafe(sql)).bind(json_text(&roots)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.text("root")?, row.id("id")?))).collect()
}

/// Enables or disables all that stands below it; what is disabled has its tokens void.
pub async fn enable_subtree(tx: &mut Tx, id: &ProjectId, enabled: bool) -> Result<()> {
    let rows = query(
        "update projects set enabled = $2, generation = generation + 1 - $2 where enabled <> $2 and id in ( \
           with recursive below (id) as ( \
             select id from projects where parent_id = $1 \
             union select p.id from projects p join below b on p.parent_id = b.id) select id from below) returning id",
    )
    .bind(id.as_str())
    .bind(i64::from(enabled))
    .fetch_all(&mut **tx)
    .await?;
    for row in &rows {
        events::updated(tx, events::PROJECT, &row.id::<model::id::kind::Project>("id")?);
    }
    Ok(())
}

/// Adds one.
pub async fn insert(tx: &mut Tx, project: &Project) -> Result<()> {
    query(
        "insert into projects (id, domain_id, parent_id, name, description, enabled, generation, tags, extra, created_at, \
         options) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
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
    .bind(json_text(&project.options))
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::PROJECT, &project.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, project: &Project) -> Result<()> {
    query(
        "update projects set name = $2, description = $3, enabled = $4, generation = $5, tags = $6, extra = $7, \
         options = $8 where id = $1",
    )
    .bind(project.id.as_str())
    .bind(project.name.as_str())
    .bind(project.description.as_str())
    .bind(i64::from(project.enabled))
    .bind(project.generation)
    .bind(json_text(&project.tags))
    .bind(json_text(&project.extra))
    .bind(json_text(&project.options))
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
