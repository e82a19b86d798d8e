//! Table `domains`.

use model::{
    Timestamp,
    id::{DomainId, UserId},
};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Page, Select},
    query,
};

/// A domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Its id; `default` for the one that bootstrap makes.
    pub id: DomainId,
    /// Unique in the cloud.
    pub name: String,
    /// For people.
    pub description: String,
    /// Nobody of a disabled domain can use a token.
    pub enabled: bool,
    /// Words.
    pub tags: Vec<String>,
    /// Resource options: `immutable`.
    pub options: Extra,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Domain> {
    Ok(Domain {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.flag("enabled")?,
        tags: row.json("tags")?,
        options: row.json("options")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from domains t", "domains t", "t.id")
}

/// Narrows a list to the domains in which a user has a role, its own or a group's.
pub fn with_role_of(select: &mut Select, user: &UserId) {
    select.filter(
        "t.id in (select a.target_id from role_assignments a \
         where a.actor_id in (select ? union all select group_id from group_members where user_id = ?) \
         and a.target_kind = 'domain' and a.inherited = 0)",
        [user.into(), user.into()],
    );
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Domain>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &DomainId) -> Result<Option<Domain>> {
    let row = query("select * from domains where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One, by name.
pub async fn get_by_name(conn: &mut Conn, name: &str) -> Result<Option<Domain>> {
    let row = query("select * from domains where name = $1").bind(name).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one.
pub async fn insert(tx: &mut Tx, domain: &Domain) -> Result<()> {
    query(
        "insert into domains (id, name, description, enabled, extra, created_at, tags, options) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(domain.id.as_str())
    .bind(domain.name.as_str())
    .bind(domain.description.as_str())
    .bind(i64::from(domain.enabled))
    .bind(json_text(&domain.extra))
    .bind(domain.created_at.0)
    .bind(json_text(&domain.tags))
    .bind(json_text(&domain.options))
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::DOMAIN, &domain.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, domain: &Domain) -> Result<()> {
    query(
        "update domains set name = $2, description = $3, enabled = $4, extra = $5, tags = $6, options = $7 where id = $1",
    )
        .bind(domain.id.as_str())
        .bind(domain.name.as_str())
        .bind(domain.description.as_str())
        .bind(i64::from(domain.enabled))
        .bind(json_text(&domain.extra))
        .bind(json_text(&domain.tags))
        .bind(json_text(&domain.options))
        .execute(&mut **tx)
        .await?;
    events::updated(tx, events::DOMAIN, &domain.id);
    Ok(())
}

/// Voids every token of the domain's users and projects, for good.
pub async fn void_tokens(tx: &mut Tx, id: &DomainId) -> Result<()> {
    query("update users set generation = generation + 1 where domain_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    query("update projects set generation = generation + 1 where domain_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes it with its users, groups, projects and roles and all their assignments.
pub async fn delete(tx: &mut Tx, id: &DomainId) -> Result<()> {
    events::deleted_where(tx, events::USER, "domain_id", id.as_str()).await?;
    events::deleted_where(tx, events::GROUP, "domain_id", id.as_str()).await?;
    events::deleted_where(tx, events::ROLE, "domain_id", id.as_str()).await?;
    events::deleted_where(tx, events::PROJECT, "domain_id", id.as_str()).await?;
    events::deleted(tx, events::DOMAIN, id).await?;
    const STATEMENTS: [&str; 10] = [
        "delete from role_assignments where actor_kind = 'user' and actor_id in \
         (select id from users where domain_id = $1)",
        "delete from role_assignments where target_kind = 'project' and target_id in \
         (select id from projects where domain_id = $1)",
        "delete from role_assignments where actor_kind = 'group' and actor_id in \
         (select id from user_groups where domain_id = $1)",
        "delete from role_assignments where target_kind in ('domain', 'project') and target_id = $1",
        "delete from user_groups where domain_id = $1",
        "delete from roles where domain_id = $1",
        "delete from users where domain_id = $1",
        // Children point to parents: untie them first.
        "update projects set parent_id = null where domain_id = $1",
        "delete from projects where domain_id = $1",
        "delete from domains where id = $1",
    ];
    for statement in STATEMENTS {
        query(statement).bind(id.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}
