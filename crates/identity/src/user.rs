//! Users and their passwords.

use model::{
    Error, Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    identity::{
        directory::Kind,
        domains, logins, revocations,
        users::{self, Security, User},
    },
    list::{Direction, Select, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec, Query},
};

use crate::{
    Password, State, domain,
    ldap::mirror,
    security::{REMEMBERED_MAX, merge_options},
    state::{Write, unauthenticated},
    token::{self, Lookup, check_password},
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;

/// How users are listed.
pub const LIST: ListSpec = ListSpec {
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
    let state: &State = cx.state()?;
    mirror::before_list(cx, state, own, Kind::User).await?;
    let mut select = users::select();
    users::only_present(&mut select);
    wire::filter(cx, &LIST, &mut select)?;
    filter_by_expiry(&cx.query, &mut select)?;
    if let Some(own) = own {
        select.equal("t.domain_id", own.as_str());
    }
    let page = LIST.page(&cx.query)?;
    let found = users::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "users", &page, &found, |u| (u.id.as_str(), show(cx, state, u)))
}

/// `GET /v3/users/{user_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let user = load(cx, &UserId::new(cx.param("user_id"))).await?;
    Reply::ok(&json!({ "user": show(cx, cx.state()?, &user) }))
}

/// `POST /v3/users`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "user")?;
    let domain_id = domain::of_new(cx, fields.nullable_text("domain_id")?);
    cx.authorize(&Target::none().with("target.user.domain_id", domain_id.as_str()))?;
    mirror::check_writable(state, &domain_id).await?;
    let password = fields.nullable_text("password")?.flatten().map(Password::new);
    let mut security = Security::default();
    merge_options(&mut security.options, fields.take("options"))?;
    if state.compliance.disable_user_account_days_inactive > 0 {
        security.active_at = Some(cx.now());
    }
    let mut user = User {
        id: UserId::random_hex(),
        domain_id,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
        default_project_id: fields.nullable_text("default_project_id")?.flatten().map(ProjectId::new),
        password_hash: None,
        generation: 0,
        extra: fields.extra()?,
        security,
        created_at: cx.now(),
    };
    // Before the transaction: it takes long.
    if let Some(password) = password {
        state.compliance.check_strength(&password)?;
        user.password_hash = Some(state.passwords.hash(password).await?);
        state.compliance.set_password(&mut user.security, cx.now(), false);
    }
    let mut tx = state.begin().await?;
    if domains::get(&mut tx, &user.domain_id).await?.is_none() {
        return Err(domain::missing(&user.domain_id));
    }
    users::insert(&mut tx, &user).await.map_err(wire::duplicate("user", &user.name))?;
    remember_password(&mut tx, &user).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "user": show(cx, state, &user) }))
}

/// `PATCH /v3/users/{user_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = UserId::new(cx.param("user_id"));
    let seen = load(cx, &id).await?;
    mirror::check_writable(state, &seen.domain_id).await?;
    let mut fields = Fields::of(cx, "user")?;
    fields.unchanged("id", Some(seen.id.as_str()))?;
    fields.unchanged("domain_id", Some(seen.domain_id.as_str()))?;
    let options = fields.take("options");
    merge_options(&mut seen.security.options.clone(), options.clone())?;
    let (name, enabled) = (fields.name("name", NAME_CHARS_MAX)?, fields.flag("enabled")?);
    let default_project = fields.nullable_text("default_project_id")?;
    let hash = match fields.nullable_text("password")? {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => {
            let password = Password::new(text);
            state.compliance.check_strength(&password)?;
            Some(Some(state.passwords.hash(password).await?))
        }
    };
    let extra = fields.extra()?;
    let mut tx = state.begin().await?;
    let mut user = users::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    merge_options(&mut user.security.options, options)?;
    if hash.is_some() || (user.enabled && enabled == Some(false)) {
        user.generation += 1;
        revocations::record(&mut tx, &[("user_id", id.as_str())]).await?;
    }
    if enabled == Some(true) && user.security.active_at.is_some() {
        // Enabling one that was idle for too long makes it count as active.
        user.security.active_at = Some(cx.now());
    }
    user.name = name.unwrap_or(user.name);
    user.enabled = enabled.unwrap_or(user.enabled);
    user.default_project_id = default_project.map_or(user.default_project_id, |id| id.map(ProjectId::new));
    user.extra.extend(extra);
    if let Some(hash) = hash {
        user.password_hash = hash;
        state.compliance.set_password(&mut user.security, cx.now(), false);
        remember_password(&mut tx, &user).await?;
        // An administrator's reset ends a lock-out.
        logins::succeed(&mut tx, &token::subject(&user.id)).await?;
    }
    users::update(&mut tx, &user).await.map_err(wire::duplicate("user", &user.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "user": show(cx, state, &user) }))
}

