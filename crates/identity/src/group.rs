//! Groups of users: whatever role a group has, its members have.

use model::{
    Error, Result,
    id::{GroupId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        directory::Kind,
        domains,
        groups::{self, Group},
        users::{self, User},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, domain,
    ldap::mirror,
    user,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 64;

/// How groups are listed.
const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "name", sql: "t.name", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[Filter::exact("name", "t.name"), Filter::exact("domain_id", "t.domain_id")],
};

/// `GET /v3/groups`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = domain::own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.group.domain_id", id.as_str())))?;
    mirror::before_list(cx, cx.state()?, own, Kind::Group).await?;
    let mut select = groups::select();
    groups::only_present(&mut select);
    wire::filter(cx, &LIST, &mut select)?;
    if let Some(own) = own {
        select.equal("t.domain_id", own.as_str());
    }
    let page = LIST.page(&cx.query)?;
    let found = groups::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "groups", &page, &found, |g| (g.id.as_str(), show(cx, g)))
}

/// `GET /v3/groups/{group_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let group = load(cx).await?;
    Reply::ok(&json!({ "group": show(cx, &group) }))
}

/// `POST /v3/groups`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "group")?;
    let domain_id = domain::of_new(cx, fields.nullable_text("domain_id")?);
    cx.authorize(&Target::none().with("target.group.domain_id", domain_id.as_str()))?;
    mirror::check_writable(state, &domain_id).await?;
    let group = Group {
        id: GroupId::random_hex(),
        domain_id,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    let mut tx = state.begin().await?;
    if domains::get(&mut tx, &group.domain_id).await?.is_none() {
        return Err(domain::missing(&group.domain_id));
    }
    groups::insert(&mut tx, &group).await.map_err(wire::duplicate("group", &group.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "group": show(cx, &group) }))
}

/// `PATCH /v3/groups/{group_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let seen = load(cx).await?;
    mirror::check_writable(state, &seen.domain_id).await?;
    let id = seen.id;
    let mut fields = Fields::of(cx, "group")?;
    let mut tx = state.begin().await?;
    let mut group = groups::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    fields.unchanged("id", Some(group.id.as_str()))?;
    fields.unchanged("domain_id", Some(group.domain_id.as_str()))?;
    group.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(group.name);
    if let Some(description) = fields.nullable_text("description")? {
        group.description = description.unwrap_or_default();
    }
    group.extra.extend(fields.extra()?);
    groups::update(&mut tx, &group).await.map_err(wire::duplicate("group", &group.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "group": show(cx, &group) }))
}

