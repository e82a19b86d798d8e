//! One server: its task, fed by a queue of one, and what others may ask of it.
//!
//! ```text
//!          ┌──────────────── newer spec (interrupts a download, a graceful shutdown, a pause) ───────────────┐
//!          v                                                                                                 │
//! ledger ─> observe ─> decide ─> steps ─> settled ── event of the guest ─> again from the start ─────────────┤
//!                        │          │                                                                        │
//!                        │          └─ failed: reported ── pause, or for good if final ──────────────────────┤
//!                        └─ removal: steps ─> gone: reported until acknowledged, then forgotten              ┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | this one | the server's shared state and the task's loop |
//! | `logic.rs` | decisions, pure |
//! | `steps.rs` | one pass from the ledger to the drivers |
//! | `status.rs` | what is known, and the report made of it |

mod logic;
mod status;
mod steps;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drivers::hypervisor::ObservedGuest;
use hostlink::{Phase, Power, ServerReport, ServerSpec};
use model::id::ServerId;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use self::{status::Status, steps::Pass};
use crate::{
    failure::Failure,
    host::Host,
    ledger::{Entry, Ledger, State},
};

/// What is wanted of the server.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    generation: i64,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    Present(Arc<ServerSpec>),
    Absent,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The task works on it.
    Accepted,
    /// It says what is wanted already.
    Known,
    /// A newer generation is wanted.
    Refused,
}

/// A server of this host.
pub(crate) struct Server {
    pub(crate) id: ServerId,
    wanted: watch::Sender<Wanted>,
    entry: Mutex<Entry>,
    /// Held while the entry is written, so that writes follow one another.
    writing: AsyncMutex<()>,
    status: Mutex<Status>,
    /// Something happened to the guest.
    event: Notify,
    /// What made the last attempt fail may have passed.
    retry: Notify,
    /// The generation of the removal that the control plane knows to be complete.
    known_gone: watch::Sender<i64>,
    /// Whether the control plane has the password that the guest posted.
    password_known: watch::Sender<bool>,
}

