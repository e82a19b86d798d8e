//! The `fake` driver: guests that are rows in memory, started in no time, with the same rules and events as real ones.
//!
//! For `nacre up --driver fake`, for a thousand servers on a laptop, and for tests that need a guest to misbehave or a
//! call to fail at the right moment. The guests live in a [`FakeHost`], which outlives the driver as real guests outlive
//! the agent: a second [`FakeHypervisor`] on the same host finds them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use model::id::{PortId, ServerId};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

use super::{
    Accelerator, Capabilities, Consoles, Counters, DiskCounters, Ensured, Firmware, GuestEnd, GuestEvent,
    GuestEventKind, GuestNic, GuestPower, GuestSpec, Hypervisor, HypervisorError, Machine, NicCounters, ObservedGuest,
    Result, ShutDown, Version,
};

/// Events that a slow receiver may lag behind.
const EVENTS_KEPT: usize = 16_384;

/// A call of the driver, for faults and delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `ensure_guest`, when it starts something.
    Start,
    /// `observe_guest` and `list_guests`.
    Observe,
    /// `shut_down_guest`.
    ShutDown,
    /// `stop_guest`.
    Stop,
    /// `remove_guest`.
    Remove,
    /// `reset_guest`, `pause_guest`, `resume_guest`.
    Control,
    /// `attach_nic`.
    AttachNic,
    /// `detach_nic`.
    DetachNic,
    /// `adopt`.
    Adopt,
}

/// What a guest's system does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Powers off when asked.
    #[default]
    Cooperates,
    /// Runs on when asked to power off.
    IgnoresPowerButton,
    /// Powers off as soon as it is up.
    PowersOff,
    /// Crashes as soon as it is up.
    Panics,
}

/// The machine under the driver. Cheap to clone: all clones are the same machine.
#[derive(Clone)]
pub struct FakeHost(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    events: broadcast::Sender<GuestEvent>,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<ServerId, FakeGuest>,
    behaviours: HashMap<ServerId, Behaviour>,
    faults: HashMap<Op, VecDeque<String>>,
    delays: HashMap<Op, Duration>,
}

struct FakeGuest {
    spec: GuestSpec,
    power: GuestPower,
    console: String,
    snapshots: BTreeSet<String>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), events: broadcast::Sender::new(EVENTS_KEPT) }))
    }
}

impl FakeHost {
    /// Lets the next call of that kind fail with that reason. Several are used up one after the other.
    pub fn fail_next(&self, op: Op, reason: impl Into<String>) {
        self.state().faults.entry(op).or_default().push_back(reason.into());
    }

    /// Lets every call of that kind take that long.
    pub fn delay(&self, op: Op, by: Duration) {
        self.state().delays.insert(op, by);
    }

    /// Says what that guest's system does, from its next start on.
    pub fn behave(&self, id: &ServerId, behaviour: Behaviour) {
        self.state().behaviours.insert(id.clone(), behaviour);
    }

    /// The guest powers itself off.
    pub fn power_off_from_inside(&self, id: &ServerId) {
        self.end(id, GuestEnd::ByGuest);
    }

    /// The guest's process dies.
    pub fn crash(&self, id: &ServerId, reason: impl Into<String>) {
        self.end(id, GuestEnd::Crashed(reason.into()));
    }

    /// The machine loses its power and comes back: every guest is off, and nobody was there to send an event.
    pub fn restart_host(&self) {
        for guest in self.state().guests.values_mut().filter(|guest| guest.power.is_on()) {
            guest.power = GuestPower::Off { end: GuestEnd::HostRestart };
        }
    }

