//! Handlers of routers.

use model::{
    Error, Result,
    id::{PortId, RouterId, SubnetId},
};
use serde_json::Value;
use store::{
    Tx,
    network::{
        Route, networks, ports,
        ports::Port,
        routers::{self, Router},
        subnets,
    },
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    wire::{self, Create, ExtraRoutes, Gateway, Interface, LIST, NAMES, Update, shape},
};
use crate::collection;

/// `GET /routers`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = routers::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = routers::list(&mut conn, select, &page).await?;
    collection::page(cx, NAMES.plural, &page, rows.iter().map(shape).collect())
}

/// `GET /routers/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let router = routers::get(&mut conn, id).await?.ok_or_else(|| routers::not_found(id))?;
    authorize(cx, &router)?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&router))
}

/// `POST /routers`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let project = collection::owner(cx, input.body.project_id.as_ref(), input.body.tenant_id.as_ref())?;
        let target = Target::project(&project);
        cx.authorize(&target)?;
        collection::authorize_attributes(cx, "create_router", &input.attributes, &target)?;
        if let Some(gateway) = &input.body.external_gateway_info {
            authorize_gateway(cx, &mut tx, "create_router", gateway, &target).await?;
        }
        made.push(shape(&routers::create(&mut tx, &logic::new_router(&input.body, &project)?).await?));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

/// SNAT and certain addresses need more rights than a gateway; a network that the caller can't see is none.
async fn authorize_gateway(cx: &Cx, tx: &mut Tx, operation: &str, gateway: &Gateway, target: &Target) -> Result<()> {
    if gateway.enable_snat.is_some() {
        cx.authorize_rule(&format!("{operation}:external_gateway_info:enable_snat"), target)?;
    }
    if gateway.external_fixed_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
        cx.authorize_rule(&format!("{operation}:external_gateway_info:external_fixed_ips"), target)?;
    }
    let Some(id) = &gateway.network_id else { return Ok(()) };
    let network = networks::get(tx, id).await?.ok_or_else(|| networks::not_found(id))?;
    if cx.can("get_network", &crate::networks::logic::target(&network)) { Ok(()) } else { Err(networks::not_found(id)) }
}

/// `PUT /routers/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let router = routers::lock(&mut tx, id).await?;
    authorize(cx, &router)?;
    collection::expect_revision(cx, router.meta.revision)?;
    let target = Target::project(&router.project_id);
    let input = collection::input::<Update>(cx, NAMES)?;
    collection::authorize_attributes(cx, "update_router", &input.attributes, &target)?;
    if let Some(gateway) = &input.body.external_gateway_info {
        update_gateway(cx, &mut tx, &router, gateway.as_ref(), &target).await?;
    }
    let after = logic::updated(&router, &input.body, &connected(&mut tx, &router).await?)?;
    routers::update(&mut tx, &after).await?;
    let after = routers::lock(&mut tx, id).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after))
}

/// `null` and `{}` take the gateway away.
async fn update_gateway(cx: &Cx, tx: &mut Tx, router: &Router, gateway: Option<&Value>, target: &Target) -> Result<()> {
    let gateway = gateway.filter(|g| g.as_object().is_none_or(|map| !map.is_empty()));
    let Some(gateway) = gateway else { return routers::clear_gateway(tx, router).await };
    let gateway: Gateway = serde_json::from_value(gateway.clone())
        .map_err(|e| collection::invalid(format!("external_gateway_info: {e}")))?;
    authorize_gateway(cx, tx, "update_router", &gateway, target).await?;
    routers::set_gateway(tx, router, &logic::new_gateway(&gateway)?).await
}

