//! Table `role_assignments`: who has which role where.
//!
//! What holds for a user is more than what was given to it: its groups' roles hold too, roles that were given as
//! *inherited* hold in the projects below their target (and not in the target itself), and roles imply others.

use std::collections::HashMap;

use model::id::{DomainId, GroupId, ProjectId, RoleId, UserId};
use sqlx::AssertSqlSafe;

use super::{
    groups, json_text, projects,
    roles::{self, Role},
};
use crate::{
    Conn, Dialect, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A user.
    User(UserId),
    /// Every member of a group.
    Group(GroupId),
}

impl Actor {
    /// Its kind as the table has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Group(_) => "group",
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Group(id) => id.as_str(),
        }
    }
}

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub target: Target,
    /// What.
    pub role_id: RoleId,
    /// Whether it holds in the projects below the target instead of in it.
    pub inherited: bool,
}

impl Assignment {
    /// A user's role in the target itself.
    pub fn of_user(user: &UserId, target: Target, role: &RoleId) -> Self {
        Self { actor: Actor::User(user.clone()), target, role_id: role.clone(), inherited: false }
    }
}

/// Filters are added by the caller: `a` is the assignment.
pub fn select() -> Select {
    Select::new("select a.* from role_assignments a", "role_assignments a", "a.actor_id")
}

/// Narrows a list to what was given in a domain: on it, and on its projects.
pub fn in_domain(select: &mut Select, domain: &DomainId) {
    select.filter(
        "((a.target_kind = 'domain' and a.target_id = ?) \
         or (a.target_kind = 'project' and a.target_id in (select id from projects where domain_id = ?)))",
        [domain.into(), domain.into()],
    );
}

/// What the filters leave, by actor, up to a number; an assignment has no id, so there is no marker.
pub async fn list(conn: &mut Conn, select: Select, at_most: u32) -> Result<Vec<Assignment>> {
    let page = Page { limit: at_most, marker: None, sorts: Vec::new(), reverse: false };
    let rows = select.page(conn, &page).await?;
    let read = |row: &Row| {
        let actor = match row.text("actor_kind")?.as_str() {
            "group" => Actor::Group(row.id("actor_id")?),
            _ => Actor::User(row.id("actor_id")?),
        };
        let inherited = row.flag("inherited")?;
        Ok(Assignment { actor, target: Target::from_row(row)?, role_id: row.id("role_id")?, inherited })
    };
    rows.iter().map(read).collect()
}

/// The name of something, and its domain where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Name {
    /// Its name.
    pub name: String,
    /// Its domain's id.
    pub domain_id: Option<DomainId>,
}

/// What [`names`] may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Named {
    Users,
    Groups,
    Roles,
    Projects,
    Domains,
}

/// The names behind some ids.
pub async fn names(conn: &mut Conn, dialect: Dialect, of: Named, ids: &[&str]) -> Result<HashMap<String, Name>> {
    let table = match of {
        Named::Users => "id, name, domain_id from users",
        Named::Groups => "id, name, domain_id from user_groups",
        Named::Roles => "id, name, domain_id from roles",
        Named::Projects => "id, name, domain_id from projects",
        Named::Domains => "id, name, null as domain_id from domains",
    };
    let sql = format!("select {table} where id in ({})", dialect.elements("$1"));
    let rows = query(AssertSqlSafe(sql)).bind(json_text(&ids)).fetch_all(conn).await?;
    let read = |row: &Row| Ok((row.text("id")?, Name { name: row.text("name")?, domain_id: row.opt_id("domain_id")? }));
    rows.iter().map(read).collect()
}

/// The roles that were given to the actor on the target, without those they imply.
pub async fn direct_roles(conn: &mut Conn, actor: &Actor, target: &Target, inherited: bool) -> Result<Vec<Role>> {
    let rows = query(
        "select r.* from role_assignments a join roles r on r.id = a.role_id \
         where a.actor_kind = $1 and a.actor_id = $2 and a.target_kind = $3 and a.target_id = $4 \
         and a.inherited = $5 order by r.name, r.id",
    )
    .bind(actor.kind())
    .bind(actor.id())
    .bind(target.kind())
    .bind(target.id())
    .bind(i64::from(inherited))
    .fetch_all(conn)
    .await?;
    rows.iter().map(roles::from_row).collect()
}

/// A user and the groups that it is in.
pub async fn actors_of(conn: &mut Conn, user: &UserId) -> Result<Vec<Actor>> {
    let groups = groups::ids_of(conn, user).await?;
    Ok(std::iter::once(Actor::User(user.clone())).chain(groups.into_iter().map(Actor::Group)).collect())
}

