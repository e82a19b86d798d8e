//! Rows against OVN's northbound database, both ways.
//!
//! What a row says OVN holds and OVN does not, is realized anew; what carries Nacre's mark in OVN and has no row, is
//! removed. If OVN lost its database, everything comes back this way. `doctor` reports the same differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drivers::network::{Northbound, Owned, OwnedKind};
use flow::{BoxFuture, Done, Flow, Machine, Next, StepCx, StepInfo};
use futures_util::StreamExt as _;
use model::{
    Result,
    doctor::Finding,
    id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SubnetId},
};
use store::{
    Conn, Db,
    network::{
        audit::{self, Held},
        rows::{self, Table},
    },
};

use crate::realize::Engine;

/// The id of the sweep's flow: waking it compares at once.
pub const FLOW: (&str, &str) = ("network-sweep", "compare");
/// How often it compares unasked.
const PAUSE: Duration = Duration::from_secs(120);
const STEPS: &[StepInfo] = &[StepInfo::new("compare", "compares rows with OVN, both ways, and repairs", &[])];

/// Makes sure that the sweep runs: at each start of a server.
///
/// # Errors
/// The database's.
pub async fn ensure_sweep(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    store::flows::ensure(&mut tx, FLOW.0, FLOW.0, FLOW.1).await?;
    flow::wake(&mut tx, FLOW.0);
    Ok(tx.commit().await?)
}

/// Lets the sweep compare whenever OVN's database is not the one it was: lost, restored, made anew. Runs for ever.
pub async fn follow_resets(db: Db, northbound: Arc<dyn Northbound>) {
    let mut resets = northbound.watch_resets();
    while resets.next().await.is_some() {
        if let Err(error) = ensure_sweep(&db).await {
            tracing::warn!(%error, "the sweep was not woken; its own time will come");
        }
    }
}

/// Something on one side only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// A row says that OVN holds it, and OVN does not.
    Missing(OwnedKind, String),
    /// OVN holds it, and there is no row.
    Foreign(OwnedKind, String),
}

/// The sweep.
pub(crate) struct Sweep(pub(crate) Engine);

impl Machine for Sweep {
    fn kind(&self) -> &'static str {
        FLOW.0
    }

    fn steps(&self) -> &'static [StepInfo] {
        STEPS
    }

    fn run<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(self.compare(cx))
    }

    fn expired<'a>(&'a self, cx: &'a StepCx, _flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(self.compare(cx))
    }
}

impl Sweep {
    async fn compare(&self, cx: &StepCx) -> Result<Done> {
        let differences = compare(cx.db(), &*self.0).await?;
        for difference in &differences {
            tracing::warn!(?difference, "rows and OVN differ");
            if let Difference::Foreign(kind, id) = difference {
                remove(&*self.0, *kind, id).await?;
            }
        }
        let mut tx = cx.begin().await?;
        for difference in &differences {
            if let Difference::Missing(kind, id) = difference {
                audit::unrealize(&mut tx, table_of(*kind), id).await?;
            }
        }
        cx.finish(tx, Next::wait("compares again").for_(PAUSE)).await
    }
}

/// Everything that differs. OVN is read first: what is made meanwhile then has a row already.
async fn compare(db: &Db, northbound: &dyn Northbound) -> Result<Vec<Difference>> {
    let owned = northbound.inventory().await?;
    let held = audit::held(&mut *db.read().await?).await?;
    Ok(differences(&held, &owned))
}

fn differences(held: &[Held], owned: &[Owned]) -> Vec<Difference> {
    let key = |held: &Held| (kind_of(held), held.id.clone());
    let rows: BTreeMap<(OwnedKind, String), &Held> = held.iter().map(|h| (key(h), h)).collect();
    let there: BTreeSet<(OwnedKind, String)> = owned.iter().map(|o| (o.kind, o.nacre_id.clone())).collect();
    let missing = rows
        .iter()
        .filter(|(key, row)| row.expected && !there.contains(*key))
        .map(|((kind, id), _)| Difference::Missing(*kind, id.clone()));
    let foreign =
        there.iter().filter(|key| !rows.contains_key(*key)).map(|(kind, id)| Difference::Foreign(*kind, id.clone()));
    let mut all: Vec<Difference> = missing.chain(foreign).collect();
    all.sort_unstable();
    all
}

