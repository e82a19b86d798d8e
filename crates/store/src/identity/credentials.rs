//! Tables `credentials` and `secret_keys`: secrets that must be read again, and the keys that they are sealed under.

use model::{
    Timestamp,
    id::{ProjectId, UserId},
};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// A secret as it lies in a table.
#[derive(Clone)]
pub struct Sealed {
    /// The key.
    pub key_id: String,
    /// What it sealed.
    pub text: String,
}

/// A key of secrets, wrapped under the master key.
#[derive(Clone)]
pub struct SecretKey {
    /// Its id.
    pub id: String,
    /// The key, encrypted and authenticated.
    pub wrapped: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A credential.
#[derive(Clone)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// For which project.
    pub project_id: Option<ProjectId>,
    /// `ec2`, `totp`, `cert`...
    pub kind: String,
    /// By what requests name it, where it is one of EC2.
    pub access: Option<String>,
    /// What it holds.
    pub blob: Sealed,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Credential> {
    Ok(Credential {
        id: row.text("id")?,
        user_id: row.id("user_id")?,
        project_id: row.opt_id("project_id")?,
        kind: row.text("type")?,
        access: row.opt_text("access")?,
        blob: Sealed { key_id: row.text("key_id")?, text: row.text("blob")? },
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from credentials t", "credentials t", "t.id")
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Credential>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Option<Credential>> {
    let row = query("select * from credentials where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One of EC2, by what requests name it.
pub async fn get_by_access(conn: &mut Conn, access: &str) -> Result<Option<Credential>> {
    let row = query("select * from credentials where access = $1").bind(access).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Those of one user and type, as many as a user may have.
pub async fn of_user(conn: &mut Conn, user: &UserId, kind: &str, max: u32) -> Result<Vec<Credential>> {
    let rows = query("select * from credentials where user_id = $1 and type = $2 order by id limit $3")
        .bind(user.as_str())
        .bind(kind)
        .bind(i64::from(max))
        .fetch_all(conn)
        .await?;
    rows.iter().map(from_row).collect()
}

/// How many a user has.
pub async fn count(conn: &mut Conn, user: &UserId) -> Result<i64> {
    query("select count(*) as found from credentials where user_id = $1")
        .bind(user.as_str())
        .fetch_one(conn)
        .await?
        .int("found")
}

/// Adds one.
pub async fn insert(tx: &mut Tx, credential: &Credential) -> Result<()> {
    query(
        "insert into credentials (id, user_id, project_id, type, access, blob, key_id, extra, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(credential.id.as_str())
    .bind(credential.user_id.as_str())
    .bind(credential.project_id.as_ref().map(|id| id.as_str()))
    .bind(credential.kind.as_str())
    .bind(credential.access.as_deref())
    .bind(credential.blob.text.as_str())
    .bind(credential.blob.key_id.as_str())
    .bind(json_text(&credential.extra))
    .bind(credential.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, credential: &Credential) -> Result<()> {
    query("update credentials set access = $2, blob = $3, key_id = $4, extra = $5 where id = $1")
        .bind(credential.id.as_str())
        .bind(credential.access.as_deref())
        .bind(credential.blob.text.as_str())
        .bind(credential.blob.key_id.as_str())
        .bind(json_text(&credential.extra))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes one.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from credentials where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Marks the passcode of a time step as used; false where this or a later one was used before.
pub async fn use_step(tx: &mut Tx, id: &str, step: i64) -> Result<bool> {
    let done = query("update credentials set used_step = $2 where id = $1 and coalesce(used_step, -1) < $2")
        .bind(id)
        .bind(step)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// All keys, the newest first.
pub async fn keys(conn: &mut Conn) -> Result<Vec<SecretKey>> {
    let rows = query("select * from secret_keys order by created_at desc, id desc").fetch_all(conn).await?;
    let read = |row: &Row| {
        Ok(SecretKey { id: row.text("id")?, wrapped: row.text("wrapped")?, created_at: row.time("created_at")? })
    };
    rows.iter().map(read).collect()
}

/// Adds a key.
pub async fn insert_key(tx: &mut Tx, key: &SecretKey) -> Result<()> {
    query("insert into secret_keys (id, wrapped, created_at) values ($1, $2, $3)")
        .bind(key.id.as_str())
        .bind(key.wrapped.as_str())
        .bind(key.created_at.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes keys from before that moment under which nothing is sealed any more.
pub async fn delete_idle_keys(tx: &mut Tx, made_before: Timestamp) -> Result<()> {
    query(
        "delete from secret_keys where created_at < $1 \
         and not exists (select 1 from credentials c where c.key_id = secret_keys.id) \
         and not exists (select 1 from oauth_consumers o where o.key_id = secret_keys.id) \
         and not exists (select 1 from oauth_tokens t where t.key_id = secret_keys.id)",
    )
    .bind(made_before.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A table that holds sealed secrets.
#[derive(Clone, Copy, Debug)]
pub enum Holder {
    /// `credentials`.
    Credentials,
    /// `oauth_consumers`.
    Consumers,
    /// `oauth_tokens`.
    Tokens,
}

impl Holder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Credentials, Self::Consumers, Self::Tokens];
}

/// Some secrets that are sealed under another key than this, by the ids of their rows.
pub async fn sealed_otherwise(
    conn: &mut Conn,
    holder: Holder,
    key_id: &str,
    max: u32,
) -> Result<Vec<(String, Sealed)>> {
    let rows = query(match holder {
        Holder::Credentials => {
            "select id, key_id, blob as secret from credentials where key_id <> $1 order by id limit $2"
        }
        Holder::Consumers => "select id, key_id, secret from oauth_consumers where key_id <> $1 order by id limit $2",
        Holder::Tokens => "select id, key_id, secret from oauth_tokens where key_id <> $1 order by id limit $2",
    })
    .bind(key_id)
    .bind(i64::from(max))
    .fetch_all(conn)
    .await?;
    let read = |row: &Row| Ok((row.text("id")?, Sealed { key_id: row.text("key_id")?, text: row.text("secret")? }));
    rows.iter().map(read).collect()
}

/// Puts a secret sealed anew in its row.
pub async fn reseal(tx: &mut Tx, holder: Holder, id: &str, sealed: &Sealed) -> Result<()> {
    query(match holder {
        Holder::Credentials => "update credentials set blob = $2, key_id = $3 where id = $1",
        Holder::Consumers => "update oauth_consumers set secret = $2, key_id = $3 where id = $1",
        Holder::Tokens => "update oauth_tokens set secret = $2, key_id = $3 where id = $1",
    })
    .bind(id)
    .bind(sealed.text.as_str())
    .bind(sealed.key_id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
