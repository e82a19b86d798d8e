//! Users and their passwords.

use model::{
    Error, Result,
    id::{DomainId, ProjectId, UserId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    identity::{
        domains,
        users::{self, User},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    Password, State, domain,
    state::unauthenticated,
    token::{Lookup, check_password},
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;

/// How users are listed.
const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "name", sql: "t.name", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("name", "t.name"),
        Filter::exact("domain_id", "t.domain_id"),
        Filter::flag("enabled", "t.enabled"),
    ],
};

/// `GET /v3/users`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = domain::own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str())))?;
    let mut select = users::select();
    LIST.filter(&cx.query, &mut select)?;
    if let Some(own) = own {
        select.equal("t.domain_id", own.as_str());
    }
    let page = LIST.page(&cx.query)?;
    let found = users::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "users", &page, &found, |u| (u.id.as_str(), show(cx, u)))
}

/// `GET /v3/users/{user_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let user = load(cx, &UserId::new(cx.param("user_id"))).await?;
    Reply::ok(&json!({ "user": show(cx, &user) }))
}

/// `POST /v3/users`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "user")?;
    let domain_id = domain::of_new(cx, fields.nullable_text("domain_id")?);
    cx.authorize(&Target::none().with("target.user.domain_id", domain_id.as_str()))?;
    fields.no_options()?;
    let password = fields.nullable_text("password")?.flatten().map(Password::new);
    let mut user = User {
        id: UserId::random_hex(),
        domain_id,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
        default_project_id: fields.nullable_text("default_project_id")?.flatten().map(ProjectId::new),
        password_hash: None,
        generation: 0,
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    // Before the transaction: it takes long.
    if let Some(password) = password {
        user.password_hash = Some(state.passwords.hash(password).await?);
    }
    let mut tx = state.begin().await?;
    if domains::get(&mut tx, &user.domain_id).await?.is_none() {
        return Err(domain::missing(&user.domain_id));
    }
    users::insert(&mut tx, &user).await.map_err(wire::duplicate("user", &user.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "user": show(cx, &user) }))
}

/// `PATCH /v3/users/{user_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = UserId::new(cx.param("user_id"));
    let seen = load(cx, &id).await?;
    let mut fields = Fields::of(cx, "user")?;
    fields.unchanged("id", Some(seen.id.as_str()))?;
    fields.unchanged("domain_id", Some(seen.domain_id.as_str()))?;
    fields.no_options()?;
    let (name, enabled) = (fields.name("name", NAME_CHARS_MAX)?, fields.flag("enabled")?);
    let default_project = fields.nullable_text("default_project_id")?;
    let password = fields.nullable_text("password")?;
    let hash = match password {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => Some(Some(state.passwords.hash(Password::new(text)).await?)),
    };
    let extra = fields.extra()?;
    let mut tx = state.begin().await?;
    let mut user = users::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    if hash.is_some() || (user.enabled && enabled == Some(false)) {
        user.generation += 1;
    }
    user.password_hash = hash.unwrap_or(user.password_hash);
    user.name = name.unwrap_or(user.name);
    user.enabled = enabled.unwrap_or(user.enabled);
    user.default_project_id = default_project.map_or(user.default_project_id, |id| id.map(ProjectId::new));
    user.extra.extend(extra);
    users::update(&mut tx, &user).await.map_err(wire::duplicate("user", &user.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "user": show(cx, &user) }))
}

/// `DELETE /v3/users/{user_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let user = load(cx, &UserId::new(cx.param("user_id"))).await?;
    let mut tx = state.begin().await?;
    users::delete(&mut tx, &user.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `{"user": {"original_password": ..., "password": ...}}`.
#[derive(Deserialize)]
struct ChangePassword {
    original_password: Password,
    password: Password,
}

/// `POST /v3/users/{user_id}/password`: whoever knows the old one may, token or not.
pub async fn change_password(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let request: ChangePassword = cx.json_in("user")?;
    let id = cx.param("user_id").to_owned();
    let seen = check_password(state, &Lookup::Id(id), request.original_password).await?;
    let hash = state.passwords.hash(request.password).await?;
    let mut tx = state.begin().await?;
    let mut user = users::get(&mut tx, &seen.id).await?.ok_or_else(unauthenticated)?;
    // Someone else changed it meanwhile: then what was proven no longer is.
    if user.password_hash != seen.password_hash || !user.enabled {
        return Err(unauthenticated());
    }
    user.password_hash = Some(hash);
    user.generation += 1;
    users::update(&mut tx, &user).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// As clients see it.
fn show(cx: &Cx, user: &User) -> Value {
    let mut own = json!({
        "name": user.name, "domain_id": user.domain_id, "enabled": user.enabled, "password_expires_at": null,
        "options": {},
    });
    if let Some(project) = &user.default_project_id {
        own["default_project_id"] = json!(project);
    }
    wire::resource(cx, "users", user.id.as_str(), &user.extra, own)
}

fn target(id: &UserId, domain: &DomainId) -> Target {
    Target::none().with("target.user.id", id.as_str()).with("target.user.domain_id", domain.as_str())
}

/// A user, once the caller may.
///
/// # Errors
/// Forbidden, and not found for those who may know.
pub async fn load(cx: &Cx, id: &UserId) -> Result<User> {
    let found = users::get(&mut *cx.db().read().await?, id).await?;
    cx.authorize(&found.as_ref().map_or_else(Target::none, |u| target(&u.id, &u.domain_id)))?;
    found.ok_or_else(|| missing(id))
}

/// That there is no such user.
pub fn missing(id: &UserId) -> Error {
    wire::not_found("UserNotFound", "user", id.as_str())
}
