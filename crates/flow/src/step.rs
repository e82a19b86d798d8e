//! A step's surroundings: its transaction under its lease.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use model::{Error, Timestamp};
use store::{
    Db, Tx,
    flows::{self, Advance, Finished, Flow, Held},
};
use tokio::sync::Notify;

use crate::{
    Fault, FaultPoint, Faults, Machine, Next, Result, StepInfo,
    machine::{self, DONE},
};

/// What a step has to work with. It lives as long as the step and holds the flow's lease.
pub struct StepCx {
    pub(crate) db: Db,
    pub(crate) flow: Flow,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) info: &'static StepInfo,
    /// The deadline has passed: the machine is told so instead of running the step.
    pub(crate) expired: bool,
    /// How far a commit prolongs the lease when the next step follows at once; none to give it back each time.
    pub(crate) keep_lease: Option<Duration>,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    pub(crate) crashed: Notify,
    pub(crate) trouble: AtomicU8,
}

/// Why the step could not commit, other than by its own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Trouble {
    None = 0,
    LeaseLost = 1,
    Woken = 2,
}

/// Proof that a step has committed what is next. Only [`StepCx::finish`] makes one.
#[must_use]
pub struct Done(pub(crate) Ended);

/// What was committed.
pub(crate) enum Ended {
    /// The worker keeps the lease and goes on.
    GoesOn(Box<Flow>),
    /// The flow is due again then.
    Sleeps(Timestamp),
    /// The row is gone.
    Over,
}

impl StepCx {
    /// The database, for reading.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.db.clock().now()
    }

    /// Opens the transaction that ends the step. Do this after the outside call, never across it.
    ///
    /// # Errors
    /// `LeaseLost` when another worker has taken over: pass it on, the engine knows.
    pub async fn begin(&self) -> Result<Tx> {
        self.reach(FaultPoint::BeforeTransaction).await;
        let mut tx = self.db.begin().await?;
        if flows::check_lease(&mut tx, self.held()).await? { Ok(tx) } else { Err(self.lease_lost()) }
    }

    /// Commits the transaction together with what is next.
    ///
    /// # Errors
    /// `LeaseLost`, or `FlowWoken` when the flow was to end but was woken: nothing is committed then. Pass both on.
    pub async fn finish(&self, mut tx: Tx, next: Next) -> Result<Done> {
        self.check_edge(&next)?;
        let ended = if next.end { self.end(&mut tx).await? } else { self.advance(&mut tx, &next).await? };
        if self.reach(FaultPoint::BeforeCommit).await == Fault::Repeat {
            return Err(self.look_again("A test wants it run twice."));
        }
        tx.commit().await?;
        self.reach(FaultPoint::AfterCommit).await;
        Ok(Done(ended))
    }

    /// [`StepCx::begin`] and [`StepCx::finish`] for a step that changes no rows.
    pub async fn go(&self, next: Next) -> Result<Done> {
        let tx = self.begin().await?;
        self.finish(tx, next).await
    }

    async fn end(&self, tx: &mut Tx) -> Result<Ended> {
        match flows::finish(tx, self.held()).await? {
            Finished::Yes => Ok(Ended::Over),
            Finished::LeaseLost => Err(self.lease_lost()),
            Finished::Woken => Err(self.look_again("The flow was woken as it was about to end.")),
        }
    }

    async fn advance(&self, tx: &mut Tx, next: &Next) -> Result<Ended> {
        let now = tx.now();
        let mut after = next.applied_to(&self.flow, self.expired, now);
        let keep_until = self.keep_lease.filter(|_| after.run_at <= now).map(|lease| now + lease);
        let to = Advance {
            step: &after.step,
            run_at: after.run_at,
            keep_until,
            phase: &after.phase,
            deadline: after.deadline,
            reason: &after.reason,
            data: &after.data,
        };
        let wakes = flows::advance(tx, self.held(), &to).await?.ok_or_else(|| self.lease_lost())?;
        if let Some(until) = keep_until {
            (after.wakes, after.lease_until) = (wakes, until);
            return Ok(Ended::GoesOn(Box::new(after)));
        }
        Ok(Ended::Sleeps(if wakes == self.flow.wakes { after.run_at } else { now }))
    }

    /// A typing error in a step's name must not strand rows: a target that does not exist is always refused. One that
    /// the table does not allow is refused where tests run.
    fn check_edge(&self, next: &Next) -> Result<()> {
        let target = if next.end { Some(DONE) } else { next.step };
        let Some(target) = target else { return Ok(()) };
        let machine = &*self.machine;
        let exists = target == DONE && next.end || machine::find(machine, target).is_some();
        if exists && (machine::may_go(machine, self.info, target) || !cfg!(debug_assertions)) {
            return Ok(());
        }
        let edge = format!("{}: {} -> {target} is not in the table of steps", machine.kind(), self.info.name);
        Err(Error::internal("ending a step", edge))
    }

    pub(crate) fn held(&self) -> Held<'_> {
        Held {
            id: &self.flow.id,
            token: self.flow.lease.as_deref().unwrap_or_default(),
            step: &self.flow.step,
            wakes: self.flow.wakes,
        }
    }

    pub(crate) fn trouble(&self) -> Trouble {
        match self.trouble.load(Relaxed) {
            1 => Trouble::LeaseLost,
            2 => Trouble::Woken,
            _ => Trouble::None,
        }
    }

    fn look_again(&self, why: &str) -> Error {
        self.trouble.store(Trouble::Woken as u8, Relaxed);
        Error::conflict("FlowWoken", why)
    }

    fn lease_lost(&self) -> Error {
        self.trouble.store(Trouble::LeaseLost as u8, Relaxed);
        Error::conflict("LeaseLost", "Another worker has taken over this flow.")
    }

    /// A point where tests interfere. On a crash this never returns: the engine drops the step.
    pub(crate) async fn reach(&self, point: FaultPoint) -> Fault {
        let Some(faults) = &self.faults else { return Fault::Pass };
        let fault = faults.at(&self.flow, point).await;
        if fault == Fault::Crash {
            self.crashed.notify_one();
            pending::<()>().await;
        }
        fault
    }
}
