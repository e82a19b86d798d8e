//! Port forwardings: single ports of floating IPs that lead to guests.

use std::net::IpAddr;

use model::{Error, Result, id::PortId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Tx,
    list::{Direction, SortKey, Type},
    network::{
        floating_ips::{self, FloatingIp},
        plain,
        port_forwardings::{self, PortForwarding},
        ports,
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, invalid, text};

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "r.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("protocol", "r.protocol"),
        Filter::number("external_port", "r.external_port"),
        Filter::exact("internal_port_id", "r.internal_port_id"),
        Filter::exact("description", "r.description"),
    ],
};

impl Shown for PortForwarding {
    const NAMES: Names = Names { singular: "port_forwarding", plural: "port_forwardings" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_floatingip_port_forwarding";

    fn not_found(id: &str) -> Error {
        Error::not_found("PortForwardingNotFound", format!("Port Forwarding {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let shape = json!({
            "id": self.standard.id,
            "description": self.standard.description,
            "protocol": self.protocol,
            "external_port": self.external_port,
            "external_port_range": format!("{0}:{0}", self.external_port),
            "internal_port": self.internal_port,
            "internal_port_range": format!("{0}:{0}", self.internal_port),
            "internal_port_id": self.internal_port_id,
            "internal_ip_address": self.internal_ip_address,
        });
        match shape {
            Value::Object(shape) => shape,
            _ => Shape::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    description: Option<String>,
    protocol: Option<String>,
    external_port: Option<i64>,
    internal_port: Option<i64>,
    internal_port_id: Option<String>,
    internal_ip_address: Option<String>,
}

/// The floating IP of the path, locked, once the caller may do to its forwardings what the route does.
async fn owner(cx: &Cx, tx: &mut Tx) -> Result<FloatingIp> {
    let floating_ip = floating_ips::lock(tx, cx.param("floatingip_id")).await?;
    let target = Target::project(&floating_ip.project_id);
    collection::authorize(cx, "get_floatingip", &target, || floating_ips::not_found(&floating_ip.id))?;
    Ok(floating_ip)
}

async fn found(cx: &Cx, tx: &mut Tx, floating_ip: &FloatingIp) -> Result<PortForwarding> {
    let id = cx.param("id");
    let item: Option<PortForwarding> = plain::lock(tx, id).await?;
    item.filter(|item| item.floating_ip_id == floating_ip.id).ok_or_else(|| PortForwarding::not_found(id))
}

/// `GET /floatingips/{floatingip_id}/port_forwardings`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let floating_ip = owner(cx, &mut tx).await?;
    let mut select = plain::select::<PortForwarding>(&store::network::Viewer::Admin);
    select.equal("r.floating_ip_id", &floating_ip.id);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let rows: Vec<PortForwarding> = plain::list(&mut tx, select, &page).await?;
    collection::page(cx, PortForwarding::NAMES.plural, &page, rows.iter().map(Shown::shape).collect())
}

/// `GET /floatingips/{floatingip_id}/port_forwardings/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let floating_ip = owner(cx, &mut tx).await?;
    let item = found(cx, &mut tx, &floating_ip).await?;
    collection::one(cx, StatusCode::OK, PortForwarding::NAMES.singular, item.shape())
}

/// `POST /floatingips/{floatingip_id}/port_forwardings`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let floating_ip = owner(cx, &mut tx).await?;
    let body = collection::input::<Body>(cx, PortForwarding::NAMES)?.body;
    let port = body.internal_port_id.as_deref().ok_or_else(|| collection::missing("internal_port_id"))?;
    let mut item = PortForwarding {
        standard: collection::fresh(&floating_ip.project_id, None, body.description.as_deref())?,
        floating_ip_id: floating_ip.id.clone(),
        protocol: String::new(),
        external_port: 0,
        internal_port_id: PortId::new(port),
        internal_ip_address: IpAddr::from([0; 4]),
        internal_port: 0,
    };
    change(cx, &mut tx, &mut item, &body).await?;
    port_forwardings::put(&mut tx, &floating_ip, &mut item).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, PortForwarding::NAMES.singular, item.shape())
}

/// `PUT /floatingips/{floatingip_id}/port_forwardings/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let floating_ip = owner(cx, &mut tx).await?;
    let mut item = found(cx, &mut tx, &floating_ip).await?;
    let body = collection::input::<Body>(cx, PortForwarding::NAMES)?.body;
    change(cx, &mut tx, &mut item, &body).await?;
    port_forwardings::put(&mut tx, &floating_ip, &mut item).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, PortForwarding::NAMES.singular, item.shape())
}

/// Makes the forwarding what the request says. A port without a certain address lends its only IPv4 one.
async fn change(cx: &Cx, tx: &mut Tx, item: &mut PortForwarding, body: &Body) -> Result<()> {
    if let Some(description) = &body.description {
        text("description", description)?;
        item.standard.description.clone_from(description);
    }
    if let Some(protocol) = &body.protocol {
        item.protocol = protocol.to_lowercase();
    }
    if !["tcp", "udp"].contains(&item.protocol.as_str()) {
        return Err(invalid("protocol is tcp or udp"));
    }
    item.external_port = body.external_port.unwrap_or(item.external_port);
    item.internal_port = body.internal_port.unwrap_or(item.internal_port);
    if ![item.external_port, item.internal_port].iter().all(|port| (1..=65_535).contains(port)) {
        return Err(invalid("external_port and internal_port must be 1 to 65535"));
    }
    if let Some(id) = &body.internal_port_id {
        item.internal_port_id = PortId::new(id.as_str());
    }
    let not_found = || ports::not_found(&item.internal_port_id);
    let port = ports::get(tx, &item.internal_port_id).await?.ok_or_else(not_found)?;
    if !cx.can("get_port", &Target::project(&port.project_id)) {
        return Err(not_found());
    }
    let four: Vec<IpAddr> = port.fixed_ips.iter().map(|ip| ip.ip).filter(IpAddr::is_ipv4).collect();
    match (&body.internal_ip_address, four.as_slice()) {
        (Some(given), _) => {
            item.internal_ip_address = given.parse().map_err(|_| invalid(format!("'{given}' is no IP address")))?;
        }
        (None, _) if four.contains(&item.internal_ip_address) => {}
        (None, [only]) => item.internal_ip_address = *only,
        (None, _) => return Err(invalid("the port has several IPv4 addresses or none: name internal_ip_address")),
    }
    Ok(())
}

/// `DELETE /floatingips/{floatingip_id}/port_forwardings/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let floating_ip = owner(cx, &mut tx).await?;
    let item = found(cx, &mut tx, &floating_ip).await?;
    port_forwardings::remove(&mut tx, &item).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
