//! The crash harness on the toy machine, and on machines with the defects that it is there to find.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use flow::{BoxFuture, Done, Flow, Machine, Next, Result, StepCx, StepInfo};
use store::Db;
use testkit::{
    Kind,
    harness::{self, Options, Report, Rest, Scenario, World},
};

use crate::toy::{Outside, Toy, Toys};

struct ToyWorld(Arc<Outside>);

impl World for ToyWorld {
    fn set_reachable<'a>(&'a self, db: &'a Db, reachable: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.0.reachable.store(reachable, SeqCst);
            let mut tx = db.begin().await?;
            flow::wake(&mut tx, "t");
            Ok(tx.commit().await?)
        })
    }

    fn delete<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(Toy::delete(db, "t").await?) })
    }

    fn check<'a>(&'a self, db: &'a Db, rest: Rest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (status, guests) = (Toy::status(db, "t").await, self.0.guests.lock().unwrap().len());
            let flow = db.flow("t").await.unwrap().map(|flow| flow.step);
            let wanted = match rest {
                Rest::Settled => ("ready", 1, Some("ready")),
                Rest::Deleted => ("gone", 0, None),
            };
            let found = (status.as_str(), guests, flow.as_deref());
            if found == wanted { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
        })
    }
}

async fn toys(options: &Options) -> Report {
    harness::run(options, |db| {
        Box::pin(async move {
            let outside = Outside::new();
            Toy::create(db, "t").await.unwrap();
            let world = Arc::new(ToyWorld(outside.clone()));
            Scenario { machines: vec![Arc::new(Toys(outside))], world }
        })
    })
    .await
}

#[tokio::test]
async fn toys_survive_everything() {
    let report = toys(&Options::default()).await;
    report.expect_all_steps_but(&Toys(Outside::new()), &["failed"]);
    println!("{} plays, {} steps", report.plays, report.trace.len());
}

#[tokio::test]
async fn the_same_seed_makes_the_same_run() {
    let options = |seed| Options { seed, databases: vec![Kind::Sqlite], ..Options::default() };
    let first = toys(&options(3)).await;
    assert_eq!(first, toys(&options(3)).await);
    assert_ne!(first.trace, toys(&options(4)).await.trace, "the seed is in the jitter");
}

/// A machine that builds as the toys do, with one defect.
struct Careless {
    toys: Toys,
    defect: Defect,
}

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    /// Each call builds one more.
    NotIdempotent,
    /// Takes it that what was never finished is not there.
    ForgetsHalfBuilt,
    /// Does not look whether it is still wanted.
    IgnoresDelete,
}

impl Machine for Careless {
    fn kind(&self) -> &'static str {
        "toy"
    }
    fn steps(&self) -> &'static [StepInfo] {
        self.toys.steps()
    }
    fn always_reachable(&self) -> &'static [&'static str] {
        &["destroy", "ready", "gone"]
    }
    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let toy = Toy::get(cx.db(), flow.id.as_str()).await?;
            match (self.defect, flow.step.as_str()) {
                (Defect::NotIdempotent, "build") => {
                    let mut guests = self.toys.0.guests.lock().unwrap();
                    if guests.contains_key(flow.id.as_str()) {
                        guests.insert(format!("another {}", flow.id), 1);
                    }
                }
                (Defect::ForgetsHalfBuilt, "destroy") if toy.is_some_and(|t| t.status == "new") => {
                    return cx.go(Next::step("gone")).await;
                }
                (Defect::IgnoresDelete, "ready") => return cx.go(Next::idle("resting")).await,
                _ => {}
            }
            self.toys.run(cx, flow).await
        })
    }
    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        self.toys.expired(cx, flow, phase)
    }
}

/// What the harness says of the defect.
async fn verdict(defect: Defect) -> String {
    let options = Options { databases: vec![Kind::Sqlite], ..Options::default() };
    let play = tokio::spawn(async move {
        harness::run(&options, move |db| {
            Box::pin(async move {
                let outside = Outside::new();
                Toy::create(db, "t").await.unwrap();
                let world = Arc::new(ToyWorld(outside.clone()));
                Scenario { machines: vec![Arc::new(Careless { toys: Toys(outside), defect })], world }
            })
        })
        .await
    });
    let panic = play.await.expect_err("the harness must find it").into_panic();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_harness_finds_what_it_is_for() {
    let found = verdict(Defect::NotIdempotent).await;
    assert!(found.contains("Twice at every step: Settled"), "{found}");
    assert!(found.contains("Crash(BeforeCommit) at toy/build: Settled"), "{found}");
    let found = verdict(Defect::ForgetsHalfBuilt).await;
    assert!(found.contains("DeleteAfterCrash at toy/build: Deleted"), "{found}");
    let found = verdict(Defect::IgnoresDelete).await;
    assert!(found.contains("undisturbed on SQLite"), "{found}");
}
