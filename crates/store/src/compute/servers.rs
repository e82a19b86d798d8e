//! Table `servers`: what was asked for, what is wanted now, what is, and what users see of it.
//!
//! Who writes what: the API inserts rows and changes intent ([`Wanted`]); hosts' reports write [`Observed`]; the flow
//! writes the rest. All of them lock the row first ([`lock`]) and write it whole ([`update`]), with what users see of it
//! ([`Shown`]) computed anew.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    id::{FlavorId, HostId, ImageId, ProjectId, ServerId, UserId},
};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::json;
use crate::{Conn, Error, Result, RowExt, Tx, events, images::row::words, query};

/// The kind of a server's flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("server", "schedule");

words! {
    /// Where a server is in its life, as Nova has it.
    VmState {
        Building = "building": "It has never run.",
        Active = "active": "It runs.",
        Paused = "paused": "It stands still in memory.",
        Stopped = "stopped": "It is off.",
        Error = "error": "What was last tried failed.",
        Deleted = "deleted": "It is gone.",
    }
}

words! {
    /// What is being done to a server.
    Change {
        None = "": "Nothing.",
        Start = "start": "It is started.",
        Stop = "stop": "It is stopped.",
        Reboot = "reboot": "It is rebooted, by asking the guest.",
        RebootHard = "reboot_hard": "It is rebooted, by switching it off.",
    }
}

words! {
    /// A guest's power, as its host reports it.
    Power {
        Unknown = "": "Nothing was reported yet.",
        Running = "running": "It runs.",
        Shutdown = "shutdown": "It is off, by wish or because the guest switched itself off.",
        Paused = "paused": "It stands still in memory.",
        Crashed = "crashed": "It ended in a way that nobody asked for.",
        Absent = "absent": "Nothing of it is on the host.",
    }
}

words! {
    /// How far a host is with what it was told.
    Phase {
        Unknown = "": "Nothing was reported yet.",
        Pending = "pending": "It has not begun.",
        FetchingImage = "fetching_image": "It fetches the image.",
        PreparingDisk = "preparing_disk": "It makes the root disk.",
        PluggingPorts = "plugging_ports": "It makes the network interfaces.",
        Starting = "starting": "It starts the guest.",
        Stopping = "stopping": "It brings the guest down.",
        Removing = "removing": "It removes everything.",
        Settled = "settled": "Nothing is under way.",
        Failed = "failed": "The last attempt failed.",
    }
}

/// A flavor as it was when the server was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in `flavors::Flavor`")]
pub struct FlavorCopy {
    pub name: String,
    pub vcpus: i64,
    pub memory_mib: i64,
    pub disk_gib: i64,
    pub ephemeral_gib: i64,
    pub swap_mib: i64,
    pub extra_specs: BTreeMap<String, String>,
}

/// An image as it was when the server was created: what its host needs to fetch and verify it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCopy {
    /// Its name.
    pub name: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// `qcow2` or `raw`.
    pub format: String,
    /// Bytes of the file.
    pub bytes: i64,
    /// GiB of disk that the image needs, at least.
    pub min_disk: i64,
    /// MiB of memory that the image needs, at least.
    pub min_ram: i64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it is to run.
    pub running: bool,
    /// Raised for each start and reboot.
    pub boot: i64,
    /// Whether it is brought down by asking the guest.
    pub graceful: bool,
    /// What is under way.
    pub change: Change,
    /// Raised with each change of what the host is to be told.
    pub generation: i64,
}

/// What its host reported last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The generation that it works on.
    pub generation: i64,
    /// The boot that the guest was last started with.
    pub boot: i64,
    /// The guest's power.
    pub power: Power,
    /// How far it is.
    pub phase: Phase,
    /// Why the last attempt failed; empty when none did.
    pub fault: String,
    /// Trying again can't help.
    pub fault_is_final: bool,
}

/// What users see of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Nova's `vm_state`.
    pub vm_state: VmState,
    /// Nova's `task_state`.
    pub task_state: Option<String>,
    /// Nova's `power_state`.
    pub power_state: i64,
    /// The status.
    pub status: String,
}

/// Why it is in error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A status of HTTP.
    pub code: i64,
    /// For users.
    pub message: String,
    /// For operators.
    pub details: String,
    /// When.
    pub at: Timestamp,
}

