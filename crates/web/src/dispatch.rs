//! The one path that every request takes.
//!
//! request id → service by prefix → route by path, method, version and action → token → body within its limit →
//! handler within its time → was a rule applied? → headers → log and metrics.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use ipnet::IpNet;
use model::{
    Error, ErrorKind, Result,
    limits::{BODY_BYTES_MAX, REQUEST_TIME_MAX},
};
use store::Db;

use crate::{
    Access, Authenticator, Caller, Cx, FaultStyle, Reply, Route, Service, StatusCode, Version,
    audit::{Asked, Trail},
    fault,
    idempotency::Key,
    limit::{Limiter, Limits},
    metrics::Metrics,
    paging::Query,
    policy::Policy,
};

/// Everything that answers requests.
pub struct App {
    pub(crate) db: Db,
    pub(crate) services: Vec<Service>,
    routers: Vec<matchit::Router<Vec<&'static Route>>>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    policy: ArcSwap<Policy>,
    metrics: Metrics,
    /// `http` or `https`: what links start with where no proxy says otherwise.
    scheme: &'static str,
    limiter: OnceLock<Limiter>,
    /// Those whose `X-Forwarded-For` is believed.
    proxies: OnceLock<Vec<IpNet>>,
}

/// Where a request's connection comes from; the listener puts it among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl App {
    /// Wires services together.
    ///
    /// # Errors
    /// Two routes that can't be told apart: a defect in a table.
    pub fn new(
        db: Db,
        services: Vec<Service>,
        authenticator: Arc<dyn Authenticator>,
        policy: Policy,
        scheme: &'static str,
    ) -> Result<Arc<Self>, String> {
        let routers = services.iter().map(router).collect::<Result<_, _>>()?;
        let policy = ArcSwap::from_pointee(policy);
        Ok(Arc::new(Self {
            db,
            services,
            routers,
            authenticator,
            policy,
            metrics: Metrics::default(),
            scheme,
            limiter: OnceLock::new(),
            proxies: OnceLock::new(),
        }))
    }

    /// Limits how often somebody may ask, and says whose word about clients' addresses counts. Once, before requests come.
    pub fn limit(&self, limits: Limits, trusted_proxies: Vec<IpNet>) {
        // A second call changes nothing: limits hold for a server's life.
        let _ = (self.limiter.set(Limiter::new(limits)), self.proxies.set(trusted_proxies));
    }

    /// The rules in force.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Puts other rules in force, from the next request on.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// The services, for tables that tests and golden files walk.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The metrics, for other parts to register theirs.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request. Never fails, never panics.
    pub async fn handle(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let request_id = format!("req-{}", model::id::random_uuid());
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if let Some(reply) = self.built_in(&path).await {
            return respond(reply, &request_id);
        }
        let found = self.find_service(&path);
        let (name, style) =
            found.map_or(("none", FaultStyle::Nova), |(at, _)| (self.services[at].name, self.services[at].faults));
        let mut trace = Trace {
            route: "-",
            caller: Caller::anonymous(),
            version: None,
            trail: Trail::new(&parts.method),
            address: self.address(&parts),
            key: None,
        };
        let answer = match found {
            Some((at, rest)) => {
                let request = trace.trail.request.clone();
                let run = store::request::scope(request, self.run(at, rest, &parts, body, &request_id, &mut trace));
                AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|panic| {
                    let text = panic
                        .downcast_ref::<&str>()
                        .map(|s| (*s).to_owned())
                        .or_else(|| panic.downcast_ref::<String>().cloned());
                    Err(Error::internal("a handler panicked", text.unwrap_or_default()))
                })
            }
            None => Err(not_found(&path)),
        };
        let (status, why) = match &answer {
            Ok(reply) => (reply.status, None),
            Err(error) => (fault::status(error, style), Some((error.kind, error.code))),
        };
        let answer = trace.trail.end(&self.db, status, why).await.and(answer);
        let mut reply = answer.unwrap_or_else(|error| {
            log_error(&error, &request_id);
            fault::render(&error, style, &request_id, &format!("{}/identity", self.base_url(&parts.headers)))
        });
        if let Some(key) = trace.key.take() {
            let has_key = trace.trail.request.has_committed();
            if has_key || reply.status.is_success() {
                reply = key.keep(&self.db, reply, has_key).await;
            }
        }
        if let (Some(version), Some((at, _))) = (trace.version, found)
            && let Some(versions) = self.services[at].versions
        {
            versions.mark(version, &mut reply.headers);
        }
        let took = started.elapsed();
        self.metrics.count(name, &parts.method, trace.route, reply.status.as_u16(), took);
        tracing::info!(
            request_id,
            method = %parts.method,
            path,
            status = reply.status.as_u16(),
            ms = took.as_secs_f64() * 1000.0,
            user = trace.caller.user_id.as_ref().map_or("-", |u| u.as_str()),
            project = trace.caller.project().map_or("-", |p| p.as_str()),
            "request"
        );
        respond(reply, &request_id)
    }

    /// What is asked about the process itself.
    async fn built_in(&self, path: &str) -> Option<Reply> {
        match path {
            "/healthz" => {
                let healthy = match self.db.read().await {
                    Ok(mut conn) => store::query("select 1").execute(&mut *conn).await.is_ok(),
                    Err(_) => false,
                };
                let (status, text) = if healthy {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "database unreachable\n")
                };
                Some(Reply::bytes(status, "text/plain; charset=utf-8", text))
            }
            "/metrics" => {
                Some(Reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.encode()))
            }
            _ => None,
        }
    }

    /// The service whose prefix the path has, and the rest of the path. The longest prefix wins.
    fn find_service<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        let candidates = self.services.iter().enumerate().filter_map(|(at, service)| {
            let rest = path.strip_prefix(service.prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((at, service.prefix.len(), rest))
        });
        candidates
            .max_by_key(|(_, length, _)| *length)
            .map(|(at, _, rest)| (at, if rest.is_empty() { "/" } else { rest }))
    }

    async fn run(
        self: &Arc<Self>,
        service: usize,
        rest: &str,
        parts: &Parts,
        body: Body,
        request_id: &str,
        trace: &mut Trace,
    ) -> Result<Reply> {
        let versions = self.services[service].versions;
        let version = versions.map_or(Ok(Version::MIN), |v| {
            trace.version = Some(v.min);
            v.negotiate(&parts.headers)
        })?;
        trace.version = versions.map(|_| version);
        let Matching { routes: candidates, params } = self.matching(service, rest, parts, version)?;
        let first = candidates.first().ok_or_else(|| not_found(rest))?;
        trace.route = first.path;
        // The token before the body: who may not ask has nothing read.
        trace.caller = self.caller(first.access, &parts.headers).await.or_else(|error| {
            self.limit_address(trace.address)?;
            Err(error)
        })?;
        self.limit_caller(first, trace)?;
        check_access_rules(self.services[service].name, first.access, parts, rest, &trace.caller)?;
        let (bytes, stream) = if first.streaming { (Bytes::new(), Some(body)) } else { (read(body).await?, None) };
        let route = by_action(&candidates, &bytes)?;
        let asked = || Asked {
            id: request_id,
            address: trace.address.map(|address| address.to_string()).unwrap_or_default(),
            service: self.services[service].name,
            method: &parts.method,
            path: parts.uri.path(),
        };
        if trace.trail.is_mutating() {
            trace.trail.learn(asked(), &trace.caller, route, &params);
        }
        let key = if route.streaming { None } else { Key::of(parts, &trace.caller, &bytes, request_id)? };
        if let Some(key) = key {
            if let Some(reply) = key.first_answer(&self.db).await? {
                return Ok(reply);
            }
            trace.trail.request.claim(key.claim.clone());
            trace.key = Some(key);
        }
        let cx = Cx {
            app: self.clone(),
            service,
            route,
            request_id: request_id.to_owned(),
            caller: trace.caller.clone(),
            version,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            base_url: self.base_url(&parts.headers),
            path: parts.uri.path().to_owned(),
            params,
            body: bytes,
            stream: Mutex::new(stream),
            authorized: AtomicBool::new(!matches!(route.access, Access::Rule(_))),
            trail: trace.trail.clone(),
        };
        let answer = self.call(route, &cx).await;
        if answer.is_err() && !trace.trail.is_mutating() {
            trace.trail.learn(asked(), &trace.caller, route, &cx.params);
        }
        if is_login(route) && answer.is_ok() {
            self.limiter.get().inspect(|limiter| limiter.logged_in(trace.address));
        }
        answer
    }

    async fn call(&self, route: &'static Route, cx: &Cx) -> Result<Reply> {
        let reply = if route.streaming {
            (route.handler)(cx).await?
        } else {
            tokio::time::timeout(REQUEST_TIME_MAX, (route.handler)(cx)).await.map_err(|_| {
                Error::unavailable(
                    "RequestTimeout",
                    "The request took too long; it may still take effect. Look before trying again.",
                )
            })??
        };
        if reply.status.is_success() && !cx.authorized.load(Ordering::Relaxed) {
            return Err(Error::internal("authorizing", format!("{} {} applied no policy rule", cx.method, route.path)));
        }
        Ok(reply)
    }

    /// Who may ask how often: whoever is known, by name; others, and logins, by their address.
    fn limit_caller(&self, route: &Route, trace: &Trace) -> Result<()> {
        let Some(limiter) = self.limiter.get() else { return Ok(()) };
        let (caller, now) = (&trace.caller, self.db.clock().now());
        if is_login(route) {
            limiter.login(trace.address, now)?;
        }
        if !caller.is_authenticated() {
            return limiter.anonymous(trace.address, now);
        }
        let privileged = caller.has_role("admin") || caller.has_role("service");
        limiter.caller(|| format!("{}@{:?}", caller.user(), caller.project()), privileged, now)
    }

    fn limit_address(&self, address: Option<IpAddr>) -> Result<()> {
        self.limiter.get().map_or(Ok(()), |limiter| limiter.anonymous(address, self.db.clock().now()))
    }

    /// The client's address: the connection's, or what a proxy that is trusted says it was.
    fn address(&self, parts: &Parts) -> Option<IpAddr> {
        let Peer(peer) = *parts.extensions.get()?;
        let trusted =
            |address: &IpAddr| self.proxies.get().is_some_and(|all| all.iter().any(|net| net.contains(address)));
        if !trusted(&peer) {
            return Some(peer);
        }
        let hops = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            hops.flat_map(|text| text.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
        Some(hops.into_iter().rev().find(|hop| !trusted(hop)).unwrap_or(peer))
    }

    /// The routes of that path, method and version; several only where actions tell them apart.
    fn matching(&self, service: usize, rest: &str, parts: &Parts, version: Version) -> Result<Matching> {
        // Nova and Neutron take a slash at the end; the tables have none but at the root.
        let trimmed = if rest.len() > 1 { rest.trim_end_matches('/') } else { rest };
        let router = &self.routers[service];
        let found = router.at(rest).or_else(|_| router.at(trimmed)).map_err(|_| not_found(rest))?;
        let decode = |text: &str| percent_decode(text);
        let params = found.params.iter().map(|(name, value)| (name.to_owned(), decode(value))).collect();
        let alive = found.value.iter().filter(|r| r.since <= version && version <= r.until);
        let of_method = |method: &http::Method| -> Vec<&'static Route> {
            alive.clone().filter(|r| r.method.as_http() == *method).copied().collect()
        };
        let mut routes = of_method(&parts.method);
        if routes.is_empty() && parts.method == http::Method::HEAD {
            routes = of_method(&http::Method::GET);
        }
        match (routes.is_empty(), alive.clone().next().is_some()) {
            (false, _) => Ok(Matching { routes, params }),
            (true, true) => Err(Error::new(
                ErrorKind::MethodNotAllowed,
                "MethodNotAllowed",
                format!("{} is not allowed here.", parts.method),
            )),
            (true, false) => Err(not_found(rest)),
        }
    }

    async fn caller(&self, access: Access, headers: &HeaderMap) -> Result<Caller> {
        let token = headers.get("x-auth-token").and_then(|v| v.to_str().ok()).filter(|t| !t.is_empty());
        match (token, access) {
            (None, Access::Public) => Ok(Caller::anonymous()),
            // A stale token must not keep anyone from asking for a new one.
            (Some(token), Access::Public) => Ok(self.authenticator.authenticate(token).await.unwrap_or_default()),
            (Some(token), Access::Token | Access::Rule(_)) => self.authenticator.authenticate(token).await,
            (None, Access::Token | Access::Rule(_)) => {
                Err(Error::unauthenticated("Unauthorized", "The request you have made requires authentication."))
            }
        }
    }

    /// Scheme and authority as the client used them; a TLS-terminating proxy says so by `X-Forwarded-Proto`.
    fn base_url(&self, headers: &HeaderMap) -> String {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let scheme = match text("x-forwarded-proto") {
            Some("https") => "https",
            Some("http") => "http",
            _ => self.scheme,
        };
        let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or("localhost");
        format!("{scheme}://{host}")
    }
}

