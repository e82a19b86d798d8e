//! Coming in through a provider: with its token (the command line), or by way of it (a browser, for a dashboard).
//!
//! ```text
//! dashboard ── /websso?origin ──> here ── state, nonce, challenge ──> provider ── code, state ──> /callback
//!    ^                                                                                               │
//!    └────────────── a form with the token, posted by the browser to the trusted origin ─────────────┘
//! ```
//!
//! A login is known by its state, ends with the first answer to it, and only in the browser that began it (a cookie).
//! PKCE binds the code to this cloud, the nonce binds the ID token to this login.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::{
    Conn,
    identity::{
        domains, federation,
        federation::{IdentityProvider, Protocol},
        oidc::{self, Login},
    },
};
use subtle::ConstantTimeEq;
use web::{Cx, Reply, StatusCode};

use super::{logic::Assertion, protocol, provider, shadow};
use crate::{
    State,
    oidc::{
        api,
        client::{Client, CodeLogin},
    },
    payload::{AuditId, Methods, Payload, TokenScope},
    state::{TOKEN_LIFETIME, unauthenticated},
};

/// How long somebody may take at the provider.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(600);
/// Logins that may be under way at once.
const LOGINS_MAX: i64 = 100_000;
/// Where browsers see this folder; their cookies go nowhere else.
const PATH: &str = "/v3/auth/OS-FEDERATION";

/// `GET` and `POST .../identity_providers/{idp_id}/protocols/{protocol_id}/auth` with a provider's token.
pub async fn with_token(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let bearer = cx.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = bearer.filter(|token| !token.is_empty()).ok_or_else(unauthenticated)?;
    let way = Way::find(state, cx.param("idp_id"), cx.param("protocol_id")).await?;
    let claims = state.sso().oidc.claims_of_bearer(&way.client, token, cx.now()).await?;
    let (token, document) = way.admit(cx, state, &claims).await?;
    Ok(Reply::bytes(StatusCode::CREATED, "application/json", document)
        .with("x-subject-token", token)
        .with("vary", "X-Auth-Token, Authorization"))
}

/// `GET /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso`.
pub async fn websso_of_provider(cx: &Cx) -> Result<Reply> {
    begin(cx, cx.param("idp_id")).await
}

/// `GET /v3/auth/OS-FEDERATION/websso/{protocol_id}`: the provider that has this protocol, where only one has.
pub async fn websso(cx: &Cx) -> Result<Reply> {
    let found = federation::providers_of_protocol(&mut *cx.db().read().await?, cx.param("protocol_id")).await?;
    match found.as_slice() {
        [only] => begin(cx, only).await,
        [] => {
            Err(Error::not_found("FederatedProtocolNotFound", "No identity provider can be logged in with this way."))
        }
        _ => {
            let message = "Several identity providers have this protocol; name one: \
                           /v3/auth/OS-FEDERATION/identity_providers/PROVIDER/protocols/PROTOCOL/websso";
            Err(Error::bad_request("ValidationError", message))
        }
    }
}

/// What a login that is under way remembers; sealed in the database.
#[derive(Serialize, Deserialize)]
struct Remembered {
    origin: String,
    redirect_uri: String,
    nonce: String,
    verifier: String,
    /// Digest of the cookie.
    browser: String,
}

/// Sends the browser to the provider.
async fn begin(cx: &Cx, idp_id: &str) -> Result<Reply> {
    let state: &State = cx.state()?;
    let origin = cx.query.get("origin").ok_or_else(|| {
        Error::bad_request("ValidationError", "Request must have an origin query parameter: where the token goes.")
    })?;
    if !state.sso().trusted_dashboards.iter().any(|trusted| trusted == origin) {
        let message = "This origin is not among the trusted dashboards (--trusted-dashboard of nacre).";
        return Err(Error::unauthenticated("Unauthorized", message));
    }
    let way = Way::find(state, idp_id, cx.param("protocol_id")).await?;
    let settings = &way.client.settings;
    let discovery = state.sso().oidc.discover(&settings.issuer).await?;
    let target = discovery.authorization_endpoint.as_deref().ok_or_else(|| {
        Error::unavailable("IdentityProviderUnavailable", "The identity provider has no login for browsers.")
    })?;
    let (secret_state, cookie) = (random_text(), random_text());
    let remembered = Remembered {
        origin: origin.to_owned(),
        redirect_uri: format!("{}{PATH}/callback", cx.service_url()),
        nonce: random_text(),
        verifier: random_text(),
        browser: digest(&cookie),
    };
    let url = authorization_url(target, &way.client, &secret_state, &remembered)?;
    let sealed = serde_json::to_string(&remembered).map_err(|e| Error::internal("remembering a login", e))?;
    let login = Login {
        id: digest(&secret_state),
        idp_id: way.provider.id,
        protocol_id: way.protocol.id,
        sealed: state.seal(&sealed),
        expires_at: cx.now() + LOGIN_TIME_MAX,
    };
    let mut tx = state.db().begin().await?;
    if !oidc::begin_login(&mut tx, &login, LOGINS_MAX).await? {
        let message = "Too many logins are under way; try again in some minutes.";
        return Err(Error::unavailable("TooManyLogins", message).retry_after(LOGIN_TIME_MAX));
    }
    tx.commit().await?;
    Ok(Reply::empty(StatusCode::FOUND)
        .with("location", url)
        .with("set-cookie", set_cookie(cx, &login.id, &cookie, LOGIN_TIME_MAX.as_secs()))
        .with("referrer-policy", "no-referrer"))
}

