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

use super::life::Life;
use crate::{Conn, Error, Result, RowExt, Tx, images::row::words, query};

pub use super::server_row::{insert, update};

/// The kind of a server's flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("server", "schedule");

words! {
    /// Where a server is in its life, as Nova has it.
    VmState {
        Building = "building": "It has never run.",
        Active = "active": "It runs.",
        Paused = "paused": "It stands still in memory.",
        Suspended = "suspended": "It stands still on disk.",
        Stopped = "stopped": "It is off.",
        Resized = "resized": "It has another flavor, which is to be confirmed or reverted.",
        Rescued = "rescued": "It runs from a rescue image.",
        Shelved = "shelved": "It is off, and an image of it is kept.",
        ShelvedOffloaded = "shelved_offloaded": "Only an image of it is kept.",
        SoftDeleted = "soft-delete": "It was deleted and can be restored.",
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
        Pause = "pause": "It is brought to a stand in memory.",
        Unpause = "unpause": "It goes on.",
        Suspend = "suspend": "Its memory is written to disk.",
        Resume = "resume": "Its memory is read from disk.",
        Rebuild = "rebuild": "Its disks are made anew.",
        Resize = "resize": "It gets another flavor.",
        ConfirmResize = "confirm_resize": "It keeps that flavor.",
        RevertResize = "revert_resize": "It gets the old one back, and its disk as it was.",
        Rescue = "rescue": "It is started from a rescue image.",
        Unrescue = "unrescue": "It is started from its own disk again.",
        Snapshot = "snapshot": "An image is made of it.",
        Backup = "backup": "An image is made of it, and old ones go.",
        Shelve = "shelve": "It is brought down, and an image is made of it.",
        Offload = "offload": "It leaves its host.",
        Unshelve = "unshelve": "It comes back.",
        SoftDelete = "soft_delete": "It is brought down and kept for a while.",
        Restore = "restore": "It comes back from that.",
    }
}

words! {
    /// A guest's power, as its host reports it.
    Power {
        Unknown = "": "Nothing was reported yet.",
        Running = "running": "It runs.",
        Shutdown = "shutdown": "It is off, by wish or because the guest switched itself off.",
        Paused = "paused": "It stands still in memory.",
        Suspended = "suspended": "It stands still on disk.",
        Crashed = "crashed": "It ended in a way that nobody asked for.",
        Absent = "absent": "Nothing of it is on the host.",
    }
}

words! {
    /// How a server that is to run is kept from running.
    Hold {
        No = "running": "It runs.",
        Paused = "paused": "It stands still in memory.",
        Suspended = "suspended": "It stands still on disk.",
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
        Saving = "saving": "It makes an image of the root disk.",
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
    /// Whether it is to stand still nevertheless.
    pub hold: Hold,
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
    /// What lasts from one operation to a later one.
    pub life: Life,
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
        Self { running: true, hold: Hold::No, boot: 1, graceful: false, change: Change::None, generation: 1 }
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
    /// Processors and memory that its project is charged for: while a resize is not confirmed, of the larger flavor.
    pub fn charged(&self) -> (i64, i64) {
        let old = self.life.old.as_ref().map(|old| &old.flavor);
        let larger = |of: fn(&FlavorCopy) -> i64| old.map_or(0, of).max(of(&self.flavor));
        (larger(|flavor| flavor.vcpus), larger(|flavor| flavor.memory_mib))
    }

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
            life: Life::default(),
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
        query("select 1 as found from servers where host_id = $1 and $2 in (image_id, root_image_id, rescue_image_id) and deleted_at is null limit 1")
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
            "delete from server_group_members where server_id = $1",
            "delete from server_migrations where server_id = $1",
            "delete from servers where id = $1",
        ] {
            query(sql).bind(id.as_str()).execute(&mut **tx).await?;
        }
    }
    Ok(rows.len() as u64)
}
