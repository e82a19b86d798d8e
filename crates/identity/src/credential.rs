//! Credentials: secrets of users that the cloud must read again, encrypted under a key of its own (`nacre admin
//! rotate-keys` changes it).

use model::{
    Error, Result,
    id::{ProjectId, UserId},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{
    identity::{
        credentials::{self, Credential},
        projects, users,
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, token, totp,
    wire::{self, Fields},
};

const TYPE_CHARS_MAX: usize = 255;
/// Longest secret, and how many a user may have.
const BLOB_BYTES_MAX: usize = 64 * 1024;
const PER_USER_MAX: i64 = 1000;

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "type", sql: "t.type", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[Filter::exact("user_id", "t.user_id"), Filter::exact("type", "t.type")],
};

/// `GET /v3/credentials`: all for those who may see any, one's own otherwise.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let own = cx.caller.user();
    cx.authorize(&owned_by(&own))?;
    token::refuse_delegated(cx, "Reading credentials")?;
    let mut select = credentials::select();
    LIST.filter(&cx.query, &mut select)?;
    if !cx.can("identity:get_credential", &Target::none()) {
        select.equal("t.user_id", &own);
    }
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let found = credentials::list(&mut conn, select, &page).await?;
    let mut shown = Vec::with_capacity(found.len());
    for credential in &found {
        let blob = state.reveal(&mut conn, &credential.blob).await?;
        shown.push((credential.id.as_str(), show(cx, credential, &blob)));
    }
    wire::collection(cx, "credentials", &page, &shown, |(id, value)| (*id, value.clone()))
}

/// `GET /v3/credentials/{credential_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let credential = load(cx).await?;
    let blob = state.reveal(&mut *cx.db().read().await?, &credential.blob).await?;
    Reply::ok(&json!({ "credential": show(cx, &credential, &blob) }))
}

/// `POST /v3/credentials`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "credential")?;
    let user_id = UserId::new(fields.text("user_id")?.ok_or_else(|| wire::required("user_id"))?);
    cx.authorize(&owned_by(&user_id))?;
    token::refuse_delegated(cx, "Making credentials")?;
    let kind = fields.name("type", TYPE_CHARS_MAX)?.ok_or_else(|| wire::required("type"))?;
    let blob = blob_of(&mut fields)?.ok_or_else(|| wire::required("blob"))?;
    let project_id = fields.nullable_text("project_id")?.flatten().map(ProjectId::new);
    let access = check_blob(&kind, &blob)?;
    if access.is_some() && project_id.is_none() {
        return Err(wire::required("project_id"));
    }
    let credential = Credential {
        // Keystone's ids, by which its clients find them.
        id: access.as_deref().map_or_else(|| model::Id::<()>::random_hex().as_str().to_owned(), id_of),
        user_id,
        project_id,
        kind,
        access,
        blob: state.seal_secret(&blob)?,
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    insert(state, &credential).await?;
    Reply::created(&json!({ "credential": show(cx, &credential, &blob) }))
}

/// Adds one, once its user and project are there and there is room for it.
pub(crate) async fn insert(state: &State, credential: &Credential) -> Result<()> {
    let mut tx = state.begin().await?;
    if users::get(&mut tx, &credential.user_id).await?.is_none() {
        return Err(crate::user::missing(&credential.user_id));
    }
    if let Some(project) = &credential.project_id
        && projects::get(&mut tx, project).await?.is_none()
    {
        return Err(wire::not_found("ProjectNotFound", "project", project.as_str()));
    }
    if credentials::count(&mut tx, &credential.user_id).await? >= PER_USER_MAX {
        let message = format!("A user may have {PER_USER_MAX} credentials; delete one first.");
        return Err(Error::forbidden("CredentialLimitExceeded", message));
    }
    let name = credential.access.as_deref().unwrap_or(&credential.id);
    credentials::insert(&mut tx, credential).await.map_err(wire::duplicate("credential", name))?;
    state.commit(tx).await
}