/// The host that a server is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The host.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Who created it.
    pub user_id: UserId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// What the guest calls itself.
    pub hostname: String,
    /// The flavor it was created with.
    pub flavor_id: FlavorId,
    /// That flavor.
    pub flavor: FlavorCopy,
    /// The image it was created from.
    pub image_id: ImageId,
    /// That image.
    pub image: ImageCopy,
    /// The key pair's name.
    pub key_name: Option<String>,
    /// The public key.
    pub key_public: Option<String>,
    /// Base64.
    pub user_data: Option<String>,
    /// Whether it gets a config drive.
    pub config_drive: bool,
    /// `AUTO` or `MANUAL`: shown, of no effect.
    pub disk_config: String,
    /// The zone that was asked for.
    pub zone_wanted: Option<String>,
    /// The host that an administrator asked for.
    pub host_wanted: Option<String>,
    /// JSON, as asked for.
    pub scheduler_hints: String,
    /// Shared by the servers of one request.
    pub reservation_id: String,
    /// Its number in that request.
    pub launch_index: i64,
    /// Base64: what guests seed their generators with.
    pub random_seed: String,
    /// Free text of the user that must be an address.
    pub access_ipv4: String,
    /// The same.
    pub access_ipv6: String,
    /// Whether only administrators may change it.
    pub locked: bool,
    /// Why.
    pub locked_reason: Option<String>,
    /// What is wanted.
    pub wanted: Wanted,
    /// Where it is.
    pub host: Option<Placed>,
    /// The newest generation that its host was sent.
    pub told_generation: i64,
    /// A digest of that spec, without its generation: tells whether what it is made of has changed.
    pub told_digest: String,
    /// What its host says.
    pub observed: Observed,
    /// What the guest posted as its password, encrypted for its owner's key; empty when nothing.
    pub guest_password: String,
    /// What users see.
    pub shown: Shown,
    /// Why it is in error, or last was.
    pub fault: Option<Fault>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it first ran.
    pub launched_at: Option<Timestamp>,
    /// When it was gone.
    pub terminated_at: Option<Timestamp>,
    /// When its end was asked for.
    pub delete_wanted_at: Option<Timestamp>,
    /// When it was gone; the row stays for a while.
    pub deleted_at: Option<Timestamp>,
}

impl Wanted {
    /// A new server is to run.
    pub fn new() -> Self {
        Self { running: true, boot: 1, graceful: false, change: Change::None, generation: 1 }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::new()
    }
}

impl Observed {
    /// Nothing was reported yet.
    pub fn nothing() -> Self {
        let (power, phase) = (Power::Unknown, Phase::Unknown);
        Self { generation: 0, boot: 0, power, phase, fault: String::new(), fault_is_final: false }
    }
}

impl Shown {
    /// Before anything was computed.
    pub fn building() -> Self {
        Self { vm_state: VmState::Building, task_state: None, power_state: 0, status: String::new() }
    }
}

impl Server {
    /// A server of this project and user, named and described by nothing yet.
    pub fn new(project_id: ProjectId, user_id: UserId, now: Timestamp) -> Self {
        Self {
            id: ServerId::random(),
            project_id,
            user_id,
            name: String::new(),
            description: None,
            hostname: String::new(),
            flavor_id: FlavorId::new(""),
            flavor: FlavorCopy::default(),
            image_id: ImageId::new(""),
            image: ImageCopy::default(),
            key_name: None,
            key_public: None,
            user_data: None,
            config_drive: false,
            disk_config: "MANUAL".to_owned(),
            zone_wanted: None,
            host_wanted: None,
            scheduler_hints: "{}".to_owned(),
            reservation_id: String::new(),
            launch_index: 0,
            random_seed: String::new(),
            access_ipv4: String::new(),
            access_ipv6: String::new(),
            locked: false,
            locked_reason: None,
            wanted: Wanted::new(),
            host: None,
            told_generation: 0,
            told_digest: String::new(),
            observed: Observed::nothing(),
            guest_password: String::new(),
            shown: Shown::building(),
            fault: None,
            created_at: now,
            updated_at: now,
            launched_at: None,
            terminated_at: None,
            delete_wanted_at: None,
            deleted_at: None,
        }
    }

