//! Everything that is fetched from providers.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, header};
use model::{Error, Result, Timestamp};
use moka::sync::Cache;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use store::identity::oidc::OidcClient;
use tokio::sync::Semaphore;
use web::{Outbound, outbound::OutboundError};
use zeroize::Zeroizing;

use super::{
    jws::{JwsError, KeySet, Unverified},
    logic::{self, Expected},
};
use crate::state::unauthenticated;

/// How long discovery documents and keys are good.
pub const CACHE_TIME: Duration = Duration::from_secs(600);
/// How often keys are fetched anew at the most, because a token names one that isn't known.
const KEYS_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Providers that are remembered.
const CACHE_ENTRIES_MAX: u64 = 256;
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Requests at once, and how long one waits for its turn.
const AT_ONCE: usize = 16;
const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// What a provider says about itself, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct Discovery {
    issuer: String,
    /// Where browsers go.
    pub authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: Option<String>,
    userinfo_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    /// Whether it says of itself who it is when it sends a browser back.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// A protocol's settings with the secret in the open, for the time of a request.
pub struct Client {
    /// The settings.
    pub settings: OidcClient,
    /// The secret; none for a public client.
    pub secret: Option<Zeroizing<String>>,
}

/// Asks providers, and remembers their documents and keys.
pub struct Oidc {
    outbound: Outbound,
    discovery: Cache<String, Arc<Discovery>>,
    keys: Cache<String, Arc<KeySet>>,
    /// Providers whose keys were fetched a moment ago.
    fresh: Cache<String, ()>,
    turns: Semaphore,
}

