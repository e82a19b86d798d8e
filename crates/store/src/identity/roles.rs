//! Tables `roles` and `role_implications`.

use model::{Timestamp, id::RoleId};

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
    /// Unique in the cloud; policy rules go by it.
    pub name: String,
    /// For people.
    pub description: Option<String>,
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

fn from_row(row: &Row) -> Result<Role> {
    Ok(Role {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
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

/// One, by name.
pub async fn get_by_name(conn: &mut Conn, name: &str) -> Result<Option<Role>> {
    let row = query("select * from roles where name = $1").bind(name).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one.
pub async fn insert(tx: &mut Tx, role: &Role) -> Result<()> {
    query("insert into roles (id, name, description, extra, created_at) values ($1, $2, $3, $4, $5)")
        .bind(role.id.as_str())
        .bind(role.name.as_str())
        .bind(role.description.as_deref())
        .bind(json_text(&role.extra))
        .bind(role.created_at.0)
        .execute(&mut **tx)
        .await?;
    events::created(tx, events::ROLE, &role.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, role: &Role) -> Result<()> {
    query("update roles set name = $2, description = $3, extra = $4 where id = $1")
        .bind(role.id.as_str())
        .bind(role.name.as_str())
        .bind(role.description.as_deref())
        .bind(json_text(&role.extra))
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