    pub(super) fn from_row(row: &impl RowExt) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            user_id: row.id("user_id")?,
            name: row.text("name")?,
            description: row.opt_text("description")?,
            hostname: row.text("hostname")?,
            flavor_id: row.id("flavor_id")?,
            flavor: row.json("flavor")?,
            image_id: row.id("image_id")?,
            image: row.json("image")?,
            key_name: row.opt_text("key_name")?,
            key_public: row.opt_text("key_public")?,
            user_data: row.opt_text("user_data")?,
            config_drive: row.flag("config_drive")?,
            disk_config: row.text("disk_config")?,
            zone_wanted: row.opt_text("zone_wanted")?,
            host_wanted: row.opt_text("host_wanted")?,
            scheduler_hints: row.text("scheduler_hints")?,
            reservation_id: row.text("reservation_id")?,
            launch_index: row.int("launch_index")?,
            random_seed: row.text("random_seed")?,
            access_ipv4: row.text("access_ipv4")?,
            access_ipv6: row.text("access_ipv6")?,
            locked: row.flag("locked")?,
            locked_reason: row.opt_text("locked_reason")?,
            wanted: Wanted {
                running: row.text("wanted_power")? == WANTED_RUNNING,
                boot: row.int("boot")?,
                graceful: row.flag("graceful")?,
                change: Change::of(row, "change")?,
                generation: row.int("generation")?,
            },
            host: placed(row)?,
            told_generation: row.int("told_generation")?,
            told_digest: row.text("told_digest")?,
            observed: Observed {
                generation: row.int("observed_generation")?,
                boot: row.int("observed_boot")?,
                power: Power::of(row, "observed_power")?,
                phase: Phase::of(row, "observed_phase")?,
                fault: row.text("observed_fault")?,
                fault_is_final: row.flag("fault_is_final")?,
            },
            guest_password: row.text("guest_password")?,
            shown: Shown {
                vm_state: VmState::of(row, "vm_state")?,
                task_state: row.opt_text("task_state")?,
                power_state: row.int("power_state")?,
                status: row.text("status")?,
            },
            fault: fault(row)?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            launched_at: row.opt_time("launched_at")?,
            terminated_at: row.opt_time("terminated_at")?,
            delete_wanted_at: row.opt_time("delete_wanted_at")?,
            deleted_at: row.opt_time("deleted_at")?,
        })
    }
}

/// The columns, in the order in which [`Server::from_row`] reads them.
pub(super) const COLUMNS: &[&str] = &[
    "id",
    "project_id",
    "user_id",
    "name",
    "description",
    "hostname",
    "flavor_id",
    "flavor",
    "image_id",
    "image",
    "key_name",
    "key_public",
    "user_data",
    "config_drive",
    "disk_config",
    "zone_wanted",
    "host_wanted",
    "scheduler_hints",
    "reservation_id",
    "launch_index",
    "random_seed",
    "access_ipv4",
    "access_ipv6",
    "locked",
    "locked_reason",
    "wanted_power",
    "boot",
    "graceful",
    "change",
    "generation",
    "host_id",
    "node",
    "zone",
    "told_generation",
    "told_digest",
    "observed_generation",
    "observed_boot",
    "observed_power",
    "observed_phase",
    "observed_fault",
    "fault_is_final",
    "guest_password",
    "vm_state",
    "task_state",
    "power_state",
    "status",
    "fault_code",
    "fault_message",
    "fault_details",
    "fault_at",
    "created_at",
    "updated_at",
    "launched_at",
    "terminated_at",
    "delete_wanted_at",
    "deleted_at",
];

const WANTED_RUNNING: &str = "running";

fn wanted_power(running: bool) -> &'static str {
    if running { WANTED_RUNNING } else { "stopped" }
}

fn placed(row: &impl RowExt) -> Result<Option<Placed>> {
    let Some(id) = row.opt_id("host_id")? else { return Ok(None) };
    let name = row.opt_text("node")?.unwrap_or_default();
    Ok(Some(Placed { id, name, zone: row.opt_text("zone")?.unwrap_or_default() }))
}

