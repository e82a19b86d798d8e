//! Table `role_assignments`: who has which role where.

use model::id::{DomainId, ProjectId, RoleId, UserId};
use sqlx::AssertSqlSafe;

use super::roles::Role;
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In a project.
    Project(ProjectId),
    /// In a domain.
    Domain(DomainId),
    /// In the installation as a whole.
    System,
}

impl Target {
    /// Its kind as the table has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Project(_) => "project",
            Self::Domain(_) => "domain",
            Self::System => "system",
        }
    }

    /// Its id as the table has it.
    pub fn id(&self) -> &str {
        match self {
            Self::Project(id) => id.as_str(),
            Self::Domain(id) => id.as_str(),
            Self::System => "system",
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(match row.text("target_kind")?.as_str() {
            "project" => Self::Project(row.id("target_id")?),
            "domain" => Self::Domain(row.id("target_id")?),
            _ => Self::System,
        })
    }
}

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub user_id: UserId,
    /// Where.
    pub target: Target,
    /// What.
    pub role_id: RoleId,
}

/// What names an assignment needs when it is shown with names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Names {
    /// The user's name.
    pub user: String,
    /// The user's domain's id.
    pub user_domain_id: String,
    /// The user's domain's name.
    pub user_domain: String,
    /// The role's name.
    pub role: String,
    /// The project's or domain's name.
    pub target: String,
    /// The project's domain's id.
    pub target_domain_id: String,
    /// The project's domain's name.
    pub target_domain: String,
}

/// Filters are added by the caller: `a` is the assignment, `p` the project.
pub fn select() -> Select {
    Select::new(
        "select a.*, coalesce(u.name, '') as user_name, coalesce(u.domain_id, '') as user_domain_id, \
         coalesce(ud.name, '') as user_domain_name, r.name as role_name, coalesce(p.name, d.name, '') as target_name, \
         coalesce(p.domain_id, '') as target_domain_id, coalesce(pd.name, '') as target_domain_name \
         from role_assignments a join roles r on r.id = a.role_id \
         left join users u on a.actor_kind = 'user' and u.id = a.actor_id left join domains ud on ud.id = u.domain_id \
         left join projects p on a.target_kind = 'project' and p.id = a.target_id \
         left join domains pd on pd.id = p.domain_id \
         left join domains d on a.target_kind = 'domain' and d.id = a.target_id",
        "role_assignments a",
        "a.actor_id",
    )
}

/// What the filters leave, by user; an assignment has no id, so there is no marker.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<(Assignment, Names)>> {
    let rows = select.page(conn, page).await?;
    let read = |row: &Row| {
        let assignment =
            Assignment { user_id: row.id("actor_id")?, target: Target::from_row(row)?, role_id: row.id("role_id")? };
        let names = Names {
            user: row.text("user_name")?,
            user_domain_id: row.text("user_domain_id")?,
            user_domain: row.text("user_domain_name")?,
            role: row.text("role_name")?,
            target: row.text("target_name")?,
            target_domain_id: row.text("target_domain_id")?,
            target_domain: row.text("target_domain_name")?,
        };
        Ok((assignment, names))
    };
    rows.iter().map(read).collect()
}

/// The roles that were given to the user on the target, without those they imply.
pub async fn direct_roles(conn: &mut Conn, user: &UserId, target: &Target) -> Result<Vec<Role>> {
    let rows = query(
        "select r.* from role_assignments a join roles r on r.id = a.role_id \
         where a.actor_kind = 'user' and a.actor_id = $1 and a.target_kind = $2 and a.target_id = $3 \
         and a.inherited = 0 order by r.name",
    )
    .bind(user.as_str())
    .bind(target.kind())
    .bind(target.id())
    .fetch_all(conn)
    .await?;
    rows.iter().map(role).collect()
}

/// The roles that hold for the user on the target, implied ones included: what a token carries.
pub async fn effective_roles(conn: &mut Conn, user: &UserId, target: &Target) -> Result<Vec<Role>> {
    let rows = query(
        "with recursive held (role_id) as ( \
           select role_id from role_assignments where actor_kind = 'user' and actor_id = $1 \
             and target_kind = $2 and target_id = $3 and inherited = 0 \
           union select i.implied_role_id from role_implications i join held h on h.role_id = i.prior_role_id) \
         select r.* from held join roles r on r.id = held.role_id order by r.name",
    )
    .bind(user.as_str())
    .bind(target.kind())
    .bind(target.id())
    .fetch_all(conn)
    .await?;
    rows.iter().map(role).collect()
}

fn role(row: &Row) -> Result<Role> {
    Ok(Role {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
    })
}

/// Whether exactly this was assigned.
pub async fn exists(conn: &mut Conn, assignment: &Assignment) -> Result<bool> {
    let row = query(
        "select 1 as one from role_assignments where actor_kind = 'user' and actor_id = $1 and target_kind = $2 \
         and target_id = $3 and role_id = $4 and inherited = 0",
    )
    .bind(assignment.user_id.as_str())
    .bind(assignment.target.kind())
    .bind(assignment.target.id())
    .bind(assignment.role_id.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Assigns it, if it isn't yet.
pub async fn insert(tx: &mut Tx, assignment: &Assignment) -> Result<()> {
    query(
        "insert into role_assignments (actor_kind, actor_id, target_kind, target_id, role_id, inherited) \
         values ('user', $1, $2, $3, $4, 0) \
         on conflict (actor_id, target_id, role_id, actor_kind, target_kind, inherited) do nothing",
    )
    .bind(assignment.user_id.as_str())
    .bind(assignment.target.kind())
    .bind(assignment.target.id())
    .bind(assignment.role_id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes it back; whether it was there.
pub async fn delete(tx: &mut Tx, assignment: &Assignment) -> Result<bool> {
    let done = query(
        "delete from role_assignments where actor_kind = 'user' and actor_id = $1 and target_kind = $2 \
         and target_id = $3 and role_id = $4 and inherited = 0",
    )
    .bind(assignment.user_id.as_str())
    .bind(assignment.target.kind())
    .bind(assignment.target.id())
    .bind(assignment.role_id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// That an assignment's user or target is gone.
const DANGLES: &str = "(actor_kind = 'user' and actor_id not in (select id from users)) \
     or (target_kind = 'project' and target_id not in (select id from projects)) \
     or (target_kind = 'domain' and target_id not in (select id from domains))";

/// For the doctor: assignments whose user or target is gone, as (actor, target kind, target, role).
pub async fn dangling(conn: &mut Conn) -> Result<Vec<(String, String, String, String)>> {
    let sql = format!(
        "select actor_id, target_kind, target_id, role_id from role_assignments where {DANGLES} \
         order by actor_id, target_id, role_id"
    );
    let rows = query(AssertSqlSafe(sql)).fetch_all(conn).await?;
    let read =
        |row: &Row| Ok((row.text("actor_id")?, row.text("target_kind")?, row.text("target_id")?, row.text("role_id")?));
    rows.iter().map(read).collect()
}

/// Removes them.
pub async fn remove_dangling(tx: &mut Tx) -> Result<()> {
    query(AssertSqlSafe(format!("delete from role_assignments where {DANGLES}"))).execute(&mut **tx).await?;
    Ok(())
}
