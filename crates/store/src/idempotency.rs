//! Table `idempotency_keys`: which requests with an `Idempotency-Key` took effect, and what they were answered.
//!
//! The row is inserted by the request's own first commit: a second request with the same key that gets as far fails there
//! as a whole. The answer follows; it is sealed by the caller under the key's own text, of which only a hash is stored.

use std::time::Duration;

use model::Timestamp;

use crate::{Conn, Result, RowExt, Tx, query};

/// How long a replay gets the first answer.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A key as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// User and scope: keys of others are none of theirs.
    pub owner: String,
    /// Hash of the key.
    pub key_hash: String,
    /// Hash of method, path, query and body.
    pub request_hash: String,
    /// The request's id.
    pub request_id: String,
}

/// A key that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Hash of method, path, query and body.
    pub request_hash: String,
    /// The first request's id.
    pub request_id: String,
    /// When it took effect.
    pub at: Timestamp,
    /// Its answer, sealed; empty until it was given.
    pub answer: String,
}

/// What is known of the key.
pub async fn get(conn: &mut Conn, owner: &str, key_hash: &str, now: Timestamp) -> Result<Option<Used>> {
    let row = query(
        "select request_hash, request_id, at, answer from idempotency_keys where owner = $1 and key_hash = $2 and at > $3",
    )
    .bind(owner)
    .bind(key_hash)
    .bind((now - KEPT).0)
    .fetch_optional(conn)
    .await?;
    let used = |row: crate::Row| {
        Ok(Used {
            request_hash: row.text("request_hash")?,
            request_id: row.text("request_id")?,
            at: row.time("at")?,
            answer: row.text("answer")?,
        })
    };
    row.map(used).transpose()
}

/// Takes the key. A unique violation: another request has it.
pub async fn insert(tx: &mut Tx, claim: &Claim) -> Result<()> {
    let now = tx.now();
    query("delete from idempotency_keys where owner = $1 and key_hash = $2 and at <= $3")
        .bind(claim.owner.as_str())
        .bind(claim.key_hash.as_str())
        .bind((now - KEPT).0)
        .execute(&mut **tx)
        .await?;
    query(
        "insert into idempotency_keys (owner, key_hash, request_hash, request_id, at, answer) \
         values ($1, $2, $3, $4, $5, '')",
    )
    .bind(claim.owner.as_str())
    .bind(claim.key_hash.as_str())
    .bind(claim.request_hash.as_str())
    .bind(claim.request_id.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps the answer of the request that has the key.
pub async fn set_answer(tx: &mut Tx, claim: &Claim, answer: &str) -> Result<()> {
    query("update idempotency_keys set answer = $4 where owner = $1 and key_hash = $2 and request_id = $3")
        .bind(claim.owner.as_str())
        .bind(claim.key_hash.as_str())
        .bind(claim.request_id.as_str())
        .bind(answer)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes keys that are no longer kept. How many.
pub(crate) async fn prune(tx: &mut Tx, now: Timestamp) -> Result<i64> {
    let gone = query("delete from idempotency_keys where at <= $1").bind((now - KEPT).0).execute(&mut **tx).await?;
    Ok(i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX))
}
