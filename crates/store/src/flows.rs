//! Table `flows`: durable work, one row per resource that something is still to be done about.
//!
//! The engine (crate `flow`) claims rows that are due under a lease, runs a step and advances the row; services insert
//! rows beside their resources and [`wake`] them. Three rules make it safe, and all three live in this file:
//!
//! - **A lease token decides who may commit.** [`advance`], [`fail`] and [`finish`] change a row only while it still
//!   carries the caller's token: a worker that was overtaken finds no row.
//! - **No wake is lost.** [`wake`] counts. A claim remembers the count; whoever puts the row to sleep later than a wake
//!   it has not seen leaves it due at once instead.
//! - **Rows of `flows` are locked in the order of their ids**, so that two steps that wake each other's flow can't
//!   deadlock on PostgreSQL. Wakes are therefore gathered in the transaction and written when it ends.

use std::time::Duration;

use model::{Timestamp, id::FlowId};
use sqlx::AssertSqlSafe;

use crate::{
    Conn, Db, Dialect, Result, Row, RowExt, Tx,
    list::{Direction, Page, Select, SortKey, Type},
    query,
};

/// The moment that never comes: `run_at` of a flow that only a wake makes due.
pub const NEVER: Timestamp = Timestamp(i64::MAX);
/// Wakes written by one statement.
const WAKES_PER_STATEMENT: usize = 200;
/// Longest error text that is kept, in characters.
const ERROR_CHARS_MAX: usize = 2000;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The resource's own id.
    pub id: FlowId,
    /// Which machine runs it.
    pub kind: String,
    /// The step that runs next, or is running.
    pub step: String,
    /// Small notes of the machine to itself.
    pub data: serde_json::Value,
    /// When it is due; [`NEVER`] when only a wake makes it so. While a lease is held: when that lease ends.
    pub run_at: Timestamp,
    /// The token of the worker that holds it.
    pub lease: Option<String>,
    /// When the lease ends.
    pub lease_until: Timestamp,
    /// Failures of this step in a row.
    pub attempts: i64,
    /// How often it was woken, ever.
    pub wakes: i64,
    /// What the deadline belongs to; empty without one.
    pub phase: String,
    /// When the phase must have ended.
    pub deadline: Option<Timestamp>,
    /// What it waits for, for people.
    pub reason: String,
    /// Why the step failed the last time; empty after a success.
    pub last_error: String,
    /// When the flow began.
    pub created_at: Timestamp,
    /// Since when it has been in this step.
    pub step_since: Timestamp,
}

impl Flow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            kind: row.text("kind")?,
            step: row.text("step")?,
            // Lenient: a claim that fails on one row's notes would stop every other flow.
            data: serde_json::from_str(&row.text("data")?).unwrap_or_default(),
            run_at: row.time("run_at")?,
            lease: row.opt_text("lease")?,
            lease_until: row.time("lease_until")?,
            attempts: row.int("attempts")?,
            wakes: row.int("wakes")?,
            phase: row.text("phase")?,
            deadline: row.opt_time("deadline")?,
            reason: row.text("reason")?,
            last_error: row.text("last_error")?,
            created_at: row.time("created_at")?,
            step_since: row.time("step_since")?,
        })
    }

    /// Whether a worker holds it at that moment.
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.is_some() && self.lease_until > now
    }
}

/// A stretch of a flow's life that must end in time, whatever steps it takes.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Its name: `build`, `delete`...
    pub name: &'static str,
    /// How long it may take.
    pub within: Duration,
}

/// Inserts a flow that is due at once, in the transaction that inserts its resource. Give it the phase it starts in:
/// without one, a first step that keeps failing is repeated for ever.
pub async fn insert(
    tx: &mut Tx,
    id: impl AsRef<str>,
    kind: &str,
    first_step: &str,
    phase: Option<Phase>,
) -> Result<()> {
    insert_with(tx, id.as_ref(), kind, first_step, phase, "").await
}

/// Inserts a flow unless there is one with this id: standing work such as sweeps, at each start of a server.
pub async fn ensure(tx: &mut Tx, id: impl AsRef<str>, kind: &str, first_step: &str) -> Result<()> {
    insert_with(tx, id.as_ref(), kind, first_step, None, " on conflict (id) do nothing").await
}

async fn insert_with(
    tx: &mut Tx,
    id: &str,
    kind: &str,
    first_step: &str,
    phase: Option<Phase>,
    on_conflict: &'static str,
) -> Result<()> {
    let now = tx.now();
    let sql = format!(
        "insert into flows (id, kind, step, run_at, phase, deadline, created_at, step_since) \
         values ($1, $2, $3, $4, $5, $6, $4, $4){on_conflict}"
    );
    query(AssertSqlSafe(sql))
        .bind(id)
        .bind(kind)
        .bind(first_step)
        .bind(now.0)
        .bind(phase.map_or("", |p| p.name))
        .bind(phase.map(|p| (now + p.within).0))
        .execute(&mut **tx)
        .await?;
    tx.flow_due();
    Ok(())
}

