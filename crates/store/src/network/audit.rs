//! What the sweep and the doctor compare: rows that OVN should hold, and quota against what is there.

use model::doctor::Finding;

use super::rows::Table;
use crate::{Conn, Result, RowExt, Tx, flows, query, quotas};

/// How each quota is counted; ports of nobody and metadata ports cost nothing.
const COUNTS: &[(&str, &str)] = &[
    (
        "network",
        "select project_id, count(*) as used from networks where deleted_at is null and project_id <> '' group by project_id",
    ),
    (
        "subnet",
        "select project_id, count(*) as used from subnets where deleted_at is null and project_id <> '' group by project_id",
    ),
    (
        "port",
        "select project_id, count(*) as used from ports where deleted_at is null and project_id <> '' \
         and device_owner <> 'network:distributed' group by project_id",
    ),
    (
        "router",
        "select project_id, count(*) as used from routers where deleted_at is null and project_id <> '' group by project_id",
    ),
    (
        "floatingip",
        "select project_id, count(*) as used from floating_ips where deleted_at is null and project_id <> '' group by project_id",
    ),
    (
        "security_group",
        "select project_id, count(*) as used from security_groups where deleted_at is null and project_id <> '' group by project_id",
    ),
    (
        "security_group_rule",
        "select project_id, count(*) as used from security_group_rules where project_id <> '' group by project_id",
    ),
];

/// Quotas whose recorded usage differs from what is there.
pub async fn quota_drift(conn: &mut Conn) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (resource, sql) in COUNTS {
        for (project, recorded, counted) in quotas::drift(conn, resource, sql).await? {
            findings.push(Finding::new(
                "quota",
                format!("{project}/{resource}"),
                format!("the record says {recorded}, the tables hold {counted}"),
            ));
        }
    }
    Ok(findings)
}

/// Records what is there.
pub async fn recount_quotas(tx: &mut Tx) -> Result<()> {
    for (resource, sql) in COUNTS {
        quotas::recount(tx, resource, sql).await?;
    }
    Ok(())
}

/// Gives rows that have none a flow, which realizes them, or ends them where they are deleted.
pub async fn ensure_flows(tx: &mut Tx) -> Result<()> {
    for table in Table::ALL {
        let (kind, first) = match table {
            Table::Networks => super::networks::FLOW,
            Table::Subnets => super::subnets::FLOW,
            Table::Ports => super::ports::FLOW,
            Table::Routers => super::routers::FLOW,
            Table::FloatingIps => super::floating_ips::FLOW,
            Table::SecurityGroups => super::security_groups::FLOW,
        };
        for id in super::rows::without_flow(tx, table).await? {
            flows::ensure(tx, &id, kind, first).await?;
        }
    }
    Ok(())
}

/// A row that OVN may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its table.
    pub table: Table,
    /// Its id.
    pub id: String,
    /// Whether OVN should hold it: the row says so, and is not to go.
    pub expected: bool,
    /// A port that is its router's to realize.
    pub of_router: bool,
}

/// Everything that OVN may hold. Subnets without DHCP, floating IPs that lead nowhere and the ports that hold their
/// addresses are nothing there.
pub async fn held(conn: &mut Conn) -> Result<Vec<Held>> {
    let selects: [(Table, &'static str); 6] = [
        (Table::Networks, "select id, realized_revision, deleted_at, 0 as of_router from networks"),
        (
            Table::Subnets,
            "select id, realized_revision, deleted_at, 0 as of_router from subnets \
             where enable_dhcp = 1 and (ip_version = 4 or ipv6_address_mode in ('dhcpv6-stateful', 'dhcpv6-stateless'))",
        ),
        (
            Table::Ports,
            "select id, realized_revision, deleted_at, case when device_owner in ('network:router_interface', \
             'network:router_gateway') then 1 else 0 end as of_router from ports \
             where device_owner <> 'network:floatingip'",
        ),
        (Table::Routers, "select id, realized_revision, deleted_at, 0 as of_router from routers"),
        (
            Table::FloatingIps,
            "select id, realized_revision, deleted_at, 0 as of_router from floating_ips where router_id is not null",
        ),
        (Table::SecurityGroups, "select id, realized_revision, deleted_at, 0 as of_router from security_groups"),
    ];
    let mut all = Vec::new();
    for (table, sql) in selects {
        for row in query(sql).fetch_all(&mut *conn).await? {
            all.push(Held {
                table,
                id: row.text("id")?,
                expected: row.int("realized_revision")? > 0 && row.opt_int("deleted_at")?.is_none(),
                of_router: row.flag("of_router")?,
            });
        }
    }
    Ok(all)
}

/// Forgets that OVN holds a row, so that what refers to it waits for it again, and wakes who realizes it.
pub async fn unrealize(tx: &mut Tx, table: Table, id: &str) -> Result<()> {
    super::rows::set_realized(tx, table, id, -1).await?;
    flows::wake(tx, id);
    if table == Table::Ports
        && let Some(port) = super::ports::get(tx, id).await?
        && port.is_of_router()
    {
        flows::wake(tx, &port.device_id);
    }
    Ok(())
}
