//! One step after the other, under a virtual clock.

use std::{sync::Arc, sync::atomic::Ordering::SeqCst, time::Duration};

use flow::{
    BoxFuture, Config, DONE, Done, Engine, Fault, FaultPoint, Faults, Flow, Machine, Next, Outcome, Result, StepCx,
    StepInfo,
};
use store::{Db, flows};
use testkit::{TestDb, for_each_db, virtual_clock};

use crate::toy::{Outside, Toy, Toys};

const LEASE: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);

fn engine(db: &Db, outside: &Arc<Outside>, config: Config) -> Engine {
    Engine::new(db.clone(), vec![Arc::new(Toys(outside.clone()))], config).unwrap()
}

fn names(steps: &[flow::Stepped]) -> Vec<&str> {
    steps.iter().map(|s| s.step.as_str()).collect()
}

#[tokio::test]
async fn a_life_from_creation_to_deletion() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config::default());
        Toy::create(&db, "t").await.unwrap();
        assert_eq!(names(&engine.settle().await.unwrap()), ["plan", "build", "paint"]);
        let flow = db.flow("t").await.unwrap().unwrap();
        assert_eq!((flow.step.as_str(), flow.run_at, flow.deadline), ("ready", flows::NEVER, None));
        assert_eq!((flow.reason.as_str(), flow.lease), ("resting", None));
        assert_eq!(Toy::status(&db, "t").await, "ready");
        assert!(engine.next_due().await.unwrap().is_none(), "at rest nothing is due");

        Toy::delete(&db, "t").await.unwrap();
        assert_eq!(names(&engine.settle().await.unwrap()), ["ready", "destroy", "gone"]);
        assert!(db.flow("t").await.unwrap().is_none());
        assert_eq!(Toy::status(&db, "t").await, "gone");
        assert!(outside.guests.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_wake_during_a_step_is_not_lost() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config::default());
        // While the step that is about to rest runs, its resource changes.
        Toy::create(&db, "t").await.unwrap();
        let gate = outside.close_gate();
        let settling = tokio::spawn({
            let engine = engine.clone();
            async move { engine.settle().await.unwrap() }
        });
        gate.entered.notified().await;
        Toy::delete(&db, "t").await.unwrap();
        outside.open_gate();
        let steps = settling.await.unwrap();
        assert_eq!(names(&steps), ["plan", "build", "paint", "destroy", "gone"]);
        assert!(db.flow("t").await.unwrap().is_none());
    })
    .await;
}

/// Rests at once, and can be woken between its read and its commit.
struct Sleeper(Arc<Outside>, fn() -> Next);

impl Machine for Sleeper {
    fn kind(&self) -> &'static str {
        "sleeper"
    }
    fn steps(&self) -> &'static [StepInfo] {
        const { &[StepInfo::new("only", "sleeps", &[DONE]), StepInfo::new("island", "no way leads here", &[])] }
    }
    fn run<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            self.0.calls.fetch_add(1, SeqCst);
            let gate = self.0.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.entered.notify_one();
                gate.open.notified().await;
            }
            cx.go((self.1)()).await
        })
    }
    fn expired<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(cx.go(Next::done()))
    }
}

async fn start(db: &Db, id: &str, kind: &str, step: &str) {
    let mut tx = db.begin().await.unwrap();
    flow::insert(&mut tx, id, kind, step, None).await.unwrap();
    tx.commit().await.unwrap();
}

async fn wake(db: &Db, id: &str) {
    let mut tx = db.begin().await.unwrap();
    flow::wake(&mut tx, id);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_woken_flow_neither_rests_nor_ends_before_it_has_looked_again() {
    for next in [|| Next::idle("x"), || Next::wait("x").for_(HOUR), Next::done] {
        for_each_db(virtual_clock, |db| async move {
            let outside = Outside::new();
            let machine = Arc::new(Sleeper(outside.clone(), next));
            let engine = Engine::new(db.clone(), vec![machine], Config::default()).unwrap();
            start(&db, "s", "sleeper", "only").await;
            let gate = outside.close_gate();
            let settling = tokio::spawn({
                let engine = engine.clone();
                async move { engine.settle().await.unwrap() }
            });
            gate.entered.notified().await;
            wake(&db, "s").await;
            outside.open_gate();
            let steps = settling.await.unwrap();
            assert_eq!(steps.len(), 2, "{steps:?}");
            assert_eq!(outside.calls.load(SeqCst), 2);
        })
        .await;
    }
}

#[tokio::test]
async fn failures_back_off_and_a_wake_ends_the_wait() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config { seed: Some(1), ..Config::default() });
        outside.reachable.store(false, SeqCst);
        Toy::create(&db, "t").await.unwrap();
        let (mut at, mut delays) = (db.clock().now(), Vec::new());
        engine.settle().await.unwrap();
        for _ in 0..4 {
            let due = engine.next_due().await.unwrap().unwrap();
            delays.push(u64::try_from(due.since(at).as_millis()).unwrap());
            db.clock().advance(due.since(at));
            at = due;
            assert_eq!(engine.settle().await.unwrap().len(), 1);
        }
        for (delay, full) in delays.iter().zip([200, 400, 800, 1600]) {
            assert!((full / 2..=full).contains(delay), "{delays:?}");
        }
        let flow = db.flow("t").await.unwrap().unwrap();
        assert_eq!((flow.attempts, flow.step.as_str()), (5, "build"));
        assert!(flow.last_error.contains("The factory is away."), "{}", flow.last_error);
        assert_eq!(Toy::status(&db, "t").await, "new");

        outside.reachable.store(true, SeqCst);
        assert_eq!(engine.settle().await.unwrap().len(), 0, "still backing off");
        wake(&db, "t").await;
        assert_eq!(names(&engine.settle().await.unwrap()), ["build", "paint"]);
        let flow = db.flow("t").await.unwrap().unwrap();
        assert_eq!((flow.attempts, flow.last_error.as_str()), (0, ""));
    })
    .await;
}

