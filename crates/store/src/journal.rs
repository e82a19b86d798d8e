//! Sealing: committed rows of `events` and `audit` get their places, one after the other, and entries their hashes.
//!
//! Writers never wait for each other over the order: they insert, and [`seal`] numbers what is committed, in the order of
//! insertion, under the lock of the journal's head. Any number of servers may do it; each does after its own commits, and
//! once a second for those of a server that died in between. Until then, some milliseconds, a row has no place: nobody
//! is shown it.

use std::time::Duration;

use model::Timestamp;
use sqlx::AssertSqlSafe;

use crate::{Db, Result, Row, RowExt, Tx, audit, events, idempotency, query};

/// The journal of state changes.
pub(crate) const EVENTS: &str = "events";
/// The journal of requests.
pub(crate) const AUDIT: &str = "audit";
/// Rows sealed by one transaction.
const BATCH: i64 = 500;
/// How often a server looks for rows that another one did not live to seal.
const GUARD: Duration = Duration::from_secs(1);
/// How long it stays away from a database that answers with errors.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what is old is removed, and how much at a time.
const PRUNE_INTERVAL: Duration = Duration::from_secs(300);
const PRUNE_BATCH: i64 = 2_000;
const PRUNE_BATCHES_MAX: usize = 500;

/// How long what happened is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Events: how long a follower may be away.
    pub events: Duration,
    /// Audit entries.
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { events: DAY * 7, audit: DAY * 365 }
    }
}

/// Where a journal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest place given.
    pub seq: i64,
    /// The newest entry's hash (audit).
    pub hash: String,
    /// The newest place that retention has removed.
    pub tail_seq: i64,
    /// That entry's hash (audit).
    pub tail_hash: String,
}

impl Head {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            seq: row.int("seq")?,
            hash: row.text("hash")?,
            tail_seq: row.int("tail_seq")?,
            tail_hash: row.text("tail_hash")?,
        })
    }
}

/// Where a journal stands: `events` or `audit`.
pub(crate) async fn head(conn: &mut crate::Conn, name: &str) -> Result<Head> {
    let row = query("select seq, hash, tail_seq, tail_hash from journal_heads where name = $1").bind(name);
    Head::from_row(&row.fetch_one(conn).await?)
}

/// The same, keeping other servers from sealing until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, name: &str) -> Result<Head> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select seq, hash, tail_seq, tail_hash from journal_heads where name = $1{lock}");
    Head::from_row(&query(AssertSqlSafe(sql)).bind(name).fetch_one(&mut **tx).await?)
}

pub(crate) async fn set_tail(tx: &mut Tx, name: &str, seq: i64, hash: &str) -> Result<()> {
    query("update journal_heads set tail_seq = $2, tail_hash = $3 where name = $1")
        .bind(name)
        .bind(seq)
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn set_head(tx: &mut Tx, name: &str, seq: i64, hash: &str) -> Result<()> {
    query("update journal_heads set seq = $2, hash = $3 where name = $1")
        .bind(name)
        .bind(seq)
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether anything waits for its place.
async fn is_due(db: &Db) -> Result<bool> {
    let row = query(
        "select (select count(*) from (select 1 from events where seq is null limit 1) e) \
         + (select count(*) from (select 1 from audit where seq is null limit 1) a) as due",
    )
    .fetch_one(&mut *db.read().await?)
    .await?;
    Ok(row.int("due")? > 0)
}

/// Gives places to everything that is committed by now. How many rows.
pub async fn seal(db: &Db) -> Result<u64> {
    let mut sealed = 0;
    while is_due(db).await? {
        let mut tx = db.begin().await?;
        let (events, audited) = (seal_events(&mut tx).await?, seal_audit(&mut tx).await?);
        if events > 0 {
            tx.note_sealed();
        }
        tx.commit().await?;
        if events + audited == 0 {
            // Another server was faster.
            break;
        }
        sealed += events + audited;
    }
    Ok(sealed)
}

async fn seal_events(tx: &mut Tx) -> Result<u64> {
    let (head, place) = (lock(tx, EVENTS).await?, tx.db().dialect().insertion());
    let sql = format!(
        "update events set seq = n.seq from (\
         select {place} as place, $1 + row_number() over (order by {place}) as seq from events where seq is null \
         order by {place} limit {BATCH}) n where events.{place} = n.place"
    );
    let sealed = query(AssertSqlSafe(sql)).bind(head.seq).execute(&mut **tx).await?.rows_affected();
    if sealed > 0 {
        set_head(tx, EVENTS, head.seq + i64::try_from(sealed).unwrap_or(0), "").await?;
    }
    Ok(sealed)
}

async fn seal_audit(tx: &mut Tx) -> Result<u64> {
    let head = lock(tx, AUDIT).await?;
    let (sealed, hash) = audit::seal(tx, &head, BATCH).await?;
    if sealed > 0 {
        set_head(tx, AUDIT, head.seq + i64::try_from(sealed).unwrap_or(0), &hash).await?;
    }
    Ok(sealed)
}

/// Seals what this server commits, for as long as it is polled, and removes what is older than it has to be kept.
pub async fn keep(db: &Db, retention: Retention) {
    let mut pruned_at = Timestamp(0);
    loop {
        let now = db.clock().now();
        let mut work = seal(db).await.map(drop);
        if work.is_ok() && now.since(pruned_at) >= PRUNE_INTERVAL {
            pruned_at = now;
            work = prune(db, retention).await;
        }
        if let Err(error) = work {
            tracing::error!(%error, "the journal could not be sealed or pruned");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        // Out of time or woken: the same is to be done.
        let _ = tokio::time::timeout(GUARD, db.journal_due()).await;
    }
}

/// Removes what is older than it has to be kept, in short transactions.
pub async fn prune(db: &Db, retention: Retention) -> Result<()> {
    let now = db.clock().now();
    for _ in 0..PRUNE_BATCHES_MAX {
        let mut tx = db.begin().await?;
        let mut gone = events::prune(&mut tx, now - retention.events, PRUNE_BATCH).await?;
        gone += audit::prune(&mut tx, now - retention.audit, PRUNE_BATCH).await?;
        gone += idempotency::prune(&mut tx, now).await?;
        tx.commit().await?;
        if gone == 0 {
            break;
        }
    }
    Ok(())
}
