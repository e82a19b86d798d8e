//! Table `allocations`: what servers hold of hosts. Whoever inserts one holds [`lock`], so that two servers can't both
//! take a host's last memory.

use model::{
    id::{HostId, ServerId},
    placement::Candidate,
};

use super::hosts::{Host, SILENCE};
use crate::{Conn, Dialect, Result, Row, RowExt, Tx, query};

/// A number that all control planes agree on for PostgreSQL's advisory lock.
const PLACEMENT_LOCK: i64 = 0x6e61_6372_6501;

/// How far hosts are over-committed, in hundredths.
#[derive(Clone, Copy, Debug)]
pub struct Ratios {
    /// Processors.
    pub vcpus: i64,
    /// Memory.
    pub memory: i64,
    /// Disk.
    pub disk: i64,
}

impl Ratios {
    fn of(total: i64, ratio: i64) -> i64 {
        total.saturating_mul(ratio) / 100
    }
}

/// What a server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The server.
    pub server_id: ServerId,
    /// The host.
    pub host_id: HostId,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory.
    pub memory_mib: i64,
    /// Disk.
    pub disk_gib: i64,
}

/// A host and what is claimed of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The host.
    pub host: Host,
    /// Claimed virtual CPUs.
    pub vcpus: i64,
    /// Claimed memory.
    pub memory_mib: i64,
    /// Claimed disk.
    pub disk_gib: i64,
    /// Servers that hold something.
    pub servers: i64,
}

impl Usage {
    /// The host as placement sees it.
    pub fn candidate(&self, ratios: Ratios, now: model::Timestamp) -> Candidate {
        let (host, facts) = (&self.host, &self.host.facts);
        Candidate {
            id: host.id.clone(),
            name: host.name.clone(),
            zone: host.zone.clone(),
            enabled: host.enabled,
            up: host.up && now.since(host.seen_at) < SILENCE,
            vcpus: Ratios::of(facts.vcpus, ratios.vcpus),
            vcpus_used: self.vcpus,
            memory_mib: Ratios::of(facts.memory_mib, ratios.memory),
            memory_mib_used: self.memory_mib,
            disk_gib: Ratios::of(facts.disk_gib, ratios.disk),
            disk_gib_used: self.disk_gib,
        }
    }
}

/// Keeps other schedulers out until the transaction ends. SQLite's write transactions exclude each other anyhow.
pub async fn lock(tx: &mut Tx) -> Result<()> {
    if tx.db().dialect() == Dialect::Postgres {
        query("select pg_advisory_xact_lock($1)::text").bind(PLACEMENT_LOCK).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Every host and what is claimed of it.
pub async fn usages(conn: &mut Conn) -> Result<Vec<Usage>> {
    let rows = query(
        "select h.*, cast(coalesce(a.vcpus_used, 0) as bigint) as vcpus_used, \
         cast(coalesce(a.memory_used, 0) as bigint) as memory_used, cast(coalesce(a.disk_used, 0) as bigint) as disk_used, \
         cast(coalesce(a.servers, 0) as bigint) as servers from hosts h left join (select host_id, \
         sum(vcpus) as vcpus_used, sum(memory_mib) as memory_used, sum(disk_gib) as disk_used, count(*) as servers \
         from allocations group by host_id) a on a.host_id = h.id where h.forgotten_at is null order by h.name",
    )
    .fetch_all(conn)
    .await?;
    let usage = |row: &Row| {
        Ok(Usage {
            host: Host::from_row(row)?,
            vcpus: row.int("vcpus_used")?,
            memory_mib: row.int("memory_used")?,
            disk_gib: row.int("disk_used")?,
            servers: row.int("servers")?,
        })
    };
    rows.iter().map(usage).collect()
}

/// Claims. A server holds something of one host only.
pub async fn insert(tx: &mut Tx, allocation: &Allocation) -> Result<()> {
    let now = tx.now();
    query(
        "insert into allocations (server_id, host_id, vcpus, memory_mib, disk_gib, created_at) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(allocation.server_id.as_str())
    .bind(allocation.host_id.as_str())
    .bind(allocation.vcpus)
    .bind(allocation.memory_mib)
    .bind(allocation.disk_gib)
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    changed(tx, allocation.server_id.as_str()).await
}

/// Placement's generation of the host of which something is claimed.
async fn changed(tx: &mut Tx, server: &str) -> Result<()> {
    query(
        "update hosts set generation = generation + 1 \
         where id in (select host_id from allocations where server_id = $1)",
    )
    .bind(server)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Changes what a server holds of its host.
pub async fn update(tx: &mut Tx, allocation: &Allocation) -> Result<()> {
    let now = tx.now();
    // The moment is what Placement tells one claim of a server from the next by.
    query("update allocations set vcpus = $2, memory_mib = $3, disk_gib = $4, created_at = $5 where server_id = $1")
        .bind(allocation.server_id.as_str())
        .bind(allocation.vcpus)
        .bind(allocation.memory_mib)
        .bind(allocation.disk_gib)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    changed(tx, allocation.server_id.as_str()).await
}

/// Gives back what a server holds.
pub async fn delete(tx: &mut Tx, server: &ServerId) -> Result<()> {
    changed(tx, server.as_str()).await?;
    query("delete from allocations where server_id = $1").bind(server.as_str()).execute(&mut **tx).await?;
    Ok(())
}
