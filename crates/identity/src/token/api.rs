//! The handlers of `/v3/auth/...`.

use model::{Error, Result};
use serde_json::json;
use store::identity::{
    assignments::{self, Target as On},
    domains, projects, revocations, tokens, trusts,
    users::User,
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    login::{self, Outcome},
    wire::AuthRequest,
};
use crate::{
    State, domain,
    payload::{Origin, Payload, Receipt},
    project,
    state::unauthenticated,
    wire,
};

/// `POST /v3/auth/tokens`.
pub async fn issue(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let request: AuthRequest = cx.json_in("auth")?;
    let (proofs, wanted) = logic::plan(request)?;
    let payload = match login::log_in(cx, state, proofs, wanted).await? {
        Outcome::Token(payload) => payload,
        Outcome::Receipt(receipt, user, rules) => return give_receipt(cx, state, &receipt, &user, &rules).await,
    };
    let (token, validated) = state.issue(payload).await?;
    // Once it is sure that there will be a token.
    if let Some(Origin::Trust(id, _)) = &validated.payload.origin {
        let mut tx = state.db().begin().await?;
        if !trusts::consume(&mut tx, id).await? {
            return Err(Error::forbidden("TrustUseLimitReached", format!("No remaining uses for trust: {id}.")));
        }
        tx.commit().await?;
    }
    tracing::info!(
        request_id = cx.request_id,
        user = %validated.payload.user_id,
        audit_id = %validated.payload.audit_id,
        "token issued"
    );
    let document = validated.document(!cx.query.has("nocatalog"));
    Ok(Reply::bytes(StatusCode::CREATED, "application/json", document)
        .with("x-subject-token", token)
        .with("vary", "X-Auth-Token"))
}

/// What held so far, for a login that needs more.
async fn give_receipt(cx: &Cx, state: &State, receipt: &Receipt, user: &User, rules: &[Vec<String>]) -> Result<Reply> {
    let domain = domains::get(&mut *cx.db().read().await?, &user.domain_id).await?.ok_or_else(unauthenticated)?;
    let document = json!({
        "receipt": {
            "methods": receipt.methods.names(),
            "user": { "id": user.id, "name": user.name, "domain": { "id": domain.id, "name": domain.name } },
            "expires_at": receipt.expires_at.to_micros_z(), "issued_at": receipt.issued_at.to_micros_z(),
        },
        "required_auth_methods": rules,
    });
    let text = state.issue_receipt(receipt)?;
    Ok(Reply::json(StatusCode::UNAUTHORIZED, &document)?.with("openstack-auth-receipt", text))
}

/// `GET` and `HEAD /v3/auth/tokens`.
pub async fn validate(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (token, validated) = subject(cx, state).await?;
    cx.authorize(&target(&validated.payload))?;
    let document = validated.document(!cx.query.has("nocatalog"));
    Ok(Reply::bytes(StatusCode::OK, "application/json", document)
        .with("x-subject-token", token)
        .with("vary", "X-Auth-Token"))
}

/// `DELETE /v3/auth/tokens`.
pub async fn revoke(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (_, validated) = subject(cx, state).await?;
    cx.authorize(&target(&validated.payload))?;
    let mut tx = state.begin().await?;
    let payload = &validated.payload;
    let audit_id = payload.audit_id.to_string();
    tokens::revoke(&mut tx, &audit_id, payload.expires_at).await?;
    revocations::record(&mut tx, &[("audit_id", &audit_id)]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// The token that the request is about.
async fn subject<'a>(cx: &'a Cx, state: &State) -> Result<(&'a str, std::sync::Arc<super::validated::Validated>)> {
    let not_found = || Error::not_found("TokenNotFound", "Could not find token.");
    let token = cx.header("x-subject-token").filter(|t| !t.is_empty()).ok_or_else(not_found)?;
    let validated = state.validate(token).await?.ok_or_else(not_found)?;
    Ok((token, validated))
}

fn target(payload: &Payload) -> Target {
    Target::none().with("target.token.user_id", payload.user_id.as_str())
}

/// `GET /v3/auth/catalog`.
pub async fn catalog(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let token = cx.header("x-auth-token").unwrap_or_default();
    let validated = state.validate(token).await?;
    let catalog = validated.as_ref().filter(|_| cx.caller.project().is_some()).and_then(|v| v.catalog());
    let catalog = catalog.ok_or_else(|| {
        Error::forbidden("Forbidden", "A project-scoped token is required to produce a service catalog.")
    })?;
    let mut text = b"{\"catalog\":".to_vec();
    text.extend_from_slice(catalog);
    let links = serde_json::to_vec(&json!({ "self": cx.self_url() })).map_err(|e| Error::internal("links", e))?;
    text.extend_from_slice(b",\"links\":");
    text.extend_from_slice(&links);
    text.push(b'}');
    Ok(Reply::bytes(StatusCode::OK, "application/json", text))
}

/// `GET /v3/auth/projects`: where the caller has a role.
pub async fn list_projects(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = projects::select();
    projects::with_role_of(&mut select, &cx.caller.user());
    select.equal("t.enabled", true);
    let page = project::LIST.page(&cx.query)?;
    let found = projects::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "projects", &page, &found, |p| (p.id.as_str(), project::show(cx, p)))
}

/// `GET /v3/auth/domains`: where the caller has a role.
pub async fn list_domains(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = domains::select();
    select.equal("t.enabled", true);
    domains::with_role_of(&mut select, &cx.caller.user());
    let page = domain::LIST.page(&cx.query)?;
    let found = domains::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "domains", &page, &found, |d| (d.id.as_str(), domain::show(cx, d)))
}

/// `GET /v3/auth/system`: whether the caller has a role on the whole.
pub async fn system(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let roles = assignments::effective_roles(&mut *cx.db().read().await?, &cx.caller.user(), &On::System).await?;
    let system = if roles.is_empty() { json!([]) } else { json!([{"all": true}]) };
    Reply::ok(&json!({ "system": system, "links": { "self": cx.self_url() } }))
}