/// The roles that hold for the user on the target: what a token carries.
pub async fn effective_roles(conn: &mut Conn, user: &UserId, target: &Target) -> Result<Vec<Role>> {
    let Target::Project(project) = target else {
        let actors = actors_of(conn, user).await?;
        return effective_roles_of(conn, &actors, target).await;
    };
    // The user's groups and what stands above the project, in one go: every validation asks for them.
    let rows = query(
        "with recursive above (id, parent_id, domain_id, height) as ( \
           select id, parent_id, domain_id, 0 from projects where id = $2 \
           union all select p.id, p.parent_id, p.domain_id, a.height + 1 \
             from projects p join above a on p.id = a.parent_id where a.height < 32) \
         select 'group' as kind, group_id as id from group_members where user_id = $1 \
         union all select 'above', id from above where height > 0 \
         union all select 'above', domain_id from above where height = 0",
    )
    .bind(user.as_str())
    .bind(project.as_str())
    .fetch_all(&mut *conn)
    .await?;
    let (mut actors, mut above) = (vec![Actor::User(user.clone())], Vec::new());
    for row in &rows {
        if row.text("kind")? == "group" {
            actors.push(Actor::Group(row.id("id")?));
        } else {
            above.push(row.text("id")?);
        }
    }
    roles_held(conn, &actors, target, &above).await
}

/// The roles that hold for any of the actors on the target.
pub async fn effective_roles_of(conn: &mut Conn, actors: &[Actor], target: &Target) -> Result<Vec<Role>> {
    let above = match target {
        Target::Project(id) => projects::above(conn, id).await?,
        Target::Domain(_) | Target::System => Vec::new(),
    };
    roles_held(conn, actors, target, &above).await
}

/// Their own roles there, those inherited from above, and those that these imply. Roles of a domain's own only imply
/// others.
async fn roles_held(conn: &mut Conn, actors: &[Actor], target: &Target, above: &[String]) -> Result<Vec<Role>> {
    let mut next = 2;
    let mut place = || {
        next += 1;
        format!("${next}")
    };
    let actor_places: Vec<String> = actors.iter().map(|_| place()).collect();
    let above_places: Vec<String> = above.iter().map(|_| place()).collect();
    let targets: Vec<&str> = ["$2"].into_iter().chain(above_places.iter().map(String::as_str)).collect();
    let sql = format!(
        "with recursive held (role_id) as ( \
           select role_id from role_assignments where actor_id in ({}) and target_id in ({}) \
             and ((inherited = 0 and target_kind = $1 and target_id = $2) or (inherited = 1 and target_id <> $2)) \
           union select i.implied_role_id from role_implications i join held h on h.role_id = i.prior_role_id) \
         select r.* from held join roles r on r.id = held.role_id where r.domain_id is null order by r.name",
        actor_places.join(", "),
        targets.join(", ")
    );
    let mut bound = query(AssertSqlSafe(sql)).bind(target.kind()).bind(target.id());
    for actor in actors {
        bound = bound.bind(actor.id());
    }
    for id in above {
        bound = bound.bind(id.as_str());
    }
    let rows = bound.fetch_all(conn).await?;
    rows.iter().map(roles::from_row).collect()
}

const SPOT: &str = "actor_kind = $1 and actor_id = $2 and target_kind = $3 and target_id = $4 and role_id = $5 \
     and inherited = $6";

/// Whether exactly this was assigned.
pub async fn exists(conn: &mut Conn, assignment: &Assignment) -> Result<bool> {
    let sql = format!("select 1 as one from role_assignments where {SPOT}");
    let row = query(AssertSqlSafe(sql))
        .bind(assignment.actor.kind())
        .bind(assignment.actor.id())
        .bind(assignment.target.kind())
        .bind(assignment.target.id())
        .bind(assignment.role_id.as_str())
        .bind(i64::from(assignment.inherited))
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Assigns it, if it isn't yet.
pub async fn insert(tx: &mut Tx, assignment: &Assignment) -> Result<()> {
    query(
        "insert into role_assignments (actor_kind, actor_id, target_kind, target_id, role_id, inherited) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (actor_id, target_id, role_id, actor_kind, target_kind, inherited) do nothing",
    )
    .bind(assignment.actor.kind())
    .bind(assignment.actor.id())
    .bind(assignment.target.kind())
    .bind(assignment.target.id())
    .bind(assignment.role_id.as_str())
    .bind(i64::from(assignment.inherited))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes it back; whether it was there.
pub async fn delete(tx: &mut Tx, assignment: &Assignment) -> Result<bool> {
    let done = query(AssertSqlSafe(format!("delete from role_assignments where {SPOT}")))
        .bind(assignment.actor.kind())
        .bind(assignment.actor.id())
        .bind(assignment.target.kind())
        .bind(assignment.target.id())
        .bind(assignment.role_id.as_str())
        .bind(i64::from(assignment.inherited))
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// That an assignment's actor or target is gone. A domain may also be assigned to as the project that it acts as.
const DANGLES: &str = "(actor_kind = 'user' and actor_id not in (select id from users)) \
     or (actor_kind = 'group' and actor_id not in (select id from user_groups)) \
     or (target_kind = 'project' and target_id not in (select id from projects) \
         and target_id not in (select id from domains)) \
     or (target_kind = 'domain' and target_id not in (select id from domains))";

/// For the doctor: assignments whose actor or target is gone, as (actor, target kind, target, role).
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
