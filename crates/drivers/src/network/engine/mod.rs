//! The six daemons of OVN and Open vSwitch, run privately below one directory.
//!
//! ```text
//! ovsdb-server conf ─┬─> ovs-vswitchd            (the switch)
//!                    └─> ovn-controller ──┐      (programs it)
//! ovsdb-server sb <───────────────────────┘
//!        ^── ovn-northd ──> ovsdb-server nb <── Nacre's control plane
//! ```
//!
//! The daemons are detached: they and all traffic outlive Nacre, killed or upgraded, and the next start adopts them by
//! their pid files. While Nacre runs, [`Engine::ensure_running`]'s watchers start again what dies. A host that joins an
//! OVN elsewhere runs only the chassis' half ([`Role::Chassis`]).
//!
//! `daemon` starts, finds and stops one process; `setup` makes databases and writes the switch's settings.

mod daemon;
mod setup;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use ipnet::IpNet;
use tokio::{process::Command, sync::watch, time::Instant};

pub use self::daemon::Daemon;
use super::{
    Datapath, NetworkError, Result,
    link::Links,
    netns,
    ovs::{INTEGRATION_BRIDGE, Ovs},
};

const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// A daemon that lived this long has not "died again".
const STEADY: Duration = Duration::from_secs(60);

/// Which half of OVN runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of it: databases, northd and this host's switch.
    Whole,
    /// Only this host's switch; the southbound database is at that address (`tcp:192.0.2.1:6642`).
    Chassis {
        /// The address.
        southbound: String,
    },
}

/// The bridge to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalBridge {
    /// Its name: `br-ex`.
    pub name: String,
    /// The physical network's name that it carries, as networks name it: `public`.
    pub physical_network: String,
    /// An address for the bridge, so that this host reaches the external network: `172.24.4.1/24`.
    pub address: Option<IpNet>,
}

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The folder of the programs; none takes them from `PATH`.
    pub bin: Option<PathBuf>,
    /// The folder with `openvswitch/vswitch.ovsschema` and `ovn/ovn-nb.ovsschema`.
    pub share: PathBuf,
}

impl Binaries {
    /// Looks for the programs: in the given folders (each with `bin` and `share`), then in the system.
    pub fn find(folders: &[PathBuf]) -> Result<Self> {
        let private = folders.iter().map(|folder| Self { bin: Some(folder.join("bin")), share: folder.join("share") });
        let mut candidates = private.chain([Self { bin: None, share: "/usr/share".into() }]);
        candidates.find(Self::complete).ok_or_else(|| {
            NetworkError::Unsupported(
                "OVN and Open vSwitch are not installed: install ovn-central, ovn-host and openvswitch-switch".into(),
            )
        })
    }

    fn complete(&self) -> bool {
        let programs = ["ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovn-northd", "ovn-controller"];
        let schemas = ["openvswitch/vswitch.ovsschema", "ovn/ovn-nb.ovsschema", "ovn/ovn-sb.ovsschema"];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        let found = |program: &str| self.bin.as_ref().map_or_else(|| on_path(program), |b| b.join(program).is_file());
        programs.into_iter().all(found) && schemas.iter().all(|schema| self.share.join(schema).is_file())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.bin.as_ref().map_or_else(|| name.into(), |bin| bin.join(name))
    }
}

/// How the engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything of it lies below this absolute path: `run`, `db`, `log`.
    pub directory: PathBuf,
    /// The programs.
    pub binaries: Binaries,
    /// Which half.
    pub role: Role,
    /// This chassis' name in OVN: the host's id.
    pub system_id: String,
    /// This host's name.
    pub hostname: String,
    /// The address that other chassis send tunnelled packets to.
    pub encap_ip: IpAddr,
    /// What forwards packets; [`detect_datapath`] says what this host has.
    pub datapath: Datapath,
    /// The way to the outside, if this host has one.
    pub external: Option<ExternalBridge>,
    /// More addresses at which the northbound database listens (`ptcp:6641:192.0.2.1`).
    pub north_listen: Vec<String>,
    /// More addresses at which the southbound database listens, for other chassis.
    pub south_listen: Vec<String>,
}

