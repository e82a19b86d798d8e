//! The handlers.

use std::time::Duration;

use model::{
    Error, Result,
    id::{ProjectId, UserId},
};
use serde_json::{Value, json};
use store::{
    identity::{
        assignments::{self, Target as On},
        oauth::{self, Consumer, Kind, Token},
        projects, revocations,
        roles::{self, Role},
    },
    list::{Direction, SortKey, Type},
};
use subtle::ConstantTimeEq;
use web::{Cx, Reply, StatusCode, Target, paging::ListSpec};

use super::{Signed, check};
use crate::{
    State,
    state::unauthenticated,
    token,
    trust::{RoleReference, find_roles},
    wire::{self, Fields},
};

/// How long request and access tokens are good for (Keystone's `[oauth1]`).
const REQUEST_LIFETIME: Duration = Duration::from_secs(8 * 3600);
const ACCESS_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const CONSUMERS: ListSpec = ListSpec {
    sorts: &[SortKey { name: "created_at", sql: "t.created_at", kind: Type::Int }],
    direction: Direction::Ascending,
    filters: &[],
};
const TOKENS: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[],
};

fn random() -> String {
    model::Id::<()>::random_hex().as_str().to_owned()
}

fn secret() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// `GET /v3/OS-OAUTH1/consumers`.
pub async fn list_consumers(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let page = CONSUMERS.page(&cx.query)?;
    let found = oauth::list_consumers(&mut *cx.db().read().await?, oauth::select_consumers(), &page).await?;
    wire::collection(cx, "consumers", &page, &found, |c| (c.id.as_str(), show_consumer(cx, c)))
}

/// `GET /v3/OS-OAUTH1/consumers/{consumer_id}`.
pub async fn get_consumer(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let found = load_consumer(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "consumer": show_consumer(cx, &found) }))
}

/// `POST /v3/OS-OAUTH1/consumers`: the secret is shown this once.
pub async fn create_consumer(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "consumer")?;
    let description = fields.nullable_text("description")?.flatten();
    let secret = secret();
    let consumer = Consumer {
        id: random(),
        description,
        secret: state.seal_secret(&secret)?,
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    let mut tx = state.begin().await?;
    oauth::insert_consumer(&mut tx, &consumer).await?;
    state.commit(tx).await?;
    let mut shown = show_consumer(cx, &consumer);
    shown["secret"] = json!(secret);
    Reply::created(&json!({ "consumer": shown }))
}

/// `PATCH /v3/OS-OAUTH1/consumers/{consumer_id}`.
pub async fn update_consumer(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "consumer")?;
    if fields.take("secret").is_some() {
        return Err(Error::bad_request("ValidationError", "Cannot update consumer secret: make another consumer."));
    }
    let mut tx = state.begin().await?;
    let mut consumer = load_consumer(cx, &mut tx).await?;
    fields.unchanged("id", Some(&consumer.id))?;
    consumer.description = fields.nullable_text("description")?.unwrap_or(consumer.description);
    consumer.extra.extend(fields.extra()?);
    oauth::update_consumer(&mut tx, &consumer).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "consumer": show_consumer(cx, &consumer) }))
}