fn fault(row: &impl RowExt) -> Result<Option<Fault>> {
    let Some(code) = row.opt_int("fault_code")? else { return Ok(None) };
    Ok(Some(Fault {
        code,
        message: row.opt_text("fault_message")?.unwrap_or_default(),
        details: row.opt_text("fault_details")?.unwrap_or_default(),
        at: row.opt_time("fault_at")?.unwrap_or_default(),
    }))
}

/// One server, also one that is gone.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Server>> {
    let row = query("select * from servers where id = $1").bind(id.as_ref()).fetch_optional(conn).await?;
    row.as_ref().map(Server::from_row).transpose()
}

/// One server, also one that is gone, locked until the transaction ends.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<Option<Server>> {
    let sql = format!("select * from servers where id = $1{}", tx.db().dialect().for_update());
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await?;
    row.as_ref().map(Server::from_row).transpose()
}

/// Inserts a server without its flow, metadata, tags and ports.
pub async fn insert(tx: &mut Tx, server: &Server) -> Result<()> {
    query(
        "insert into servers (id, project_id, user_id, name, description, hostname, flavor_id, flavor, image_id, image, \
         key_name, key_public, user_data, config_drive, zone_wanted, host_wanted, scheduler_hints, reservation_id, \
         launch_index, random_seed, access_ipv4, access_ipv6, locked, wanted_power, boot, graceful, change, generation, \
         told_generation, observed_generation, observed_boot, observed_power, observed_phase, observed_fault, \
         fault_is_final, vm_state, task_state, power_state, status, created_at, updated_at, cores, ram, \
         disk_config, guest_password, told_digest) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, 0, \
         $23, $24, $25, $26, $27, 0, 0, 0, '', '', '', 0, $28, $29, $30, $31, $32, $32, $33, $34, $35, '', '')",
    )
    .bind(server.id.as_str())
    .bind(server.project_id.as_str())
    .bind(server.user_id.as_str())
    .bind(server.name.as_str())
    .bind(server.description.as_deref())
    .bind(server.hostname.as_str())
    .bind(server.flavor_id.as_str())
    .bind(json(&server.flavor))
    .bind(server.image_id.as_str())
    .bind(json(&server.image))
    .bind(server.key_name.as_deref())
    .bind(server.key_public.as_deref())
    .bind(server.user_data.as_deref())
    .bind(i64::from(server.config_drive))
    .bind(server.zone_wanted.as_deref())
    .bind(server.host_wanted.as_deref())
    .bind(server.scheduler_hints.as_str())
    .bind(server.reservation_id.as_str())
    .bind(server.launch_index)
    .bind(server.random_seed.as_str())
    .bind(server.access_ipv4.as_str())
    .bind(server.access_ipv6.as_str())
    .bind(wanted_power(server.wanted.running))
    .bind(server.wanted.boot)
    .bind(i64::from(server.wanted.graceful))
    .bind(server.wanted.change.as_str())
    .bind(server.wanted.generation)
    .bind(server.shown.vm_state.as_str())
    .bind(server.shown.task_state.as_deref())
    .bind(server.shown.power_state)
    .bind(server.shown.status.as_str())
    .bind(server.created_at.0)
    .bind(server.flavor.vcpus)
    .bind(server.flavor.memory_mib)
    .bind(server.disk_config.as_str())
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::SERVER, &server.id);
    Ok(())
}

