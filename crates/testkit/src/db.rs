//! A database of its own for each test.

use std::{
    fmt,
    future::Future,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use model::{Clock, Timestamp};
use sqlx::{Connection, Executor, postgres::PgConnection};
use store::Db;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::postgres::Server;

/// Selects the databases that tests run on: `sqlite`, `postgres`, or both when it is not set.
const SELECT: &str = "NACRE_TEST_DB";
const TEMPLATE: &str = "nacre_template";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file in a temporary folder.
    Sqlite,
    /// A database of the server that this process started.
    Postgres,
}

impl Kind {
    /// Those that the environment selects.
    pub fn selected() -> Vec<Self> {
        match std::env::var(SELECT).as_deref() {
            Err(_) | Ok("") => vec![Self::Sqlite, Self::Postgres],
            Ok("sqlite") => vec![Self::Sqlite],
            Ok("postgres") => vec![Self::Postgres],
            Ok(other) => panic!("{SELECT}={other}: sqlite or postgres"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// A migrated, empty database, used like the [`Db`] that it holds. It is gone when this is dropped.
pub struct TestDb {
    db: Db,
    kind: Kind,
    url: String,
    _folder: Option<TempDir>,
}

impl TestDb {
    /// A new one.
    pub async fn new(kind: Kind, clock: Clock) -> Self {
        let (url, folder) = match kind {
            Kind::Sqlite => sqlite().await,
            Kind::Postgres => (postgres().await, None),
        };
        let db = Db::connect(&url, clock).await.unwrap();
        Self { db, kind, url, _folder: folder }
    }

    /// A SQLite one with a [`virtual_clock`].
    pub async fn sqlite() -> Self {
        Self::new(Kind::Sqlite, virtual_clock()).await
    }

    /// A PostgreSQL one with a [`virtual_clock`].
    pub async fn postgres() -> Self {
        Self::new(Kind::Postgres, virtual_clock()).await
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same database as another server sees it: connections and notifications of its own, the same clock.
    pub async fn reconnect(&self) -> Db {
        Db::connect(&self.url, self.db.clock().clone()).await.unwrap()
    }
}

impl Deref for TestDb {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

/// A clock that stands at noon of 2026-01-01 until the test moves it.
pub fn virtual_clock() -> Clock {
    Clock::fixed_at(Timestamp(1_767_268_800_000_000))
}

/// Runs the test on every selected database, one after the other, each time with a clock from `clock`
/// ([`virtual_clock`] or [`Clock::system`]).
pub async fn for_each_db<F: Future<Output = ()>>(clock: fn() -> Clock, test: impl Fn(TestDb) -> F) {
    for kind in Kind::selected() {
        println!("on {kind}");
        test(TestDb::new(kind, clock()).await).await;
    }
}

/// A file copied from one that was migrated once.
async fn sqlite() -> (String, Option<TempDir>) {
    static TEMPLATE_FILE: OnceCell<Vec<u8>> = OnceCell::const_new();
    let make = || async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("template.db");
        let db = Db::connect(&format!("sqlite:{}", file.display()), virtual_clock()).await.unwrap();
        db.migrate().await.unwrap();
        // The last connection to go writes everything into the file.
        db.close().await;
        std::fs::read(file).unwrap()
    };
    let template = TEMPLATE_FILE.get_or_init(make).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nacre.db");
    std::fs::write(&file, template).unwrap();
    (format!("sqlite:{}", file.display()), Some(folder))
}

/// A database copied from one that was migrated once, on the server of this process.
async fn postgres() -> String {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let make = || async {
        let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
        administer(&server, format!("create database {TEMPLATE}")).await;
        let db = Db::connect(&server.url(TEMPLATE), virtual_clock()).await.unwrap();
        db.migrate().await.unwrap();
        db.close().await;
        server
    };
    let server = SERVER.get_or_init(make).await;
    let name = format!("test_{}", COUNT.fetch_add(1, Relaxed));
    administer(server, format!("create database {name} template {TEMPLATE} strategy file_copy")).await;
    server.url(&name)
}

async fn administer(server: &Server, statement: String) {
    let mut conn = PgConnection::connect(&server.url("postgres")).await.unwrap();
    conn.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    conn.close().await.unwrap();
}
