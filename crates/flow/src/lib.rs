//! Durable work. A *flow* is one database row per resource that something is still to be done about; a *machine* is
//! the code that knows the steps of one kind of resource. The engine knows no resource.
//!
//! Life of a flow: a request inserts the row together with the resource ([`insert`]); the engine claims it under a
//! lease and runs its step; the step makes one idempotent outside call and ends with one transaction that changes the
//! resource's rows *and* says what is next ([`StepCx::begin`], [`StepCx::finish`], [`Next`]). A crash repeats the step.
//! Whoever changes something the flow should look at calls [`wake`] in the same transaction; no wake is lost.
//!
//! ```text
//!            insert ─> due ─claim─> running ──finish(step)──> running ...
//!                       ^              │ finish(wait, idle)
//!         wake or time  │              v                          finish(done): the row is gone
//!                       └────────── asleep                        error: asleep, 2^n with a cap, never past the deadline
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `machine.rs` | [`Machine`], [`StepInfo`], and the graph that golden files show |
//! | `next.rs` | [`Next`]: what a step may decide, and the pure function that turns it into columns |
//! | `step.rs` | [`StepCx`] and [`Done`]: a step's transaction under its lease |
//! | `engine.rs` | [`Engine`]: one claimed flow through one step; failures, time-outs, panics, takeover |
//! | `run.rs` | the loop of a server, and the stepping that tests do instead |
//! | `metrics.rs`, `fault.rs` | counters; the points at which tests crash and pause a step |
//!
//! Invariants: nothing commits without the lease token; a step's reads are newer than every wake it counts as seen; a
//! flow with a deadline is always due at that deadline at the latest.

mod engine;
mod fault;
mod machine;
mod metrics;
mod next;
mod run;
mod step;

pub use engine::{Config, Engine, Outcome, Stepped};
pub use fault::{Fault, FaultPoint, Faults};
pub use futures_util::future::BoxFuture;
pub use machine::{DONE, Machine, StepInfo, graph};
pub use metrics::Metrics;
pub use model::{Error, Result};
pub use next::{Next, Wait};
pub use step::{Done, StepCx};
pub use store::flows::{Flow, Phase, insert, wake, wake_many};