/// `DELETE /v3/users/{user_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let user = load(cx, &UserId::new(cx.param("user_id"))).await?;
    mirror::check_writable(state, &user.domain_id).await?;
    let mut tx = state.begin().await?;
    users::delete(&mut tx, &user.id).await?;
    revocations::record(&mut tx, &[("user_id", user.id.as_str())]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `{"user": {"original_password": ..., "password": ...}}`.
#[derive(Deserialize)]
struct ChangePassword {
    original_password: Password,
    password: Password,
}

/// `POST /v3/users/{user_id}/password`: whoever knows the old one may, token or not, also when it has expired.
pub async fn change_password(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let request: ChangePassword = cx.json_in("user")?;
    let id = cx.param("user_id").to_owned();
    let seen = check_password(state, &Lookup::Id(id), request.original_password).await?;
    mirror::check_writable(state, &seen.domain_id).await?;
    state.compliance.check_may_change(&seen, cx.now())?;
    state.compliance.check_strength(&request.password)?;
    check_not_used(cx, state, &seen, &request.password).await?;
    let hash = state.passwords.hash(request.password).await?;
    let mut tx = state.begin().await?;
    let mut user = users::get(&mut tx, &seen.id).await?.ok_or_else(unauthenticated)?;
    // Someone else changed it meanwhile: then what was proven no longer is.
    if user.password_hash != seen.password_hash || !user.enabled {
        return Err(unauthenticated());
    }
    user.password_hash = Some(hash);
    user.generation += 1;
    revocations::record(&mut tx, &[("user_id", user.id.as_str())]).await?;
    state.compliance.set_password(&mut user.security, cx.now(), true);
    users::update(&mut tx, &user).await?;
    remember_password(&mut tx, &user).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// Refuses a password that is among the last ones.
async fn check_not_used(cx: &Cx, state: &State, user: &User, password: &Password) -> Result<()> {
    let count = state.compliance.unique_last_password_count.min(REMEMBERED_MAX);
    if count == 0 {
        return Ok(());
    }
    let mut last = logins::last_passwords(&mut *cx.db().read().await?, &user.id, count).await?;
    // One that was set before passwords were remembered.
    if let Some(hash) = user.password_hash.as_ref().filter(|hash| !last.contains(hash)) {
        last.insert(0, hash.clone());
    }
    for hash in last.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
        if state.passwords.verify(password.clone(), Some(hash)).await? {
            return Err(state.compliance.used_before());
        }
    }
    Ok(())
}

async fn remember_password(tx: &mut Write, user: &User) -> Result<()> {
    if let Some(hash) = &user.password_hash {
        logins::remember_password(tx, &user.id, hash, REMEMBERED_MAX).await?;
    }
    Ok(())
}

/// Narrows a list of users by `password_expires_at=OPERATOR:MOMENT`, which may be given several times.
///
/// # Errors
/// Bad request for anything else.
pub fn filter_by_expiry(query: &Query, select: &mut Select) -> Result<()> {
    for text in query.all("password_expires_at") {
        let (operator, moment) = text.split_once(':').ok_or_else(|| invalid_expiry(text))?;
        let condition = match operator {
            "lt" => "t.password_expires_at < ?",
            "lte" => "t.password_expires_at <= ?",
            "gt" => "t.password_expires_at > ?",
            "gte" => "t.password_expires_at >= ?",
            "eq" => "t.password_expires_at = ?",
            "neq" => "t.password_expires_at <> ?",
            _ => return Err(invalid_expiry(text)),
        };
        let moment = Timestamp::parse(moment).ok_or_else(|| invalid_expiry(text))?;
        select.filter(condition, [moment.0.into()]);
    }
    Ok(())
}

fn invalid_expiry(text: &str) -> Error {
    let message = format!(
        "Invalid input for query parameter password_expires_at. Value: {text}. Write one of lt, lte, gt, gte, eq, neq, \
         a colon, and a moment: lt:2026-01-31T00:00:00Z."
    );
    Error::bad_request("ValidationTimeStampError", message)
}

/// As clients see it.
pub fn show(cx: &Cx, state: &State, user: &User) -> Value {
    let expiry = state.compliance.expiry(user).filter(|_| user.password_hash.is_some());
    let mut own = json!({
        "name": user.name, "domain_id": user.domain_id, "enabled": state.compliance.is_enabled(user, cx.now()),
        "password_expires_at": expiry.map(Timestamp::to_micros_naive),
        "options": user.security.options,
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
    if found.is_some() && !mirror::refresh_user(cx.state()?, id).await? {
        return Err(missing(id));
    }
    // As its directory has it now, where it has one.
    let found =
        if mirror::is_mirrored(id.as_str()) { users::get(&mut *cx.db().read().await?, id).await? } else { found };
    found.ok_or_else(|| missing(id))
}

/// That there is no such user.
pub fn missing(id: &UserId) -> Error {
    wire::not_found("UserNotFound", "user", id.as_str())
}