    /// The NICs that are plugged into the guest.
    pub fn nics(&self, id: &ServerId) -> Vec<PortId> {
        let state = self.state();
        state.guests.get(id).map(|guest| guest.spec.nics.iter().map(|nic| nic.id.clone()).collect()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: &ServerId, end: GuestEnd) {
        self.turn(id, GuestPower::Off { end: end.clone() }, GuestEventKind::Stopped(end));
    }

    /// Changes the power of a guest that is on, and says so.
    fn turn(&self, id: &ServerId, to: GuestPower, kind: GuestEventKind) {
        if let Some(guest) = self.state().guests.get_mut(id).filter(|guest| guest.power.is_on() && guest.power != to) {
            guest.power = to;
            self.tell(guest.spec.boot, id, kind);
        }
    }

    fn tell(&self, boot: u64, id: &ServerId, kind: GuestEventKind) {
        // Nobody listening is no error.
        let _ = self.0.events.send(GuestEvent { id: id.clone(), boot, kind });
    }

    fn observe(&self, id: &ServerId) -> Option<ObservedGuest> {
        let state = self.state();
        let guest = state.guests.get(id)?;
        Some(ObservedGuest { id: id.clone(), boot: guest.spec.boot, power: guest.power.clone(), pid: None })
    }

    /// Changes a running guest.
    fn with_running<T>(&self, id: &ServerId, work: impl FnOnce(&mut FakeGuest) -> T) -> Result<T> {
        match self.state().guests.get_mut(id).filter(|guest| guest.power.is_on()) {
            Some(guest) => Ok(work(guest)),
            None => Err(HypervisorError::NotRunning { id: id.clone() }),
        }
    }

    /// The delay and the fault that are set for a call.
    async fn enter(&self, op: Op) -> Result<(), String> {
        let delay = self.state().delays.get(&op).copied();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        match self.state().faults.get_mut(&op).and_then(VecDeque::pop_front) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

/// The driver. See the module's text.
#[derive(Clone, Default)]
pub struct FakeHypervisor {
    host: FakeHost,
}

impl FakeHypervisor {
    /// A driver for that machine.
    pub fn on(host: FakeHost) -> Self {
        Self { host }
    }

    async fn enter(&self, op: Op) -> Result<()> {
        let refused = |reason| HypervisorError::Refused { command: format!("{op:?}"), reason };
        self.host.enter(op).await.map_err(refused)
    }

    async fn ensure(&self, spec: &GuestSpec) -> Result<Ensured> {
        if let Some(seen) = self.host.observe(&spec.id) {
            if seen.boot > spec.boot {
                return Err(HypervisorError::StaleBoot { id: spec.id.clone(), known: seen.boot, asked: spec.boot });
            }
            if seen.power.is_on() && seen.boot == spec.boot {
                return Ok(Ensured::Running);
            }
        }
        self.host.end(&spec.id, GuestEnd::ByHost);
        let outcome = self.host.enter(Op::Start).await;
        let power = match &outcome {
            Ok(()) => GuestPower::Running,
            Err(reason) => GuestPower::Off { end: GuestEnd::StartFailed(reason.clone()) },
        };
        let behaviour = {
            let mut state = self.host.state();
            let console = state.guests.remove(&spec.id).map(|guest| guest.console).unwrap_or_default();
            let console = if outcome.is_ok() { console + "fake guest is up\n" } else { console };
            state
                .guests
                .insert(spec.id.clone(), FakeGuest { spec: spec.clone(), power, console, snapshots: BTreeSet::new() });
            state.behaviours.get(&spec.id).copied().unwrap_or_default()
        };
        if let Err(reason) = outcome {
            return Err(HypervisorError::StartFailed { id: spec.id.clone(), reason });
        }
        self.host.tell(spec.boot, &spec.id, GuestEventKind::Started);
        match behaviour {
            Behaviour::PowersOff => self.host.power_off_from_inside(&spec.id),
            Behaviour::Panics => self.host.turn(&spec.id, GuestPower::Panicked, GuestEventKind::Panicked),
            Behaviour::Cooperates | Behaviour::IgnoresPowerButton => {}
        }
        Ok(Ensured::Started)
    }

    async fn shut_down(&self, id: &ServerId, grace: Duration) -> Result<ShutDown> {
        let Some(seen) = self.host.observe(id).filter(|seen| seen.power.is_on()) else {
            return Ok(ShutDown::AlreadyOff);
        };
        self.enter(Op::ShutDown).await?;
        let behaviour = self.host.state().behaviours.get(id).copied().unwrap_or_default();
        if seen.power == GuestPower::Running && behaviour == Behaviour::Cooperates {
            self.host.end(id, GuestEnd::ByHost);
            return Ok(ShutDown::Graceful);
        }
        if seen.power == GuestPower::Running {
            // The guest may still go by itself, or be stopped by another call.
            let mut events = self.subscribe();
            let gone = async {
                while self.host.observe(id).is_some_and(|seen| seen.power.is_on()) {
                    let _ = events.recv().await;
                }
            };
            let _ = timeout(grace, gone).await;
        }
        self.host.end(id, GuestEnd::ByHost);
        Ok(ShutDown::Forced)
    }
}

impl Hypervisor for FakeHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hypervisor: "fake",
            version: Version { major: 1, minor: 0, micro: 0 },
            accelerator: Accelerator::None,
            accelerator_note: "guests are rows in memory".to_owned(),
            cpu_model: "fake".to_owned(),
            machines: vec![Machine::Q35],
            firmware: vec![Firmware::Bios, Firmware::Uefi],
            vcpus_max: 255,
            hotplug_slots: 8,
            run_as: None,
            isolation: Vec::new(),
        }
    }

    fn ensure_guest<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Ensured>> {
        Box::pin(self.ensure(spec))
    }

    fn observe_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Option<ObservedGuest>>> {
        Box::pin(async move {
            self.enter(Op::Observe).await?;
            Ok(self.host.observe(id))
        })
    }