/// `DELETE /v3/groups/{group_id}`: its assignments go with it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let group = load(cx).await?;
    mirror::check_writable(state, &group.domain_id).await?;
    let mut tx = state.begin().await?;
    groups::delete(&mut tx, &group.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `PUT /v3/groups/{group_id}/users/{user_id}`.
pub async fn add_user(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (group, user) = pair(cx, &mut *cx.db().read().await?).await?;
    mirror::check_writable(state, &group.domain_id).await?;
    let mut tx = state.begin().await?;
    groups::add_member(&mut tx, &group.id, &user.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET` and `HEAD /v3/groups/{group_id}/users/{user_id}`.
pub async fn check_user(cx: &Cx) -> Result<Reply> {
    let (group, user) = pair(cx, &mut *cx.db().read().await?).await?;
    mirror::refresh_user(cx.state()?, &user.id).await?;
    let mut conn = cx.db().read().await?;
    if groups::is_member(&mut conn, &group.id, &user.id).await? {
        Ok(Reply::no_content())
    } else {
        Err(not_in(&group, &user))
    }
}

/// `GET /v3/users/{user_id}/groups`.
pub async fn list_of_user(cx: &Cx) -> Result<Reply> {
    let id = UserId::new(cx.param("user_id"));
    let mut conn = cx.db().read().await?;
    let user = users::get(&mut conn, &id).await?;
    let target = Target::none().with("user_id", id.as_str()).with("target.user.id", id.as_str());
    let target = match &user {
        Some(user) => target.with("target.user.domain_id", user.domain_id.as_str()),
        None => target,
    };
    cx.authorize(&target)?;
    let user = user.ok_or_else(|| user::missing(&id))?;
    drop(conn);
    mirror::refresh_user(cx.state()?, &user.id).await?;
    let mut conn = cx.db().read().await?;
    let mut select = groups::select();
    groups::with_member(&mut select, &user.id);
    wire::filter(cx, &LIST, &mut select)?;
    if let Some(own) = domain::own(cx) {
        select.equal("t.domain_id", own.as_str());
    }
    let page = LIST.page(&cx.query)?;
    let found = groups::list(&mut conn, select, &page).await?;
    wire::collection(cx, "groups", &page, &found, |g| (g.id.as_str(), show(cx, g)))
}

/// `GET /v3/groups/{group_id}/users`.
pub async fn list_users(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let group = load(cx).await?;
    let mut select = users::select();
    groups::members(&mut select, &group.id);
    wire::filter(cx, &user::LIST, &mut select)?;
    user::filter_by_expiry(&cx.query, &mut select)?;
    if let Some(own) = domain::own(cx) {
        select.equal("t.domain_id", own.as_str());
    }
    let page = user::LIST.page(&cx.query)?;
    let found = users::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "users", &page, &found, |u| (u.id.as_str(), user::show(cx, state, u)))
}

/// `DELETE /v3/groups/{group_id}/users/{user_id}`.
pub async fn remove_user(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (group, user) = pair(cx, &mut *cx.db().read().await?).await?;
    mirror::check_writable(state, &group.domain_id).await?;
    let mut tx = state.begin().await?;
    if !groups::remove_member(&mut tx, &group.id, &user.id).await? {
        return Err(not_in(&group, &user));
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// As clients see it.
fn show(cx: &Cx, group: &Group) -> Value {
    let own = json!({ "name": group.name, "domain_id": group.domain_id, "description": group.description });
    wire::resource(cx, "groups", group.id.as_str(), &group.extra, own)
}

/// The group of the path, once the caller may.
async fn load(cx: &Cx) -> Result<Group> {
    let id = GroupId::new(cx.param("group_id"));
    let found = groups::get(&mut *cx.db().read().await?, &id).await?;
    let in_domain = |g: &Group| Target::none().with("target.group.domain_id", g.domain_id.as_str());
    cx.authorize(&found.as_ref().map_or_else(Target::none, in_domain))?;
    if found.is_some() && !mirror::refresh_group(cx.state()?, &id).await? {
        return Err(missing(&id));
    }
    let found =
        if mirror::is_mirrored(id.as_str()) { groups::get(&mut *cx.db().read().await?, &id).await? } else { found };
    found.ok_or_else(|| missing(&id))
}

/// The group and the user of the path, once the caller may; who may not doesn't learn which is missing.
async fn pair(cx: &Cx, conn: &mut Conn) -> Result<(Group, User)> {
    let (group_id, user_id) = (GroupId::new(cx.param("group_id")), UserId::new(cx.param("user_id")));
    let group = groups::get(conn, &group_id).await?;
    let user = users::get(conn, &user_id).await?;
    let mut target = Target::none();
    if let Some(group) = &group {
        target = target.with("target.group.domain_id", group.domain_id.as_str());
    }
    if let Some(user) = &user {
        target = target.with("target.user.domain_id", user.domain_id.as_str());
    }
    cx.authorize(&target)?;
    Ok((group.ok_or_else(|| missing(&group_id))?, user.ok_or_else(|| user::missing(&user_id))?))
}

/// That there is no such group.
pub fn missing(id: &GroupId) -> Error {
    wire::not_found("GroupNotFound", "group", id.as_str())
}

fn not_in(group: &Group, user: &User) -> Error {
    Error::not_found("NotFound", format!("User '{}' not found in group '{}'.", user.id, group.id))
}
