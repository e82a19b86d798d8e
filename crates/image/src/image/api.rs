//! Handlers of images.

use model::{Error, Result, id::ImageId};
use store::{
    Conn, Tx,
    images::{self, Image, Status, Visibility},
    quotas,
};
use web::{Cx, Reply, Target};

use super::{logic, wire};
use crate::import::wire::{METHODS, STORE};

/// An image that the caller may see.
pub(crate) struct Found {
    /// The image.
    pub image: Image,
    /// The caller is an administrator.
    pub admin: bool,
}

/// The image that the path names, seen and authorized: 404 for whoever may not see it, 403 for whoever may.
pub(crate) async fn find(cx: &Cx, conn: &mut Conn) -> Result<Found> {
    let image = images::get(conn, &ImageId::new(cx.param("image_id"))).await?;
    authorized(cx, conn, image).await
}

/// As [`find`], keeping other writers away from the image until the transaction ends.
pub(crate) async fn find_for_update(cx: &Cx, tx: &mut Tx) -> Result<Found> {
    let image = images::get_for_update(tx, &ImageId::new(cx.param("image_id"))).await?;
    authorized(cx, tx, image).await
}

async fn authorized(cx: &Cx, conn: &mut Conn, image: Option<Image>) -> Result<Found> {
    let Some(image) = image else { return Err(not_found(cx)) };
    let member = match cx.caller.project() {
        Some(project) if image.visibility == Visibility::Shared && image.owner != *project => {
            images::get_member(conn, &image.id, project).await?
        }
        _ => None,
    };
    let admin = logic::is_admin(cx);
    if !logic::is_visible(&image, cx.caller.project(), member.is_some(), admin) {
        return Err(not_found(cx));
    }
    let mut target = target(&image);
    if let Some(member) = &member {
        target = target.with("member_id", member.member.as_str());
    }
    cx.authorize(&target)?;
    Ok(Found { image, admin })
}

fn target(image: &Image) -> Target {
    Target::project(&image.owner).with("owner", image.owner.as_str()).with("visibility", image.visibility.as_str())
}

fn not_found(cx: &Cx) -> Error {
    Error::not_found("ImageNotFound", format!("No image found with ID {}", cx.param("image_id")))
}

/// `/v2/images/`, with an id that is empty.
pub(crate) async fn nothing(cx: &Cx) -> Result<Reply> {
    Err(not_found(cx))
}

/// `GET /v2/images`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    match cx.caller.project() {
        Some(project) => cx.authorize(&Target::project(project))?,
        None => cx.authorize(&Target::none())?,
    }
    let viewer = logic::viewer(cx)?;
    let (filter, page) = wire::list_query(&cx.query, viewer)?;
    let mut conn = cx.db().read().await?;
    let images = images::list(&mut conn, &filter, &page).await?;
    let full = page.limit > 0 && images.len() == page.limit as usize;
    let next = images.last().filter(|_| full).map(|last| cx.next_path(last.id.as_str()));
    Reply::ok(&wire::list_view(&images, cx.first_path(), next))
}

/// `GET /v2/images/{image_id}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = find(cx, &mut conn).await?;
    Reply::ok(&wire::view(&found.image))
}

/// `POST /v2/images`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let project = cx.project()?;
    let image = logic::new_image(wire::create_body(cx.bytes())?, project, cx.now())?;
    cx.authorize(&target(&image))?;
    authorize_visibility(cx, &image)?;
    let mut tx = cx.db().begin().await?;
    images::deliveries::create(&mut tx, &image).await?;
    tx.commit().await?;
    let location = format!("{}/v2/images/{}", cx.service_url(), image.id);
    Ok(Reply::created(&wire::view(&image))?
        .with("location", location)
        .with("openstack-image-import-methods", METHODS.join(","))
        .with("openstack-image-store-ids", STORE))
}

/// `PATCH /v2/images/{image_id}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let changes = wire::patch_body(cx.header("content-type"), cx.bytes())?;
    let mut tx = cx.db().begin().await?;
    let found = find_for_update(cx, &mut tx).await?;
    let before = found.image;
    let mut image = before.clone();
    for change in changes {
        logic::apply(&mut image, change, found.admin)?;
    }
    logic::check_counts(&image)?;
    if image.visibility != before.visibility {
        authorize_visibility(cx, &image)?;
    }
    if image != before {
        image.updated_at = tx.now();
        move_charges(&mut tx, &before, &image).await?;
        images::update(&mut tx, &image).await?;
        tx.commit().await?;
    }
    Reply::ok(&wire::view(&image))
}

/// `DELETE /v2/images/{image_id}`: it is gone for everyone at once; the flow removes the files.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let image = find_for_update(cx, &mut tx).await?.image;
    if image.protected {
        return Err(Error::forbidden(
            "ProtectedImageDelete",
            format!("Image {} is protected and cannot be deleted.", image.id),
        ));
    }
    images::mark_deleted(&mut tx, &image.id).await?;
    quotas::release(&mut tx, &image.owner, images::COUNT_QUOTA, 1).await?;
    if let Some(size) = image.size {
        quotas::release(&mut tx, &image.owner, images::SIZE_QUOTA, images::size_charge(size)).await?;
    }
    ::flow::wake(&mut tx, &image.id);
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `POST /v2/images/{image_id}/actions/deactivate`.
pub(crate) async fn deactivate(cx: &Cx) -> Result<Reply> {
    switch(cx, "deactivate", Status::Active, Status::Deactivated).await
}

/// `POST /v2/images/{image_id}/actions/reactivate`.
pub(crate) async fn reactivate(cx: &Cx) -> Result<Reply> {
    switch(cx, "reactivate", Status::Deactivated, Status::Active).await
}

async fn switch(cx: &Cx, verb: &str, from: Status, to: Status) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let image = find_for_update(cx, &mut tx).await?.image;
    if image.status != from && image.status != to {
        return Err(Error::forbidden(
            "Forbidden",
            format!("Not allowed to {verb} image in status '{}'", image.status.as_str()),
        ));
    }
    if images::set_status(&mut tx, &image.id, from, to).await? {
        tx.commit().await?;
    }
    Ok(Reply::no_content())
}

/// Public and community images are everybody's: making one takes more than owning it.
fn authorize_visibility(cx: &Cx, image: &Image) -> Result<()> {
    match image.visibility {
        Visibility::Public => cx.authorize_rule("publicize_image", &target(image)),
        Visibility::Community => cx.authorize_rule("communitize_image", &target(image)),
        Visibility::Shared | Visibility::Private => Ok(()),
    }
}

/// An image that changes hands takes its quota along.
async fn move_charges(tx: &mut Tx, before: &Image, after: &Image) -> Result<()> {
    if before.owner == after.owner {
        return Ok(());
    }
    let size = after.size.map(images::size_charge);
    quotas::release(tx, &before.owner, images::COUNT_QUOTA, 1).await?;
    let mut charges = vec![logic::count_charge()];
    if let Some(size) = size {
        quotas::release(tx, &before.owner, images::SIZE_QUOTA, size).await?;
        charges.push(logic::size_charge(size));
    }
    quotas::charge(tx, &after.owner, &charges).await
}
