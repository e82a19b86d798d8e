//! `/nacre/v1/identity/providers/{idp_id}/protocols/{protocol_id}/oidc`: what a protocol needs to speak OpenID Connect.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use store::identity::oidc::{self, OidcClient};
use web::{Cx, Reply, Target};

use super::client::Client;
use crate::{Password, State, federation::protocol, wire};

const TEXT_BYTES_MAX: usize = 1024;
const AUDIENCES_MAX: usize = 32;
/// What browsers ask for where nothing else is said.
const SCOPES: &str = "openid profile email";

/// The settings as they come. What is left out is as it was first; a secret that is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    issuer: String,
    client_id: String,
    client_secret: Option<Password>,
    scopes: Option<String>,
    audiences: Option<Vec<String>>,
    access_tokens: Option<AccessTokens>,
    user_info: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccessTokens {
    Jwt,
    Introspection,
}

/// `GET`: without the secret.
pub async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let protocol = protocol::load(&mut conn, cx.param("idp_id"), cx.param("protocol_id")).await?;
    let found = oidc::get(&mut conn, &protocol.idp_id, &protocol.id).await?.ok_or_else(missing)?;
    Reply::ok(&json!({ "oidc": document(&found) }))
}

/// `PUT`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let wanted: Wanted = cx.json_in("oidc")?;
    check(&wanted)?;
    let mut tx = state.begin().await?;
    let protocol = protocol::load(&mut tx, cx.param("idp_id"), cx.param("protocol_id")).await?;
    let before = oidc::get(&mut tx, &protocol.idp_id, &protocol.id).await?;
    let sealed_secret = match wanted.client_secret {
        // Null or empty: a public client.
        Some(secret) if secret.is_empty() => None,
        Some(secret) => Some(state.seal(secret.reveal())),
        None => before.as_ref().and_then(|client| client.sealed_secret.clone()),
    };
    let client = OidcClient {
        idp_id: protocol.idp_id,
        protocol_id: protocol.id,
        audiences: wanted.audiences.unwrap_or_else(|| vec![wanted.client_id.clone()]),
        issuer: wanted.issuer,
        client_id: wanted.client_id,
        sealed_secret,
        scopes: wanted.scopes.unwrap_or_else(|| SCOPES.to_owned()),
        introspection: matches!(wanted.access_tokens, Some(AccessTokens::Introspection)),
        user_info: wanted.user_info.unwrap_or(false),
    };
    if client.introspection && client.sealed_secret.is_none() {
        let message = "Introspection needs a client_secret: providers answer only whom they know.";
        return Err(Error::bad_request("ValidationError", message));
    }
    oidc::put(&mut tx, &client).await?;
    state.commit(tx).await?;
    for issuer in before.iter().map(|client| &client.issuer).chain([&client.issuer]) {
        state.sso().oidc.forget(issuer);
    }
    Reply::ok(&json!({ "oidc": document(&client) }))
}

/// `DELETE`: nobody comes in this way any more.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let protocol = protocol::load(&mut tx, cx.param("idp_id"), cx.param("protocol_id")).await?;
    if !oidc::delete(&mut tx, &protocol.idp_id, &protocol.id).await? {
        return Err(missing());
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn check(wanted: &Wanted) -> Result<()> {
    let invalid = |message: &str| Err(Error::bad_request("ValidationError", message));
    let is_url = wanted.issuer.parse::<http::Uri>().is_ok_and(|uri| {
        uri.query().is_none() && uri.authority().is_some() && matches!(uri.scheme_str(), Some("https" | "http"))
    });
    if !is_url || wanted.issuer.len() > TEXT_BYTES_MAX || wanted.issuer.contains('#') {
        return invalid("issuer must be the https address that the provider's tokens name as iss.");
    }
    if wanted.client_id.is_empty() || wanted.client_id.len() > TEXT_BYTES_MAX {
        return invalid("client_id must be a text as the provider gave it.");
    }
    if wanted.client_secret.as_ref().is_some_and(|secret| secret.len() > TEXT_BYTES_MAX) {
        return invalid("client_secret is too long.");
    }
    let scopes = wanted.scopes.as_deref().unwrap_or(SCOPES);
    if scopes.len() > TEXT_BYTES_MAX || !scopes.split(' ').any(|scope| scope == "openid") {
        return invalid("scopes must be names separated by blanks, openid among them.");
    }
    if let Some(audiences) = &wanted.audiences {
        let sound = |text: &String| !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
        if audiences.is_empty() || audiences.len() > AUDIENCES_MAX || !audiences.iter().all(sound) {
            return invalid("audiences must name 1 to 32 audiences that access tokens may be meant for.");
        }
    }
    Ok(())
}

fn document(client: &OidcClient) -> Value {
    json!({
        "issuer": client.issuer, "client_id": client.client_id,
        "has_client_secret": client.sealed_secret.is_some(), "scopes": client.scopes, "audiences": client.audiences,
        "access_tokens": if client.introspection { "introspection" } else { "jwt" }, "user_info": client.user_info,
    })
}

fn missing() -> Error {
    wire::not_found("OidcClientNotFound", "OpenID Connect settings", "oidc")
}

/// A protocol's settings with the secret in the open.
///
/// # Errors
/// Internal where the secret was sealed under another master key.
pub fn open(state: &State, settings: OidcClient) -> Result<Client> {
    let secret = settings.sealed_secret.as_deref().map(|sealed| state.unseal(sealed)).transpose()?;
    Ok(Client { settings, secret })
}