fn authorization_url(target: &str, client: &Client, secret_state: &str, login: &Remembered) -> Result<String> {
    if !target.starts_with("https://") && !target.starts_with("http://") {
        return Err(Error::unavailable("IdentityProviderUnavailable", "The identity provider's login has no address."));
    }
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(login.verifier.as_bytes()));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([
        ("response_type", "code"),
        ("client_id", client.settings.client_id.as_str()),
        ("redirect_uri", login.redirect_uri.as_str()),
        ("scope", client.settings.scopes.as_str()),
        ("state", secret_state),
        ("nonce", login.nonce.as_str()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]);
    let mark = if target.contains('?') { '&' } else { '?' };
    Ok(format!("{target}{mark}{}", query.finish()))
}

/// `GET /v3/auth/OS-FEDERATION/callback`: where the provider sends the browser back to.
pub async fn callback(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = digest(cx.query.get("state").unwrap_or_default());
    let login = {
        let mut tx = state.db().begin().await?;
        let login = oidc::take_login(&mut tx, &id).await?;
        tx.commit().await?;
        login.ok_or_else(|| {
            Error::unauthenticated("Unauthorized", "This login took too long or has ended already: begin again.")
        })?
    };
    let remembered: Remembered =
        serde_json::from_str(&state.unseal(&login.sealed)?).map_err(|e| Error::internal("reading a login", e))?;
    let given = digest(cookie(cx, &id).unwrap_or_default());
    if !bool::from(given.as_bytes().ct_eq(remembered.browser.as_bytes())) {
        return Err(Error::unauthenticated(
            "Unauthorized",
            "This login was begun in another browser: begin again here.",
        ));
    }
    let way = Way::find(state, &login.idp_id, &login.protocol_id).await?;
    let issuer = way.client.settings.issuer.as_str();
    let discovery = state.sso().oidc.discover(issuer).await?;
    let named = cx.query.get("iss");
    if named.map_or(discovery.authorization_response_iss_parameter_supported, |named| named != issuer) {
        return Err(unauthenticated().because("the answer to a login names another provider"));
    }
    let Some(code) = cx.query.get("code") else {
        let why = cx.query.get("error").unwrap_or("no code").to_owned();
        let message = "The identity provider did not let you in.";
        return Err(Error::unauthenticated("Unauthorized", message).because(why));
    };
    let code_login = CodeLogin {
        redirect_uri: &remembered.redirect_uri,
        verifier: &remembered.verifier,
        nonce: &remembered.nonce,
        now: cx.now(),
    };
    let claims = state.sso().oidc.claims_of_code(&way.client, code, &code_login).await?;
    let (token, _) = way.admit(cx, state, &claims).await?;
    Ok(form(cx, &id, &remembered.origin, &token))
}

/// A page that posts the token to the dashboard, as Horizon and keystoneauth expect it.
fn form(cx: &Cx, id: &str, origin: &str, token: &str) -> Reply {
    let nonce = random_text();
    let (action, token) = (escape(origin), escape(token));
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Logging in</title></head><body>\n\
         <form id=\"sso\" name=\"sso\" action=\"{action}\" method=\"post\">\n\
         <input type=\"hidden\" name=\"token\" id=\"token\" value=\"{token}\">\n\
         <noscript><p>Your browser runs no scripts here.</p><input type=\"submit\" value=\"Go on\"></noscript>\n\
         </form>\n<script nonce=\"{nonce}\">document.getElementById(\"sso\").submit()</script>\n</body></html>\n"
    );
    // No form-action: browsers apply it to the redirects of whoever is posted to, also.
    let policy = format!("default-src 'none'; script-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'");
    Reply::bytes(StatusCode::OK, "text/html; charset=utf-8", page)
        .with("content-security-policy", policy)
        // Enough for browsers to say where the form comes from, which whoever it is posted to may check.
        .with("referrer-policy", "origin")
        .with("x-content-type-options", "nosniff")
        .with("set-cookie", set_cookie(cx, id, "", 0))
}

