//! How a router comes into OVN: a logical router with all its ports, SNAT and routes.

use flow::{BoxFuture, StepCx};
use model::{Result, id::RouterId};
use store::{
    Conn, Tx,
    network::{
        Meta, chassis, networks,
        ports::{self, Port},
        routers::{self, Router},
        rows::{HANDED_OVER, Table},
        subnets,
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Routers.
pub(crate) struct Routers(pub(crate) Engine);

/// A router with its ports, also those that are to go.
pub(crate) struct Wired {
    router: Router,
    ports: Vec<Port>,
}

impl Routers {
    async fn attempt(&self, cx: &StepCx, row: &Wired) -> Result<Outcome> {
        let mut conn = cx.db().read().await?;
        let wanted: Vec<Port> = row.ports.iter().filter(|port| !port.meta.deleted).cloned().collect();
        let mut connected = Vec::with_capacity(wanted.len());
        for port in &wanted {
            match networks::find(&mut conn, &port.network_id).await? {
                Some(network) if network.meta.exists_in_ovn() => connected.push(network),
                _ => return Ok(Outcome::Waits(format!("waits for network {}", port.network_id))),
            }
        }
        let ids: Vec<_> = wanted.iter().flat_map(|p| &p.fixed_ips).map(|ip| &ip.subnet_id).collect();
        let subnets = subnets::by_ids(&mut conn, &ids).await?;
        let chassis = chassis::list(&mut conn).await?;
        drop(conn);
        let spec = logic::spec(&row.router, &wanted, (&connected, &subnets), &chassis);
        Outcome::of(self.0.ensure_router(&spec).await)
    }
}

impl Resource for Routers {
    type Row = Wired;
    const KIND: &'static str = routers::FLOW.0;
    const TABLE: Table = Table::Routers;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<Wired>>> {
        Box::pin(async move {
            let Some(router) = routers::find(conn, id).await? else { return Ok(None) };
            let mut ports = ports::of_router(conn, id).await?;
            // These are still in OVN as what they were; their own flow wakes this one when they are not.
            ports.retain(|port| port.meta.realized_revision != HANDED_OVER);
            Ok(Some(Wired { router, ports }))
        })
    }

    fn meta(row: &Wired) -> &Meta {
        &row.router.meta
    }

    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a Wired) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.attempt(cx, row))
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a Wired) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(routers::set_realized(tx, &row.router, &row.ports).await?) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.0.remove_router(&RouterId::new(id)).await })
    }
}