fn kind_of(held: &Held) -> OwnedKind {
    match held.table {
        Table::Networks => OwnedKind::Network,
        Table::Subnets => OwnedKind::Subnet,
        Table::Ports if held.of_router => OwnedKind::RouterPort,
        Table::Ports => OwnedKind::Port,
        Table::Routers => OwnedKind::Router,
        Table::FloatingIps => OwnedKind::FloatingIp,
        Table::SecurityGroups => OwnedKind::SecurityGroup,
    }
}

fn table_of(kind: OwnedKind) -> Table {
    match kind {
        OwnedKind::Network | OwnedKind::Dns => Table::Networks,
        OwnedKind::Subnet => Table::Subnets,
        OwnedKind::Port | OwnedKind::RouterPort => Table::Ports,
        OwnedKind::Router => Table::Routers,
        OwnedKind::FloatingIp => Table::FloatingIps,
        OwnedKind::SecurityGroup => Table::SecurityGroups,
    }
}

async fn remove(northbound: &dyn Northbound, kind: OwnedKind, id: &str) -> Result<()> {
    match kind {
        OwnedKind::Network => northbound.remove_network(&NetworkId::new(id)).await?,
        OwnedKind::Subnet => northbound.remove_subnet_dhcp(&SubnetId::new(id)).await?,
        OwnedKind::Port => northbound.remove_port(&PortId::new(id)).await?,
        OwnedKind::Router => northbound.remove_router(&RouterId::new(id)).await?,
        OwnedKind::FloatingIp => northbound.remove_floating_ip(&FloatingIpId::new(id)).await?,
        OwnedKind::SecurityGroup => northbound.remove_security_group(&SecurityGroupId::new(id)).await?,
        OwnedKind::Dns => northbound.remove_dns(&NetworkId::new(id)).await?,
        // Goes with its router, or when its router is next realized.
        OwnedKind::RouterPort => {}
    }
    Ok(())
}

/// What the doctor finds: rows and OVN that differ, quotas that don't count what is there, rows without a flow.
///
/// # Errors
/// OVN or the database can't be asked.
pub async fn doctor(db: &Db, northbound: &dyn Northbound) -> Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = compare(db, northbound)
        .await?
        .into_iter()
        .map(|difference| match difference {
            Difference::Missing(kind, id) => {
                Finding::new("ovn", format!("{kind} {id}"), "has a row that OVN does not hold")
            }
            Difference::Foreign(kind, id) => Finding::new("ovn", format!("{kind} {id}"), "is in OVN and has no row"),
        })
        .collect();
    let mut conn = db.read().await?;
    findings.extend(audit::quota_drift(&mut conn).await?);
    findings.extend(without_flow(&mut conn).await?);
    Ok(findings)
}

/// Repairs what [`doctor`] finds. What differs from OVN is the sweep's to repair, at once.
///
/// # Errors
/// The database's.
pub async fn repair(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    audit::recount_quotas(&mut tx).await?;
    audit::ensure_flows(&mut tx).await?;
    tx.commit().await?;
    ensure_sweep(db).await
}

async fn without_flow(conn: &mut Conn) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for table in Table::ALL {
        for id in rows::without_flow(conn, table).await? {
            findings.push(Finding::new("flow", id, format!("a row of {} has no flow", table.name())));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(table: Table, id: &str, expected: bool, of_router: bool) -> Held {
        Held { table, id: id.into(), expected, of_router }
    }

    fn owned(kind: OwnedKind, id: &str) -> Owned {
        Owned { kind, nacre_id: id.into(), row: model::id::random_uuid() }
    }

    #[test]
    fn both_ways() {
        let rows = [
            held(Table::Networks, "both", true, false),
            held(Table::Networks, "lost", true, false),
            held(Table::Networks, "not yet", false, false),
            held(Table::Ports, "router's", true, true),
            held(Table::FloatingIps, "going", false, false),
        ];
        let ovn = [
            owned(OwnedKind::Network, "both"),
            owned(OwnedKind::RouterPort, "router's"),
            owned(OwnedKind::FloatingIp, "going"),
            owned(OwnedKind::SecurityGroup, "stranger"),
        ];
        assert_eq!(
            differences(&rows, &ovn),
            [
                Difference::Missing(OwnedKind::Network, "lost".into()),
                Difference::Foreign(OwnedKind::SecurityGroup, "stranger".into()),
            ]
        );
    }
}