/// Refuses what an application credential's access rules don't name. Looking at a token is always allowed: it is how
/// services learn what it means.
fn check_access_rules(service: &str, access: Access, parts: &Parts, rest: &str, caller: &Caller) -> Result<()> {
    let Some(rules) = &caller.access_rules else { return Ok(()) };
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let looks_at_token = service == "identity" && method == "GET" && rest == "/v3/auth/tokens";
    let allowed = || rules.iter().any(|rule| rule.allows(service, method, path, rest));
    if access == Access::Public || looks_at_token || allowed() {
        return Ok(());
    }
    let message = format!("The application credential's access rules don't allow {method} {rest} of {service}.");
    Err(Error::unauthenticated("AccessRuleDenied", message))
}

/// The routes that a request may mean, and the parameters of its path.
struct Matching {
    routes: Vec<&'static Route>,
    params: Vec<(String, String)>,
}

/// What is known of a request so far, for its log line.
struct Trace {
    route: &'static str,
    caller: Caller,
    version: Option<Version>,
    trail: Trail,
    address: Option<IpAddr>,
    key: Option<Key>,
}

/// Whether it is a way to a token: what anybody may post to.
fn is_login(route: &Route) -> bool {
    route.access == Access::Public && route.method == crate::service::Verb::Post
}

