//! The crash harness: proves that a scenario of flows survives everything that can go wrong between its steps.
//!
//! A scenario builds something and can delete it again. [`run`] plays it once undisturbed to learn its steps, then
//! again and again in a fresh database, with one [`Trouble`] each time: every step doubled; a crash at every point of
//! every step; the outside unreachable from every step on; a delete before and in the middle of every step, also with
//! the outside away or the process dead; a worker paused past its lease in every step, so that a second one takes over and the first wakes
//! up as a zombie. After each play the scenario's own check looks at the rows and at the fake outside.
//!
//! Ids that the scenario fixes and the seed make two runs the same, step by step; `NACRE_TEST_SEED` chooses another.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use flow::{BoxFuture, Config, Engine, Fault, FaultPoint, Faults, Flow, Machine, Outcome, Stepped};
use futures_util::future::ready;
use model::{Result, Timestamp};
use store::{Db, flows};

use crate::{Kind, TestDb, virtual_clock};

/// What came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// What the scenario builds, undeleted.
    Settled,
    /// Nothing must be left, neither rows nor anything outside.
    Deleted,
}

/// The scenario's side: the API's part, and the outside world behind the machines.
pub trait World: Send + Sync {
    /// Lets the outside be reached or not. When it can be again, wake what the product would wake then.
    fn set_reachable<'a>(&'a self, db: &'a Db, reachable: bool) -> BoxFuture<'a, Result<()>>;

    /// Asks for the end as the API does: intent and wake in one transaction. Called again, it does nothing.
    fn delete<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<()>>;

    /// Lets an asynchronous outside act once the flows wait for it: an agent's report. Whether it did anything.
    fn act<'a>(&'a self, _db: &'a Db) -> BoxFuture<'a, Result<bool>> {
        Box::pin(ready(Ok(false)))
    }

    /// Whether rows and outside are as they must be; why not.
    fn check<'a>(&'a self, db: &'a Db, rest: Rest) -> BoxFuture<'a, Result<(), String>>;
}

/// One play: made anew for each, with rows and flows already inserted.
pub struct Scenario {
    /// The machines of its flows.
    pub machines: Vec<Arc<dyn Machine>>,
    /// Its world.
    pub world: Arc<dyn World>,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Every step runs twice: its first transaction is undone after the outside call.
    Twice,
    /// The process dies there, and another takes over when the lease ends.
    Crash(FaultPoint),
    /// The outside can't be reached from there on, for [`Options::outage`].
    Outage,
    /// The delete comes in there.
    Delete(FaultPoint),
    /// The delete comes in just when the outside can't be reached.
    DeleteInOutage,
    /// The delete comes in while the process lies dead after its outside call, of which no row knows.
    DeleteAfterCrash,
    /// The worker stands still there until its lease is over and another has done all the work.
    Pause(FaultPoint),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Makes jitter and the order of flows the same each time.
    pub seed: u64,
    /// How long the outside stays away. Shorter than the phases' deadlines where the check expects success.
    pub outage: Duration,
    /// How long a play may take by the virtual clock.
    pub horizon: Duration,
    /// The databases.
    pub databases: Vec<Kind>,
}

impl Default for Options {
    fn default() -> Self {
        let seed = std::env::var("NACRE_TEST_SEED").ok().map_or(1, |s| s.parse().expect("NACRE_TEST_SEED: a number"));
        Self {
            seed,
            outage: Duration::from_secs(60),
            horizon: Duration::from_secs(24 * 3600),
            databases: Kind::selected(),
        }
    }
}

/// What was played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Every step that the undisturbed play took, as `kind/step`.
    pub steps: Vec<String>,
    /// Plays, over all databases.
    pub plays: usize,
    /// Every step of every play and what came of it.
    pub trace: Vec<String>,
}

impl Report {
    /// Fails the test unless all steps of the machine were played; names those that no path of the scenario takes.
    pub fn expect_all_steps_but(&self, machine: &dyn Machine, never: &[&str]) {
        let missing = |step: &&str| !self.steps.contains(&format!("{}/{step}", machine.kind()));
        let missed: Vec<&str> = machine.steps().iter().map(|s| s.name).filter(missing).collect();
        assert_eq!(missed, never, "steps of {} that the scenario did not take", machine.kind());
    }
}

