//! Namespaces.

use model::{Error, Result, id::ProjectId};
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    images::metadefs::{self, Association, Filter, Kind, Namespace, SORTS},
    list::Direction,
};
use web::{Cx, Reply, Target, paging::ListSpec};

use super::{item, resource_type, wire};
use crate::image::logic::is_admin;

const LIST: ListSpec = ListSpec { sorts: SORTS, direction: Direction::Descending, filters: &[] };

/// The namespace that the path names, seen and authorized.
pub(super) async fn find(cx: &Cx, conn: &mut Conn) -> Result<Namespace> {
    let name = cx.param("namespace");
    let not_found = || Error::not_found("NotFound", format!("Metadata definition namespace={name} was not found."));
    let found = metadefs::get(conn, name).await?.ok_or_else(not_found)?;
    if !found.public && !is_admin(cx) && cx.caller.project() != Some(&found.owner) {
        return Err(not_found());
    }
    cx.authorize(&target(&found.owner, found.public))?;
    Ok(found)
}

fn target(owner: &ProjectId, public: bool) -> Target {
    Target::project(owner).with("visibility", if public { "public" } else { "private" })
}

/// `GET /v2/metadefs/namespaces`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    let project = cx.authorize_own_project()?;
    let visibility = |text: &str| match text {
        "public" => Ok(true),
        "private" => Ok(false),
        other => Err(Error::bad_request("BadRequest", format!("Invalid visibility value: {other}"))),
    };
    let filter = Filter {
        viewer: (!is_admin(cx)).then(|| project.clone()),
        public: cx.query.get("visibility").map(visibility).transpose()?,
        resource_types: cx.query.get("resource_types").map(|text| text.split(',').map(str::to_owned).collect()),
    };
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let found = metadefs::list(&mut conn, &filter, &page).await?;
    let names: Vec<&str> = found.iter().map(|n| n.namespace.as_str()).collect();
    let associations = metadefs::associations(&mut conn, &names).await?;
    let view = |namespace: &Namespace| Value::Object(wire::namespace(namespace, &associations));
    let mut body = json!({
        "namespaces": found.iter().map(view).collect::<Vec<_>>(),
        "first": cx.first_path(),
        "schema": "/v2/schemas/metadefs/namespaces",
    });
    if let Some(last) = found.last().filter(|_| found.len() == page.limit as usize) {
        body["next"] = json!(cx.next_path(&last.namespace));
    }
    Reply::ok(&body)
}

/// `GET /v2/metadefs/namespaces/{namespace}`: with all that is in it.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = find(cx, &mut conn).await?;
    Reply::ok(&whole(&mut conn, &found, cx.query.get("resource_type")).await?)
}

async fn whole(conn: &mut Conn, namespace: &Namespace, resource_type: Option<&str>) -> Result<Value> {
    let name = namespace.namespace.as_str();
    let associations = metadefs::associations(conn, &[name]).await?;
    let prefix = resource_type
        .and_then(|wanted| associations.iter().find(|a| a.resource_type == wanted))
        .and_then(|a| a.prefix.clone())
        .unwrap_or_default();
    let mut view = wire::namespace(namespace, &associations);
    let objects = metadefs::items(conn, name, Kind::Object).await?;
    if !objects.is_empty() {
        view.insert("objects".into(), objects.iter().map(|o| wire::item(name, Kind::Object, o)).collect());
    }
    let properties = metadefs::items(conn, name, Kind::Property).await?;
    if !properties.is_empty() {
        let properties: Map<String, Value> =
            properties.iter().map(|p| (format!("{prefix}{}", p.name), Value::Object(p.body.clone()))).collect();
        view.insert("properties".into(), properties.into());
    }
    let tags = metadefs::items(conn, name, Kind::Tag).await?;
    if !tags.is_empty() {
        view.insert("tags".into(), tags.iter().map(|tag| json!({"name": tag.name})).collect());
    }
    Ok(Value::Object(view))
}

