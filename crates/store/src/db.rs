//! Connections and transactions.

use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
    time::Duration,
};

use model::Clock;
use sqlx::{Any, Executor, any::AnyPoolOptions, pool::PoolConnection};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    Dialect, Error, Result,
    audit::{self, Entry, Outcome},
    events, flows, idempotency, migrate,
    request::{self, Request},
};

/// A connection as every query function takes it: `&mut *tx` or `&mut *reader`.
pub type Conn = sqlx::AnyConnection;

/// Readers of a SQLite database, and connections to a PostgreSQL one.
const READERS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long a request waits for a connection before it is told to try again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// The PostgreSQL channel on which servers tell each other that a flow is due.
const WAKE_CHANNEL: &str = "nacre_flows";
/// The one on which they tell each other that events have been sealed.
const SEALED_CHANNEL: &str = "nacre_events";

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    dialect: Dialect,
    writer: sqlx::Pool<Any>,
    reader: sqlx::Pool<Any>,
    clock: Clock,
    url: String,
    flows_due: Notify,
    /// Something was committed that wants sealing.
    journal_due: Notify,
    /// Counts batches of events that were sealed, here or elsewhere.
    sealed: watch::Sender<u64>,
    /// PostgreSQL: the task that hears of other servers' wakes, from the first time on that somebody wants to.
    listener: OnceLock<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

impl Db {
    /// Opens the database behind `sqlite:PATH` or `postgres://...`; creates the file where there is none.
    /// Tables are left alone: see [`Db::migrate`].
    pub async fn connect(url: &str, clock: Clock) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url)
            .ok_or_else(|| Error::Migration(format!("{url:?} is neither sqlite:PATH nor postgres://...")))?;
        let pool = |size: u32| {
            AnyPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT).after_connect(
                move |conn, _| {
                    Box::pin(async move {
                        for statement in dialect.session() {
                            conn.execute(*statement).await?;
                        }
                        Ok(())
                    })
                },
            )
        };
        let (writer, reader) = match dialect {
            Dialect::Sqlite => {
                let url = if url.contains('?') { url.to_owned() } else { format!("{url}?mode=rwc") };
                // The writer first: it creates the file and switches it to WAL.
                let writer = pool(1).connect(&url).await?;
                (writer, pool(READERS_MAX).connect(&url).await?)
            }
            Dialect::Postgres => {
                let both = pool(POSTGRES_CONNECTIONS_MAX).connect(url).await?;
                (both.clone(), both)
            }
        };
        let (url, flows_due, listener) = (url.to_owned(), Notify::new(), OnceLock::new());
        let (journal_due, sealed) = (Notify::new(), watch::Sender::new(0));
        Ok(Self(Arc::new(Inner { dialect, writer, reader, clock, url, flows_due, journal_due, sealed, listener })))
    }

    /// Brings the tables up to date. Safe to call from several servers at once.
    pub async fn migrate(&self) -> Result<()> {
        migrate::run(self).await
    }

    /// The control plane's clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// A connection for reading. What it reads is what was committed when each statement began.
    pub async fn read(&self) -> Result<Reader> {
        Ok(self.0.reader.acquire().await?)
    }

    /// A write transaction. Dropped without [`Tx::commit`], it is rolled back.
    pub async fn begin(&self) -> Result<Tx> {
        let inner = self.0.writer.begin_with(self.0.dialect.begin()).await?;
        Ok(Tx {
            inner,
            db: self.clone(),
            flows_due: false,
            written: false,
            sealed: false,
            wakes: BTreeSet::new(),
            notes: events::Notes::default(),
            request: request::current(),
        })
    }

    /// Returns when a flow may have become due: here, or on another server over PostgreSQL.
    pub async fn flows_due(&self) {
        self.listen();
        self.0.flows_due.notified().await;
    }

    /// Returns when something was committed here that wants sealing.
    pub async fn journal_due(&self) {
        self.0.journal_due.notified().await;
    }

    /// Changes whenever events have been sealed, here or on another server over PostgreSQL.
    pub fn events_sealed(&self) -> watch::Receiver<u64> {
        self.listen();
        self.0.sealed.subscribe()
    }

    /// PostgreSQL: hears other servers from now on.
    fn listen(&self) {
        if self.0.dialect == Dialect::Postgres {
            let forward = || tokio::spawn(forward_wakes(self.0.url.clone(), Arc::downgrade(&self.0))).abort_handle();
            self.0.listener.get_or_init(forward);
        }
    }

    /// Closes all connections; what is under way ends first.
    pub async fn close(&self) {
        self.0.reader.close().await;
        self.0.writer.close().await;
    }
}

/// A pooled connection for reading.
pub type Reader = PoolConnection<Any>;