/// Plays the scenario under every trouble at every step. Fails the test with every play that went wrong.
pub async fn run<S>(options: &Options, setup: S) -> Report
where
    S: for<'a> Fn(&'a Db) -> BoxFuture<'a, Scenario>,
{
    let mut report = Report { steps: Vec::new(), plays: 0, trace: Vec::new() };
    let mut failures = Vec::new();
    for &kind in &options.databases {
        let undisturbed = play(options, kind, &setup, Trouble::None, None).await;
        assert!(undisturbed.failure.is_none(), "undisturbed on {kind}: {}", undisturbed);
        report.steps.clone_from(&undisturbed.visited);
        let mut plays = vec![undisturbed, play(options, kind, &setup, Trouble::Twice, None).await];
        for place in report.steps.clone() {
            for trouble in at_each_step() {
                plays.push(play(options, kind, &setup, trouble, Some(place.clone())).await);
            }
        }
        report.plays += plays.len();
        for play in plays {
            report.trace.extend(play.trace.iter().map(|line| format!("{kind} {line}")));
            if play.failure.is_some() {
                failures.push(format!("{kind}, {play}"));
            }
        }
    }
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} of {} plays went wrong with NACRE_TEST_SEED={}:\n\n{}",
        report.plays,
        options.seed,
        failures.join("\n\n")
    );
    report
}

fn at_each_step() -> Vec<Trouble> {
    use FaultPoint::{BeforeStep, BeforeTransaction};
    let mut all: Vec<Trouble> = FaultPoint::ALL.into_iter().map(Trouble::Crash).collect();
    all.push(Trouble::Outage);
    all.extend([BeforeStep, BeforeTransaction].map(Trouble::Delete));
    all.extend([Trouble::DeleteInOutage, Trouble::DeleteAfterCrash]);
    all.extend([BeforeStep, BeforeTransaction].map(Trouble::Pause));
    all
}

/// One play, as it went.
struct Play {
    trouble: Trouble,
    place: Option<String>,
    visited: Vec<String>,
    trace: Vec<String>,
    failure: Option<String>,
}

impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("every step");
        writeln!(f, "{:?} at {place}: {}", self.trouble, self.failure.as_deref().unwrap_or("fine"))?;
        let last = self.trace.len().saturating_sub(30);
        write!(f, "    {}", self.trace[last..].join("\n    "))
    }
}

async fn play<S>(options: &Options, kind: Kind, setup: &S, trouble: Trouble, place: Option<String>) -> Play
where
    S: for<'a> Fn(&'a Db) -> BoxFuture<'a, Scenario>,
{
    let db = TestDb::new(kind, virtual_clock()).await;
    let scenario = setup(&db).await;
    let script = Arc::new(Script {
        db: Db::clone(&db),
        world: scenario.world,
        machines: scenario.machines,
        options: options.clone(),
        trouble,
        place: place.clone(),
        end: db.clock().now() + options.horizon,
        state: Mutex::default(),
        second: OnceLock::new(),
    });
    let failure = script.clone().play().await.err();
    let state = std::mem::take(&mut *script.lock());
    Play { trouble, place, visited: state.visited, trace: state.trace, failure }
}

/// The trouble of one play, as the engine's hook.
struct Script {
    db: Db,
    world: Arc<dyn World>,
    machines: Vec<Arc<dyn Machine>>,
    options: Options,
    trouble: Trouble,
    place: Option<String>,
    end: Timestamp,
    state: Mutex<State>,
    /// The worker that takes over.
    second: OnceLock<Engine>,
}

#[derive(Default)]
struct State {
    visited: Vec<String>,
    trace: Vec<String>,
    struck: bool,
    deleted: bool,
    outage_until: Option<Timestamp>,
    /// The flow whose worker was paused and now must not commit.
    zombie: Option<String>,
    /// Steps whose first transaction was undone.
    doubled: BTreeSet<(String, String)>,
}