/// `POST /v2/metadefs/namespaces`: with all that is to be in it.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let project = cx.project()?;
    let mut body: Map<String, Value> = cx.json()?;
    let now = cx.now();
    let mut new = Namespace {
        namespace: wire::name(&body, "namespace")?,
        display_name: None,
        description: None,
        public: false,
        protected: false,
        owner: project.clone(),
        created_at: now,
        updated_at: now,
    };
    wire::apply(&mut new, &body)?;
    cx.authorize(&target(&new.owner, new.public))?;
    let mut tx = cx.db().begin().await?;
    metadefs::insert(&mut tx, &new).await.map_err(|error| taken(error, &new.namespace))?;
    fill(&mut tx, &new, &mut body).await?;
    let view = whole(&mut tx, &new, None).await?;
    tx.commit().await?;
    let location = format!("{}/v2/metadefs/namespaces/{}", cx.service_url(), new.namespace);
    Ok(Reply::created(&view)?.with("location", location))
}

fn taken(error: store::Error, namespace: &str) -> Error {
    if error.is_unique_violation() {
        let text = format!("The metadata definition namespace={namespace} already exists.");
        return Error::conflict("Duplicate", text);
    }
    error.into()
}

/// What a new namespace is created with.
async fn fill(tx: &mut Tx, new: &Namespace, body: &mut Map<String, Value>) -> Result<()> {
    let mut take = |key: &str| body.remove(key).filter(|value| !value.is_null());
    let list = |value: Value| match value {
        Value::Array(items) => Ok(items),
        _ => Err(wire::invalid("resource_type_associations, objects and tags are lists")),
    };
    for value in take("resource_type_associations").map(list).transpose()?.unwrap_or_default() {
        let association: Association = resource_type::parse(&new.namespace, value, tx.now())?;
        metadefs::associate(tx, &association).await.map_err(|e| resource_type::taken(e, &association))?;
    }
    for (kind, key) in [(Kind::Object, "objects"), (Kind::Tag, "tags")] {
        for value in take(key).map(list).transpose()?.unwrap_or_default() {
            item::insert(tx, &new.namespace, kind, value).await?;
        }
    }
    match take("properties") {
        None => Ok(()),
        Some(Value::Object(properties)) => {
            for (name, mut value) in properties {
                value
                    .as_object_mut()
                    .ok_or_else(|| wire::invalid("a property is an object"))?
                    .insert("name".into(), name.into());
                item::insert(tx, &new.namespace, Kind::Property, value).await?;
            }
            Ok(())
        }
        Some(_) => Err(wire::invalid("properties is an object")),
    }
}

/// `PUT /v2/metadefs/namespaces/{namespace}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let body: Map<String, Value> = cx.json()?;
    let mut tx = cx.db().begin().await?;
    let before = find(cx, &mut tx).await?;
    let mut new = Namespace {
        namespace: wire::name(&body, "namespace")?,
        display_name: None,
        description: None,
        updated_at: tx.now(),
        ..before.clone()
    };
    wire::apply(&mut new, &body)?;
    metadefs::update(&mut tx, &before.namespace, &new).await.map_err(|error| taken(error, &new.namespace))?;
    let associations = metadefs::associations(&mut tx, &[&new.namespace]).await?;
    tx.commit().await?;
    Reply::ok(&wire::namespace(&new, &associations))
}

/// `DELETE /v2/metadefs/namespaces/{namespace}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    refuse_protected(&found, "deleted")?;
    metadefs::delete(&mut tx, &found.namespace).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// A protected namespace keeps what it holds, too.
pub(super) fn refuse_protected(namespace: &Namespace, what: &str) -> Result<()> {
    if namespace.protected {
        let name = &namespace.namespace;
        let text = format!("Metadata definition namespace {name} is protected and cannot be {what}.");
        return Err(Error::forbidden("ProtectedMetadefNamespaceDelete", text));
    }
    Ok(())
}
