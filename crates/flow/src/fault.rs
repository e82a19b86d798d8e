//! Where tests may interfere with a step. Production engines have no hook and pay one `if`.

use futures_util::future::BoxFuture;

use crate::Flow;

/// A point in the life of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultPoint {
    /// Claimed; nothing done yet.
    BeforeStep,
    /// The outside call is made; the transaction is not open yet.
    BeforeTransaction,
    /// All rows are written, nothing is committed.
    BeforeCommit,
    /// Committed, but the worker does not know yet.
    AfterCommit,
}

impl FaultPoint {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::BeforeStep, Self::BeforeTransaction, Self::BeforeCommit, Self::AfterCommit];
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// The process dies: no further line of the step runs, nothing is recorded, the lease stays until it lapses.
    Crash,
    /// [`FaultPoint::BeforeCommit`] only: the transaction is undone, and the step runs again at once.
    Repeat,
}

/// A test's hook. It may take its time (a worker that is paused) and change the world (a delete that comes in between),
/// but not write to the database [`FaultPoint::BeforeCommit`]: SQLite's one writer is busy with the step.
pub trait Faults: Send + Sync {
    /// Called at each point of each step.
    fn at<'a>(&'a self, flow: &'a Flow, point: FaultPoint) -> BoxFuture<'a, Fault>;
}
