//! `/servers/{id}/os-interface`: network interfaces, plugged and unplugged while the guest runs.

use model::{
    Error, Result,
    id::{PortId, ProjectId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Tx,
    compute::{
        server_ports,
        servers::{self, Server},
    },
    flows,
    network::{
        networks as network_rows,
        ports::{self, Port},
    },
};
use web::{Cx, Reply, Version};

use crate::{
    input::invalid,
    servers::{action, api, logic, logic::legal, networks},
};

/// `GET`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    let mut shown = Vec::new();
    for attachment in server_ports::list(&mut conn, &server.id).await? {
        if let Some(port) = ports::get(&mut conn, &attachment.port_id).await? {
            shown.push(shape(cx, &port, attachment.tag.as_deref()));
        }
    }
    Reply::ok(&json!({ "interfaceAttachments": shown }))
}

/// `GET .../{port_id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = api::load(cx, &mut conn).await?;
    let id = PortId::new(cx.param("port_id"));
    let attachments = server_ports::list(&mut conn, &server.id).await?;
    let attachment = attachments.iter().find(|a| a.port_id == id);
    match (attachment, ports::get(&mut conn, &id).await?) {
        (Some(attachment), Some(port)) => {
            Reply::ok(&json!({"interfaceAttachment": shape(cx, &port, attachment.tag.as_deref())}))
        }
        _ => {
            let message = format!("Instance {} does not have a port with id {id}", server.id);
            Err(Error::not_found("PortNotFound", message))
        }
    }
}

fn shape(cx: &Cx, port: &Port, tag: Option<&str>) -> Value {
    let fixed_ips: Vec<Value> =
        port.fixed_ips.iter().map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.ip})).collect();
    let mut shown = json!({
        "port_id": port.id, "net_id": port.network_id, "mac_addr": port.mac.to_string(), "port_state": port.status,
        "fixed_ips": fixed_ips,
    });
    if cx.version >= Version(2, 70) {
        shown["tag"] = json!(tag);
    }
    shown
}

/// The interface that is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    port_id: Option<String>,
    net_id: Option<String>,
    #[serde(default)]
    fixed_ips: Vec<WantedIp>,
    tag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedIp {
    ip_address: String,
}

impl Wanted {
    fn read(cx: &Cx) -> Result<Self> {
        let wanted: Self = if cx.bytes().is_empty() { Self::default() } else { cx.json_in("interfaceAttachment")? };
        if wanted.tag.is_some() && cx.version < Version(2, 49) {
            return Err(invalid("Additional properties are not allowed ('tag' was unexpected)"));
        }
        let refuse = |message| Err(Error::bad_request("InvalidInput", message));
        match (&wanted.port_id, &wanted.net_id, wanted.fixed_ips.len()) {
            (Some(_), Some(_), _) => refuse("Must not input both network_id and port_id"),
            (_, None, 1..) => refuse("Must input network_id when request IP address"),
            (_, _, 2..) => refuse("At most one fixed IP can be given"),
            _ => Ok(wanted),
        }
    }
}

/// `POST`: the interface is there at once, and carries packets as soon as its `port_state` says `ACTIVE`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let wanted = Wanted::read(cx)?;
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal::ATTACH)?;
    let plan = plan(cx, &mut tx, &server.project_id, &wanted).await?;
    let position = server_ports::list(&mut tx, &server.id).await?.iter().map(|p| p.position + 1).max().unwrap_or(0);
    let host = server.host.clone();
    let (host_name, zone) = host.as_ref().map_or(("", "nova"), |h| (h.name.as_str(), h.zone.as_str()));
    let project = server.project_id.clone();
    let port = networks::attach(&mut tx, (&project, &server.id), &plan, None, (position, host_name, zone)).await?;
    touch(cx, &mut tx, &mut server, "attach_interface", "compute_attach_interface").await?;
    let port = ports::get(&mut tx, &port).await?.ok_or_else(|| ports::not_found(&port))?;
    tx.commit().await?;
    Reply::ok(&json!({"interfaceAttachment": shape(cx, &port, wanted.tag.as_deref())}))
}

async fn plan(cx: &Cx, tx: &mut Tx, project: &ProjectId, wanted: &Wanted) -> Result<networks::Plan> {
    if let Some(port) = &wanted.port_id {
        let port = PortId::new(port.clone());
        if ports::get(tx, &port).await?.is_none_or(|p| p.project_id != *project) {
            return Err(Error::not_found("PortNotFound", format!("Port id {port} could not be found.")));
        }
        networks::expect_usable_port(tx, project, &port).await?;
        return Ok(networks::Plan::port(port, wanted.tag.clone()));
    }
    let network = match &wanted.net_id {
        Some(id) => networks::expect_usable(cx, tx, project, id).await?.id,
        None => match network_rows::usable_by(tx, project).await?.as_slice() {
            [only] => only.id.clone(),
            [] => {
                return Err(Error::bad_request(
                    "InterfaceAttachFailedNoNetwork",
                    "No specific network was requested and none are available for the project.",
                ));
            }
            _ => {
                return Err(Error::bad_request(
                    "NetworkAmbiguous",
                    "Multiple possible networks found, use a Network ID to be more specific.",
                ));
            }
        },
    };
    let ip = wanted.fixed_ips.first().map(|ip| networks::parse_ip(&ip.ip_address)).transpose()?;
    Ok(networks::Plan::on(network, ip, wanted.tag.clone()))
}

/// `DELETE .../{port_id}`: the port goes when the host has unplugged it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal::DETACH)?;
    let id = PortId::new(cx.param("port_id"));
    let attachments = server_ports::list(&mut tx, &server.id).await?;
    let attachment = attachments.iter().find(|a| a.port_id == id);
    let attachment =
        attachment.ok_or_else(|| Error::not_found("PortNotFound", format!("Port id {id} could not be found.")))?;
    if !attachment.detach {
        server_ports::set_detach(&mut tx, &server.id, &id).await?;
        touch(cx, &mut tx, &mut server, "detach_interface", "compute_detach_interface").await?;
    }
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// The host is to be told.
async fn touch(cx: &Cx, tx: &mut Tx, server: &mut Server, name: &str, event: &str) -> Result<()> {
    server.wanted.generation += 1;
    server.updated_at = tx.now();
    servers::update(tx, server).await?;
    action::begin(cx, tx, server, name, event).await?;
    flows::wake(tx, &server.id);
    Ok(())
}
