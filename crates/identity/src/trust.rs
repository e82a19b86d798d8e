//! Trusts: what one user lets another do in its stead, in one project, with some of its roles.
//!
//! A trustee may hand a trust on where it allows redelegation; whose roles they are stays the first trustor. Deleting a
//! trust deletes what followed from it.

use std::collections::BTreeSet;

use model::{
    Error, Result, Timestamp,
    id::{ProjectId, RoleId, UserId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        assignments::{self, Target as On},
        projects, revocations,
        roles::{self, Role},
        trusts::{self, Trust},
        users,
    },
    list::{Direction, SortKey, Type},
};
use web::{Cx, Delegation, Reply, Target, paging::ListSpec};

use crate::{State, token, wire};

/// How long a chain may be (Keystone's `max_redelegation_count`).
const REDELEGATIONS_MAX: i64 = 3;
const PER_TRUSTOR_MAX: i64 = 1000;
const USES_MAX: i64 = i32::MAX as i64;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "created_at", sql: "t.created_at", kind: Type::Int }],
    direction: Direction::Ascending,
    filters: &[],
};

/// `GET /v3/OS-TRUST/trusts`: one's own by `trustor_user_id` or `trustee_user_id`, all for administrators.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let by = |name: &str| cx.query.get(name).filter(|id| !id.is_empty()).map(UserId::new);
    let mut select = trusts::select();
    let (rule, target) = match (by("trustor_user_id"), by("trustee_user_id")) {
        (Some(trustor), trustee) => {
            select.equal("t.trustor_user_id", &trustor);
            if let Some(trustee) = trustee {
                select.equal("t.trustee_user_id", &trustee);
            }
            let target = Target::none().with("target.trust.trustor_user_id", trustor.as_str());
            ("identity:list_trusts_for_trustor", target)
        }
        (None, Some(trustee)) => {
            select.equal("t.trustee_user_id", &trustee);
            let target = Target::none().with("target.trust.trustee_user_id", trustee.as_str());
            ("identity:list_trusts_for_trustee", target)
        }
        (None, None) => ("identity:list_trusts", Target::none()),
    };
    cx.authorize_instead(rule, &target)?;
    refuse_delegated(cx, false)?;
    let page = LIST.page(&cx.query)?;
    let found = trusts::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "trusts", &page, &found, |t| (t.id.as_str(), show(cx, t)))
}

/// `GET /v3/OS-TRUST/trusts/{trust_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let trust = load(cx).await?;
    let roles = roles_of(&mut *cx.db().read().await?, &trust).await?;
    Reply::ok(&json!({ "trust": show_with_roles(cx, &trust, &roles) }))
}

/// What is asked for.
#[derive(Deserialize)]
struct Wanted {
    trustor_user_id: String,
    trustee_user_id: String,
    impersonation: bool,
    project_id: Option<String>,
    #[serde(default)]
    roles: Vec<RoleReference>,
    expires_at: Option<String>,
    remaining_uses: Option<i64>,
    allow_redelegation: Option<bool>,
    redelegation_count: Option<i64>,
}

/// A role by id or name.
#[derive(Deserialize)]
pub(crate) struct RoleReference {
    id: Option<String>,
    name: Option<String>,
}

