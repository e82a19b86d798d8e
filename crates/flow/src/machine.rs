//! What the engine asks of the code that knows a resource.

use std::{fmt::Write, time::Duration};

use futures_util::future::BoxFuture;

use crate::{Done, Flow, Result, StepCx};

/// The end of a flow, as [`StepInfo::next`] names it.
pub const DONE: &str = "done";

/// A step, for the graph and for the engine.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// As the row stores it: never rename one that was released.
    pub name: &'static str,
    /// What it does, in half a line.
    pub doc: &'static str,
    /// Where it may lead, itself apart ([`DONE`] for the end).
    pub next: &'static [&'static str],
    /// How long it may take, where the engine's default does not fit. Must be well below the lease.
    pub timeout: Option<Duration>,
}

impl StepInfo {
    /// A step with the default time-out.
    pub const fn new(name: &'static str, doc: &'static str, next: &'static [&'static str]) -> Self {
        Self { name, doc, next, timeout: None }
    }

    /// With a time-out of its own.
    pub const fn within(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}

/// The steps of one kind of resource.
///
/// `run` dispatches on [`Flow::step`] to one function per step, in reading order. A step reads rows afresh, makes at
/// most one idempotent outside call, and ends with [`StepCx::finish`]: only that yields a [`Done`]. An error repeats
/// the step later; a failure that repeating can't mend is no error here but a decision (`ERROR` with a fault).
pub trait Machine: Send + Sync {
    /// The kind of flow, as rows store it.
    fn kind(&self) -> &'static str;

    /// Every step there is, in reading order.
    fn steps(&self) -> &'static [StepInfo];

    /// Steps that every other may lead to: `destroy`.
    fn always_reachable(&self) -> &'static [&'static str] {
        &[]
    }

    /// Runs the flow's step.
    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>>;

    /// Runs instead of the step once the deadline of `phase` has passed. The phase is over when this has finished,
    /// unless it starts one anew. Look at the rows first: the server may just have been off for a while.
    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, phase: &'a str) -> BoxFuture<'a, Result<Done>>;
}

/// The step of that name.
pub(crate) fn find(machine: &dyn Machine, name: &str) -> Option<&'static StepInfo> {
    machine.steps().iter().find(|step| step.name == name)
}

/// Whether the table lets `from` lead to `to`.
pub(crate) fn may_go(machine: &dyn Machine, from: &StepInfo, to: &str) -> bool {
    from.name == to || from.next.contains(&to) || machine.always_reachable().contains(&to)
}

/// What is wrong with a machine's table; nothing when it is sound.
pub(crate) fn flaws(machine: &dyn Machine, timeout_max: Duration) -> Vec<String> {
    let mut flaws = Vec::new();
    let known = |name: &str| name == DONE || find(machine, name).is_some();
    for (at, step) in machine.steps().iter().enumerate() {
        if step.name == DONE || machine.steps().iter().take(at).any(|earlier| earlier.name == step.name) {
            flaws.push(format!("step {} is there twice", step.name));
        }
        flaws.extend(step.next.iter().filter(|n| !known(n)).map(|n| format!("{} leads to unknown {n}", step.name)));
        if step.timeout.is_some_and(|t| t > timeout_max) {
            flaws.push(format!("step {} may take longer than {timeout_max:?}", step.name));
        }
    }
    flaws.extend(
        machine.always_reachable().iter().filter(|n| !known(n)).map(|n| format!("{n}, always reachable, is unknown")),
    );
    flaws
}

/// The machine as text, one step per line: what golden files hold, so that reviews see a flow change.
pub fn graph(machine: &dyn Machine) -> String {
    let mut text = format!("{}\n", machine.kind());
    for step in machine.steps() {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {} -> {}  # {}", step.name, step.next.join(", "), step.doc);
    }
    if !machine.always_reachable().is_empty() {
        let _ = writeln!(text, "  * -> {}", machine.always_reachable().join(", "));
    }
    text
}
