//! What a step decides, and what becomes of the row by it.

use std::time::Duration;

use model::Timestamp;
use serde_json::Value;
use store::flows::{Flow, NEVER};

/// What is next for a flow.
#[derive(Clone, Debug)]
#[must_use = "hand it to StepCx::finish"]
pub struct Next {
    pub(crate) end: bool,
    pub(crate) step: Option<&'static str>,
    sleep: Option<Sleep>,
    phase: PhaseChange,
    data: Option<Value>,
}

#[derive(Clone, Debug)]
struct Sleep {
    reason: String,
    duration: Option<Duration>,
}

#[derive(Clone, Debug)]
enum PhaseChange {
    None,
    Begin(&'static str, Duration),
    End,
}

/// Half of a [`Next::wait`].
#[must_use = "say for how long"]
pub struct Wait(String);

impl Wait {
    /// ... and look again after that time even if nothing woke the flow.
    pub fn for_(self, duration: Duration) -> Next {
        Next { sleep: Some(Sleep { reason: self.0, duration: Some(duration) }), ..Next::none() }
    }
}

impl Next {
    fn none() -> Self {
        Self { end: false, step: None, sleep: None, phase: PhaseChange::None, data: None }
    }

    /// Go on with that step at once.
    pub fn step(name: &'static str) -> Self {
        Self { step: Some(name), ..Self::none() }
    }

    /// Sleep until woken or [`Wait::for_`] the time that follows, then run this step again.
    pub fn wait(reason: impl Into<String>) -> Wait {
        Wait(reason.into())
    }

    /// Sleep until woken (or until the deadline, where there is one), then run this step again.
    pub fn idle(reason: impl Into<String>) -> Self {
        Self { sleep: Some(Sleep { reason: reason.into(), duration: None }), ..Self::none() }
    }

    /// The flow is over: its row is deleted. Should a wake have come meanwhile, nothing is committed and the step runs
    /// again, as it may have read rows that have changed.
    pub fn done() -> Self {
        Self { end: true, ..Self::none() }
    }

