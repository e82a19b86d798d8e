//! Filling the identity tables with a large cloud's worth of rows, for measurements.

use model::id::{DomainId, RoleId};

use crate::{Conn, Dialect, Result, RowExt, Tx, query};

/// How many rows of what.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Users, `bench-user-1` and on.
    pub users: i64,
    /// Projects, `bench-project-1` and on; of each ten, nine stand below the first.
    pub projects: i64,
    /// Groups, `bench-group-1` and on; each user is in two of them.
    pub groups: i64,
    /// Roles that each user and each group is given, each in another project.
    pub roles_each: i64,
}

/// What the numbers are in.
const SERIES: &str = "with recursive n (i) as (select 1 union all select i + 1 from n where i < $1)";

/// Adds all of it to a domain, every assignment with this role.
pub async fn fill(tx: &mut Tx, size: Size, domain: &DomainId, role: &RoleId) -> Result<()> {
    let now = tx.now().0;
    let users = format!(
        "insert into users (id, domain_id, name, enabled, created_at) {SERIES} \
         select 'bench-user-' || i, $2, 'bench-user-' || i, 1, $3 from n"
    );
    let groups = format!(
        "insert into user_groups (id, domain_id, name, created_at) {SERIES} \
         select 'bench-group-' || i, $2, 'bench-group-' || i, $3 from n"
    );
    // Those that others stand below come first.
    let top = "i % 10 = 1";
    let projects = format!(
        "insert into projects (id, domain_id, name, enabled, created_at) {SERIES} \
         select 'bench-project-' || i, $2, 'bench-project-' || i, 1, $3 from n where {top}"
    );
    let below = format!(
        "insert into projects (id, domain_id, parent_id, name, enabled, created_at) {SERIES} \
         select 'bench-project-' || i, $2, 'bench-project-' || (i - (i - 1) % 10), 'bench-project-' || i, 1, $3 \
         from n where not ({top})"
    );
    let tables = [(&users, size.users), (&groups, size.groups), (&projects, size.projects), (&below, size.projects)];
    for (sql, count) in tables {
        let bound = query(sqlx::AssertSqlSafe(sql.clone())).bind(count).bind(domain.as_str()).bind(now);
        bound.execute(&mut **tx).await?;
    }
    let members = format!(
        "insert into group_members (user_id, group_id) {SERIES} \
         select 'bench-user-' || i, 'bench-group-' || (1 + (i + k * 7) % $2) from n, (select 0 as k union all select 1) x"
    );
    query(sqlx::AssertSqlSafe(members)).bind(size.users).bind(size.groups).execute(&mut **tx).await?;
    for (kind, count) in [("user", size.users), ("group", size.groups)] {
        let assignments = format!(
            "insert into role_assignments (actor_kind, actor_id, target_kind, target_id, role_id, inherited) {SERIES}, \
             m (k) as (select 0 union all select k + 1 from m where k + 1 < $2) \
             select '{kind}', 'bench-{kind}-' || i, 'project', 'bench-project-' || (1 + (i * 7 + k * 1009) % $3), $4, 0 \
             from n, m"
        );
        query(sqlx::AssertSqlSafe(assignments))
            .bind(count)
            .bind(size.roles_each)
            .bind(size.projects)
            .bind(role.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// A project in which the user with this number has a role.
pub fn project_of(size: Size, user: i64) -> String {
    format!("bench-project-{}", 1 + (user * 7) % size.projects)
}

/// How many assignments there are.
pub async fn assignments(conn: &mut Conn) -> Result<i64> {
    query("select count(*) as many from role_assignments").fetch_one(conn).await?.int("many")
}

/// Lets PostgreSQL look at the tables, as it would by itself after a while. SQLite never does.
pub async fn settle(conn: &mut Conn, dialect: Dialect) -> Result<()> {
    if dialect == Dialect::Postgres {
        query("analyze").execute(conn).await?;
    }
    Ok(())
}
