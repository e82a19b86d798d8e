//! Regions of the catalog.

use model::{Error, Result};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::catalog::{self, Region},
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State,
    wire::{self, Fields},
};

const ID_CHARS_MAX: usize = 255;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("parent_region_id", "t.parent_region_id")],
};

/// `GET /v3/regions`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = catalog::select_regions();
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = catalog::list_regions(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "regions", &page, &found, |r| (r.id.as_str(), show(cx, r)))
}

/// `GET /v3/regions/{region_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let region = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "region": show(cx, &region) }))
}

/// `POST /v3/regions`: the id is the client's, or a random one.
pub async fn create(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "region")?;
    let id = fields.text("id")?.filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| model::id::random_uuid().simple().to_string());
    insert(cx, id, fields).await
}

/// `PUT /v3/regions/{region_id}`: the same with the id in the path.
pub async fn put(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let id = cx.param("region_id").to_owned();
    let mut fields = Fields::of(cx, "region")?;
    fields.unchanged("id", Some(&id))?;
    insert(cx, id, fields).await
}

async fn insert(cx: &Cx, id: String, mut fields: Fields) -> Result<Reply> {
    let state: &State = cx.state()?;
    if id.chars().count() > ID_CHARS_MAX {
        return Err(Error::bad_request("SchemaValidationError", "Invalid input for field 'id': it is too long"));
    }
    let region = Region {
        id,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        parent_region_id: fields.nullable_text("parent_region_id")?.flatten(),
        extra: fields.extra()?,
    };
    let mut tx = state.begin().await?;
    if catalog::get_region(&mut tx, &region.id).await?.is_some() {
        let message = format!("Conflict occurred attempting to store region - Duplicate ID, {}.", region.id);
        return Err(Error::conflict("Conflict", message));
    }
    check_parent(&mut tx, &region).await?;
    catalog::put_region(&mut tx, &region).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "region": show(cx, &region) }))
}

/// `PATCH /v3/regions/{region_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "region")?;
    let mut tx = state.begin().await?;
    let mut region = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(&region.id))?;
    if let Some(description) = fields.nullable_text("description")? {
        region.description = description.unwrap_or_default();
    }
    region.parent_region_id = fields.nullable_text("parent_region_id")?.unwrap_or(region.parent_region_id);
    region.extra.extend(fields.extra()?);
    check_parent(&mut tx, &region).await?;
    catalog::put_region(&mut tx, &region).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "region": show(cx, &region) }))
}

/// `DELETE /v3/regions/{region_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let region = load(cx, &mut tx).await?;
    if catalog::region_in_use(&mut tx, &region.id).await? {
        let message =
            format!("Unable to delete region {} because it or its child regions have associated endpoints.", region.id);
        return Err(Error::forbidden("RegionDeletionError", message));
    }
    catalog::delete_region(&mut tx, &region.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// The parent must exist and not stand below the region itself.
async fn check_parent(conn: &mut Conn, region: &Region) -> Result<()> {
    let mut above = region.parent_region_id.clone();
    while let Some(id) = above {
        if id == region.id {
            return Err(Error::bad_request("CircularRegionHierarchyError", "The region hierarchy would be a circle."));
        }
        let parent = catalog::get_region(conn, &id).await?;
        above = parent.ok_or_else(|| missing(&id))?.parent_region_id;
    }
    Ok(())
}

fn show(cx: &Cx, region: &Region) -> Value {
    let own = json!({ "description": region.description, "parent_region_id": region.parent_region_id });
    wire::resource(cx, "regions", &region.id, &region.extra, own)
}

/// The region of the path.
///
/// # Errors
/// Not found.
pub async fn load(cx: &Cx, conn: &mut Conn) -> Result<Region> {
    let id = cx.param("region_id");
    catalog::get_region(conn, id).await?.ok_or_else(|| missing(id))
}

/// That there is no such region.
fn missing(id: &str) -> Error {
    wire::not_found("RegionNotFound", "region", id)
}
