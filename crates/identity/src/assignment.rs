//! Role assignments: giving, taking, checking and listing them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{
    Error, Result,
    id::{DomainId, ProjectId, RoleId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        assignments::{self, Assignment, Names, Target as On},
        domains, projects,
        roles::{self, Implication, Role},
        users::{self, User},
    },
    list::{Page, Select, Value as Bind},
};
use web::{Cx, Reply, Target};

use crate::{State, domain, project, role, user, wire};

/// Assignments that one list shows; more are cut off, and the list says so.
const LIST_MAX: u32 = 10_000;

/// `GET /v3/role_assignments`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = domain::own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str())))?;
    let effective = wire::is_asked(cx, "effective");
    let with_names = wire::is_asked(cx, "include_names");
    if wire::is_asked(cx, "include_subtree") {
        return Err(Error::unsupported("NotImplemented", "include_subtree is not available in this cloud."));
    }
    let mut select = filtered(cx, effective)?;
    if let Some(own) = own {
        select.filter(
            "((a.target_kind = 'domain' and a.target_id = ?) or p.domain_id = ?)",
            [Bind::from(own), Bind::from(own)],
        );
    }
    let mut conn = cx.db().read().await?;
    let page = Page { limit: LIST_MAX, marker: None, sorts: Vec::new(), reverse: false };
    let found = assignments::list(&mut conn, select, &page).await?;
    let truncated = found.len() >= usize::try_from(LIST_MAX).unwrap_or(usize::MAX);
    let mut shown: Vec<Shown> =
        found.into_iter().map(|(assignment, names)| Shown { assignment, names, prior: None }).collect();
    if effective {
        let roles = role::all(&mut conn).await?;
        shown = expand(shown, &roles::implications(&mut conn).await?, &roles);
        if let Some(wanted) = cx.query.get("role.id") {
            shown.retain(|s| s.assignment.role_id.as_str() == wanted);
        }
    }
    let items: Vec<Value> = shown.iter().map(|s| s.document(cx, with_names)).collect();
    let mut document =
        json!({ "role_assignments": items, "links": { "next": null, "self": cx.self_url(), "previous": null } });
    if truncated {
        document["truncated"] = json!(true);
    }
    Reply::ok(&document)
}

/// The query's filters.
fn filtered(cx: &Cx, effective: bool) -> Result<Select> {
    let query = &cx.query;
    let scopes = ["scope.project.id", "scope.domain.id", "scope.system"];
    if scopes.iter().filter(|name| query.has(name)).count() > 1 {
        return Err(Error::bad_request("ValidationError", "Specify one of system, domain and project, not several."));
    }
    if query.has("user.id") && query.has("group.id") {
        return Err(Error::bad_request("ValidationError", "Specify a user or group, not both"));
    }
    let mut select = assignments::select();
    if let Some(user) = query.get("user.id") {
        select.equal("a.actor_id", user);
    }
    if let Some(role) = query.get("role.id")
        && !effective
    {
        select.equal("a.role_id", role);
    }
    for (name, kind) in [("scope.project.id", "project"), ("scope.domain.id", "domain")] {
        if let Some(id) = query.get(name) {
            select.equal("a.target_kind", kind).equal("a.target_id", id);
        }
    }
    if query.has("scope.system") {
        select.equal("a.target_kind", "system");
    }
    if query.has("group.id") || query.has("scope.OS-INHERIT:inherited_to") {
        // There are no groups and no inherited assignments yet.
        select.filter("1 = 0", []);
    }
    Ok(select)
}

/// An assignment as a list shows it.
struct Shown {
    assignment: Assignment,
    names: Names,
    /// For an implied role: the one that brings it.
    prior: Option<RoleId>,
}

