//! Application credentials: logins for programs, with some of a user's roles in one project, for a while, and for some
//! requests only where access rules say so. The secret is shown once.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::{
    Error, Result, Timestamp,
    id::{RoleId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        application_credentials::{self, ApplicationCredential, Rule},
        assignments::{self, Target as On},
        revocations,
        roles::{self, Role},
        users,
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Delegation, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    Password, State, access_rule, token,
    trust::{find_roles, own_roles, parse_end},
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;
const PER_USER_MAX: i64 = 1000;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("name", "t.name")],
};

/// `GET /v3/users/{user_id}/application_credentials`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let user = UserId::new(cx.param("user_id"));
    cx.authorize(&target(&user))?;
    refuse_delegated(cx, false)?;
    let mut select = application_credentials::select();
    select.equal("t.user_id", &user);
    LIST.filter(&cx.query, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let found = application_credentials::list(&mut conn, select, &page).await?;
    let parts = Parts::of(&mut conn, &found).await?;
    wire::collection(cx, "application_credentials", &page, &found, |c| (c.id.as_str(), show(cx, c, &parts)))
}

/// `GET /v3/users/{user_id}/application_credentials/{application_credential_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let found = load(cx).await?;
    refuse_delegated(cx, false)?;
    let parts = Parts::of(&mut *cx.db().read().await?, std::slice::from_ref(&found)).await?;
    Reply::ok(&json!({ "application_credential": show(cx, &found, &parts) }))
}

/// `POST /v3/users/{user_id}/application_credentials`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let user_id = UserId::new(cx.param("user_id"));
    cx.authorize(&target(&user_id))?;
    refuse_delegated(cx, true)?;
    if cx.caller.user() != user_id {
        let message = "Cannot create an application credential for another user.";
        return Err(Error::forbidden("ForbiddenAction", message));
    }
    let project_id = cx.project()?.clone();
    let mut fields = Fields::of(cx, "application_credential")?;
    let name = fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?;
    let given = fields.nullable_text("secret")?.flatten();
    let secret = given.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(rand::random::<[u8; 64]>()));
    let end = fields.nullable_text("expires_at")?.flatten();
    let rules = fields.take("access_rules").filter(|rules| !rules.is_null());
    let wanted_roles = fields.take("roles").filter(|roles| !roles.is_null());
    let mut credential = ApplicationCredential {
        id: model::Id::<()>::random_hex().as_str().to_owned(),
        user_id,
        project_id,
        name,
        description: fields.nullable_text("description")?.flatten(),
        secret_hash: state.passwords.hash(Password::new(secret.as_str())).await?,
        role_ids: Vec::new(),
        expires_at: end.as_deref().map(|text| parse_end(cx, text)).transpose()?,
        unrestricted: fields.take("unrestricted").is_some_and(|flag| flag == json!(true)),
        restricted_to_rules: rules.is_some(),
        created_at: cx.now(),
    };
    check_not_wider(cx)?;
    let own = own_roles(cx, state).await?;
    let mut tx = state.begin().await?;
    let user = users::get(&mut tx, &credential.user_id).await?;
    user.ok_or_else(|| crate::user::missing(&credential.user_id))?;
    credential.role_ids = roles_for(&mut tx, &credential, wanted_roles, own).await?;
    if application_credentials::count(&mut tx, &credential.user_id).await? >= PER_USER_MAX {
        let message = format!("A user may have {PER_USER_MAX} application credentials; delete one first.");
        return Err(Error::forbidden("ApplicationCredentialLimitExceeded", message));
    }
    let rules = access_rule::ensure_all(&mut tx, &credential.user_id, rules).await?;
    let taken = wire::duplicate("application_credential", &credential.name);
    application_credentials::insert(&mut tx, &credential, &rules).await.map_err(taken)?;
    let parts = Parts::of(&mut tx, std::slice::from_ref(&credential)).await?;
    state.commit(tx).await?;
    let mut shown = show(cx, &credential, &parts);
    shown["secret"] = json!(secret);
    Reply::created(&json!({ "application_credential": shown }))
}

