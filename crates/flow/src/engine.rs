//! One claimed flow through one step, whatever happens in it.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use model::{Error, Timestamp, id::FlowId};
use store::{
    Db,
    flows::{self, Flow, Held},
};
use tokio::sync::Notify;
use tracing::Instrument;

use crate::{
    Done, FaultPoint, Faults, Machine, Metrics, Result, StepCx, StepInfo, machine,
    next::retry_at,
    step::{Ended, Trouble},
};

/// Settings of an engine; the defaults are what servers use.
#[derive(Clone)]
pub struct Config {
    /// Flows worked on at a time.
    pub concurrency: usize,
    /// How long a worker that is not heard of keeps a flow from others.
    pub lease: Duration,
    /// How long a step may take unless its table says otherwise. At most a third of the lease.
    pub step_timeout: Duration,
    /// The first delay after a failure.
    pub backoff_min: Duration,
    /// The longest delay after a failure.
    pub backoff_max: Duration,
    /// The engine looks at least that often, should a notification have been missed.
    pub guard: Duration,
    /// How long a shutdown waits for steps under way.
    pub grace: Duration,
    /// Tests: makes order and jitter the same each time.
    pub seed: Option<u64>,
    /// Tests: interferes with steps.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 32,
            lease: Duration::from_secs(90),
            step_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            guard: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            seed: None,
            faults: None,
        }
    }
}

/// Steps that one flow may take in a row before others get their turn.
pub(crate) const STEPS_IN_A_ROW_MAX: u32 = 32;

/// Runs flows. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) machines: BTreeMap<&'static str, Arc<dyn Machine>>,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: AtomicBool,
    /// State of the generator behind jitter and, with a seed, the order of steps.
    random: AtomicU64,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It committed; the flow goes on with the next step, due at once, under the same lease.
    GoesOn,
    /// It committed; the flow is due again then.
    Sleeps(Timestamp),
    /// It failed, and runs again then.
    Failed(Timestamp),
    /// It committed the end of the flow.
    Over,
    /// Nothing was committed: another worker has the flow, or the database is away; the lease decides.
    Abandoned,
}

impl Outcome {
    pub(crate) fn due_again(self) -> Option<Timestamp> {
        match self {
            Self::Sleeps(at) | Self::Failed(at) => Some(at),
            Self::GoesOn | Self::Over | Self::Abandoned => None,
        }
    }
}

