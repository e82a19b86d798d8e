//! From a payload to what the token means now: read from the database, then cached.

use bytes::Bytes;
use model::{Error, Result, Timestamp, id::RoleId};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        assignments::Target,
        domains::{self, Domain},
        endpoint_filters::Given,
        federated_users, groups,
        projects::{self, Project},
        roles::Role,
        tokens,
        users::{self, User},
    },
};
use web::{Caller, Scope};

use super::{
    catalog::Catalog,
    delegated::Delegated,
    wire::{AllOfIt, InDomain, Named, TokenDocument, UserInToken},
};
use crate::{
    payload::{Methods, Payload, TokenScope},
    security::Compliance,
    state::unauthenticated,
};

/// A good token.
pub struct Validated {
    /// What it says.
    pub payload: Payload,
    /// Whom it makes of a request.
    pub caller: Caller,
    /// The roles that it has.
    pub role_ids: Vec<RoleId>,
    /// `{"token": {...` up to where the catalog would follow.
    head: Bytes,
    /// The catalog of its scope, as JSON; shared by many tokens.
    catalog: Option<Bytes>,
}

/// What the scope is, with its rows.
enum Found {
    Unscoped,
    Project(Box<Project>, Domain),
    Domain(Domain),
    System,
}

impl Validated {
    /// Reads what the token means.
    ///
    /// # Errors
    /// Unauthenticated where it means nothing any more.
    pub(crate) async fn resolve(
        conn: &mut Conn,
        payload: Payload,
        catalog_of: &Catalog,
        compliance: &Compliance,
        now: Timestamp,
    ) -> Result<Self> {
        if tokens::is_revoked(conn, &payload.audit_id.to_string()).await? {
            return Err(unauthenticated());
        }
        let user = users::get(conn, &payload.user_id).await?.ok_or_else(unauthenticated)?;
        if !compliance.is_enabled(&user, now) || user.generation != payload.user_generation {
            return Err(unauthenticated());
        }
        let user_domain = enabled_domain(conn, &user.domain_id).await?;
        let (found, target) = find_scope(conn, &payload, &user_domain).await?;
        let mut origin = Delegated::read(conn, &payload, compliance, now).await?;
        let roles = match &target {
            None => Vec::new(),
            Some(target) => origin.roles_in(conn, &user.id, target).await?,
        };
        // A scope is what one has a role in.
        if target.is_some() && roles.is_empty() {
            return Err(unauthenticated());
        }
        let catalog = match &found {
            Found::Unscoped => None,
            Found::Project(project, _) => {
                let given = catalog_of.given_to(conn, &project.id).await?;
                Some(catalog_of.render(&user.id, Some(&project.id), &given)?)
            }
            Found::Domain(_) | Found::System => Some(catalog_of.render(&user.id, None, &Given::default())?),
        };
        let expiry = compliance.expiry(&user).map(Timestamp::to_micros_naive);
        let federation = match payload.methods.contain(Methods::OPENID) {
            true => Some(federation(conn, &user).await?),
            false => None,
        };
        let services = catalog_of.service_providers().filter(|_| target.is_some());
        let facts = Facts {
            password_expires_at: expiry.as_deref(),
            federation,
            service_providers: services,
            origin: origin.shown.take(),
        };
        let head = head(&payload, facts, &user, &user_domain, &found, &roles)?;
        let role_ids = roles.iter().map(|role| role.id.clone()).collect();
        let caller = caller(&payload, &user, found, roles, origin);
        Ok(Self { payload, caller, role_ids, head, catalog })
    }

    /// The document that clients get.
    pub fn document(&self, with_catalog: bool) -> Bytes {
        let catalog = self.catalog.as_ref().filter(|_| with_catalog);
        let mut text = Vec::with_capacity(self.head.len() + catalog.map_or(0, Bytes::len) + 16);
        text.extend_from_slice(&self.head);
        if let Some(catalog) = catalog {
            text.extend_from_slice(b",\"catalog\":");
            text.extend_from_slice(catalog);
        }
        text.extend_from_slice(b"}}");
        text.into()
    }

    /// The catalog of its scope.
    pub fn catalog(&self) -> Option<&Bytes> {
        self.catalog.as_ref()
    }

    /// About how much memory it takes, the catalog aside.
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.head.len() + 1024).unwrap_or(u32::MAX)
    }
}

async fn enabled_domain(conn: &mut Conn, id: &model::id::DomainId) -> Result<Domain> {
    domains::get(conn, id).await?.filter(|domain| domain.enabled).ok_or_else(unauthenticated)
}

