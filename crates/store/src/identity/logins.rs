//! Tables `user_passwords` and `login_failures`: what came before a login.

use std::time::Duration;

use model::{Timestamp, id::UserId};

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// Failed logins in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Failures {
    /// How many.
    pub count: i64,
    /// When the last one was.
    pub failed_at: Timestamp,
}

/// The failures of someone since the last success.
pub async fn failures(conn: &mut Conn, subject: &str) -> Result<Failures> {
    let row = query("select count, failed_at from login_failures where subject = $1")
        .bind(subject)
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(Failures::default()), |row| {
        Ok(Failures { count: row.int("count")?, failed_at: row.time("failed_at")? })
    })
}

/// Counts one more, and forgets those whose last one was before `forget_before` (of nobody: a day ago). A lock-out that
/// began before `over_before` is over: then counting begins anew.
pub async fn fail(
    tx: &mut Tx,
    subject: &str,
    max: i64,
    over_before: Timestamp,
    forget_before: Timestamp,
) -> Result<()> {
    let now = tx.now();
    query("delete from login_failures where failed_at < $1 or (failed_at < $2 and subject like 'nobody:%')")
        .bind(forget_before.0)
        .bind((now - Duration::from_secs(24 * 3600)).0)
        .execute(&mut **tx)
        .await?;
    query(
        "insert into login_failures (subject, count, failed_at) values ($1, 1, $2) \
         on conflict (subject) do update set failed_at = excluded.failed_at, \
         count = case when login_failures.count >= $3 and login_failures.failed_at <= $4 then 1 \
           else login_failures.count + 1 end",
    )
    .bind(subject)
    .bind(now.0)
    .bind(max)
    .bind(over_before.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets someone's failures.
pub async fn succeed(tx: &mut Tx, subject: &str) -> Result<()> {
    query("delete from login_failures where subject = $1").bind(subject).execute(&mut **tx).await?;
    Ok(())
}

/// Notes that a user is active.
pub async fn set_active(tx: &mut Tx, user: &UserId, at: Timestamp) -> Result<()> {
    query("update users set active_at = $2 where id = $1").bind(user.as_str()).bind(at.0).execute(&mut **tx).await?;
    Ok(())
}

/// The last passwords' hashes, the one in force first.
pub async fn last_passwords(conn: &mut Conn, user: &UserId, count: u32) -> Result<Vec<String>> {
    let rows = query("select hash from user_passwords where user_id = $1 order by sequence desc limit $2")
        .bind(user.as_str())
        .bind(i64::from(count))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row: &Row| row.text("hash")).collect()
}

/// Adds a password to the last ones and keeps as many of them as `keep`.
pub async fn remember_password(tx: &mut Tx, user: &UserId, hash: &str, keep: u32) -> Result<()> {
    let row = query("select coalesce(max(sequence), 0) as last from user_passwords where user_id = $1")
        .bind(user.as_str())
        .fetch_one(&mut **tx)
        .await?;
    let sequence = row.int("last")? + 1;
    query("insert into user_passwords (user_id, sequence, hash) values ($1, $2, $3)")
        .bind(user.as_str())
        .bind(sequence)
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    query("delete from user_passwords where user_id = $1 and sequence <= $2")
        .bind(user.as_str())
        .bind(sequence - i64::from(keep))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