/// A step that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The flow.
    pub id: FlowId,
    /// Its kind.
    pub kind: String,
    /// The step, as the flow was claimed.
    pub step: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Engine {
    /// An engine for these machines.
    ///
    /// # Errors
    /// When a table of steps is not sound, naming each flaw.
    pub fn new(db: Db, machines: Vec<Arc<dyn Machine>>, config: Config) -> Result<Self> {
        let timeout_max = config.lease / 3;
        let mut by_kind = BTreeMap::new();
        let mut flaws = Vec::new();
        if config.step_timeout > timeout_max {
            flaws.push(format!("steps may take longer than {timeout_max:?}, a third of the lease"));
        }
        for machine in machines {
            let kind = machine.kind();
            flaws.extend(machine::flaws(&*machine, timeout_max).into_iter().map(|flaw| format!("{kind}: {flaw}")));
            if by_kind.insert(kind, machine).is_some() {
                flaws.push(format!("two machines for {kind}"));
            }
        }
        if !flaws.is_empty() {
            return Err(Error::internal("starting the flow engine", flaws.join("; ")));
        }
        let random = config.seed.unwrap_or_else(|| model::id::random_uuid().as_u64_pair().0);
        Ok(Self(Arc::new(Inner {
            db,
            kinds: by_kind.keys().copied().collect(),
            machines: by_kind,
            config,
            metrics: Metrics::default(),
            stopping: AtomicBool::new(false),
            random: AtomicU64::new(random),
        })))
    }

    /// What it has done so far.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The machines, by kind.
    pub fn machines(&self) -> impl Iterator<Item = &dyn Machine> {
        self.0.machines.values().map(|machine| &**machine)
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.db.clock().now()
    }

    /// A number from the engine's generator (SplitMix64).
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Runs a claimed flow: one step, and those that follow at once.
    pub(crate) async fn run_flow(&self, flow: Flow) -> Outcome {
        let mut flow = flow;
        for in_a_row in 1.. {
            let may_go_on = in_a_row < STEPS_IN_A_ROW_MAX && !self.stopping.load(Relaxed);
            let (outcome, after) = self.run_step(flow, may_go_on).await;
            match after {
                Some(next) if !self.stopping.load(Relaxed) => flow = *next,
                Some(next) => return self.give_back(&next).await,
                None => return outcome,
            }
        }
        Outcome::Abandoned
    }

    /// Runs one step of a claimed flow. Yields the flow when the worker keeps it.
    pub(crate) async fn run_step(&self, flow: Flow, may_go_on: bool) -> (Outcome, Option<Box<Flow>>) {
        let Some((machine, info)) = self.lookup(&flow) else {
            let problem = format!("no step {} in the machine {}", flow.step, flow.kind);
            let outcome = self.fail(&flow, &Error::internal("finding the step", problem)).await;
            return (outcome, None);
        };
        let cx = StepCx {
            db: self.db.clone(),
            expired: flow.deadline.is_some_and(|deadline| deadline <= self.now()),
            keep_lease: may_go_on.then_some(self.config.lease),
            faults: self.config.faults.clone(),
            crashed: Notify::new(),
            trouble: AtomicU8::new(Trouble::None as u8),
            flow,
            machine,
            info,
        };
        let started = Instant::now();
        let result = tokio::select! {
            biased;
            () = cx.crashed.notified() => return (Outcome::Abandoned, None),
            result = self.attempt(&cx) => result,
        };
        self.metrics.took(started.elapsed());
        match result {
            Ok(Done(ended)) => self.committed(&cx, ended),
            Err(error) => (self.not_committed(&cx, &error).await, None),
        }
    }

    fn lookup(&self, flow: &Flow) -> Option<(Arc<dyn Machine>, &'static StepInfo)> {
        let machine = self.machines.get(flow.kind.as_str())?;
        Some((machine.clone(), machine::find(&**machine, &flow.step)?))
    }

    /// The machine's own code, fenced: it may take too long or panic.
    async fn attempt(&self, cx: &StepCx) -> Result<Done> {
        let work = async {
            cx.reach(FaultPoint::BeforeStep).await;
            if cx.expired {
                Metrics::add(&self.metrics.expired);
                cx.machine.expired(cx, &cx.flow, &cx.flow.phase).await
            } else {
                cx.machine.run(cx, &cx.flow).await
            }
        };
        let work = work.instrument(tracing::info_span!(
            "flow", kind = cx.flow.kind, id = %cx.flow.id, step = cx.flow.step
        ));
        let limit = cx.info.timeout.unwrap_or(self.config.step_timeout);
        match tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                Metrics::add(&self.metrics.panics);
                Err(Error::internal("running a step", format!("panic: {}", panic_text(&*panic))))
            }
            Err(_) => {
                Metrics::add(&self.metrics.timeouts);
                Err(Error::internal("running a step", format!("took longer than {limit:?}")))
            }
        }
    }

    fn committed(&self, cx: &StepCx, ended: Ended) -> (Outcome, Option<Box<Flow>>) {
        Metrics::add(&self.metrics.steps);
        tracing::debug!(kind = cx.flow.kind, flow = %cx.flow.id, step = cx.flow.step, "step done");
        match ended {
            Ended::GoesOn(flow) => (Outcome::GoesOn, Some(flow)),
            Ended::Sleeps(at) => (Outcome::Sleeps(at), None),
            Ended::Over => {
                Metrics::add(&self.metrics.done);
                (Outcome::Over, None)
            }
        }
    }

    async fn not_committed(&self, cx: &StepCx, error: &Error) -> Outcome {
        match cx.trouble() {
            Trouble::None => self.fail(&cx.flow, error).await,
            Trouble::Woken => self.give_back(&cx.flow).await,
            Trouble::LeaseLost => {
                Metrics::add(&self.metrics.leases_lost);
                tracing::warn!(kind = cx.flow.kind, flow = %cx.flow.id, step = cx.flow.step, "lease lost");
                Outcome::Abandoned
            }
        }
    }

    /// Records a failure: the step runs again after a while.
    async fn fail(&self, flow: &Flow, error: &Error) -> Outcome {
        Metrics::add(&self.metrics.failures);
        tracing::warn!(
            kind = flow.kind, flow = %flow.id, step = flow.step, attempts = flow.attempts + 1, ?error, "step failed"
        );
        let now = self.now();
        let backoff = (self.config.backoff_min, self.config.backoff_max);
        #[allow(clippy::cast_precision_loss, reason = "jitter needs no precision")]
        let jitter = self.random() as f64 / u64::MAX as f64;
        let run_at = retry_at(flow, now, backoff, jitter, error.retry_after);
        let why = match error.chain() {
            chain if chain.is_empty() => error.message.clone(),
            chain => format!("{}: {chain}", error.message),
        };
        let recorded = async {
            let mut tx = self.db.begin().await?;
            // A wake is news, so the step is repeated soon, but no failing step may spin.
            let run_at = flows::fail(&mut tx, held(flow), &why, run_at, run_at.min(now + backoff.0)).await?;
            tx.commit().await?;
            Ok::<_, store::Error>(run_at)
        };
        match recorded.await {
            Ok(Some(run_at)) => Outcome::Failed(run_at),
            Ok(None) => Outcome::Abandoned,
            Err(error) => {
                tracing::error!(flow = %flow.id, %error, "a failed step could not be recorded");
                Outcome::Abandoned
            }
        }
    }

    /// Gives a flow back that nothing happened to; it is due at once.
    async fn give_back(&self, flow: &Flow) -> Outcome {
        let given = async {
            let mut tx = self.db.begin().await?;
            flows::release(&mut tx, held(flow)).await?;
            tx.commit().await
        };
        match given.await {
            Ok(()) => Outcome::Sleeps(self.now()),
            Err(error) => {
                tracing::error!(flow = %flow.id, %error, "a flow could not be given back");
                Outcome::Abandoned
            }
        }
    }
}

fn held(flow: &Flow) -> Held<'_> {
    Held { id: &flow.id, token: flow.lease.as_deref().unwrap_or_default(), step: &flow.step, wakes: flow.wakes }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
