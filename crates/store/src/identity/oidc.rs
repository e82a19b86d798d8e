//! Tables `oidc_clients` and `oidc_logins`.

use std::fmt;

use model::Timestamp;

use super::json_text;
use crate::{Conn, Result, RowExt, Tx, query};

/// What a protocol needs to speak OpenID Connect with its provider.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcClient {
    /// The provider.
    pub idp_id: String,
    /// The protocol.
    pub protocol_id: String,
    /// Who signs, as tokens name it; its discovery document is below this address.
    pub issuer: String,
    /// How the provider knows this cloud.
    pub client_id: String,
    /// Sealed under the master key; none for a public client.
    pub sealed_secret: Option<String>,
    /// What browsers ask for, separated by blanks.
    pub scopes: String,
    /// Whom access tokens must be meant for.
    pub audiences: Vec<String>,
    /// Whether access tokens are asked about instead of read.
    pub introspection: bool,
    /// Whether the provider is asked for more claims of an access token.
    pub user_info: bool,
}

impl fmt::Debug for OidcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcClient")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A protocol's.
pub async fn get(conn: &mut Conn, idp_id: &str, protocol_id: &str) -> Result<Option<OidcClient>> {
    let row = query("select * from oidc_clients where idp_id = $1 and protocol_id = $2")
        .bind(idp_id)
        .bind(protocol_id)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OidcClient {
        idp_id: row.text("idp_id")?,
        protocol_id: row.text("protocol_id")?,
        issuer: row.text("issuer")?,
        client_id: row.text("client_id")?,
        sealed_secret: row.opt_text("client_secret")?,
        scopes: row.text("scopes")?,
        audiences: row.json("audiences")?,
        introspection: row.text("access_tokens")? == "introspection",
        user_info: row.flag("user_info")?,
    }))
}

/// Sets a protocol's.
pub async fn put(tx: &mut Tx, client: &OidcClient) -> Result<()> {
    query(
        "insert into oidc_clients (idp_id, protocol_id, issuer, client_id, client_secret, scopes, audiences, \
         access_tokens, user_info) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (idp_id, protocol_id) \
         do update set issuer = excluded.issuer, client_id = excluded.client_id, client_secret = excluded.client_secret, \
         scopes = excluded.scopes, audiences = excluded.audiences, access_tokens = excluded.access_tokens, \
         user_info = excluded.user_info",
    )
    .bind(client.idp_id.as_str())
    .bind(client.protocol_id.as_str())
    .bind(client.issuer.as_str())
    .bind(client.client_id.as_str())
    .bind(client.sealed_secret.as_deref())
    .bind(client.scopes.as_str())
    .bind(json_text(&client.audiences))
    .bind(if client.introspection { "introspection" } else { "jwt" })
    .bind(i64::from(client.user_info))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a protocol's; whether there was one.
pub async fn delete(tx: &mut Tx, idp_id: &str, protocol_id: &str) -> Result<bool> {
    let done = query("delete from oidc_clients where idp_id = $1 and protocol_id = $2")
        .bind(idp_id)
        .bind(protocol_id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// A login that is under way in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Digest of the state that the provider gives back.
    pub id: String,
    /// The provider.
    pub idp_id: String,
    /// The protocol.
    pub protocol_id: String,
    /// What only this cloud may read.
    pub sealed: String,
    /// When it is too late.
    pub expires_at: Timestamp,
}

/// Begins one, unless that many are under way; those that are too late are forgotten.
pub async fn begin_login(tx: &mut Tx, login: &Login, at_most: i64) -> Result<bool> {
    let now = tx.now();
    query("delete from oidc_logins where expires_at <= $1").bind(now.0).execute(&mut **tx).await?;
    let done = query(
        "insert into oidc_logins (id, idp_id, protocol_id, sealed, expires_at) \
         select $1, $2, $3, $4, $5 where (select count(*) from oidc_logins) < $6",
    )
    .bind(login.id.as_str())
    .bind(login.idp_id.as_str())
    .bind(login.protocol_id.as_str())
    .bind(login.sealed.as_str())
    .bind(login.expires_at.0)
    .bind(at_most)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends one, once: whoever comes second finds nothing.
pub async fn take_login(tx: &mut Tx, id: &str) -> Result<Option<Login>> {
    let now = tx.now();
    let row = query("delete from oidc_logins where id = $1 returning idp_id, protocol_id, sealed, expires_at")
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let login = Login {
        id: id.to_owned(),
        idp_id: row.text("idp_id")?,
        protocol_id: row.text("protocol_id")?,
        sealed: row.text("sealed")?,
        expires_at: row.time("expires_at")?,
    };
    Ok(Some(login).filter(|login| login.expires_at > now))
}
