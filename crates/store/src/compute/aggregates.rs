//! Tables `aggregates`, `aggregate_metadata`, `aggregate_hosts`: groups of hosts. An aggregate whose metadata has an
//! `availability_zone` puts its hosts into that zone.

use std::collections::BTreeMap;

use model::{Timestamp, id::HostId};

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// What names the zone in an aggregate's metadata.
pub const ZONE: &str = "availability_zone";

/// A group of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// As Nova shows it.
    pub number: i64,
    /// A UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its hosts by name.
    pub hosts: BTreeMap<String, HostId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Option<Timestamp>,
}

impl Aggregate {
    /// The zone that it puts its hosts into.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.get(ZONE).map(String::as_str)
    }
}

fn from_row(row: &Row) -> Result<Aggregate> {
    Ok(Aggregate {
        number: row.int("number")?,
        id: row.text("id")?,
        name: row.text("name")?,
        metadata: BTreeMap::new(),
        hosts: BTreeMap::new(),
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}

/// Every aggregate, by number.
pub async fn list(conn: &mut Conn) -> Result<Vec<Aggregate>> {
    let rows = query("select * from aggregates order by number").fetch_all(&mut *conn).await?;
    let mut all: BTreeMap<i64, Aggregate> = BTreeMap::new();
    for row in &rows {
        let aggregate = from_row(row)?;
        all.insert(aggregate.number, aggregate);
    }
    for row in &query("select * from aggregate_metadata").fetch_all(&mut *conn).await? {
        if let Some(aggregate) = all.get_mut(&row.int("number")?) {
            aggregate.metadata.insert(row.text("name")?, row.text("value")?);
        }
    }
    let members = query(
        "select ah.number, h.id, h.name from aggregate_hosts ah join hosts h on h.id = ah.host_id \
         where h.forgotten_at is null",
    );
    for row in &members.fetch_all(conn).await? {
        if let Some(aggregate) = all.get_mut(&row.int("number")?) {
            aggregate.hosts.insert(row.text("name")?, row.id("id")?);
        }
    }
    Ok(all.into_values().collect())
}

/// Adds an aggregate with its metadata; its number. A taken name is a unique violation.
pub async fn insert(tx: &mut Tx, aggregate: &Aggregate) -> Result<i64> {
    let row = query(
        "insert into aggregates (number, id, name, created_at) \
         select coalesce(max(number), 0) + 1, $1, $2, cast($3 as bigint) from aggregates returning number",
    )
    .bind(aggregate.id.as_str())
    .bind(aggregate.name.as_str())
    .bind(aggregate.created_at.0)
    .fetch_one(&mut **tx)
    .await?;
    let number = row.int("number")?;
    set_metadata(tx, number, &aggregate.metadata).await?;
    Ok(number)
}

/// Renames an aggregate. A taken name is a unique violation.
pub async fn rename(tx: &mut Tx, number: i64, name: &str) -> Result<()> {
    let now = tx.now();
    query("update aggregates set name = $2, updated_at = $3 where number = $1")
        .bind(number)
        .bind(name)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Replaces an aggregate's metadata.
pub async fn set_metadata(tx: &mut Tx, number: i64, metadata: &BTreeMap<String, String>) -> Result<()> {
    query("delete from aggregate_metadata where number = $1").bind(number).execute(&mut **tx).await?;
    for (name, value) in metadata {
        query("insert into aggregate_metadata (number, name, value) values ($1, $2, $3)")
            .bind(number)
            .bind(name.as_str())
            .bind(value.as_str())
            .execute(&mut **tx)
            .await?;
    }
    touch(tx, number).await
}

async fn touch(tx: &mut Tx, number: i64) -> Result<()> {
    let now = tx.now();
    query("update aggregates set updated_at = $2 where number = $1 and created_at < $2")
        .bind(number)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes an aggregate.
pub async fn delete(tx: &mut Tx, number: i64) -> Result<()> {
    query("delete from aggregates where number = $1").bind(number).execute(&mut **tx).await?;
    Ok(())
}

/// Puts a host into an aggregate.
pub async fn add_host(tx: &mut Tx, number: i64, host: &HostId) -> Result<()> {
    query("insert into aggregate_hosts (number, host_id) values ($1, $2)")
        .bind(number)
        .bind(host.as_str())
        .execute(&mut **tx)
        .await?;
    touch(tx, number).await
}

/// Takes a host out of an aggregate.
pub async fn remove_host(tx: &mut Tx, number: i64, host: &HostId) -> Result<()> {
    query("delete from aggregate_hosts where number = $1 and host_id = $2")
        .bind(number)
        .bind(host.as_str())
        .execute(&mut **tx)
        .await?;
    touch(tx, number).await
}

/// Puts a host into a zone, and its servers with it.
pub async fn set_zone(tx: &mut Tx, host: &HostId, zone: &str) -> Result<()> {
    let now = tx.now();
    query("update hosts set zone = $2, updated_at = $3 where id = $1")
        .bind(host.as_str())
        .bind(zone)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    query("update servers set zone = $2 where host_id = $1 and deleted_at is null")
        .bind(host.as_str())
        .bind(zone)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether a server is on the host.
pub async fn is_in_use(conn: &mut Conn, host: &HostId) -> Result<bool> {
    let row = query("select 1 as found from servers where host_id = $1 and deleted_at is null limit 1")
        .bind(host.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}
