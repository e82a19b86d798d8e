//! Handlers of security group rules.

use model::{Error, Result, id::ProjectId};
use store::network::{
    address_groups::AddressGroup,
    plain,
    security_groups::{self, Rule},
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    wire::{Create, LIST, NAMES, shape},
};
use crate::collection::{self, Shown as _};

/// `GET /security-group-rules`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = security_groups::select_rules(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = security_groups::list_rules(&mut conn, select, &page).await?;
    collection::page(cx, NAMES.plural, &page, rows.iter().map(shape).collect())
}

/// `GET /security-group-rules/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let rule = security_groups::get_rule(&mut conn, id).await?.ok_or_else(|| security_groups::rule_not_found(id))?;
    authorize(cx, &rule)?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&rule))
}

/// `POST /security-group-rules`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let body = &input.body;
        let id = body.security_group_id.as_deref().ok_or_else(|| {
            Error::bad_request(
                "HTTPBadRequest",
                "Failed to parse request. Required attribute 'security_group_id' not specified",
            )
        })?;
        let group = security_groups::lock(&mut tx, id).await?;
        let see = |project: &ProjectId| cx.can("get_security_group", &Target::project(project));
        if !see(&group.project_id) {
            return Err(security_groups::not_found(id));
        }
        // A rule belongs to whom its group belongs to.
        cx.authorize(&target(&group.project_id))?;
        let new = logic::new_rule(body)?;
        if let Some(remote) = &new.remote_group_id {
            let remote_group = security_groups::get(&mut tx, remote).await?;
            remote_group.filter(|g| see(&g.project_id)).ok_or_else(|| security_groups::not_found(remote))?;
        }
        if let Some(remote) = &new.remote_address_group_id {
            // Locked, so that it does not go meanwhile.
            let addresses: Option<AddressGroup> = plain::lock(&mut tx, remote).await?;
            let visible = addresses.filter(|a| cx.can(AddressGroup::GET, &a.target()));
            visible.ok_or_else(|| AddressGroup::not_found(remote))?;
        }
        logic::expect_new(&new, &group.rules)?;
        made.push(shape(&security_groups::add_rule(&mut tx, &group.id, &group.project_id, &new).await?));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

/// `DELETE /security-group-rules/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let rule = security_groups::get_rule(&mut tx, id).await?.ok_or_else(|| security_groups::rule_not_found(id))?;
    authorize(cx, &rule)?;
    collection::expect_revision(cx, rule.revision)?;
    security_groups::delete_rule(&mut tx, &rule).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn authorize(cx: &Cx, rule: &Rule) -> Result<()> {
    collection::authorize(cx, "get_security_group_rule", &target(&rule.project_id), || {
        security_groups::rule_not_found(&rule.id)
    })
}

/// What policy rules refer to: a rule's project is its group's.
fn target(project: &ProjectId) -> Target {
    Target::project(project).with("security_group:project_id", project.as_str())
}
