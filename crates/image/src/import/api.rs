//! Handlers of imports. Staging is an upload: `data/upload.rs`.

use model::{Error, Result, id};
use store::{
    flows,
    images::tasks::{self, Task, TaskStatus},
};
use web::{Cx, Reply};

use super::wire::Import;
use crate::{data::logic, image::api::find_for_update};

/// `POST /v2/images/{image_id}/import`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let body: Import = cx.json()?;
    let uri = body.check()?;
    let mut tx = cx.db().begin().await?;
    let image = find_for_update(cx, &mut tx).await?.image;
    logic::refuse_signed(&image)?;
    logic::declared(&image)?;
    if !tasks::begin_import(&mut tx, &image.id, uri.is_none()).await? {
        let (status, wanted) = (image.status.as_str(), if uri.is_none() { "staged data" } else { "the status queued" });
        let text = format!("An image in the status {status} can't be imported: this import method needs {wanted}.");
        return Err(Error::conflict("InvalidImageStatusTransition", text));
    }
    let now = tx.now();
    let task = Task {
        id: id::random_uuid().to_string(),
        image_id: image.id.clone(),
        owner: cx.caller.project().cloned().unwrap_or_else(|| image.owner.clone()),
        user_id: cx.caller.user_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        request_id: cx.request_id.clone(),
        kind: "api_image_import".to_owned(),
        status: TaskStatus::Pending,
        input: body.input(image.id.as_str(), image.generation),
        result: None,
        message: String::new(),
        created_at: now,
        updated_at: now,
        expires_at: None,
    };
    tasks::insert(&mut tx, &task).await?;
    flows::wake(&mut tx, &image.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}
