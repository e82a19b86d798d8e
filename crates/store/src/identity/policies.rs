//! Tables `policies` and `policy_associations`: documents that services may fetch, and for which of them they are.

use model::id::{EndpointId, PolicyId, ServiceId};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// The media type of the blob.
    pub kind: String,
    /// The document itself, which nobody here reads.
    pub blob: String,
    /// The client's own attributes.
    pub extra: Extra,
}

/// What a document is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// One endpoint.
    Endpoint(EndpointId),
    /// Every endpoint of a service.
    Service(ServiceId),
    /// Every endpoint of a service in a region.
    ServiceInRegion(ServiceId, String),
}

impl Spot {
    fn columns(&self) -> (Option<&str>, Option<&str>, Option<&str>) {
        match self {
            Self::Endpoint(endpoint) => (Some(endpoint.as_str()), None, None),
            Self::Service(service) => (None, Some(service.as_str()), None),
            Self::ServiceInRegion(service, region) => (None, Some(service.as_str()), Some(region)),
        }
    }
}

fn from_row(row: &Row) -> Result<Policy> {
    Ok(Policy { id: row.id("id")?, kind: row.text("type")?, blob: row.text("blob")?, extra: row.json("extra")? })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from policies t", "policies t", "t.id")
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Policy>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &PolicyId) -> Result<Option<Policy>> {
    let row = query("select * from policies where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one, or writes over the one of that id.
pub async fn put(tx: &mut Tx, policy: &Policy) -> Result<()> {
    query(
        "insert into policies (id, type, blob, extra) values ($1, $2, $3, $4) \
         on conflict (id) do update set type = excluded.type, blob = excluded.blob, extra = excluded.extra",
    )
    .bind(policy.id.as_str())
    .bind(policy.kind.as_str())
    .bind(policy.blob.as_str())
    .bind(json_text(&policy.extra))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes one with its associations.
pub async fn delete(tx: &mut Tx, id: &PolicyId) -> Result<()> {
    query("delete from policies where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

const AT: &str =
    "where coalesce(endpoint_id, '') = $1 and coalesce(service_id, '') = $2 and coalesce(region_id, '') = $3";

/// The document that is for exactly this.
pub async fn policy_at(conn: &mut Conn, spot: &Spot) -> Result<Option<PolicyId>> {
    let (endpoint, service, region) = spot.columns();
    let row = query(sqlx::AssertSqlSafe(format!("select policy_id from policy_associations {AT}")))
        .bind(endpoint.unwrap_or_default())
        .bind(service.unwrap_or_default())
        .bind(region.unwrap_or_default())
        .fetch_optional(conn)
        .await?;
    row.map(|row| row.id("policy_id")).transpose()
}

/// Makes a document be for this, instead of the one that was.
pub async fn associate(tx: &mut Tx, policy: &PolicyId, spot: &Spot) -> Result<()> {
    dissociate(tx, spot).await?;
    let (endpoint, service, region) = spot.columns();
    query("insert into policy_associations (policy_id, endpoint_id, service_id, region_id) values ($1, $2, $3, $4)")
        .bind(policy.as_str())
        .bind(endpoint)
        .bind(service)
        .bind(region)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes no document be for this.
pub async fn dissociate(tx: &mut Tx, spot: &Spot) -> Result<()> {
    let (endpoint, service, region) = spot.columns();
    query(sqlx::AssertSqlSafe(format!("delete from policy_associations {AT}")))
        .bind(endpoint.unwrap_or_default())
        .bind(service.unwrap_or_default())
        .bind(region.unwrap_or_default())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Everything that documents are for, as (document, what): clouds have a handful.
pub async fn associations(conn: &mut Conn, at_most: u32) -> Result<Vec<(PolicyId, Spot)>> {
    let sql = format!(
        "select * from policy_associations order by policy_id, coalesce(endpoint_id, ''), coalesce(service_id, ''), \
         coalesce(region_id, '') limit {at_most}"
    );
    let rows = query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    let read = |row: &Row| {
        let spot = match (row.opt_id("endpoint_id")?, row.opt_id("service_id")?, row.opt_text("region_id")?) {
            (Some(endpoint), _, _) => Spot::Endpoint(endpoint),
            (None, Some(service), Some(region)) => Spot::ServiceInRegion(service, region),
            (None, service, _) => Spot::Service(service.unwrap_or_else(|| ServiceId::new(""))),
        };
        Ok((row.id("policy_id")?, spot))
    };
    rows.iter().map(read).collect()
}