/// `DELETE /v3/OS-OAUTH1/consumers/{consumer_id}`: its tokens are void.
pub async fn delete_consumer(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let consumer = load_consumer(cx, &mut tx).await?;
    oauth::delete_consumer(&mut tx, &consumer.id).await?;
    revocations::record(&mut tx, &[("OS-OAUTH1:consumer_id", &consumer.id)]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `POST /v3/OS-OAUTH1/request_token`: signed by a consumer.
pub async fn request_token(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let signed = Signed::of(cx)?;
    let consumer_id = signed.required("oauth_consumer_key")?.to_owned();
    let project = cx.header("requested-project-id").filter(|id| !id.is_empty());
    let project =
        ProjectId::new(project.ok_or_else(|| {
            Error::bad_request("ValidationError", "Expecting to find the header Requested-Project-Id.")
        })?);
    let mut conn = cx.db().read().await?;
    check(cx, state, &mut conn, &signed, None).await?;
    // After the signature: strangers learn of no project.
    let found = projects::get(&mut conn, &project).await?;
    found.ok_or_else(|| wire::not_found("ProjectNotFound", "project", project.as_str()))?;
    drop(conn);
    let secret = secret();
    let token = Token {
        id: random(),
        kind: Kind::Request,
        consumer_id,
        project_id: project,
        user_id: None,
        secret: state.seal_secret(&secret)?,
        verifier: None,
        role_ids: Vec::new(),
        expires_at: cx.now() + REQUEST_LIFETIME,
    };
    let mut tx = state.begin().await?;
    oauth::insert_token(&mut tx, &token).await?;
    state.commit(tx).await?;
    Ok(form(&token, &secret))
}

/// `PUT /v3/OS-OAUTH1/authorize/{request_token_id}`: a user lets the consumer have some of its roles.
pub async fn authorize(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    token::refuse_delegated(cx, "Authorizing a request token")?;
    let wanted: Vec<RoleReference> = cx.json_in("roles")?;
    if wanted.is_empty() {
        return Err(wire::required("roles"));
    }
    let id = cx.param("request_token_id");
    let mut tx = state.begin().await?;
    let found = oauth::get_token(&mut tx, Kind::Request, id).await?;
    let mut token = found.ok_or_else(|| wire::not_found("NotFound", "request token", id))?;
    if cx.now() >= token.expires_at {
        return Err(Error::unauthenticated("Unauthorized", "Request token is expired."));
    }
    token.role_ids = find_roles(&mut tx, &wanted).await?;
    let user = cx.caller.user();
    let held = assignments::effective_roles(&mut tx, &user, &On::Project(token.project_id.clone())).await?;
    if !token.role_ids.iter().all(|id| held.iter().any(|role| role.id == *id)) {
        return Err(Error::unauthenticated("Unauthorized", "authorizing user does not have role required."));
    }
    let verifier = hex::encode(rand::random::<[u8; 8]>());
    (token.user_id, token.verifier) = (Some(user), Some(verifier.clone()));
    oauth::authorize(&mut tx, &token).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "token": { "oauth_verifier": verifier } }))
}

/// `POST /v3/OS-OAUTH1/access_token`: the consumer exchanges a request token that was authorized.
pub async fn access_token(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let signed = Signed::of(cx)?;
    let verifier = signed.required("oauth_verifier")?;
    let id = signed.required("oauth_token")?;
    let mut conn = cx.db().read().await?;
    let request = oauth::get_token(&mut conn, Kind::Request, id).await?.ok_or_else(unauthenticated)?;
    check(cx, state, &mut conn, &signed, Some(&request)).await?;
    drop(conn);
    let right = request.verifier.as_ref().is_some_and(|own| own.as_bytes().ct_eq(verifier.as_bytes()).into());
    if !right || request.user_id.is_none() || cx.now() >= request.expires_at {
        return Err(unauthenticated());
    }
    let secret = secret();
    let token = Token {
        id: random(),
        kind: Kind::Access,
        secret: state.seal_secret(&secret)?,
        verifier: None,
        expires_at: cx.now() + ACCESS_LIFETIME,
        ..request.clone()
    };
    let mut tx = state.begin().await?;
    // Once: whoever comes second gets nothing.
    if !oauth::delete_token(&mut tx, Kind::Request, &request.id).await? {
        return Err(unauthenticated());
    }
    oauth::insert_token(&mut tx, &token).await?;
    state.commit(tx).await?;
    Ok(form(&token, &secret))
}

/// `GET /v3/users/{user_id}/OS-OAUTH1/access_tokens`.
pub async fn list_tokens(cx: &Cx) -> Result<Reply> {
    let user = UserId::new(cx.param("user_id"));
    cx.authorize(&target(&user))?;
    token::refuse_delegated(cx, "Managing access tokens")?;
    let mut select = oauth::select_tokens(Kind::Access);
    select.equal("t.user_id", &user);
    let page = TOKENS.page(&cx.query)?;
    let found = oauth::list_tokens(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "access_tokens", &page, &found, |t| (t.id.as_str(), show_token(cx, t)))
}

