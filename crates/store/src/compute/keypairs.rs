//! Table `keypairs`.

use model::{Timestamp, id::UserId};

use crate::{Conn, Result, Row, RowExt, query};

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
