//! A machine that builds and destroys toys, with an outside that the tests control.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use flow::{BoxFuture, DONE, Done, Error, Flow, Machine, Next, Phase, Result, StepCx, StepInfo};
use store::{Db, RowExt, query};
use tokio::sync::Notify;

pub const BUILD: Phase = Phase { name: "build", within: Duration::from_secs(600) };

/// What the toy factory outside has; keyed by id, so that every call is idempotent.
#[derive(Default)]
pub struct Outside {
    pub reachable: AtomicBool,
    pub guests: Mutex<BTreeMap<String, u32>>,
    pub calls: AtomicU32,
    /// When set, `build` announces itself and waits here.
    pub gate: Mutex<Option<Arc<Gate>>>,
    pub panic: AtomicBool,
}

/// Stops a step in its middle.
#[derive(Default)]
pub struct Gate {
    pub entered: Notify,
    pub open: Notify,
}

impl Outside {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { reachable: AtomicBool::new(true), ..Self::default() })
    }

    pub fn close_gate(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub fn open_gate(&self) {
        if let Some(gate) = self.gate.lock().unwrap().take() {
            gate.open.notify_one();
        }
    }

    async fn call(&self) -> Result<()> {
        self.calls.fetch_add(1, SeqCst);
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.entered.notify_one();
            gate.open.notified().await;
        }
        assert!(!self.panic.load(SeqCst), "the factory exploded");
        if self.reachable.load(SeqCst) { Ok(()) } else { Err(Error::unavailable("Away", "The factory is away.")) }
    }
}

/// ```text
/// plan -> build -> tested -> ready <-> (woken)     * -> destroy -> gone
///           └────────> failed
/// ```
pub struct Toys(pub Arc<Outside>);

const STEPS: &[StepInfo] = &[
    StepInfo::new("plan", "chooses a colour", &["build"]),
    StepInfo::new("build", "has it built outside", &["paint", "failed"]),
    StepInfo::new("paint", "paints it", &["ready", "failed"]),
    StepInfo::new("ready", "rests; repaints when the wish changes", &[]),
    StepInfo::new("failed", "rests", &[]),
    StepInfo::new("destroy", "removes it outside", &["gone"]),
    StepInfo::new("gone", "removes the row", &[DONE]),
];

impl Machine for Toys {
    fn kind(&self) -> &'static str {
        "toy"
    }

    fn steps(&self) -> &'static [StepInfo] {
        STEPS
    }

    fn always_reachable(&self) -> &'static [&'static str] {
        &["destroy"]
    }

    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let toy = Toy::get(cx.db(), flow.id.as_str()).await?;
            match flow.step.as_str() {
                "destroy" => self.destroy(cx, flow).await,
                "gone" => self.gone(cx, flow).await,
                _ if toy.as_ref().is_none_or(|t| t.deleted) => cx.go(Next::step("destroy")).await,
                "plan" => cx.go(Next::step("build")).await,
                "build" => self.build(cx, flow).await,
                "paint" => self.set_status(cx, flow, "ready", Next::idle("resting").at("ready").clear_deadline()).await,
                _ => cx.go(Next::idle("resting")).await,
            }
        })
    }

    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(self.set_status(cx, flow, "error", Next::idle("failed").at("failed")))
    }
}

impl Toys {
    async fn build(&self, cx: &StepCx, flow: &Flow) -> Result<Done> {
        self.0.call().await?;
        *self.0.guests.lock().unwrap().entry(flow.id.to_string()).or_default() += 1;
        self.set_status(cx, flow, "built", Next::step("paint")).await
    }

    async fn destroy(&self, cx: &StepCx, flow: &Flow) -> Result<Done> {
        self.0.call().await?;
        self.0.guests.lock().unwrap().remove(flow.id.as_str());
        cx.go(Next::step("gone").clear_deadline()).await
    }

    async fn gone(&self, cx: &StepCx, flow: &Flow) -> Result<Done> {
        let mut tx = cx.begin().await?;
        Toy::remove(&mut tx, flow.id.as_str()).await?;
        cx.finish(tx, Next::done()).await
    }

    async fn set_status(&self, cx: &StepCx, flow: &Flow, status: &str, next: Next) -> Result<Done> {
        let mut tx = cx.begin().await?;
        Toy::set(&mut tx, flow.id.as_str(), status).await?;
        cx.finish(tx, next).await
    }
}

/// The resource, in table `settings` that every database has: its status, and beside it the wish that it be gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Toy {
    pub status: String,
    pub deleted: bool,
}

impl Toy {
    pub async fn get(db: &Db, id: &str) -> store::Result<Option<Self>> {
        let mut conn = db.read().await?;
        let rows = query("select name, value from settings where name = $1 or name = $2 order by name")
            .bind(id)
            .bind(wish(id))
            .fetch_all(&mut *conn)
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Self { status: row.text("value")?, deleted: rows.len() > 1 }))
    }

    pub async fn status(db: &Db, id: &str) -> String {
        Self::get(db, id).await.unwrap().map_or_else(|| "gone".into(), |toy| toy.status)
    }

    /// As the API does it: the row and its flow in one transaction.
    pub async fn create(db: &Db, id: &str) -> store::Result<()> {
        let mut tx = db.begin().await?;
        query("insert into settings (name, value) values ($1, 'new')").bind(id).execute(&mut *tx).await?;
        flow::insert(&mut tx, id, "toy", "plan", Some(BUILD)).await?;
        tx.commit().await
    }

    /// As the API does it: the wish and the wake in one transaction.
    pub async fn delete(db: &Db, id: &str) -> store::Result<()> {
        let mut tx = db.begin().await?;
        query(
            "insert into settings (name, value) select $2, 'deleted' from settings where name = $1 \
             on conflict (name) do nothing",
        )
        .bind(id)
        .bind(wish(id))
        .execute(&mut *tx)
        .await?;
        flow::wake(&mut tx, id);
        tx.commit().await
    }

    async fn set(conn: &mut store::Conn, id: &str, status: &str) -> store::Result<()> {
        query("update settings set value = $2 where name = $1").bind(id).bind(status).execute(conn).await?;
        Ok(())
    }

    async fn remove(conn: &mut store::Conn, id: &str) -> store::Result<()> {
        query("delete from settings where name = $1 or name = $2").bind(id).bind(wish(id)).execute(conn).await?;
        Ok(())
    }
}

fn wish(id: &str) -> String {
    format!("{id}/deleted")
}
