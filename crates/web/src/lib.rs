//! HTTP, once for every service: from the socket to a handler's [`Cx`] and from its [`Reply`] back.
//!
//! A service is data ([`Service`]): a table of [`Route`]s, a table of [`policy::Rule`]s, its microversions and its fault
//! shape. [`App`] serves them all on one port, DevStack's way (`/compute/v2.1`, `/networking/v2.0`...).
//!
//! | module | what |
//! |---|---|
//! | [`service`] | the tables a service consists of |
//! | [`dispatch`] | the one path that every request takes; read this first |
//! | [`cx`] | what a handler gets |
//! | [`reply`] | what a handler returns |
//! | [`caller`] | who asks |
//! | [`access`] | which requests an application credential allows |
//! | [`policy`] | the oslo.policy language, tables and overrides |
//! | [`versions`] | microversions |
//! | [`paging`] | `limit`, `marker`, sorting, filters, links |
//! | [`fault`] | errors as each service writes them |
//! | [`listen`] | the socket, TLS |
//! | [`limit`] | how often somebody may ask |
//! | [`openapi`] | the document of all routes |
//! | `audit.rs`, `idempotency.rs` | what a request leaves in the audit log; POSTs that are sent twice |
//! | [`metrics`] | what `/metrics` shows |
//! | [`outbound`] | requests that the cloud itself sends |
//!
//! Invariants: a handler's 2xx leaves only if a policy rule was applied (or its route is public); 5xx bodies hold a fixed
//! sentence and the request id; a body, a page and a request's time have limits.

pub mod access;
mod audit;
pub mod caller;
pub mod cx;
pub mod dispatch;
pub mod fault;
mod idempotency;
pub mod limit;
pub mod listen;
pub mod metrics;
pub mod openapi;
pub mod outbound;
pub mod paging;
pub mod policy;
pub mod reply;
pub mod service;
pub mod versions;

pub use access::AccessRule;
pub use caller::{Authenticator, Caller, Delegation, Scope};
pub use cx::Cx;
pub use dispatch::App;
pub use http::{Method, StatusCode};
pub use outbound::Outbound;
pub use policy::Target;
pub use reply::Reply;
pub use service::{Access, FaultStyle, Handler, Route, Service};
pub use versions::{Version, Versions};

/// Turns an `async fn(&Cx) -> Result<Reply>` into the one type that route tables hold.
#[macro_export]
macro_rules! handler {
    ($path:path) => {
        |cx| ::std::boxed::Box::pin($path(cx))
    };
}
