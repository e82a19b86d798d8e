//! Tables `server_groups` and `server_group_members`: servers that are kept together or apart.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    id::{HostId, ProjectId, ServerId},
};

use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select, SortKey, Type},
    query,
};

/// A group of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroup {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Who created it.
    pub user_id: String,
    /// Its name.
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// For `anti-affinity`: servers of the group on one host; one where not said.
    pub per_host: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<ServerGroup> {
    Ok(ServerGroup {
        id: row.text("id")?,
        project_id: row.id("project_id")?,
        user_id: row.text("user_id")?,
        name: row.text("name")?,
        policy: row.text("policy")?,
        per_host: row.opt_int("per_host")?,
        created_at: row.time("created_at")?,
    })
}

/// The order of lists.
pub const BY_CREATION: SortKey = SortKey { name: "created_at", sql: "g.created_at", kind: Type::Int };

/// A page of a project's groups, or of all.
pub async fn list(conn: &mut Conn, project: Option<&ProjectId>, page: &Page) -> Result<Vec<ServerGroup>> {
    let mut select = Select::new("select g.* from server_groups g", "server_groups g", "g.id");
    if let Some(project) = project {
        select.equal("g.project_id", project);
    }
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One group.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Option<ServerGroup>> {
    let row = query("select * from server_groups where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// The group that a server is in.
pub async fn of_server(conn: &mut Conn, server: &ServerId) -> Result<Option<ServerGroup>> {
    let row = query(
        "select g.* from server_groups g join server_group_members m on m.group_id = g.id where m.server_id = $1",
    )
    .bind(server.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds a group.
pub async fn insert(tx: &mut Tx, group: &ServerGroup) -> Result<()> {
    query(
        "insert into server_groups (id, project_id, user_id, name, policy, per_host, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(group.id.as_str())
    .bind(group.project_id.as_str())
    .bind(group.user_id.as_str())
    .bind(group.name.as_str())
    .bind(group.policy.as_str())
    .bind(group.per_host)
    .bind(group.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a group; its servers stay. Whether it was there.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(query("delete from server_groups where id = $1").bind(id).execute(&mut **tx).await?.rows_affected() > 0)
}

/// Puts a server into a group.
pub async fn add_member(tx: &mut Tx, id: &str, server: &ServerId) -> Result<()> {
    query("insert into server_group_members (group_id, server_id) values ($1, $2)")
        .bind(id)
        .bind(server.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes a server out of its group.
pub async fn remove_member(tx: &mut Tx, server: &ServerId) -> Result<()> {
    query("delete from server_group_members where server_id = $1").bind(server.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// The members of these groups, in the order of their creation.
pub async fn members(conn: &mut Conn, groups: &[ServerGroup]) -> Result<BTreeMap<String, Vec<ServerId>>> {
    let mut all: BTreeMap<String, Vec<ServerId>> = BTreeMap::new();
    let ids: Vec<&str> = groups.iter().map(|group| group.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(all);
    }
    let mut select = Select::new(
        "select m.group_id, m.server_id from server_group_members m join servers s on s.id = m.server_id",
        "server_group_members m join servers s on s.id = m.server_id",
        "m.server_id",
    );
    select.any_of("m.group_id", ids.iter().map(|id| (*id).into()).collect::<Vec<_>>());
    select.filter("s.deleted_at is null", []);
    let order = SortKey { name: "created_at", sql: "s.created_at", kind: Type::Int };
    let sorts = vec![(order, crate::list::Direction::Ascending)];
    let page = Page { limit: u32::MAX, marker: None, sorts, reverse: false };
    for row in &select.page(conn, &page).await? {
        all.entry(row.text("group_id")?).or_default().push(row.id("server_id")?);
    }
    Ok(all)
}

/// How many living members a group has.
pub async fn count_members(conn: &mut Conn, id: &str) -> Result<i64> {
    query(
        "select count(*) as members from server_group_members m join servers s on s.id = m.server_id \
         where m.group_id = $1 and s.deleted_at is null",
    )
    .bind(id)
    .fetch_one(conn)
    .await?
    .int("members")
}

/// Where the group's servers hold something, the given one apart, and how many on each host.
pub async fn hosts(conn: &mut Conn, id: &str, except: &ServerId) -> Result<BTreeMap<HostId, i64>> {
    let rows = query(
        "select a.host_id, count(*) as servers from server_group_members m join allocations a on a.server_id = m.server_id \
         where m.group_id = $1 and m.server_id <> $2 group by a.host_id",
    )
    .bind(id)
    .bind(except.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.id("host_id")?, row.int("servers")?))).collect()
}
