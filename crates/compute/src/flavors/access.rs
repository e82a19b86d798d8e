//! `os-flavor-access`: which projects may use a flavor that is not public.

use model::{
    Error, Result,
    id::{FlavorId, ProjectId},
};
use serde::Deserialize;
use serde_json::json;
use store::{Conn, compute::flavors};
use web::{Cx, Reply, Target, Version};

use super::find;
use crate::input::{check_project, invalid};

/// `GET /v2.1/flavors/{id}/os-flavor-access`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let flavor = find(cx, &mut conn, cx.param("id")).await?;
    if flavor.is_public {
        return Err(Error::not_found("FlavorNotFound", "Access list not available for public flavors."));
    }
    reply(&mut conn, &flavor.id).await
}

/// `POST /v2.1/flavors/{id}/action`, `addTenantAccess`.
pub async fn add(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let project = project(cx, "addTenantAccess")?;
    let mut tx = cx.db().begin().await?;
    check_project(&mut tx, &project).await?;
    let flavor = find(cx, &mut tx, cx.param("id")).await?;
    let id = &flavor.id;
    if flavor.is_public && cx.version >= Version(2, 7) {
        return Err(Error::conflict("FlavorIsPublic", "Can not add access to a public flavor."));
    }
    if !flavors::insert_access(&mut tx, id, &project).await? {
        return Err(Error::conflict(
            "FlavorAccessExists",
            format!("Flavor access already exists for flavor {id} and project {project} combination."),
        ));
    }
    let reply = reply(&mut tx, id).await?;
    tx.commit().await?;
    Ok(reply)
}

/// `POST /v2.1/flavors/{id}/action`, `removeTenantAccess`. The project may be gone already.
pub async fn remove(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let project = project(cx, "removeTenantAccess")?;
    let mut tx = cx.db().begin().await?;
    let flavor = find(cx, &mut tx, cx.param("id")).await?;
    let id = &flavor.id;
    if !flavors::delete_access(&mut tx, id, &project).await? {
        return Err(Error::not_found(
            "FlavorAccessNotFound",
            format!("Flavor access not found for {id} / {project} combination."),
        ));
    }
    let reply = reply(&mut tx, id).await?;
    tx.commit().await?;
    Ok(reply)
}

fn project(cx: &Cx, action: &str) -> Result<ProjectId> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Access {
        tenant: String,
    }
    let tenant = cx.json_in::<Access>(action)?.tenant;
    if tenant.is_empty() || tenant.len() > 255 {
        return Err(invalid("Invalid input for tenant: a project's id has 1 to 255 characters."));
    }
    Ok(ProjectId::new(tenant))
}

async fn reply(conn: &mut Conn, id: &FlavorId) -> Result<Reply> {
    let projects = flavors::list_access(conn, id).await?;
    let access: Vec<_> = projects.iter().map(|project| json!({"flavor_id": id, "tenant_id": project})).collect();
    Reply::ok(&json!({"flavor_access": access}))
}
