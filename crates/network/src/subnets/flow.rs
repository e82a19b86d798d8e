//! How a subnet comes into OVN: DHCP options. A subnet without DHCP has nothing there.

use flow::{BoxFuture, StepCx};
use model::{Result, id::SubnetId};
use store::{
    Conn, Tx,
    network::{
        Meta, networks, ports,
        rows::{self, Table},
        subnets::{self, Subnet},
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Subnets.
pub(crate) struct Subnets(pub(crate) Engine);

impl Subnets {
    async fn attempt(&self, cx: &StepCx, subnet: &Subnet) -> Result<Outcome> {
        let mut conn = cx.db().read().await?;
        let Some(network) = networks::find(&mut conn, &subnet.network_id).await? else {
            return Ok(Outcome::Waits("its network is going".to_owned()));
        };
        let metadata = ports::metadata_of(&mut conn, &network.id).await?;
        drop(conn);
        Outcome::of(match logic::spec(subnet, &network, metadata.as_ref()) {
            Some(spec) => self.0.ensure_subnet_dhcp(&spec).await,
            None => self.0.remove_subnet_dhcp(&subnet.id).await,
        })
    }
}

impl Resource for Subnets {
    type Row = Subnet;
    const KIND: &'static str = subnets::FLOW.0;
    const TABLE: Table = Table::Subnets;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<Subnet>>> {
        Box::pin(async move { Ok(subnets::find(conn, id).await?) })
    }

    fn meta(row: &Subnet) -> &Meta {
        &row.meta
    }

    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a Subnet) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.attempt(cx, row))
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a Subnet) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            rows::set_realized(tx, Table::Subnets, row.id.as_str(), row.meta.revision).await?;
            if !row.meta.exists_in_ovn() {
                ports::wake_in_subnet(tx, &row.id).await?;
            } else if !row.meta.is_realized() {
                ports::wake_with_dhcp_options(tx, &row.id).await?;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.0.remove_subnet_dhcp(&SubnetId::new(id)).await })
    }
}
