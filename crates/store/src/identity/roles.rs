//! Tables `roles` and `role_implications`.

use model::{
    Timestamp,
    id::{DomainId, RoleId},
};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Page, Select},
    query,
};

/// A role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Unique in the cloud, or in its domain; policy rules go by it.
    pub name: String,
    /// Where it is a domain's own: such a role only implies others.
    pub domain_id: Option<DomainId>,
    /// For people.
    pub description: Option<String>,
    /// Resource options: `immutable`.
    pub options: Extra,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

/// That one role brings another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Implication {
    /// Whoever has this one...
    pub prior: RoleId,
    /// ...has this one too.
    pub implied: RoleId,
}

pub(super) fn from_row(row: &Row) -> Result<Role> {
    Ok(Role {
        id: row.id("id")?,
        name: row.text("name")?,
        domain_id: row.opt_id("domain_id")?,
        description: row.opt_text("description")?,
        options: row.json("options")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from roles t", "roles t", "t.id")
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Role>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &RoleId) -> Result<Option<Role>> {
    let row = query("select * from roles where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One of the cloud's, by name.
pub async fn get_by_name(conn: &mut Conn, name: &str) -> Result<Option<Role>> {
    let row =
        query("select * from roles where name = $1 and domain_id is null").bind(name).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one.
pub async fn insert(tx: &mut Tx, role: &Role) -> Result<()> {
    query(
        "insert into roles (id, name, description, extra, created_at, domain_id, options) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(role.id.as_str())
    .bind(role.name.as_str())
    .bind(role.description.as_deref())
    .bind(json_text(&role.extra))
    .bind(role.created_at.0)
    .bind(role.domain_id.as_ref().map(|id| id.as_str()))
    .bind(json_text(&role.options))
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::ROLE, &role.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, role: &Role) -> Result<()> {
    query("update roles set name = $2, description = $3, extra = $4, options = $5 where id = $1")
        .bind(role.id.as_str())
        .bind(role.name.as_str())
        .bind(role.description.as_deref())
        .bind(json_text(&role.extra))
        .bind(json_text(&role.options))
        .execute(&mut **tx)
        .await?;
    events::updated(tx, events::ROLE, &role.id);
    Ok(())
}

/// Removes it; its assignments and implications go with it.
pub async fn delete(tx: &mut Tx, id: &RoleId) -> Result<()> {
    events::deleted(tx, events::ROLE, id).await?;
    query("delete from roles where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// The ids of all roles of domains' own.
pub async fn of_domains(conn: &mut Conn) -> Result<Vec<RoleId>> {
    let rows = query("select id from roles where domain_id is not null order by id").fetch_all(conn).await?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// Every implication, in order.
pub async fn implications(conn: &mut Conn) -> Result<Vec<Implication>> {
    let rows =
        query("select prior_role_id, implied_role_id from role_implications order by prior_role_id, implied_role_id")
            .fetch_all(conn)
            .await?;
    let read = |row: &Row| Ok(Implication { prior: row.id("prior_role_id")?, implied: row.id("implied_role_id")? });
    rows.iter().map(read).collect()
}

/// Makes one role imply another, if it doesn't yet.
pub async fn imply(tx: &mut Tx, prior: &RoleId, implied: &RoleId) -> Result<()> {
    query(
        "insert into role_implications (prior_role_id, implied_role_id) values ($1, $2) \
         on conflict (prior_role_id, implied_role_id) do nothing",
    )
    .bind(prior.as_str())
    .bind(implied.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends an implication; whether there was one.
pub async fn unimply(tx: &mut Tx, prior: &RoleId, implied: &RoleId) -> Result<bool> {
    let done = query("delete from role_implications where prior_role_id = $1 and implied_role_id = $2")
        .bind(prior.as_str())
        .bind(implied.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
