//! Many at once: what only shows under load.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use flow::{BoxFuture, Config, Done, Engine, Flow, Machine, Next, Result, StepCx, StepInfo};
use model::Clock;
use store::{Db, RowExt, query};
use testkit::{Kind, TestDb, for_each_db};
use tokio::sync::Notify;

const NODES: usize = 6;

/// A ring of flows. Each copies its own wish (a number) into what it has seen, and wakes both neighbours: the order in
/// which transactions lock the rows of `flows` is as bad as it gets.
struct Ring {
    target: i64,
    reached: Notify,
}

async fn number(conn: &mut store::Conn, name: &str) -> store::Result<i64> {
    let row = query("select value from settings where name = $1").bind(name).fetch_one(conn).await?;
    Ok(row.text("value")?.parse().unwrap())
}

async fn set_number(conn: &mut store::Conn, name: &str, value: i64) -> store::Result<()> {
    query("update settings set value = $2 where name = $1").bind(name).bind(value.to_string()).execute(conn).await?;
    Ok(())
}

fn neighbours(id: &str) -> [String; 2] {
    let n: usize = id.parse().unwrap();
    [(n + 1) % NODES, (n + NODES - 1) % NODES].map(|n| n.to_string())
}

impl Machine for Ring {
    fn kind(&self) -> &'static str {
        "ring"
    }
    fn steps(&self) -> &'static [StepInfo] {
        const { &[StepInfo::new("copy", "copies the wish", &[])] }
    }
    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let id = flow.id.as_str();
            let (wish, seen) = {
                let mut conn = cx.db().read().await?;
                (number(&mut conn, &format!("wish {id}")).await?, number(&mut conn, &format!("seen {id}")).await?)
            };
            // The outside call: time for more wakes to come in.
            tokio::task::yield_now().await;
            let mut tx = cx.begin().await?;
            if wish != seen {
                set_number(&mut tx, &format!("seen {id}"), wish).await?;
                flow::wake_many(&mut tx, neighbours(id));
            }
            let done = cx.finish(tx, Next::idle("resting")).await?;
            if wish == self.target {
                self.reached.notify_one();
            }
            Ok(done)
        })
    }
    fn expired<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(cx.go(Next::idle("resting")))
    }
}

async fn ring(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    for n in 0..NODES {
        flow::insert(&mut tx, n.to_string(), "ring", "copy", None).await.unwrap();
        for what in ["wish", "seen"] {
            query("insert into settings (name, value) values ($1, '0')")
                .bind(format!("{what} {n}"))
                .execute(&mut *tx)
                .await
                .unwrap();
        }
    }
    tx.commit().await.unwrap();
}

/// The API's part: one new wish after the other, each with its wake.
async fn wishes(db: Db, node: usize, count: i64) {
    for value in 1..=count {
        let mut tx = db.begin().await.unwrap();
        set_number(&mut tx, &format!("wish {node}"), value).await.unwrap();
        flow::wake(&mut tx, node.to_string());
        tx.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_storm_of_wakes_none_is_lost_and_nothing_deadlocks() {
    const WISHES: i64 = 150;
    for_each_db(Clock::system, |db| async move {
        ring(&db).await;
        let machine = Arc::new(Ring { target: WISHES, reached: Notify::new() });
        let other = if db.kind() == Kind::Postgres { db.reconnect().await } else { Db::clone(&db) };
        // The guard would hide a lost wake: it is longer than the test may take.
        let config = || Config { guard: Duration::from_secs(3600), ..Config::default() };
        let engines = [Db::clone(&db), other.clone()]
            .map(|db| Engine::new(db, vec![machine.clone() as Arc<dyn Machine>], config()).unwrap());
        let engines = if db.kind() == Kind::Postgres { &engines[..] } else { &engines[..1] };
        let servers: Vec<_> = engines
            .iter()
            .map(|engine| {
                let engine = engine.clone();
                tokio::spawn(async move { engine.run(std::future::pending()).await })
            })
            .collect();
        let writers: Vec<_> = (0..NODES)
            .map(|node| tokio::spawn(wishes(if node % 2 == 0 { Db::clone(&db) } else { other.clone() }, node, WISHES)))
            .collect();
        let all_seen = async {
            for writer in writers {
                writer.await.unwrap();
            }
            while !all_seen(&db, WISHES).await {
                machine.reached.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all_seen).await.expect("a wake was lost");
        servers.iter().for_each(|server| server.abort());
        let failures: u64 = engines.iter().map(|e| e.metrics().failures.load(SeqCst)).sum();
        assert_eq!(failures, 0, "no deadlock, no other failure");
    })
    .await;
}

async fn all_seen(db: &TestDb, wish: i64) -> bool {
    let mut conn = db.read().await.unwrap();
    for n in 0..NODES {
        if number(&mut conn, &format!("seen {n}")).await.unwrap() != wish {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_server_dies_another_takes_over_as_its_leases_end() {
    for_each_db(Clock::system, |db| async move {
        let outside = crate::toy::Outside::new();
        let (lease, step_timeout) = (Duration::from_millis(900), Duration::from_millis(300));
        let config = Config { lease, step_timeout, ..Config::default() };
        let toys = || vec![Arc::new(crate::toy::Toys(outside.clone())) as Arc<dyn Machine>];
        let dying = Engine::new(Db::clone(&db), toys(), config.clone()).unwrap();
        let gate = outside.close_gate();
        crate::toy::Toy::create(&db, "t").await.unwrap();
        let server = tokio::spawn(async move { dying.run(std::future::pending()).await });
        gate.entered.notified().await;
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());

        let next = Engine::new(db.reconnect().await, toys(), config).unwrap();
        let due = next.next_due().await.unwrap().expect("the end of the lease");
        assert!(due <= db.clock().now() + lease, "{due:?}");
        let again = outside.close_gate();
        let server = tokio::spawn({
            let next = next.clone();
            async move { next.run(std::future::pending()).await }
        });
        let taken_over = again.entered.notified();
        tokio::time::timeout(Duration::from_secs(20), taken_over).await.expect("nobody took over");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
    })
    .await;
}
