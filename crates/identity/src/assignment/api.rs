//! Giving, taking, checking and listing the roles of a user or group on a project, a domain or the system. The path says
//! which; one that ends with `inherited_to_projects` is about what holds in the projects below instead.

use model::{
    Error, Result,
    id::{DomainId, GroupId, ProjectId, RoleId, UserId},
};
use store::{
    Conn,
    identity::{
        assignments::{self, Actor, Assignment, Target as On},
        domains, groups, revocations,
        roles::{self, Role},
        users,
    },
    list::Page,
};
use web::{Cx, Reply, Target};

use crate::{State, domain, group, project, role, user, wire};

/// `GET .../users/{user_id}/roles`: what was given to the user or group there.
pub async fn list_granted(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let there = There::find(cx, &mut conn).await?;
    let (actor, on) = there.authorized(cx, None)?;
    let found = assignments::direct_roles(&mut conn, &actor, &on, is_inherited(cx)).await?;
    let page = Page { limit: u32::MAX, marker: None, sorts: Vec::new(), reverse: false };
    wire::collection(cx, "roles", &page, &found, |r| (r.id.as_str(), role::show(cx, r)))
}

/// `GET` and `HEAD .../roles/{role_id}`.
pub async fn check(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let assignment = named(cx, &mut conn).await?;
    if !assignments::exists(&mut conn, &assignment).await? {
        return Err(missing(&assignment));
    }
    Ok(Reply::no_content())
}

/// `PUT .../roles/{role_id}`.
pub async fn grant(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let assignment = named(cx, &mut tx).await?;
    assignments::insert(&mut tx, &assignment).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `DELETE .../roles/{role_id}`.
pub async fn revoke(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let assignment = named(cx, &mut tx).await?;
    if !assignments::delete(&mut tx, &assignment).await? {
        return Err(missing(&assignment));
    }
    let role = assignment.role_id.as_str();
    match (&assignment.actor, &assignment.target) {
        (Actor::User(user), On::Project(project)) => {
            let event = [("user_id", user.as_str()), ("project_id", project.as_str()), ("role_id", role)];
            revocations::record(&mut tx, &event).await?;
        }
        (Actor::User(user), On::Domain(domain)) => {
            let event = [("user_id", user.as_str()), ("domain_id", domain.as_str()), ("role_id", role)];
            revocations::record(&mut tx, &event).await?;
        }
        // Whoever is in a group, and the system, can't be named in an event: tokens are checked against what is.
        _ => {}
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// Whether the path is about what holds in the projects below.
fn is_inherited(cx: &Cx) -> bool {
    cx.path.trim_end_matches('/').ends_with("/inherited_to_projects")
}

/// Who and where, by the path, as far as there are such.
struct There {
    actor: Option<Actor>,
    /// Of the user or group.
    actor_domain: Option<DomainId>,
    on: Option<On>,
    /// Of the target: itself for a domain, its domain for a project.
    domain_id: Option<DomainId>,
}

impl There {
    async fn find(cx: &Cx, conn: &mut Conn) -> Result<Self> {
        let (actor, actor_domain) = match cx.param("group_id") {
            "" => {
                let found = users::get(conn, &UserId::new(cx.param("user_id"))).await?;
                (found.as_ref().map(|u| Actor::User(u.id.clone())), found.map(|u| u.domain_id))
            }
            id => {
                let found = groups::get(conn, &GroupId::new(id)).await?;
                (found.as_ref().map(|g| Actor::Group(g.id.clone())), found.map(|g| g.domain_id))
            }
        };
        let (on, domain_id) = match (cx.param("project_id"), cx.param("domain_id")) {
            ("", "") => (Some(On::System), None),
            ("", id) => {
                let found = domains::get(conn, &DomainId::new(id)).await?;
                (found.as_ref().map(|d| On::Domain(d.id.clone())), found.map(|d| d.id))
            }
            (id, _) => {
                let found = project::find(conn, &ProjectId::new(id)).await?;
                (found.as_ref().map(|p| On::Project(p.id())), found.and_then(|p| p.domain_id().cloned()))
            }
        };
        Ok(Self { actor, actor_domain, on, domain_id })
    }

    /// Both of them, once the caller may; who may not doesn't learn which is missing.
    fn authorized(self, cx: &Cx, role: Option<&Role>) -> Result<(Actor, On)> {
        let mut target = Target::none();
        if let (Some(actor), Some(id)) = (&self.actor, &self.actor_domain) {
            let is_group = matches!(actor, Actor::Group(_));
            let name = if is_group { "target.group.domain_id" } else { "target.user.domain_id" };
            target = target.with(name, id.as_str());
        }
        if let Some(role) = role {
            target = target.with("target.role.name", role.name.as_str());
            if let Some(id) = &role.domain_id {
                target = target.with("target.role.domain_id", id.as_str());
            }
        }
        if let (Some(on), Some(id)) = (&self.on, &self.domain_id) {
            let name = if matches!(on, On::Project(_)) { "target.project.domain_id" } else { "target.domain.id" };
            target = target.with(name, id.as_str());
        }
        cx.authorize(&target)?;
        let actor = self.actor.ok_or_else(|| match cx.param("group_id") {
            "" => user::missing(&UserId::new(cx.param("user_id"))),
            id => group::missing(&GroupId::new(id)),
        })?;
        let on = self.on.ok_or_else(|| match cx.param("project_id") {
            "" => domain::missing(&DomainId::new(cx.param("domain_id"))),
            id => project::missing(&ProjectId::new(id)),
        })?;
        Ok((actor, on))
    }
}

/// The assignment that the path names, once the caller may.
async fn named(cx: &Cx, conn: &mut Conn) -> Result<Assignment> {
    let id = RoleId::new(cx.param("role_id"));
    let role = roles::get(conn, &id).await?;
    let there = There::find(cx, conn).await?;
    let domain_id = there.domain_id.clone();
    let (actor, target) = there.authorized(cx, role.as_ref())?;
    let role = role.ok_or_else(|| role::missing(&id))?;
    if let (On::Project(project), Some(own)) = (&target, &role.domain_id)
        && domain_id.as_ref() != Some(own)
    {
        let message = format!("Project {project} must be in the same domain as the role {id} being assigned.");
        return Err(Error::forbidden("DomainSpecificRoleMismatch", message));
    }
    Ok(Assignment { actor, target, role_id: role.id, inherited: is_inherited(cx) })
}

fn missing(assignment: &Assignment) -> Error {
    let Assignment { actor, target, role_id, .. } = assignment;
    let message = format!(
        "Could not find role assignment with role: {role_id}, user or group: {}, project, domain, or system: {}.",
        actor.id(),
        target.id()
    );
    Error::not_found("RoleAssignmentNotFound", message)
}
