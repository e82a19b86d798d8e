//! What this installation offers, and what a project uses of it.

use model::{Error, Result, quota::UNLIMITED};
use serde_json::{Value, json};
use store::{images, quotas};
use web::{Cx, Reply, Target};

use crate::{
    image::{api, logic},
    import::wire::{METHODS, STORE},
};

/// `GET /v2/info/import`: ways to import data other than uploading it.
pub(crate) async fn import(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({
        "import-methods": {"description": "Import methods available.", "type": "array", "value": METHODS}
    }))
}

/// `GET /v2/info/stores`: where data may lie. Files, and nothing to choose from.
pub(crate) async fn stores(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"stores": [{"id": STORE, "default": "true"}]}))
}

/// `GET /v2/info/stores/detail`.
pub(crate) async fn stores_detail(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    Reply::ok(&json!({"stores": [{
        "id": STORE, "default": "true", "type": "file", "weight": 0, "description": "Files of the control plane",
        "properties": {"chunk_size": 1 << 20, "thin_provisioning": false},
    }]}))
}

/// `GET /v2/info/usage`: quotas of the caller's project.
pub(crate) async fn usage(cx: &Cx) -> Result<Reply> {
    let project = cx.project()?;
    let mut conn = cx.db().read().await?;
    let mut usage = serde_json::Map::new();
    for charge in [logic::count_charge(), logic::size_charge(0)] {
        let limit = quotas::limit(&mut conn, project, charge.resource).await?.unwrap_or(charge.default_limit);
        let used = quotas::used(&mut conn, project, charge.resource).await?;
        usage.insert(charge.resource.to_owned(), json!({"limit": limit, "usage": used}));
    }
    let (staged, uploading) = images::tasks::under_way(&mut conn, project).await?;
    let counted = |used: i64| json!({"limit": UNLIMITED, "usage": used});
    usage.insert("image_stage_total".to_owned(), counted(images::size_charge(staged)));
    usage.insert("image_count_uploading".to_owned(), counted(uploading));
    Reply::ok(&json!({"usage": Value::Object(usage)}))
}

/// `DELETE /v2/stores/{store_id}/{image_id}`: the last copy stays as long as its image.
pub(crate) async fn delete_from_store(cx: &Cx) -> Result<Reply> {
    let image = api::find(cx, &mut *cx.db().read().await?).await?.image;
    let store = cx.param("store_id");
    if store != STORE || image.file.is_none() {
        return Err(Error::not_found("NotFound", format!("Image {} has no data in the store {store}.", image.id)));
    }
    let text = format!("Image {} has data in the store {STORE} only: delete the image instead.", image.id);
    Err(Error::forbidden("Forbidden", text))
}