/// Adds the roles that are implied, each once; those that were given win.
fn expand(given: Vec<Shown>, implications: &[Implication], roles: &[Role]) -> Vec<Shown> {
    let mut implied_by: BTreeMap<&RoleId, Vec<&RoleId>> = BTreeMap::new();
    for Implication { prior, implied } in implications {
        implied_by.entry(prior).or_default().push(implied);
    }
    let key = |a: &Assignment, role: &RoleId| {
        (a.user_id.as_str().to_owned(), a.target.kind(), a.target.id().to_owned(), role.as_str().to_owned())
    };
    let mut seen: BTreeSet<_> = given.iter().map(|s| key(&s.assignment, &s.assignment.role_id)).collect();
    let mut added = Vec::new();
    for shown in &given {
        let mut queue = VecDeque::from([&shown.assignment.role_id]);
        while let Some(prior) = queue.pop_front() {
            for implied in implied_by.get(prior).into_iter().flatten().copied() {
                if !seen.insert(key(&shown.assignment, implied)) {
                    continue;
                }
                queue.push_back(implied);
                let name = roles.iter().find(|r| r.id == *implied).map(|r| r.name.clone()).unwrap_or_default();
                added.push(Shown {
                    assignment: Assignment { role_id: implied.clone(), ..shown.assignment.clone() },
                    names: Names { role: name, ..shown.names.clone() },
                    prior: Some(prior.clone()),
                });
            }
        }
    }
    given.into_iter().chain(added).collect()
}

impl Shown {
    fn document(&self, cx: &Cx, with_names: bool) -> Value {
        let (a, n) = (&self.assignment, &self.names);
        let mut user = json!({ "id": a.user_id });
        let mut role = json!({ "id": a.role_id });
        let mut target = json!({ "id": a.target.id() });
        if with_names {
            user["name"] = json!(n.user);
            user["domain"] = json!({ "id": n.user_domain_id, "name": n.user_domain });
            role["name"] = json!(n.role);
            target["name"] = json!(n.target);
            if matches!(a.target, On::Project(_)) {
                target["domain"] = json!({ "id": n.target_domain_id, "name": n.target_domain });
            }
        }
        let (path, scope) = match &a.target {
            On::Project(id) => (format!("projects/{id}"), json!({ "project": target })),
            On::Domain(id) => (format!("domains/{id}"), json!({ "domain": target })),
            On::System => ("system".to_owned(), json!({ "system": { "all": true } })),
        };
        let v3 = format!("{}/v3", cx.service_url());
        let given = self.prior.as_ref().unwrap_or(&a.role_id);
        let mut links = json!({ "assignment": format!("{v3}/{path}/users/{}/roles/{given}", a.user_id) });
        if let Some(prior) = &self.prior {
            links["prior_role"] = json!(format!("{v3}/prior_role/{prior}/implies/{}", a.role_id));
        }
        json!({ "user": user, "role": role, "scope": scope, "links": links })
    }
}

/// `GET .../users/{user_id}/roles`: what was given to the user there.
pub async fn list_granted(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let there = There::find(cx, &mut conn).await?;
    let (user, on) = there.authorized(cx, None)?;
    let found = assignments::direct_roles(&mut conn, &user.id, &on).await?;
    let page = Page { limit: u32::MAX, marker: None, sorts: Vec::new(), reverse: false };
    wire::collection(cx, "roles", &page, &found, |r| (r.id.as_str(), role::show(cx, r)))
}

/// `GET` and `HEAD .../users/{user_id}/roles/{role_id}`.
pub async fn check(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let assignment = named(cx, &mut conn).await?;
    if !assignments::exists(&mut conn, &assignment).await? {
        return Err(missing(&assignment));
    }
    Ok(Reply::no_content())
}

