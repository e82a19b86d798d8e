//! What every hypervisor driver must do: the same tests on the fake one and on real QEMU.
//!
//! The real guests are boot sectors of a few instructions, so that a test takes as long as QEMU's start. Without QEMU
//! on the machine the real half says so and passes.

use std::{path::PathBuf, time::Duration};

use drivers::hypervisor::{
    Ensured, Firmware, GuestEnd, GuestEvent, GuestEventKind, GuestPower, GuestSpec, Hypervisor, HypervisorError,
    Machine, ObservedGuest, ShutDown,
    fake::{Behaviour, FakeHost, FakeHypervisor, Op},
};
use model::id::ServerId;
use tokio::{sync::broadcast, time::timeout};

use crate::qemu::{Folder, write_disk};

/// Generous: a busy machine with two processors translates slowly.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);

/// A host with a driver under test.
enum Host {
    Fake(FakeHost),
    Qemu(Folder),
}

impl Host {
    async fn driver(&self) -> Box<dyn Hypervisor> {
        match self {
            Self::Fake(host) => Box::new(FakeHypervisor::on(host.clone())),
            Self::Qemu(folder) => Box::new(folder.driver().await),
        }
    }

    /// A guest whose system behaves so.
    fn spec(&self, behaviour: Behaviour) -> GuestSpec {
        match self {
            Self::Qemu(folder) => folder.spec(behaviour),
            Self::Fake(host) => {
                let id = ServerId::random();
                host.behave(&id, behaviour);
                let (machine, firmware) = (Machine::Q35, Firmware::Bios);
                GuestSpec {
                    id,
                    boot: 1,
                    vcpus: 1,
                    memory_mib: 32,
                    machine,
                    firmware,
                    disks: vec![],
                    nics: vec![],
                    sockets: None,
                }
            }
        }
    }

    /// Breaks the next start of that guest; the text must be in the reason.
    fn break_start(&self, spec: &GuestSpec) -> &'static str {
        match self {
            Self::Fake(host) => host.fail_next(Op::Start, "Could not open '/nowhere'"),
            Self::Qemu(_) => std::fs::remove_file(&spec.disks[0].path).unwrap(),
        }
        "Could not open '/"
    }
}

/// The next event of that guest that says what the caller waits for.
async fn event(events: &mut broadcast::Receiver<GuestEvent>, id: &ServerId, kind: &GuestEventKind) -> GuestEvent {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.id == *id && event.kind == *kind {
                return event;
            }
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("no {kind:?} of {id}"))
}

async fn power(driver: &dyn Hypervisor, id: &ServerId) -> GuestPower {
    driver.observe_guest(id).await.unwrap().unwrap().power
}

fn off(end: GuestEnd) -> GuestPower {
    GuestPower::Off { end }
}

/// Whether a process with that number runs, or waits to be reaped.
fn exists(pid: Option<u32>) -> bool {
    pid.is_some_and(|pid| PathBuf::from(format!("/proc/{pid}")).exists())
}

