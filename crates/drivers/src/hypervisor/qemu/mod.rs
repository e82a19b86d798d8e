//! The `qemu` driver: QEMU processes, steered over QMP, with no daemon between.
//!
//! | file | holds |
//! |---|---|
//! | this | [`QemuHypervisor`]: opening, the guests by id, one call at a time for each |
//! | `guest` | one guest's life: start, watch, end, adopt |
//! | `command_line` | QEMU's arguments as a pure function of the spec |
//! | `qmp` | the control channel |
//! | `process` | spawning, proving, waiting, killing |
//! | `record` | what is kept on disk for the next agent |
//! | `paths` | where a guest's files are, and who may write them |
//! | `console` | the serial log: its end, its size |
//! | `suspend` | a guest's memory on disk, and back |
//! | `counters` | what is counted about a guest |
//! | `guest_agent` | what a guest's own agent is asked for |
//! | `hotplug` | NICs in and out of a running guest |
//! | `tap` | opening taps for QEMU, which may not |
//! | `probe` | version, and which accelerator works |
//! | `strays` | folders and processes of guests that the driver knows nothing of |
//! | `user`, `cgroup` | the user and the control group of guests |
//!
//! Works with QEMU 7.2 (Debian 12) to 10 (Debian 13).

mod cgroup;
mod command_line;
mod console;
mod counters;
mod guest;
mod guest_agent;
mod hotplug;
mod paths;
mod probe;
mod process;
mod qmp;
mod record;
mod strays;
mod suspend;
mod tap;
mod user;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use model::id::{PortId, ServerId};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    cgroup::Cgroup,
    command_line::Host,
    guest::{Guest, KILL_TIME_MAX, Shared, blocking},
    paths::GuestPaths,
    probe::Found,
};
use super::{
    Capabilities, Consoles, Counters, Ensured, Firmware, GuestEnd, GuestEvent, GuestNic, GuestPower, GuestSpec,
    Hypervisor, HypervisorError, Machine, ObservedGuest, Result, RunAs, ShutDown, Version,
};

/// Events that a slow receiver may lag behind.
const EVENTS_KEPT: usize = 4096;
/// What q35 with an interrupt controller of the plain kind takes.
const VCPUS_MAX: u32 = 255;
/// Code and template of variables of the firmware packages, newest layout first.
const UEFI_FILES: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The directory that the driver owns. At most 50 bytes long: unix sockets lie below it.
    pub root: PathBuf,
    /// QEMU's program.
    pub binary: PathBuf,
    /// The user that guests run as when the agent is root; made if it is missing.
    pub user: Option<String>,
    /// NICs and volumes that can be plugged into a running guest.
    pub hotplug_slots: usize,
    /// How long QEMU may take from its start until it answers.
    pub start_time_max: Duration,
    /// How long a guest may take to let go of a device.
    pub unplug_time_max: Duration,
}

impl QemuConfig {
    /// The usual setting, in that directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            binary: "/usr/bin/qemu-system-x86_64".into(),
            user: Some("nacre-qemu".to_owned()),
            hotplug_slots: 8,
            start_time_max: Duration::from_secs(30),
            unplug_time_max: Duration::from_secs(20),
        }
    }
}

/// See the module's text.
pub struct QemuHypervisor {
    config: QemuConfig,
    capabilities: Capabilities,
    shared: Arc<Shared>,
    guests: Arc<Mutex<Guests>>,
    // Nobody else may use the directory while this is open.
    _lock: File,
    // Ends the monitors when the driver goes; guests run on.
    _closing: DropGuard,
}

type Guests = HashMap<ServerId, Entry>;

