//! The server's loop, in real time.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use flow::{BoxFuture, Config, DONE, Done, Engine, Flow, Machine, Next, Result, StepCx, StepInfo};
use model::Clock;
use store::Db;
use testkit::{Kind, TestDb, for_each_db};
use tokio::sync::{Notify, oneshot};

use crate::toy::{Outside, Toy, Toys};

/// Runs the loop while the test does its part.
async fn running<T>(engine: &Engine, test: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn({
        let engine = engine.clone();
        async move {
            engine
                .run(async {
                    let _ = stopped.await;
                })
                .await;
        }
    });
    let result = tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test's part took too long");
    let _ = stop.send(());
    server.await.unwrap();
    result
}

/// The servers over one database: PostgreSQL has two.
async fn servers(db: &TestDb) -> Vec<Db> {
    match db.kind() {
        Kind::Sqlite => vec![Db::clone(db)],
        Kind::Postgres => vec![Db::clone(db), db.reconnect().await],
    }
}

/// Tells the test when its step runs.
#[derive(Default)]
struct Bell {
    rung: Notify,
    at: Mutex<Option<Instant>>,
}

struct Ringer(Arc<Bell>);

impl Machine for Ringer {
    fn kind(&self) -> &'static str {
        "ringer"
    }
    fn steps(&self) -> &'static [StepInfo] {
        const { &[StepInfo::new("ring", "rings", &[])] }
    }
    fn run<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            *self.0.at.lock().unwrap() = Some(Instant::now());
            let done = cx.go(Next::idle("silent")).await;
            self.0.rung.notify_one();
            done
        })
    }
    fn expired<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(cx.go(Next::idle("silent")))
    }
}

/// From the commit that wakes to the step: measured, and bounded loosely enough for a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_is_heard_at_once() {
    for_each_db(Clock::system, |db| async move {
        let bell = Arc::new(Bell::default());
        let engine = Engine::new(db.clone(), vec![Arc::new(Ringer(bell.clone()))], Config::default()).unwrap();
        for from in servers(&db).await {
            let mut delays = running(&engine, wakes(&from, &bell)).await;
            delays.sort();
            println!("wake to step: median {:?}, worst {:?}", delays[delays.len() / 2], delays[delays.len() - 1]);
            assert!(delays[delays.len() / 2] < Duration::from_millis(100), "{delays:?}");
        }
    })
    .await;
}

async fn wakes(db: &Db, bell: &Bell) -> Vec<Duration> {
    let mut delays = Vec::new();
    for round in 0..50 {
        let mut tx = db.begin().await.unwrap();
        if round == 0 && db.flow("r").await.unwrap().is_none() {
            flow::insert(&mut tx, "r", "ringer", "ring", None).await.unwrap();
        }
        flow::wake(&mut tx, "r");
        tx.commit().await.unwrap();
        let woken = Instant::now();
        bell.rung.notified().await;
        let at = bell.at.lock().unwrap().take().unwrap();
        delays.push(at.saturating_duration_since(woken));
    }
    delays
}

/// Five steps each.
struct Racer {
    left: Mutex<u32>,
    finished: Notify,
}

impl Machine for Racer {
    fn kind(&self) -> &'static str {
        "racer"
    }
    fn steps(&self) -> &'static [StepInfo] {
        const {
            &[
                StepInfo::new("1", "", &["2"]),
                StepInfo::new("2", "", &["3"]),
                StepInfo::new("3", "", &["4"]),
                StepInfo::new("4", "", &["5"]),
                StepInfo::new("5", "", &[DONE]),
            ]
        }
    }
    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let next = match flow.step.as_str() {
                "1" => Next::step("2"),
                "2" => Next::step("3"),
                "3" => Next::step("4"),
                "4" => Next::step("5"),
                _ => Next::done(),
            };
            let done = cx.go(next).await?;
            if flow.step == "5" {
                let mut left = self.left.lock().unwrap();
                *left -= 1;
                if *left == 0 {
                    self.finished.notify_one();
                }
            }
            Ok(done)
        })
    }
    fn expired<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(cx.go(Next::done()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_flows_of_five_steps() {
    const FLOWS: u32 = 1000;
    for_each_db(Clock::system, |db| async move {
        let racer = Arc::new(Racer { left: Mutex::new(FLOWS), finished: Notify::new() });
        let engine = |db: &Db| Engine::new(db.clone(), vec![racer.clone()], Config::default()).unwrap();
        let engines: Vec<Engine> = servers(&db).await.iter().map(engine).collect();
        let mut tx = db.begin().await.unwrap();
        for n in 0..FLOWS {
            flow::insert(&mut tx, format!("f{n}"), "racer", "1", None).await.unwrap();
        }
        let started = Instant::now();
        tx.commit().await.unwrap();
        let racing = racer.finished.notified();
        match engines.as_slice() {
            [one] => running(one, racing).await,
            [one, two] => running(one, running(two, racing)).await,
            _ => unreachable!(),
        }
        println!("{FLOWS} flows: {:?}", started.elapsed());
        let steps: Vec<BTreeMap<_, _>> = engines.iter().map(|e| e.metrics().all().into_iter().collect()).collect();
        let sum = |name| steps.iter().map(|m| m[name]).sum::<u64>();
        assert_eq!((sum("steps"), sum("done"), sum("failures"), sum("running")), (5000, 1000, 0, 0), "{steps:?}");
        assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_alone_brings_a_flow_back() {
    for_each_db(Clock::system, |db| async move {
        let outside = Outside::new();
        let config = Config { guard: Duration::from_secs(3600), ..Config::default() };
        let engine = Engine::new(db.clone(), vec![Arc::new(Toys(outside.clone()))], config).unwrap();
        outside.reachable.store(false, std::sync::atomic::Ordering::SeqCst);
        let gate = outside.close_gate();
        running(&engine, async {
            Toy::create(&db, "t").await.unwrap();
            gate.entered.notified().await;
            outside.open_gate();
            // It fails once, and nothing but its backoff brings it back: neither a wake nor the guard.
            let again = outside.close_gate();
            again.entered.notified().await;
            outside.reachable.store(true, std::sync::atomic::Ordering::SeqCst);
            outside.open_gate();
        })
        .await;
        assert_eq!(db.flow("t").await.unwrap().unwrap().attempts, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_lets_the_step_end_and_gives_the_flow_back() {
    for_each_db(Clock::system, |db| async move {
        let outside = Outside::new();
        let engine = Engine::new(db.clone(), vec![Arc::new(Toys(outside.clone()))], Config::default()).unwrap();
        let gate = outside.close_gate();
        Toy::create(&db, "t").await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
            // The step goes on only after the loop has been told.
            tokio::spawn(async move { outside.open_gate() });
        };
        let server = engine.run(shutdown);
        let test = async {
            gate.entered.notified().await;
            stop.send(()).unwrap();
        };
        tokio::join!(server, test);
        let flow = db.flow("t").await.unwrap().unwrap();
        assert_eq!((flow.step.as_str(), flow.lease, flow.attempts), ("paint", None, 0));
        assert!(flow.run_at <= db.clock().now(), "the next server takes it at once");
    })
    .await;
}
