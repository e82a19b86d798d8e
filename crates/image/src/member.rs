//! Members: projects that a shared image is shared with. The owner adds and removes them; each says for itself whether
//! the image appears in its lists.

use model::{Error, ErrorKind, Result, id::ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::images::{self, Image, Member, MemberStatus, Visibility};
use web::{Cx, Reply};

use crate::image::api::{self, Found};

/// Members that an image can have.
const MEMBERS_MAX: i64 = 128;
/// Longest project id, in bytes.
const PROJECT_ID_MAX: usize = 255;

/// `GET /v2/images/{image_id}/members`: all of them for the owner, oneself for a member.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = api::find(cx, &mut conn).await?;
    refuse_not_shared(&found.image)?;
    let all = images::list_members(&mut conn, &found.image.id).await?;
    let members: Vec<Value> = all.iter().filter(|m| may_see(cx, &found, m)).map(view).collect();
    Reply::ok(&json!({"members": members, "schema": "/v2/schemas/members"}))
}

/// `GET /v2/images/{image_id}/members/{member_id}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = api::find(cx, &mut conn).await?;
    refuse_not_shared(&found.image)?;
    let member = images::get_member(&mut conn, &found.image.id, &named(cx)).await?;
    match member.filter(|m| may_see(cx, &found, m)) {
        Some(member) => Reply::ok(&view(&member)),
        None => Err(not_found(cx, &found.image)),
    }
}

#[derive(Deserialize)]
struct Create {
    member: String,
}

/// `POST /v2/images/{image_id}/members`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let body: Create = cx.json()?;
    if body.member.is_empty() || body.member.len() > PROJECT_ID_MAX || body.member.contains('\0') {
        return Err(Error::bad_request("InvalidMember", "The member is the id of a project."));
    }
    let mut tx = cx.db().begin().await?;
    let image = api::find_for_update(cx, &mut tx).await?.image;
    refuse_not_shared(&image)?;
    if images::count_members(&mut tx, &image.id).await? >= MEMBERS_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "ImageMemberLimitExceeded",
            format!("The image can have at most {MEMBERS_MAX} members."),
        ));
    }
    let now = tx.now();
    let member = Member {
        image_id: image.id.clone(),
        member: ProjectId::new(body.member),
        status: MemberStatus::Pending,
        created_at: now,
        updated_at: now,
    };
    images::insert_member(&mut tx, &member).await.map_err(|error| {
        if error.is_unique_violation() {
            let text = format!("Project {} is a member of image {} already.", member.member, image.id);
            return Error::conflict("Duplicate", text);
        }
        error.into()
    })?;
    tx.commit().await?;
    Reply::ok(&view(&member))
}

#[derive(Deserialize)]
struct Update {
    status: String,
}

/// `PUT /v2/images/{image_id}/members/{member_id}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let body: Update = cx.json()?;
    let status = MemberStatus::parse(&body.status).ok_or_else(|| {
        Error::bad_request("InvalidStatus", "The status of a member is pending, accepted or rejected.")
    })?;
    let mut tx = cx.db().begin().await?;
    let found = api::find_for_update(cx, &mut tx).await?;
    refuse_not_shared(&found.image)?;
    let member = named(cx);
    // The rule admits members; which of them speaks is for the path to say, and only an administrator speaks for others.
    if !found.admin && cx.caller.project() != Some(&member) {
        return Err(not_found(cx, &found.image));
    }
    if !images::set_member_status(&mut tx, &found.image.id, &member, status).await? {
        return Err(not_found(cx, &found.image));
    }
    let member = images::get_member(&mut tx, &found.image.id, &member).await?;
    tx.commit().await?;
    member.map_or_else(|| Err(not_found(cx, &found.image)), |member| Reply::ok(&view(&member)))
}

/// `DELETE /v2/images/{image_id}/members/{member_id}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let image = api::find_for_update(cx, &mut tx).await?.image;
    refuse_not_shared(&image)?;
    if !images::delete_member(&mut tx, &image.id, &named(cx)).await? {
        return Err(not_found(cx, &image));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn named(cx: &Cx) -> ProjectId {
    ProjectId::new(cx.param("member_id"))
}

fn may_see(cx: &Cx, found: &Found, member: &Member) -> bool {
    let me = cx.caller.project();
    found.admin || me == Some(&found.image.owner) || me == Some(&member.member)
}

fn refuse_not_shared(image: &Image) -> Result<()> {
    match image.visibility {
        Visibility::Shared => Ok(()),
        Visibility::Public | Visibility::Community | Visibility::Private => {
            Err(Error::forbidden("Forbidden", "Only shared images have members."))
        }
    }
}

fn not_found(cx: &Cx, image: &Image) -> Error {
    let text = format!("{} is not a member of image {}.", cx.param("member_id"), image.id);
    Error::not_found("NotFound", text)
}

fn view(member: &Member) -> Value {
    json!({
        "image_id": member.image_id,
        "member_id": member.member,
        "status": member.status.as_str(),
        "created_at": member.created_at.to_seconds_z(),
        "updated_at": member.updated_at.to_seconds_z(),
        "schema": "/v2/schemas/member",
    })
}
