//! Callers without an identity service: the token says who it is.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use futures_util::future::BoxFuture;
use model::{
    Error, Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use store::Db;
use web::{App, Authenticator, Caller, Scope, Service, policy::Policy};

use crate::Client;

/// Takes any token that [`token`] makes. The user is `user-NAME`, the project has its name for an id; roles imply what
/// they imply in Keystone.
pub struct FakeAuth;

/// The token of this user with this role in this project: `token("alice", "member", "blue")`. The project
/// `system:all` makes it a system token, `domain:NAME` one of that domain.
pub fn token(user: &str, role: &str, project: &str) -> String {
    format!("{user}/{role}/{project}")
}

impl Authenticator for FakeAuth {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller>> {
        Box::pin(async move {
            let parts: Vec<&str> = token.split('/').collect();
            let [user, role, project] = parts[..] else {
                return Err(Error::unauthenticated(
                    "Unauthorized",
                    "The request you have made requires authentication.",
                ));
            };
            Ok(Caller {
                user_id: Some(UserId::new(format!("user-{user}"))),
                user_name: user.to_owned(),
                user_domain_id: "default".to_owned(),
                scope: scope(project),
                roles: implied(role).iter().map(|role| (*role).to_owned()).collect(),
                expires_at: Timestamp(i64::MAX),
                audit_id: format!("audit-{user}"),
                ..Caller::default()
            })
        })
    }
}

fn scope(project: &str) -> Scope {
    let domain = project.strip_prefix("domain:");
    match (project, domain) {
        ("system:all", _) => Scope::System,
        ("", _) => Scope::Unscoped,
        (_, Some(domain)) => Scope::Domain { id: DomainId::new(domain), name: domain.to_owned() },
        (project, None) => Scope::Project {
            id: ProjectId::new(project),
            name: project.to_owned(),
            domain_id: DomainId::new("default"),
            domain_name: "Default".to_owned(),
        },
    }
}

fn implied(role: &str) -> Vec<&str> {
    const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];
    match CHAIN.iter().position(|r| *r == role) {
        Some(at) => CHAIN[at..].to_vec(),
        None => vec![role],
    }
}

/// A client of these services, without a token so far. Their own policies hold, with [`FakeAuth`] for identity.
pub fn client(db: &Db, services: Vec<Service>) -> Client {
    let tables: Vec<_> = services.iter().map(|service| service.policy).collect();
    let policy = Policy::new(&tables, &BTreeMap::new()).unwrap();
    let app = App::new(db.clone(), services, Arc::new(FakeAuth), policy, "http").unwrap();
    Client::new(tower::service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.handle(request).await) }
    }))
}
