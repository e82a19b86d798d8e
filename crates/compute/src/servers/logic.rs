//! Decisions about one server, as pure functions.

use model::{Error, Result, Timestamp};
use store::compute::{
    life::Mode,
    servers::{Change, Fault, Hold, Phase, Power, Server, Shown, VmState},
};

/// Nova's numbers of power states.
const NOSTATE: i64 = 0;
const RUNNING: i64 = 1;
const PAUSED: i64 = 3;
const SHUTDOWN: i64 = 4;
const CRASHED: i64 = 6;
const SUSPENDED: i64 = 7;

/// What users see of a server, from its row alone.
///
/// | the row says | `vm_state` | `task_state` |
/// |---|---|---|
/// | gone | deleted | |
/// | never ran, no fault | building | scheduling, networking, spawning |
/// | something failed | error | of the change under way |
/// | a change is under way | as before it | powering-on, powering-off, rebooting, rebooting_hard |
/// | its host has settled | by the guest's power | |
/// | its end is wanted | as before | deleting |
pub fn shown(server: &Server) -> Shown {
    let vm_state = vm_state(server);
    let task_state = task_state(server, vm_state);
    Shown {
        vm_state,
        task_state: task_state.map(str::to_owned),
        power_state: power_state(server.observed.power),
        status: status(vm_state, task_state).to_owned(),
    }
}

/// Brings [`Server::shown`] up to date after a change of the row; the time of the change, where users see it.
pub fn refresh(server: &mut Server, now: Timestamp) {
    let new = shown(server);
    if new != server.shown {
        server.shown = new;
        server.updated_at = now;
    }
}

fn vm_state(server: &Server) -> VmState {
    let before = server.shown.vm_state;
    if server.deleted_at.is_some() {
        VmState::Deleted
    } else if before == VmState::Error {
        VmState::Error
    } else if server.launched_at.is_none() {
        VmState::Building
    } else if server.wanted.change != Change::None || server.delete_wanted_at.is_some() {
        // Until the change is done. A server that has just been built has no state before.
        if before == VmState::Building { by_power(server.observed.power) } else { before }
    } else if let Some(state) = by_mode(server.life.mode) {
        state
    } else if server.observed.phase == Phase::Settled || before == VmState::Building {
        by_power(server.observed.power)
    } else {
        before
    }
}

/// The state of a server that is more than on or off.
fn by_mode(mode: Mode) -> Option<VmState> {
    match mode {
        Mode::Plain => None,
        Mode::Rescued => Some(VmState::Rescued),
        Mode::Resized => Some(VmState::Resized),
        Mode::Shelved => Some(VmState::Shelved),
        Mode::Offloaded => Some(VmState::ShelvedOffloaded),
        Mode::SoftDeleted => Some(VmState::SoftDeleted),
    }
}

fn by_power(power: Power) -> VmState {
    match power {
        Power::Running => VmState::Active,
        Power::Paused => VmState::Paused,
        Power::Suspended => VmState::Suspended,
        Power::Unknown | Power::Shutdown | Power::Crashed | Power::Absent => VmState::Stopped,
    }
}

fn task_state(server: &Server, vm_state: VmState) -> Option<&'static str> {
    if vm_state == VmState::Deleted {
        return None;
    }
    if server.delete_wanted_at.is_some() {
        return Some("deleting");
    }
    if vm_state == VmState::Building {
        return Some(match (&server.host, server.told_generation) {
            (None, _) => "scheduling",
            (Some(_), 0) => "networking",
            (Some(_), _) => "spawning",
        });
    }
    match server.wanted.change {
        Change::None => None,
        Change::Start => Some("powering-on"),
        Change::Stop => Some("powering-off"),
        Change::Reboot => Some("rebooting"),
        Change::RebootHard => Some("rebooting_hard"),
        Change::Pause => Some("pausing"),
        Change::Unpause => Some("unpausing"),
        Change::Suspend => Some("suspending"),
        Change::Resume => Some("resuming"),
        Change::Rebuild => {
            Some(if server.told_generation < server.wanted.generation { "rebuilding" } else { "rebuild_spawning" })
        }
        Change::Resize => Some("resize_migrating"),
        Change::ConfirmResize => Some("resize_confirming"),
        Change::RevertResize => Some("resize_reverting"),
        Change::Rescue => Some("rescuing"),
        Change::Unrescue => Some("unrescuing"),
        Change::Snapshot => Some("image_snapshot"),
        Change::Backup => Some("image_backup"),
        Change::Shelve => Some("shelving"),
        Change::Offload => Some("shelving_offloading"),
        Change::Unshelve => Some("unshelving"),
        Change::SoftDelete => Some("soft-deleting"),
        Change::Restore => Some("restoring"),
    }
}

