//! From a request to the payload of a token: who it is, enough methods, the scope.
//!
//! Whatever is wrong, the answer is the same 401, and it takes as long: nobody learns here who or what exists.

use std::time::Duration;

use model::{Error, Result, Timestamp, id::ProjectId};
use store::{
    Conn,
    identity::{
        domains,
        projects::{self, Project},
        trusts,
        users::{self, User},
    },
};
use web::Cx;

use super::{
    delegated::{live_trust, trust_parties},
    logic::{Lookup, Proof, Wanted},
    proofs::{self, Proven, earliest, find_domain},
};
use crate::{
    State,
    payload::{AuditId, Methods, Origin, Payload, Receipt, TokenScope},
    security::mfa_rules,
    state::{TOKEN_LIFETIME, unauthenticated},
};

/// How long a receipt is good for.
const RECEIPT_LIFETIME: Duration = Duration::from_secs(300);

/// What became of a login.
pub(super) enum Outcome {
    /// A token.
    Token(Payload),
    /// A receipt: what held, and which methods would be enough.
    Receipt(Receipt, User, Vec<Vec<String>>),
}

/// What a token is for, and as whom.
struct Granted {
    user: User,
    scope: (TokenScope, i64),
    origin: Option<Origin>,
    ends_at: Option<Timestamp>,
}

/// The payload of the token that is asked for.
///
/// # Errors
/// Unauthenticated; forbidden for what can't be exchanged.
pub(super) async fn log_in(cx: &Cx, state: &State, proofs: Vec<Proof>, wanted: Wanted) -> Result<Outcome> {
    let mut proven = proofs::prove(cx, state, proofs, &wanted).await?;
    let now = state.db().clock().now();
    if let Some(text) = cx.header("openstack-auth-receipt") {
        let receipt = state.open_receipt(text).ok_or_else(unauthenticated)?;
        if (&receipt.user_id, receipt.user_generation) != (&proven.user.id, proven.user.generation) {
            return Err(unauthenticated());
        }
        proven.methods = proven.methods.with(receipt.methods);
    }
    let rules = mfa_rules(&proven.user.security.options, &Methods::known());
    let held = proven.methods.names();
    let enough = |rule: &Vec<String>| rule.iter().all(|method| held.contains(&method.as_str()));
    if !rules.is_empty() && !rules.iter().any(enough) {
        let receipt = Receipt {
            user_id: proven.user.id.clone(),
            user_generation: proven.user.generation,
            methods: proven.methods,
            issued_at: now,
            expires_at: now + RECEIPT_LIFETIME,
        };
        return Ok(Outcome::Receipt(receipt, proven.user, rules));
    }
    let (methods, parent_audit_id, proven_until) = (proven.methods, proven.parent_audit_id, proven.ends_at);
    let granted = grant(state, proven, wanted).await?;
    let ends_at = earliest(earliest(proven_until, granted.ends_at), Some(now + TOKEN_LIFETIME));
    Ok(Outcome::Token(Payload {
        user_id: granted.user.id,
        user_generation: granted.user.generation,
        methods,
        scope: granted.scope.0,
        scope_generation: granted.scope.1,
        origin: granted.origin,
        issued_at: now,
        expires_at: ends_at.unwrap_or(now),
        audit_id: AuditId::random(),
        parent_audit_id,
    }))
}

/// As whom and for what the token is.
async fn grant(state: &State, proven: Proven, wanted: Wanted) -> Result<Granted> {
    let mut conn = state.db().read().await?;
    let user = proven.user;
    if let Some((origin, project)) = proven.bound {
        let project = projects::get(&mut conn, &project).await?.ok_or_else(unauthenticated)?;
        match (&origin, &wanted) {
            (_, Wanted::Default) => {}
            (Origin::AccessToken(_), Wanted::Project(lookup))
                if find_project(&mut conn, lookup).await?.id == project.id => {}
            _ => {
                let message = "Application credentials and access tokens cannot request a scope: they have one.";
                return Err(Error::unauthenticated("ApplicationCredentialAuthError", message));
            }
        }
        return Ok(Granted { user, scope: scope_of(&project), origin: Some(origin), ends_at: None });
    }
    let scope = match wanted {
        Wanted::Default => default_scope(&mut conn, &user).await?,
        Wanted::Unscoped => (TokenScope::Unscoped, 0),
        Wanted::System => (TokenScope::System, 0),
        Wanted::Domain(domain) => (TokenScope::Domain(find_domain(&mut conn, &domain).await?), 0),
        Wanted::Project(project) => scope_of(&find_project(&mut conn, &project).await?),
        Wanted::Trust(id) => return by_trust(&mut conn, state, user, &id).await,
    };
    Ok(Granted { user, scope, origin: None, ends_at: None })
}

/// What a trust grants to its trustee.
async fn by_trust(conn: &mut Conn, state: &State, trustee: User, id: &str) -> Result<Granted> {
    let trust = trusts::get(conn, id).await?.ok_or_else(|| crate::trust::missing(id))?;
    if trust.trustee_user_id != trustee.id {
        return Err(Error::forbidden("ForbiddenAction", "User is not a trustee."));
    }
    live_trust(conn, id, &state.compliance, state.db().clock().now()).await?;
    let (user, other) = trust_parties(&trust);
    let user = users::get(conn, user).await?.ok_or_else(unauthenticated)?;
    let other = users::get(conn, other).await?.ok_or_else(unauthenticated)?;
    let scope = match &trust.project_id {
        None => (TokenScope::Unscoped, 0),
        Some(project) => scope_of(&projects::get(conn, project).await?.ok_or_else(unauthenticated)?),
    };
    let origin = Some(Origin::Trust(trust.id, other.generation));
    Ok(Granted { user, scope, origin, ends_at: trust.expires_at })
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