#[tokio::test]
async fn a_phase_ends_at_its_deadline() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config::default());
        outside.reachable.store(false, SeqCst);
        Toy::create(&db, "t").await.unwrap();
        let begun = db.clock().now();
        let steps = engine.run_for(HOUR).await.unwrap();
        assert!(steps.len() > 10, "it tried more than once: {}", steps.len());
        assert_eq!(Toy::status(&db, "t").await, "error");
        assert_eq!(db.clock().now().since(begun), crate::toy::BUILD.within, "not a moment later");
        let flow = db.flow("t").await.unwrap().unwrap();
        assert_eq!((flow.step.as_str(), flow.deadline, flow.phase.as_str()), ("failed", None, ""));

        // The one way back works from here, once the outside is back.
        Toy::delete(&db, "t").await.unwrap();
        engine.run_for(HOUR).await.unwrap();
        assert_eq!(db.flow("t").await.unwrap().unwrap().step, "destroy");
        outside.reachable.store(true, SeqCst);
        engine.run_for(HOUR).await.unwrap();
        assert!(db.flow("t").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_was_overtaken_cannot_commit() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let slow = engine(&db, &outside, Config::default());
        Toy::create(&db, "t").await.unwrap();
        slow.step_due().await.unwrap();
        let gate = outside.close_gate();
        let zombie = tokio::spawn({
            let slow = slow.clone();
            async move { slow.step_due().await.unwrap().unwrap() }
        });
        gate.entered.notified().await;
        *outside.gate.lock().unwrap() = None;

        let other = engine(&db.reconnect().await, &outside, Config::default());
        assert!(other.settle().await.unwrap().is_empty(), "the lease holds");
        wake(&db, "t").await;
        assert!(other.settle().await.unwrap().is_empty(), "also for a flow that is due");
        assert_eq!(other.next_due().await.unwrap(), Some(db.clock().now() + LEASE));
        db.clock().advance(LEASE);
        assert_eq!(names(&other.settle().await.unwrap()), ["build", "paint"]);

        gate.open.notify_one();
        assert_eq!(zombie.await.unwrap().outcome, Outcome::Abandoned);
        assert_eq!(slow.metrics().leases_lost.load(SeqCst), 1);
        assert_eq!(Toy::status(&db, "t").await, "ready");
        assert_eq!(db.flow("t").await.unwrap().unwrap().step, "ready");
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_a_failure_like_others() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config::default());
        Toy::create(&db, "t").await.unwrap();
        outside.panic.store(true, SeqCst);
        engine.settle().await.unwrap();
        let flow = db.flow("t").await.unwrap().unwrap();
        assert!(flow.last_error.contains("panic: the factory exploded"), "{}", flow.last_error);
        outside.panic.store(false, SeqCst);
        engine.run_for(HOUR).await.unwrap();
        assert_eq!(Toy::status(&db, "t").await, "ready");
        assert_eq!(engine.metrics().panics.load(SeqCst), 1);
    })
    .await;
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_a_failure() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let config = Config { step_timeout: Duration::from_millis(50), ..Config::default() };
        let engine = engine(&db, &outside, config);
        Toy::create(&db, "t").await.unwrap();
        let _gate = outside.close_gate();
        engine.settle().await.unwrap();
        let flow = db.flow("t").await.unwrap().unwrap();
        assert!(flow.last_error.contains("took longer than 50ms"), "{}", flow.last_error);
        outside.open_gate();
        engine.run_for(HOUR).await.unwrap();
        assert_eq!(Toy::status(&db, "t").await, "ready");
    })
    .await;
}