/// Makes the flow due when this transaction commits, also if it is running just then or backing off. A flow that does
/// not exist is nobody's loss: then there is nothing left to do.
pub fn wake(tx: &mut Tx, id: impl AsRef<str>) {
    tx.wakes.insert(id.as_ref().to_owned());
}

/// [`wake`] for many.
pub fn wake_many<I: AsRef<str>>(tx: &mut Tx, ids: impl IntoIterator<Item = I>) {
    tx.wakes.extend(ids.into_iter().map(|id| id.as_ref().to_owned()));
}

/// Writes the gathered wakes, all of them or those of ids before `below`.
pub(crate) async fn flush_wakes(tx: &mut Tx, below: Option<&str>) -> Result<()> {
    let rest = below.map_or_else(Default::default, |id| tx.wakes.split_off(id));
    let ids: Vec<String> = std::mem::replace(&mut tx.wakes, rest).into_iter().collect();
    let now = tx.now();
    let lock = tx.db().dialect().for_update();
    for ids in ids.chunks(WAKES_PER_STATEMENT) {
        let sql = format!(
            "with woken as materialized (select id from flows where id in ({}) order by id{lock}) \
             update flows set wakes = wakes + 1, run_at = case when run_at < $1 then run_at else $1 end \
             where id in (select id from woken)",
            places(2, ids.len())
        );
        let mut update = query(AssertSqlSafe(sql)).bind(now.0);
        for id in ids {
            update = update.bind(id.as_str());
        }
        if update.execute(&mut **tx).await?.rows_affected() > 0 {
            tx.flow_due();
        }
    }
    Ok(())
}

/// `$first, ...`: that many placeholders.
fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    places.join(", ")
}

/// What a worker claims with.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    /// A token of its own for each claim: even the same worker's older claim must not pass for this one.
    pub token: &'a str,
    /// When others may take over.
    pub until: Timestamp,
}

/// Takes up to `limit` flows of these kinds that are due and that nobody holds, the longest due first.
pub async fn claim_due(tx: &mut Tx, kinds: &[&str], limit: u32, lease: Lease<'_>) -> Result<Vec<Flow>> {
    if kinds.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let sql = claim_sql(kinds.len(), limit, tx.db().dialect());
    let mut claim = query(AssertSqlSafe(sql)).bind(tx.now().0).bind(lease.token).bind(lease.until.0);
    for kind in kinds {
        claim = claim.bind(*kind);
    }
    let mut flows: Vec<Flow> = claim.fetch_all(&mut **tx).await?.iter().map(Flow::from_row).collect::<Result<_>>()?;
    // What `returning` yields has no order.
    flows.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(flows)
}

fn claim_sql(kinds: usize, limit: u32, dialect: Dialect) -> String {
    format!(
        "with due as materialized (select id from flows where run_at <= $1 and lease_until <= $1 and {} \
         order by run_at, id limit {limit}{}) \
         update flows set lease = $2, lease_until = $3, run_at = $3 where id in (select id from due) returning *",
        of_kinds(4, kinds),
        dialect.skip_locked()
    )
}

/// The condition on the kind. The expression keeps SQLite off the index on kinds: nearly all flows have one of them,
/// and nearly none is due.
fn of_kinds(first: usize, count: usize) -> String {
    format!("kind || '' in ({})", places(first, count))
}

/// The flows that [`claim_due`] would take, the longest due first.
pub async fn due(conn: &mut Conn, kinds: &[&str], now: Timestamp, limit: u32) -> Result<Vec<FlowId>> {
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select id from flows where run_at <= $1 and lease_until <= $1 and {} \
         order by run_at, created_at, id limit {limit}",
        of_kinds(2, kinds.len())
    );
    let mut select = query(AssertSqlSafe(sql)).bind(now.0);
    for kind in kinds {
        select = select.bind(*kind);
    }
    select.fetch_all(conn).await?.iter().map(|row| row.id("id")).collect()
}

/// Takes this flow if it is due and nobody holds it.
pub async fn claim(tx: &mut Tx, id: &FlowId, lease: Lease<'_>) -> Result<Option<Flow>> {
    let row = query(
        "update flows set lease = $3, lease_until = $4, run_at = $4 \
         where id = $1 and run_at <= $2 and lease_until <= $2 returning *",
    )
    .bind(id.as_str())
    .bind(tx.now().0)
    .bind(lease.token)
    .bind(lease.until.0)
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(Flow::from_row).transpose()
}