impl Script {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no step panics while it holds this")
    }

    /// Builds, checks, deletes, checks.
    async fn play(self: Arc<Self>) -> Result<(), String> {
        let config = Config { seed: Some(self.options.seed), faults: Some(self.clone()), ..Config::default() };
        let engine = self.engine(config)?;
        self.come_to_rest(&engine).await?;
        if !self.lock().deleted {
            self.check(Rest::Settled).await?;
            self.delete().await.map_err(text)?;
            self.come_to_rest(&engine).await?;
        }
        self.check(Rest::Deleted).await?;
        if self.place.is_some() && !self.lock().struck {
            return Err("the step was never reached: the scenario is not the same each time".into());
        }
        Ok(())
    }

    fn engine(&self, config: Config) -> Result<Engine, String> {
        Engine::new(self.db.clone(), self.machines.clone(), config).map_err(text)
    }

    /// Runs until nothing is due any more: flows, then the outside, then time.
    async fn come_to_rest(&self, engine: &Engine) -> Result<(), String> {
        loop {
            while let Some(stepped) = engine.step_due().await.map_err(text)? {
                self.note(&stepped)?;
            }
            if self.world.act(&self.db).await.map_err(text)? {
                continue;
            }
            let outage_until = self.lock().outage_until;
            let next = engine.next_due().await.map_err(text)?.into_iter().chain(outage_until).min();
            let Some(next) = next.filter(|next| *next <= self.end) else { return Ok(()) };
            self.db.clock().advance(next.since(self.db.clock().now()));
            if outage_until.is_some_and(|until| until <= next) {
                self.lock().outage_until = None;
                self.world.set_reachable(&self.db, true).await.map_err(text)?;
            }
        }
    }

    fn note(&self, stepped: &Stepped) -> Result<(), String> {
        let mut state = self.lock();
        let (kind, step) = (&stepped.kind, &stepped.step);
        let at = self.db.clock().now().since(virtual_clock().now());
        state.trace.push(format!("{:>9.3}s {} {kind}/{step}: {:?}", at.as_secs_f64(), stepped.id, stepped.outcome));
        match state.zombie.take_if(|zombie| *zombie == stepped.id.as_str()) {
            Some(_) if stepped.outcome != Outcome::Abandoned => Err(format!("a zombie committed {kind}/{step}")),
            _ => Ok(()),
        }
    }

    async fn delete(&self) -> Result<()> {
        self.lock().deleted = true;
        self.world.delete(&self.db).await
    }

    async fn check(&self, rest: Rest) -> Result<(), String> {
        let mut conn = self.db.read().await.map_err(text)?;
        let failing = flows::Filter { failing: true, ..flows::Filter::default() };
        let failing = flows::list(&mut conn, &failing, &flows::oldest_first()).await.map_err(text)?;
        if let Some(flow) = failing.first() {
            return Err(format!("{} still fails in {}/{}: {}", flow.id, flow.kind, flow.step, flow.last_error));
        }
        drop(conn);
        self.world.check(&self.db, rest).await.map_err(|why| format!("{rest:?}: {why}"))
    }

    /// The trouble itself.
    async fn strike(&self, flow: &Flow) -> Result<Fault, String> {
        match self.trouble {
            Trouble::None | Trouble::Twice => {}
            Trouble::Crash(_) => return Ok(Fault::Crash),
            Trouble::Outage => self.cut_off().await?,
            Trouble::Delete(_) => self.delete().await.map_err(text)?,
            Trouble::DeleteInOutage => {
                self.cut_off().await?;
                self.delete().await.map_err(text)?;
            }
            Trouble::DeleteAfterCrash => {
                self.delete().await.map_err(text)?;
                return Ok(Fault::Crash);
            }
            Trouble::Pause(_) => {
                let seeded = Config { seed: Some(self.options.seed), ..Config::default() };
                self.db.clock().advance(seeded.lease + Duration::from_secs(1));
                let second = self.engine(seeded)?;
                let second = self.second.get_or_init(|| second);
                Box::pin(self.come_to_rest(second)).await?;
                self.lock().zombie = Some(flow.id.to_string());
            }
        }
        Ok(Fault::Pass)
    }

    async fn cut_off(&self) -> Result<(), String> {
        self.lock().outage_until = Some(self.db.clock().now() + self.options.outage);
        self.world.set_reachable(&self.db, false).await.map_err(text)
    }

    fn is_due(&self, flow: &Flow, point: FaultPoint) -> bool {
        let wanted = match self.trouble {
            Trouble::None | Trouble::Twice => return false,
            Trouble::Crash(at) | Trouble::Delete(at) | Trouble::Pause(at) => at,
            Trouble::Outage | Trouble::DeleteInOutage => FaultPoint::BeforeStep,
            Trouble::DeleteAfterCrash => FaultPoint::BeforeTransaction,
        };
        let mut state = self.lock();
        let strikes = !state.struck && wanted == point && self.place.as_deref() == Some(&*place_of(flow));
        state.struck |= strikes;
        strikes
    }

    /// Whether this is the first of the two runs of a step that is doubled.
    fn doubles(&self, flow: &Flow, point: FaultPoint) -> bool {
        if self.trouble != Trouble::Twice || point != FaultPoint::BeforeCommit {
            return false;
        }
        let (key, mut state) = ((flow.id.to_string(), flow.step.clone()), self.lock());
        // Taken out again by the second run, so that a later visit is doubled as well.
        if state.doubled.remove(&key) { false } else { state.doubled.insert(key) }
    }
}

impl Faults for Script {
    fn at<'a>(&'a self, flow: &'a Flow, point: FaultPoint) -> BoxFuture<'a, Fault> {
        Box::pin(async move {
            let place = place_of(flow);
            if point == FaultPoint::BeforeStep && !self.lock().visited.contains(&place) {
                self.lock().visited.push(place);
            }
            if self.doubles(flow, point) {
                return Fault::Repeat;
            }
            if !self.is_due(flow, point) {
                return Fault::Pass;
            }
            self.strike(flow).await.unwrap_or_else(|why| panic!("{:?}: {why}", self.trouble))
        })
    }
}

fn place_of(flow: &Flow) -> String {
    format!("{}/{}", flow.kind, flow.step)
}

fn text(error: impl fmt::Debug) -> String {
    format!("{error:?}")
}
