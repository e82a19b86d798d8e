//! What the doctor proves about the tables themselves: quota counts exactly what is there.

use model::doctor::Finding;

use crate::{Conn, Result, quotas};

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
