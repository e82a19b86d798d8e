//! The tables a service consists of.

use std::{any::Any, sync::Arc};

use futures_util::future::BoxFuture;
use http::Method;
use model::Result;

use crate::{Cx, Reply, Version, Versions, policy::Rule};

/// The one type of all handlers, so that a route costs no generic code.
pub type Handler = for<'a> fn(&'a Cx) -> BoxFuture<'a, Result<Reply>>;

/// Who may come through a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, also without a token: version documents, asking for a token.
    Public,
    /// Anyone with a valid token; the handler shows only what is the caller's own.
    Token,
    /// Whom this policy rule admits. The handler must apply it, for only it knows the target.
    Rule(&'static str),
}

/// One operation.
#[derive(Clone, Copy)]
pub struct Route {
    /// The HTTP method.
    pub method: Verb,
    /// The path below the service's prefix, `{name}` for parameters: `/v2.1/servers/{id}`.
    pub path: &'static str,
    /// For `POST .../action`: the key of the body that selects this route.
    pub action: Option<&'static str>,
    /// The first microversion that has it.
    pub since: Version,
    /// The last microversion that has it.
    pub until: Version,
    /// Who may.
    pub access: Access,
    /// Whether the handler takes the body as a stream, whatever its size and time.
    pub streaming: bool,
    /// What does it.
    pub handler: Handler,
}

/// A method that fits into a constant table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// As `http` has it.
    pub fn as_http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

macro_rules! constructors {
    ($($name:ident => $method:ident;)*) => {
        $(
            #[doc = concat!("A `", stringify!($method), "` route.")]
            pub const fn $name(path: &'static str, access: Access, handler: Handler) -> Self {
                Self::new(Verb::$method, path, access, handler)
            }
        )*
    };
}

impl Route {
    const fn new(method: Verb, path: &'static str, access: Access, handler: Handler) -> Self {
        Self { method, path, action: None, since: Version::MIN, until: Version::MAX, access, streaming: false, handler }
    }

    constructors! {
        get => Get;
        head => Head;
        post => Post;
        put => Put;
        patch => Patch;
        delete => Delete;
    }

    /// A `POST` route that the body's only key selects, as Nova's and Cinder's actions are.
    pub const fn action(path: &'static str, action: &'static str, access: Access, handler: Handler) -> Self {
        let mut route = Self::new(Verb::Post, path, access, handler);
        route.action = Some(action);
        route
    }

    /// From this microversion on.
    pub const fn since(mut self, major: u16, minor: u16) -> Self {
        self.since = Version(major, minor);
        self
    }

    /// Up to and with this microversion.
    pub const fn until(mut self, major: u16, minor: u16) -> Self {
        self.until = Version(major, minor);
        self
    }

    /// The handler takes the body as a stream.
    pub const fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }
}

/// How a service writes its errors. See [`crate::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStyle {
    /// `{"itemNotFound": {"code": 404, "message": ...}}`: Nova, Cinder.
    Nova,
    /// `{"NeutronError": {"type", "message", "detail"}}`.
    Neutron,
    /// `{"error": {"code", "title", "message"}}`.
    Keystone,
    /// `{"code": "404 Not Found", "title", "message"}`, as webob writes it for Glance.
    Glance,
    /// `{"errors": [{"status", "title", "detail", "code", "request_id"}]}`.
    Placement,
}

/// A service: data, and the state that its handlers share.
pub struct Service {
    /// The short name in logs, metrics and golden files: `compute`.
    pub name: &'static str,
    /// The path prefix: `/compute`. Empty for what lives at the root.
    pub prefix: &'static str,
    /// Every operation.
    pub routes: &'static [Route],
    /// Every policy rule.
    pub policy: &'static [Rule],
    /// Microversions, where the service has them.
    pub versions: Option<&'static Versions>,
    /// How errors look.
    pub faults: FaultStyle,
    /// What [`Cx::state`] returns.
    pub state: Arc<dyn Any + Send + Sync>,
}