/// A write transaction.
pub struct Tx {
    inner: sqlx::Transaction<'static, Any>,
    db: Db,
    flows_due: bool,
    /// It has rows that want sealing.
    written: bool,
    /// It gives events their places.
    sealed: bool,
    /// Resources that it changes; written last but for the wakes.
    pub(crate) notes: events::Notes,
    /// The request that it serves.
    request: Option<Arc<Request>>,
    /// Flows to wake when this commits; written last and in order of their ids, so that no two transactions deadlock.
    pub(crate) wakes: BTreeSet<String>,
}

impl Tx {
    /// The database that this transaction belongs to.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The present moment by the control plane's clock.
    pub fn now(&self) -> model::Timestamp {
        self.db.clock().now()
    }

    /// Notes that a flow becomes due by this transaction; the engine hears of it when it commits.
    pub(crate) fn flow_due(&mut self) {
        self.flows_due = true;
    }

    /// Notes that it has rows that want sealing.
    pub(crate) fn note_written(&mut self) {
        self.written = true;
    }

    /// Notes that it gives events their places.
    pub(crate) fn note_sealed(&mut self) {
        self.sealed = true;
    }

    /// The request that it serves; none in flows and sweeps.
    pub fn request(&self) -> Option<&Arc<Request>> {
        self.request.as_ref()
    }

    /// What it changes is bookkeeping about the request (a login that failed), not what the request asks for: no audit entry
    /// comes of it.
    pub fn aside(&mut self) {
        self.request = None;
    }

    /// Makes it all true, events and audit entry included, then wakes who waits for it.
    pub async fn commit(mut self) -> Result<()> {
        let audited = self.write_entry().await?;
        self.write_events().await?;
        flows::flush_wakes(&mut self, None).await?;
        self.notify_others().await?;
        self.inner.commit().await?;
        if let Some(request) = audited {
            request.note_commit();
        }
        if self.flows_due {
            self.db.0.flows_due.notify_one();
        }
        if self.written {
            self.db.0.journal_due.notify_one();
        }
        if self.sealed {
            self.db.0.sealed.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// The audit entry of the request, with its first commit.
    async fn write_entry(&mut self) -> Result<Option<Arc<Request>>> {
        let Some(request) = self.request.clone().filter(|request| request.wants_entry()) else { return Ok(None) };
        let mut facts = request.facts();
        if let Some((kind, id)) = self.notes.find(&facts.target_id) {
            (facts.target_type, facts.target_id) = (kind.to_owned(), id.to_owned());
        }
        audit::insert(self, &Entry::of(facts, Outcome::Success, 0, "")).await?;
        if let Some(claim) = request.claimed() {
            match idempotency::insert(self, claim).await {
                Err(error) if error.is_unique_violation() => return Err(Error::KeyTaken),
                other => other?,
            }
        }
        Ok(Some(request))
    }

    async fn write_events(&mut self) -> Result<()> {
        if self.notes.is_empty() {
            return Ok(());
        }
        self.written = true;
        let request_id = self.request.as_ref().map(|request| request.facts().id).unwrap_or_default();
        events::flush(self, &request_id).await
    }

    /// Delivered by PostgreSQL when the transaction commits, to every other control plane too.
    async fn notify_others(&mut self) -> Result<()> {
        if self.db.dialect() == Dialect::Postgres {
            for channel in [(self.flows_due, WAKE_CHANNEL), (self.sealed, SEALED_CHANNEL)] {
                if channel.0 {
                    sqlx::query("select pg_notify($1, '')").bind(channel.1).execute(&mut *self.inner).await?;
                }
            }
        }
        Ok(())
    }

    /// Undoes it all.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }
}

impl Deref for Tx {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.inner
    }
}

/// Turns PostgreSQL's notifications into local ones, for as long as the database is in use. A lost connection is
/// opened again; what was missed meanwhile the engine's own timer finds.
async fn forward_wakes(url: String, db: std::sync::Weak<Inner>) {
    while db.strong_count() > 0 {
        if let Ok(mut listener) = sqlx::postgres::PgListener::connect(&url).await
            && listener.listen_all([WAKE_CHANNEL, SEALED_CHANNEL]).await.is_ok()
        {
            // Both before the first: something may have come while nobody listened.
            let mut heard = vec![WAKE_CHANNEL.to_owned(), SEALED_CHANNEL.to_owned()];
            loop {
                let Some(db) = db.upgrade() else { return };
                for channel in heard.drain(..) {
                    match channel.as_str() {
                        WAKE_CHANNEL => db.flows_due.notify_one(),
                        _ => db.sealed.send_modify(|count| *count = count.wrapping_add(1)),
                    }
                }
                drop(db);
                match listener.try_recv().await {
                    Ok(Some(notification)) => heard.push(notification.channel().to_owned()),
                    // The connection was lost and is there again.
                    Ok(None) => heard.extend([WAKE_CHANNEL.to_owned(), SEALED_CHANNEL.to_owned()]),
                    Err(_) => break,
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
