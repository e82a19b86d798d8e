//! How a network comes into OVN: a logical switch.

use flow::{BoxFuture, StepCx};
use model::{Result, id::NetworkId};
use store::{
    Conn, Tx,
    network::{
        Meta,
        networks::{self, Network},
        rows::{self, Table},
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Networks.
pub(crate) struct Networks(pub(crate) Engine);

impl Resource for Networks {
    type Row = Network;
    const KIND: &'static str = networks::FLOW.0;
    const TABLE: Table = Table::Networks;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<Network>>> {
        Box::pin(async move { Ok(networks::find(conn, id).await?) })
    }

    fn meta(row: &Network) -> &Meta {
        &row.meta
    }

    fn realize<'a>(&'a self, _cx: &'a StepCx, row: &'a Network) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move { Outcome::of(self.0.ensure_network(&logic::spec(row)).await) })
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a Network) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            rows::set_realized(tx, Table::Networks, row.id.as_str(), row.meta.revision).await?;
            let status = if row.admin_state_up { "ACTIVE" } else { "DOWN" };
            rows::set_status(tx, Table::Networks, row.id.as_str(), status).await?;
            if !row.meta.exists_in_ovn() {
                networks::wake_contents(tx, &row.id).await?;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.0.remove_network(&NetworkId::new(id)).await })
    }
}