/// `POST /v3/OS-TRUST/trusts`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let wanted: Wanted = cx.json_in("trust")?;
    cx.authorize(&Target::none().with("target.trust.trustor_user_id", wanted.trustor_user_id.as_str()))?;
    refuse_delegated(cx, true)?;
    if wanted.project_id.is_some() && wanted.roles.is_empty() {
        return Err(Error::forbidden("ForbiddenAction", "At least one role should be specified."));
    }
    if cx.caller.user().as_str() != wanted.trustor_user_id {
        return Err(Error::forbidden("ForbiddenAction", "The authenticated user should match the trustor."));
    }
    let expires_at = wanted.expires_at.as_deref().map(|text| parse_end(cx, text)).transpose()?;
    let own_roles = own_roles(cx, state).await?;
    let mut tx = state.begin().await?;
    let trustee = UserId::new(wanted.trustee_user_id.as_str());
    users::get(&mut tx, &trustee).await?.ok_or_else(|| crate::user::missing(&trustee))?;
    let before = match &cx.caller.delegation {
        Delegation::Trust { id } => Some(trusts::get(&mut tx, id).await?.ok_or_else(|| missing(id))?),
        _ => None,
    };
    let role_ids = find_roles(&mut tx, &wanted.roles).await?;
    let mut trust = Trust {
        id: model::Id::<()>::random_hex().as_str().to_owned(),
        trustor_user_id: cx.caller.user(),
        trustee_user_id: trustee,
        holder_user_id: before.as_ref().map_or_else(|| cx.caller.user(), |b| b.holder_user_id.clone()),
        project_id: wanted.project_id.as_deref().map(ProjectId::new),
        impersonation: wanted.impersonation,
        role_ids,
        expires_at,
        remaining_uses: wanted.remaining_uses,
        redelegation_count: 0,
        redelegated_trust_id: before.as_ref().map(|b| b.id.clone()),
        created_at: cx.now(),
    };
    check_roles(&mut tx, &trust, own_roles).await?;
    apply_redelegation(&mut trust, &wanted, before.as_ref())?;
    if trusts::count(&mut tx, &trust.trustor_user_id).await? >= PER_TRUSTOR_MAX {
        let message = format!("A user may have {PER_TRUSTOR_MAX} trusts; delete one first.");
        return Err(Error::forbidden("TrustLimitExceeded", message));
    }
    trusts::insert(&mut tx, &trust).await?;
    let roles = roles_of(&mut tx, &trust).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "trust": show_with_roles(cx, &trust, &roles) }))
}

