//! Handlers of security groups.

use model::{Error, Result, id::ProjectId};
use store::network::{
    ports,
    security_groups::{self, DEFAULT_NAME, SecurityGroup},
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    wire::{Create, LIST, NAMES, Update, shape},
};
use crate::collection::{self, text};

/// `GET /security-groups`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    ensure_default(cx).await?;
    let mut select = security_groups::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = security_groups::list(&mut conn, select, &page).await?;
    collection::page(cx, NAMES.plural, &page, rows.iter().map(shape).collect())
}

/// Whoever lists groups sees the default one: of the caller's project, or of the one that an administrator asks for.
async fn ensure_default(cx: &Cx) -> Result<()> {
    let asked = cx.query.get("project_id").or_else(|| cx.query.get("tenant_id")).map(ProjectId::new);
    let asked = asked.filter(|project| cx.can("get_security_group", &Target::project(project)));
    let Some(project) = asked.or_else(|| cx.caller.project().cloned()) else { return Ok(()) };
    if security_groups::default_of(&mut *cx.db().read().await?, &project).await?.is_some() {
        return Ok(());
    }
    let mut tx = cx.db().begin().await?;
    security_groups::ensure_default(&mut tx, &project).await?;
    Ok(tx.commit().await?)
}

/// `GET /security-groups/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let group = security_groups::get(&mut conn, id).await?.ok_or_else(|| security_groups::not_found(id))?;
    authorize(cx, &group)?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&group))
}

/// `POST /security-groups`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let body = &input.body;
        let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
        cx.authorize(&Target::project(&project))?;
        let name = body.name.as_deref().unwrap_or_default();
        let description = body.description.as_deref().unwrap_or_default();
        text("name", name)?;
        text("description", description)?;
        logic::expect_not_default(name)?;
        // As in Neutron, a project's first group is the default one, whichever was asked for.
        security_groups::ensure_default(&mut tx, &project).await?;
        let group =
            security_groups::create(&mut tx, &project, name, description, body.stateful.unwrap_or(true)).await?;
        made.push(shape(&group));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

/// `PUT /security-groups/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let group = security_groups::lock(&mut tx, id).await?;
    authorize(cx, &group)?;
    collection::expect_revision(cx, group.meta.revision)?;
    let input = collection::input::<Update>(cx, NAMES)?;
    let in_use = ports::has_group(&mut tx, &group.id).await?;
    security_groups::update(&mut tx, &logic::updated(&group, &input.body, in_use)?).await?;
    let after = security_groups::lock(&mut tx, id).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after))
}

/// `DELETE /security-groups/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let group = security_groups::lock(&mut tx, id).await?;
    authorize(cx, &group)?;
    collection::expect_revision(cx, group.meta.revision)?;
    if group.name == DEFAULT_NAME && !cx.can("admin_only", &Target::none()) {
        return Err(Error::conflict(
            "SecurityGroupCannotRemoveDefault",
            "Removing default security group not allowed.",
        ));
    }
    security_groups::delete(&mut tx, &group.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn authorize(cx: &Cx, group: &SecurityGroup) -> Result<()> {
    let target = Target::project(&group.project_id);
    collection::authorize(cx, "get_security_group", &target, || security_groups::not_found(&group.id))
}
