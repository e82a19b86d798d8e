//! Who is asked for and for what, decided from the request alone.

use model::{Error, Result};

use super::wire::{
    ApplicationCredentialMethod, AuthRequest, Identity, ProjectReference, Reference, ScopeRequest, TotpUser,
    UserRequest,
};
use crate::{password::Password, state::unauthenticated};

/// One way to prove who one is.
#[derive(Debug)]
pub enum Proof {
    /// A user's password.
    Password {
        /// The user.
        user: Lookup,
        /// The password.
        password: Password,
    },
    /// A token.
    Token(String),
    /// A passcode that changes with time.
    Totp {
        /// The user.
        user: Lookup,
        /// The passcode.
        passcode: String,
    },
    /// An application credential.
    ApplicationCredential {
        /// Which one.
        credential: CredentialLookup,
        /// Its secret.
        secret: Password,
    },
    /// The request's own signature, with an access token.
    Oauth1,
}

/// An application credential by id, or by its name and user.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialLookup {
    /// By id.
    Id(String),
    /// By name.
    Name {
        /// The name.
        name: String,
        /// The user.
        user: Lookup,
    },
}

/// Something by id, or by its name in a domain.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// By id.
    Id(String),
    /// By name.
    Name {
        /// The name.
        name: String,
        /// The domain.
        domain: DomainLookup,
    },
}

/// A domain by id or by name.
#[derive(Clone, Debug, PartialEq)]
pub enum DomainLookup {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// What the token shall be good for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The user's default project, where there is one.
    Default,
    /// Nothing but asking for another one.
    Unscoped,
    /// A project.
    Project(Lookup),
    /// A domain.
    Domain(DomainLookup),
    /// The installation as a whole.
    System,
    /// What a trust hands on, by its id.
    Trust(String),
}

/// The request as a plan.
///
/// # Errors
/// Bad request where data is missing or contradicts itself; unauthenticated for a method that there isn't.
pub fn plan(request: AuthRequest) -> Result<(Vec<Proof>, Wanted)> {
    let wanted = wanted(request.scope)?;
    Ok((proofs(request.identity)?, wanted))
}

fn proofs(identity: Identity) -> Result<Vec<Proof>> {
    let (mut password, mut token) = (identity.password, identity.token);
    let (mut totp, mut application_credential) = (identity.totp, identity.application_credential);
    let mut proofs = Vec::new();
    for (at, method) in identity.methods.iter().enumerate() {
        if identity.methods[..at].contains(method) {
            continue;
        }
        match method.as_str() {
            "password" => {
                let UserRequest { id, name, domain, password } =
                    password.take().ok_or_else(|| expecting("password", "identity"))?.user;
                let password = password.ok_or_else(|| expecting("password", "user"))?;
                proofs.push(Proof::Password { user: lookup(id, name, domain, "user")?, password });
            }
            "token" => proofs.push(Proof::Token(token.take().ok_or_else(|| expecting("token", "identity"))?.id)),
            "totp" => {
                let TotpUser { id, name, domain, passcode } =
                    totp.take().ok_or_else(|| expecting("totp", "identity"))?.user;
                proofs.push(Proof::Totp { user: lookup(id, name, domain, "user")?, passcode: passcode.0 });
            }
            "application_credential" => {
                let given =
                    application_credential.take().ok_or_else(|| expecting("application_credential", "identity"))?;
                proofs.push(by_application_credential(given)?);
            }
            "oauth1" => proofs.push(Proof::Oauth1),
            _ => {
                let message = "Attempted to authenticate with an unsupported method.";
                return Err(Error::unauthenticated("AuthMethodNotSupported", message));
            }
        }
    }
    if proofs.is_empty() { Err(unauthenticated()) } else { Ok(proofs) }
}

fn by_application_credential(given: ApplicationCredentialMethod) -> Result<Proof> {
    const WHAT: &str = "application_credential";
    let secret = given.secret.ok_or_else(|| expecting("secret", WHAT))?;
    let credential = match (given.id, given.name) {
        (Some(id), _) => CredentialLookup::Id(id),
        (None, Some(name)) => {
            let user = given.user.ok_or_else(|| expecting("user", WHAT))?;
            CredentialLookup::Name { name, user: lookup(user.id, user.name, user.domain, "user")? }
        }
        (None, None) => return Err(expecting("name or ID", WHAT)),
    };
    Ok(Proof::ApplicationCredential { credential, secret })
}

fn wanted(scope: Option<ScopeRequest>) -> Result<Wanted> {
    let object = match scope {
        None => return Ok(Wanted::Default),
        Some(ScopeRequest::Word(word)) if word == "unscoped" => return Ok(Wanted::Unscoped),
        Some(ScopeRequest::Word(_)) => return Err(one_scope()),
        Some(ScopeRequest::Object(object)) => *object,
    };
    match (object.project, object.domain, object.system, object.unscoped, object.trust) {
        (Some(ProjectReference { id, name, domain }), None, None, None, None) => {
            lookup(id, name, domain, "project").map(Wanted::Project)
        }
        (None, Some(domain), None, None, None) => domain_lookup(domain, "scope").map(Wanted::Domain),
        (None, None, Some(system), None, None) if system.all != Some(false) => Ok(Wanted::System),
        (None, None, None, Some(_), None) => Ok(Wanted::Unscoped),
        (None, None, None, None, Some(trust)) => {
            trust.id.map(Wanted::Trust).ok_or_else(|| expecting("trust_id", "trust"))
        }
        _ => Err(one_scope()),
    }
}

