//! How a security group comes into OVN: a port group with an ACL for each rule.

use flow::{BoxFuture, StepCx};
use model::{Result, id::SecurityGroupId};
use store::{
    Conn, Tx,
    network::{
        Meta, address_groups, ports,
        rows::{self, Table},
        security_groups::{self, SecurityGroup},
    },
};

use super::logic;
use crate::realize::{Engine, Outcome, Resource};

/// Security groups.
pub(crate) struct SecurityGroups(pub(crate) Engine);

impl Resource for SecurityGroups {
    type Row = SecurityGroup;
    const KIND: &'static str = security_groups::FLOW.0;
    const TABLE: Table = Table::SecurityGroups;

    fn find<'a>(conn: &'a mut Conn, id: &'a str) -> BoxFuture<'a, Result<Option<SecurityGroup>>> {
        Box::pin(async move { Ok(security_groups::find(conn, id).await?) })
    }

    fn meta(row: &SecurityGroup) -> &Meta {
        &row.meta
    }

    fn realize<'a>(&'a self, cx: &'a StepCx, row: &'a SecurityGroup) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let ids: Vec<&str> = row.rules.iter().filter_map(|r| r.remote_address_group_id.as_deref()).collect();
            let addresses = address_groups::by_ids(&mut *cx.db().read().await?, &ids).await?;
            Outcome::of(self.0.ensure_security_group(&logic::spec(row, &addresses)).await)
        })
    }

    fn realized<'a>(&'a self, tx: &'a mut Tx, row: &'a SecurityGroup) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            rows::set_realized(tx, Table::SecurityGroups, row.id.as_str(), row.meta.revision).await?;
            if !row.meta.exists_in_ovn() {
                ports::wake_with_group(tx, &row.id).await?;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, drivers::network::Result<()>> {
        Box::pin(async move { self.0.remove_security_group(&SecurityGroupId::new(id)).await })
    }
}