/// `PUT .../users/{user_id}/roles/{role_id}`.
pub async fn grant(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let assignment = named(cx, &mut tx).await?;
    assignments::insert(&mut tx, &assignment).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `DELETE .../users/{user_id}/roles/{role_id}`.
pub async fn revoke(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut tx = state.begin().await?;
    let assignment = named(cx, &mut tx).await?;
    if !assignments::delete(&mut tx, &assignment).await? {
        return Err(missing(&assignment));
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// The user and the target of the path, as far as there are such.
struct There {
    user: Option<User>,
    on: Option<On>,
    /// Of the target: itself for a domain, its domain for a project.
    domain_id: Option<DomainId>,
}

impl There {
    async fn find(cx: &Cx, conn: &mut Conn) -> Result<Self> {
        let user = users::get(conn, &UserId::new(cx.param("user_id"))).await?;
        let (on, domain_id) = match (cx.param("project_id"), cx.param("domain_id")) {
            ("", "") => (Some(On::System), None),
            ("", id) => {
                let found = domains::get(conn, &DomainId::new(id)).await?;
                (found.as_ref().map(|d| On::Domain(d.id.clone())), found.map(|d| d.id))
            }
            (id, _) => {
                let found = projects::get(conn, &ProjectId::new(id)).await?;
                (found.as_ref().map(|p| On::Project(p.id.clone())), found.map(|p| p.domain_id))
            }
        };
        Ok(Self { user, on, domain_id })
    }

    /// Both of them, once the caller may; who may not doesn't learn which is missing.
    fn authorized(self, cx: &Cx, role: Option<&Role>) -> Result<(User, On)> {
        let mut target = Target::none();
        if let Some(user) = &self.user {
            target = target.with("target.user.domain_id", user.domain_id.as_str());
        }
        if let Some(role) = role {
            target = target.with("target.role.name", role.name.as_str());
        }
        if let (Some(on), Some(id)) = (&self.on, &self.domain_id) {
            let name = if matches!(on, On::Project(_)) { "target.project.domain_id" } else { "target.domain.id" };
            target = target.with(name, id.as_str());
        }
        cx.authorize(&target)?;
        let user = self.user.ok_or_else(|| user::missing(&UserId::new(cx.param("user_id"))))?;
        let on = self.on.ok_or_else(|| match cx.param("project_id") {
            "" => domain::missing(&DomainId::new(cx.param("domain_id"))),
            id => project::missing(&ProjectId::new(id)),
        })?;
        Ok((user, on))
    }
}

/// The assignment that the path names, once the caller may.
async fn named(cx: &Cx, conn: &mut Conn) -> Result<Assignment> {
    let id = RoleId::new(cx.param("role_id"));
    let role = roles::get(conn, &id).await?;
    let (user, target) = There::find(cx, conn).await?.authorized(cx, role.as_ref())?;
    let role = role.ok_or_else(|| role::missing(&id))?;
    Ok(Assignment { user_id: user.id, target, role_id: role.id })
}

fn missing(assignment: &Assignment) -> Error {
    let Assignment { user_id, target, role_id } = assignment;
    let message = format!(
        "Could not find role assignment with role: {role_id}, user or group: {user_id}, project, domain, or system: {}.",
        target.id()
    );
    Error::not_found("RoleAssignmentNotFound", message)
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn implied_roles_are_shown_once() {
        let role = |name: &str| Role {
            id: RoleId::new(name),
            name: name.to_uppercase(),
            description: None,
            extra: serde_json::Map::new(),
            created_at: Timestamp(0),
        };
        let roles = [role("admin"), role("manager"), role("member")];
        let imply =
            |prior: &str, implied: &str| Implication { prior: RoleId::new(prior), implied: RoleId::new(implied) };
        // A circle must end.
        let implications = [imply("admin", "manager"), imply("manager", "member"), imply("member", "admin")];
        let given = |role: &str| Shown {
            assignment: Assignment { user_id: UserId::new("u"), target: On::System, role_id: RoleId::new(role) },
            names: Names { role: role.to_uppercase(), ..Names::default() },
            prior: None,
        };
        let shown = expand(vec![given("admin"), given("member")], &implications, &roles);
        let found: Vec<(&str, &str, Option<&str>)> = shown
            .iter()
            .map(|s| (s.assignment.role_id.as_str(), s.names.role.as_str(), s.prior.as_ref().map(AsRef::as_ref)))
            .collect();
        assert_eq!(
            found,
            [("admin", "ADMIN", None), ("member", "MEMBER", None), ("manager", "MANAGER", Some("admin"))]
        );
    }
}
