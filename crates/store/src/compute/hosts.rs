//! Table `hosts`: hypervisor hosts, as their agents described them when they last connected.

use std::time::Duration;

use model::{Timestamp, id::HostId};

use super::json;
use crate::{Conn, Result, Row, RowExt, Tx, events, query};

/// A host that gave no sign of life for so long is down, whatever its row says (Nova's `service_down_time`).
pub const SILENCE: Duration = Duration::from_secs(60);

/// A host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// A UUID that it keeps for life.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// Whether an administrator lets it take servers.
    pub enabled: bool,
    /// Why not.
    pub disabled_reason: String,
    /// Whether its agent is connected, as far as known.
    pub up: bool,
    /// Since when.
    pub state_since: Timestamp,
    /// Its last sign of life.
    pub seen_at: Timestamp,
    /// When it was given up.
    pub forgotten_at: Option<Timestamp>,
    /// What its agent says about it.
    pub facts: Facts,
    /// The last heartbeat's figures.
    pub stats: serde_json::Value,
    /// When it first joined.
    pub created_at: Timestamp,
    /// When its row last changed.
    pub updated_at: Timestamp,
}

/// What an agent says about its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The agent's version.
    pub agent_version: String,
    /// The kernel's boot.
    pub boot_id: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// The processor.
    pub cpu_model: String,
    /// `QEMU`.
    pub hypervisor_type: String,
    /// 7002000 for 7.2.0.
    pub hypervisor_version: i64,
    /// Processors, before over-commit.
    pub vcpus: i64,
    /// Memory, before over-commit.
    pub memory_mib: i64,
    /// Disk, before over-commit.
    pub disk_gib: i64,
    /// Its name in OVN.
    pub chassis: String,
    /// Its addresses.
    pub addresses: Vec<String>,
}

impl Host {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            name: row.text("name")?,
            zone: row.text("zone")?,
            enabled: row.flag("enabled")?,
            disabled_reason: row.text("disabled_reason")?,
            up: row.flag("up")?,
            state_since: row.time("state_since")?,
            seen_at: row.time("seen_at")?,
            forgotten_at: row.opt_time("forgotten_at")?,
            facts: Facts {
                agent_version: row.text("agent_version")?,
                boot_id: row.text("boot_id")?,
                accelerator: row.text("accelerator")?,
                cpu_model: row.text("cpu_model")?,
                hypervisor_type: row.text("hypervisor_type")?,
                hypervisor_version: row.int("hypervisor_version")?,
                vcpus: row.int("vcpus")?,
                memory_mib: row.int("memory_mib")?,
                disk_gib: row.int("disk_gib")?,
                chassis: row.text("chassis")?,
                addresses: row.json("addresses")?,
            },
            stats: row.json("stats")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }

    /// Whether it is alive.
    pub fn is_up(&self, now: Timestamp) -> bool {
        self.up && now.since(self.seen_at) < SILENCE
    }
}

/// Every host, those that were given up apart, by name.
pub async fn list(conn: &mut Conn) -> Result<Vec<Host>> {
    let rows = query("select * from hosts where forgotten_at is null order by name").fetch_all(conn).await?;
    rows.iter().map(Host::from_row).collect()
}

/// One host.
pub async fn get(conn: &mut Conn, id: &HostId) -> Result<Option<Host>> {
    let row = query("select * from hosts where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(Host::from_row).transpose()
}

/// The host of that name, unless it was given up.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Host>> {
    let row =
        query("select * from hosts where name = $1 and forgotten_at is null").bind(name).fetch_optional(conn).await?;
    row.as_ref().map(Host::from_row).transpose()
}

/// Records that a host has connected. A new one goes into the zone; a known one keeps its own and what administrators
/// decided about it.
pub async fn joined(tx: &mut Tx, id: &HostId, name: &str, zone: &str, facts: &Facts) -> Result<()> {
    let now = tx.now();
    query(
        "insert into hosts (id, name, zone, enabled, disabled_reason, up, state_since, seen_at, agent_version, boot_id, \
         accelerator, cpu_model, hypervisor_type, hypervisor_version, vcpus, memory_mib, disk_gib, chassis, addresses, \
         stats, created_at, updated_at) \
         values ($1, $2, $3, 1, '', 1, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, '{}', $4, $4) \
         on conflict (id) do update set name = excluded.name, \
         state_since = case when hosts.up = 1 then hosts.state_since else excluded.state_since end, up = 1, \
         seen_at = excluded.seen_at, forgotten_at = null, agent_version = excluded.agent_version, \
         boot_id = excluded.boot_id, accelerator = excluded.accelerator, cpu_model = excluded.cpu_model, \
         hypervisor_type = excluded.hypervisor_type, hypervisor_version = excluded.hypervisor_version, \
         vcpus = excluded.vcpus, memory_mib = excluded.memory_mib, disk_gib = excluded.disk_gib, \
         chassis = excluded.chassis, addresses = excluded.addresses, updated_at = excluded.updated_at",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(zone)
    .bind(now.0)
    .bind(facts.agent_version.as_str())
    .bind(facts.boot_id.as_str())
    .bind(facts.accelerator.as_str())
    .bind(facts.cpu_model.as_str())
    .bind(facts.hypervisor_type.as_str())
    .bind(facts.hypervisor_version)
    .bind(facts.vcpus)
    .bind(facts.memory_mib)
    .bind(facts.disk_gib)
    .bind(facts.chassis.as_str())
    .bind(json(&facts.addresses))
    .execute(&mut **tx)
    .await?;
    events::updated(tx, events::HOST, id);
    Ok(())
}

/// Records that a host's connection has ended.
pub async fn left(tx: &mut Tx, id: &HostId) -> Result<()> {
    let now = tx.now();
    let left = query("update hosts set up = 0, state_since = $2, updated_at = $2 where id = $1 and up = 1")
        .bind(id.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    if left.rows_affected() > 0 {
        events::updated(tx, events::HOST, id);
    }
    Ok(())
}

/// Records a sign of life.
pub async fn seen(tx: &mut Tx, id: &HostId, stats: &serde_json::Value) -> Result<()> {
    let now = tx.now();
    query("update hosts set seen_at = $2, stats = $3, up = 1 where id = $1")
        .bind(id.as_str())
        .bind(now.0)
        .bind(stats.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Lets a host take servers, or not.
pub async fn set_enabled(tx: &mut Tx, id: &HostId, enabled: bool, reason: &str) -> Result<()> {
    let now = tx.now();
    query("update hosts set enabled = $2, disabled_reason = $3, updated_at = $4 where id = $1")
        .bind(id.as_str())
        .bind(i64::from(enabled))
        .bind(if enabled { "" } else { reason })
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    events::updated(tx, events::HOST, id);
    Ok(())
}

/// Gives a host up: it will not come back, and what it held is written off.
pub async fn forget(tx: &mut Tx, id: &HostId) -> Result<()> {
    let now = tx.now();
    events::deleted(tx, events::HOST, id).await?;
    query("update hosts set forgotten_at = $2, up = 0, state_since = $2, updated_at = $2 where id = $1")
        .bind(id.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
