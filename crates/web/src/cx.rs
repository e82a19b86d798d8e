//! What a handler gets: who asks for what, and the means to authorize it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use model::{Error, Result, Timestamp, id::ProjectId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Db;

use crate::{Access, App, Caller, Route, Service, Target, Version, audit::Trail, paging::Query};

/// One request, as its handler sees it.
pub struct Cx {
    pub(crate) app: Arc<App>,
    pub(crate) service: usize,
    pub(crate) route: &'static Route,
    /// `req-...`, in every log line and response.
    pub request_id: String,
    /// Who asks.
    pub caller: Caller,
    /// The microversion in force; [`Version::MIN`] where the service has none.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The query string, in order.
    pub query: Query,
    /// `http://cloud:8774`: scheme and authority as the client used them.
    pub base_url: String,
    /// The whole path, prefix included.
    pub path: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) stream: Mutex<Option<axum::body::Body>>,
    pub(crate) authorized: AtomicBool,
    pub(crate) trail: Trail,
}

/// A token that outlives its request: for answers that go on for hours.
pub struct Session {
    app: Arc<App>,
    token: String,
}

impl Session {
    /// Whether the token still holds. A database that can't be asked does not end a session.
    pub async fn is_valid(&self) -> bool {
        let asked = self.app.authenticator.authenticate(&self.token).await;
        !asked.is_err_and(|error| error.kind == model::ErrorKind::Unauthenticated)
    }
}

impl Cx {
    /// The database.
    pub fn db(&self) -> &Db {
        &self.app.db
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.app.db.clock().now()
    }

    /// The state that the service's handlers share.
    ///
    /// # Errors
    /// Internal where the service was wired with another type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T> {
        let state = &self.service().state;
        state
            .downcast_ref()
            .ok_or_else(|| Error::internal("wiring", format!("{} has another state", self.service().name)))
    }

    /// The service that the request came to.
    pub fn service(&self) -> &Service {
        &self.app.services[self.service]
    }

    /// All services, for what is told of them.
    pub fn services(&self) -> &[Service] {
        &self.app.services
    }

    /// The caller's token, to be asked for again.
    pub fn session(&self) -> Session {
        Session { app: self.app.clone(), token: self.header("x-auth-token").unwrap_or_default().to_owned() }
    }

    /// The public address of the service: `http://cloud:8774/compute`.
    pub fn service_url(&self) -> String {
        format!("{}{}", self.base_url, self.service().prefix)
    }

    /// The public address of this request without its query.
    pub fn self_url(&self) -> String {
        format!("{}{}", self.base_url, self.path)
    }

    /// The public address of another service of this cloud, by its prefix: `/image`.
    pub fn url_of(&self, prefix: &str) -> String {
        format!("{}{prefix}", self.base_url)
    }

    /// A parameter of the path; empty where the route has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body's bytes (at most [`model::limits::BODY_BYTES_MAX`]).
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// The body as a shape.
    ///
    /// # Errors
    /// Bad request that says where the body differs from the shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            Error::bad_request("BadRequest", format!("The request body is not what this operation takes: {e}"))
        })
    }

    /// The object under the body's one key, as OpenStack wraps them: `{"server": {...}}`.
    ///
    /// # Errors
    /// Bad request that says where the body differs from the shape.
    pub fn json_in<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let mut outer: Value = self.json()?;
        let inner = outer.get_mut(key).map(Value::take).ok_or_else(|| {
            Error::bad_request("BadRequest", format!("The request body must be an object with the key {key:?}."))
        })?;
        serde_json::from_value(inner)
            .map_err(|e| Error::bad_request("BadRequest", format!("Invalid input for {key}: {e}")))
    }

    /// The body as a stream, on a streaming route, once.
    pub fn take_stream(&self) -> axum::body::Body {
        self.stream
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
            .unwrap_or_else(axum::body::Body::empty)
    }

    /// The project of the token.
    ///
    /// # Errors
    /// Forbidden where the token has another scope.
    pub fn project(&self) -> Result<&ProjectId> {
        self.caller
            .project()
            .ok_or_else(|| Error::forbidden("ProjectScopeRequired", "This needs a token that is scoped to a project."))
    }

    /// Applies the route's own rule to a target.
    ///
    /// # Errors
    /// Forbidden, naming the rule.
    pub fn authorize(&self, target: &Target) -> Result<()> {
        self.trail.note_target(target);
        if let Access::Rule(rule) = self.route.access {
            self.enforce(rule, target)?;
        }
        self.authorized.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Applies another rule in the place of the route's own, where what is asked for decides which one it is.
    ///
    /// # Errors
    /// Forbidden, naming the rule.
    pub fn authorize_instead(&self, rule: &str, target: &Target) -> Result<()> {
        self.app.policy().enforce(rule, &self.caller, target)?;
        self.authorized.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Applies the route's rule to the caller's own project: for lists and for creating.
    ///
    /// # Errors
    /// Forbidden; bad request where the token has no project.
    pub fn authorize_own_project(&self) -> Result<&ProjectId> {
        match self.caller.project() {
            Some(project) => self.authorize(&Target::project(project)).map(|()| project),
            None => {
                self.authorize(&Target::none())?;
                self.project()
            }
        }
    }

    /// Applies the route's rule to something that was found. Whoever may not even know of it gets `not_found`: that is
    /// anyone outside the project that owns it.
    ///
    /// # Errors
    /// Forbidden or `not_found`.
    pub fn authorize_found(&self, target: &Target, not_found: impl FnOnce() -> Error) -> Result<()> {
        self.authorize(target).map_err(|forbidden| {
            let own = self.caller.project().is_some_and(|p| target.get("project_id") == Some(p.as_str()));
            if own { forbidden } else { not_found() }
        })
    }

    /// Whether another rule admits the caller: for attributes and filters that need more rights.
    pub fn can(&self, rule: &str, target: &Target) -> bool {
        self.app.policy().allows(rule, &self.caller, target)
    }

    /// Applies another rule than the route's, where the request's content asks for more rights.
    ///
    /// # Errors
    /// Forbidden, naming the rule.
    pub fn authorize_rule(&self, rule: &str, target: &Target) -> Result<()> {
        self.enforce(rule, target)
    }

    fn enforce(&self, rule: &str, target: &Target) -> Result<()> {
        let decided = self.app.policy().enforce(rule, &self.caller, target);
        if decided.is_err() {
            self.trail.note_denied(target);
        }
        decided
    }
}