#[tokio::test]
async fn steps_that_no_table_knows_are_refused() {
    for_each_db(virtual_clock, |db| async move {
        for (id, next) in [("a", (|| Next::step("nowhere")) as fn() -> Next), ("b", || Next::step("island"))] {
            let machine = Arc::new(Sleeper(Outside::new(), next));
            let engine = Engine::new(db.clone(), vec![machine], Config::default()).unwrap();
            start(&db, id, "sleeper", "only").await;
            engine.settle().await.unwrap();
            let flow = db.flow(id).await.unwrap().unwrap();
            assert!(flow.last_error.contains("is not in the table of steps"), "{}", flow.last_error);
            let mut tx = db.begin().await.unwrap();
            flows::delete(&mut tx, id).await.unwrap();
            tx.commit().await.unwrap();
        }
        // A row that a newer release has written: kept, and said why.
        let engine = engine(&db, &Outside::new(), Config::default());
        start(&db, "c", "toy", "from-the-future").await;
        start(&db, "d", "kind-of-the-future", "x").await;
        let steps = engine.settle().await.unwrap();
        assert_eq!(names(&steps), ["from-the-future"]);
        let flow = db.flow("c").await.unwrap().unwrap();
        assert!(flow.last_error.contains("no step from-the-future"), "{}", flow.last_error);
    })
    .await;
}

#[test]
fn the_graph_shows_every_way() {
    let graph = flow::graph(&Toys(Outside::new()));
    assert!(graph.starts_with("toy\n  plan -> build  # chooses a colour\n"), "{graph}");
    assert!(graph.ends_with("  gone -> done  # removes the row\n  * -> destroy\n"), "{graph}");
}

/// Crashes each step once at one point.
struct CrashOnce(FaultPoint, std::sync::Mutex<Vec<String>>);

impl Faults for CrashOnce {
    fn at<'a>(&'a self, flow: &'a Flow, point: FaultPoint) -> BoxFuture<'a, Fault> {
        let mut seen = self.1.lock().unwrap();
        let crash = point == self.0 && !seen.contains(&flow.step);
        if crash {
            seen.push(flow.step.clone());
        }
        Box::pin(async move { if crash { Fault::Crash } else { Fault::Pass } })
    }
}

#[tokio::test]
async fn a_crash_anywhere_repeats_the_step_after_the_lease() {
    for point in FaultPoint::ALL {
        for_each_db(virtual_clock, |db| async move {
            let outside = Outside::new();
            let faults = Arc::new(CrashOnce(point, std::sync::Mutex::default()));
            let engine = engine(&db, &outside, Config { faults: Some(faults), ..Config::default() });
            Toy::create(&db, "t").await.unwrap();
            let begun = db.clock().now();
            engine.run_for(HOUR).await.unwrap();
            assert_eq!(Toy::status(&db, "t").await, "ready");
            let waited = db.clock().now().since(begun);
            // Steps run one by one here, so that what committed is due at once again, crash or not.
            let crashes = if point == FaultPoint::AfterCommit { 0 } else { 3 };
            assert_eq!(waited, LEASE * crashes, "{point:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn same_seed_same_run() {
    let order = async |seed| {
        let db = TestDb::sqlite().await;
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config { seed: Some(seed), ..Config::default() });
        for n in 0..8 {
            Toy::create(&db, &format!("t{n}")).await.unwrap();
        }
        let steps = engine.settle().await.unwrap();
        steps.iter().map(|s| format!("{}{}", s.id, s.step)).collect::<Vec<_>>()
    };
    assert_eq!(order(7).await, order(7).await);
    assert_ne!(order(7).await, order(8).await);
}

#[tokio::test]
async fn lists_show_what_is_not_at_rest() {
    for_each_db(virtual_clock, |db| async move {
        let outside = Outside::new();
        let engine = engine(&db, &outside, Config::default());
        Toy::create(&db, "resting").await.unwrap();
        engine.settle().await.unwrap();
        outside.reachable.store(false, SeqCst);
        Toy::create(&db, "failing").await.unwrap();
        engine.settle().await.unwrap();
        Toy::create(&db, "new").await.unwrap();
        let list = async |filter: flows::Filter| {
            let mut conn = db.read().await.unwrap();
            let flows = flows::list(&mut conn, &filter, &flows::oldest_first()).await.unwrap();
            flows.into_iter().map(|f| f.id.to_string()).collect::<Vec<_>>()
        };
        let all = flows::Filter::default();
        assert_eq!(list(all.clone()).await, ["failing", "new", "resting"]);
        assert_eq!(list(flows::Filter { busy: true, ..all.clone() }).await, ["failing", "new"]);
        assert_eq!(list(flows::Filter { failing: true, ..all.clone() }).await, ["failing"]);
        assert_eq!(list(flows::Filter { step: Some("ready".into()), ..all.clone() }).await, ["resting"]);
        assert!(list(flows::Filter { kind: Some("other".into()), ..all }).await.is_empty());
        let counts = flows::counts(&mut db.read().await.unwrap()).await.unwrap();
        assert!(counts.contains(&("toy".into(), "ready".into(), 1)), "{counts:?}");
    })
    .await;
}
