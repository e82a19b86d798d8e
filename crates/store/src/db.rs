//! Connections and transactions.

use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
    time::Duration,
};

use model::Clock;
use sqlx::{Any, Executor, any::AnyPoolOptions, pool::PoolConnection};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{Dialect, Error, Result, flows, migrate};

/// A connection as every query function takes it: `&mut *tx` or `&mut *reader`.
pub type Conn = sqlx::AnyConnection;

/// Readers of a SQLite database, and connections to a PostgreSQL one.
const READERS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long a request waits for a connection before it is told to try again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// The PostgreSQL channel on which servers tell each other that a flow is due.
const WAKE_CHANNEL: &str = "nacre_flows";

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
    /// PostgreSQL: the task that hears of other servers' wakes, from the first [`Db::flows_due`] on.
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
        Ok(Self(Arc::new(Inner { dialect, writer, reader, clock, url, flows_due, listener })))
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
        Ok(Tx { inner, db: self.clone(), flows_due: false, wakes: BTreeSet::new() })
    }

    /// Returns when a flow may have become due: here, or on another server over PostgreSQL.
    pub async fn flows_due(&self) {
        if self.0.dialect == Dialect::Postgres {
            let forward = || tokio::spawn(forward_wakes(self.0.url.clone(), Arc::downgrade(&self.0))).abort_handle();
            self.0.listener.get_or_init(forward);
        }
        self.0.flows_due.notified().await;
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

    /// Makes it all true, then wakes the flow engine where a flow became due.
    pub async fn commit(mut self) -> Result<()> {
        flows::flush_wakes(&mut self, None).await?;
        if self.flows_due && self.db.dialect() == Dialect::Postgres {
            // Delivered by the server when the transaction commits, to every other control plane too.
            sqlx::query("select pg_notify($1, '')").bind(WAKE_CHANNEL).execute(&mut *self.inner).await?;
        }
        self.inner.commit().await?;
        if self.flows_due {
            self.db.0.flows_due.notify_one();
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
            && listener.listen(WAKE_CHANNEL).await.is_ok()
        {
            // Once before the first: a wake may have come while nobody listened.
            loop {
                match db.upgrade() {
                    Some(db) => db.flows_due.notify_one(),
                    None => return,
                }
                if listener.try_recv().await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