/// A guest and the right to do something with it.
#[derive(Clone)]
struct Entry {
    guest: Arc<Guest>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl QemuHypervisor {
    /// Finds out what this host can do and takes the directory. Takes some 200 ms; call [`Hypervisor::adopt`] next.
    pub async fn open(mut config: QemuConfig) -> Result<Self> {
        // QEMU starts in `/`.
        config.root = std::path::absolute(&config.root).map_err(HypervisorError::io("find the guests' directory"))?;
        if !GuestPaths::root_fits(&config.root) {
            let reason = format!("the path {} is too long for unix sockets below it", config.root.display());
            return Err(HypervisorError::Unsupported(reason));
        }
        let root = config.root.clone();
        let lock = blocking(move || take_directory(&root))
            .await
            .map_err(HypervisorError::io(format!("take {}", config.root.display())))?;
        let version = probe::version(&config.binary).await?;
        let (run_as, user_note) = unprivileged_user(&config).await?;
        let found = probe::accelerator(&config.binary, &config.root, run_as).await?;
        let (cgroup, cgroup_note) = match Cgroup::open() {
            Ok(cgroup) => (Some(cgroup), "a control group for each guest".to_owned()),
            Err(reason) => (None, reason),
        };
        let uefi = UEFI_FILES.iter().find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists());
        let closed = CancellationToken::new();
        let shared = Shared {
            binary: config.binary.clone(),
            host: Host {
                accelerator: found.accelerator,
                cpu_model: found.cpu_model.to_owned(),
                hotplug_slots: config.hotplug_slots,
                uefi_code: uefi.map(|(code, _)| code.into()),
            },
            uefi_vars: uefi.map(|(_, vars)| vars.into()),
            run_as,
            cgroup,
            start_time_max: config.start_time_max,
            host_boot: record::host_boot(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            closed: closed.clone(),
        };
        let isolation = vec!["QEMU's system call filter".to_owned(), user_note, cgroup_note];
        Ok(Self {
            capabilities: capabilities(version, found, uefi.is_some(), &config, run_as, isolation),
            config,
            shared: Arc::new(shared),
            guests: Arc::default(),
            _lock: lock,
            _closing: closed.drop_guard(),
        })
    }

    fn entry(&self, id: &ServerId) -> Option<Entry> {
        self.map().get(id).cloned()
    }

    fn entry_or_new(&self, id: &ServerId) -> Result<Entry> {
        let paths = GuestPaths::new(&self.config.root, id).ok_or_else(|| HypervisorError::InvalidSpec {
            id: id.clone(),
            reason: "the id can't be a directory's name".to_owned(),
        })?;
        let new = || Entry { guest: Guest::new(id.clone(), paths, self.shared.clone()), turn: Arc::default() };
        Ok(self.map().entry(id.clone()).or_insert_with(new).clone())
    }

    /// Waits for the calls before this one. The guest may have been removed meanwhile: then there is another entry.
    async fn turn(&self, id: &ServerId, make: bool) -> Result<Option<(Arc<Guest>, OwnedMutexGuard<()>)>> {
        loop {
            let entry = if make { Some(self.entry_or_new(id)?) } else { self.entry(id) };
            let Some(entry) = entry else { return Ok(None) };
            let turn = entry.turn.lock_owned().await;
            if self.entry(id).is_some_and(|now| Arc::ptr_eq(&now.guest, &entry.guest)) {
                return Ok(Some((entry.guest, turn)));
            }
        }
    }

    /// Runs something with a guest that is known, one call at a time, to its end even if the caller gives up.
    async fn with<T, F>(&self, id: &ServerId, unknown: Result<T>, work: impl FnOnce(Arc<Guest>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Some((guest, turn)) = self.turn(id, false).await? else { return unknown };
        to_its_end(turn, work(guest)).await
    }

    /// Sends one command to a running guest.
    async fn command(&self, id: &ServerId, command: &'static str) -> Result<()> {
        self.with(id, Err(not_running(id)), |guest| async move {
            guest.qmp()?.execute(command, Value::Null).await?;
            Ok(())
        })
        .await
    }

    fn map(&self) -> MutexGuard<'_, Guests> {
        lock(&self.guests)
    }

    /// What is there of guests that have no entry. Looked for twice: what was about to go is gone then.
    async fn strays(&self) -> Result<Vec<ObservedGuest>> {
        let mut strays = self.traces().await?;
        strays.retain(|id, _| self.entry(id).is_none());
        if !strays.is_empty() {
            let still = self.traces().await?;
            strays.retain(|id, _| still.contains_key(id) && self.entry(id).is_none());
        }
        let observed = |(id, pid): (ServerId, Option<u32>)| {
            let crashed = || GuestPower::Off { end: GuestEnd::Crashed("nobody started it".to_owned()) };
            let power = if pid.is_some() { GuestPower::Running } else { crashed() };
            ObservedGuest { id, boot: 0, power, pid }
        };
        Ok(strays.into_iter().map(observed).collect())
    }

    async fn traces(&self) -> Result<strays::Traces> {
        let root = self.config.root.clone();
        blocking(move || strays::traces(&root)).await.map_err(HypervisorError::io("look for guests"))
    }

    async fn kill_stray(&self, id: &ServerId) -> Result<()> {
        let killed = strays::kill(self.config.root.clone(), id, KILL_TIME_MAX).await;
        killed.map_err(HypervisorError::io(format!("kill what runs as guest {id}")))
    }

    async fn remove(&self, id: &ServerId) -> Result<()> {
        if self.entry(id).is_none() {
            self.kill_stray(id).await?;
        }
        // Also a guest that nobody has adopted has its entry, and so its turn.
        let Some((guest, turn)) = self.turn(id, true).await? else { return Ok(()) };
        let (guests, id) = (self.guests.clone(), id.clone());
        to_its_end(turn, async move {
            guest.remove().await?;
            // Before the turn ends: who waits for it must find that this entry is no more.
            lock(&guests).remove(&id);
            Ok(())
        })
        .await
    }
}

impl Hypervisor for QemuHypervisor {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn ensure_guest<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Ensured>> {
        Box::pin(async move {
            let Some((guest, turn)) = self.turn(&spec.id, true).await? else { return Err(not_running(&spec.id)) };
            let spec = spec.clone();
            to_its_end(turn, async move { guest.ensure(&spec).await }).await
        })
    }

