//! Table `trusts`: what one user lets another do in its stead. Rows stay after they are deleted.

use model::{
    Timestamp,
    id::{ProjectId, RoleId, UserId},
};

use super::json_text;
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// A trust.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// Its id.
    pub id: String,
    /// Who trusts.
    pub trustor_user_id: UserId,
    /// Who is trusted.
    pub trustee_user_id: UserId,
    /// Whose roles they are: the first trustor of the chain.
    pub holder_user_id: UserId,
    /// Where.
    pub project_id: Option<ProjectId>,
    /// Whether tokens show the trustor as their user.
    pub impersonation: bool,
    /// The roles, each of which the holder must still have.
    pub role_ids: Vec<RoleId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How many tokens may still be asked for.
    pub remaining_uses: Option<i64>,
    /// How many trusts may still follow in the chain.
    pub redelegation_count: i64,
    /// The trust before it in the chain.
    pub redelegated_trust_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Trust> {
    Ok(Trust {
        id: row.text("id")?,
        trustor_user_id: row.id("trustor_user_id")?,
        trustee_user_id: row.id("trustee_user_id")?,
        holder_user_id: row.id("holder_user_id")?,
        project_id: row.opt_id("project_id")?,
        impersonation: row.flag("impersonation")?,
        role_ids: row.json("role_ids")?,
        expires_at: row.opt_time("expires_at")?,
        remaining_uses: row.opt_int("remaining_uses")?,
        redelegation_count: row.int("redelegation_count")?,
        redelegated_trust_id: row.opt_text("redelegated_trust_id")?,
        created_at: row.time("created_at")?,
    })
}

/// Those that weren't deleted. Filters are added by the caller.
pub fn select() -> Select {
    let mut select = Select::new("select t.* from trusts t", "trusts t", "t.id");
    select.filter("t.deleted_at is null", []);
    select
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Trust>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One that wasn't deleted, by id.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Option<Trust>> {
    let row = query("select * from trusts where id = $1 and deleted_at is null").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// How many a trustor has that weren't deleted.
pub async fn count(conn: &mut Conn, trustor: &UserId) -> Result<i64> {
    query("select count(*) as found from trusts where trustor_user_id = $1 and deleted_at is null")
        .bind(trustor.as_str())
        .fetch_one(conn)
        .await?
        .int("found")
}

/// Adds one.
pub async fn insert(tx: &mut Tx, trust: &Trust) -> Result<()> {
    query(
        "insert into trusts (id, trustor_user_id, trustee_user_id, holder_user_id, project_id, impersonation, role_ids, \
         expires_at, remaining_uses, redelegation_count, redelegated_trust_id, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(trust.id.as_str())
    .bind(trust.trustor_user_id.as_str())
    .bind(trust.trustee_user_id.as_str())
    .bind(trust.holder_user_id.as_str())
    .bind(trust.project_id.as_ref().map(|id| id.as_str()))
    .bind(i64::from(trust.impersonation))
    .bind(json_text(&trust.role_ids))
    .bind(trust.expires_at.map(|t| t.0))
    .bind(trust.remaining_uses)
    .bind(trust.redelegation_count)
    .bind(trust.redelegated_trust_id.as_deref())
    .bind(trust.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes one of its remaining uses; false where there is none.
pub async fn consume(tx: &mut Tx, id: &str) -> Result<bool> {
    let done = query(
        "update trusts set remaining_uses = remaining_uses - 1 \
         where id = $1 and deleted_at is null and (remaining_uses is null or remaining_uses > 0)",
    )
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes it and all that followed from it. Returns their ids.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<Vec<String>> {
    let now = tx.now();
    let rows = query(
        "with recursive chain (id) as ( \
           select id from trusts where id = $1 \
           union select t.id from trusts t join chain c on t.redelegated_trust_id = c.id) \
         update trusts set deleted_at = $2 where deleted_at is null and id in (select id from chain) returning id",
    )
    .bind(id)
    .bind(now.0)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row: &Row| row.text("id")).collect()
}
