//! Guests on one host: the [`Hypervisor`] trait, the plain data it takes and gives, and its drivers.
//!
//! A *guest* is the running form of a server. The agent describes the whole wanted guest as a [`GuestSpec`]; a driver
//! starts it, tells what it sees and reports what happens by itself as a [`GuestEvent`].
//!
//! ```text
//!            ensure_guest                guest powers off, or shut_down_guest / stop_guest, or the process dies
//!  absent ───────────────> Running ──────────────────────────────────────────────> Off { end } ── ensure_guest ──> Running
//!    ^                      │   ^  resume                                              │
//!    │                Paused, Panicked                                                 │
//!    └────────────────────────────── remove_guest ────────────────────────────────────┘
//! ```
//!
//! **Boot counter.** [`GuestSpec::boot`] counts the starts that somebody asked for. `ensure_guest` leaves a guest alone
//! that runs under the same counter, whatever else differs in the spec, and replaces one that runs under an older one:
//! a hard reboot is the same spec with `boot + 1`. A guest that ended by itself is *started again* by `ensure_guest`:
//! whether it may be is the agent's decision, which reads [`GuestEnd`] first.
//!
//! **Files.** A driver owns one directory and in it one per guest; nobody else writes there. Disks lie elsewhere.

pub mod fake;
pub mod qemu;

use std::{path::PathBuf, time::Duration};

use futures_util::future::BoxFuture;
use model::id::{PortId, ServerId};
pub use model::image_format::DiskFormat;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// A result of a hypervisor call.
pub type Result<T, E = HypervisorError> = std::result::Result<T, E>;

/// One host's guests. All calls are idempotent and bounded in time; calls for one guest wait for each other.
pub trait Hypervisor: Send + Sync {
    /// What this host's hypervisor was proved to do. Measured once, when the driver is opened.
    fn capabilities(&self) -> Capabilities;

    /// Makes the guest run under `spec.boot`; returns once the hypervisor runs it (not: once its system is up).
    fn ensure_guest<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Ensured>>;

    /// The guest as it is now, or `None` if this host knows nothing of it.
    fn observe_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Option<ObservedGuest>>>;

    /// Every guest this host knows of, by id.
    fn list_guests(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>>;

    /// Asks the guest's system to power off (ACPI), waits up to `grace`, then stops it hard.
    fn shut_down_guest<'a>(&'a self, id: &'a ServerId, grace: Duration) -> BoxFuture<'a, Result<ShutDown>>;

    /// Takes the power away. Nothing to do if the guest is off or unknown.
    fn stop_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Stops the guest and removes every file the driver holds for it. Nothing to do if it is unknown.
    fn remove_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Presses the reset button: same process, same boot counter.
    fn reset_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Stops the guest's processors, keeping its memory.
    fn pause_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Lets a paused guest go on.
    fn resume_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Writes the guest's memory to disk and takes the power away; `nics` are those that are plugged. The next
    /// `ensure_guest` under the same boot counter reads it back. Nothing to do if it is suspended.
    fn suspend_guest<'a>(&'a self, id: &'a ServerId, nics: &'a [GuestNic]) -> BoxFuture<'a, Result<()>>;

    /// Keeps a running guest's disk as it is now, under that name inside it; one of that name is replaced.
    fn snapshot_disk<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Drops what [`Hypervisor::snapshot_disk`] kept. Nothing to do if there is none.
    fn drop_disk_snapshot<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Has the guest's own agent set a user's password: [`HypervisorError::Unsupported`] where it runs none.
    fn set_password<'a>(&'a self, id: &'a ServerId, user: &'a str, password: &'a str) -> BoxFuture<'a, Result<()>>;

    /// What is counted about a running guest.
    fn counters<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Counters>>;

    /// Plugs a NIC into a running guest, unless one of that id is plugged. Its tap must exist.
    fn attach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a GuestNic) -> BoxFuture<'a, Result<()>>;

    /// Unplugs a NIC and returns once the guest has let go of it, which needs a guest that runs and cooperates:
    /// else [`HypervisorError::Timeout`]. Nothing to do if no such NIC is plugged.
    fn detach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a PortId) -> BoxFuture<'a, Result<()>>;

    /// The end of what the guest wrote to its serial console over all its boots, `lines` of it or as much as is kept.
    fn console_log<'a>(&'a self, id: &'a ServerId, lines: Option<usize>) -> BoxFuture<'a, Result<String>>;

    /// Where the guest's consoles are, for a proxy to connect to.
    fn consoles<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Consoles>>;

    /// Takes over the guests that an earlier process of the agent left behind, running or ended. Call it once, before
    /// anything else. Running guests are not touched.
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>>;

    /// What happens to guests from now on. A receiver that lags must call [`Hypervisor::list_guests`].
    fn subscribe(&self) -> broadcast::Receiver<GuestEvent>;
}