/// `PATCH /v3/credentials/{credential_id}`: only what it holds; for another user, project or type make another one.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let seen = load(cx).await?;
    let mut fields = Fields::of(cx, "credential")?;
    fields.unchanged("id", Some(&seen.id))?;
    fields.unchanged("user_id", Some(seen.user_id.as_str()))?;
    fields.unchanged("project_id", seen.project_id.as_ref().map(AsRef::as_ref))?;
    fields.unchanged("type", Some(&seen.kind))?;
    let blob = blob_of(&mut fields)?;
    let access = blob.as_deref().map(|blob| check_blob(&seen.kind, blob)).transpose()?;
    let extra = fields.extra()?;
    let mut tx = state.begin().await?;
    let mut credential = credentials::get(&mut tx, &seen.id).await?.ok_or_else(|| missing(&seen.id))?;
    if let Some(blob) = &blob {
        credential.blob = state.seal_secret(blob)?;
    }
    credential.access = access.unwrap_or(credential.access);
    credential.extra.extend(extra);
    credentials::update(&mut tx, &credential).await.map_err(wire::duplicate("credential", &seen.id))?;
    let blob = state.reveal(&mut tx, &credential.blob).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "credential": show(cx, &credential, &blob) }))
}

/// `DELETE /v3/credentials/{credential_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let credential = load(cx).await?;
    let mut tx = state.begin().await?;
    credentials::delete(&mut tx, &credential.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// The id of a credential of EC2.
pub(crate) fn id_of(access: &str) -> String {
    hex::encode(Sha256::digest(access))
}

/// What a credential of EC2 holds.
pub(crate) fn ec2_blob(access: &str, secret: &str) -> String {
    json!({ "access": access, "secret": secret, "trust_id": null }).to_string()
}

fn blob_of(fields: &mut Fields) -> Result<Option<String>> {
    let blob = fields.text("blob")?;
    if blob.as_ref().is_some_and(|blob| blob.len() > BLOB_BYTES_MAX) {
        let message = format!("The blob of a credential may have {BLOB_BYTES_MAX} bytes.");
        return Err(Error::bad_request("ValidationError", message));
    }
    Ok(blob)
}

/// The access key in it, where it is one of EC2.
fn check_blob(kind: &str, blob: &str) -> Result<Option<String>> {
    let invalid = |what: &str| Error::bad_request("ValidationError", what.to_owned());
    match kind {
        "ec2" => {
            let object: Value = serde_json::from_str(blob).map_err(|_| invalid("Invalid blob in credential"))?;
            let text = |key: &str| object[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text("secret").ok_or_else(|| invalid("Expecting to find secret in credential's blob."))?;
            Ok(Some(text("access").ok_or_else(|| invalid("Expecting to find access in credential's blob."))?))
        }
        "totp" if !totp::is_secret(blob) => Err(invalid("The blob of a totp credential must be base32.")),
        _ => Ok(None),
    }
}

fn owned_by(user: &UserId) -> Target {
    Target::none().with("target.credential.user_id", user.as_str()).with("user_id", user.as_str())
}

fn show(cx: &Cx, credential: &Credential, blob: &str) -> Value {
    let own = json!({
        "user_id": credential.user_id, "project_id": credential.project_id, "type": credential.kind, "blob": blob,
    });
    wire::resource(cx, "credentials", &credential.id, &credential.extra, own)
}

async fn load(cx: &Cx) -> Result<Credential> {
    let id = cx.param("credential_id");
    let found = credentials::get(&mut *cx.db().read().await?, id).await?;
    cx.authorize(&found.as_ref().map_or_else(Target::none, |c| owned_by(&c.user_id)))?;
    token::refuse_delegated(cx, "Reading and changing credentials")?;
    found.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Error {
    wire::not_found("CredentialNotFound", "credential", id)
}
