//! One guest: starting it, watching it, ending it, taking it over.
//!
//! ```text
//! start ── spawn ── QMP answers ──> live ── monitor: QMP events, process end ──> off (record says why)
//!             └── dies or is silent ──> off: StartFailed
//! ```
//!
//! **Why a guest ended** must not depend on whether an agent was there to see it. QEMU runs with `shutdown=pause`: a
//! guest that powers itself off leaves a paused process in the state `shutdown`, until the monitor has noted the reason
//! and tells it to quit; an agent that was away finds the same state. A process that is gone without a note has crashed,
//! or the host was restarted.
//!
//! Calls come from `QemuHypervisor`, one at a time for each guest; the monitor runs beside them. They meet in `state`.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::id::ServerId;
use serde_json::Value;
use tokio::{
    sync::{broadcast, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    command_line::{self, Host},
    console, hotplug,
    paths::{GuestPaths, prepare},
    process::Process,
    qmp::{Qmp, QmpEvent},
    record::Record,
    suspend, tap,
};
use crate::hypervisor::{
    Ensured, GuestEnd, GuestEvent, GuestEventKind, GuestPower, GuestSpec, HypervisorError, ObservedGuest, Result,
    RunAs, ShutDown,
};

/// QEMU flushes its disks when it quits; after this it is killed.
const QUIT_TIME_MAX: Duration = Duration::from_secs(10);
/// A killed process that is not gone by then hangs in the kernel.
pub const KILL_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for a QEMU that runs already to answer.
const RECONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause between attempts to get back a QMP connection.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How often a guest that does not react is asked to power off.
const POWER_BUTTON_PERIOD: Duration = Duration::from_secs(5);
/// How often the console's log is looked at.
const CONSOLE_PERIOD: Duration = Duration::from_secs(30);
/// How long a suspended guest's memory may take to be read.
const MEMORY_TIME_MAX: Duration = Duration::from_secs(300);
/// How much of QEMU's own output goes into an error.
const REASON_BYTES: u64 = 2 << 10;

/// What all guests of a driver share.
#[derive(Debug)]
pub struct Shared {
    /// QEMU's program.
    pub binary: PathBuf,
    /// What command lines depend on.
    pub host: Host,
    /// Template of UEFI variables, where installed.
    pub uefi_vars: Option<PathBuf>,
    /// The user guests run as.
    pub run_as: Option<RunAs>,
    /// Where guests' control groups go, where the host has them.
    pub cgroup: Option<super::cgroup::Cgroup>,
    /// How long QEMU may take until it answers.
    pub start_time_max: Duration,
    /// The running kernel.
    pub host_boot: String,
    /// What happens to guests.
    pub events: broadcast::Sender<GuestEvent>,
    /// Ends the monitors when the driver goes; guests run on.
    pub closed: CancellationToken,
}

/// See the module's text.
pub struct Guest {
    id: ServerId,
    paths: GuestPaths,
    shared: Arc<Shared>,
    state: Mutex<State>,
    // Tells waiting calls that `state.record.end` and `state.live` have changed for good.
    on: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    record: Option<Record>,
    power: Option<GuestPower>,
    live: Option<Live>,
}

#[derive(Clone)]
struct Live {
    process: Arc<Process>,
    // Absent while the connection is being made anew.
    qmp: Option<Qmp>,
}

impl Guest {
    /// A guest of which nothing is known yet.
    pub fn new(id: ServerId, paths: GuestPaths, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { id, paths, shared, state: Mutex::default(), on: watch::Sender::new(false) })
    }

    /// Where its files are.
    pub fn paths(&self) -> &GuestPaths {
        &self.paths
    }

    /// The server's id.
    pub fn id(&self) -> &ServerId {
        &self.id
    }

    /// What it was last started as.
    pub fn spec(&self) -> Option<GuestSpec> {
        self.state().record.as_ref().map(|record| record.spec.clone())
    }

    /// Its memory is on disk: notes what the next start must look like.
    pub fn suspended(&self, nics: Vec<crate::hypervisor::GuestNic>, sockets: u32) -> Result<()> {
        let record = {
            let mut state = self.state();
            let Some(record) = &mut state.record else { return Ok(()) };
            (record.spec.nics, record.spec.sockets) = (nics, Some(sockets));
            record.end = Some(GuestEnd::Suspended);
            record.clone()
        };
        self.write(&record)
    }

    /// What a start under that boot counter goes on from: the machine as it was suspended.
    fn suspended_as(&self, boot: u64) -> Option<GuestSpec> {
        let state = self.state();
        let record = state.record.as_ref()?;
        let goes_on = record.end == Some(GuestEnd::Suspended) && record.spec.boot == boot;
        (goes_on && self.paths.suspended().exists()).then(|| record.spec.clone())
    }

    /// The guest as it is now, `None` if it was never started.
    pub fn observe(&self) -> Option<ObservedGuest> {
        let state = self.state();
        let (record, power) = state.record.as_ref().zip(state.power.clone())?;
        let pid = state.live.as_ref().map(|live| live.process.pid());
        Some(ObservedGuest { id: self.id.clone(), boot: record.spec.boot, power, pid })
    }

    /// Its control channel.
    pub fn qmp(&self) -> Result<Qmp> {
        let live = self.state().live.clone().ok_or_else(|| HypervisorError::NotRunning { id: self.id.clone() })?;
        live.qmp.ok_or_else(|| HypervisorError::Channel("QEMU does not answer on its QMP socket".to_owned()))
    }

    /// Makes it run under the spec's boot counter.
    pub async fn ensure(self: &Arc<Self>, spec: &GuestSpec) -> Result<Ensured> {
        if let Some(seen) = self.observe() {
            if seen.boot > spec.boot {
                return Err(HypervisorError::StaleBoot { id: self.id.clone(), known: seen.boot, asked: spec.boot });
            }
            if seen.power.is_on() && seen.boot == spec.boot {
                return Ok(Ensured::Running);
            }
        }
        self.stop().await?;
        self.start(spec).await?;
        Ok(Ensured::Started)
    }

    async fn start(self: &Arc<Self>, spec: &GuestSpec) -> Result<()> {
        let suspended = self.suspended_as(spec.boot);
        let spec = suspended.as_ref().unwrap_or(spec);
        let mut taps = Vec::new();
        for nic in &spec.nics {
            taps.push(tap::open(nic).await?);
        }
        let numbers: Vec<RawFd> = taps.iter().map(AsRawFd::as_raw_fd).collect();
        let mut arguments = command_line::arguments(spec, &self.paths, &self.shared.host, &numbers)
            .map_err(|reason| HypervisorError::InvalidSpec { id: self.id.clone(), reason })?;
        let memory = self.paths.suspended();
        if suspended.is_some() {
            let file = File::open(&memory).map_err(HypervisorError::io("open the guest's memory"))?;
            let file = OwnedFd::from(file);
            arguments.extend(["-incoming".to_owned(), format!("fd:{}", file.as_raw_fd())]);
            taps.push(file);
        } else {
            forget(&memory)?;
        }
        let (paths, shared, firmware) = (self.paths.clone(), self.shared.clone(), spec.firmware);
        let log = blocking(move || prepare(&paths, &shared, firmware))
            .await
            .map_err(HypervisorError::io(format!("prepare {}", self.paths.directory().display())))?;
        let mut record = Record { spec: spec.clone(), host_boot: self.shared.host_boot.clone(), pid: None, end: None };
        self.write(&record)?;
        let process = Arc::new(Process::spawn(&self.shared.binary, &arguments, log, self.shared.run_as, taps)?);
        record.pid = Some(process.pid());
        self.write(&record)?;
        if let Some(cgroup) = &self.shared.cgroup {
            cgroup.place(&self.id, process.pid());
        }
        self.state().record = Some(record);
        let contact = match self.first_contact(&process).await {
            Ok((qmp, events)) if suspended.is_some() => {
                suspend::go_on(&qmp, MEMORY_TIME_MAX).await.map(|()| (qmp, events))
            }
            other => other,
        };
        match contact {
            Ok((qmp, events)) => {
                forget(&memory)?;
                self.go_live(process, Some((qmp, events)), GuestPower::Running);
                self.tell(GuestEventKind::Started);
                Ok(())
            }
            Err(reason) => {
                process.kill();
                process.ended_within(KILL_TIME_MAX).await;
                // Its memory is still there for another attempt.
                self.settle(match &suspended {
                    Some(_) => GuestEnd::Suspended,
                    None => GuestEnd::StartFailed(reason.clone()),
                });
                Err(HypervisorError::StartFailed { id: self.id.clone(), reason })
            }
        }
    }

    /// Waits until QEMU answers, or for its last words.
    async fn first_contact(&self, process: &Process) -> Result<(Qmp, broadcast::Receiver<QmpEvent>), String> {
        let socket = self.paths.qmp();
        let connected = tokio::select! {
            connected = Qmp::connect(&socket, self.shared.start_time_max) => connected,
            how = process.ended() => return Err(self.last_words(&how)),
        };
        match connected {
            Ok((qmp, events)) if qmp.peer_pid() == Some(process.pid()) => Ok((qmp, events)),
            Ok(_) => Err("another process answers on its QMP socket".to_owned()),
            // The socket closes a moment before the process is gone.
            Err(error) => match timeout(RECONNECT_PAUSE, process.ended()).await {
                Ok(how) => Err(self.last_words(&how)),
                Err(_) => Err(error.to_string()),
            },
        }
    }

    fn last_words(&self, how: &str) -> String {
        let printed = console::end_of(&self.paths.qemu_log(), REASON_BYTES).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let words = printed.lines().map(|line| line.trim_start_matches("qemu-system-x86_64: ").trim());
        let words: Vec<&str> = words.filter(|line| !line.is_empty()).collect();
        if words.is_empty() { format!("QEMU: {how}") } else { words[words.len().saturating_sub(5)..].join("; ") }
    }

    /// Takes over what an earlier agent left in this guest's directory.
    pub async fn adopt(self: &Arc<Self>) {
        let Some(mut record) = Record::read(&self.paths.record()) else {
            if !self.paths.record().exists()
                && let Err(error) = self.remove_files().await
            {
                tracing::warn!(id = %self.id, %error, "folder of a guest that was never started");
            }
            return;
        };
        let mark = command_line::guest_name(self.id.as_str());
        let mut contact = None;
        let mut process = record.pid.and_then(|pid| Process::adopt(pid, &mark));
        if process.is_some() || record.pid.is_none() {
            contact = Qmp::connect(&self.paths.qmp(), RECONNECT_TIME_MAX.min(self.patience(&record))).await.ok();
            let listener = contact.as_ref().and_then(|(qmp, _)| qmp.peer_pid());
            process = process.or_else(|| listener.and_then(|pid| Process::adopt(pid, &mark)));
        }
        let Some(process) = process else {
            let end = record.unseen_end(&self.shared.host_boot);
            self.state().record = Some(record);
            self.settle(end);
            return;
        };
        if contact.as_ref().is_some_and(|(qmp, _)| qmp.peer_pid() != Some(process.pid())) {
            contact = None;
        }
        // Whether an end that was asked for is still wanted is decided anew.
        let asked_end = record.end.take();
        record.pid = Some(process.pid());
        let _ = self.write(&record).inspect_err(|error| tracing::error!(id = %self.id, %error, "guest record"));
        self.state().record = Some(record);
        let power = match &contact {
            Some((qmp, _)) => run_state(qmp).await,
            None => Some(GuestPower::Running),
        };
        let process = Arc::new(process);
        self.go_live(process, contact, power.clone().unwrap_or(GuestPower::Paused));
        if power.is_none() {
            self.guest_powered_off(asked_end.unwrap_or(GuestEnd::ByGuest)).await;
            let _ = self.off_within(QUIT_TIME_MAX).await;
        }
    }

    /// A process whose pid is known answers or does not; a start without a pid has most likely come to nothing.
    fn patience(&self, record: &Record) -> Duration {
        if record.pid.is_some() { RECONNECT_TIME_MAX } else { Duration::from_millis(500) }
    }

    /// Takes the power away.
    pub async fn stop(&self) -> Result<()> {
        let Some(live) = self.state().live.clone() else { return Ok(()) };
        self.note_end(GuestEnd::ByHost);
        if let Some(qmp) = &live.qmp {
            // An error means that it is gone or deaf: the process decides.
            let _ = qmp.execute_within("quit", Value::Null, QUIT_TIME_MAX).await;
        }
        if live.qmp.is_none() || !live.process.ended_within(QUIT_TIME_MAX).await {
            live.process.kill();
        }
        if self.off_within(KILL_TIME_MAX).await {
            return Ok(());
        }
        Err(HypervisorError::Timeout { what: format!("killing QEMU of guest {}", self.id), after: KILL_TIME_MAX })
    }

    /// Takes the power away and removes every file.
    pub async fn remove(&self) -> Result<()> {
        self.stop().await?;
        self.remove_files().await
    }

    async fn remove_files(&self) -> Result<()> {
        let directory = self.paths.directory().to_owned();
        let what = format!("remove {}", directory.display());
        let gone = blocking(move || match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        gone.await.map_err(HypervisorError::io(what))
    }

    /// Asks the guest's system to power off and takes the power away when the grace is over.
    pub async fn shut_down(&self, grace: Duration) -> Result<ShutDown> {
        let Some(seen) = self.observe().filter(|seen| seen.power.is_on()) else { return Ok(ShutDown::AlreadyOff) };
        if seen.power == GuestPower::Running
            && let Ok(qmp) = self.qmp()
        {
            self.note_end(GuestEnd::ByHost);
            let ask = async {
                // A system that is still booting misses the button: it is pressed again and again.
                while qmp.execute("system_powerdown", Value::Null).await.is_ok() {
                    sleep(POWER_BUTTON_PERIOD).await;
                }
                // QEMU is about to go.
                std::future::pending::<()>().await;
            };
            let off = tokio::select! {
                off = self.off_within(grace) => off,
                () = ask => false,
            };
            if off {
                return Ok(ShutDown::Graceful);
            }
        }
        self.stop().await?;
        Ok(ShutDown::Forced)
    }

    async fn off_within(&self, longest: Duration) -> bool {
        let mut on = self.on.subscribe();
        timeout(longest, on.wait_for(|on| !on)).await.is_ok()
    }

    fn go_live(
        self: &Arc<Self>,
        process: Arc<Process>,
        contact: Option<(Qmp, broadcast::Receiver<QmpEvent>)>,
        power: GuestPower,
    ) {
        let (qmp, events) = contact.unzip();
        {
            let mut state = self.state();
            state.live = Some(Live { process: process.clone(), qmp });
            state.power = Some(power);
        }
        self.on.send_replace(true);
        tokio::spawn(self.clone().watch(process, events));
    }

    /// The monitor: runs as long as the process, or until the driver goes.
    async fn watch(self: Arc<Self>, process: Arc<Process>, mut events: Option<broadcast::Receiver<QmpEvent>>) {
        let mut look_at_console = interval(CONSOLE_PERIOD);
        look_at_console.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let how = loop {
            tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => return self.let_go(),
                how = process.ended() => break how,
                event = next(&mut events) => match event {
                    Some(event) => self.happened(&event).await,
                    None => events = self.reconnected(&process).await,
                },
                _ = look_at_console.tick() => self.trim_console().await,
            }
        };
        // What QEMU said before it went is worth more than how it went.
        while let Ok(Some(event)) = timeout(RECONNECT_PAUSE, next(&mut events)).await {
            self.happened(&event).await;
        }
        let noted = self.state().record.as_ref().and_then(|record| record.end.clone());
        self.settle(noted.unwrap_or_else(|| GuestEnd::Crashed(self.last_words(&how))));
    }

    async fn happened(&self, event: &QmpEvent) {
        match event.name.as_str() {
            "SHUTDOWN" if event.data["reason"] == "guest-shutdown" => self.guest_powered_off(GuestEnd::ByGuest).await,
            "SHUTDOWN" if event.data["reason"] == "host-signal" => {
                self.note_end(GuestEnd::Crashed("QEMU was ended by a signal".to_owned()));
            }
            "STOP" => self.turn(GuestPower::Paused, GuestEventKind::Paused),
            "RESUME" => self.turn(GuestPower::Running, GuestEventKind::Resumed),
            "GUEST_PANICKED" => self.turn(GuestPower::Panicked, GuestEventKind::Panicked),
            "RESET" => self.tell(GuestEventKind::Reset),
            _ => {
                if let Some(port) = hotplug::detached_nic(event) {
                    self.tell(GuestEventKind::NicDetached(port));
                }
            }
        }
    }

    /// The guest's system is off, its process waits: notes why and ends it.
    async fn guest_powered_off(&self, why: GuestEnd) {
        self.note_end(why);
        if let Ok(qmp) = self.qmp() {
            // If it does not answer any more it is gone, or `stop` kills it.
            let _ = qmp.execute("quit", Value::Null).await;
        }
    }

    /// A new connection for a process that still runs; `None` if it has ended meanwhile or the driver goes.
    async fn reconnected(&self, process: &Process) -> Option<broadcast::Receiver<QmpEvent>> {
        if let Some(live) = &mut self.state().live {
            live.qmp = None;
        }
        let attempts = async {
            loop {
                match Qmp::connect(&self.paths.qmp(), RECONNECT_TIME_MAX).await {
                    Ok((qmp, events)) if qmp.peer_pid() == Some(process.pid()) => return (qmp, events),
                    _ => sleep(RECONNECT_PAUSE).await,
                }
            }
        };
        let (qmp, events) = tokio::select! {
            () = self.shared.closed.cancelled() => return None,
            _ = process.ended() => return None,
            connected = attempts => connected,
        };
        let power = run_state(&qmp).await;
        {
            let mut state = self.state();
            if let Some(live) = &mut state.live {
                live.qmp = Some(qmp);
            }
            if power.is_some() {
                state.power = power.clone();
            }
        }
        if power.is_none() {
            self.guest_powered_off(GuestEnd::ByGuest).await;
        }
        Some(events)
    }

    async fn trim_console(&self) {
        let paths = self.paths.clone();
        if let Err(error) = blocking(move || console::trim(&paths)).await {
            tracing::warn!(id = %self.id, %error, "console log");
        }
    }

    /// Notes why the guest is about to end, unless that is noted already.
    fn note_end(&self, end: GuestEnd) {
        let record = match &mut self.state().record {
            Some(record) if record.end.is_none() => {
                record.end = Some(end);
                record.clone()
            }
            _ => return,
        };
        let _ = self.write(&record).inspect_err(|error| tracing::error!(id = %self.id, %error, "guest record"));
    }

    /// The process is gone.
    fn settle(&self, end: GuestEnd) {
        self.note_end(end.clone());
        let was_on = {
            let mut state = self.state();
            state.power = Some(GuestPower::Off { end: end.clone() });
            self.on.send_replace(false);
            state.live.take().is_some()
        };
        if let Some(cgroup) = &self.shared.cgroup {
            cgroup.remove(&self.id);
        }
        if was_on {
            self.tell(GuestEventKind::Stopped(end));
        }
    }

    /// The driver goes, the guest stays.
    fn let_go(&self) {
        self.state().live = None;
    }

    fn turn(&self, power: GuestPower, kind: GuestEventKind) {
        let changed = {
            let mut state = self.state();
            // A panicked guest is paused as well: the panic says more.
            let keeps = power == GuestPower::Paused && state.power == Some(GuestPower::Panicked);
            let changed = !keeps && state.power.as_ref() != Some(&power);
            if changed {
                state.power = Some(power);
            }
            changed
        };
        if changed {
            self.tell(kind);
        }
    }

    fn tell(&self, kind: GuestEventKind) {
        let boot = self.state().record.as_ref().map_or(0, |record| record.spec.boot);
        // Nobody listening is no error.
        let _ = self.shared.events.send(GuestEvent { id: self.id.clone(), boot, kind });
    }

    fn write(&self, record: &Record) -> Result<()> {
        let path = self.paths.record();
        record.write(&path).map_err(HypervisorError::io(format!("write {}", path.display())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(memory: &std::path::Path) -> Result<()> {
    match fs::remove_file(memory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HypervisorError::io("remove a guest's memory")(error)),
        _ => Ok(()),
    }
}

/// The next event; `None` when the connection is gone.
async fn next(events: &mut Option<broadcast::Receiver<QmpEvent>>) -> Option<QmpEvent> {
    let events = events.as_mut()?;
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => tracing::warn!(lost, "QMP events"),
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// What QEMU says of the guest's power; `None`: it has powered itself off.
async fn run_state(qmp: &Qmp) -> Option<GuestPower> {
    let Ok(status) = qmp.execute("query-status", Value::Null).await else { return Some(GuestPower::Running) };
    match status["status"].as_str().unwrap_or_default() {
        "shutdown" => None,
        "guest-panicked" | "internal-error" => Some(GuestPower::Panicked),
        "paused" | "io-error" | "suspended" | "watchdog" => Some(GuestPower::Paused),
        _ => Some(GuestPower::Running),
    }
}

/// Runs what may wait for a disk on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
