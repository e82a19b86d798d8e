//! `/nacre/v1`: what OpenStack has no API for. What happened (audit), what happens (events), and what all services can do
//! (the OpenAPI document).
//!
//! | file | resource |
//! |---|---|
//! | `audit.rs` | the hash-chained log of requests: `store::audit` writes and proves it, this shows it |
//! | `events.rs` | state changes as server-sent events, resumable: `store::events` writes and orders them |
//! | `openapi.rs` | the document of every route of every service |
//!
//! Invariants: nobody is shown another project's events or entries, whatever they ask for; a follower that comes back with
//! its last id misses nothing that is still kept, and is told if something is not; nothing here changes state.

mod audit;
mod events;
mod openapi;
pub mod policy;
mod routes;

use std::sync::Arc;

use store::Db;
use tokio::sync::watch;
use web::{FaultStyle, Service};

/// What the handlers share.
pub struct State {
    followers: events::Followers,
    document: openapi::Document,
}

impl State {
    /// State over this database.
    pub fn new(db: Db) -> Arc<Self> {
        Arc::new(Self { followers: events::Followers::new(db), document: openapi::Document::default() })
    }

    /// Ends all event streams: a server that stops must not wait for clients that listen.
    pub fn close(&self) {
        self.followers.close();
    }
}

/// The service.
pub fn service(state: Arc<State>) -> Service {
    Service {
        name: "cloud",
        prefix: "/nacre",
        routes: routes::ROUTES,
        policy: policy::POLICY,
        versions: None,
        faults: FaultStyle::Placement,
        state,
    }
}

/// Ends the streams when told to stop.
pub async fn close_when(state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    // An error means that nobody can tell any more: stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    state.close();
}