async fn a_guest_starts_once_per_boot_counter(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let mut spec = host.spec(Behaviour::IgnoresPowerButton);
    assert_eq!(driver.observe_guest(&spec.id).await.unwrap(), None);
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    let first = driver.observe_guest(&spec.id).await.unwrap().unwrap();
    let pid = first.pid;
    assert_eq!(first, ObservedGuest { id: spec.id.clone(), boot: 1, power: GuestPower::Running, pid });
    event(&mut events, &spec.id, &GuestEventKind::Started).await;

    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Running);
    assert_eq!(driver.observe_guest(&spec.id).await.unwrap(), Some(first.clone()), "left alone");

    spec.boot = 2;
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    event(&mut events, &spec.id, &GuestEventKind::Stopped(GuestEnd::ByHost)).await;
    assert_eq!(event(&mut events, &spec.id, &GuestEventKind::Started).await.boot, 2);
    assert!(!exists(pid), "the process of the first boot is gone and reaped");

    spec.boot = 1;
    let stale = driver.ensure_guest(&spec).await.unwrap_err();
    assert!(matches!(stale, HypervisorError::StaleBoot { known: 2, asked: 1, .. }), "{stale}");
    assert_eq!(driver.list_guests().await.unwrap().len(), 1);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_stopped_guest_stays_known_and_a_removed_one_does_not(host: Host) {
    let driver = host.driver().await;
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    driver.stop_guest(&spec.id).await.unwrap();
    driver.remove_guest(&spec.id).await.unwrap();

    driver.ensure_guest(&spec).await.unwrap();
    let pid = driver.observe_guest(&spec.id).await.unwrap().unwrap().pid;
    driver.stop_guest(&spec.id).await.unwrap();
    driver.stop_guest(&spec.id).await.unwrap();
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::ByHost));
    assert!(!exists(pid));

    // Started again under the same counter, then removed while it runs.
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    let pid = driver.observe_guest(&spec.id).await.unwrap().unwrap().pid;
    driver.remove_guest(&spec.id).await.unwrap();
    driver.remove_guest(&spec.id).await.unwrap();
    assert_eq!(driver.observe_guest(&spec.id).await.unwrap(), None);
    assert_eq!(driver.list_guests().await.unwrap(), vec![]);
    assert!(!exists(pid));
    if let Host::Qemu(folder) = &host {
        assert!(!folder.guest(&spec.id).exists(), "no file stays");
    }
}

