//! How a floating IP comes into OVN: a translation on its router. One that leads nowhere has nothing there.

use flow::{BoxFuture, StepCx};
use model::{Result, id::FloatingIpId};
use store::{
    Conn, Tx,
    network::{
        Meta,
        floating_ips::{self, FloatingIp},
        ports, routers,
        rows::{self, Table},
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Floating IPs.
pub(crate) struct FloatingIps {
    pub(crate) engine: Engine,
    /// Whether the guest's own host translates: it must be connected to the external network.
    pub(crate) distributed: bool,
}

impl FloatingIps {
    async fn attempt(&self, cx: &StepCx, floating_ip: &FloatingIp) -> Result<Outcome> {
        let Some(router_id) = &floating_ip.router_id else {
            return Outcome::of(self.engine.remove_floating_ip(&floating_ip.id).await);
        };
        let mut conn = cx.db().read().await?;
        let router = routers::find(&mut conn, router_id).await?;
        if !router.is_some_and(|r| r.meta.exists_in_ovn()) {
            return Ok(Outcome::Waits(format!("waits for router {router_id}")));
        }
        let own = ports::find(&mut conn, &floating_ip.floating_port_id).await?;
        drop(conn);
        let own_mac = own.filter(|_| self.distributed).map(|port| port.mac);
        Outcome::of(match logic::spec(floating_ip, own_mac) {
            Some(spec) => self.engine.ensure_floating_ip(&spec).await,
            None => self.engine.remove_floating_ip(&floating_ip.id).await,
        })
    }
}

impl Resource for FloatingIps {
    type Row = FloatingIp;
    const KIND: &'static str = floating_ips::FLOW.0;
    const TABLE: Table = Table::FloatingIps;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<FloatingIp>>> {
        Box::pin(async move { Ok(floating_ips::find(conn, id).await?) })
    }

    fn meta(row: &FloatingIp) -> &Meta {
        &row.meta
    }

    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a FloatingIp) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.attempt(cx, row))
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a FloatingIp) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            rows::set_realized(tx, Table::FloatingIps, row.id.as_str(), row.meta.revision).await?;
            // Only while it still leads there: the status of a newer target is for the next run to tell.
            let status = if row.router_id.is_some() { "ACTIVE" } else { "DOWN" };
            Ok(floating_ips::set_status_as_of(tx, &row.id, row.meta.revision, status).await?)
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.engine.remove_floating_ip(&FloatingIpId::new(id)).await })
    }
}