    fn observe_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Option<ObservedGuest>>> {
        Box::pin(async move { Ok(self.entry(id).and_then(|entry| entry.guest.observe())) })
    }

    fn list_guests(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>> {
        Box::pin(async move {
            let strays = self.strays().await?;
            let mut guests: Vec<_> = self.map().values().filter_map(|entry| entry.guest.observe()).collect();
            guests.extend(strays);
            guests.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(guests)
        })
    }

    fn shut_down_guest<'a>(&'a self, id: &'a ServerId, grace: Duration) -> BoxFuture<'a, Result<ShutDown>> {
        let shut_down = move |guest: Arc<Guest>| async move { guest.shut_down(grace).await };
        Box::pin(self.with(id, Ok(ShutDown::AlreadyOff), shut_down))
    }

    fn stop_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.with(id, Ok(()), |guest| async move { guest.stop().await }).await?;
            if self.entry(id).is_none() { self.kill_stray(id).await } else { Ok(()) }
        })
    }

    fn remove_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove(id))
    }

    fn reset_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.command(id, "system_reset"))
    }

    fn pause_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.command(id, "stop"))
    }

    fn resume_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.command(id, "cont"))
    }

    fn suspend_guest<'a>(&'a self, id: &'a ServerId, nics: &'a [GuestNic]) -> BoxFuture<'a, Result<()>> {
        let nics = nics.to_vec();
        let suspend = |guest: Arc<Guest>| async move { suspend::suspend(&guest, nics).await };
        Box::pin(self.with(id, Err(not_running(id)), suspend))
    }

    fn snapshot_disk<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>> {
        let asked = json!({ "device": command_line::disk_node(disk), "name": name });
        let snapshot = |guest: Arc<Guest>| async move {
            let qmp = guest.qmp()?;
            drop_snapshot(&qmp, &asked).await?;
            qmp.execute("blockdev-snapshot-internal-sync", asked).await?;
            Ok(())
        };
        Box::pin(self.with(id, Err(not_running(id)), snapshot))
    }

    fn drop_disk_snapshot<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>> {
        let asked = json!({ "device": command_line::disk_node(disk), "name": name });
        let drop = |guest: Arc<Guest>| async move { drop_snapshot(&guest.qmp()?, &asked).await };
        Box::pin(self.with(id, Err(not_running(id)), drop))
    }

    fn set_password<'a>(&'a self, id: &'a ServerId, user: &'a str, password: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let entry = self.entry(id).ok_or_else(|| not_running(id))?;
            entry.guest.qmp()?;
            let user = if user.is_empty() { "root" } else { user };
            guest_agent::set_password(&entry.guest.paths().guest_agent(), user, password).await
        })
    }

    fn counters<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Counters>> {
        Box::pin(async move {
            let entry = self.entry(id).ok_or_else(|| not_running(id))?;
            counters::read(&entry.guest).await
        })
    }

    fn attach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a GuestNic) -> BoxFuture<'a, Result<()>> {
        let nic = nic.clone();
        let attach = |guest: Arc<Guest>| async move { hotplug::attach_nic(&guest.qmp()?, &nic).await };
        Box::pin(self.with(id, Err(not_running(id)), attach))
    }

    fn detach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a PortId) -> BoxFuture<'a, Result<()>> {
        let (nic, within) = (nic.clone(), self.config.unplug_time_max);
        let detach = move |guest: Arc<Guest>| async move { hotplug::detach_nic(&guest.qmp()?, &nic, within).await };
        Box::pin(self.with(id, Err(not_running(id)), detach))
    }

    fn console_log<'a>(&'a self, id: &'a ServerId, lines: Option<usize>) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let Some(entry) = self.entry(id) else { return Ok(String::new()) };
            let paths = entry.guest.paths().clone();
            blocking(move || console::tail(&paths, lines)).await.map_err(HypervisorError::io("read the console log"))
        })
    }

    fn consoles<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Consoles>> {
        Box::pin(async move {
            let entry = self.entry(id).ok_or_else(|| not_running(id))?;
            let paths = entry.guest.paths();
            Ok(Consoles { vnc: paths.vnc(), serial: paths.serial(), guest_agent: paths.guest_agent() })
        })
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>> {
        Box::pin(async move {
            let root = self.config.root.clone();
            let names = blocking(move || strays::directories(&root))
                .await
                .map_err(HypervisorError::io(format!("list {}", self.config.root.display())))?;
            let adopted = names.into_iter().map(|name| async move {
                let Some((guest, turn)) = self.turn(&ServerId::new(name), true).await? else { return Ok(()) };
                to_its_end(turn, async move {
                    guest.adopt().await;
                    Ok(())
                })
                .await
            });
            join_all(adopted).await.into_iter().collect::<Result<()>>()?;
            self.list_guests().await
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<GuestEvent> {
        self.shared.events.subscribe()
    }
}

/// Drops a snapshot inside a disk, if there is one of that name.
async fn drop_snapshot(qmp: &qmp::Qmp, asked: &Value) -> Result<()> {
    match qmp.execute("blockdev-snapshot-delete-internal-sync", asked.clone()).await {
        Err(qmp::QmpError::Refused { reason, .. }) if reason.contains("does not exist") => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}

/// A caller that gives up must not leave half a start behind, of which nobody knows: the work goes on without it.
async fn to_its_end<T: Send + 'static>(
    turn: OwnedMutexGuard<()>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = tokio::spawn(async move {
        let outcome = work.await;
        drop(turn);
        outcome
    });
    task.await.map_err(|error| HypervisorError::Channel(error.to_string()))?
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_running(id: &ServerId) -> HypervisorError {
    HypervisorError::NotRunning { id: id.clone() }
}

fn capabilities(
    version: Version,
    found: Found,
    uefi: bool,
    config: &QemuConfig,
    run_as: Option<RunAs>,
    isolation: Vec<String>,
) -> Capabilities {
    let mut firmware = vec![Firmware::Bios];
    firmware.extend(uefi.then_some(Firmware::Uefi));
    Capabilities {
        hypervisor: "qemu",
        version,
        accelerator: found.accelerator,
        accelerator_note: found.note,
        cpu_model: found.cpu_model.to_owned(),
        machines: vec![Machine::Q35],
        firmware,
        vcpus_max: VCPUS_MAX,
        hotplug_slots: u32::try_from(config.hotplug_slots).unwrap_or(u32::MAX),
        run_as,
        isolation,
    }
}

/// The user that guests run as, and a sentence about it.
async fn unprivileged_user(config: &QemuConfig) -> Result<(Option<RunAs>, String)> {
    if !rustix::process::geteuid().is_root() {
        return Ok((None, "guests run as the agent's own user, which is not root".to_owned()));
    }
    let Some(name) = &config.user else { return Ok((None, "guests run as root: no user is configured".to_owned())) };
    let user = user::with_kvm_group(user::ensure(name).await?);
    Ok(match user::barrier(&config.root, user) {
        Some(folder) => (None, format!("guests run as root: user {name} may not pass through {}", folder.display())),
        None => (Some(user), format!("guests run as user {name}")),
    })
}

/// Makes the directory and takes its lock, which goes with the returned file.
fn take_directory(root: &Path) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(root)?;
    let lock = File::create(root.join("lock"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("another agent uses it")),
        Err(error) => Err(error.into()),
    }
}