fn power_state(power: Power) -> i64 {
    match power {
        Power::Unknown | Power::Absent => NOSTATE,
        Power::Running => RUNNING,
        Power::Paused => PAUSED,
        Power::Shutdown => SHUTDOWN,
        Power::Crashed => CRASHED,
        Power::Suspended => SUSPENDED,
    }
}

fn status(vm_state: VmState, task_state: Option<&str>) -> &'static str {
    match (vm_state, task_state) {
        (VmState::Building, _) => "BUILD",
        (VmState::Active | VmState::Stopped | VmState::Error, Some("rebuilding" | "rebuild_spawning")) => "REBUILD",
        (VmState::Active | VmState::Stopped, Some("resize_migrating")) => "RESIZE",
        (VmState::Resized, Some("resize_reverting")) => "REVERT_RESIZE",
        (VmState::Resized, _) => "VERIFY_RESIZE",
        (VmState::Suspended, _) => "SUSPENDED",
        (VmState::Rescued, _) => "RESCUE",
        (VmState::Shelved, _) => "SHELVED",
        (VmState::ShelvedOffloaded, _) => "SHELVED_OFFLOADED",
        (VmState::SoftDeleted, _) => "SOFT_DELETED",
        (VmState::Active, Some("rebooting")) => "REBOOT",
        (VmState::Active, Some("rebooting_hard")) => "HARD_REBOOT",
        (VmState::Active, _) => "ACTIVE",
        (VmState::Paused, _) => "PAUSED",
        (VmState::Stopped, _) => "SHUTOFF",
        (VmState::Error, _) => "ERROR",
        (VmState::Deleted, _) => "DELETED",
    }
}

/// How far a host is with the newest generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was not told yet.
    Untold,
    /// It works on it.
    Working,
    /// All is as wanted.
    Settled,
    /// It can't be done, and trying again won't help.
    Hopeless(String),
}

/// How far the server's host is.
pub fn progress(server: &Server) -> Progress {
    let observed = &server.observed;
    if server.told_generation < server.wanted.generation {
        Progress::Untold
    } else if observed.generation < server.wanted.generation {
        Progress::Working
    } else if observed.phase == Phase::Settled {
        Progress::Settled
    } else if observed.phase == Phase::Failed && observed.fault_is_final {
        Progress::Hopeless(observed.fault.clone())
    } else {
        Progress::Working
    }
}

/// Whether the guest has ended although it was to run, and its host leaves it at that.
pub fn has_ended_by_itself(server: &Server) -> bool {
    let observed = &server.observed;
    server.wanted.running
        && server.wanted.change == Change::None
        && server.launched_at.is_some()
        && observed.phase == Phase::Settled
        && observed.generation >= server.wanted.generation
        && observed.boot >= server.wanted.boot
        && matches!(observed.power, Power::Shutdown | Power::Crashed)
}

/// Whether nothing of the server may be left on its host: its end is wanted, it could not be built, or only an image of
/// it is kept.
pub fn must_leave_host(server: &Server) -> bool {
    server.delete_wanted_at.is_some()
        || server.wanted.change == Change::Offload
        || (server.launched_at.is_none() && server.shown.vm_state == VmState::Error)
}

