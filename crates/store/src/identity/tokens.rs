//! Tables `fernet_keys`, `token_revocations`, `identity_revision`: what tokens are signed with and when they end early.

use model::Timestamp;

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Known to every server, and the next to sign.
    Staged,
    /// Signs.
    Primary,
    /// Signed once; what it signed may still be alive.
    Secondary,
}

impl KeyState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// A key as the table holds it: wrapped under the master key.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub state: KeyState,
    /// The key, encrypted and authenticated.
    pub wrapped: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it has signed nothing any more.
    pub retired_at: Option<Timestamp>,
}

/// All keys, oldest first.
pub async fn keys(conn: &mut Conn) -> Result<Vec<WrappedKey>> {
    let rows = query("select * from fernet_keys order by created_at, id").fetch_all(conn).await?;
    let read = |row: &Row| {
        Ok(WrappedKey {
            id: row.text("id")?,
            state: match row.text("state")?.as_str() {
                "staged" => KeyState::Staged,
                "primary" => KeyState::Primary,
                _ => KeyState::Secondary,
            },
            wrapped: row.text("wrapped")?,
            created_at: row.time("created_at")?,
            retired_at: row.opt_time("retired_at")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Adds a key.
pub async fn insert_key(tx: &mut Tx, key: &WrappedKey) -> Result<()> {
    query("insert into fernet_keys (id, state, wrapped, created_at, retired_at) values ($1, $2, $3, $4, $5)")
        .bind(key.id.as_str())
        .bind(key.state.as_str())
        .bind(key.wrapped.as_str())
        .bind(key.created_at.0)
        .bind(key.retired_at.map(|t| t.0))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes the staged key the primary one, and the primary one secondary.
pub async fn promote_staged_key(tx: &mut Tx) -> Result<()> {
    let now = tx.now();
    query("update fernet_keys set state = 'secondary', retired_at = $1 where state = 'primary'")
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    query("update fernet_keys set state = 'primary' where state = 'staged'").execute(&mut **tx).await?;
    Ok(())
}

/// Removes keys that have signed nothing since before that moment.
pub async fn delete_keys_retired_before(tx: &mut Tx, moment: Timestamp) -> Result<()> {
    query("delete from fernet_keys where state = 'secondary' and retired_at < $1")
        .bind(moment.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether the token with this audit id was revoked.
pub async fn is_revoked(conn: &mut Conn, audit_id: &str) -> Result<bool> {
    let row =
        query("select 1 as one from token_revocations where audit_id = $1").bind(audit_id).fetch_optional(conn).await?;
    Ok(row.is_some())
}

/// Revokes a token until it would have ended anyway, and forgets those that have.
pub async fn revoke(tx: &mut Tx, audit_id: &str, expires_at: Timestamp) -> Result<()> {
    let now = tx.now();
    query("delete from token_revocations where expires_at < $1").bind(now.0).execute(&mut **tx).await?;
    query("insert into token_revocations (audit_id, expires_at) values ($1, $2) on conflict (audit_id) do nothing")
        .bind(audit_id)
        .bind(expires_at.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Counts the revision up, which locks out other writers of identity until this transaction ends.
pub async fn next_revision(tx: &mut Tx) -> Result<i64> {
    let row = query("update identity_revision set revision = revision + 1 where id = 1 returning revision")
        .fetch_one(&mut **tx)
        .await?;
    row.int("revision")
}

/// The revision that was committed last.
pub async fn revision(conn: &mut Conn) -> Result<i64> {
    query("select revision from identity_revision where id = 1").fetch_one(conn).await?.int("revision")
}

/// A fact of the installation from table `settings`.
pub async fn setting(conn: &mut Conn, name: &str) -> Result<Option<String>> {
    let row = query("select value from settings where name = $1").bind(name).fetch_optional(conn).await?;
    row.map(|row| row.text("value")).transpose()
}

/// Sets a fact of the installation.
pub async fn set_setting(tx: &mut Tx, name: &str, value: &str) -> Result<()> {
    query("insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value")
        .bind(name)
        .bind(value)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