/// `DELETE /v3/OS-TRUST/trusts/{trust_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let trust = load(cx).await?;
    refuse_delegated(cx, true)?;
    let mut tx = state.begin().await?;
    for id in trusts::delete(&mut tx, &trust.id).await? {
        revocations::record(&mut tx, &[("OS-TRUST:trust_id", &id)]).await?;
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/OS-TRUST/trusts/{trust_id}/roles`.
pub async fn list_roles(cx: &Cx) -> Result<Reply> {
    let trust = load(cx).await?;
    let roles = roles_of(&mut *cx.db().read().await?, &trust).await?;
    let roles: Vec<Value> = roles.iter().map(|role| show_role(cx, role)).collect();
    let links = json!({ "self": cx.self_url(), "next": null, "previous": null });
    Reply::ok(&json!({ "roles": roles, "links": links }))
}

/// `GET` and `HEAD /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}`.
pub async fn get_role(cx: &Cx) -> Result<Reply> {
    let trust = load(cx).await?;
    let id = cx.param("role_id");
    let roles = roles_of(&mut *cx.db().read().await?, &trust).await?;
    let role = roles.iter().find(|role| role.id.as_str() == id);
    let role = role.ok_or_else(|| wire::not_found("RoleNotFound", "role", id))?;
    Reply::ok(&json!({ "role": show_role(cx, role) }))
}

/// Trusts are handed on with a trust's token, and managed with an application credential's that is unrestricted.
fn refuse_delegated(cx: &Cx, writes: bool) -> Result<()> {
    match &cx.caller.delegation {
        Delegation::None | Delegation::Trust { .. } => Ok(()),
        Delegation::ApplicationCredential { unrestricted, .. } if *unrestricted || !writes => Ok(()),
        _ => token::refuse_delegated(cx, "Managing trusts"),
    }
}

/// The roles of the token, where it has fewer than its user.
pub(crate) async fn own_roles(cx: &Cx, state: &State) -> Result<Option<Vec<RoleId>>> {
    if cx.caller.delegation == Delegation::None {
        return Ok(None);
    }
    let token = cx.header("x-auth-token").unwrap_or_default();
    let validated = state.validate(token).await?.ok_or_else(crate::state::unauthenticated)?;
    Ok(Some(validated.role_ids.clone()))
}

/// A moment in the future.
///
/// # Errors
/// Bad request for anything else.
pub(crate) fn parse_end(cx: &Cx, text: &str) -> Result<Timestamp> {
    let Some(end) = Timestamp::parse(text) else {
        let message = format!("Timestamp not in expected format: {text}. Write 2026-01-31T00:00:00Z.");
        return Err(Error::bad_request("ValidationTimeStampError", message));
    };
    if end <= cx.now() {
        return Err(Error::bad_request("ValidationExpirationError", "The 'expires_at' must not be before now."));
    }
    Ok(end)
}

/// The ids of roles that are named one way or the other.
pub(crate) async fn find_roles(conn: &mut Conn, wanted: &[RoleReference]) -> Result<Vec<RoleId>> {
    let mut found = BTreeSet::new();
    for reference in wanted {
        let (role, named) = match (&reference.id, &reference.name) {
            (Some(id), _) => (roles::get(conn, &RoleId::new(id.as_str())).await?, id),
            (None, Some(name)) => (roles::get_by_name(conn, name).await?, name),
            (None, None) => return Err(wire::required("id")),
        };
        found.insert(role.ok_or_else(|| wire::not_found("RoleNotFound", "role", named))?.id);
    }
    Ok(found.into_iter().collect())
}

/// Whoever's roles they are must have them, and the token that hands them on too.
async fn check_roles(conn: &mut Conn, trust: &Trust, own: Option<Vec<RoleId>>) -> Result<()> {
    let Some(project) = &trust.project_id else {
        return match trust.role_ids.first() {
            None => Ok(()),
            Some(_) => Err(wire::required("project_id")),
        };
    };
    if projects::get(conn, project).await?.is_none() {
        return Err(wire::not_found("ProjectNotFound", "project", project.as_str()));
    }
    let held = assignments::effective_roles(conn, &trust.holder_user_id, &On::Project(project.clone())).await?;
    for id in &trust.role_ids {
        let own = own.as_ref().is_none_or(|own| own.contains(id));
        if !own || !held.iter().any(|role| role.id == *id) {
            return Err(wire::not_found("RoleNotFound", "role", id.as_str()));
        }
    }
    Ok(())
}

/// How far the trust may be handed on, and whether it may come from the one before it.
fn apply_redelegation(trust: &mut Trust, wanted: &Wanted, before: Option<&Trust>) -> Result<()> {
    let forbidden = |message: String| Err(Error::forbidden("Forbidden", message));
    let invalid = |message: &str| Err(Error::bad_request("ValidationError", message.to_owned()));
    if wanted.remaining_uses.is_some_and(|uses| !(1..=USES_MAX).contains(&uses)) {
        return invalid("remaining_uses must be a positive integer or null.");
    }
    let count = wanted.redelegation_count;
    if count.is_some_and(|count| count < 0) {
        return invalid("redelegation_count must not be negative.");
    }
    let redelegatable = wanted.allow_redelegation == Some(true) && count != Some(0);
    if redelegatable {
        if let Some(count) = count.filter(|count| *count > REDELEGATIONS_MAX) {
            return forbidden(format!(
                "Requested redelegation depth of {count} is greater than allowed {REDELEGATIONS_MAX}."
            ));
        }
        if wanted.remaining_uses.is_some() {
            return invalid("remaining_uses must not be set if redelegation is allowed.");
        }
    }
    let Some(before) = before else {
        trust.redelegation_count = if redelegatable { count.unwrap_or(REDELEGATIONS_MAX) } else { 0 };
        return Ok(());
    };
    if before.redelegation_count <= 0 {
        return forbidden("The trust of this token doesn't allow redelegation.".to_owned());
    }
    let left = before.redelegation_count - 1;
    if redelegatable && count.is_some_and(|count| count != left) {
        return forbidden("Modifying \"redelegation_count\" upon redelegation is forbidden: omit it.".to_owned());
    }
    if wanted.remaining_uses.is_some() {
        return forbidden("remaining_uses must not be set in order to redelegate a trust.".to_owned());
    }
    if before.project_id != trust.project_id {
        return forbidden("A trust can be redelegated for its own project only.".to_owned());
    }
    match (before.expires_at, trust.expires_at) {
        (Some(end), Some(wanted)) if wanted > end => {
            return forbidden("Requested expiration time is more than redelegated trust can provide.".to_owned());
        }
        (end, None) => trust.expires_at = end,
        _ => {}
    }
    if !trust.role_ids.iter().all(|id| before.role_ids.contains(id)) {
        return forbidden("Some of requested roles are not in redelegated trust.".to_owned());
    }
    if trust.impersonation && !before.impersonation {
        return forbidden(format!(
            "Impersonation is not allowed because redelegated trust does not specify impersonation. Redelegated trust \
             id: {}.",
            before.id
        ));
    }
    trust.redelegation_count = if redelegatable { left } else { 0 };
    Ok(())
}

async fn roles_of(conn: &mut Conn, trust: &Trust) -> Result<Vec<Role>> {
    let mut found = Vec::with_capacity(trust.role_ids.len());
    for id in &trust.role_ids {
        found.extend(roles::get(conn, id).await?);
    }
    Ok(found)
}

fn show_role(cx: &Cx, role: &Role) -> Value {
    json!({
        "id": role.id, "name": role.name, "description": role.description, "domain_id": null, "options": {},
        "links": { "self": wire::link(cx, "roles", role.id.as_str()) },
    })
}

fn show(cx: &Cx, trust: &Trust) -> Value {
    json!({
        "id": trust.id, "trustor_user_id": trust.trustor_user_id, "trustee_user_id": trust.trustee_user_id,
        "project_id": trust.project_id, "impersonation": trust.impersonation,
        "expires_at": trust.expires_at.map(Timestamp::to_micros_z), "remaining_uses": trust.remaining_uses,
        "redelegation_count": trust.redelegation_count, "redelegated_trust_id": trust.redelegated_trust_id,
        "deleted_at": null, "links": { "self": wire::link(cx, "OS-TRUST/trusts", &trust.id) },
    })
}

fn show_with_roles(cx: &Cx, trust: &Trust, roles: &[Role]) -> Value {
    let mut shown = show(cx, trust);
    shown["roles"] = roles.iter().map(|role| show_role(cx, role)).collect();
    let link = format!("{}/roles", wire::link(cx, "OS-TRUST/trusts", &trust.id));
    shown["roles_links"] = json!({ "self": link, "next": null, "previous": null });
    shown
}

/// A trust that has not ended, once the caller may.
async fn load(cx: &Cx) -> Result<Trust> {
    let id = cx.param("trust_id");
    let found = trusts::get(&mut *cx.db().read().await?, id).await?;
    let alive = |t: &Trust| t.expires_at.is_none_or(|end| cx.now() < end) && t.remaining_uses != Some(0);
    // Keystone says 404 of one that isn't there to everybody: ids can't be guessed.
    let trust = found.filter(alive).ok_or_else(|| missing(id))?;
    let target = Target::none()
        .with("target.trust.trustor_user_id", trust.trustor_user_id.as_str())
        .with("target.trust.trustee_user_id", trust.trustee_user_id.as_str());
    cx.authorize(&target)?;
    refuse_delegated(cx, false)?;
    Ok(trust)
}

/// That there is no such trust (any more).
pub(crate) fn missing(id: &str) -> Error {
    wire::not_found("TrustNotFound", "trust", id)
}