/// `DELETE /v3/users/{user_id}/application_credentials/{application_credential_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let found = load(cx).await?;
    refuse_delegated(cx, true)?;
    let mut tx = state.begin().await?;
    application_credentials::delete(&mut tx, &found.id).await?;
    let (user, project) = (found.user_id.as_str(), found.project_id.as_str());
    revocations::record(&mut tx, &[("user_id", user), ("project_id", project)]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// Programs don't manage what lasts longer than they; but an unrestricted application credential may.
pub(crate) fn refuse_delegated(cx: &Cx, writes: bool) -> Result<()> {
    match &cx.caller.delegation {
        Delegation::ApplicationCredential { unrestricted, .. } if *unrestricted || !writes => Ok(()),
        Delegation::None => Ok(()),
        _ => token::refuse_delegated(cx, "Managing application credentials"),
    }
}

/// One that is made with another may do no more requests.
fn check_not_wider(cx: &Cx) -> Result<()> {
    if cx.caller.access_rules.is_none() {
        return Ok(());
    }
    let message = "An application credential with access rules can't make others.";
    Err(Error::forbidden("ForbiddenAction", message))
}

/// The roles that are asked for with all that they imply, or all that the token has.
async fn roles_for(
    conn: &mut Conn,
    credential: &ApplicationCredential,
    wanted: Option<Value>,
    own: Option<Vec<RoleId>>,
) -> Result<Vec<RoleId>> {
    let on = On::Project(credential.project_id.clone());
    let held = assignments::effective_roles(conn, &credential.user_id, &on).await?;
    let held: Vec<RoleId> =
        held.into_iter().map(|role| role.id).filter(|id| own.as_ref().is_none_or(|own| own.contains(id))).collect();
    let Some(wanted) = wanted else { return Ok(held) };
    let wanted = serde_json::from_value::<Vec<_>>(wanted)
        .map_err(|e| Error::bad_request("SchemaValidationError", format!("Invalid input for field 'roles': {e}")))?;
    if wanted.is_empty() {
        return Ok(held);
    }
    let ids = find_roles(conn, &wanted).await?;
    let all = token::with_implied(conn, &ids).await?;
    if !all.iter().all(|id| held.contains(id)) {
        let message = "Invalid application credential: Cannot create an application credential with unassigned role";
        return Err(Error::bad_request("ApplicationCredentialValidationError", message));
    }
    Ok(all.into_iter().collect())
}

/// What is shown of application credentials and lies in other tables.
struct Parts {
    roles: BTreeMap<RoleId, Role>,
    rules: Vec<(String, Rule)>,
}

impl Parts {
    async fn of(conn: &mut Conn, credentials: &[ApplicationCredential]) -> Result<Self> {
        let mut all = BTreeMap::new();
        for id in credentials.iter().flat_map(|c| &c.role_ids) {
            // A cloud has a handful of roles, each of which is read once.
            if !all.contains_key(id)
                && let Some(role) = roles::get(conn, id).await?
            {
                all.insert(id.clone(), role);
            }
        }
        let ids: Vec<&str> = credentials.iter().map(|c| c.id.as_str()).collect();
        Ok(Self { roles: all, rules: application_credentials::rules_of(conn, &ids).await? })
    }
}

fn show(cx: &Cx, credential: &ApplicationCredential, parts: &Parts) -> Value {
    let roles = credential.role_ids.iter().filter_map(|id| parts.roles.get(id));
    let roles: Vec<Value> = roles.map(|r| json!({ "id": r.id, "name": r.name, "domain_id": null })).collect();
    let collection = format!("users/{}/application_credentials", credential.user_id);
    let mut shown = json!({
        "id": credential.id, "name": credential.name, "description": credential.description,
        "project_id": credential.project_id, "user_id": credential.user_id, "roles": roles,
        "expires_at": credential.expires_at.map(Timestamp::to_micros_naive), "unrestricted": credential.unrestricted,
        "system": null, "links": { "self": wire::link(cx, &collection, &credential.id) },
    });
    if credential.restricted_to_rules {
        let own = parts.rules.iter().filter(|(owner, _)| *owner == credential.id);
        shown["access_rules"] = own.map(|(_, rule)| access_rule::show(rule)).collect();
    }
    shown
}

pub(crate) fn target(user: &UserId) -> Target {
    Target::none().with("user_id", user.as_str()).with("target.user.id", user.as_str())
}

/// One of its own user, whatever user the path names.
async fn load(cx: &Cx) -> Result<ApplicationCredential> {
    let id = cx.param("application_credential_id");
    let found = application_credentials::get(&mut *cx.db().read().await?, id).await?;
    let found = found.filter(|c| c.user_id.as_str() == cx.param("user_id"));
    cx.authorize(&target(&UserId::new(cx.param("user_id"))))?;
    found.ok_or_else(|| wire::not_found("ApplicationCredentialNotFound", "application credential", id))
}
