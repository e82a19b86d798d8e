//! The request that transactions serve, so that what must be written with a change is written by its commit.
//!
//! The dispatcher names it once ([`scope`]); [`crate::Db::begin`] picks it up. Handlers and store functions know nothing
//! of it.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::idempotency::Claim;

/// Who asks for what, as the audit log shows it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `req-...`.
    pub id: String,
    /// The user; empty while nobody is known.
    pub actor: String,
    /// `project:ID`, `domain:ID`, `system`, `unscoped`.
    pub scope: String,
    /// The client's address, where it is known.
    pub address: String,
    /// The service's name.
    pub service: &'static str,
    /// The HTTP method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The policy rule, or the route where it has none.
    pub action: String,
    /// What the path is about: `servers`.
    pub target_type: String,
    /// The id in the path; empty when something is to be made.
    pub target_id: String,
    /// The project of the target, as far as it is known; else the caller's.
    pub project_id: String,
}

/// One request.
#[derive(Debug, Default)]
pub struct Request {
    facts: Mutex<Facts>,
    /// Whether its method is one that changes things: then its first commit writes the audit entry.
    mutating: bool,
    committed: AtomicBool,
    /// The idempotency key that its first commit takes.
    claim: OnceLock<Claim>,
}

tokio::task_local! {
    static CURRENT: Arc<Request>;
}

impl Request {
    /// A request. `mutating`: its first transaction writes an audit entry.
    pub fn new(facts: Facts, mutating: bool) -> Arc<Self> {
        Arc::new(Self { facts: Mutex::new(facts), mutating, ..Self::default() })
    }

    /// What is known of it by now.
    pub fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what became known on the way: who asks, after a login; whose the target is.
    pub fn learn(&self, note: impl FnOnce(&mut Facts)) {
        note(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether a transaction of this request has committed, with an audit entry.
    pub fn has_committed(&self) -> bool {
        self.committed.load(Relaxed)
    }

    /// Has its first commit take this key.
    pub fn claim(&self, claim: Claim) {
        // There is one key a request.
        let _ = self.claim.set(claim);
    }

    pub(crate) fn claimed(&self) -> Option<&Claim> {
        self.claim.get()
    }

    /// Whether the commit under way is the first that an entry must go with.
    pub(crate) fn wants_entry(&self) -> bool {
        self.mutating && !self.has_committed()
    }

    pub(crate) fn note_commit(&self) {
        self.committed.store(true, Relaxed);
    }
}

/// Does the work for this request: each transaction that begins in it knows so.
pub async fn scope<F: Future>(request: Arc<Request>, work: F) -> F::Output {
    CURRENT.scope(request, work).await
}

/// The request that this task works for. None in flows, sweeps and tasks that a handler leaves behind.
pub fn current() -> Option<Arc<Request>> {
    CURRENT.try_with(Arc::clone).ok()
}
