//! Each way to prove who one is.
//!
//! Whatever is wrong, the answer is the same 401 and costs as much: a hash where a password or an application
//! credential's secret is shown, whether or not there is anything to compare it with.

use model::{
    Error, Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use sha2::{Digest, Sha256};
use store::{
    Conn,
    identity::{
        application_credentials, credentials, domains,
        logins::{self, Failures},
        oauth::{self, Kind},
        users::{self, User},
    },
};
use web::Cx;

use super::logic::{CredentialLookup, DomainLookup, Lookup, Proof, Wanted};
use crate::{
    Password, State,
    ldap::mirror::{self, Who},
    oauth1,
    payload::{AuditId, Methods, Origin, TokenScope},
    state::unauthenticated,
    totp,
};

/// Credentials for passcodes that a user may have.
const TOTP_CREDENTIALS_MAX: u32 = 8;

/// Who it is, once all proofs hold.
pub(super) struct Proven {
    pub user: User,
    pub methods: Methods,
    /// When the token must end at the latest.
    pub ends_at: Option<Timestamp>,
    /// Where a token was among the proofs: the first one of its chain.
    pub parent_audit_id: Option<AuditId>,
    /// What the token is bound to, where something was shown that may do less than its user.
    pub bound: Option<(Origin, ProjectId)>,
}

impl Proven {
    fn by(methods: Methods, user: User) -> Self {
        Self { user, methods, ends_at: None, parent_audit_id: None, bound: None }
    }

    /// Both of them, of the same user.
    fn and(self, next: Self) -> Result<Self> {
        if self.user.id != next.user.id || (self.bound.is_some() && next.bound.is_some()) {
            return Err(unauthenticated());
        }
        Ok(Self {
            methods: self.methods.with(next.methods),
            ends_at: earliest(self.ends_at, next.ends_at),
            parent_audit_id: self.parent_audit_id.or(next.parent_audit_id),
            bound: self.bound.or(next.bound),
            user: next.user,
        })
    }
}

/// The earlier of two ends, where there are any.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

/// Checks every proof; all must be of the same user.
pub(super) async fn prove(cx: &Cx, state: &State, proofs: Vec<Proof>, wanted: &Wanted) -> Result<Proven> {
    let mut proven: Option<Proven> = None;
    for proof in proofs {
        let next = match proof {
            Proof::Password { user, password } => {
                let user = check_password(state, &user, password).await?;
                check_not_expired(state, &user)?;
                Proven::by(Methods::PASSWORD, user)
            }
            Proof::Token(token) => by_token(state, &token, wanted).await?,
            Proof::Totp { user, passcode } => by_passcode(state, &user, &passcode).await?,
            Proof::ApplicationCredential { credential, secret } => {
                by_application_credential(state, &credential, secret).await?
            }
            Proof::Oauth1 => by_access_token(cx, state).await?,
        };
        proven = Some(match proven {
            None => next,
            Some(before) => before.and(next)?,
        });
    }
    proven.ok_or_else(unauthenticated)
}

async fn by_token(state: &State, token: &str, wanted: &Wanted) -> Result<Proven> {
    // As Keystone says it, and clients wait for: tokens can't be guessed, so this tells nobody anything.
    let gone = || Error::not_found("TokenNotFound", "Could not find token.");
    let old = state.validate(token).await?.ok_or_else(gone)?;
    let payload = &old.payload;
    let refused = |what: &str| Err(Error::forbidden("ForbiddenAction", format!("{what} Log in instead.")));
    if payload.origin.is_some() || payload.methods.are_delegated() {
        return refused("A token that was made by delegation can't be exchanged for another.");
    }
    let narrows = matches!(wanted, Wanted::Project(_) | Wanted::Domain(_));
    if payload.scope == TokenScope::System && narrows {
        return refused("A token for the system can't be exchanged for one for a project or a domain.");
    }
    if payload.scope != TokenScope::Unscoped && !state.compliance.allow_rescope_scoped_token {
        return refused("A token with a scope can't be exchanged for another in this cloud.");
    }
    let mut conn = state.db().read().await?;
    let user = users::get(&mut conn, &payload.user_id).await?.ok_or_else(unauthenticated)?;
    Ok(Proven {
        user,
        methods: payload.methods.with(Methods::TOKEN),
        ends_at: Some(payload.expires_at),
        parent_audit_id: Some(payload.parent_audit_id.unwrap_or(payload.audit_id)),
        bound: None,
    })
}

async fn by_passcode(state: &State, lookup: &Lookup, passcode: &str) -> Result<Proven> {
    let user = find_user(&mut *state.db().read().await?, lookup).await?;
    let id = user.as_ref().map_or_else(|| UserId::new(""), |u| u.id.clone());
    let right = use_passcode(state, &id, passcode).await?;
    let user = judge(state, lookup, user, right).await?;
    Ok(Proven::by(Methods::TOTP, user))
}

/// Whether it is the passcode of one of the user's credentials, and was not used before.
async fn use_passcode(state: &State, user: &UserId, passcode: &str) -> Result<bool> {
    let now = state.db().clock().now();
    let mut found = None;
    {
        let mut conn = state.db().read().await?;
        for credential in credentials::of_user(&mut conn, user, "totp", TOTP_CREDENTIALS_MAX).await? {
            let secret = state.reveal(&mut conn, &credential.blob).await?;
            if let Some(step) = totp::step_of(&secret, passcode, now) {
                found = Some((credential.id, step));
            }
        }
    }
    let Some((id, step)) = found else { return Ok(false) };
    let mut tx = state.db().begin().await?;
    let fresh = credentials::use_step(&mut tx, &id, step).await?;
    tx.commit().await?;
    Ok(fresh)
}

async fn by_application_credential(state: &State, lookup: &CredentialLookup, secret: Password) -> Result<Proven> {
    let (found, user) = {
        let mut conn = state.db().read().await?;
        let found = match lookup {
            CredentialLookup::Id(id) => application_credentials::get(&mut conn, id).await?,
            CredentialLookup::Name { name, user } => match find_user(&mut conn, user).await? {
                Some(user) => application_credentials::get_by_name(&mut conn, &user.id, name).await?,
                None => None,
            },
        };
        let owner = found.as_ref().map_or_else(|| UserId::new(""), |c| c.user_id.clone());
        (found, users::get(&mut conn, &owner).await?)
    };
    let right = state.passwords.verify(secret, found.as_ref().map(|c| c.secret_hash.clone())).await?;
    let now = state.db().clock().now();
    match (found, user) {
        (Some(credential), Some(user))
            if right
                && state.compliance.is_enabled(&user, now)
                && credential.expires_at.is_none_or(|end| now < end) =>
        {
            Ok(Proven {
                ends_at: credential.expires_at,
                bound: Some((Origin::ApplicationCredential(credential.id), credential.project_id)),
                ..Proven::by(Methods::APPLICATION_CREDENTIAL, user)
            })
        }
        _ => Err(unauthenticated()),
    }
}

/// By the request's own signature with an access token.
async fn by_access_token(cx: &Cx, state: &State) -> Result<Proven> {
    let signed = oauth1::Signed::of(cx)?;
    let id = signed.required("oauth_token")?;
    let mut conn = state.db().read().await?;
    let token = oauth::get_token(&mut conn, Kind::Access, id).await?.ok_or_else(unauthenticated)?;
    oauth1::check(cx, state, &mut conn, &signed, Some(&token)).await?;
    let now = state.db().clock().now();
    let user_id = token.user_id.as_ref().ok_or_else(unauthenticated)?;
    let user = users::get(&mut conn, user_id).await?.filter(|u| state.compliance.is_enabled(u, now));
    if now >= token.expires_at {
        return Err(unauthenticated());
    }
    Ok(Proven {
        ends_at: Some(token.expires_at),
        bound: Some((Origin::AccessToken(token.id), token.project_id)),
        ..Proven::by(Methods::OAUTH1, user.ok_or_else(unauthenticated)?)
    })
}

/// The user whose password this is, which may have expired.
///
/// # Errors
/// Unauthenticated: unknown, disabled, locked out or another password. All of them cost the same.
pub async fn check_password(state: &State, lookup: &Lookup, password: Password) -> Result<User> {
    if let Some((user, right)) = by_directory(state, lookup, &password).await? {
        return judge(state, lookup, user, right).await;
    }
    let user = {
        let mut conn = state.db().read().await?;
        find_user(&mut conn, lookup).await?
    };
    let hash = user.as_ref().and_then(|u| u.password_hash.clone());
    let right = state.passwords.verify(password, hash).await?;
    judge(state, lookup, user, right).await
}

/// What the directory says whose user this is; none where it is nobody's.
async fn by_directory(state: &State, lookup: &Lookup, password: &Password) -> Result<Option<(Option<User>, bool)>> {
    let domain = match lookup {
        Lookup::Id(_) => None,
        Lookup::Name { domain, .. } => match find_domain(&mut *state.db().read().await?, domain).await {
            Ok(domain) => Some(domain),
            Err(e) if e.kind == model::ErrorKind::Unauthenticated => None,
            Err(e) => return Err(e),
        },
    };
    let who = match lookup {
        Lookup::Id(id) => Who::Id(id),
        Lookup::Name { name, .. } => Who::Name(name),
    };
    mirror::log_in(state, domain.as_ref(), who, password).await
}

/// Whether what was shown to be right or wrong is a login: counts it, and refuses all of a user that is locked out.
async fn judge(state: &State, lookup: &Lookup, user: Option<User>, right: bool) -> Result<User> {
    if let (Some(user), Some(request)) = (&user, store::request::current()) {
        // The audit log says whose login it was, or whose it was not.
        request.learn(|facts| facts.actor = user.id.to_string());
    }
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
        tx.aside();
        if !compliance.is_locked_out(failures, now) {
            logins::fail(&mut tx, &subject, compliance.lockout_failure_attempts.into(), over, forgotten).await?;
        }
        tx.commit().await?;
    }
    if let Some(user) = &good
        && (failures.count > 0 || notes)
    {
        let mut tx = state.db().begin().await?;
        tx.aside();
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

pub(super) async fn find_user(conn: &mut Conn, lookup: &Lookup) -> Result<Option<User>> {
    match lookup {
        Lookup::Id(id) => Ok(users::get(conn, &UserId::new(id.as_str())).await?),
        Lookup::Name { name, domain } => match find_domain(conn, domain).await {
            Ok(domain) => Ok(users::get_by_name(conn, &domain, name).await?),
            Err(e) if e.kind == model::ErrorKind::Unauthenticated => Ok(None),
            Err(e) => Err(e),
        },
    }
}

pub(super) async fn find_domain(conn: &mut Conn, lookup: &DomainLookup) -> Result<DomainId> {
    let found = match lookup {
        DomainLookup::Id(id) => domains::get(conn, &DomainId::new(id.as_str())).await?,
        DomainLookup::Name(name) => domains::get_by_name(conn, name).await?,
    };
    found.map(|domain| domain.id).ok_or_else(unauthenticated)
}
