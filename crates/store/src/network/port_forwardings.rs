//! Table `port_forwardings`: single ports of floating IPs that lead to guests.

use std::net::IpAddr;

use model::{
    Error,
    id::{FloatingIpId, PortId, RouterId},
};

use super::{
    Viewer, address, floating_ips,
    plain::{self, Column, Plain, Standard},
    ports,
    rows::{self, Table},
};
use crate::{Conn, Result, Row, RowExt, Tx, query};

/// A port of a floating IP.
#[derive(Clone, Debug, PartialEq)]
pub struct PortForwarding {
    /// What all such tables have.
    pub standard: Standard,
    /// The floating IP.
    pub floating_ip_id: FloatingIpId,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port outside.
    pub external_port: i64,
    /// The guest's network port.
    pub internal_port_id: PortId,
    /// The address of it.
    pub internal_ip_address: IpAddr,
    /// The port inside.
    pub internal_port: i64,
}

impl Plain for PortForwarding {
    const TABLE: &'static str = "port_forwardings";
    const SELECT: &'static str = "select r.* from port_forwardings r";
    const FROM: &'static str = "port_forwardings r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self {
            standard,
            floating_ip_id: row.id("floating_ip_id")?,
            protocol: row.text("protocol")?,
            external_port: row.int("external_port")?,
            internal_port_id: row.id("internal_port_id")?,
            internal_ip_address: address(row, "internal_ip_address")?,
            internal_port: row.int("internal_port")?,
        })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![
            ("floating_ip_id", self.floating_ip_id.as_str().into()),
            ("protocol", self.protocol.as_str().into()),
            ("external_port", self.external_port.into()),
            ("internal_port_id", self.internal_port_id.as_str().into()),
            ("internal_ip_address", self.internal_ip_address.to_string().into()),
            ("internal_port", self.internal_port.into()),
        ]
    }
}

/// Those of several floating IPs.
pub async fn of(conn: &mut Conn, floating_ips: &[&FloatingIpId]) -> Result<Vec<PortForwarding>> {
    if floating_ips.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = plain::select::<PortForwarding>(&Viewer::Admin);
    select.any_of("r.floating_ip_id", floating_ips.iter().map(|id| (*id).into()));
    plain::all(conn, select).await
}

/// Writes a forwarding of a locked floating IP; the router that translates becomes the floating IP's.
///
/// # Errors
/// `FloatingIPInUse` while it leads to a port as a whole; `ExternalGatewayForFloatingIPNotFound`; a port outside that is
/// taken; bad request for an address that the port does not have.
pub async fn put(tx: &mut Tx, floating_ip: &floating_ips::FloatingIp, item: &mut PortForwarding) -> Result<(), Error> {
    if floating_ip.target.is_some() {
        return Err(Error::conflict(
            "FloatingIPInUse",
            format!("Floating IP {} leads to a port as a whole and can't forward single ports.", floating_ip.id),
        ));
    }
    let port = ports::lock(tx, &item.internal_port_id).await?;
    let held = port.fixed_ips.iter().find(|ip| ip.ip == item.internal_ip_address);
    let held = held.ok_or_else(|| {
        Error::bad_request(
            "BadRequest",
            format!(
                "Bad port_forwarding request: Port {} does not have address {}.",
                port.id, item.internal_ip_address
            ),
        )
    })?;
    let router = floating_ips::router_to(tx, &held.subnet_id, floating_ip, &port.id).await?;
    let others = of(tx, &[&floating_ip.id]).await?;
    let other = others.iter().find(|other| other.standard.id != item.standard.id);
    if other.is_some() && floating_ip.router_id.as_ref().is_some_and(|now| *now != router) {
        return Err(Error::conflict(
            "FloatingIPInUse",
            format!("Floating IP {} forwards through router {:?} already.", floating_ip.id, floating_ip.router_id),
        ));
    }
    let known = plain::get::<PortForwarding>(tx, &item.standard.id).await?.is_some();
    let written = if known { plain::update(tx, item).await } else { plain::insert(tx, item).await };
    match written {
        Err(error) if error.is_unique_violation() => {
            return Err(Error::conflict(
                "DuplicatePortForwarding",
                format!("Floating IP {} forwards port {} already.", floating_ip.id, item.external_port),
            ));
        }
        other => other?,
    }
    Ok(set_router(tx, &floating_ip.id, Some(&router)).await?)
}

/// Removes a forwarding.
pub async fn remove(tx: &mut Tx, item: &PortForwarding) -> Result<()> {
    plain::delete::<PortForwarding>(tx, &item.standard.id).await?;
    if of(tx, &[&item.floating_ip_id]).await?.is_empty() {
        return set_router(tx, &item.floating_ip_id, None).await;
    }
    rows::touch(tx, Table::FloatingIps, item.floating_ip_id.as_str()).await
}

async fn set_router(tx: &mut Tx, id: &FloatingIpId, router: Option<&RouterId>) -> Result<()> {
    query("update floating_ips set router_id = $2 where id = $1 and port_id is null")
        .bind(id.as_str())
        .bind(router.map(|router| router.as_str()))
        .execute(&mut **tx)
        .await?;
    rows::touch(tx, Table::FloatingIps, id.as_str()).await
}

/// Removes those that lead to a port: it goes, or loses the address.
pub(super) async fn remove_of_port(tx: &mut Tx, port: &PortId, address: Option<IpAddr>) -> Result<()> {
    let mut select = plain::select::<PortForwarding>(&Viewer::Admin);
    select.equal("r.internal_port_id", port);
    for item in plain::all::<PortForwarding>(tx, select).await? {
        if address.is_none_or(|ip| ip == item.internal_ip_address) {
            remove(tx, &item).await?;
        }
    }
    Ok(())
}