fn lookup(id: Option<String>, name: Option<String>, domain: Option<Reference>, what: &'static str) -> Result<Lookup> {
    match (id, name) {
        (Some(id), _) => Ok(Lookup::Id(id)),
        (None, Some(name)) => {
            let domain = domain.ok_or_else(|| expecting("domain", what))?;
            Ok(Lookup::Name { name, domain: domain_lookup(domain, what)? })
        }
        (None, None) => Err(expecting("id or name", what)),
    }
}

fn domain_lookup(domain: Reference, what: &'static str) -> Result<DomainLookup> {
    match (domain.id, domain.name) {
        (Some(id), _) => Ok(DomainLookup::Id(id)),
        (None, Some(name)) => Ok(DomainLookup::Name(name)),
        (None, None) => Err(expecting("domain id or name", what)),
    }
}

fn expecting(attribute: &str, target: &str) -> Error {
    Error::bad_request(
        "ValidationError",
        format!(
            "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either \
             malformed or otherwise incorrect. The client is assumed to be in error."
        ),
    )
}

fn one_scope() -> Error {
    expecting("system, project, domain, OS-TRUST:trust or unscoped", "scope")
}

#[cfg(test)]
mod tests {
    use model::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    fn scope_of(scope: Value) -> Result<Wanted> {
        wanted(Some(serde_json::from_value(scope).unwrap()))
    }

    #[test]
    fn scopes() {
        let named = |name: &str, domain| Lookup::Name { name: name.into(), domain };
        let cases = [
            (json!("unscoped"), Some(Wanted::Unscoped)),
            (json!({"unscoped": {}}), Some(Wanted::Unscoped)),
            (json!("everything"), None),
            (json!({}), None),
            (json!({"system": {"all": true}}), Some(Wanted::System)),
            (json!({"system": {"all": false}}), None),
            (json!({"project": {"id": "p"}}), Some(Wanted::Project(Lookup::Id("p".into())))),
            (
                json!({"project": {"name": "p", "domain": {"id": "d"}}}),
                Some(Wanted::Project(named("p", DomainLookup::Id("d".into())))),
            ),
            (json!({"project": {"name": "p"}}), None),
            (json!({"project": {}}), None),
            (json!({"domain": {"name": "d"}}), Some(Wanted::Domain(DomainLookup::Name("d".into())))),
            (json!({"OS-TRUST:trust": {"id": "t"}}), Some(Wanted::Trust("t".into()))),
            (json!({"OS-TRUST:trust": {}}), None),
            (json!({"domain": {"id": "d"}, "project": {"id": "p"}}), None),
        ];
        for (scope, expected) in cases {
            assert_eq!(scope_of(scope.clone()).ok(), expected, "{scope}");
        }
        assert_eq!(wanted(None).ok(), Some(Wanted::Default));
    }

    #[test]
    fn methods() {
        let cases = [
            (json!({"methods": []}), Err(ErrorKind::Unauthenticated)),
            (json!({"methods": ["magic"], "magic": {}}), Err(ErrorKind::Unauthenticated)),
            (json!({"methods": ["password"]}), Err(ErrorKind::BadRequest)),
            (json!({"methods": ["password"], "password": {"user": {"id": "u"}}}), Err(ErrorKind::BadRequest)),
            (
                json!({"methods": ["password"], "password": {"user": {"name": "u", "password": "s"}}}),
                Err(ErrorKind::BadRequest),
            ),
            (json!({"methods": ["password"], "password": {"user": {"id": "u", "password": "s"}}}), Ok(1)),
            (json!({"methods": ["totp"], "totp": {"user": {"id": "u"}}}), Err(ErrorKind::BadRequest)),
            (json!({"methods": ["totp"], "totp": {"user": {"id": "u", "passcode": "123456"}}}), Ok(1)),
            (json!({"methods": ["oauth1"], "oauth1": {}}), Ok(1)),
            (json!({"methods": ["external"], "external": {}}), Err(ErrorKind::Unauthenticated)),
            (
                json!({"methods": ["application_credential"], "application_credential": {"id": "a"}}),
                Err(ErrorKind::BadRequest),
            ),
            (
                json!({"methods": ["application_credential"],
                    "application_credential": {"name": "a", "secret": "s"}}),
                Err(ErrorKind::BadRequest),
            ),
            (
                json!({"methods": ["application_credential"],
                    "application_credential": {"name": "a", "secret": "s", "user": {"id": "u"}}}),
                Ok(1),
            ),
            (json!({"methods": ["token"]}), Err(ErrorKind::BadRequest)),
            (json!({"methods": ["token", "token"], "token": {"id": "t"}}), Ok(1)),
            (
                json!({"methods": ["password", "token"], "token": {"id": "t"},
                    "password": {"user": {"name": "u", "domain": {"name": "d"}, "password": "s"}}}),
                Ok(2),
            ),
        ];
        for (identity, expected) in cases {
            let found = serde_json::from_value(identity.clone());
            let found = found.map_err(|e| Error::bad_request("BadRequest", e.to_string())).and_then(proofs);
            assert_eq!(found.map(|p| p.len()).map_err(|e| e.kind), expected, "{identity}");
        }
    }
}