/// When the next flow of these kinds is due, a lease that ends included; none when nothing is unless woken.
pub async fn next_due(conn: &mut Conn, kinds: &[&str], now: Timestamp) -> Result<Option<Timestamp>> {
    if kinds.is_empty() {
        return Ok(None);
    }
    let sql = next_due_sql(kinds.len());
    let mut select = query(AssertSqlSafe(sql)).bind(now.0);
    for kind in kinds {
        select = select.bind(*kind);
    }
    let at = select.fetch_one(conn).await?.opt_time("at")?;
    Ok(at.filter(|at| *at < NEVER))
}

fn next_due_sql(kinds: usize) -> String {
    // Two ways into the index on `run_at`: the few rows that are due or were woken while somebody holds them, and the
    // first one after them. (A claim moves `run_at` to the end of its lease.)
    let kind = of_kinds(2, kinds);
    format!(
        "select min(at) as at from (\
         select min(case when lease_until > run_at then lease_until else run_at end) as at from flows \
         where run_at <= $1 and {kind} union all \
         select min(run_at) as at from flows where run_at > $1 and {kind}) t"
    )
}

/// A flow as a worker holds it: what [`advance`], [`fail`] and [`finish`] check before they write.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The flow.
    pub id: &'a FlowId,
    /// The worker's token.
    pub token: &'a str,
    /// The step that it ran.
    pub step: &'a str,
    /// The count of wakes when it began.
    pub wakes: i64,
}

/// Whether the worker still holds the flow. Locks nothing: the write at the step's end decides.
pub async fn check_lease(conn: &mut Conn, held: Held<'_>) -> Result<bool> {
    let row = query("select 1 as held from flows where id = $1 and lease = $2")
        .bind(held.id.as_str())
        .bind(held.token)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// What a step leaves behind.
#[derive(Clone, Debug)]
pub struct Advance<'a> {
    /// The step that is next.
    pub step: &'a str,
    /// When; a wake that the step has not seen makes it at once.
    pub run_at: Timestamp,
    /// Until when the worker keeps the lease, to go on with the next step itself. None gives it back.
    pub keep_until: Option<Timestamp>,
    /// What the deadline belongs to; empty without one.
    pub phase: &'a str,
    /// When the phase must have ended.
    pub deadline: Option<Timestamp>,
    /// What it waits for.
    pub reason: &'a str,
    /// The machine's notes.
    pub data: &'a serde_json::Value,
}

/// Ends a step that succeeded. The count of wakes as of now; none when the lease is lost.
pub async fn advance(tx: &mut Tx, held: Held<'_>, to: &Advance<'_>) -> Result<Option<i64>> {
    flush_wakes(tx, Some(held.id.as_str())).await?;
    let now = tx.now();
    let row = query(
        "update flows set step = $4, data = $5, phase = $6, deadline = $7, reason = $8, attempts = 0, last_error = '', \
         run_at = case when wakes = $3 or $9 < $10 then $9 else $10 end, \
         lease = case when $11 > 0 then lease else null end, lease_until = $11, \
         step_since = case when step = $4 then step_since else $10 end \
         where id = $1 and lease = $2 returning wakes",
    )
    .bind(held.id.as_str())
    .bind(held.token)
    .bind(held.wakes)
    .bind(to.step)
    .bind(to.data.to_string())
    .bind(to.phase)
    .bind(to.deadline.map(|t| t.0))
    .bind(to.reason)
    .bind(to.keep_until.unwrap_or(to.run_at).0)
    .bind(now.0)
    .bind(to.keep_until.map_or(0, |t| t.0))
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let wakes = row.int("wakes")?;
    if to.keep_until.is_none() && (wakes != held.wakes || to.run_at <= now) {
        tx.flow_due();
    }
    Ok(Some(wakes))
}

/// Ends a step that failed: it is repeated at `run_at`, or at `run_at_if_woken` when a wake came that it has not seen.
/// When that will be; none when the lease is lost or the step was committed after all.
pub async fn fail(
    tx: &mut Tx,
    held: Held<'_>,
    error: &str,
    run_at: Timestamp,
    run_at_if_woken: Timestamp,
) -> Result<Option<Timestamp>> {
    let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
    let row = query(
        "update flows set attempts = attempts + 1, last_error = $5, lease = null, lease_until = 0, \
         run_at = case when wakes = $4 then $6 else $7 end \
         where id = $1 and lease = $2 and step = $3 returning run_at",
    )
    .bind(held.id.as_str())
    .bind(held.token)
    .bind(held.step)
    .bind(held.wakes)
    .bind(error)
    .bind(run_at.0)
    .bind(run_at_if_woken.0)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.time("run_at")).transpose()
}

