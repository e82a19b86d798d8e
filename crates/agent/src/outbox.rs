//! The newest report of each server, until the control plane has acknowledged it.
//!
//! Of one server at most one report is under way: what happens meanwhile waits in its slot, the newest replacing the
//! older. So a slow link or control plane costs freshness and never memory, and reports of a server stay in order.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hostlink::{Power, ServerReport};
use tokio::{sync::Notify, time::Instant};

/// See the module's text.
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    /// After this time without acknowledgement a report is sent again.
    again: Duration,
}

#[derive(Default)]
struct State {
    slots: HashMap<String, Slot>,
    /// When to look at which slot; a slot is in it at most once.
    due: BTreeSet<(Instant, String)>,
}

#[derive(Default)]
struct Slot {
    newest: ServerReport,
    sequence: u64,
    /// The report that waits for its acknowledgement.
    under_way: Option<u64>,
    /// From when on `newest` is to be sent, if it has not been sent.
    send_at: Option<Instant>,
    /// This slot's place in `due`.
    due: Option<Instant>,
    /// A refusal that the control plane has to hear of.
    refused: i64,
}

impl Outbox {
    pub(crate) fn new(again: Duration) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), again }
    }

    /// Makes this the server's newest report, to be sent at the latest after `delay`.
    pub(crate) fn put(&self, report: ServerReport, delay: Duration) {
        self.update(&report.server_id.clone(), |slot| {
            let send_at = Instant::now() + delay;
            slot.newest = report;
            slot.sequence += 1;
            slot.send_at = Some(slot.send_at.map_or(send_at, |earlier| earlier.min(send_at)));
            if slot.under_way.is_none() {
                slot.due = slot.send_at;
            }
        });
    }

    /// Adds to the server's newest report that this generation was refused.
    pub(crate) fn put_refusal(&self, report: ServerReport, generation: i64) {
        let id = report.server_id.clone();
        self.put(report, Duration::ZERO);
        self.update(&id, |slot| slot.refused = generation);
    }

    /// The next report to send, as soon as there is one.
    pub(crate) async fn next(&self) -> ServerReport {
        loop {
            let changed = self.changed.notified();
            match self.take(Instant::now()) {
                Ok(report) => return report,
                Err(Some(at)) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    /// Notes the answer to a report. If the control plane now knows that the server is gone from this host, and there
    /// is nothing newer to say, gives the generation of the removal.
    pub(crate) fn acknowledge(&self, server_id: &str, sequence: u64, accepted: bool) -> Option<i64> {
        let again = Instant::now() + self.again;
        let mut gone = None;
        self.update(server_id, |slot| {
            if slot.under_way != Some(sequence) {
                return;
            }
            slot.under_way = None;
            if accepted {
                slot.refused = 0;
                slot.due = slot.send_at;
                let delivered = slot.send_at.is_none() && slot.newest.power() == Power::Absent;
                gone = delivered.then_some(slot.newest.generation);
            } else {
                slot.due = Some(again);
            }
        });
        gone
    }

    /// Whether the control plane has acknowledged a report with the guest's password.
    pub(crate) fn password_is_known(&self, server_id: &str) -> bool {
        let state = self.lock();
        let slot = state.slots.get(server_id);
        slot.is_some_and(|s| s.under_way.is_none() && s.send_at.is_none() && !s.newest.encrypted_password.is_empty())
    }

    /// A new connection: everything is sent once more.
    pub(crate) fn resend_all(&self) {
        let now = Instant::now();
        let ids: Vec<String> = self.lock().slots.keys().cloned().collect();
        for id in ids {
            self.update(&id, |slot| {
                slot.under_way = None;
                slot.send_at = Some(now);
                slot.due = Some(now);
            });
        }
    }

    /// Forgets the server.
    pub(crate) fn forget(&self, server_id: &str) {
        let mut state = self.lock();
        if let Some(due) = state.slots.remove(server_id).and_then(|slot| slot.due) {
            state.due.remove(&(due, server_id.to_owned()));
        }
    }

    fn take(&self, now: Instant) -> Result<ServerReport, Option<Instant>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (at, id) = match state.due.first() {
            Some((at, _)) if *at > now => return Err(Some(*at)),
            None => return Err(None),
            Some(first) => first.clone(),
        };
        state.due.remove(&(at, id.clone()));
        let Some(slot) = state.slots.get_mut(&id) else { return Err(Some(now)) };
        slot.under_way = Some(slot.sequence);
        slot.send_at = None;
        slot.due = Some(now + self.again);
        state.due.insert((now + self.again, id));
        Ok(ServerReport { sequence: slot.sequence, refused_generation: slot.refused, ..slot.newest.clone() })
    }

    fn update(&self, server_id: &str, change: impl FnOnce(&mut Slot)) {
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            let slot = state.slots.entry(server_id.to_owned()).or_default();
            let before = slot.due;
            change(slot);
            let after = slot.due;
            if let Some(due) = before {
                state.due.remove(&(due, server_id.to_owned()));
            }
            if let Some(due) = after {
                state.due.insert((due, server_id.to_owned()));
            }
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fault: &str) -> ServerReport {
        ServerReport { server_id: "s".into(), fault: fault.into(), ..ServerReport::default() }
    }

    /// What would be sent so many seconds from now.
    fn take_in(seconds: u64, outbox: &Outbox) -> Option<(u64, String)> {
        outbox.take(Instant::now() + Duration::from_secs(seconds)).ok().map(|r| (r.sequence, r.fault))
    }

    fn outbox() -> Outbox {
        Outbox::new(Duration::from_secs(10))
    }

    #[test]
    fn one_under_way_and_the_newest_next() {
        let outbox = outbox();
        outbox.put(report("a"), Duration::ZERO);
        assert_eq!(take_in(0, &outbox), Some((1, "a".into())));
        outbox.put(report("b"), Duration::ZERO);
        outbox.put(report("c"), Duration::ZERO);
        assert_eq!(take_in(0, &outbox), None, "the first is not acknowledged");
        outbox.acknowledge("s", 1, true);
        assert_eq!(take_in(0, &outbox), Some((3, "c".into())));
        outbox.acknowledge("s", 1, true);
        outbox.put(report("d"), Duration::ZERO);
        assert_eq!(take_in(0, &outbox), None, "that was an old acknowledgement");
    }

    #[test]
    fn absence_is_known_once_its_own_report_is_acknowledged() {
        let outbox = outbox();
        let absent = ServerReport { generation: 7, power: Power::Absent.into(), ..report("") };
        outbox.put(report("removing"), Duration::ZERO);
        take_in(0, &outbox);
        outbox.put(absent, Duration::ZERO);
        assert_eq!(outbox.acknowledge("s", 1, true), None);
        take_in(0, &outbox);
        assert_eq!(outbox.acknowledge("s", 2, false), None);
        take_in(11, &outbox);
        assert_eq!(outbox.acknowledge("s", 2, true), Some(7));
    }

    #[test]
    fn silence_and_rejection_bring_it_again() {
        let outbox = outbox();
        outbox.put(report("a"), Duration::ZERO);
        assert!(take_in(0, &outbox).is_some());
        assert_eq!(take_in(1, &outbox), None);
        assert_eq!(take_in(11, &outbox), Some((1, "a".into())), "silence");
        outbox.acknowledge("s", 1, false);
        assert_eq!(take_in(1, &outbox), None);
        assert_eq!(take_in(11, &outbox), Some((1, "a".into())), "rejected");
        outbox.resend_all();
        assert_eq!(take_in(0, &outbox), Some((1, "a".into())), "new connection");
    }

    #[test]
    fn progress_waits_for_something_better() {
        let outbox = outbox();
        outbox.put(report("starting"), Duration::from_secs(3));
        assert_eq!(take_in(0, &outbox), None);
        outbox.put(report("running"), Duration::ZERO);
        assert_eq!(take_in(0, &outbox), Some((2, "running".into())));
        outbox.forget("s");
        assert_eq!(take_in(60, &outbox), None);
    }

    #[test]
    fn a_refusal_is_told_until_acknowledged() {
        let outbox = outbox();
        outbox.put_refusal(report("a"), 4);
        outbox.put(report("b"), Duration::ZERO);
        let sent = outbox.take(Instant::now()).unwrap();
        assert_eq!((sent.fault.as_str(), sent.refused_generation), ("b", 4));
        outbox.acknowledge("s", sent.sequence, true);
        outbox.put(report("c"), Duration::ZERO);
        assert_eq!(outbox.take(Instant::now()).unwrap().refused_generation, 0);
    }

    #[tokio::test]
    async fn a_report_put_while_waiting_is_taken() {
        let outbox = outbox();
        let (sent, ()) = tokio::join!(outbox.next(), async { outbox.put(report("a"), Duration::from_millis(1)) });
        assert_eq!(sent.sequence, 1);
    }
}
