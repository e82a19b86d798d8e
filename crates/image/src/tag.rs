//! Tags, one at a time; all of them at once are an attribute of the image.

use model::{Error, Result};
use store::images;
use web::{Cx, Reply};

use crate::{
    image::{api, logic},
    schema,
};

/// `PUT /v2/images/{image_id}/tags/{tag}`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("tag");
    schema::check_tag(tag)?;
    let mut tx = cx.db().begin().await?;
    let mut image = api::find_for_update(cx, &mut tx).await?.image;
    image.tags.insert(tag.to_owned());
    logic::check_counts(&image)?;
    images::insert_tag(&mut tx, &image.id, tag).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `DELETE /v2/images/{image_id}/tags/{tag}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("tag");
    let mut tx = cx.db().begin().await?;
    let image = api::find_for_update(cx, &mut tx).await?.image;
    if !images::delete_tag(&mut tx, &image.id, tag).await? {
        return Err(Error::not_found("NotFound", format!("The image {} has no tag {tag}.", image.id)));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}
