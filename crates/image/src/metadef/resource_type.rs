//! Types of resources, and which namespaces describe them.

use model::{Error, Result, Timestamp};
use serde_json::{Map, Value, json};
use store::images::metadefs::{self, Association};
use web::{Cx, Reply};

use super::{
    namespace::{find, refuse_protected},
    wire,
};

/// `GET /v2/metadefs/resource_types`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize_own_project()?;
    let types = metadefs::resource_types(&mut *cx.db().read().await?).await?;
    let view = |(name, created_at, updated_at): &(String, Timestamp, Timestamp)| json!({"name": name, "created_at": created_at.to_seconds_z(), "updated_at": updated_at.to_seconds_z()});
    Reply::ok(&json!({"resource_types": types.iter().map(view).collect::<Vec<_>>()}))
}

/// `GET /v2/metadefs/namespaces/{namespace}/resource_types`.
pub(crate) async fn list_associations(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let namespace = find(cx, &mut conn).await?.namespace;
    let associations = metadefs::associations(&mut conn, &[&namespace]).await?;
    let views: Vec<Value> = associations.iter().map(wire::association).collect();
    Reply::ok(&json!({"resource_type_associations": views}))
}

/// `POST /v2/metadefs/namespaces/{namespace}/resource_types`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let body: Value = cx.json()?;
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?.namespace;
    let association = parse(&namespace, body, tx.now())?;
    metadefs::associate(&mut tx, &association).await.map_err(|error| taken(error, &association))?;
    tx.commit().await?;
    Reply::created(&wire::association(&association))
}

/// `DELETE /v2/metadefs/namespaces/{namespace}/resource_types/{name}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let name = cx.param("name");
    let mut tx = cx.db().begin().await?;
    let namespace = find(cx, &mut tx).await?;
    refuse_protected(&namespace, "changed")?;
    if !metadefs::dissociate(&mut tx, &namespace.namespace, name).await? {
        let text = format!(
            "The metadata definition resource-type association of resource-type={name} to namespace={} was not found.",
            namespace.namespace
        );
        return Err(Error::not_found("NotFound", text));
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// The association that a body asks for.
pub(super) fn parse(namespace: &str, body: Value, now: Timestamp) -> Result<Association> {
    let body: Map<String, Value> =
        serde_json::from_value(body).map_err(|_| wire::invalid("an association is an object"))?;
    Ok(Association {
        namespace: namespace.to_owned(),
        resource_type: wire::name(&body, "name")?,
        prefix: wire::opt_text(&body, "prefix")?,
        properties_target: wire::opt_text(&body, "properties_target")?,
        created_at: now,
        updated_at: now,
    })
}

pub(super) fn taken(error: store::Error, association: &Association) -> Error {
    if error.is_unique_violation() {
        let text = format!("{} is associated with {} already.", association.namespace, association.resource_type);
        return Error::conflict("Duplicate", text);
    }
    error.into()
}