/// A provider's protocol with all that is needed to come in.
struct Way {
    provider: IdentityProvider,
    protocol: Protocol,
    client: Client,
}

impl Way {
    /// One that is open.
    async fn find(state: &State, idp_id: &str, protocol_id: &str) -> Result<Self> {
        let mut conn = state.db().read().await?;
        let provider = provider::load(&mut conn, idp_id).await?;
        let protocol = protocol::load(&mut conn, idp_id, protocol_id).await?;
        let settings = oidc::get(&mut conn, idp_id, protocol_id).await?.ok_or_else(|| {
            Error::not_found(
                "OidcClientNotFound",
                "This protocol has no OpenID Connect settings: give it some under /nacre/v1/identity/providers.",
            )
        })?;
        let open = provider.enabled && domain_is_enabled(&mut conn, &provider).await?;
        if !open {
            let message = format!("Identity Provider {} is disabled.", provider.id);
            return Err(Error::forbidden("Forbidden", message));
        }
        Ok(Self { provider, protocol, client: api::open(state, settings)? })
    }

    /// A token for whom the claims are about; the token and its document.
    async fn admit(&self, cx: &Cx, state: &State, claims: &Map<String, Value>) -> Result<(String, bytes::Bytes)> {
        self.check_remote_id(claims)?;
        let mapping = protocol::mapping_of(&mut *state.db().read().await?, &self.protocol).await?;
        let mapped = mapping.apply(&Assertion::from_claims(claims)).map_err(|why| {
            let message = "The identity provider vouches for you, but no rule of this cloud lets you in.";
            Error::unauthenticated("Unauthorized", message).because(why)
        })?;
        let now = cx.now();
        let expires_at = now + TOKEN_LIFETIME;
        let user = shadow::admit(state, &self.provider, &self.protocol, mapped, expires_at).await?;
        let payload = unscoped(user.id, user.generation, now, expires_at);
        let (token, validated) = state.issue(payload).await?;
        tracing::info!(
            request_id = cx.request_id,
            user = %validated.payload.user_id,
            audit_id = %validated.payload.audit_id,
            provider = self.provider.id,
            "token issued"
        );
        Ok((token, validated.document(true)))
    }

    /// Where the provider has names of its own, the claims must bear one of them.
    fn check_remote_id(&self, claims: &Map<String, Value>) -> Result<()> {
        let attribute = self.protocol.remote_id_attribute.as_deref().unwrap_or("iss");
        let attribute = attribute.strip_prefix("HTTP_OIDC_").map_or(attribute.to_owned(), str::to_lowercase);
        let named = claims.get(&attribute).and_then(Value::as_str);
        let known = &self.provider.remote_ids;
        if known.is_empty() || named.is_some_and(|named| known.iter().any(|id| id == named)) {
            return Ok(());
        }
        Err(unauthenticated().because(format!("{attribute} is none of the provider's remote ids")))
    }
}

async fn domain_is_enabled(conn: &mut Conn, provider: &IdentityProvider) -> Result<bool> {
    Ok(domains::get(conn, &provider.domain_id).await?.is_some_and(|domain| domain.enabled))
}

fn unscoped(user_id: model::id::UserId, generation: i64, now: Timestamp, expires_at: Timestamp) -> Payload {
    Payload {
        user_id,
        user_generation: generation,
        methods: Methods::OPENID,
        scope: TokenScope::Unscoped,
        scope_generation: 0,
        issued_at: now,
        expires_at,
        audit_id: AuditId::random(),
        parent_audit_id: None,
        origin: None,
    }
}

/// 256 random bits as text.
fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Each login has a cookie of its own: two tabs may log in at once.
fn cookie_name(id: &str) -> String {
    format!("nacre-login-{}", &id[..16])
}

fn set_cookie(cx: &Cx, id: &str, value: &str, seconds: u64) -> String {
    let secure = if cx.base_url.starts_with("https:") { "; Secure" } else { "" };
    let path = format!("{}{PATH}", cx.service().prefix);
    // Lax: the provider's redirect is a navigation from elsewhere.
    format!("{}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", cookie_name(id))
}

fn cookie<'a>(cx: &'a Cx, id: &str) -> Option<&'a str> {
    let name = cookie_name(id);
    let pairs = cx.header("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(n, _)| *n == name).map(|(_, value)| value)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
