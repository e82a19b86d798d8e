//! Quota limits and usage. Usage changes in the transaction that changes the resource, under a row lock, so that two
//! requests can't both take the last place.

use model::{
    Error as ModelError,
    id::ProjectId,
    quota::{self, Demand},
};
use sqlx::AssertSqlSafe;

use crate::{Conn, Result, RowExt, Tx, query};

/// One resource to charge: its name, the built-in default limit, and how much to add.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    /// The quota's name as OpenStack has it: `instances`, `port`...
    pub resource: &'static str,
    /// The limit where neither the project nor the cloud has one of its own.
    pub default_limit: i64,
    /// What is added; zero and less charge nothing.
    pub amount: i64,
}

/// Charges all of it or nothing.
///
/// # Errors
/// `OverQuota` naming each quota that does not suffice.
pub async fn charge(tx: &mut Tx, project: &ProjectId, charges: &[Charge]) -> Result<(), ModelError> {
    let mut demands = Vec::with_capacity(charges.len());
    for charge in charges {
        // The upsert locks the row on PostgreSQL before it is read, so concurrent creators queue here.
        query(
            "insert into quota_usages (project_id, resource, used) values ($1, $2, $3) \
             on conflict (project_id, resource) do update set used = quota_usages.used + excluded.used",
        )
        .bind(project.as_str())
        .bind(charge.resource)
        .bind(charge.amount)
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
        let used = used(tx, project, charge.resource).await? - charge.amount;
        let limit = limit(tx, project, charge.resource).await?.unwrap_or(charge.default_limit);
        demands.push(Demand { resource: charge.resource, used, wanted: charge.amount, limit });
    }
    // The caller drops the transaction on an error: what was added above is undone with it.
    quota::check(&demands)
}

/// Holds the place where a resource is counted until the transaction ends: who counts rows by itself under it can't be
/// overtaken.
pub async fn lock(tx: &mut Tx, owner: &str, resource: &str) -> Result<()> {
    query(
        "insert into quota_usages (project_id, resource, used) values ($1, $2, 0) \
         on conflict (project_id, resource) do update set used = quota_usages.used",
    )
    .bind(owner)
    .bind(resource)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Gives back what a resource held.
pub async fn release(tx: &mut Tx, project: &ProjectId, resource: &str, amount: i64) -> Result<()> {
    query("update quota_usages set used = used - $3 where project_id = $1 and resource = $2")
        .bind(project.as_str())
        .bind(resource)
        .bind(amount)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What the project uses of one resource.
pub async fn used(conn: &mut Conn, project: &ProjectId, resource: &str) -> Result<i64> {
    let row = query("select used from quota_usages where project_id = $1 and resource = $2")
        .bind(project.as_str())
        .bind(resource)
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(0), |row| row.int("used"))
}

/// What the project uses, by resource.
pub async fn usages(conn: &mut Conn, project: &ProjectId) -> Result<Vec<(String, i64)>> {
    let rows = query("select resource, used from quota_usages where project_id = $1 order by resource")
        .bind(project.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.text("resource")?, row.int("used")?))).collect()
}

/// The limit that is set for the project, or else for the whole cloud; none where only the built-in default holds.
pub async fn limit(conn: &mut Conn, project: &ProjectId, resource: &str) -> Result<Option<i64>> {
    let row = query(
        "select hard_limit from quota_limits where resource = $2 and project_id in ($1, '') order by project_id desc limit 1",
    )
    .bind(project.as_str())
    .bind(resource)
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.int("hard_limit")).transpose()
}

/// All limits that are set for the project or for the whole cloud, the project's winning.
pub async fn limits(conn: &mut Conn, project: &ProjectId) -> Result<Vec<(String, i64)>> {
    let rows = query("select resource, hard_limit from quota_limits where project_id in ($1, '') order by project_id")
        .bind(project.as_str())
        .fetch_all(conn)
        .await?;
    let mut limits = std::collections::BTreeMap::new();
    for row in &rows {
        limits.insert(row.text("resource")?, row.int("hard_limit")?);
    }
    Ok(limits.into_iter().collect())
}

/// Sets a limit of the project; an empty project id sets the cloud's default.
pub async fn set_limit(tx: &mut Tx, project: &ProjectId, resource: &str, hard_limit: i64) -> Result<()> {
    query(
        "insert into quota_limits (project_id, resource, hard_limit) values ($1, $2, $3) \
         on conflict (project_id, resource) do update set hard_limit = excluded.hard_limit",
    )
    .bind(project.as_str())
    .bind(resource)
    .bind(hard_limit)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the project's own limits of these resources: the defaults hold again.
pub async fn reset_limits(tx: &mut Tx, project: &ProjectId, resources: &[&str]) -> Result<()> {
    for resource in resources {
        query("delete from quota_limits where project_id = $1 and resource = $2")
            .bind(project.as_str())
            .bind(*resource)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// For the doctor: quota rows of one resource whose count differs from what `count_sql` finds. `count_sql` is a constant
/// of the calling store module: `select project_id, count(*) as used from servers where ... group by project_id`.
pub async fn drift(conn: &mut Conn, resource: &str, count_sql: &'static str) -> Result<Vec<(String, i64, i64)>> {
    let sql = format!(
        "select coalesce(u.project_id, c.project_id) as project_id, coalesce(u.used, 0) as recorded, \
         cast(coalesce(c.used, 0) as bigint) as counted from ({count_sql}) c \
         full outer join (select * from quota_usages where resource = $1) u on u.project_id = c.project_id \
         where coalesce(u.used, 0) <> coalesce(c.used, 0)"
    );
    let rows = query(AssertSqlSafe(sql)).bind(resource).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.text("project_id")?, row.int("recorded")?, row.int("counted")?))).collect()
}

/// For the doctor: makes the recorded usage what `count_sql` (see [`drift`]) finds.
pub async fn recount(tx: &mut Tx, resource: &str, count_sql: &'static str) -> Result<()> {
    for (project, _, _) in drift(tx, resource, count_sql).await? {
        // Creators charge before they insert: whoever holds the place sees all that was charged.
        lock(tx, &project, resource).await?;
        let sql = format!(
            "update quota_usages set used = (select cast(coalesce(sum(c.used), 0) as bigint) from ({count_sql}) c \
             where c.project_id = $1) where project_id = $1 and resource = $2"
        );
        query(AssertSqlSafe(sql)).bind(project).bind(resource).execute(&mut **tx).await?;
    }
    Ok(())
}
