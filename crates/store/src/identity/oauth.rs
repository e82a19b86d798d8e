//! Tables `oauth_consumers` and `oauth_tokens`: OAuth 1.

use model::{
    Timestamp,
    id::{ProjectId, RoleId, UserId},
};

use super::{Extra, credentials::Sealed, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// A consumer: a program that acts for users.
#[derive(Clone)]
pub struct Consumer {
    /// Its id.
    pub id: String,
    /// For people.
    pub description: Option<String>,
    /// What it signs with.
    pub secret: Sealed,
    /// The client's own attributes.
    pub extra: Extra,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be authorized by a user.
    Request,
    /// To log in with.
    Access,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Access => "access",
        }
    }
}

/// A request token or an access token.
#[derive(Clone)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// Whose it is.
    pub consumer_id: String,
    /// Where.
    pub project_id: ProjectId,
    /// Who authorized it.
    pub user_id: Option<UserId>,
    /// What its requests are signed with.
    pub secret: Sealed,
    /// What shows that it was authorized.
    pub verifier: Option<String>,
    /// The roles, each of which the user must still have.
    pub role_ids: Vec<RoleId>,
    /// When it ends.
    pub expires_at: Timestamp,
}

fn consumer(row: &Row) -> Result<Consumer> {
    Ok(Consumer {
        id: row.text("id")?,
        description: row.opt_text("description")?,
        secret: Sealed { key_id: row.text("key_id")?, text: row.text("secret")? },
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

fn token(row: &Row) -> Result<Token> {
    Ok(Token {
        id: row.text("id")?,
        kind: if row.text("kind")? == "access" { Kind::Access } else { Kind::Request },
        consumer_id: row.text("consumer_id")?,
        project_id: row.id("project_id")?,
        user_id: row.opt_id("user_id")?,
        secret: Sealed { key_id: row.text("key_id")?, text: row.text("secret")? },
        verifier: row.opt_text("verifier")?,
        role_ids: row.json("role_ids")?,
        expires_at: row.time("expires_at")?,
    })
}

/// Filters are added by the caller.
pub fn select_consumers() -> Select {
    Select::new("select t.* from oauth_consumers t", "oauth_consumers t", "t.id")
}

/// One page of consumers.
pub async fn list_consumers(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Consumer>> {
    select.page(conn, page).await?.iter().map(consumer).collect()
}

/// A consumer, by id.
pub async fn get_consumer(conn: &mut Conn, id: &str) -> Result<Option<Consumer>> {
    let row = query("select * from oauth_consumers where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(consumer).transpose()
}

/// Adds a consumer.
pub async fn insert_consumer(tx: &mut Tx, consumer: &Consumer) -> Result<()> {
    query(
        "insert into oauth_consumers (id, description, secret, key_id, extra, created_at) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(consumer.id.as_str())
    .bind(consumer.description.as_deref())
    .bind(consumer.secret.text.as_str())
    .bind(consumer.secret.key_id.as_str())
    .bind(json_text(&consumer.extra))
    .bind(consumer.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what may change.
pub async fn update_consumer(tx: &mut Tx, consumer: &Consumer) -> Result<()> {
    query("update oauth_consumers set description = $2, extra = $3 where id = $1")
        .bind(consumer.id.as_str())
        .bind(consumer.description.as_deref())
        .bind(json_text(&consumer.extra))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a consumer and its tokens.
pub async fn delete_consumer(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from oauth_consumers where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Tokens of a kind. Filters are added by the caller.
pub fn select_tokens(kind: Kind) -> Select {
    let mut select = Select::new("select t.* from oauth_tokens t", "oauth_tokens t", "t.id");
    select.equal("t.kind", kind.as_str());
    select
}

/// One page of tokens.
pub async fn list_tokens(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Token>> {
    select.page(conn, page).await?.iter().map(token).collect()
}

/// A token, by id.
pub async fn get_token(conn: &mut Conn, kind: Kind, id: &str) -> Result<Option<Token>> {
    let row = query("select * from oauth_tokens where id = $1 and kind = $2")
        .bind(id)
        .bind(kind.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(token).transpose()
}

/// Adds a token, and forgets those that have ended.
pub async fn insert_token(tx: &mut Tx, token: &Token) -> Result<()> {
    let now = tx.now();
    query("delete from oauth_tokens where expires_at < $1").bind(now.0).execute(&mut **tx).await?;
    query(
        "insert into oauth_tokens (id, kind, consumer_id, project_id, user_id, secret, key_id, verifier, role_ids, \
         expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(token.id.as_str())
    .bind(token.kind.as_str())
    .bind(token.consumer_id.as_str())
    .bind(token.project_id.as_str())
    .bind(token.user_id.as_ref().map(|id| id.as_str()))
    .bind(token.secret.text.as_str())
    .bind(token.secret.key_id.as_str())
    .bind(token.verifier.as_deref())
    .bind(json_text(&token.role_ids))
    .bind(token.expires_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes who authorized a request token for what.
pub async fn authorize(tx: &mut Tx, token: &Token) -> Result<()> {
    query("update oauth_tokens set user_id = $2, verifier = $3, role_ids = $4 where id = $1 and kind = 'request'")
        .bind(token.id.as_str())
        .bind(token.user_id.as_ref().map(|id| id.as_str()))
        .bind(token.verifier.as_deref())
        .bind(json_text(&token.role_ids))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a token; whether it was there.
pub async fn delete_token(tx: &mut Tx, kind: Kind, id: &str) -> Result<bool> {
    let done = query("delete from oauth_tokens where id = $1 and kind = $2")
        .bind(id)
        .bind(kind.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
