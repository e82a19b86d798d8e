//! Figures over servers, for administrators and invoices: what runs where, and who used how much for how long.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    id::{HostId, ProjectId, ServerId},
};

use crate::{
    Conn, Result, Row, RowExt,
    list::{Direction, Page, Select, SortKey, Type},
    query,
};

/// A server's name and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: ServerId,
    /// Its name.
    pub name: String,
}

/// The servers of each host.
pub async fn servers_by_host(conn: &mut Conn) -> Result<BTreeMap<HostId, Vec<Named>>> {
    let rows = query(
        "select host_id, id, name from servers where deleted_at is null and host_id is not null order by created_at, id",
    )
    .fetch_all(conn)
    .await?;
    let mut by_host: BTreeMap<HostId, Vec<Named>> = BTreeMap::new();
    for row in &rows {
        by_host.entry(row.id("host_id")?).or_default().push(Named { id: row.id("id")?, name: row.text("name")? });
    }
    Ok(by_host)
}

/// How many servers of each host something is being done with.
pub async fn workload(conn: &mut Conn) -> Result<BTreeMap<HostId, i64>> {
    let rows = query(
        "select host_id, count(*) as servers from servers \
         where deleted_at is null and host_id is not null and task_state is not null group by host_id",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.id("host_id")?, row.int("servers")?))).collect()
}

/// A server that ran at some time, deleted or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Its id.
    pub id: ServerId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its flavor, as it was copied: name, vcpus, memory_mib, disk_gib, ephemeral_gib.
    pub flavor: serde_json::Value,
    /// Its state now.
    pub vm_state: String,
    /// Its host's name.
    pub node: Option<String>,
    /// When it first ran.
    pub launched_at: Timestamp,
    /// When it ended.
    pub terminated_at: Option<Timestamp>,
}

fn from_row(row: &Row) -> Result<Ran> {
    Ok(Ran {
        id: row.id("id")?,
        project_id: row.id("project_id")?,
        name: row.text("name")?,
        flavor: row.json("flavor")?,
        vm_state: row.text("vm_state")?,
        node: row.opt_text("node")?,
        launched_at: row.time("launched_at")?,
        terminated_at: row.opt_time("terminated_at")?,
    })
}

/// Servers that ran between the two moments: of one project or of all, project by project, at most `limit` of those
/// after the server `marker`.
pub async fn ran_between(
    conn: &mut Conn,
    (from, to): (Timestamp, Timestamp),
    project: Option<&ProjectId>,
    limit: u32,
    marker: Option<&str>,
) -> Result<Vec<Ran>> {
    let key = |name, sql, kind| (SortKey { name, sql, kind }, Direction::Ascending);
    let sorts = vec![key("project_id", "s.project_id", Type::Text), key("created_at", "s.created_at", Type::Int)];
    let mut select = Select::new("select s.* from servers s", "servers s", "s.id");
    select.filter("s.launched_at < ?", [to.0.into()]);
    select.filter("(s.terminated_at is null or s.terminated_at > ?)", [from.0.into()]);
    if let Some(project) = project {
        select.equal("s.project_id", project);
    }
    let page = Page { limit, marker: marker.map(str::to_owned), sorts, reverse: false };
    select.page(conn, &page).await?.iter().map(from_row).collect()
}