/// How the end of a flow went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The row is gone.
    Yes,
    /// A wake came that the step has not seen: it must look again before it may end.
    Woken,
    /// Another worker holds the flow, or it is gone.
    LeaseLost,
}

/// Ends a flow: its row is deleted. On anything but [`Finished::Yes`] the caller must undo its transaction.
pub async fn finish(tx: &mut Tx, held: Held<'_>) -> Result<Finished> {
    flush_wakes(tx, Some(held.id.as_str())).await?;
    let deleted = query("delete from flows where id = $1 and lease = $2 and wakes = $3")
        .bind(held.id.as_str())
        .bind(held.token)
        .bind(held.wakes)
        .execute(&mut **tx)
        .await?;
    Ok(match deleted.rows_affected() {
        0 if check_lease(tx, held).await? => Finished::Woken,
        0 => Finished::LeaseLost,
        _ => Finished::Yes,
    })
}

/// Gives a claimed flow back untouched: a worker that stops before it began. It is due at once.
pub async fn release(tx: &mut Tx, held: Held<'_>) -> Result<()> {
    query("update flows set lease = null, lease_until = 0, run_at = $3 where id = $1 and lease = $2")
        .bind(held.id.as_str())
        .bind(held.token)
        .bind(tx.now().0)
        .execute(&mut **tx)
        .await?;
    tx.flow_due();
    Ok(())
}

/// One flow.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Flow>> {
    let row = query("select * from flows where id = $1").bind(id.as_ref()).fetch_optional(conn).await?;
    row.as_ref().map(Flow::from_row).transpose()
}

/// Which flows a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this step.
    pub step: Option<String>,
    /// Only those whose step failed the last time.
    pub failing: bool,
    /// Not those that wait for nothing but a wake, with no deadline: resources at rest.
    pub busy: bool,
}

/// The order of `nacre admin flows`: the oldest step first.
pub const BY_AGE: SortKey = SortKey { name: "step_since", sql: "f.step_since", kind: Type::Int };

/// A page of flows.
pub async fn list(conn: &mut Conn, filter: &Filter, page: &Page) -> Result<Vec<Flow>> {
    let mut select = Select::new("select f.* from flows f", "flows f", "f.id");
    if let Some(kind) = &filter.kind {
        select.equal("f.kind", kind.as_str());
    }
    if let Some(step) = &filter.step {
        select.equal("f.step", step.as_str());
    }
    if filter.failing {
        select.filter("f.attempts > ?", [0.into()]);
    }
    if filter.busy {
        select.filter("f.run_at < ?", [NEVER.0.into()]);
    }
    select.page(conn, page).await?.iter().map(Flow::from_row).collect()
}

/// The first page of a list, the oldest step first.
pub fn oldest_first() -> Page {
    Page::first(BY_AGE, Direction::Ascending)
}

/// How many flows there are by kind and step: for metrics and the doctor.
pub async fn counts(conn: &mut Conn) -> Result<Vec<(String, String, i64)>> {
    let rows = query("select kind, step, count(*) as n from flows group by kind, step order by kind, step")
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.text("kind")?, row.text("step")?, row.int("n")?))).collect()
}

/// Deletes a flow whoever holds it: for operators, and with a resource that is forgotten.
pub async fn delete(tx: &mut Tx, id: impl AsRef<str>) -> Result<bool> {
    let deleted = query("delete from flows where id = $1").bind(id.as_ref()).execute(&mut **tx).await?;
    Ok(deleted.rows_affected() > 0)
}

impl Db {
    /// One flow, on a connection of its own.
    pub async fn flow(&self, id: impl AsRef<str>) -> Result<Option<Flow>> {
        get(&mut *self.read().await?, id).await
    }
}

#[cfg(test)]
mod tests {
    use model::Clock;

    use super::*;

    /// A region has a million flows at rest: what the engine asks all the time must not look at them.
    #[tokio::test]
    async fn what_the_engine_asks_goes_through_the_index_on_due_times() {
        let db = Db::connect("sqlite::memory:", Clock::system()).await.unwrap();
        db.migrate().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for sql in [claim_sql(3, 32, Dialect::Sqlite), next_due_sql(3)] {
            let plan = query(AssertSqlSafe(format!("explain query plan {sql}"))).fetch_all(&mut *tx).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
            let lookups = plan.iter().filter(|line| line.contains(" flows"));
            for line in lookups {
                let (by_time, by_id) = (line.contains("flows_due (run_at"), line.contains("autoindex_flows_1 (id=?)"));
                assert!(line.starts_with("SEARCH") && (by_time || by_id), "{line} in {plan:#?}");
            }
        }
    }
}