/// Whether nothing of the server is left on its host.
pub fn has_left_host(server: &Server) -> bool {
    server.observed.power == Power::Absent && server.observed.generation >= server.wanted.generation
}

/// Puts the server in error, for this reason.
pub fn fail(server: &mut Server, message: impl Into<String>, now: Timestamp) {
    let details = server.observed.fault.clone();
    server.fault = Some(Fault { code: 500, message: message.into(), details, at: now });
    server.shown.vm_state = VmState::Error;
    server.wanted.change = Change::None;
    refresh(server, now);
}

/// An action, as far as its legality is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Legal {
    /// As the error names it.
    pub action: &'static str,
    /// States in which it may be done.
    pub vm_states: &'static [VmState],
    /// Whether it may be done while something else is being done.
    pub while_busy: bool,
}

/// When what may be done.
pub mod legal {
    use super::{Legal, VmState};

    use VmState::{
        Active, Building, Error, Paused, Rescued, Resized, Shelved, ShelvedOffloaded, SoftDeleted, Stopped, Suspended,
    };

    /// Where nothing else is done.
    const fn when(action: &'static str, vm_states: &'static [VmState]) -> Legal {
        Legal { action, vm_states, while_busy: false }
    }

    /// Also while something else is done.
    const fn always(action: &'static str, vm_states: &'static [VmState]) -> Legal {
        Legal { action, vm_states, while_busy: true }
    }

    /// `os-start`.
    pub const START: Legal = when("start", &[Stopped]);
    /// `os-stop`.
    pub const STOP: Legal = when("stop", &[Active, Rescued, Error]);
    /// `reboot`, `SOFT`.
    pub const REBOOT: Legal = when("reboot", &[Active]);
    /// `reboot`, `HARD`.
    pub const REBOOT_HARD: Legal = always("reboot", &[Active, Stopped, Paused, Suspended, Error]);
    /// `pause`.
    pub const PAUSE: Legal = when("pause", &[Active]);
    /// `unpause`.
    pub const UNPAUSE: Legal = when("unpause", &[Paused]);
    /// `suspend`.
    pub const SUSPEND: Legal = when("suspend", &[Active]);
    /// `resume`.
    pub const RESUME: Legal = when("resume", &[Suspended]);
    /// `rebuild`.
    pub const REBUILD: Legal = when("rebuild", &[Active, Stopped, Error]);
    /// `resize`.
    pub const RESIZE: Legal = when("resize", &[Active, Stopped]);
    /// `confirmResize`.
    pub const CONFIRM_RESIZE: Legal = when("confirmResize", &[Resized]);
    /// `revertResize`.
    pub const REVERT_RESIZE: Legal = when("revertResize", &[Resized]);
    /// `rescue`.
    pub const RESCUE: Legal = when("rescue", &[Active, Stopped, Error]);
    /// `unrescue`.
    pub const UNRESCUE: Legal = when("unrescue", &[Rescued]);
    /// `createImage`.
    pub const SNAPSHOT: Legal = when("createImage", &[Active, Stopped, Paused, Suspended]);
    /// `createBackup`.
    pub const BACKUP: Legal = when("createBackup", &[Active, Stopped, Paused, Suspended]);
    /// `shelve`.
    pub const SHELVE: Legal = when("shelve", &[Active, Stopped, Paused, Suspended]);
    /// `shelveOffload`.
    pub const OFFLOAD: Legal = when("shelveOffload", &[Shelved]);
    /// `unshelve`.
    pub const UNSHELVE: Legal = when("unshelve", &[Shelved, ShelvedOffloaded]);
    /// `restore`.
    pub const RESTORE: Legal = when("restore", &[SoftDeleted]);
    /// `changePassword`.
    pub const PASSWORD: Legal = when("changePassword", &[Active]);
    /// Consoles that are connected to.
    pub const CONSOLE: Legal = always("get console", &[Active, Paused, Rescued, Resized, Suspended, Stopped, Error]);
    /// `GET .../diagnostics`.
    pub const DIAGNOSE: Legal = always("get_diagnostics", &[Active, Paused, Suspended, Stopped, Rescued, Resized]);
    /// `POST os-interface`.
    pub const ATTACH: Legal = when("attach_interface", &[Active, Paused, Stopped]);
    /// `DELETE os-interface`.
    pub const DETACH: Legal = when("detach_interface", &[Active, Paused, Stopped]);
    /// Metadata.
    pub const METADATA: Legal = always("update server metadata", &[Active, Paused, Suspended, Stopped]);
    /// Tags.
    pub const TAGS: Legal = always(
        "update tags",
        &[
            Active,
            Building,
            Error,
            Paused,
            Rescued,
            Resized,
            Shelved,
            ShelvedOffloaded,
            SoftDeleted,
            Stopped,
            Suspended,
        ],
    );
}