/// `DELETE /routers/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let router = routers::lock(&mut tx, id).await?;
    authorize(cx, &router)?;
    collection::expect_revision(cx, router.meta.revision)?;
    routers::delete(&mut tx, &router.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `PUT /routers/{id}/add_router_interface`
pub async fn add_interface(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let router = routers::lock(&mut tx, id).await?;
    authorize(cx, &router)?;
    let port = match cx.json::<Interface>()? {
        Interface { subnet_id: Some(_), port_id: Some(_) } => return Err(both()),
        Interface { subnet_id: None, port_id: None } => return Err(neither()),
        Interface { subnet_id: Some(subnet), .. } => {
            let subnet = visible_subnet(cx, &mut tx, &subnet).await?;
            routers::add_subnet(&mut tx, &router.id, &subnet).await?
        }
        Interface { port_id: Some(port), .. } => {
            let port = visible_port(cx, &mut tx, &port).await?;
            routers::add_port(&mut tx, &router.id, &port.id).await?
        }
    };
    tx.commit().await?;
    Reply::ok(&wire::interface(&router, &port))
}

/// `PUT /routers/{id}/remove_router_interface`
pub async fn remove_interface(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let router = routers::lock(&mut tx, id).await?;
    authorize(cx, &router)?;
    let wanted = cx.json::<Interface>()?;
    if wanted.subnet_id.is_none() && wanted.port_id.is_none() {
        return Err(neither());
    }
    let interfaces = routers::interfaces(&mut tx, &router.id).await?;
    let port = interfaces.iter().find(|port| is_meant(port, &wanted)).ok_or_else(|| no_such(&router.id, &wanted))?;
    let subnet = wanted.subnet_id.as_deref().filter(|_| wanted.port_id.is_none()).map(SubnetId::new);
    routers::remove_interface(&mut tx, &router.id, port, subnet.as_ref()).await?;
    tx.commit().await?;
    Reply::ok(&wire::interface(&router, port))
}

/// `PUT /routers/{id}/add_extraroutes`: those that are there already stay.
pub async fn add_extraroutes(cx: &Cx) -> Result<Reply> {
    rewrite_routes(cx, |now, given| {
        let fresh: Vec<Route> = given.into_iter().filter(|route| !now.contains(route)).collect();
        now.extend(fresh);
    })
    .await
}

/// `PUT /routers/{id}/remove_extraroutes`: those that are not there are nobody's loss.
pub async fn remove_extraroutes(cx: &Cx) -> Result<Reply> {
    rewrite_routes(cx, |now, gone| now.retain(|route| !gone.contains(route))).await
}

/// Changes routes under the router's lock: whoever changes others at the same time loses nothing.
async fn rewrite_routes(cx: &Cx, how: impl FnOnce(&mut Vec<Route>, Vec<Route>)) -> Result<Reply> {
    let id = cx.param("id");
    let mut tx = cx.db().begin().await?;
    let router = routers::lock(&mut tx, id).await?;
    authorize(cx, &router)?;
    collection::expect_revision(cx, router.meta.revision)?;
    let given = collection::input::<ExtraRoutes>(cx, NAMES)?.body.routes;
    let mut routes = router.routes.clone();
    how(&mut routes, given);
    let update = Update { routes: Some(Some(routes)), ..Update::default() };
    let after = logic::updated(&router, &update, &connected(&mut tx, &router).await?)?;
    routers::update(&mut tx, &after).await?;
    let after = routers::lock(&mut tx, id).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after))
}

/// The subnets that the router has ports on.
async fn connected(tx: &mut Tx, router: &Router) -> Result<Vec<subnets::Subnet>> {
    let ports = ports::of_device(tx, &router.id).await?;
    let ids: Vec<&SubnetId> = ports.iter().flat_map(|p| &p.fixed_ips).map(|ip| &ip.subnet_id).collect();
    Ok(subnets::by_ids(tx, &ids).await?)
}

fn is_meant(port: &Port, wanted: &Interface) -> bool {
    let by_port = wanted.port_id.as_ref().is_none_or(|id| port.id == PortId::new(id.as_str()));
    let in_subnet = |id: &String| port.fixed_ips.iter().any(|ip| ip.subnet_id.as_str() == id);
    by_port && wanted.subnet_id.as_ref().is_none_or(in_subnet)
}

fn no_such(router: &RouterId, wanted: &Interface) -> Error {
    match (&wanted.port_id, &wanted.subnet_id) {
        (Some(port), _) => Error::not_found(
            "RouterInterfaceNotFound",
            format!("Router {router} does not have an interface with id {port}"),
        ),
        (None, subnet) => Error::not_found(
            "RouterInterfaceNotFoundForSubnet",
            format!("Router {router} has no interface on subnet {}", subnet.as_deref().unwrap_or_default()),
        ),
    }
}

fn both() -> Error {
    Error::bad_request("BadRequest", "Bad router request: Cannot specify both subnet-id and port-id.")
}

fn neither() -> Error {
    Error::bad_request("BadRequest", "Bad router request: Either subnet_id or port_id must be specified.")
}

async fn visible_subnet(cx: &Cx, tx: &mut Tx, id: &str) -> Result<subnets::Subnet> {
    let not_found = || subnets::not_found(id);
    let subnet = subnets::get(tx, id).await?.ok_or_else(not_found)?;
    let network = networks::get(tx, &subnet.network_id).await?.ok_or_else(not_found)?;
    let target = crate::subnets::logic::target(&subnet.project_id, &network);
    if cx.can("get_subnet", &target) { Ok(subnet) } else { Err(not_found()) }
}

async fn visible_port(cx: &Cx, tx: &mut Tx, id: &str) -> Result<Port> {
    let not_found = || ports::not_found(id);
    let port = ports::get(tx, id).await?.ok_or_else(not_found)?;
    if cx.can("get_port", &Target::project(&port.project_id)) { Ok(port) } else { Err(not_found()) }
}

fn authorize(cx: &Cx, router: &Router) -> Result<()> {
    let target = Target::project(&router.project_id);
    collection::authorize(cx, "get_router", &target, || routers::not_found(&router.id))
}