/// Whether the kernel has, or can load, the openvswitch module; else the userspace datapath.
pub async fn detect_datapath() -> Datapath {
    let loaded = || Path::new("/sys/module/openvswitch").exists();
    if !loaded() {
        let load = daemon::run(Command::new("modprobe").arg("openvswitch"), "modprobe", Duration::from_secs(5)).await;
        if let Err(error) = load {
            tracing::debug!(%error, "no openvswitch kernel module: using the userspace datapath");
        }
    }
    if loaded() { Datapath::System } else { Datapath::Netdev }
}

/// Where the engine's files are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    directory: PathBuf,
}

impl Layout {
    fn pid_file(&self, daemon: Daemon) -> PathBuf {
        self.directory.join("run").join(format!("{}.pid", daemon.name()))
    }
    fn log_file(&self, daemon: Daemon) -> PathBuf {
        self.directory.join("log").join(format!("{}.log", daemon.name()))
    }
    fn database(&self, file: &str) -> PathBuf {
        self.directory.join("db").join(file)
    }
    fn switch_socket(&self) -> PathBuf {
        self.directory.join("run/db.sock")
    }
    fn north_socket(&self) -> PathBuf {
        self.directory.join("run/ovnnb_db.sock")
    }
    fn south_socket(&self) -> PathBuf {
        self.directory.join("run/ovnsb_db.sock")
    }

    /// The folders that the programs were not compiled for.
    fn environment(&self, command: &mut Command) {
        for (kind, folder) in [("RUNDIR", "run"), ("DBDIR", "db"), ("LOGDIR", "log")] {
            for family in ["OVS", "OVN"] {
                command.env(format!("{family}_{kind}"), self.directory.join(folder));
            }
        }
    }
}

/// What one daemon is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonStatus {
    /// Which.
    pub daemon: Daemon,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Its log.
    pub log: PathBuf,
}

