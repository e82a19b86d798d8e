//! The one machine that all resources of the network share: it brings OVN to what a row says.
//!
//! ```text
//! realize ──> (idle: OVN holds the row's revision) ──woken──> realize
//!    │  └───> (waits for what it refers to, or for OVN)
//!    └ deleted ──> remove ──> done: the row is gone
//! ```
//!
//! A row's flow lives as long as the row. Whoever changes a row, or something that goes into OVN with it, wakes the
//! flow. A change that OVN refuses shows as status `ERROR` and is tried again; one that can't reach OVN is tried again
//! with growing pauses and shows nothing: what OVN has already forwards on.

use std::{sync::Arc, time::Duration};

use drivers::network::{NetworkError, Northbound};
use flow::{BoxFuture, DONE, Done, Flow, Machine, Next, StepCx, StepInfo};
use model::{Error, Result};
use store::{
    Conn, Tx,
    network::{
        Meta,
        rows::{self, Table},
    },
};

/// How long a resource waits before it looks itself for what should have woken it.
const DEPENDENCY_GUARD: Duration = Duration::from_secs(10);
/// How long a refused change rests. A refusal is a defect or a broken OVN: trying faster only fills logs.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The steps of every resource.
pub(crate) const STEPS: &[StepInfo] = &[
    StepInfo::new("realize", "makes OVN hold what the row says, then rests", &["remove", DONE]),
    StepInfo::new("remove", "removes it from OVN, then the row", &[DONE]),
];

/// What an attempt led to.
pub(crate) enum Outcome {
    /// OVN holds it.
    Realized,
    /// Something that it refers to is not in OVN yet, and will wake it.
    Waits(String),
    /// OVN can't take it so.
    Refused(String),
    /// Another flow realizes it from now on.
    HandedOver,
}

impl Outcome {
    /// From what the driver said.
    ///
    /// # Errors
    /// Where trying again soon may help.
    pub(crate) fn of(result: drivers::network::Result<()>) -> Result<Self> {
        match result {
            Ok(()) => Ok(Self::Realized),
            Err(error @ (NetworkError::Unavailable { .. } | NetworkError::Missing { .. })) => Err(Error::from(error)),
            Err(error) => Ok(Self::Refused(error.to_string())),
        }
    }
}

/// What differs between resources.
pub(crate) trait Resource: Send + Sync + 'static {
    /// A row with all that belongs to it.
    type Row: Send + Sync;

    /// The kind of its flows.
    const KIND: &'static str;
    /// Its table.
    const TABLE: Table;

    /// The row, also one that is to go.
    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<Self::Row>>>;

    /// What all tables have.
    fn meta(row: &Self::Row) -> &Meta;

    /// The one outside call. Reads what else goes into it.
    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a Self::Row) -> BoxFuture<'a, Result<Outcome>>;

    /// Records that OVN holds the row, and wakes what waited for that.
    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a Self::Row) -> BoxFuture<'a, Result<()>>;

    /// The outside call that removes it.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>>;
}

/// The machine of one resource.
pub(crate) struct Realizer<R>(pub(crate) R);

impl<R: Resource> Machine for Realizer<R> {
    fn kind(&self) -> &'static str {
        R::KIND
    }

    fn steps(&self) -> &'static [StepInfo] {
        STEPS
    }

    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            match flow.step.as_str() {
                "remove" => self.remove(cx, flow).await,
                _ => self.realize(cx, flow).await,
            }
        })
    }

    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        // Nothing here has a deadline: a row stays what it is until OVN has it.
        self.run(cx, flow)
    }
}

impl<R: Resource> Realizer<R> {
    async fn realize(&self, cx: &StepCx, flow: &Flow) -> Result<Done> {
        let row = R::find(&mut *cx.db().read().await?, flow.id.as_str()).await?;
        let Some(row) = row else { return cx.go(Next::done()).await };
        if R::meta(&row).deleted {
            return cx.go(Next::step("remove")).await;
        }
        match self.0.realize(cx, &row).await? {
            Outcome::Realized => {
                let mut tx = cx.begin().await?;
                self.0.realized(&mut tx, &row).await?;
                cx.finish(tx, Next::idle("OVN holds it")).await
            }
            Outcome::HandedOver => {
                let mut tx = cx.begin().await?;
                self.0.realized(&mut tx, &row).await?;
                cx.finish(tx, Next::done()).await
            }
            Outcome::Waits(reason) => cx.go(Next::wait(reason).for_(DEPENDENCY_GUARD)).await,
            Outcome::Refused(why) => {
                tracing::error!(kind = R::KIND, id = %flow.id, why, "OVN refused a change");
                let mut tx = cx.begin().await?;
                if !matches!(R::TABLE, Table::Subnets | Table::SecurityGroups) {
                    rows::set_status(&mut tx, R::TABLE, flow.id.as_str(), "ERROR").await?;
                }
                cx.finish(tx, Next::wait(format!("OVN refused it: {why}")).for_(REFUSED_PAUSE)).await
            }
        }
    }

    async fn remove(&self, cx: &StepCx, flow: &Flow) -> Result<Done> {
        self.0.remove(flow.id.as_str()).await?;
        let mut tx = cx.begin().await?;
        rows::purge(&mut tx, R::TABLE, flow.id.as_str()).await?;
        cx.finish(tx, Next::done()).await
    }
}

/// Where networks are written, shared by all machines.
pub(crate) type Engine = Arc<dyn Northbound>;
