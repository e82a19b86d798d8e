//! Objects, properties and tags of a namespace: the same operations, with small differences in their shapes.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    images::metadefs::{self, Item, Kind},
};
use web::{Cx, Reply, StatusCode};

use super::{
    namespace::{find, refuse_protected},
    wire,
};

/// Tags that one request may set.
const TAGS_MAX: usize = 128;

/// Which of them a route is about.
pub(crate) trait Of {
    const KIND: Kind;
}
/// Objects.
pub(crate) struct Object;
/// Properties.
pub(crate) struct Property;
/// Tags.
pub(crate) struct Tag;
impl Of for Object {
    const KIND: Kind = Kind::Object;
}
impl Of for Property {
    const KIND: Kind = Kind::Property;
}
impl Of for Tag {
    const KIND: Kind = Kind::Tag;
}

/// `GET .../objects`, `.../properties`, `.../tags`.
pub(crate) async fn list<K: Of>(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let namespace = find(cx, &mut conn).await?.namespace;
    let items = metadefs::items(&mut conn, &namespace, K::KIND).await?;
    let views = || items.iter().map(|item| wire::item(&namespace, K::KIND, item));
    Reply::ok(&match K::KIND {
        Kind::Object => json!({
            "objects": views().collect::<Vec<_>>(), "first": cx.first_path(), "schema": "/v2/schemas/metadefs/objects"
        }),
        Kind::Tag => json!({
            "tags": views().collect::<Vec<_>>(), "first": cx.first_path(), "schema": "/v2/schemas/metadefs/tags"
        }),
        Kind::Property => {
            let by_name: Map<String, Value> =
                items.iter().map(|item| (item.name.clone(), wire::item(&namespace, K::KIND, item))).collect();
            json!({"properties": by_name})
        }
    })
}

/// `GET .../objects/{name}` and the like.
pub(crate) async fn show<K: Of>(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let namespace = find(cx, &mut conn).await?.namespace;
    let (name, prefix) = without_prefix(cx, &mut conn, &namespace).await?;
    let item = metadefs::item(&mut conn, &namespace, K::KIND, &name).await?.ok_or_else(|| not_found(cx, K::KIND))?;
    let mut view = wire::item(&namespace, K::KIND, &item);
    if !prefix.is_empty() {
        view["name"] = json!(format!("{prefix}{name}"));
    }
    Reply::ok(&view)
}

/// A property may be asked for by the name that it has on a type of resource: `?resource_type=OS::Nova::Flavor`.
async fn without_prefix(cx: &Cx, conn: &mut Conn, namespace: &str) -> Result<(String, String)> {
    let name = cx.param("name");
    let Some(wanted) = cx.query.get("resource_type") else { return Ok((name.to_owned(), String::new())) };
    let associations = metadefs::associations(conn, &[namespace]).await?;
    let prefix =
        associations.into_iter().find(|a| a.resource_type == wanted).and_then(|a| a.prefix).unwrap_or_default();
    match name.strip_prefix(&prefix) {
        Some(rest) => Ok((rest.to_owned(), prefix)),
        None => Err(not_found(cx, Kind::Property)),
    }
}

/// `POST .../objects` and `.../properties`.
pub(crate) async fn create<K: Of>(cx: &Cx) -> Result<Reply> {
    let body: Value = cx.json()?;
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?.namespace;
    let item = insert(&mut tx, &namespace, K::KIND, body).await?;
    tx.commit().await?;
    Reply::created(&wire::item(&namespace, K::KIND, &item))
}

/// Inserts what a body describes.
pub(super) async fn insert(tx: &mut Tx, namespace: &str, kind: Kind, body: Value) -> Result<Item> {
    let Value::Object(body) = body else { return Err(wire::invalid("it is an object")) };
    let (name, body) = wire::parse_item(kind, body)?;
    let now = tx.now();
    let item = Item { name, body, created_at: now, updated_at: now };
    metadefs::insert_item(tx, namespace, kind, &item).await.map_err(|error| taken(error, kind, &item.name))?;
    Ok(item)
}

fn taken(error: store::Error, kind: Kind, name: &str) -> Error {
    if error.is_unique_violation() {
        let kind = kind.as_str();
        let text = format!("A metadata definition {kind} with name={name} already exists in this namespace.");
        return Error::conflict("Duplicate", text);
    }
    error.into()
}

/// `PUT .../objects/{name}` and the like.
pub(crate) async fn update<K: Of>(cx: &Cx) -> Result<Reply> {
    let body: Map<String, Value> = cx.json()?;
    let (name, body) = wire::parse_item(K::KIND, body)?;
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?.namespace;
    let before = cx.param("name");
    let old = metadefs::item(&mut tx, &namespace, K::KIND, before).await?.ok_or_else(|| not_found(cx, K::KIND))?;
    let new = Item { name, body, created_at: old.created_at, updated_at: tx.now() };
    metadefs::update_item(&mut tx, &namespace, K::KIND, before, &new)
        .await
        .map_err(|error| taken(error, K::KIND, &new.name))?;
    tx.commit().await?;
    Reply::ok(&wire::item(&namespace, K::KIND, &new))
}

/// `DELETE .../objects/{name}` and the like.
pub(crate) async fn delete<K: Of>(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?;
    refuse_protected(&namespace, "changed")?;
    if metadefs::delete_items(&mut tx, &namespace.namespace, K::KIND, Some(cx.param("name"))).await? == 0 {
        return Err(not_found(cx, K::KIND));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `DELETE .../objects` and the like: all of them.
pub(crate) async fn delete_all<K: Of>(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?;
    refuse_protected(&namespace, "changed")?;
    metadefs::delete_items(&mut tx, &namespace.namespace, K::KIND, None).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `POST .../tags/{name}`.
pub(crate) async fn create_tag(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?.namespace;
    let item = insert(&mut tx, &namespace, Kind::Tag, json!({"name": cx.param("name")})).await?;
    tx.commit().await?;
    Reply::created(&wire::item(&namespace, Kind::Tag, &item))
}

#[derive(Deserialize)]
struct Tags {
    tags: Vec<Value>,
}

/// `POST .../tags`: these instead of those that there are; with `X-Openstack-Append: True`, besides them.
pub(crate) async fn create_tags(cx: &Cx) -> Result<Reply> {
    let body: Tags = cx.json()?;
    if body.tags.len() > TAGS_MAX {
        return Err(wire::invalid(&format!("at most {TAGS_MAX} tags can be set at once")));
    }
    let append = cx.header("x-openstack-append").and_then(web::paging::parse_flag).unwrap_or_default();
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?.namespace;
    if !append {
        metadefs::delete_items(&mut tx, &namespace, Kind::Tag, None).await?;
    }
    for tag in body.tags {
        insert(&mut tx, &namespace, Kind::Tag, tag).await?;
    }
    let tags = metadefs::items(&mut tx, &namespace, Kind::Tag).await?;
    tx.commit().await?;
    let views: Vec<Value> = tags.iter().map(|tag| wire::item(&namespace, Kind::Tag, tag)).collect();
    Reply::json(
        StatusCode::CREATED,
        &json!({"tags": views, "first": cx.first_path(), "schema": "/v2/schemas/metadefs/tags"}),
    )
}

fn not_found(cx: &Cx, kind: Kind) -> Error {
    let (kind, name, namespace) = (kind.as_str(), cx.param("name"), cx.param("namespace"));
    Error::not_found(
        "NotFound",
        format!("The metadata definition {kind} with name={name} was not found in namespace={namespace}."),
    )
}
