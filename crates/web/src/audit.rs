//! What a request leaves in the audit log, beside what its commits write themselves ([`store::request`]).
//!
//! Every request of a mutating method by somebody who is known leaves an entry: with its first commit, or before it is
//! answered where it committed nothing. So does every refusal of a rule, whatever the method. Answers are held back until
//! the entry is written; a success that could not be written down is not reported as one.

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed};

use http::{Method, StatusCode};
use model::{Error, ErrorKind, Result};
use store::{
    Db,
    audit::{self, Entry, Outcome},
    request::{Facts, Request},
};

use crate::{Access, Caller, Route, Scope, Target};

/// A request on its way, as far as the audit log is concerned. One that only reads pays for it once a rule refuses it.
#[derive(Clone)]
pub(crate) struct Trail {
    pub(crate) request: Arc<Request>,
    /// Whether a rule refused something in it.
    pub(crate) denied: Arc<AtomicBool>,
    mutating: bool,
}

impl Trail {
    pub(crate) fn new(method: &Method) -> Self {
        let mutating = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self { request: Request::new(Facts::default(), mutating), denied: Arc::default(), mutating }
    }

    /// Whether what commits must know who asks.
    pub(crate) fn is_mutating(&self) -> bool {
        self.mutating
    }

    /// Notes whose the target is, as rules are told.
    pub(crate) fn note_target(&self, target: &Target) {
        if let Some(project) = target.get("project_id").filter(|project| self.mutating && !project.is_empty()) {
            self.request.learn(|facts| project.clone_into(&mut facts.project_id));
        }
    }

    /// Notes that a rule refused something.
    pub(crate) fn note_denied(&self, target: &Target) {
        self.denied.store(true, Relaxed);
        if let Some(project) = target.get("project_id") {
            self.request.learn(|facts| project.clone_into(&mut facts.project_id));
        }
    }

    /// Notes who asks and for what; before the handler where it may change something.
    pub(crate) fn learn(&self, asked: Asked<'_>, caller: &Caller, route: &Route, params: &[(String, String)]) {
        let (target_type, target_id) = target(route.path, params);
        self.request.learn(|facts| {
            asked.id.clone_into(&mut facts.id);
            (facts.address, facts.service) = (asked.address, asked.service);
            (facts.method, facts.path) = (asked.method.to_string(), asked.path.to_owned());
            facts.actor = caller.user_id.as_ref().map(ToString::to_string).unwrap_or_default();
            facts.scope = scope(&caller.scope);
            if facts.project_id.is_empty() {
                facts.project_id = caller.project().map(ToString::to_string).unwrap_or_default();
            }
            facts.action = match route.access {
                Access::Rule(rule) => rule.to_owned(),
                Access::Public | Access::Token => format!("{} {}", route.method.as_http(), route.path),
            };
            (facts.target_type, facts.target_id) = (target_type, target_id);
        });
    }

    /// Writes what is not written yet. `answer` is the status and, after an error, its kind and code.
    pub(crate) async fn end(
        &self,
        db: &Db,
        status: StatusCode,
        error: Option<(ErrorKind, &'static str)>,
    ) -> Result<()> {
        let facts = self.request.facts();
        if facts.actor.is_empty() || facts.action.is_empty() {
            return Ok(());
        }
        let outcome = match error {
            _ if status.is_server_error() => Outcome::Failed,
            None if !status.is_client_error() => Outcome::Success,
            _ => Outcome::Refused,
        };
        let refused_by_rule = outcome == Outcome::Refused
            && (status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND && self.denied.load(Relaxed));
        let wanted = match outcome {
            Outcome::Success => self.mutating && !self.request.has_committed(),
            Outcome::Refused | Outcome::Failed => self.mutating || refused_by_rule,
        };
        if !wanted {
            return Ok(());
        }
        let entry = Entry::of(facts, outcome, status.as_u16(), error.map_or("", |(_, code)| code));
        let written = async {
            let mut tx = db.begin().await?;
            audit::insert(&mut tx, &entry).await?;
            tx.commit().await
        };
        match written.await {
            Ok(()) => Ok(()),
            Err(error) if outcome == Outcome::Success => Err(Error::from(error)),
            // Nothing was done, and the client hears that either way.
            Err(error) => {
                tracing::error!(%error, request_id = entry.request_id, "a refusal could not be written to the audit log");
                Ok(())
            }
        }
    }
}

/// The outside of a request.
pub(crate) struct Asked<'a> {
    pub(crate) id: &'a str,
    pub(crate) address: String,
    pub(crate) service: &'static str,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Unscoped => "unscoped".to_owned(),
        Scope::Project { id, .. } => format!("project:{id}"),
        Scope::Domain { id, .. } => format!("domain:{id}"),
        Scope::System => "system".to_owned(),
    }
}

/// What a path is about: its last parameter and the word before it; without any, its last word.
fn target(path: &str, params: &[(String, String)]) -> (String, String) {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let last_param = words.iter().rposition(|word| word.starts_with('{'));
    match last_param {
        Some(at) => {
            let name = words[at].trim_matches(['{', '}', '*']);
            let id = params.iter().find(|(known, _)| known == name).map(|(_, id)| id.clone()).unwrap_or_default();
            let kind = words[..at].iter().rev().find(|word| !word.starts_with('{')).copied().unwrap_or_default();
            (kind.to_owned(), id)
        }
        None => (words.last().copied().unwrap_or_default().to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn targets() {
        let params = vec![("id".to_owned(), "7".to_owned()), ("tag".to_owned(), "t".to_owned())];
        for (path, kind, id) in [
            ("/v2.1/servers", "servers", ""),
            ("/v2.1/servers/{id}", "servers", "7"),
            ("/v2.1/servers/{id}/action", "servers", "7"),
            ("/v2.0/{resource}/{id}", "v2.0", "7"),
            ("/v2.1/servers/{id}/tags/{tag}", "tags", "t"),
            ("/", "", ""),
        ] {
            assert_eq!(target(path, &params), (kind.to_owned(), id.to_owned()), "{path}");
        }
    }
}