/// Writes everything that may change. Read the row with [`lock`] first. `updated_at` is the caller's: what users don't
/// see leaves it alone.
pub async fn update(tx: &mut Tx, server: &Server) -> Result<()> {
    let differs = shows_otherwise(tx, server).await?;
    let (host, fault) = (server.host.as_ref(), server.fault.as_ref());
    query(
        "update servers set name = $2, description = $3, hostname = $4, access_ipv4 = $5, access_ipv6 = $6, locked = $7, \
         locked_reason = $8, wanted_power = $9, boot = $10, graceful = $11, change = $12, generation = $13, host_id = $14, \
         node = $15, zone = $16, told_generation = $17, observed_generation = $18, observed_boot = $19, \
         observed_power = $20, observed_phase = $21, observed_fault = $22, fault_is_final = $23, vm_state = $24, \
         task_state = $25, power_state = $26, status = $27, fault_code = $28, fault_message = $29, fault_details = $30, \
         fault_at = $31, updated_at = $32, launched_at = $33, terminated_at = $34, delete_wanted_at = $35, \
         deleted_at = $36, guest_password = $37, disk_config = $38, \
         told_digest = $39 where id = $1",
    )
    .bind(server.id.as_str())
    .bind(server.name.as_str())
    .bind(server.description.as_deref())
    .bind(server.hostname.as_str())
    .bind(server.access_ipv4.as_str())
    .bind(server.access_ipv6.as_str())
    .bind(i64::from(server.locked))
    .bind(server.locked_reason.as_deref())
    .bind(wanted_power(server.wanted.running))
    .bind(server.wanted.boot)
    .bind(i64::from(server.wanted.graceful))
    .bind(server.wanted.change.as_str())
    .bind(server.wanted.generation)
    .bind(host.map(|h| h.id.as_str()))
    .bind(host.map(|h| h.name.as_str()))
    .bind(host.map(|h| h.zone.as_str()))
    .bind(server.told_generation)
    .bind(server.observed.generation)
    .bind(server.observed.boot)
    .bind(server.observed.power.as_str())
    .bind(server.observed.phase.as_str())
    .bind(server.observed.fault.as_str())
    .bind(i64::from(server.observed.fault_is_final))
    .bind(server.shown.vm_state.as_str())
    .bind(server.shown.task_state.as_deref())
    .bind(server.shown.power_state)
    .bind(server.shown.status.as_str())
    .bind(fault.map(|f| f.code))
    .bind(fault.map(|f| f.message.as_str()))
    .bind(fault.map(|f| f.details.as_str()))
    .bind(fault.map(|f| f.at.0))
    .bind(server.updated_at.0)
    .bind(server.launched_at.map(|t| t.0))
    .bind(server.terminated_at.map(|t| t.0))
    .bind(server.delete_wanted_at.map(|t| t.0))
    .bind(server.deleted_at.map(|t| t.0))
    .bind(server.guest_password.as_str())
    .bind(server.disk_config.as_str())
    .bind(server.told_digest.as_str())
    .execute(&mut **tx)
    .await?;
    if differs && server.deleted_at.is_some() {
        events::deleted(tx, events::SERVER, &server.id).await?;
    } else if differs {
        events::updated(tx, events::SERVER, &server.id);
    }
    Ok(())
}

/// Whether users see another server once this is written. Most writes are about what a host was told.
async fn shows_otherwise(tx: &mut Tx, server: &Server) -> Result<bool> {
    let row = query(
        "select 1 as same from servers where id = $1 and updated_at = $2 and status = $3 and coalesce(task_state, '') = $4 \
         and power_state = $5 and coalesce(deleted_at, 0) = $6",
    )
    .bind(server.id.as_str())
    .bind(server.updated_at.0)
    .bind(server.shown.status.as_str())
    .bind(server.shown.task_state.as_deref().unwrap_or(""))
    .bind(server.shown.power_state)
    .bind(server.deleted_at.map_or(0, |at| at.0))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_none())
}

/// The servers on a host, those that are gone apart.
pub async fn on_host(conn: &mut Conn, host: &HostId) -> Result<Vec<Server>> {
    let rows = query("select * from servers where host_id = $1 and deleted_at is null order by id")
        .bind(host.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(Server::from_row).collect()
}

/// Whether a server of the host starts from the image.
pub async fn host_uses_image(conn: &mut Conn, host: &HostId, image: &ImageId) -> Result<bool> {
    let row =
        query("select 1 as found from servers where host_id = $1 and image_id = $2 and deleted_at is null limit 1")
            .bind(host.as_str())
            .bind(image.as_str())
            .fetch_optional(conn)
            .await?;
    Ok(row.is_some())
}

/// Removes rows of servers that have been gone since before `before`, at most `limit`. How many.
pub async fn purge(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<u64> {
    let rows = query("select id from servers where deleted_at < $1 order by deleted_at limit $2")
        .bind(before.0)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    for row in &rows {
        let id = row.text("id")?;
        for sql in [
            "delete from instance_action_events where server_id = $1",
            "delete from instance_actions where server_id = $1",
            "delete from servers where id = $1",
        ] {
            query(sql).bind(id.as_str()).execute(&mut **tx).await?;
        }
    }
    Ok(rows.len() as u64)
}
