//! Handlers of ports.

use model::{Error, Result, id::PortId};
use store::{
    Conn, Tx,
    network::{
        networks, ports,
        ports::Port,
        security_groups,
        trunks::{self, Trunk},
    },
};
use web::{Cx, Reply, StatusCode, Target};

use super::{
    logic,
    wire::{self, Beside, Create, FixedIp, LIST, NAMES, Update, shape},
};
use crate::collection::{self, Input};

/// `GET /ports`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = ports::select(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    wire::filter(cx, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows = ports::list(&mut conn, select, &page).await?;
    let beside = beside(&mut conn, &rows).await?;
    let binding = sees_binding(cx);
    collection::page(cx, NAMES.plural, &page, rows.iter().map(|p| shape(p, &beside, binding)).collect())
}

/// `GET /ports/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let not_found = || ports::not_found(id);
    let mut conn = cx.db().read().await?;
    let port = ports::get(&mut conn, id).await?.ok_or_else(not_found)?;
    let network = networks::get(&mut conn, &port.network_id).await?.ok_or_else(not_found)?;
    let target = logic::target(&port.project_id, &network, &port.device_owner);
    collection::authorize(cx, "get_port", &target, not_found)?;
    let beside = beside(&mut conn, std::slice::from_ref(&port)).await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&port, &beside, sees_binding(cx)))
}

/// `POST /ports`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let (inputs, bulk) = collection::inputs::<Create>(cx, NAMES)?;
    let mut tx = cx.db().begin().await?;
    let mut made = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let port = create_one(cx, &mut tx, input).await?;
        let beside = beside(&mut tx, std::slice::from_ref(&port)).await?;
        made.push(shape(&port, &beside, sees_binding(cx)));
    }
    tx.commit().await?;
    collection::made(NAMES, bulk, made)
}

async fn create_one(cx: &Cx, tx: &mut Tx, input: &Input<Create>) -> Result<Port> {
    let body = &input.body;
    let id = body.network_id.as_deref().ok_or_else(|| {
        Error::bad_request("HTTPBadRequest", "Failed to parse request. Required attribute 'network_id' not specified")
    })?;
    let network = networks::get(tx, id).await?.ok_or_else(|| networks::not_found(id))?;
    if !cx.can("get_network", &crate::networks::logic::target(&network)) {
        return Err(networks::not_found(id));
    }
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    let target = logic::target(&project, &network, body.device_owner.as_deref().unwrap_or_default());
    cx.authorize(&target)?;
    collection::authorize_attributes(cx, "create_port", &input.attributes, &target)?;
    authorize_addresses(cx, "create_port", body.fixed_ips.as_deref().unwrap_or_default(), &target)?;
    let new = logic::new_port(body, &network, &project)?;
    expect_groups_visible(cx, tx, new.security_groups.as_deref().unwrap_or_default()).await?;
    crate::qos::expect_visible(cx, tx, new.qos_policy_id.as_deref()).await?;
    ports::create(tx, &new).await
}

/// Certain addresses need more rights than any address of a subnet.
fn authorize_addresses(cx: &Cx, operation: &str, fixed_ips: &[FixedIp], target: &Target) -> Result<()> {
    if fixed_ips.iter().any(|ip| ip.ip_address.is_some()) {
        cx.authorize_rule(&format!("{operation}:fixed_ips:ip_address"), target)?;
    }
    if fixed_ips.iter().any(|ip| ip.subnet_id.is_some()) {
        cx.authorize_rule(&format!("{operation}:fixed_ips:subnet_id"), target)?;
    }
    Ok(())
}

/// Another project's group is as good as none.
async fn expect_groups_visible(cx: &Cx, tx: &mut Tx, groups: &[model::id::SecurityGroupId]) -> Result<()> {
    for id in groups {
        let group = security_groups::get(tx, id).await?.ok_or_else(|| security_groups::not_found(id))?;
        if !cx.can("get_security_group", &Target::project(&group.project_id)) {
            return Err(security_groups::not_found(id));
        }
    }
    Ok(())
}

