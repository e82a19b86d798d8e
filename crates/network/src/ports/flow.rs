//! How a port comes into OVN: a logical switch port. A router's port is its router's to realize.

use drivers::network::PortSpec;
use flow::{BoxFuture, StepCx};
use model::{Result, id::PortId};
use store::{
    Conn, Tx,
    network::{
        Meta, networks,
        ports::{self, Port},
        qos,
        rows::{self, HANDED_OVER, Table},
        security_groups, subnets, trunks,
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Ports.
pub(crate) struct Ports(pub(crate) Engine);

impl Ports {
    async fn attempt(&self, cx: &StepCx, port: &Port) -> Result<Outcome> {
        if port.is_of_router() {
            // A router took it over: as what it was it has to leave before it can come back as what it is.
            return Ok(match Outcome::of(self.0.remove_port(&port.id).await)? {
                Outcome::Realized => Outcome::HandedOver,
                other => other,
            });
        }
        let mut conn = cx.db().read().await?;
        let Some(network) = networks::find(&mut conn, &port.network_id).await? else {
            return Ok(Outcome::Waits("its network is going".to_owned()));
        };
        let ids: Vec<_> = port.fixed_ips.iter().map(|ip| &ip.subnet_id).collect();
        let subnets = subnets::by_ids(&mut conn, &ids).await?;
        let carrier = trunks::carrier(&mut conn, &port.id).await?;
        let policy = port.qos_policy_id.clone().or_else(|| network.qos_policy_id.clone());
        let rules = match policy.filter(|_| !port.device_owner.starts_with("network:")) {
            Some(policy) => qos::rules(&mut conn, &[&policy]).await?,
            None => Vec::new(),
        };
        let spec = PortSpec {
            carrier: carrier.and_then(|(port, tag)| Some((port, u16::try_from(tag).ok()?))),
            qos: rules.iter().filter_map(logic::qos_rule).collect(),
            ..logic::spec(port, &network, &subnets)
        };
        if !network.meta.exists_in_ovn() {
            return Ok(Outcome::Waits(format!("waits for network {}", network.id)));
        }
        // Answers of the port's own contain the subnet's as they are now.
        let there = |meta: &Meta| {
            if spec.dhcp_options.is_empty() { meta.exists_in_ovn() } else { meta.is_realized() }
        };
        if let Some(subnet) = subnets.iter().find(|s| spec.dhcp.contains(&s.id) && !there(&s.meta)) {
            return Ok(Outcome::Waits(format!("waits for subnet {}", subnet.id)));
        }
        if let Some(group) = security_groups::first_not_in_ovn(&mut conn, &spec.security_groups).await? {
            return Ok(Outcome::Waits(format!("waits for security group {group}")));
        }
        drop(conn);
        Outcome::of(self.0.ensure_port(&spec).await)
    }
}

impl Resource for Ports {
    type Row = Port;
    const KIND: &'static str = ports::FLOW.0;
    const TABLE: Table = Table::Ports;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<Port>>> {
        Box::pin(async move { Ok(ports::find(conn, id).await?) })
    }

    fn meta(row: &Port) -> &Meta {
        &row.meta
    }

    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a Port) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.attempt(cx, row))
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a Port) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !row.is_of_router() {
                return Ok(ports::set_realized(tx, row).await?);
            }
            if row.meta.realized_revision == HANDED_OVER {
                rows::set_realized(tx, Table::Ports, row.id.as_str(), -1).await?;
            }
            flow::wake(tx, &row.device_id);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.0.remove_port(&PortId::new(id)).await })
    }
}