fn router(service: &Service) -> Result<matchit::Router<Vec<&'static Route>>, String> {
    let mut by_path: std::collections::BTreeMap<&'static str, Vec<&'static Route>> = std::collections::BTreeMap::new();
    for route in service.routes {
        by_path.entry(route.path).or_default().push(route);
    }
    let mut router = matchit::Router::new();
    for (path, routes) in by_path {
        router.insert(path, routes).map_err(|e| format!("{}: {path}: {e}", service.name))?;
    }
    Ok(router)
}

/// Among routes of one path and method, the one whose action the body names.
fn by_action(candidates: &[&'static Route], body: &[u8]) -> Result<&'static Route> {
    if let [only] = candidates
        && only.action.is_none()
    {
        return Ok(only);
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
        .map_err(|e| Error::bad_request("BadRequest", format!("The request body must be a JSON object: {e}")))?;
    let named = candidates.iter().find(|route| route.action.is_some_and(|action| object.contains_key(action)));
    let plain = candidates.iter().find(|route| route.action.is_none());
    named.or(plain).copied().ok_or_else(|| {
        let given = object.keys().next().map_or("none", String::as_str);
        Error::bad_request("NoSuchAction", format!("There is no such action: {given}."))
    })
}

async fn read(body: Body) -> Result<Bytes> {
    let limited = Limited::new(body, BODY_BYTES_MAX);
    let reading = tokio::time::timeout(REQUEST_TIME_MAX, limited.collect());
    match reading.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            Err(Error::too_large("RequestTooLarge", format!("The request body is larger than {BODY_BYTES_MAX} bytes.")))
        }
        Ok(Err(e)) => Err(Error::bad_request("BadRequest", "The request body could not be read.").because(e)),
        Err(_) => Err(Error::bad_request("RequestTimeout", "The request body did not arrive in time.")),
    }
}

fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn not_found(path: &str) -> Error {
    Error::not_found("NotFound", format!("The resource could not be found: {path}"))
}

/// 5xx are the operator's business, with their whole chain; 4xx the client's.
fn log_error(error: &Error, request_id: &str) {
    match error.kind {
        ErrorKind::Internal | ErrorKind::Unavailable => {
            tracing::error!(request_id, code = error.code, chain = error.chain(), "{}", error.message);
        }
        _ => tracing::debug!(request_id, code = error.code, chain = error.chain(), "{}", error.message),
    }
}

fn respond(reply: Reply, request_id: &str) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if let Ok(id) = HeaderValue::from_str(request_id) {
        // Nova's own name for it besides everybody's.
        response.headers_mut().insert(HeaderName::from_static("x-compute-request-id"), id.clone());
        response.headers_mut().insert(HeaderName::from_static("x-openstack-request-id"), id);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