/// Everything a driver needs to start a guest. Plain data; the driver keeps a copy beside the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The server's id; also the SMBIOS UUID that the guest sees.
    pub id: ServerId,
    /// The boot counter; see the module's text.
    pub boot: u64,
    /// Virtual processors, at least 1.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Board.
    pub machine: Machine,
    /// Firmware.
    pub firmware: Firmware,
    /// Disks, in the order in which the guest enumerates them.
    pub disks: Vec<GuestDisk>,
    /// NICs, in the order in which the guest enumerates them.
    pub nics: Vec<GuestNic>,
    /// Sockets for NICs that it must have, where it goes on from an earlier start: drivers set it.
    #[serde(default)]
    pub sockets: Option<u32>,
}

/// The board that a guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// PCI Express, AHCI; the only one so far.
    #[default]
    Q35,
}

/// The firmware that a guest starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// OVMF; its variables are kept beside the guest over all boots.
    Uefi,
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDisk {
    /// Unique within the guest: `root`, `config`, or a volume's id.
    pub id: String,
    /// The file or block device.
    pub path: PathBuf,
    /// Its format. Never probed: a guest could write another format's header into its raw disk.
    pub format: DiskFormat,
    /// How the guest sees it.
    pub bus: DiskBus,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Place in the boot order, from 0; `None`: not booted from.
    pub boot_index: Option<u32>,
    /// What the guest reads as serial number: a volume's id, so that `/dev/disk/by-id` names it. 20 bytes at most on
    /// virtio: longer ones are cut, as Nova's are.
    pub serial: Option<String>,
}

/// The controller a disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// A disk on virtio-scsi.
    Scsi,
    /// A SATA disk, for systems without virtio drivers. Debian's cloud kernel has no driver for q35's SATA.
    Sata,
    /// A CD-ROM on virtio-scsi; always read-only.
    Cdrom,
    /// A CD-ROM on SATA; always read-only. The same caution.
    SataCdrom,
}

impl DiskBus {
    /// Whether it is a CD-ROM drive.
    pub fn is_cdrom(self) -> bool {
        matches!(self, Self::Cdrom | Self::SataCdrom)
    }
}

/// A network card (virtio-net) of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNic {
    /// The port's id.
    pub id: PortId,
    /// `fa:16:3e:xx:xx:xx`.
    pub mac: String,
    /// The tap on the host. It exists already; who owns it does not matter: the driver opens it for the guest.
    pub tap: String,
    /// The largest packet that the guest is told.
    pub mtu: u32,
    /// Whether packets carry a virtio header, with checksums and segmentation left to the host. Off where the tap is
    /// in Open vSwitch's userspace datapath: there TCP breaks with it.
    pub vnet_hdr: bool,
    /// The socket that it sits in, where it goes on from an earlier start: drivers set it.
    #[serde(default)]
    pub socket: Option<u32>,
}

/// What [`Hypervisor::ensure_guest`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was off, unknown or ran under an older boot counter, and was started.
    Started,
    /// It ran already.
    Running,
}

/// How [`Hypervisor::shut_down_guest`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutDown {
    /// The guest powered itself off within the grace.
    Graceful,
    /// The grace was over and the power was taken away.
    Forced,
    /// It was off or unknown.
    AlreadyOff,
}

/// A guest as a driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedGuest {
    /// The server's id.
    pub id: ServerId,
    /// The boot counter it was last started under.
    pub boot: u64,
    /// Whether it runs.
    pub power: GuestPower,
    /// The process, where there is one.
    pub pid: Option<u32>,
}

/// A guest's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestPower {
    /// Its processors run.
    Running,
    /// Its processors are stopped, its memory is kept.
    Paused,
    /// Its system reported that it crashed; memory is kept for a look until it is stopped.
    Panicked,
    /// No process.
    Off {
        /// Why.
        end: GuestEnd,
    },
}

impl GuestPower {
    /// Whether there is a process, with memory and locks held.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off { .. })
    }
}

/// Why a guest is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "reason")]
pub enum GuestEnd {
    /// Its own system powered it off: it stays off until somebody starts it.
    ByGuest,
    /// This driver was told to: shut down, stop, or a start under a newer boot counter.
    ByHost,
    /// Its memory was written to disk, from where the next start takes it.
    Suspended,
    /// The host went down under it: it should be running again.
    HostRestart,
    /// The process died by itself or was killed; the text is what it said last.
    Crashed(String),
    /// It never came up; the text is the hypervisor's reason.
    StartFailed(String),
}

