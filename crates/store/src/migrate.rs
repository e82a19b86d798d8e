//! Migrations: numbered files, forward only, each readable by the release before it.
//!
//! A file serves both databases. Once released it never changes: its checksum is recorded and compared.

use sqlx::{AssertSqlSafe, Executor};

use crate::{Conn, Db, Dialect, Error, Result, RowExt, query};

/// A migration: its number and name, and its statements.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../migrations/", $name, ".sql")) }),*]
    };
}

/// In the order in which they run. Append only.
const MIGRATIONS: &[Migration] = migrations![
    "0001_core",
    "0002_identity",
    "0003_image",
    "0004_network",
    "0005_compute",
    "0010_identity_resources",
    "0020_user_security",
    "0021_delegation",
    "0030_federation",
    "0031_directory_gone",
    "0040_journal",
    "0041_idempotency",
    "0060_compute_wider",
    "0070_image_deliveries",
    "0071_metadefs",
    "0072_image_tasks",
    "0073_placement",
    "0080_network_addressing",
    "0081_network_breadth",
    "0082_network_qos_trunks_forwarding",
];

/// A number that all control planes agree on for PostgreSQL's advisory lock.
const MIGRATION_LOCK: i64 = 0x6e61_6372_6500;

pub(crate) async fn run(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    if db.dialect() == Dialect::Postgres {
        // Returns void, which the Any driver can't carry: cast it away.
        query("select pg_advisory_xact_lock($1)::text").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
    }
    tx.execute(
        "create table if not exists migrations (name text primary key, checksum text not null, at bigint not null)",
    )
    .await?;
    let now = tx.now();
    let done = applied(&mut tx).await?;
    for migration in MIGRATIONS {
        let checksum = checksum(migration.sql);
        match done.iter().find(|(name, _)| name == migration.name) {
            Some((_, recorded)) if *recorded == checksum => continue,
            Some(_) => return Err(Error::Migration(format!("{} has changed since it ran", migration.name))),
            None => {}
        }
        sqlx::raw_sql(AssertSqlSafe(migration.sql))
            .execute(&mut *tx)
            .await
            .map_err(|e| Error::Migration(format!("{}: {e}", migration.name)))?;
        query("insert into migrations (name, checksum, at) values ($1, $2, $3)")
            .bind(migration.name)
            .bind(checksum)
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
    }
    if let Some((name, _)) = done.iter().find(|(name, _)| MIGRATIONS.iter().all(|m| m.name != name)) {
        return Err(Error::Migration(format!(
            "the database has {name}, which this binary does not know: use a newer one"
        )));
    }
    tx.commit().await
}

async fn applied(conn: &mut Conn) -> Result<Vec<(String, String)>> {
    let rows = query("select name, checksum from migrations order by name").fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.text("checksum")?))).collect()
}

/// FNV-1a: it only has to tell an edited file from an unedited one, the same in every release.
fn checksum(sql: &str) -> String {
    let hash = sql
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