/// The daemons of this host. Clones share the watchers.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    layout: Layout,
    watched: Mutex<BTreeSet<Daemon>>,
    /// Counts stops: watchers of an earlier run end when it changes.
    stops: watch::Sender<u64>,
    /// One start or stop at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Engine {
    /// An engine with these settings; nothing happens yet.
    pub fn new(settings: Settings) -> Result<Self> {
        if !settings.directory.is_absolute() {
            return Err(NetworkError::Unsupported(format!(
                "{}: the engine's directory must be an absolute path",
                settings.directory.display()
            )));
        }
        let layout = Layout { directory: settings.directory.clone() };
        let (watched, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { settings, layout, watched, stops: watch::channel(0).0, turn }) })
    }

    /// The northbound database's address, for [`super::ovn::Ovn::connect`].
    pub fn northbound(&self) -> String {
        format!("unix:{}", self.inner.layout.north_socket().display())
    }

    /// The switch database's address, for [`Ovs::connect`].
    pub fn switch(&self) -> String {
        format!("unix:{}", self.inner.layout.switch_socket().display())
    }

    /// The daemons of this host's role.
    fn daemons(&self) -> &'static [Daemon] {
        use Daemon::{Controller, NorthDb, Northd, SouthDb, Switch, SwitchDb};
        match self.inner.settings.role {
            Role::Whole => &[SwitchDb, NorthDb, SouthDb, Northd, Switch, Controller],
            Role::Chassis { .. } => &[SwitchDb, Switch, Controller],
        }
    }

    /// Starts what does not run, adopts what does, brings the switch's settings up to date, and watches over all.
    pub async fn ensure_running(&self) -> Result<()> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        let directory = inner.settings.directory.clone();
        netns::blocking("make the engine's folders", move || setup::make_folders(&directory)).await?;
        let (databases, others): (Vec<Daemon>, Vec<Daemon>) =
            self.daemons().iter().partition(|daemon| daemon.database().is_some());
        try_join_all(databases.iter().map(|daemon| self.ensure_daemon(*daemon))).await?;
        let ovs = Ovs::connect(&self.switch(), inner.settings.datapath)?;
        if Daemon::Switch.find(&inner.layout).is_none() {
            setup::forget_installed(&ovs).await?;
        }
        setup::configure(&ovs, &inner.settings, &inner.layout).await?;
        try_join_all(others.iter().map(|daemon| self.ensure_daemon(*daemon))).await?;
        setup::settle(&ovs, &inner.settings).await?;
        self.watch_all();
        Ok(())
    }

    /// Stops every daemon of this directory, whoever started it.
    pub async fn stop_all(&self) -> Result<()> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        inner.stops.send_modify(|stops| *stops += 1);
        inner.watched.lock().unwrap_or_else(PoisonError::into_inner).clear();
        use Daemon::{Controller, NorthDb, Northd, SouthDb, Switch, SwitchDb};
        // Another switch's devices may have the same names: only one that runs has its own.
        let has_devices = inner.settings.datapath == Datapath::Netdev && Switch.find(&inner.layout).is_some();
        // A controller takes its chassis out of the southbound database on its way out, so databases go last.
        for stage in [&[Controller][..], &[Northd, Switch], &[SwitchDb, NorthDb, SouthDb]] {
            let running = stage.iter().filter_map(|daemon| Some((*daemon, daemon.find(&inner.layout)?)));
            let stopped = join_all(running.map(|(daemon, process)| process.stop(daemon))).await;
            stopped.into_iter().collect::<Result<()>>()?;
        }
        if has_devices { self.remove_devices().await } else { Ok(()) }
    }

    /// The userspace switch makes its bridges' devices persistent, so that they outlive its restarts.
    async fn remove_devices(&self) -> Result<()> {
        let links = Links::open()
            .map_err(|e| NetworkError::System { what: "open a netlink socket".into(), why: e.to_string() })?;
        let external = self.inner.settings.external.iter().map(|bridge| bridge.name.as_str());
        for device in external.chain([INTEGRATION_BRIDGE, "ovs-netdev"]) {
            links.remove(device).await?;
        }
        Ok(())
    }

    /// What runs.
    pub fn status(&self) -> Vec<DaemonStatus> {
        let layout = &self.inner.layout;
        let status = |daemon: &Daemon| DaemonStatus {
            daemon: *daemon,
            pid: daemon.find(layout).map(|process| process.pid),
            log: layout.log_file(*daemon),
        };
        self.daemons().iter().map(status).collect()
    }

    async fn ensure_daemon(&self, daemon: Daemon) -> Result<()> {
        let Inner { settings, layout, .. } = &*self.inner;
        if daemon.find(layout).is_none() {
            if let Some((file, schema)) = daemon.database() {
                setup::prepare_database(settings, layout, file, schema).await?;
            }
            let started = daemon.start(settings, layout).await?;
            tracing::info!(daemon = daemon.name(), pid = started.pid, "started");
        }
        Ok(())
    }

    fn watch_all(&self) {
        let mut watched = self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for daemon in self.daemons() {
            if watched.insert(*daemon) {
                let mut stops = self.inner.stops.subscribe();
                stops.mark_unchanged();
                let engine = self.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = engine.watch_over(*daemon) => {}
                        _ = stops.changed() => {}
                    }
                });
            }
        }
    }

    /// Starts a daemon again whenever it ends.
    async fn watch_over(&self, daemon: Daemon) {
        let mut backoff = RESTART_FIRST;
        loop {
            let since = Instant::now();
            if let Some(running) = daemon.find(&self.inner.layout)
                && let Err(error) = running.ended().await
            {
                tracing::error!(daemon = daemon.name(), %error, "can't watch over it");
                return;
            }
            if since.elapsed() > STEADY {
                backoff = RESTART_FIRST;
            }
            tracing::warn!(daemon = daemon.name(), "it ended; starting it again");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(RESTART_MAX);
            if let Err(error) = self.revive(daemon).await {
                tracing::error!(daemon = daemon.name(), %error, "can't start it again yet");
            }
        }
    }

    async fn revive(&self, daemon: Daemon) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        self.ensure_daemon(daemon).await?;
        if daemon == Daemon::Switch {
            // In the userspace datapath the bridges' devices ended with the switch, and their addresses with them.
            let ovs = Ovs::connect(&self.switch(), self.inner.settings.datapath)?;
            setup::settle(&ovs, &self.inner.settings).await?;
        }
        Ok(())
    }
}