/// Something that happened to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEvent {
    /// The server's id.
    pub id: ServerId,
    /// The boot counter it ran under.
    pub boot: u64,
    /// What happened.
    pub kind: GuestEventKind,
}

/// Kinds of [`GuestEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEventKind {
    /// It runs.
    Started,
    /// It is off, and the process is gone.
    Stopped(GuestEnd),
    /// Its processors were stopped.
    Paused,
    /// Its processors go on.
    Resumed,
    /// Its system reported a crash.
    Panicked,
    /// It was reset, by itself or from outside.
    Reset,
    /// A device was unplugged, with the port's id if it was a NIC.
    NicDetached(PortId),
}

/// What is counted about a running guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Virtual processors.
    pub cpus: u32,
    /// Time that they ran, all of them.
    pub cpu_time: Duration,
    /// Memory.
    pub memory_mib: u64,
    /// Memory that it takes of the host.
    pub memory_used_mib: u64,
    /// Since its process started.
    pub uptime: Duration,
    /// Its disks, in their order.
    pub disks: Vec<DiskCounters>,
    /// Its NICs, in their order.
    pub nics: Vec<NicCounters>,
}

/// What a disk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DiskCounters {
    pub read_bytes: u64,
    pub read_requests: u64,
    pub write_bytes: u64,
    pub write_requests: u64,
    pub errors: u64,
}

/// What a NIC did, as the guest sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NicCounters {
    pub mac: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Where a guest's consoles listen: unix sockets that only the agent and the guest's own process may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consoles {
    /// RFB (VNC) protocol.
    pub vnc: PathBuf,
    /// Raw bytes of the serial line.
    pub serial: PathBuf,
    /// QEMU guest agent protocol.
    pub guest_agent: PathBuf,
}

/// What a host's hypervisor was proved to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `qemu`, `fake`: what OpenStack calls the hypervisor type.
    pub hypervisor: &'static str,
    /// Its version.
    pub version: Version,
    /// How guests' code runs.
    pub accelerator: Accelerator,
    /// Why no better accelerator is used, for the operator.
    pub accelerator_note: String,
    /// The CPU model that guests get.
    pub cpu_model: String,
    /// Boards that can be asked for.
    pub machines: Vec<Machine>,
    /// Firmware that can be asked for.
    pub firmware: Vec<Firmware>,
    /// Most virtual processors of one guest.
    pub vcpus_max: u32,
    /// NICs that can be plugged into a running guest, those it was started with apart.
    pub hotplug_slots: u32,
    /// The user that guests run as, to whom disks must belong; `None`: the agent's own.
    pub run_as: Option<RunAs>,
    /// What keeps guests from the host and from each other, or why something that should does not.
    pub isolation: Vec<String>,
}

/// A user of the host by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A version as three numbers, comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First.
    pub major: u32,
    /// Second.
    pub minor: u32,
    /// Third.
    pub micro: u32,
}

impl Version {
    /// One sortable number, as Nova's `hypervisor_version`: 10.0.2 is 10000002.
    pub fn as_number(self) -> u32 {
        self.major * 1_000_000 + self.minor * 1_000 + self.micro
    }
}

/// How guests' code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm,
    /// Translation by QEMU.
    Tcg,
    /// Not at all (fake driver).
    None,
}

/// Why a hypervisor call failed.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The hypervisor refused to start the guest; the text is its own reason.
    #[error("guest {id} did not start: {reason}")]
    StartFailed {
        /// The guest.
        id: ServerId,
        /// The hypervisor's words.
        reason: String,
    },
    /// The call needs a guest that runs.
    #[error("guest {id} is not running")]
    NotRunning {
        /// The guest.
        id: ServerId,
    },
    /// A newer boot counter is known already: the caller's picture is old.
    #[error("guest {id} is at boot {known}, asked for {asked}")]
    StaleBoot {
        /// The guest.
        id: ServerId,
        /// The counter it has.
        known: u64,
        /// The counter it was asked for.
        asked: u64,
    },
    /// The spec can't be turned into a guest.
    #[error("guest {id}: {reason}")]
    InvalidSpec {
        /// The guest.
        id: ServerId,
        /// What is wrong.
        reason: String,
    },
    /// This host can't do it.
    #[error("{0}")]
    Unsupported(String),
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The hypervisor refused a command.
    #[error("{command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// The hypervisor's words.
        reason: String,
    },
    /// The hypervisor's control channel is gone or talks nonsense.
    #[error("control channel: {0}")]
    Channel(String),
    /// The host's file system or process table.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl HypervisorError {
    /// Adds what was done to an error of the system; for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
