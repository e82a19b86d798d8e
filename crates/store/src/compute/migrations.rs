//! Table `server_migrations`: resizes, as administrators list them.

use model::{
    Timestamp,
    id::{FlavorId, ProjectId, ServerId},
};

use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select, SortKey, Type},
    query,
};

/// A resize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// As Nova shows it.
    pub number: i64,
    /// A UUID.
    pub id: String,
    /// The server.
    pub server_id: ServerId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Who asked for it.
    pub user_id: String,
    /// `resize`.
    pub kind: String,
    /// `migrating`, `finished`, `confirmed`, `reverted`, `error`.
    pub status: String,
    /// The host.
    pub host: String,
    /// The flavor before.
    pub old_flavor_id: FlavorId,
    /// The flavor asked for.
    pub new_flavor_id: FlavorId,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Migration> {
    Ok(Migration {
        number: row.int("number")?,
        id: row.text("id")?,
        server_id: row.id("server_id")?,
        project_id: row.id("project_id")?,
        user_id: row.text("user_id")?,
        kind: row.text("kind")?,
        status: row.text("status")?,
        host: row.text("host")?,
        old_flavor_id: row.id("old_flavor_id")?,
        new_flavor_id: row.id("new_flavor_id")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// The order of lists.
pub const BY_CREATION: SortKey = SortKey { name: "created_at", sql: "m.created_at", kind: Type::Int };

/// All of them, for filters.
pub fn select() -> Select {
    Select::new("select m.* from server_migrations m", "server_migrations m", "m.id")
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Migration>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// Adds one under the next number; its own is not looked at.
pub async fn insert(tx: &mut Tx, migration: &Migration) -> Result<()> {
    query(
        "insert into server_migrations (number, id, server_id, project_id, user_id, kind, status, host, old_flavor_id, \
         new_flavor_id, created_at, updated_at) select coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, \
         cast($10 as bigint), cast($10 as bigint) from server_migrations",
    )
    .bind(migration.id.as_str())
    .bind(migration.server_id.as_str())
    .bind(migration.project_id.as_str())
    .bind(migration.user_id.as_str())
    .bind(migration.kind.as_str())
    .bind(migration.status.as_str())
    .bind(migration.host.as_str())
    .bind(migration.old_flavor_id.as_str())
    .bind(migration.new_flavor_id.as_str())
    .bind(migration.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says how the server's last one stands, unless it is over.
pub async fn set_status(tx: &mut Tx, server: &ServerId, status: &str) -> Result<()> {
    let now = tx.now();
    query(
        "update server_migrations set status = $2, updated_at = $3 \
         where server_id = $1 and status not in ('confirmed', 'reverted', 'error')",
    )
    .bind(server.as_str())
    .bind(status)
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
