//! What the doctor compares: servers, allocations and quota.

use crate::{Conn, Result, RowExt, Tx, query, quotas};

/// Something that has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Which one.
    pub id: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Allocations without a living server on that host, and placed servers without an allocation.
pub async fn allocations(conn: &mut Conn) -> Result<Vec<Odd>> {
    let mut odd = Vec::new();
    let stray = query(
        "select a.server_id from allocations a left join servers s on s.id = a.server_id and s.deleted_at is null \
         and s.host_id = a.host_id where s.id is null \
         and a.server_id not in (select c.id from placement_consumers c) order by a.server_id",
    );
    for row in stray.fetch_all(&mut *conn).await? {
        odd.push(Odd { id: row.text("server_id")?, problem: "holds a host's capacity but is not there".into() });
    }
    let missing = query(
        "select s.id from servers s left join allocations a on a.server_id = s.id \
         where s.deleted_at is null and s.host_id is not null and a.server_id is null order by s.id",
    );
    for row in missing.fetch_all(&mut *conn).await? {
        odd.push(Odd { id: row.text("id")?, problem: "is on a host without holding any of its capacity".into() });
    }
    Ok(odd)
}

/// Gives back what no living server on that host holds.
pub async fn delete_stray_allocations(tx: &mut Tx) -> Result<()> {
    query(
        "delete from allocations as a where not exists (select 1 from servers s where s.id = a.server_id \
         and s.deleted_at is null and s.host_id = a.host_id) \
         and a.server_id not in (select c.id from placement_consumers c)",
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Living servers without a flow: nothing would ever be done about them.
pub async fn without_flow(conn: &mut Conn) -> Result<Vec<Odd>> {
    let rows = query(
        "select s.id from servers s left join flows f on f.id = s.id where s.deleted_at is null and f.id is null \
         order by s.id",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(Odd { id: row.text("id")?, problem: "has no flow".into() })).collect()
}

/// Ports that were made for servers which are gone.
pub async fn stray_ports(conn: &mut Conn) -> Result<Vec<Odd>> {
    let rows = query(
        "select p.id, p.device_id from ports p left join servers s on s.id = p.device_id and s.deleted_at is null \
         where p.deleted_at is null and p.device_owner like 'compute:%' and p.device_id <> '' and s.id is null order by p.id",
    )
    .fetch_all(conn)
    .await?;
    let odd = |row: &crate::Row| {
        let server = row.text("device_id")?;
        Ok(Odd { id: row.text("id")?, problem: format!("belongs to server {server}, which is not there") })
    };
    rows.iter().map(odd).collect()
}

/// How each quota is counted.
const COUNTS: [(&str, &str); 3] = [
    (
        "instances",
        "select project_id, count(*) as used from servers where deleted_at is null and vm_state <> 'soft-delete' group by project_id",
    ),
    (
        "cores",
        "select project_id, sum(cores) as used from servers where deleted_at is null and vm_state <> 'soft-delete' group by project_id",
    ),
    (
        "ram",
        "select project_id, sum(ram) as used from servers where deleted_at is null and vm_state <> 'soft-delete' group by project_id",
    ),
];

/// Records what there is.
pub async fn recount_quotas(tx: &mut Tx) -> Result<()> {
    for (quota, sql) in COUNTS {
        quotas::recount(tx, quota, sql).await?;
    }
    Ok(())
}

/// Quotas whose count differs from what there is: quota, project, recorded, counted.
pub async fn quota_drift(conn: &mut Conn) -> Result<Vec<(&'static str, String, i64, i64)>> {
    let mut all = Vec::new();
    for (quota, sql) in COUNTS {
        let drift = quotas::drift(conn, quota, sql).await?;
        all.extend(drift.into_iter().map(|(project, recorded, counted)| (quota, project, recorded, counted)));
    }
    Ok(all)
}