impl Oidc {
    /// One for each process.
    pub fn new(outbound: Outbound) -> Self {
        let lasting = |time: Duration| Cache::builder().max_capacity(CACHE_ENTRIES_MAX).time_to_live(time);
        Self {
            outbound,
            discovery: lasting(CACHE_TIME).build(),
            keys: Cache::builder().max_capacity(CACHE_ENTRIES_MAX).time_to_live(CACHE_TIME).build(),
            fresh: Cache::builder().max_capacity(CACHE_ENTRIES_MAX).time_to_live(KEYS_AGAIN_AFTER).build(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Forgets what is known of a provider: its settings have changed.
    pub fn forget(&self, issuer: &str) {
        self.discovery.invalidate(issuer);
        self.keys.invalidate(issuer);
        self.fresh.invalidate(issuer);
    }

    /// What the provider says about itself.
    ///
    /// # Errors
    /// Unavailable where it can't be had or is another's.
    pub async fn discover(&self, issuer: &str) -> Result<Arc<Discovery>> {
        if let Some(known) = self.discovery.get(issuer) {
            return Ok(known);
        }
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Discovery = self.get(&url, None).await?;
        if found.issuer != issuer {
            let why = format!("the document of {issuer} is of {}", found.issuer);
            return Err(unreachable_provider().because(why));
        }
        let found = Arc::new(found);
        self.discovery.insert(issuer.to_owned(), found.clone());
        Ok(found)
    }

    async fn keys(&self, issuer: &str, anew: bool) -> Result<Arc<KeySet>> {
        if let Some(known) = self.keys.get(issuer)
            && (!anew || self.fresh.contains_key(issuer))
        {
            return Ok(known);
        }
        // Before the fetch: a flood of tokens with odd keys costs one request.
        self.fresh.insert(issuer.to_owned(), ());
        let discovery = self.discover(issuer).await?;
        let found: Arc<KeySet> = Arc::new(self.get(endpoint(discovery.jwks_uri.as_ref(), "jwks_uri")?, None).await?);
        self.keys.insert(issuer.to_owned(), found.clone());
        Ok(found)
    }

    /// The claims of a token that the provider has signed; their meaning is not looked at.
    async fn verified(&self, issuer: &str, token: &str) -> Result<Map<String, Value>> {
        let parse = || Unverified::parse(token).map_err(|why| refused(&why));
        match parse()?.verified(&*self.keys(issuer, false).await?) {
            Err(JwsError::UnknownKey) => {}
            verdict => return verdict.map_err(|why| refused(&why)),
        }
        parse()?.verified(&*self.keys(issuer, true).await?).map_err(|why| refused(&why))
    }

    /// What the provider says of the bearer of an access token (or of an ID token that was made for this cloud).
    ///
    /// # Errors
    /// Unauthenticated for a token that isn't good here; unavailable where the provider can't be asked.
    pub async fn claims_of_bearer(&self, client: &Client, token: &str, now: Timestamp) -> Result<Map<String, Value>> {
        let settings = &client.settings;
        let mut claims = if settings.introspection {
            self.introspect(client, token, now).await?
        } else {
            let claims = self.verified(&settings.issuer, token).await?;
            let expected = Expected { issuer: &settings.issuer, audiences: &settings.audiences, now };
            logic::check(&claims, &expected).map_err(|why| refused(&why))?;
            claims
        };
        if settings.user_info {
            let discovery = self.discover(&settings.issuer).await?;
            let url = endpoint(discovery.userinfo_endpoint.as_ref(), "userinfo_endpoint")?;
            let more: Map<String, Value> = self.get(url, Some(format!("Bearer {token}"))).await?;
            add_user_info(&mut claims, more)?;
        }
        Ok(claims)
    }

    async fn introspect(&self, client: &Client, token: &str, now: Timestamp) -> Result<Map<String, Value>> {
        let settings = &client.settings;
        let discovery = self.discover(&settings.issuer).await?;
        let url = endpoint(discovery.introspection_endpoint.as_ref(), "introspection_endpoint")?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        let mut claims: Map<String, Value> = self.post(client, url, &form).await?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(refused(&"the provider says that it is not active"));
        }
        // Both are optional there: the provider's own word is what stands for them.
        claims.entry("iss").or_insert_with(|| Value::from(settings.issuer.as_str()));
        if !claims.contains_key("aud")
            && let Some(id) = claims.get("client_id").cloned()
        {
            claims.insert("aud".to_owned(), id);
        }
        let expected = Expected { issuer: &settings.issuer, audiences: &settings.audiences, now };
        logic::check(&claims, &expected).map_err(|why| refused(&why))?;
        Ok(claims)
    }

    /// What the provider says of whom it sent back with a code.
    ///
    /// # Errors
    /// Unauthenticated where the code or what it gives is not good; unavailable where the provider can't be asked.
    pub async fn claims_of_code(
        &self,
        client: &Client,
        code: &str,
        login: &CodeLogin<'_>,
    ) -> Result<Map<String, Value>> {
        let settings = &client.settings;
        let discovery = self.discover(&settings.issuer).await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", login.redirect_uri),
            ("code_verifier", login.verifier),
        ];
        let url = endpoint(discovery.token_endpoint.as_ref(), "token_endpoint")?;
        let given: Tokens = self.post(client, url, &form).await?;
        let mut claims = self.verified(&settings.issuer, &given.id_token).await?;
        let audiences = [settings.client_id.clone()];
        let expected = Expected { issuer: &settings.issuer, audiences: &audiences, now: login.now };
        logic::check(&claims, &expected).map_err(|why| refused(&why))?;
        logic::check_id_token(&claims, &settings.client_id, login.nonce).map_err(|why| refused(&why))?;
        if let (true, Some(url), Some(token)) = (settings.user_info, &discovery.userinfo_endpoint, &given.access_token)
        {
            let more: Map<String, Value> = self.get(url, Some(format!("Bearer {token}"))).await?;
            add_user_info(&mut claims, more)?;
        }
        Ok(claims)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, authorization: Option<String>) -> Result<T> {
        let mut request = Request::builder().method(Method::GET).uri(url).header(header::ACCEPT, "application/json");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        self.send(request.body(Bytes::new())).await
    }

    async fn post<T: DeserializeOwned>(&self, client: &Client, url: &str, form: &[(&str, &str)]) -> Result<T> {
        self.send(form_request(client, url, form)).await
    }

    async fn send<T: DeserializeOwned>(&self, request: http::Result<Request<Bytes>>) -> Result<T> {
        let request = request.map_err(|e| unreachable_provider().because(e))?;
        let url = request.uri().to_string();
        let turn = tokio::time::timeout(TURN_TIME_MAX, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| unreachable_provider().because("too many requests to providers at once"))?;
        let why = |error: OutboundError| unreachable_provider().because(format!("{url}: {error}"));
        let answer = self.outbound.send(request, ANSWER_BYTES_MAX).await.map_err(why)?;
        let status = answer.status();
        // 400 and 401 are about what was shown, and nothing else is the bearer's fault.
        if status == 400 || status == 401 {
            return Err(refused(&format!("{url} answers {status}")));
        }
        if !status.is_success() {
            return Err(unreachable_provider().because(format!("{url} answers {status}")));
        }
        serde_json::from_slice(answer.body()).map_err(|e| unreachable_provider().because(format!("{url}: {e}")))
    }
}

/// A form, from this client.
fn form_request(client: &Client, url: &str, form: &[(&str, &str)]) -> http::Result<Request<Bytes>> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let id = &client.settings.client_id;
    match &client.secret {
        // As OAuth wants it: both are encoded as a form would before they become one text.
        Some(secret) => {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let both = Zeroizing::new(format!("{}:{}", encode(id), encode(secret)));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(both.as_bytes())));
        }
        None => {
            body.append_pair("client_id", id);
        }
    }
    request.body(Bytes::from(body.finish()))
}

/// What the code's login was begun with.
pub struct CodeLogin<'a> {
    /// Where the provider sent the browser back to.
    pub redirect_uri: &'a str,
    /// What the challenge was made of.
    pub verifier: &'a str,
    /// What the ID token must repeat.
    pub nonce: &'a str,
    /// The moment.
    pub now: Timestamp,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// User info adds to a token's claims, and is of the same subject.
fn add_user_info(claims: &mut Map<String, Value>, more: Map<String, Value>) -> Result<()> {
    if claims.get("sub") != more.get("sub") {
        return Err(refused(&"the user info is of another subject"));
    }
    for (name, value) in more {
        if claims.get(&name).is_none_or(Value::is_null) {
            claims.insert(name, value);
        }
    }
    Ok(())
}

/// An address of the discovery document. Whether it may be asked is decided when it is.
fn endpoint<'a>(url: Option<&'a String>, name: &str) -> Result<&'a str> {
    url.map(String::as_str).ok_or_else(|| unreachable_provider().because(format!("the provider names no {name}")))
}

fn unreachable_provider() -> Error {
    let message = "The identity provider can't be asked now; try again, and tell the operator if that does not help.";
    Error::unavailable("IdentityProviderUnavailable", message).retry_after(Duration::from_secs(5))
}

/// The bearer learns that it is refused, the log why.
fn refused(why: &dyn std::fmt::Display) -> Error {
    unauthenticated().because(format!("a provider's token was refused: {why}"))
}