/// `PUT /ports/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let not_found = || ports::not_found(id);
    let mut tx = cx.db().begin().await?;
    let found = ports::get(&mut tx, id).await?.ok_or_else(not_found)?;
    // The network's lock before the port's: the order in which everybody takes them.
    let network = networks::lock(&mut tx, &found.network_id).await?;
    let port = ports::lock(&mut tx, id).await?;
    let input = collection::input::<Update>(cx, NAMES)?;
    let device_owner = input.body.device_owner.as_deref().unwrap_or_default();
    let target = logic::target(&port.project_id, &network, device_owner);
    collection::authorize(cx, "get_port", &target, not_found)?;
    collection::expect_revision(cx, port.meta.revision)?;
    collection::authorize_attributes(cx, "update_port", &input.attributes, &target)?;
    let addresses = input.body.fixed_ips.clone().map(Option::unwrap_or_default);
    authorize_addresses(cx, "update_port", addresses.as_deref().unwrap_or_default(), &target)?;
    let after = logic::updated(&port, &input.body)?;
    if after.qos_policy_id != port.qos_policy_id {
        crate::qos::expect_visible(cx, &mut tx, after.qos_policy_id.as_deref()).await?;
    }
    if after.security_groups != port.security_groups {
        expect_groups_visible(cx, &mut tx, &after.security_groups).await?;
        ports::set_security_groups(&mut tx, &port, &after.security_groups).await?;
    }
    if let Some(addresses) = addresses {
        ports::set_addresses(&mut tx, &port, &logic::requested(&addresses)?).await?;
    }
    ports::update(&mut tx, &after).await?;
    let after = ports::lock(&mut tx, id).await?;
    let beside = beside(&mut tx, std::slice::from_ref(&after)).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, NAMES.singular, shape(&after, &beside, sees_binding(cx)))
}

/// `DELETE /ports/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let not_found = || ports::not_found(id);
    let mut tx = cx.db().begin().await?;
    let port = ports::get(&mut tx, id).await?.ok_or_else(not_found)?;
    let network = networks::lock(&mut tx, &port.network_id).await?;
    let target = logic::target(&port.project_id, &network, &port.device_owner);
    collection::authorize(cx, "get_port", &target, not_found)?;
    collection::expect_revision(cx, port.meta.revision)?;
    logic::expect_deletable(&port)?;
    if trunks::has(&mut tx, &port.id).await? {
        return Err(Error::conflict(
            "PortInUseAsTrunkParent",
            format!("Port {} is currently a trunk's port or subport.", port.id),
        ));
    }
    ports::delete(&mut tx, &port.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// What ports show that other tables hold.
async fn beside(conn: &mut Conn, rows: &[Port]) -> Result<Beside> {
    let mut networks: Vec<&str> = rows.iter().map(|port| port.network_id.as_str()).collect();
    networks.sort_unstable();
    networks.dedup();
    let found = networks::by_ids(conn, &networks).await?;
    let own = |network: &networks::Network| network.id.as_str().to_owned();
    let domain = |network: &networks::Network| network.dns_domain.trim_end_matches('.').to_owned();
    let ids: Vec<&PortId> = rows.iter().map(|port| &port.id).collect();
    let trunks = trunks::of_ports(conn, &ids).await?;
    let trunk_ids: Vec<&str> = trunks.iter().map(|trunk| trunk.standard.id.as_str()).collect();
    let carried = trunks::subports(conn, &trunk_ids).await?;
    let subports: Vec<&PortId> = carried.values().flatten().map(|subport| &subport.port_id).collect();
    let carried_ports = ports::by_ids(conn, &subports).await?;
    let details = |trunk: &Trunk| {
        let all = carried.get(&trunk.standard.id).map(Vec::as_slice).unwrap_or_default();
        wire::trunk_details(trunk, all, &carried_ports)
    };
    Ok(Beside {
        network_policies: found.iter().filter_map(|n| Some((own(n), n.qos_policy_id.clone()?))).collect(),
        domains: found.iter().filter(|n| !n.dns_domain.is_empty()).map(|n| (own(n), domain(n))).collect(),
        trunks: trunks.iter().map(|trunk| (trunk.port_id.as_str().to_owned(), details(trunk))).collect(),
    })
}

fn sees_binding(cx: &Cx) -> bool {
    cx.can("get_port:binding:host_id", &Target::none())
}