    fn list_guests(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>> {
        Box::pin(async move {
            self.enter(Op::Observe).await?;
            let ids: Vec<ServerId> = self.host.state().guests.keys().cloned().collect();
            Ok(ids.iter().filter_map(|id| self.host.observe(id)).collect())
        })
    }

    fn shut_down_guest<'a>(&'a self, id: &'a ServerId, grace: Duration) -> BoxFuture<'a, Result<ShutDown>> {
        Box::pin(self.shut_down(id, grace))
    }

    fn stop_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Stop).await?;
            self.host.end(id, GuestEnd::ByHost);
            Ok(())
        })
    }

    fn remove_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Remove).await?;
            self.host.end(id, GuestEnd::ByHost);
            self.host.state().guests.remove(id);
            Ok(())
        })
    }

    fn reset_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Control).await?;
            let boot = self.host.with_running(id, |guest| guest.spec.boot)?;
            self.host.tell(boot, id, GuestEventKind::Reset);
            Ok(())
        })
    }

    fn pause_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Control).await?;
            self.host.with_running(id, |_| ())?;
            self.host.turn(id, GuestPower::Paused, GuestEventKind::Paused);
            Ok(())
        })
    }

    fn resume_guest<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Control).await?;
            self.host.with_running(id, |_| ())?;
            self.host.turn(id, GuestPower::Running, GuestEventKind::Resumed);
            Ok(())
        })
    }

    fn suspend_guest<'a>(&'a self, id: &'a ServerId, nics: &'a [GuestNic]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let suspended = GuestPower::Off { end: GuestEnd::Suspended };
            if self.host.observe(id).is_some_and(|seen| seen.power == suspended) {
                return Ok(());
            }
            self.enter(Op::Control).await?;
            self.host.with_running(id, |guest| guest.spec.nics = nics.to_vec())?;
            self.host.end(id, GuestEnd::Suspended);
            Ok(())
        })
    }

    fn snapshot_disk<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Control).await?;
            self.host.with_running(id, |guest| guest.snapshots.insert(format!("{disk}/{name}")))?;
            Ok(())
        })
    }

    fn drop_disk_snapshot<'a>(&'a self, id: &'a ServerId, disk: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Control).await?;
            self.host.with_running(id, |guest| guest.snapshots.remove(&format!("{disk}/{name}")))?;
            Ok(())
        })
    }

    fn set_password<'a>(&'a self, id: &'a ServerId, _user: &'a str, _password: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.host.with_running(id, |_| ())?;
            Err(HypervisorError::Unsupported("the guest runs no QEMU guest agent".to_owned()))
        })
    }

    fn counters<'a>(&'a self, id: &'a ServerId) -> BoxFuture<'a, Result<Counters>> {
        Box::pin(async move {
            self.host.with_running(id, |guest| Counters {
                cpus: guest.spec.vcpus,
                memory_mib: guest.spec.memory_mib.into(),
                disks: vec![DiskCounters::default(); guest.spec.disks.len()],
                nics: guest
                    .spec
                    .nics
                    .iter()
                    .map(|nic| NicCounters { mac: nic.mac.clone(), ..NicCounters::default() })
                    .collect(),
                ..Counters::default()
            })
        })
    }

    fn attach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a GuestNic) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::AttachNic).await?;
            self.host.with_running(id, |guest| {
                if guest.spec.nics.iter().all(|plugged| plugged.id != nic.id) {
                    guest.spec.nics.push(nic.clone());
                }
            })
        })
    }

    fn detach_nic<'a>(&'a self, id: &'a ServerId, nic: &'a PortId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::DetachNic).await?;
            let (boot, was_plugged) = self.host.with_running(id, |guest| {
                let before = guest.spec.nics.len();
                guest.spec.nics.retain(|plugged| plugged.id != *nic);
                (guest.spec.boot, guest.spec.nics.len() < before)
            })?;
            if was_plugged {
                self.host.tell(boot, id, GuestEventKind::NicDetached(nic.clone()));
            }
            Ok(())
        })
    }

    fn console_log<'a>(&'a self, id: &'a ServerId, lines: Option<usize>) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let state = self.host.state();
            let console = state.guests.get(id).map(|guest| guest.console.as_str()).unwrap_or_default();
            let all: Vec<&str> = console.split_inclusive('\n').collect();
            Ok(all[all.len().saturating_sub(lines.unwrap_or(usize::MAX))..].concat())
        })
    }

    fn consoles<'a>(&'a self, _id: &'a ServerId) -> BoxFuture<'a, Result<Consoles>> {
        Box::pin(async { Err(HypervisorError::Unsupported("a fake guest has no console to connect to".to_owned())) })
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<ObservedGuest>>> {
        Box::pin(async move {
            self.enter(Op::Adopt).await?;
            self.list_guests().await
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<GuestEvent> {
        self.host.0.events.subscribe()
    }
}