async fn a_guest_that_cooperates_shuts_down_within_the_grace(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let spec = host.spec(Behaviour::Cooperates);
    driver.ensure_guest(&spec).await.unwrap();
    serial_says(&host, &*driver, &spec.id).await;
    assert_eq!(driver.shut_down_guest(&spec.id, LONG).await.unwrap(), ShutDown::Graceful);
    event(&mut events, &spec.id, &GuestEventKind::Stopped(GuestEnd::ByHost)).await;
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::ByHost));
    assert_eq!(driver.shut_down_guest(&spec.id, LONG).await.unwrap(), ShutDown::AlreadyOff);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_guest_that_ignores_the_power_button_is_stopped_at_the_deadline(host: Host) {
    let driver = host.driver().await;
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    driver.ensure_guest(&spec).await.unwrap();
    let asked = tokio::time::Instant::now();
    assert_eq!(driver.shut_down_guest(&spec.id, SHORT).await.unwrap(), ShutDown::Forced);
    assert!(asked.elapsed() >= SHORT, "the grace was kept");
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::ByHost));

    // A paused guest can't answer: no waiting.
    driver.ensure_guest(&spec).await.unwrap();
    driver.pause_guest(&spec.id).await.unwrap();
    let ended = timeout(LONG, driver.shut_down_guest(&spec.id, LONG * 10)).await.unwrap();
    assert_eq!(ended.unwrap(), ShutDown::Forced);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_guest_that_powers_itself_off_is_seen(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let spec = host.spec(Behaviour::PowersOff);
    driver.ensure_guest(&spec).await.unwrap();
    event(&mut events, &spec.id, &GuestEventKind::Stopped(GuestEnd::ByGuest)).await;
    let seen = driver.observe_guest(&spec.id).await.unwrap().unwrap();
    assert_eq!((seen.power, seen.pid), (off(GuestEnd::ByGuest), None));
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started, "started again for who wants it");
    event(&mut events, &spec.id, &GuestEventKind::Stopped(GuestEnd::ByGuest)).await;
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_panic_is_seen_and_can_be_ended(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let spec = host.spec(Behaviour::Panics);
    driver.ensure_guest(&spec).await.unwrap();
    event(&mut events, &spec.id, &GuestEventKind::Panicked).await;
    assert_eq!(power(&*driver, &spec.id).await, GuestPower::Panicked);
    driver.stop_guest(&spec.id).await.unwrap();
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::ByHost));
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn pause_resume_and_reset(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    for refused in [driver.pause_guest(&spec.id).await, driver.reset_guest(&spec.id).await] {
        assert!(matches!(refused.unwrap_err(), HypervisorError::NotRunning { .. }));
    }
    driver.ensure_guest(&spec).await.unwrap();
    driver.pause_guest(&spec.id).await.unwrap();
    event(&mut events, &spec.id, &GuestEventKind::Paused).await;
    assert_eq!(power(&*driver, &spec.id).await, GuestPower::Paused);
    driver.pause_guest(&spec.id).await.unwrap();
    driver.resume_guest(&spec.id).await.unwrap();
    event(&mut events, &spec.id, &GuestEventKind::Resumed).await;
    driver.reset_guest(&spec.id).await.unwrap();
    event(&mut events, &spec.id, &GuestEventKind::Reset).await;
    assert_eq!(power(&*driver, &spec.id).await, GuestPower::Running);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_suspended_guest_goes_on(host: Host) {
    let driver = host.driver().await;
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    assert!(driver.suspend_guest(&spec.id, &[]).await.is_err());
    driver.ensure_guest(&spec).await.unwrap();
    for _ in 0..2 {
        driver.suspend_guest(&spec.id, &spec.nics).await.unwrap();
        assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::Suspended));
    }
    // Another agent finds it so, and it goes on under the same counter.
    drop(driver);
    let driver = host.driver().await;
    driver.adopt().await.unwrap();
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::Suspended));
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    assert_eq!(power(&*driver, &spec.id).await, GuestPower::Running);
    assert_eq!(driver.counters(&spec.id).await.unwrap().cpus, 1);
    let refused = driver.set_password(&spec.id, "", "secret").await.unwrap_err();
    assert!(matches!(refused, HypervisorError::Unsupported(_)), "{refused}");
    // A newer boot forgets the memory.
    driver.suspend_guest(&spec.id, &spec.nics).await.unwrap();
    driver.ensure_guest(&GuestSpec { boot: 2, ..spec.clone() }).await.unwrap();
    assert_eq!(power(&*driver, &spec.id).await, GuestPower::Running);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn a_failed_start_says_why_and_can_be_repeated(host: Host) {
    let driver = host.driver().await;
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    let expected = host.break_start(&spec);
    let HypervisorError::StartFailed { reason, .. } = driver.ensure_guest(&spec).await.unwrap_err() else {
        panic!("not a failed start")
    };
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(power(&*driver, &spec.id).await, off(GuestEnd::StartFailed(reason)));
    if let Host::Qemu(_) = &host {
        write_disk(&spec.disks[0].path, Behaviour::IgnoresPowerButton);
    }
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    driver.remove_guest(&spec.id).await.unwrap();
}

async fn the_next_agent_adopts_what_runs_and_learns_what_ended(host: Host) {
    let driver = host.driver().await;
    let mut events = driver.subscribe();
    let runs = host.spec(Behaviour::IgnoresPowerButton);
    let stopped = host.spec(Behaviour::IgnoresPowerButton);
    let ended = host.spec(Behaviour::PowersOff);
    for spec in [&runs, &stopped, &ended] {
        driver.ensure_guest(spec).await.unwrap();
    }
    driver.stop_guest(&stopped.id).await.unwrap();
    event(&mut events, &ended.id, &GuestEventKind::Stopped(GuestEnd::ByGuest)).await;
    let before = driver.list_guests().await.unwrap();
    drop(driver);

    let driver = host.driver().await;
    assert_eq!(driver.adopt().await.unwrap(), before);
    assert_eq!(power(&*driver, &runs.id).await, GuestPower::Running);
    assert_eq!(power(&*driver, &stopped.id).await, off(GuestEnd::ByHost));
    assert_eq!(power(&*driver, &ended.id).await, off(GuestEnd::ByGuest));

    // It is steered as if nothing had happened.
    let mut events = driver.subscribe();
    assert_eq!(driver.ensure_guest(&runs).await.unwrap(), Ensured::Running);
    driver.pause_guest(&runs.id).await.unwrap();
    event(&mut events, &runs.id, &GuestEventKind::Paused).await;
    driver.stop_guest(&runs.id).await.unwrap();
    event(&mut events, &runs.id, &GuestEventKind::Stopped(GuestEnd::ByHost)).await;
    for spec in [&runs, &stopped, &ended] {
        driver.remove_guest(&spec.id).await.unwrap();
    }
    assert_eq!(driver.list_guests().await.unwrap(), vec![]);
}

