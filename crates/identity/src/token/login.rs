//! From a request to the payload of a token: users, passwords, scopes.
//!
//! Whatever is wrong, the answer is the same 401, and it takes as long: nobody learns here who or what exists.

use model::{
    Error, Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use sha2::{Digest, Sha256};
use store::{
    Conn,
    identity::{
        domains,
        logins::{self, Failures},
        projects::{self, Project},
        users::{self, User},
    },
};

use super::logic::{DomainLookup, Lookup, Proof, Wanted};
use crate::{
    State,
    payload::{AuditId, Methods, Payload, TokenScope},
    state::{TOKEN_LIFETIME, unauthenticated},
};

/// Who it is, once all proofs hold.
struct Proven {
    user: User,
    methods: Methods,
    /// Where a token was among the proofs: the new one ends with it and continues its chain.
    expires_at: Option<Timestamp>,
    parent_audit_id: Option<AuditId>,
}

/// The payload of the token that is asked for.
///
/// # Errors
/// Unauthenticated.
pub async fn log_in(state: &State, proofs: Vec<Proof>, wanted: Wanted) -> Result<Payload> {
    let proven = prove(state, proofs).await?;
    let mut conn = state.db().read().await?;
    let (scope, scope_generation) = match wanted {
        Wanted::Default => default_scope(&mut conn, &proven.user).await?,
        Wanted::Unscoped => (TokenScope::Unscoped, 0),
        Wanted::System => (TokenScope::System, 0),
        Wanted::Domain(domain) => (TokenScope::Domain(find_domain(&mut conn, &domain).await?), 0),
        Wanted::Project(project) => scope_of(&find_project(&mut conn, &project).await?),
    };
    let now = state.db().clock().now();
    Ok(Payload {
        user_id: proven.user.id,
        user_generation: proven.user.generation,
        methods: proven.methods,
        scope,
        scope_generation,
        origin: None,
        issued_at: now,
        expires_at: proven.expires_at.unwrap_or(now + TOKEN_LIFETIME),
        audit_id: AuditId::random(),
        parent_audit_id: proven.parent_audit_id,
    })
}

/// Checks every proof; all must be of the same user.
async fn prove(state: &State, proofs: Vec<Proof>) -> Result<Proven> {
    let mut proven: Option<Proven> = None;
    for proof in proofs {
        let next = match proof {
            Proof::Password { user, password } => {
                let user = check_password(state, &user, password).await?;
                check_not_expired(state, &user)?;
                Proven { user, methods: Methods::PASSWORD, expires_at: None, parent_audit_id: None }
            }
            Proof::Token(token) => by_token(state, &token).await?,
        };
        proven = Some(match proven {
            None => next,
            Some(before) if before.user.id == next.user.id => Proven {
                user: next.user,
                methods: before.methods.with(next.methods),
                expires_at: before.expires_at.or(next.expires_at),
                parent_audit_id: before.parent_audit_id.or(next.parent_audit_id),
            },
            Some(_) => return Err(unauthenticated()),
        });
    }
    proven.ok_or_else(unauthenticated)
}

async fn by_token(state: &State, token: &str) -> Result<Proven> {
    let old = state.validate(token).await?.ok_or_else(unauthenticated)?;
    let mut conn = state.db().read().await?;
    let user = users::get(&mut conn, &old.payload.user_id).await?.ok_or_else(unauthenticated)?;
    Ok(Proven {
        user,
        methods: old.payload.methods.with(Methods::TOKEN),
        expires_at: Some(old.payload.expires_at),
        parent_audit_id: Some(old.payload.parent_audit_id.unwrap_or(old.payload.audit_id)),
    })
}

/// The user whose password this is, which may have expired.
///
/// # Errors
/// Unauthenticated: unknown, disabled, locked out or another password. All of them cost the same.
pub async fn check_password(state: &State, lookup: &Lookup, password: crate::password::Password) -> Result<User> {
    let user = {
        let mut conn = state.db().read().await?;
        find_user(&mut conn, lookup).await?
    };
    let hash = user.as_ref().and_then(|u| u.password_hash.clone());
    let right = state.passwords.verify(password, hash).await?;
    judge(state, lookup, user, right).await
}

/// Whether what was shown to be right or wrong is a login: counts it, and refuses all of a user that is locked out.
async fn judge(state: &State, lookup: &Lookup, user: Option<User>, right: bool) -> Result<User> {
    let (compliance, now) = (&state.compliance, state.db().clock().now());
    let counted = user.as_ref().filter(|u| !u.security.has("ignore_lockout_failure_attempts"));
    let counts = compliance.counts_failures() && counted.is_some() == user.is_some();
    let subject = user.as_ref().map_or_else(|| nobody(lookup), |u| subject(&u.id));
    // After the hash, so that guesses at the same time count too.
    let failures = match counts {
        true => logins::failures(&mut *state.db().read().await?, &subject).await?,
        false => Failures::default(),
    };
    let good = user.filter(|u| right && compliance.is_enabled(u, now) && !compliance.is_locked_out(failures, now));
    let notes = good.as_ref().is_some_and(|u| compliance.notes_activity(u, now));
    if counts && good.is_none() {
        let (over, forgotten) = (compliance.lockout_over_before(now), compliance.failures_forgotten_before(now));
        let mut tx = state.db().begin().await?;
        if !compliance.is_locked_out(failures, now) {
            logins::fail(&mut tx, &subject, compliance.lockout_failure_attempts.into(), over, forgotten).await?;
        }
        tx.commit().await?;
    }
    if let Some(user) = &good
        && (failures.count > 0 || notes)
    {
        let mut tx = state.db().begin().await?;
        logins::succeed(&mut tx, &subject).await?;
        if notes {
            logins::set_active(&mut tx, &user.id, now).await?;
        }
        tx.commit().await?;
    }
    good.ok_or_else(unauthenticated)
}

/// Under what a user's failed logins are counted.
pub fn subject(user: &UserId) -> String {
    format!("user:{}", hex::encode(Sha256::digest(user.as_str())))
}

/// The same for what names no user.
fn nobody(lookup: &Lookup) -> String {
    let named = match lookup {
        Lookup::Id(id) => format!("{id:?}"),
        Lookup::Name { name, domain } => format!("{name:?} {domain:?}"),
    };
    format!("nobody:{}", hex::encode(Sha256::digest(named)))
}

/// Refuses a login by a password that is only good for choosing another.
fn check_not_expired(state: &State, user: &User) -> Result<()> {
    let expiry = state.compliance.expiry(user);
    if expiry.is_none_or(|expires_at| state.db().clock().now() < expires_at) {
        return Ok(());
    }
    // Only whoever knows the password learns of it.
    let message = format!("The password is expired and needs to be changed for user: {}.", user.id);
    Err(Error::unauthenticated("PasswordExpired", message))
}

async fn find_user(conn: &mut Conn, lookup: &Lookup) -> Result<Option<User>> {
    match lookup {
        Lookup::Id(id) => Ok(users::get(conn, &UserId::new(id.as_str())).await?),
        Lookup::Name { name, domain } => match find_domain(conn, domain).await {
            Ok(domain) => Ok(users::get_by_name(conn, &domain, name).await?),
            Err(e) if e.kind == model::ErrorKind::Unauthenticated => Ok(None),
            Err(e) => Err(e),
        },
    }
}

async fn find_domain(conn: &mut Conn, lookup: &DomainLookup) -> Result<DomainId> {
    let found = match lookup {
        DomainLookup::Id(id) => domains::get(conn, &DomainId::new(id.as_str())).await?,
        DomainLookup::Name(name) => domains::get_by_name(conn, name).await?,
    };
    found.map(|domain| domain.id).ok_or_else(unauthenticated)
}

async fn find_project(conn: &mut Conn, lookup: &Lookup) -> Result<Project, Error> {
    let found = match lookup {
        Lookup::Id(id) => projects::get(conn, &ProjectId::new(id.as_str())).await?,
        Lookup::Name { name, domain } => {
            let domain = find_domain(conn, domain).await?;
            projects::get_by_name(conn, &domain, name).await?
        }
    };
    found.ok_or_else(unauthenticated)
}

fn scope_of(project: &Project) -> (TokenScope, i64) {
    (TokenScope::Project(project.id.clone()), project.generation)
}

/// The user's default project where it can be used, nothing otherwise.
async fn default_scope(conn: &mut Conn, user: &User) -> Result<(TokenScope, i64)> {
    use store::identity::assignments::{Target, effective_roles};
    let unscoped = Ok((TokenScope::Unscoped, 0));
    let Some(id) = &user.default_project_id else { return unscoped };
    let Some(project) = projects::get(conn, id).await? else { return unscoped };
    let domain = domains::get(conn, &project.domain_id).await?;
    if !project.enabled || !domain.is_some_and(|d| d.enabled) {
        return unscoped;
    }
    let roles = effective_roles(conn, &user.id, &Target::Project(project.id.clone())).await?;
    if roles.is_empty() { unscoped } else { Ok(scope_of(&project)) }
}
