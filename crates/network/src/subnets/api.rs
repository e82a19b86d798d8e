//! Handlers of subnets.

use model::{Error, Result};
use store::{
    Tx,
    network::{
        networks, plain,
        subnet_pools::{self, SubnetPool},
        subnets::{self, NewSubnet},
    },
};
use web::{Cx, Reply, StatusCode};

use super::{
    logic,
    wire::{Create, LIST, NAMES, Update, shape},
};
use crate::collection::{self, Shown as _};

/// `GET /subnets`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = subnets::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = subnets::list(&mut conn, select, &page).await?;
    collection::page(cx, NAMES.plural, &page, rows.iter().map(shape).collect())
}

/// `GET /subnets/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let not_found = || subnets::not_found(id);
    let mut conn = cx.db().read().await?;
    let subnet = subnets::get(&mut conn, id).await?.ok_or_else(not_found)?;
    let network = networks::get(&mut conn, &subnet.network_id).await?.ok_or_else(not_found)?;
    collection::authorize(cx, "get_subnet", &logic::target(&subnet.project_id, &network), not_found)?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&subnet))
}

/// `POST /subnets`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let id = input.body.network_id.as_deref().ok_or_else(|| {
            Error::bad_request(
                "HTTPBadRequest",
                "Failed to parse request. Required attribute 'network_id' not specified",
            )
        })?;
        let network = networks::get(&mut tx, id).await?.ok_or_else(|| networks::not_found(id))?;
        // Who may not see the network must not learn of it, nor of whether it is there.
        if !cx.can("get_network", &crate::networks::logic::target(&network)) {
            return Err(networks::not_found(id));
        }
        let project = collection::owner(cx, input.body.project_id.as_ref(), input.body.tenant_id.as_ref())?;
        let target = logic::target(&project, &network);
        cx.authorize(&target)?;
        collection::authorize_attributes(cx, "create_subnet", &input.attributes, &target)?;
        let asked = input.body.cidr.as_deref().filter(|text| !text.is_empty()).map(logic::cidr_of).transpose()?;
        let pool = pool(cx, &mut tx, &input.body).await?;
        let cidr = match &pool {
            Some(pool) => {
                let length = input.body.prefixlen.and_then(|length| u8::try_from(length).ok());
                Some(subnet_pools::allocate(&mut tx, pool, (&project, &network.id), (asked, length)).await?)
            }
            None => asked,
        };
        let new = logic::new_subnet(&input.body, cidr, &network, &project)?;
        let new = NewSubnet { subnetpool_id: pool.map(|pool| pool.standard.id), ..new };
        made.push(shape(&subnets::create(&mut tx, &new).await?));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

/// The pool that a new subnet is to be cut from, locked: the one named, or the default one where that is asked for.
async fn pool(cx: &Cx, tx: &mut Tx, body: &Create) -> Result<Option<SubnetPool>> {
    let version = body.ip_version.unwrap_or(4);
    let id = match (&body.subnetpool_id, body.use_default_subnetpool) {
        (Some(id), _) => id.clone(),
        (None, Some(true)) => {
            let found = subnet_pools::default_of(tx, version).await?;
            let none =
                || Error::bad_request("BadRequest", format!("No default subnet pool is defined for IPv{version}."));
            found.ok_or_else(none)?.standard.id
        }
        (None, _) => return Ok(None),
    };
    let not_found = || SubnetPool::not_found(&id);
    let pool: SubnetPool = plain::lock(tx, &id).await?.ok_or_else(not_found)?;
    if !cx.can(SubnetPool::GET, &pool.target()) {
        return Err(not_found());
    }
    if pool.ip_version() != version {
        return Err(Error::bad_request(
            "BadRequest",
            format!("Bad subnets request: subnet pool {id} is one of IPv{}.", pool.ip_version()),
        ));
    }
    Ok(Some(pool))
}

/// `PUT /subnets/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let found = subnets::get(&mut tx, id).await?.ok_or_else(|| subnets::not_found(id))?;
    let network = networks::lock(&mut tx, &found.network_id).await?;
    let subnet = subnets::lock(&mut tx, id).await?;
    let target = logic::target(&subnet.project_id, &network);
    collection::authorize(cx, "get_subnet", &target, || subnets::not_found(id))?;
    collection::expect_revision(cx, subnet.meta.revision)?;
    let input = collection::input::<Update>(cx, NAMES)?;
    collection::authorize_attributes(cx, "update_subnet", &input.attributes, &target)?;
    let after = logic::updated(&subnet, &input.body)?;
    if let Some(gateway) = subnet.gateway_ip.filter(|_| after.gateway_ip != subnet.gateway_ip)
        && subnets::router_at(&mut tx, &subnet, gateway).await?
    {
        return Err(Error::conflict(
            "GatewayIpInUse",
            format!("Current gateway ip {gateway} already in use by a router's port. Unable to update."),
        ));
    }
    subnets::update(&mut tx, &network, &subnet, &after).await?;
    let after = subnets::lock(&mut tx, id).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after))
}

/// `DELETE /subnets/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let not_found = || subnets::not_found(id);
    let mut tx = cx.db().begin().await?;
    let subnet = subnets::get(&mut tx, id).await?.ok_or_else(not_found)?;
    let network = networks::get(&mut tx, &subnet.network_id).await?.ok_or_else(not_found)?;
    collection::authorize(cx, "get_subnet", &logic::target(&subnet.project_id, &network), not_found)?;
    collection::expect_revision(cx, subnet.meta.revision)?;
    subnets::delete(&mut tx, &subnet.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