/// `GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}`.
pub async fn get_token(cx: &Cx) -> Result<Reply> {
    let found = load_token(cx).await?;
    Reply::ok(&json!({ "access_token": show_token(cx, &found) }))
}

/// `DELETE /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}`.
pub async fn delete_token(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let found = load_token(cx).await?;
    let mut tx = state.begin().await?;
    oauth::delete_token(&mut tx, Kind::Access, &found.id).await?;
    revocations::record(&mut tx, &[("OS-OAUTH1:access_token_id", &found.id)]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles`.
pub async fn list_token_roles(cx: &Cx) -> Result<Reply> {
    let found = load_token(cx).await?;
    let roles: Vec<Value> = roles_of(cx, &found).await?.iter().map(|role| show_role(cx, role)).collect();
    let links = json!({ "self": cx.self_url(), "next": null, "previous": null });
    Reply::ok(&json!({ "roles": roles, "links": links }))
}

/// `GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}`.
pub async fn get_token_role(cx: &Cx) -> Result<Reply> {
    let found = load_token(cx).await?;
    let (id, roles) = (cx.param("role_id"), roles_of(cx, &found).await?);
    let role = roles.iter().find(|role| role.id.as_str() == id);
    let role = role.ok_or_else(|| wire::not_found("RoleNotFound", "role", id))?;
    Reply::ok(&json!({ "role": show_role(cx, role) }))
}

/// A token as consumers read it.
fn form(token: &Token, secret: &str) -> Reply {
    let text = format!(
        "oauth_token={}&oauth_token_secret={secret}&oauth_expires_at={}",
        token.id,
        token.expires_at.to_micros_z()
    );
    Reply::bytes(StatusCode::CREATED, "application/x-www-form-urlencoded", text)
}

async fn roles_of(cx: &Cx, token: &Token) -> Result<Vec<Role>> {
    let mut conn = cx.db().read().await?;
    let mut found = Vec::with_capacity(token.role_ids.len());
    for id in &token.role_ids {
        found.extend(roles::get(&mut conn, id).await?);
    }
    Ok(found)
}

fn show_role(cx: &Cx, role: &Role) -> Value {
    json!({ "id": role.id, "name": role.name, "links": { "self": wire::link(cx, "roles", role.id.as_str()) } })
}

fn show_consumer(cx: &Cx, consumer: &Consumer) -> Value {
    let own = json!({ "description": consumer.description });
    wire::resource(cx, "OS-OAUTH1/consumers", &consumer.id, &consumer.extra, own)
}

fn show_token(cx: &Cx, token: &Token) -> Value {
    let user = token.user_id.as_ref().map_or("", AsRef::as_ref);
    let link = wire::link(cx, &format!("users/{user}/OS-OAUTH1/access_tokens"), &token.id);
    json!({
        "id": token.id, "consumer_id": token.consumer_id, "authorizing_user_id": user,
        "project_id": token.project_id, "expires_at": token.expires_at.to_micros_z(),
        "links": { "self": link, "roles": format!("{link}/roles") },
    })
}

fn target(user: &UserId) -> Target {
    Target::none().with("user_id", user.as_str()).with("target.user.id", user.as_str())
}

async fn load_consumer(cx: &Cx, conn: &mut store::Conn) -> Result<Consumer> {
    let id = cx.param("consumer_id");
    let found = oauth::get_consumer(conn, id).await?;
    found.ok_or_else(|| wire::not_found("NotFound", "consumer", id))
}

async fn load_token(cx: &Cx) -> Result<Token> {
    let (user, id) = (UserId::new(cx.param("user_id")), cx.param("access_token_id"));
    cx.authorize(&target(&user))?;
    token::refuse_delegated(cx, "Managing access tokens")?;
    let found = oauth::get_token(&mut *cx.db().read().await?, Kind::Access, id).await?;
    found.filter(|t| t.user_id.as_ref() == Some(&user)).ok_or_else(|| wire::not_found("NotFound", "access token", id))
}