async fn calls_for_one_guest_at_once_end_in_one_state(host: Host) {
    let driver = host.driver().await;
    let spec = host.spec(Behaviour::IgnoresPowerButton);
    let (one, two, three) =
        tokio::join!(driver.ensure_guest(&spec), driver.ensure_guest(&spec), driver.stop_guest(&spec.id));
    three.unwrap();
    let started = [one.unwrap(), two.unwrap()].iter().filter(|done| **done == Ensured::Started).count();
    assert!(started >= 1);
    driver.remove_guest(&spec.id).await.unwrap();
    assert_eq!(driver.list_guests().await.unwrap(), vec![]);
}

async fn the_console_log_ends_with_what_the_guest_said(host: Host) {
    let driver = host.driver().await;
    let mut spec = host.spec(Behaviour::Cooperates);
    assert_eq!(driver.console_log(&spec.id, None).await.unwrap(), "");
    driver.ensure_guest(&spec).await.unwrap();
    serial_says(&host, &*driver, &spec.id).await;
    spec.boot = 2;
    driver.ensure_guest(&spec).await.unwrap();
    assert!(driver.console_log(&spec.id, None).await.unwrap().contains("up\n"), "kept over a boot");
    assert_eq!(driver.console_log(&spec.id, Some(0)).await.unwrap(), "");
    driver.remove_guest(&spec.id).await.unwrap();
}

/// Waits until the guest's system is up: its first line is in the log.
async fn serial_says(host: &Host, driver: &dyn Hypervisor, id: &ServerId) {
    if let Host::Qemu(_) = host {
        // The guest says its line again and again. QEMU hands a byte to the socket before it logs it, so five of these
        // six are logged, and wherever they begin, the line is among them.
        let socket = driver.consoles(id).await.unwrap().serial;
        let mut serial = tokio::net::UnixStream::connect(socket).await.unwrap();
        let mut heard = [0; 6];
        timeout(LONG, tokio::io::AsyncReadExt::read_exact(&mut serial, &mut heard)).await.unwrap().unwrap();
    }
    assert!(driver.console_log(id, None).await.unwrap().contains("up\n"));
}

macro_rules! on_every_driver {
    ($($test:ident)*) => {
        mod fake {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Host::Fake(FakeHost::default())).await })*
        }
        mod qemu {
            use super::*;
            $(#[tokio::test] async fn $test() {
                if let Some(folder) = Folder::new() { super::$test(Host::Qemu(folder)).await }
            })*
        }
    };
}

on_every_driver! {
    a_guest_starts_once_per_boot_counter
    a_stopped_guest_stays_known_and_a_removed_one_does_not
    a_guest_that_cooperates_shuts_down_within_the_grace
    a_guest_that_ignores_the_power_button_is_stopped_at_the_deadline
    a_guest_that_powers_itself_off_is_seen
    a_panic_is_seen_and_can_be_ended
    pause_resume_and_reset
    a_suspended_guest_goes_on
    a_failed_start_says_why_and_can_be_repeated
    the_next_agent_adopts_what_runs_and_learns_what_ended
    calls_for_one_guest_at_once_end_in_one_state
    the_console_log_ends_with_what_the_guest_said
}
