//! Table `keypairs`.

use model::{Timestamp, id::UserId};

use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Direction, Page, Select, SortKey, Type},
    query,
};

const BY_NAME: SortKey = SortKey { name: "name", sql: "k.name", kind: Type::Text };

/// A user's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keypair {
    /// Whose.
    pub user_id: UserId,
    /// Its name.
    pub name: String,
    /// A number, as Nova shows it.
    pub id: i64,
    /// `ssh`.
    pub kind: String,
    /// In OpenSSH's form.
    pub public_key: String,
    /// MD5, hex with colons.
    pub fingerprint: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Keypair {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            user_id: row.id("user_id")?,
            name: row.text("name")?,
            id: row.int("id")?,
            kind: row.text("kind")?,
            public_key: row.text("public_key")?,
            fingerprint: row.text("fingerprint")?,
            created_at: row.time("created_at")?,
        })
    }
}

/// A user's key of that name.
pub async fn get(conn: &mut Conn, user: &UserId, name: &str) -> Result<Option<Keypair>> {
    let row = query("select * from keypairs where user_id = $1 and name = $2")
        .bind(user.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(Keypair::from_row).transpose()
}

/// A user's keys by name: at most `limit` of those after `marker`, which must be one of them.
pub async fn list(conn: &mut Conn, user: &UserId, limit: u32, marker: Option<&str>) -> Result<Vec<Keypair>> {
    if let Some(marker) = marker
        && get(conn, user, marker).await?.is_none()
    {
        return Err(crate::Error::Marker(marker.to_owned()));
    }
    let page = Page { limit, marker: marker.map(str::to_owned), ..Page::first(BY_NAME, Direction::Ascending) };
    let mut select = Select::new("select k.* from keypairs k", "keypairs k", "k.name");
    select.equal("k.user_id", user);
    select.page(conn, &page).await?.iter().map(Keypair::from_row).collect()
}

/// How many keys a user has.
pub async fn count(conn: &mut Conn, user: &UserId) -> Result<i64> {
    query("select count(*) as keypairs from keypairs where user_id = $1")
        .bind(user.as_str())
        .fetch_one(conn)
        .await?
        .int("keypairs")
}

/// Adds a key. A taken name is a unique violation.
pub async fn insert(tx: &mut Tx, keypair: &Keypair) -> Result<()> {
    query(
        "insert into keypairs (user_id, name, id, kind, public_key, fingerprint, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(keypair.user_id.as_str())
    .bind(keypair.name.as_str())
    .bind(keypair.id)
    .bind(keypair.kind.as_str())
    .bind(keypair.public_key.as_str())
    .bind(keypair.fingerprint.as_str())
    .bind(keypair.created_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::KEYPAIR, format!("{}/{}", keypair.user_id, keypair.name));
    Ok(())
}

/// Removes a key. Whether it was there.
pub async fn delete(tx: &mut Tx, user: &UserId, name: &str) -> Result<bool> {
    events::deleted(tx, events::KEYPAIR, format!("{user}/{name}")).await?;
    let done = query("delete from keypairs where user_id = $1 and name = $2")
        .bind(user.as_str())
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
