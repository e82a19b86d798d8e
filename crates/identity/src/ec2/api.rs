//! The handlers.

use model::{
    Error, Result,
    id::{ProjectId, UserId},
};
use serde_json::{Value, json};
use store::{
    identity::{
        credentials::{self, Credential, Sealed},
        projects, users,
    },
    list::{Direction, SortKey, Type},
};
use web::{Cx, Reply, StatusCode, Target, paging::ListSpec};

use super::logic::{self, SignedRequest, StringToSign};
use crate::{
    State, credential,
    payload::{AuditId, Methods, Payload, TokenScope},
    state::{TOKEN_LIFETIME, unauthenticated},
    token, wire,
};

const EC2: &str = "ec2";

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[],
};

/// `GET /v3/users/{user_id}/credentials/OS-EC2`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let user = UserId::new(cx.param("user_id"));
    cx.authorize(&owned_by(&user))?;
    token::refuse_delegated(cx, "Reading credentials")?;
    let mut select = credentials::select();
    select.equal("t.user_id", &user).equal("t.type", EC2);
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let found = credentials::list(&mut conn, select, &page).await?;
    let mut shown = Vec::with_capacity(found.len());
    for credential in &found {
        let secret = secret_of(state, &mut conn, &credential.blob).await?;
        shown.push((credential.id.as_str(), show(cx, credential, &secret)));
    }
    wire::collection(cx, "credentials", &page, &shown, |(id, value)| (*id, value.clone()))
}

/// `GET /v3/users/{user_id}/credentials/OS-EC2/{credential_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let credential = load(cx).await?;
    let secret = secret_of(state, &mut *cx.db().read().await?, &credential.blob).await?;
    Reply::ok(&json!({ "credential": show(cx, &credential, &secret) }))
}

/// `POST /v3/users/{user_id}/credentials/OS-EC2`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let user_id = UserId::new(cx.param("user_id"));
    cx.authorize(&owned_by(&user_id))?;
    token::refuse_delegated(cx, "Making credentials")?;
    let body: Value = cx.json()?;
    let project = body["tenant_id"].as_str().ok_or_else(|| wire::required("tenant_id"))?;
    let random = || hex::encode(rand::random::<[u8; 16]>());
    let (access, secret) = (random(), random());
    let credential = Credential {
        id: credential::id_of(&access),
        user_id,
        project_id: Some(ProjectId::new(project)),
        kind: EC2.to_owned(),
        blob: state.seal_secret(&credential::ec2_blob(&access, &secret))?,
        access: Some(access),
        extra: store::identity::Extra::new(),
        created_at: cx.now(),
    };
    credential::insert(state, &credential).await?;
    Reply::created(&json!({ "credential": show(cx, &credential, &secret) }))
}

/// `DELETE /v3/users/{user_id}/credentials/OS-EC2/{credential_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let credential = load(cx).await?;
    let mut tx = state.begin().await?;
    credentials::delete(&mut tx, &credential.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `POST /v3/ec2tokens`: a token for a request that is signed.
pub async fn ec2_token(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let request: SignedRequest = read(cx)?;
    let (credential, secret) = find(cx, &request.access).await?;
    if !logic::is_signed(&request, &secret) || !logic::is_recent(&request, cx.now()) {
        return Err(wrong_signature());
    }
    let (token, document) = issue(cx, &credential).await?;
    Ok(Reply::bytes(StatusCode::OK, "application/json", document).with("x-subject-token", token))
}

/// `POST /v3/s3tokens`: whose request it is, for an object store that computed what was signed.
pub async fn s3_token(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let request: StringToSign = read(cx)?;
    let (credential, secret) = find(cx, &request.access).await?;
    if !request.is_signed(&secret) {
        return Err(wrong_signature());
    }
    // Without the token itself: the object store has no use for it.
    let (_, document) = issue(cx, &credential).await?;
    Ok(Reply::bytes(StatusCode::OK, "application/json", document))
}

/// The signed request, under one of the names that it has had.
fn read<T: serde::de::DeserializeOwned>(cx: &Cx) -> Result<T> {
    let body: Value = cx.json()?;
    let found = ["credentials", "credential", "ec2Credentials"].iter().find_map(|name| body.get(*name));
    let found = found.cloned().ok_or_else(|| wire::required("credentials"))?;
    serde_json::from_value(found)
        .map_err(|e| Error::bad_request("ValidationError", format!("Invalid input for credentials: {e}")))
}

async fn find(cx: &Cx, access: &str) -> Result<(Credential, String)> {
    let state: &State = cx.state()?;
    let mut conn = cx.db().read().await?;
    let found = credentials::get_by_access(&mut conn, access).await?;
    let credential = found.ok_or_else(|| Error::not_found("NotFound", "EC2 access key not found."))?;
    let secret = secret_of(state, &mut conn, &credential.blob).await?;
    Ok((credential, secret))
}

/// A token of the credential's user for its project.
async fn issue(cx: &Cx, credential: &Credential) -> Result<(String, bytes::Bytes)> {
    let state: &State = cx.state()?;
    let mut conn = cx.db().read().await?;
    let user = users::get(&mut conn, &credential.user_id).await?.ok_or_else(unauthenticated)?;
    let project = credential.project_id.as_ref().ok_or_else(unauthenticated)?;
    let project = projects::get(&mut conn, project).await?.ok_or_else(unauthenticated)?;
    drop(conn);
    let now = cx.now();
    let payload = Payload {
        user_id: user.id,
        user_generation: user.generation,
        methods: Methods::EC2,
        scope: TokenScope::Project(project.id),
        scope_generation: project.generation,
        origin: None,
        issued_at: now,
        expires_at: now + TOKEN_LIFETIME,
        audit_id: AuditId::random(),
        parent_audit_id: None,
    };
    let (token, validated) = state.issue(payload).await?;
    Ok((token, validated.document(true)))
}

async fn secret_of(state: &State, conn: &mut store::Conn, blob: &Sealed) -> Result<String> {
    let blob = state.reveal(conn, blob).await?;
    let blob: Value = serde_json::from_str(&blob).map_err(|e| Error::internal("reading an EC2 credential", e))?;
    Ok(blob["secret"].as_str().unwrap_or_default().to_owned())
}

fn wrong_signature() -> Error {
    Error::unauthenticated("Unauthorized", "Invalid EC2 signature.")
}

fn owned_by(user: &UserId) -> Target {
    Target::none().with("target.credential.user_id", user.as_str()).with("user_id", user.as_str())
}

fn show(cx: &Cx, credential: &Credential, secret: &str) -> Value {
    let access = credential.access.as_deref().unwrap_or_default();
    let collection = format!("users/{}/credentials/OS-EC2", credential.user_id);
    json!({
        "access": access, "secret": secret, "user_id": credential.user_id, "tenant_id": credential.project_id,
        "trust_id": null, "links": { "self": wire::link(cx, &collection, access) },
    })
}

/// One by its access key, which belongs to the user of the path.
async fn load(cx: &Cx) -> Result<Credential> {
    let access = cx.param("credential_id");
    let found = credentials::get_by_access(&mut *cx.db().read().await?, access).await?;
    let found = found.filter(|c| c.user_id.as_str() == cx.param("user_id"));
    // Of one that isn't there only the path's user hears.
    let owner = found.as_ref().map_or_else(|| UserId::new(cx.param("user_id")), |c| c.user_id.clone());
    cx.authorize(&owned_by(&owner))?;
    token::refuse_delegated(cx, "Reading and changing credentials")?;
    found.ok_or_else(|| wire::not_found("CredentialNotFound", "credential", access))
}