/// Why a pass ended early.
enum Halt {
    /// There is something newer to do, or the process ends.
    Interrupted,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Server {
    /// A server as its ledger entry has it.
    pub(crate) fn new(entry: Entry) -> Self {
        let target = match (&entry.spec, entry.state) {
            (Some(spec), State::Present) => Target::Present(Arc::new(spec.clone())),
            _ => Target::Absent,
        };
        let wanted = Wanted { generation: entry.generation, target };
        let status = Status::pending(entry.generation);
        Self {
            id: ServerId::new(entry.server_id.clone()),
            wanted: watch::Sender::new(wanted),
            entry: Mutex::new(entry),
            writing: AsyncMutex::default(),
            status: Mutex::new(status),
            event: Notify::new(),
            retry: Notify::new(),
            known_gone: watch::Sender::new(i64::MIN),
            password_known: watch::Sender::new(false),
        }
    }

    /// Wants the server as described, unless something newer is wanted.
    pub(crate) fn want(&self, spec: ServerSpec) -> Taken {
        self.take(spec.generation, Target::Present(Arc::new(spec)))
    }

    /// Wants nothing left of the server, unless something newer is wanted.
    pub(crate) fn want_gone(&self, generation: i64) -> Taken {
        self.take(generation, Target::Absent)
    }

    fn take(&self, generation: i64, target: Target) -> Taken {
        let mut taken = Taken::Known;
        self.wanted.send_if_modified(|wanted| {
            let same = match (&wanted.target, &target) {
                (Target::Present(held), Target::Present(offered)) => held == offered,
                (Target::Absent, Target::Absent) => wanted.generation == generation,
                // A spec that is not newer than the removal was sent before it.
                (Target::Absent, Target::Present(_)) if wanted.generation == generation => {
                    taken = Taken::Refused;
                    return false;
                }
                _ => false,
            };
            if generation < wanted.generation {
                taken = Taken::Refused;
            } else if !same {
                taken = Taken::Accepted;
                *wanted = Wanted { generation, target };
            }
            taken == Taken::Accepted
        });
        taken
    }

    /// The ledger's entry.
    pub(crate) fn entry(&self) -> Entry {
        lock(&self.entry).clone()
    }

    /// Reads the entry in place.
    pub(crate) fn with_entry<T>(&self, read: impl FnOnce(&Entry) -> T) -> T {
        read(&lock(&self.entry))
    }

    /// Changes the entry: on the disk first, then for everyone. Writes nothing if nothing changes.
    pub(crate) async fn record(&self, ledger: &Ledger, change: impl FnOnce(Entry) -> Entry) -> Result<(), Failure> {
        let _writing = self.writing.lock().await;
        let old = self.entry();
        let new = change(old.clone());
        if new != old {
            ledger.put(&new).await.map_err(Failure::Ledger)?;
            *lock(&self.entry) = new;
        }
        Ok(())
    }

    /// Something happened to the guest: look at it.
    pub(crate) fn notify_event(&self) {
        self.event.notify_one();
    }

    /// The control plane has the guest's password.
    pub(crate) fn notify_password_known(&self) {
        self.password_known.send_replace(true);
    }

    /// Waits until the control plane has the guest's password.
    pub(crate) async fn password_known(&self) {
        // The sender is our own: waiting can't fail.
        let _ = self.password_known.subscribe().wait_for(|known| *known).await;
    }

    /// What the last attempt failed of may have passed: do not wait any longer.
    pub(crate) fn notify_retry(&self) {
        self.retry.notify_one();
    }

    /// The control plane knows that the removal of this generation is complete.
    pub(crate) fn notify_known_gone(&self, generation: i64) {
        self.known_gone.send_replace(generation);
    }

    /// Whether the guest runs, for statistics.
    pub(crate) fn is_running(&self) -> bool {
        self.status().power == Power::Running
    }

    /// Sends the report of this moment even if it says nothing new.
    pub(crate) fn publish_again(&self, host: &Host) {
        self.send(host, Duration::ZERO, true);
    }

    /// Tells the control plane that a generation was refused, and which one this host holds.
    pub(crate) fn publish_refusal(&self, host: &Host, generation: i64) {
        let report = self.report(host, &self.status());
        host.outbox.put_refusal(report, generation);
    }

    /// Sends the report of this moment if it says anything new.
    pub(crate) fn publish(&self, host: &Host) {
        self.send(host, Duration::ZERO, false);
    }

    /// The same, for reports that say only how far the work is.
    fn publish_progress(&self, host: &Host, phase: Phase) {
        self.status().phase = phase;
        self.send(host, host.config.limits.progress_delay, false);
    }

    /// The lock is held until the report is in the outbox: reports leave in the order of what they tell.
    fn send(&self, host: &Host, delay: Duration, even_old: bool) {
        let mut status = self.status();
        let report = self.report(host, &status);
        if status.is_news(&report) || even_old {
            host.outbox.put(report, delay);
        }
    }

    fn report(&self, host: &Host, status: &Status) -> ServerReport {
        self.with_entry(|entry| status.report(entry, |port| host.is_port_active(port)))
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    fn observe(&self, guest: Option<&ObservedGuest>) {
        self.status().observe(guest);
    }
}

/// The server's task. Ends when the server is gone and the control plane knows it, or with the process.
pub(crate) async fn run(host: Arc<Host>, server: Arc<Server>) {
    let mut inbox = server.wanted.subscribe();
    let mut attempts = 0;
    loop {
        let wanted = inbox.borrow_and_update().clone();
        match Pass::new(&host, &server, &mut inbox).run(&wanted).await {
            Ok(()) => {
                attempts = 0;
                if matches!(wanted.target, Target::Absent) {
                    if wait_until_forgotten(&host, &server, &wanted, &mut inbox).await {
                        return;
                    }
                } else {
                    tokio::select! {
                        _ = inbox.changed() => {}
                        () = server.event.notified() => {}
                        () = host.stop.cancelled() => return,
                    }
                }
            }
            Err(Halt::Interrupted) if host.stop.is_cancelled() => return,
            Err(Halt::Interrupted) => attempts = 0,
            Err(Halt::Failed(failure)) => {
                attempts += 1;
                publish_failure(&host, &server, &failure, attempts);
                if !wait_for_another_attempt(&host, &server, &failure, attempts, &mut inbox).await {
                    attempts = 0;
                }
                if host.stop.is_cancelled() {
                    return;
                }
            }
        }
    }
}

fn publish_failure(host: &Host, server: &Server, failure: &Failure, attempts: u32) {
    tracing::warn!(server = %server.id, attempts, is_final = failure.is_final(), %failure, "attempt failed");
    {
        let mut status = server.status();
        status.phase = Phase::Failed;
        status.fault = failure.to_string();
        status.fault_is_final = failure.is_final();
        status.attempts = attempts;
    }
    server.publish(host);
}

/// `true` if the same is to be tried again, `false` if something else is wanted now.
async fn wait_for_another_attempt(
    host: &Host,
    server: &Server,
    failure: &Failure,
    attempts: u32,
    inbox: &mut watch::Receiver<Wanted>,
) -> bool {
    let pause = logic::pause(attempts, &host.config.limits, rand::random());
    let pause = tokio::time::sleep(if failure.is_final() { Duration::MAX } else { pause });
    tokio::pin!(pause);
    loop {
        tokio::select! {
            _ = inbox.changed() => return false,
            () = host.stop.cancelled() => return false,
            () = &mut pause => return true,
            () = server.retry.notified() => return true,
            // The guest may end meanwhile: that is told at once, and changes nothing about the pause.
            () = server.event.notified() => {
                if let Ok(guest) = host.drivers.hypervisor.observe_guest(&server.id).await {
                    server.observe(guest.as_ref());
                    server.publish(host);
                }
            }
        }
    }
}

/// Keeps the tombstone until the control plane has acknowledged it. `true` once the server is forgotten; `false` if it
/// is wanted again.
async fn wait_until_forgotten(
    host: &Host,
    server: &Arc<Server>,
    wanted: &Wanted,
    inbox: &mut watch::Receiver<Wanted>,
) -> bool {
    let mut known_gone = server.known_gone.subscribe();
    tokio::select! {
        _ = inbox.changed() => return false,
        () = host.stop.cancelled() => return true,
        _ = known_gone.wait_for(|generation| *generation >= wanted.generation) => {}
    }
    if let Err(error) = host.ledger.delete(server.id.as_str()).await {
        // The tombstone is told and acknowledged again after the next start; no harm comes from it.
        tracing::warn!(server = %server.id, %error, "tombstone not removed");
    }
    host.forget(server, || !inbox.has_changed().unwrap_or(false))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_generations_are_refused() {
        let spec = |generation, name: &str| ServerSpec { generation, name: name.into(), ..ServerSpec::default() };
        let server = Server::new(Entry::new("s"));
        assert_eq!(server.want(spec(2, "a")), Taken::Accepted);
        assert_eq!(server.want(spec(2, "a")), Taken::Known);
        assert_eq!(server.want(spec(1, "a")), Taken::Refused);
        assert_eq!(server.want(spec(3, "b")), Taken::Accepted);
        assert_eq!(server.want_gone(2), Taken::Refused);
        assert_eq!(server.want_gone(3), Taken::Accepted);
        assert_eq!(server.want_gone(3), Taken::Known);
        assert_eq!(server.want(spec(3, "b")), Taken::Refused, "removed as of this generation");
        assert_eq!(server.want(spec(4, "b")), Taken::Accepted);
    }
}
