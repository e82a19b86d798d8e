//! Table `chassis`: hosts as OVN knows them, and so who may hold a router's gateway.

use model::Timestamp;

use crate::{Conn, Result, Row, RowExt, Tx, flows, query};

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chassis {
    /// The `system-id` of its Open vSwitch.
    pub name: String,
    /// Its host name.
    pub host: String,
    /// Whether its agent is connected.
    pub alive: bool,
    /// When it first joined.
    pub created_at: Timestamp,
    /// When that last changed.
    pub updated_at: Timestamp,
}

impl Chassis {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.text("name")?,
            host: row.text("host")?,
            alive: row.flag("alive")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

/// Every host.
pub async fn list(conn: &mut Conn) -> Result<Vec<Chassis>> {
    let rows = query("select * from chassis order by name").fetch_all(conn).await?;
    rows.iter().map(Chassis::from_row).collect()
}

/// Records that a host has joined (`alive`) or left. A host that was not known wakes every router with a gateway. One
/// that leaves stays a candidate: OVN itself moves the gateway to the next that answers.
pub async fn report(tx: &mut Tx, name: &str, host: &str, alive: bool) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    let known = query("update chassis set host = $2, alive = $3, updated_at = $4 where name = $1")
        .bind(name)
        .bind(host)
        .bind(i64::from(alive))
        .bind(now.0)
        .execute(&mut **tx)
        .await?
        .rows_affected()
        > 0;
    if known {
        return Ok(());
    }
    query(
        "insert into chassis (name, host, alive, created_at, updated_at) values ($1, $2, $3, $4, $4) \
         on conflict (name) do nothing",
    )
    .bind(name)
    .bind(host)
    .bind(i64::from(alive))
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    wake_gateways(tx).await
}

/// Forgets a host that will not come back.
pub async fn forget(tx: &mut Tx, name: &str) -> Result<()> {
    let gone = query("delete from chassis where name = $1").bind(name).execute(&mut **tx).await?;
    if gone.rows_affected() > 0 { wake_gateways(tx).await } else { Ok(()) }
}

async fn wake_gateways(tx: &mut Tx) -> Result<()> {
    let rows = query("select id from routers where external_network_id is not null").fetch_all(&mut **tx).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text("id")).collect::<Result<_>>()?;
    flows::wake_many(tx, ids);
    Ok(())
}
