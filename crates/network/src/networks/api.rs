//! Handlers of networks.

use std::collections::HashMap;

use model::Result;
use store::network::{
    OWNER_FLOATING_IP, OWNER_ROUTER_GATEWAY,
    networks::{self, Network},
    ports, subnet_pools, subnets,
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    wire::{Create, LIST, NAMES, Update, shape},
};
use crate::collection;

/// `GET /networks`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = networks::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = networks::list(&mut conn, select, &page).await?;
    let ids: Vec<_> = rows.iter().map(|n| &n.id).collect();
    let subnets = subnets::of_networks(&mut conn, &ids).await?;
    let scopes = subnet_pools::scopes(&mut conn, &subnets).await?;
    let provider = sees_provider(cx);
    collection::page(cx, NAMES.plural, &page, rows.iter().map(|n| shape(n, &subnets, &scopes, provider)).collect())
}

/// `GET /networks/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let network = networks::get(&mut conn, id).await?.ok_or_else(|| networks::not_found(id))?;
    collection::authorize(cx, "get_network", &logic::target(&network), || networks::not_found(id))?;
    let subnets = subnets::of_network(&mut conn, &network.id).await?;
    let scopes = subnet_pools::scopes(&mut conn, &subnets).await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&network, &subnets, &scopes, sees_provider(cx)))
}

/// `POST /networks`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let project = collection::owner(cx, input.body.project_id.as_ref(), input.body.tenant_id.as_ref())?;
        let target = Target::project(&project);
        cx.authorize(&target)?;
        collection::authorize_attributes(cx, "create_network", &input.attributes, &target)?;
        let new = logic::new_network(&input.body, &project)?;
        crate::qos::expect_visible(cx, &mut tx, new.qos_policy_id.as_deref()).await?;
        let network = networks::create(&mut tx, &new).await?;
        made.push(shape(&network, &[], &HashMap::new(), sees_provider(cx)));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

/// `PUT /networks/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let network = networks::lock(&mut tx, id).await?;
    let target = logic::target(&network);
    collection::authorize(cx, "get_network", &target, || networks::not_found(id))?;
    collection::expect_revision(cx, network.meta.revision)?;
    let input = collection::input::<Update>(cx, NAMES)?;
    collection::authorize_attributes(cx, "update_network", &input.attributes, &target)?;
    let after = logic::updated(&network, &input.body)?;
    expect_unused(&mut tx, &network, &after).await?;
    if network.qos_policy_id != after.qos_policy_id {
        crate::qos::expect_visible(cx, &mut tx, after.qos_policy_id.as_deref()).await?;
    }
    networks::update(&mut tx, &after).await?;
    if logic::concerns_contents(&network, &after) {
        networks::wake_contents(&mut tx, &network.id).await?;
    }
    let after = networks::lock(&mut tx, id).await?;
    let subnets = subnets::of_network(&mut tx, &network.id).await?;
    let scopes = subnet_pools::scopes(&mut tx, &subnets).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after, &subnets, &scopes, sees_provider(cx)))
}

async fn expect_unused(tx: &mut store::Tx, before: &Network, after: &Network) -> Result<()> {
    if before.shared == after.shared && before.external == after.external {
        return Ok(());
    }
    let ports = ports::on_network(tx, &before.id).await?;
    let owned = ports.iter().any(|p| !p.project_id.as_str().is_empty() && p.project_id != before.project_id);
    let outside = [OWNER_ROUTER_GATEWAY, OWNER_FLOATING_IP];
    let used_outside = ports.iter().any(|p| outside.contains(&p.device_owner.as_str()));
    logic::expect_unused(before, after, owned, used_outside)
}

/// `DELETE /networks/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let network = networks::lock(&mut tx, id).await?;
    collection::authorize(cx, "get_network", &logic::target(&network), || networks::not_found(id))?;
    collection::expect_revision(cx, network.meta.revision)?;
    networks::delete(&mut tx, &network.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn sees_provider(cx: &Cx) -> bool {
    cx.can("get_network:provider:network_type", &Target::none())
}
