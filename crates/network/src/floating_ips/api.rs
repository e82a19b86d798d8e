//! Handlers of floating IPs.

use model::{
    Error, Result,
    id::{NetworkId, PortId},
};
use store::{
    Conn, Tx,
    network::{
        floating_ips::{self, FloatingIp},
        networks, ports,
    },
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic::{self, Change},
    wire::{Create, LIST, NAMES, Update, shape},
};
use crate::collection::{self, Shape};

/// `GET /floatingips`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = floating_ips::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = floating_ips::list(&mut conn, select, &page).await?;
    let ids: Vec<&PortId> = rows.iter().filter_map(|f| f.target.as_ref()).map(|t| &t.port_id).collect();
    let ports = ports::by_ids(&mut conn, &ids).await?;
    let port = |f: &FloatingIp| {
        let id = f.target.as_ref().map(|t| &t.port_id)?;
        ports.iter().find(|p| p.id == *id)
    };
    collection::page(cx, NAMES.plural, &page, rows.iter().map(|f| shape(f, port(f))).collect())
}

/// `GET /floatingips/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let floating_ip = floating_ips::get(&mut conn, id).await?.ok_or_else(|| floating_ips::not_found(id))?;
    authorize(cx, &floating_ip)?;
    collection::one(cx, StatusCode::OK, NAMES.singular, with_port(&mut conn, &floating_ip).await?)
}

async fn with_port(conn: &mut Conn, floating_ip: &FloatingIp) -> Result<Shape> {
    let port = match &floating_ip.target {
        Some(target) => ports::get(conn, &target.port_id).await?,
        None => None,
    };
    Ok(shape(floating_ip, port.as_ref()))
}

/// `POST /floatingips`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let body = &input.body;
        let network = body.floating_network_id.as_deref().ok_or_else(|| {
            Error::bad_request(
                "HTTPBadRequest",
                "Failed to parse request. Required attribute 'floating_network_id' not specified",
            )
        })?;
        let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
        let target = Target::project(&project);
        cx.authorize(&target)?;
        collection::authorize_attributes(cx, "create_floatingip", &input.attributes, &target)?;
        let found = networks::get(&mut tx, network).await?.ok_or_else(|| networks::not_found(network))?;
        if !cx.can("get_network", &crate::networks::logic::target(&found)) {
            return Err(networks::not_found(network));
        }
        if let Some(port) = &body.port_id {
            expect_port_visible(cx, &mut tx, port).await?;
        }
        let new = logic::new_floating_ip(body, &NetworkId::new(network), &project)?;
        let floating_ip = floating_ips::create(&mut tx, &new).await?;
        made.push(with_port(&mut tx, &floating_ip).await?);
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

async fn expect_port_visible(cx: &Cx, tx: &mut Tx, id: &str) -> Result<()> {
    let port = ports::get(tx, id).await?.ok_or_else(|| ports::not_found(id))?;
    if cx.can("get_port", &Target::project(&port.project_id)) { Ok(()) } else { Err(ports::not_found(id)) }
}

/// `PUT /floatingips/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let floating_ip = floating_ips::lock(&mut tx, id).await?;
    authorize(cx, &floating_ip)?;
    collection::expect_revision(cx, floating_ip.meta.revision)?;
    let input = collection::input::<Update>(cx, NAMES)?;
    if let Some(description) = &input.body.description {
        floating_ips::update(&mut tx, &floating_ip.id, description).await?;
    }
    match logic::change(&floating_ip, &input.body)? {
        Change::None => {}
        Change::Disassociate => floating_ips::disassociate(&mut tx, &floating_ip.id).await?,
        Change::Associate(port, fixed) => {
            expect_port_visible(cx, &mut tx, port.as_str()).await?;
            floating_ips::associate(&mut tx, &floating_ip, &port, fixed).await?;
        }
    }
    let after = floating_ips::lock(&mut tx, id).await?;
    let shape = with_port(&mut tx, &after).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape)
}

/// `DELETE /floatingips/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let floating_ip = floating_ips::lock(&mut tx, id).await?;
    authorize(cx, &floating_ip)?;
    collection::expect_revision(cx, floating_ip.meta.revision)?;
    floating_ips::delete(&mut tx, &floating_ip.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn authorize(cx: &Cx, floating_ip: &FloatingIp) -> Result<()> {
    let target = Target::project(&floating_ip.project_id);
    collection::authorize(cx, "get_floatingip", &target, || floating_ips::not_found(&floating_ip.id))
}