/// Whether that may be done now.
///
/// # Errors
/// `InstanceInvalidState`, in Nova's words.
pub fn check(server: &Server, legal: Legal) -> Result<()> {
    let refuse = |attribute: &str, state: &str| {
        let Legal { action, .. } = legal;
        let id = &server.id;
        Error::conflict(
            "InstanceInvalidState",
            format!("Cannot '{action}' instance {id} while it is in {attribute} {state}"),
        )
    };
    let shown = &server.shown;
    if !legal.vm_states.contains(&shown.vm_state) {
        return Err(refuse("vm_state", shown.vm_state.as_str()));
    }
    match shown.task_state.as_deref() {
        Some("deleting") => Err(refuse("task_state", "deleting")),
        Some(task) if !legal.while_busy => Err(refuse("task_state", task)),
        _ => Ok(()),
    }
}

/// Changes intent. What else a change consists of (flavor, image...) has been written into the row before.
pub fn change(server: &mut Server, change: Change, now: Timestamp) {
    let (wanted, life) = (&mut server.wanted, &mut server.life);
    let was_running = wanted.running;
    wanted.change = change;
    wanted.generation += 1;
    let next_boot = wanted.boot + 1;
    match change {
        Change::None | Change::ConfirmResize | Change::Snapshot | Change::Backup | Change::Offload => {}
        Change::Start | Change::Restore => (wanted.running, wanted.boot) = (true, next_boot),
        Change::Stop | Change::SoftDelete | Change::Shelve => (wanted.running, wanted.graceful) = (false, true),
        Change::Reboot => (wanted.running, wanted.boot, wanted.graceful) = (true, next_boot, true),
        Change::RebootHard => (wanted.running, wanted.boot, wanted.graceful) = (true, next_boot, false),
        Change::Pause => wanted.hold = Hold::Paused,
        Change::Suspend => wanted.hold = Hold::Suspended,
        Change::Unpause | Change::Resume => wanted.hold = Hold::No,
        Change::Rebuild => {
            (wanted.boot, wanted.graceful) = (next_boot, false);
            life.build += 1;
            life.root = None;
        }
        Change::Resize => (wanted.boot, wanted.graceful) = (next_boot, true),
        Change::RevertResize => {
            (wanted.boot, wanted.graceful) = (next_boot, false);
            life.rollback += 1;
        }
        Change::Rescue => (wanted.running, wanted.boot, wanted.graceful) = (true, next_boot, true),
        Change::Unrescue => (wanted.running, wanted.boot, wanted.graceful) = (true, next_boot, false),
        Change::Unshelve => {
            (wanted.running, wanted.boot) = (true, next_boot);
            // Its disks went with its host.
            life.build += i64::from(life.mode == Mode::Offloaded);
        }
    }
    let keeps_hold = matches!(
        change,
        Change::None | Change::Pause | Change::Suspend | Change::Snapshot | Change::Backup | Change::ConfirmResize
    );
    if !keeps_hold || !was_running {
        wanted.hold = Hold::No;
    }
    refresh(server, now);
}

