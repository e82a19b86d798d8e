//! What tokens mean that were not made by a login alone: by a trust, an application credential, an access token.
//!
//! Each hands on roles that somebody has; the token is void as soon as that somebody has one of them no more.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    Result, Timestamp,
    id::{RoleId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        application_credentials,
        assignments::{self, Target},
        domains,
        oauth::{self, Kind},
        roles::{self, Role},
        trusts::{self, Trust},
        users,
    },
};
use web::{AccessRule, Delegation};

use crate::{
    payload::{Origin, Payload},
    security::Compliance,
    state::unauthenticated,
};

/// What a token's origin means.
pub(super) struct Delegated {
    /// For whoever asks what the token may do.
    pub delegation: Delegation,
    /// The only requests that it may make.
    pub access_rules: Option<Arc<[AccessRule]>>,
    /// Whose roles they are, and which of them.
    pub roles: Option<(UserId, Vec<RoleId>)>,
    /// What the token's document shows of it: a name and a value.
    pub shown: Option<(&'static str, Value)>,
}

impl Delegated {
    /// Reads it.
    ///
    /// # Errors
    /// Unauthenticated where it is no longer there or has ended.
    pub async fn read(conn: &mut Conn, payload: &Payload, compliance: &Compliance, now: Timestamp) -> Result<Self> {
        match &payload.origin {
            None if payload.methods.is_ec2() => {
                Ok(Self { delegation: Delegation::Ec2, access_rules: None, roles: None, shown: None })
            }
            None => Ok(Self { delegation: Delegation::None, access_rules: None, roles: None, shown: None }),
            Some(Origin::Trust(id, generation)) => by_trust(conn, payload, (id, *generation), compliance, now).await,
            Some(Origin::ApplicationCredential(id)) => by_application_credential(conn, payload, id, now).await,
            Some(Origin::AccessToken(id)) => by_access_token(conn, payload, id, now).await,
        }
    }

    /// The roles that the token has in its scope.
    ///
    /// # Errors
    /// Unauthenticated where one that was handed on is no longer held.
    pub async fn roles_in(&self, conn: &mut Conn, user: &UserId, target: &Target) -> Result<Vec<Role>> {
        let Some((holder, given)) = &self.roles else {
            return Ok(assignments::effective_roles(conn, user, target).await?);
        };
        let held = assignments::effective_roles(conn, holder, target).await?;
        if !given.iter().all(|id| held.iter().any(|role| role.id == *id)) {
            return Err(unauthenticated());
        }
        let given = with_implied(conn, given).await?;
        Ok(held.into_iter().filter(|role| given.contains(&role.id)).collect())
    }
}

/// The roles and all that they imply.
pub(crate) async fn with_implied(conn: &mut Conn, given: &[RoleId]) -> Result<BTreeSet<RoleId>> {
    let implications = roles::implications(conn).await?;
    let mut all: BTreeSet<RoleId> = given.iter().cloned().collect();
    loop {
        let more: Vec<RoleId> = implications
            .iter()
            .filter(|i| all.contains(&i.prior) && !all.contains(&i.implied))
            .map(|i| i.implied.clone())
            .collect();
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

/// A trust that is still good: it and those before it in its chain, and all who pass it on.
///
/// # Errors
/// Unauthenticated.
pub(super) async fn live_trust(conn: &mut Conn, id: &str, compliance: &Compliance, now: Timestamp) -> Result<Trust> {
    let trust = trusts::get(conn, id).await?.ok_or_else(unauthenticated)?;
    let mut link = trust.clone();
    loop {
        if link.expires_at.is_some_and(|end| now >= end) {
            return Err(unauthenticated());
        }
        for user in [&link.trustor_user_id, &link.trustee_user_id] {
            let user = users::get(conn, user).await?.filter(|u| compliance.is_enabled(u, now));
            let user = user.ok_or_else(unauthenticated)?;
            domains::get(conn, &user.domain_id).await?.filter(|d| d.enabled).ok_or_else(unauthenticated)?;
        }
        let Some(before) = &link.redelegated_trust_id else { return Ok(trust) };
        link = trusts::get(conn, before).await?.ok_or_else(unauthenticated)?;
    }
}

async fn by_trust(
    conn: &mut Conn,
    payload: &Payload,
    (id, generation): (&str, i64),
    compliance: &Compliance,
    now: Timestamp,
) -> Result<Delegated> {
    let trust = live_trust(conn, id, compliance, now).await?;
    let (user, other) = trust_parties(&trust);
    let other = users::get(conn, other).await?.ok_or_else(unauthenticated)?;
    if payload.user_id != *user || other.generation != generation {
        return Err(unauthenticated());
    }
    let shown = json!({
        "id": trust.id, "impersonation": trust.impersonation,
        "trustor_user": { "id": trust.trustor_user_id }, "trustee_user": { "id": trust.trustee_user_id },
    });
    Ok(Delegated {
        delegation: Delegation::Trust { id: trust.id },
        access_rules: None,
        roles: Some((trust.holder_user_id, trust.role_ids)),
        shown: Some(("OS-TRUST:trust", shown)),
    })
}

/// Whom a trust's token shows as its user, and the other one.
pub(super) fn trust_parties(trust: &Trust) -> (&UserId, &UserId) {
    let (trustor, trustee) = (&trust.trustor_user_id, &trust.trustee_user_id);
    if trust.impersonation { (trustor, trustee) } else { (trustee, trustor) }
}

async fn by_application_credential(conn: &mut Conn, payload: &Payload, id: &str, now: Timestamp) -> Result<Delegated> {
    let found = application_credentials::get(conn, id).await?.ok_or_else(unauthenticated)?;
    if found.user_id != payload.user_id || found.expires_at.is_some_and(|end| now >= end) {
        return Err(unauthenticated());
    }
    let mut shown = json!({ "id": found.id, "name": found.name, "restricted": !found.unrestricted });
    let mut access_rules = None;
    if found.restricted_to_rules {
        let rules = application_credentials::rules_of(conn, &[&found.id]).await?;
        shown["access_rules"] = rules
            .iter()
            .map(|(_, r)| json!({ "id": r.id, "service": r.service, "method": r.method, "path": r.path }))
            .collect();
        let rules = rules.into_iter().map(|(_, r)| AccessRule { service: r.service, method: r.method, path: r.path });
        access_rules = Some(rules.collect());
    }
    Ok(Delegated {
        delegation: Delegation::ApplicationCredential { id: found.id, unrestricted: found.unrestricted },
        access_rules,
        roles: Some((found.user_id, found.role_ids)),
        shown: Some(("application_credential", shown)),
    })
}

async fn by_access_token(conn: &mut Conn, payload: &Payload, id: &str, now: Timestamp) -> Result<Delegated> {
    let found = oauth::get_token(conn, Kind::Access, id).await?.ok_or_else(unauthenticated)?;
    let user = found.user_id.filter(|user| *user == payload.user_id).ok_or_else(unauthenticated)?;
    if now >= found.expires_at {
        return Err(unauthenticated());
    }
    let shown = json!({ "access_token_id": found.id, "consumer_id": found.consumer_id });
    Ok(Delegated {
        delegation: Delegation::AccessToken { id: found.id },
        access_rules: None,
        roles: Some((user, found.role_ids)),
        shown: Some(("OS-OAUTH1", shown)),
    })
}
