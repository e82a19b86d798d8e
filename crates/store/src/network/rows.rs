//! What is the same in all tables of the service: revisions, statuses, and how rows go.

use sqlx::AssertSqlSafe;

use crate::{
    Conn, Result, RowExt, Tx,
    events::{self, Kind},
    flows, query,
};

/// A table whose rows OVN realizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Table {
    Networks,
    Subnets,
    Ports,
    Routers,
    FloatingIps,
    SecurityGroups,
}

impl Table {
    /// Every table, those first that others refer to.
    pub const ALL: [Self; 6] =
        [Self::Networks, Self::Subnets, Self::SecurityGroups, Self::Ports, Self::Routers, Self::FloatingIps];

    /// What events call its rows.
    fn kind(self) -> Kind {
        match self {
            Self::Networks => events::NETWORK,
            Self::Subnets => events::SUBNET,
            Self::Ports => events::PORT,
            Self::Routers => events::ROUTER,
            Self::FloatingIps => events::FLOATING_IP,
            Self::SecurityGroups => events::SECURITY_GROUP,
        }
    }

    /// As SQL has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Subnets => "subnets",
            Self::Ports => "ports",
            Self::Routers => "routers",
            Self::FloatingIps => "floating_ips",
            Self::SecurityGroups => "security_groups",
        }
    }
}

/// `realized_revision` of a port that a router took over: OVN may still hold it as something else.
pub const HANDED_OVER: i64 = -2;

/// Raises the revision and wakes the flow: intent changed.
pub async fn touch(tx: &mut Tx, table: Table, id: &str) -> Result<()> {
    let sql = format!("update {} set revision = revision + 1, updated_at = $2 where id = $1", table.name());
    query(AssertSqlSafe(sql)).bind(id).bind(tx.now().0).execute(&mut **tx).await?;
    events::updated(tx, table.kind(), id);
    flows::wake(tx, id);
    Ok(())
}

/// Marks the row as one that is to go and wakes its flow. False if it was so marked already or is not there.
pub(super) async fn mark_deleted(tx: &mut Tx, table: Table, id: &str) -> Result<bool> {
    let sql = format!("update {} set deleted_at = $2 where id = $1 and deleted_at is null", table.name());
    let marked = query(AssertSqlSafe(sql)).bind(id).bind(tx.now().0).execute(&mut **tx).await?;
    query("delete from network_tags where resource_id = $1").bind(id).execute(&mut **tx).await?;
    if marked.rows_affected() > 0 {
        events::deleted(tx, table.kind(), id).await?;
    }
    flows::wake(tx, id);
    Ok(marked.rows_affected() > 0)
}

/// Records the revision that OVN holds. For flows.
pub async fn set_realized(tx: &mut Tx, table: Table, id: &str, revision: i64) -> Result<()> {
    let sql = format!("update {} set realized_revision = $2 where id = $1", table.name());
    query(AssertSqlSafe(sql)).bind(id).bind(revision).execute(&mut **tx).await?;
    Ok(())
}

/// Shows a status. Subnets and security groups have none. For flows.
pub async fn set_status(tx: &mut Tx, table: Table, id: &str, status: &str) -> Result<()> {
    let sql = format!("update {} set status = $2 where id = $1 and status <> $2", table.name());
    let changed = query(AssertSqlSafe(sql)).bind(id).bind(status).execute(&mut **tx).await?;
    if changed.rows_affected() > 0 {
        events::updated(tx, table.kind(), id);
    }
    Ok(())
}

/// Removes a row that is marked, once nothing of it is left in OVN. For flows.
pub async fn purge(tx: &mut Tx, table: Table, id: &str) -> Result<()> {
    let sql = format!("delete from {} where id = $1 and deleted_at is not null", table.name());
    query(AssertSqlSafe(sql)).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Live rows that have no flow although their kind has. Routers realize their own ports, and addresses of floating IPs
/// need none.
pub async fn without_flow(conn: &mut Conn, table: Table) -> Result<Vec<String>> {
    let but = match table {
        Table::Ports => {
            "and r.device_owner not in ('network:router_interface', 'network:router_gateway', 'network:floatingip')"
        }
        _ => "",
    };
    let sql = format!(
        "select r.id from {} r where not exists (select 1 from flows f where f.id = r.id) {but} order by r.id",
        table.name()
    );
    let rows = query(AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(|row| row.text("id")).collect()
}