/// What is different now that the host has what was wanted. The flow writes it with what belongs to it: allocations,
/// quota, images.
pub fn conclude(server: &mut Server, now: Timestamp) {
    let life = &mut server.life;
    let mode = match server.wanted.change {
        Change::Rescue => Mode::Rescued,
        Change::Resize => Mode::Resized,
        Change::Shelve => Mode::Shelved,
        Change::SoftDelete => Mode::SoftDeleted,
        Change::Unrescue | Change::ConfirmResize | Change::RevertResize | Change::Unshelve | Change::Restore => {
            Mode::Plain
        }
        _ => life.mode,
    };
    if mode != life.mode {
        (life.mode, life.since) = (mode, now.0);
    }
    match server.wanted.change {
        Change::Unrescue => life.rescue = None,
        Change::ConfirmResize | Change::RevertResize => life.old = None,
        Change::Snapshot | Change::Backup | Change::Shelve => life.snapshot = None,
        Change::Rebuild => server.launched_at = Some(now),
        _ => {}
    }
    server.wanted.change = Change::None;
    // Whatever was wrong before, it is as wanted now.
    server.shown.vm_state = VmState::Stopped;
    server.fault = None;
    refresh(server, now);
}

/// What the guest calls itself, from the server's name, as Nova makes it: a DNS label, or `Server-ID` where nothing is
/// left of it.
pub fn hostname(name: &str, id: &str) -> String {
    let mut label: String = name
        .chars()
        .filter_map(|c| match c {
            ' ' | '_' | '.' => Some('-'),
            c if c.is_ascii_alphanumeric() || c == '-' => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .take(63)
        .collect();
    label = label.trim_matches('-').to_owned();
    if label.is_empty() { format!("Server-{id}") } else { label }
}

/// The names of several servers of one request: `web-1`, `web-2`.
pub fn numbered(name: &str, number: u32, of: u32) -> String {
    if of == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{HostId, ProjectId, UserId};
    use store::compute::servers::{Observed, Placed, Wanted};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn server() -> Server {
        let mut server = Server::new(ProjectId::new("p"), UserId::new("u"), NOW);
        server.shown = shown(&server);
        server
    }

    fn placed() -> Server {
        let host = Placed { id: HostId::new("h"), name: "h1".into(), zone: "nova".into() };
        Server { host: Some(host), ..server() }
    }

    /// One that runs at generation 1.
    fn running() -> Server {
        let observed =
            Observed { generation: 1, boot: 1, power: Power::Running, phase: Phase::Settled, ..Observed::nothing() };
        let mut server = Server { told_generation: 1, observed, launched_at: Some(NOW), ..placed() };
        server.shown = shown(&server);
        server
    }

    fn with(mut server: Server, change: impl FnOnce(&mut Server)) -> Server {
        change(&mut server);
        server
    }

    #[test]
    fn what_users_see() {
        let off = |s: &mut Server| s.observed.power = Power::Shutdown;
        let deleting = |s: &mut Server| s.delete_wanted_at = Some(NOW);
        let table = [
            ("new", server(), "BUILD", "building", Some("scheduling"), 0),
            ("placed", placed(), "BUILD", "building", Some("networking"), 0),
            ("told", with(placed(), |s| s.told_generation = 1), "BUILD", "building", Some("spawning"), 0),
            ("runs", running(), "ACTIVE", "active", None, 1),
            ("off", with(running(), off), "SHUTOFF", "stopped", None, 4),
            (
                "not settled",
                with(running(), |s| {
                    off(s);
                    s.observed.phase = Phase::Starting;
                }),
                "ACTIVE",
                "active",
                None,
                4,
            ),
            ("stops", with(running(), |s| change(s, Change::Stop, NOW)), "ACTIVE", "active", Some("powering-off"), 1),
            ("reboots", with(running(), |s| change(s, Change::Reboot, NOW)), "REBOOT", "active", Some("rebooting"), 1),
            (
                "hard",
                with(running(), |s| change(s, Change::RebootHard, NOW)),
                "HARD_REBOOT",
                "active",
                Some("rebooting_hard"),
                1,
            ),
            (
                "starts",
                with(running(), |s| {
                    off(s);
                    refresh(s, NOW);
                    change(s, Change::Start, NOW);
                }),
                "SHUTOFF",
                "stopped",
                Some("powering-on"),
                4,
            ),
            ("failed", with(running(), |s| fail(s, "why", NOW)), "ERROR", "error", None, 1),
            ("goes", with(running(), deleting), "ACTIVE", "active", Some("deleting"), 1),
            ("goes early", with(placed(), deleting), "BUILD", "building", Some("deleting"), 0),
            ("is gone", with(running(), |s| s.deleted_at = Some(NOW)), "DELETED", "deleted", None, 1),
        ];
        for (name, server, status, vm_state, task_state, power) in table {
            let shown = shown(&server);
            assert_eq!(
                (shown.status.as_str(), shown.vm_state.as_str(), shown.task_state.as_deref(), shown.power_state),
                (status, vm_state, task_state, power),
                "{name}"
            );
        }
    }

    #[test]
    fn what_may_be_done_when() {
        let busy = with(running(), |s| change(s, Change::Stop, NOW));
        let stopped = with(running(), |s| {
            s.observed.power = Power::Shutdown;
            refresh(s, NOW);
        });
        let going = with(running(), |s| {
            s.delete_wanted_at = Some(NOW);
            refresh(s, NOW);
        });
        let table = [
            (&running(), legal::START, false),
            (&running(), legal::STOP, true),
            (&running(), legal::REBOOT, true),
            (&stopped, legal::START, true),
            (&running(), legal::UNPAUSE, false),
            (&running(), legal::SUSPEND, true),
            (&stopped, legal::REBUILD, true),
            (&stopped, legal::PAUSE, false),
            (&stopped, legal::REBOOT, false),
            (&stopped, legal::REBOOT_HARD, true),
            (&busy, legal::STOP, false),
            (&busy, legal::REBOOT_HARD, true),
            (&busy, legal::ATTACH, false),
            (&going, legal::REBOOT_HARD, false),
            (&server(), legal::STOP, false),
        ];
        for (server, legal, may) in table {
            assert_eq!(check(server, legal).is_ok(), may, "{} while {:?}", legal.action, server.shown);
        }
    }

    #[test]
    fn how_far_its_host_is() {
        let bumped = || with(running(), |s| s.wanted.generation = 2);
        let table = [
            (running(), Progress::Settled),
            (bumped(), Progress::Untold),
            (with(bumped(), |s| s.told_generation = 2), Progress::Working),
            (with(running(), |s| s.observed.phase = Phase::Failed), Progress::Working),
            (
                with(running(), |s| {
                    s.observed.phase = Phase::Failed;
                    s.observed.fault = "bad image".into();
                    s.observed.fault_is_final = true;
                }),
                Progress::Hopeless("bad image".into()),
            ),
        ];
        for (server, expected) in table {
            assert_eq!(progress(&server), expected);
        }
    }

    #[test]
    fn a_guest_ends_by_itself_only_in_the_boot_that_is_wanted() {
        let ended = with(running(), |s| s.observed.power = Power::Shutdown);
        assert!(has_ended_by_itself(&ended));
        assert!(!has_ended_by_itself(&running()));
        assert!(!has_ended_by_itself(&with(ended.clone(), |s| s.wanted = Wanted { boot: 2, ..Wanted::new() })));
        assert!(!has_ended_by_itself(&with(ended.clone(), |s| s.wanted.running = false)));
        assert!(!has_ended_by_itself(&with(ended, |s| s.observed.phase = Phase::Starting)));
    }

    #[test]
    fn host_names() {
        for (name, expected) in
            [("web", "web"), ("My Server_1", "my-server-1"), ("-x-", "x"), ("a.b", "a-b"), ("\u{30c4}", "Server-id")]
        {
            assert_eq!(hostname(name, "id"), expected, "{name}");
        }
        assert_eq!(hostname(&"a".repeat(80), "id").len(), 63);
        assert_eq!([numbered("web", 1, 1), numbered("web", 2, 3)], ["web", "web-2"]);
    }
}
