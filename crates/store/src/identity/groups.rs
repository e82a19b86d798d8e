//! Tables `user_groups` and `group_members`.

use model::{
    Timestamp,
    id::{DomainId, GroupId, UserId},
};
use sqlx::AssertSqlSafe;

use super::{Extra, json_text};
use crate::{
    Conn, Dialect, Result, Row, RowExt, Tx, events,
    list::{Page, Select},
    query,
};

/// A group of users.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its domain.
    pub domain_id: DomainId,
    /// Unique in the domain.
    pub name: String,
    /// For people.
    pub description: String,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Group> {
    Ok(Group {
        id: row.id("id")?,
        domain_id: row.id("domain_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from user_groups t", "user_groups t", "t.id")
}

/// Narrows a list of groups to those that a user is in.
pub fn with_member(select: &mut Select, user: &UserId) {
    select.filter("t.id in (select group_id from group_members where user_id = ?)", [user.into()]);
}

/// Narrows a list of users to the members of a group.
pub fn members(select: &mut Select, group: &GroupId) {
    select.filter("t.id in (select user_id from group_members where group_id = ?)", [group.into()]);
}

/// Narrows a list to those that their directory still has, where they have one.
pub fn only_present(select: &mut Select) {
    select.filter("t.id not in (select public_id from directory_entries where gone = 1)", []);
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Group>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &GroupId) -> Result<Option<Group>> {
    let row = query("select * from user_groups where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One, by its name in a domain.
pub async fn get_by_name(conn: &mut Conn, domain: &DomainId, name: &str) -> Result<Option<Group>> {
    let row = query("select * from user_groups where domain_id = $1 and name = $2")
        .bind(domain.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one.
pub async fn insert(tx: &mut Tx, group: &Group) -> Result<()> {
    query(
        "insert into user_groups (id, domain_id, name, description, extra, created_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(group.id.as_str())
    .bind(group.domain_id.as_str())
    .bind(group.name.as_str())
    .bind(group.description.as_str())
    .bind(json_text(&group.extra))
    .bind(group.created_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::GROUP, &group.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, group: &Group) -> Result<()> {
    query("update user_groups set name = $2, description = $3, extra = $4 where id = $1")
        .bind(group.id.as_str())
        .bind(group.name.as_str())
        .bind(group.description.as_str())
        .bind(json_text(&group.extra))
        .execute(&mut **tx)
        .await?;
    events::updated(tx, events::GROUP, &group.id);
    Ok(())
}

/// Removes it, its assignments and its memberships.
pub async fn delete(tx: &mut Tx, id: &GroupId) -> Result<()> {
    events::deleted(tx, events::GROUP, id).await?;
    query("delete from role_assignments where actor_kind = 'group' and actor_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    query("delete from user_groups where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// The groups that a user is in.
pub async fn ids_of(conn: &mut Conn, user: &UserId) -> Result<Vec<GroupId>> {
    let rows = query("select group_id from group_members where user_id = $1 order by group_id")
        .bind(user.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.id("group_id")).collect()
}

/// The members of some groups, as (group, user), up to a number.
pub async fn members_of(
    conn: &mut Conn,
    dialect: Dialect,
    groups: &[&str],
    at_most: u32,
) -> Result<Vec<(String, UserId)>> {
    let sql = format!(
        "select group_id, user_id from group_members where group_id in ({}) order by group_id, user_id limit {at_most}",
        dialect.elements("$1")
    );
    let rows = query(AssertSqlSafe(sql)).bind(json_text(&groups)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.text("group_id")?, row.id("user_id")?))).collect()
}

/// Whether a user is in a group.
pub async fn is_member(conn: &mut Conn, group: &GroupId, user: &UserId) -> Result<bool> {
    let row = query("select 1 as one from group_members where user_id = $1 and group_id = $2")
        .bind(user.as_str())
        .bind(group.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Puts a user into a group, if it isn't in it yet.
pub async fn add_member(tx: &mut Tx, group: &GroupId, user: &UserId) -> Result<()> {
    query("insert into group_members (user_id, group_id) values ($1, $2) on conflict (user_id, group_id) do nothing")
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(&mut **tx)
        .await?;
    // Whatever made it before: from now on it lasts.
    query("update expiring_group_members set added = 0 where user_id = $1 and group_id = $2")
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes a user out of a group; whether it was in it.
pub async fn remove_member(tx: &mut Tx, group: &GroupId, user: &UserId) -> Result<bool> {
    let done = query("delete from group_members where user_id = $1 and group_id = $2")
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