async fn find_scope(conn: &mut Conn, payload: &Payload, user_domain: &Domain) -> Result<(Found, Option<Target>)> {
    Ok(match &payload.scope {
        TokenScope::Unscoped => (Found::Unscoped, None),
        TokenScope::System => (Found::System, Some(Target::System)),
        TokenScope::Domain(id) => (Found::Domain(enabled_domain(conn, id).await?), Some(Target::Domain(id.clone()))),
        TokenScope::Project(id) => {
            let project = projects::get(conn, id).await?.ok_or_else(unauthenticated)?;
            if !project.enabled || project.generation != payload.scope_generation {
                return Err(unauthenticated());
            }
            // Most users' projects are in their own domain.
            let domain = if project.domain_id == user_domain.id {
                user_domain.clone()
            } else {
                enabled_domain(conn, &project.domain_id).await?
            };
            (Found::Project(Box::new(project), domain), Some(Target::Project(id.clone())))
        }
    })
}

fn caller(payload: &Payload, user: &User, found: Found, roles: Vec<Role>, origin: Delegated) -> Caller {
    let scope = match found {
        Found::Unscoped => Scope::Unscoped,
        Found::System => Scope::System,
        Found::Domain(domain) => Scope::Domain { id: domain.id, name: domain.name },
        Found::Project(project, domain) => {
            Scope::Project { id: project.id, name: project.name, domain_id: domain.id, domain_name: domain.name }
        }
    };
    Caller {
        user_id: Some(user.id.clone()),
        user_name: user.name.clone(),
        user_domain_id: user.domain_id.as_str().to_owned(),
        scope,
        roles: roles.into_iter().map(|role| role.name).collect(),
        delegation: origin.delegation,
        access_rules: origin.access_rules,
        expires_at: payload.expires_at,
        audit_id: payload.audit_id.to_string(),
    }
}

fn named(domain: &Domain) -> Named<'_> {
    Named { id: domain.id.as_str(), name: &domain.name }
}

/// What else a token shows.
struct Facts<'a> {
    password_expires_at: Option<&'a str>,
    federation: Option<Value>,
    service_providers: Option<&'a Value>,
    /// What made it, if not a login.
    origin: Option<(&'static str, Value)>,
}

/// By whose word the user is in, and in which groups.
async fn federation(conn: &mut Conn, user: &User) -> Result<Value> {
    let Some(of) = federated_users::of_user(conn, &user.id).await?.into_iter().next() else {
        return Ok(json!({ "groups": [] }));
    };
    let groups = groups::ids_of(conn, &user.id).await?;
    let groups: Vec<Value> = groups.iter().map(|id| json!({ "id": id })).collect();
    Ok(json!({
        "groups": groups, "identity_provider": { "id": of.idp_id }, "protocol": { "id": of.protocol_id },
    }))
}

fn head(
    payload: &Payload,
    facts: Facts<'_>,
    user: &User,
    user_domain: &Domain,
    found: &Found,
    roles: &[Role],
) -> Result<Bytes> {
    let (project, domain, system) = match found {
        Found::Unscoped => (None, None, None),
        Found::Project(project, domain) => {
            (Some(InDomain { domain: named(domain), id: project.id.as_str(), name: &project.name }), None, None)
        }
        Found::Domain(domain) => (None, Some(named(domain)), None),
        Found::System => (None, None, Some(AllOfIt { all: true })),
    };
    let document = TokenDocument {
        methods: payload.methods.names(),
        user: UserInToken {
            domain: named(user_domain),
            id: user.id.as_str(),
            name: &user.name,
            password_expires_at: facts.password_expires_at,
            federation: facts.federation,
        },
        audit_ids: payload.audit_ids(),
        expires_at: payload.expires_at.to_micros_z(),
        issued_at: payload.issued_at.to_micros_z(),
        is_domain: project.is_some().then_some(false),
        project,
        domain,
        system,
        roles: roles.iter().map(|role| Named { id: role.id.as_str(), name: &role.name }).collect(),
        service_providers: facts.service_providers,
        origin: facts.origin.into_iter().collect(),
    };
    let mut text = b"{\"token\":".to_vec();
    serde_json::to_writer(&mut text, &document).map_err(|e| Error::internal("writing a token", e))?;
    // Its closing bracket comes after the catalog.
    text.pop();
    Ok(text.into())
}