    /// Sleep in that step instead of this one: saves a transaction where a step would do nothing but wait.
    pub fn at(self, step: &'static str) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Begins a phase that must end within `within`, in place of the present one. A phase of the same name goes on:
    /// naming it in each of its steps does not prolong it.
    pub fn deadline(self, phase: &'static str, within: Duration) -> Self {
        Self { phase: PhaseChange::Begin(phase, within), ..self }
    }

    /// Ends the phase.
    pub fn clear_deadline(self) -> Self {
        Self { phase: PhaseChange::End, ..self }
    }

    /// Replaces the machine's notes. Keep them small, and keep facts in the resource's rows.
    pub fn data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The flow as it stands when this has been committed at `now`. `expired`: the machine has just been told that
    /// the deadline passed, so that phase is over.
    pub(crate) fn applied_to(&self, flow: &Flow, expired: bool, now: Timestamp) -> Flow {
        let mut after = flow.clone();
        if let Some(step) = self.step
            && step != flow.step
        {
            step.clone_into(&mut after.step);
            after.step_since = now;
        }
        let ended = (String::new(), None);
        (after.phase, after.deadline) = match self.phase {
            PhaseChange::None if expired => ended,
            PhaseChange::None => (flow.phase.clone(), flow.deadline),
            PhaseChange::End => ended,
            PhaseChange::Begin(name, _) if name == flow.phase && !expired => (flow.phase.clone(), flow.deadline),
            PhaseChange::Begin(name, within) => (name.to_owned(), Some(now + within)),
        };
        if let Some(data) = &self.data {
            after.data = data.clone();
        }
        let run_at = match &self.sleep {
            None => now,
            Some(Sleep { duration: None, .. }) => NEVER,
            Some(Sleep { duration: Some(duration), .. }) => now + *duration,
        };
        after.run_at = after.deadline.map_or(run_at, |deadline| run_at.min(deadline.max(now)));
        after.reason = self.sleep.as_ref().map_or_else(String::new, |s| s.reason.clone());
        after.attempts = 0;
        after.last_error = String::new();
        after
    }
}

/// When a step that failed for the `attempts`-th time runs again: 2^n with a cap, between half and all of it by
/// `jitter` (0..=1), but at the deadline at the latest while that lies ahead.
pub(crate) fn retry_at(
    flow: &Flow,
    now: Timestamp,
    (min, max): (Duration, Duration),
    jitter: f64,
    at_least: Option<Duration>,
) -> Timestamp {
    let doublings = u32::try_from(flow.attempts.clamp(0, 30)).unwrap_or(30);
    let full = min.saturating_mul(1_u32 << doublings).min(max);
    let delay = full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0).max(at_least.unwrap_or_default().min(max));
    let at = now + delay;
    flow.deadline.filter(|deadline| *deadline > now).map_or(at, |deadline| at.min(deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn flow(phase: &str, deadline: Option<u64>) -> Flow {
        Flow {
            id: "f".into(),
            kind: "toy".into(),
            step: "a".into(),
            data: Value::Null,
            run_at: NOW,
            lease: None,
            lease_until: Timestamp(0),
            attempts: 3,
            wakes: 0,
            phase: phase.into(),
            deadline: deadline.map(|s| NOW + Duration::from_secs(s)),
            reason: "old".into(),
            last_error: "old".into(),
            created_at: Timestamp(0),
            step_since: Timestamp(0),
        }
    }

    #[test]
    fn what_becomes_of_the_row() {
        let at = |seconds: u64| NOW + Duration::from_secs(seconds);
        let wait = |seconds| Next::wait("w").for_(Duration::from_secs(seconds));
        // decision, phase before, expired -> step, run_at, phase, deadline
        type Case = (Next, (&'static str, Option<u64>), bool, (&'static str, Timestamp, &'static str, Option<u64>));
        let table: Vec<Case> = vec![
            (Next::step("b"), ("", None), false, ("b", NOW, "", None)),
            (Next::step("b"), ("p", Some(9)), false, ("b", NOW, "p", Some(9))),
            (wait(5), ("", None), false, ("a", at(5), "", None)),
            (wait(5), ("p", Some(3)), false, ("a", at(3), "p", Some(3))),
            (wait(5).at("b"), ("", None), false, ("b", at(5), "", None)),
            (Next::idle("i"), ("", None), false, ("a", NEVER, "", None)),
            (Next::idle("i"), ("p", Some(3)), false, ("a", at(3), "p", Some(3))),
            (Next::idle("i").clear_deadline(), ("p", Some(3)), false, ("a", NEVER, "", None)),
            (Next::idle("i").deadline("q", SECOND), ("p", Some(3)), false, ("a", at(1), "q", Some(1))),
            (Next::idle("i").deadline("p", SECOND * 60), ("p", Some(3)), false, ("a", at(3), "p", Some(3))),
            (Next::step("b"), ("p", Some(0)), true, ("b", NOW, "", None)),
            (Next::idle("i").deadline("p", SECOND), ("p", Some(0)), true, ("a", at(1), "p", Some(1))),
            (wait(5), ("p", Some(0)), false, ("a", NOW, "p", Some(0))),
        ];
        for (next, (phase, deadline), expired, (step, run_at, phase_after, deadline_after)) in table {
            let after = next.applied_to(&flow(phase, deadline), expired, NOW);
            let deadline_after = deadline_after.map(at);
            assert_eq!(
                (after.step.as_str(), after.run_at, after.phase.as_str(), after.deadline),
                (step, run_at, phase_after, deadline_after),
                "{next:?} from {phase:?} {deadline:?}, expired {expired}"
            );
            assert_eq!((after.attempts, after.last_error.as_str()), (0, ""));
        }
    }

    #[test]
    fn retries_double_up_to_the_cap_and_the_deadline() {
        let limits = (Duration::from_millis(200), Duration::from_secs(60));
        let delay = |attempts, deadline, jitter, at_least| {
            let flow = Flow { attempts, ..flow("p", deadline) };
            retry_at(&flow, NOW, limits, jitter, at_least).since(NOW).as_millis()
        };
        assert_eq!(delay(0, None, 1.0, None), 200);
        assert_eq!(delay(0, None, 0.0, None), 100);
        assert_eq!(delay(3, None, 1.0, None), 1600);
        assert_eq!(delay(1000, None, 1.0, None), 60_000);
        assert_eq!(delay(1000, Some(7), 1.0, None), 7_000, "not past the deadline");
        assert_eq!(delay(0, Some(0), 1.0, None), 200, "a deadline that has passed sets no limit");
        assert_eq!(delay(0, None, 1.0, Some(SECOND * 2)), 2_000, "the error knows when to try again");
    }
}
