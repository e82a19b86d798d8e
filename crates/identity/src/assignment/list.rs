//! `GET /v3/role_assignments`: everything, filtered, as it was given or as it works out.

use std::collections::{HashMap, HashSet};

use model::{
    Error, Result,
    id::{DomainId, GroupId, ProjectId, RoleId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        assignments::{self, Actor, Assignment},
        groups,
        projects::{self, Project},
        roles::{self, Implication},
    },
    list::Value as Bind,
};
use web::{Cx, Reply, Target};

use super::{
    logic::{self, Facts, Shown},
    wire::Names,
};
use crate::{domain, project, wire};

/// Assignments that one list shows; more are cut off, and the list says so.
const LIST_MAX: u32 = 10_000;

/// What the query asks for.
struct Asked<'a> {
    user: Option<UserId>,
    group: Option<GroupId>,
    role: Option<RoleId>,
    project: Option<ProjectId>,
    domain: Option<DomainId>,
    system: bool,
    inherited: Option<bool>,
    effective: bool,
    names: bool,
    subtree: bool,
    own: Option<&'a DomainId>,
}

/// `GET /v3/role_assignments`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let asked = Asked::of(cx);
    let mut conn = cx.db().read().await?;
    let tree = authorized(cx, &mut conn, &asked).await?;
    asked.check()?;
    let implications = roles::implications(&mut conn).await?;
    let given = given(cx, &mut conn, &asked, &tree, &implications).await?;
    let mut truncated = given.len() > at_most();
    let shown = if asked.effective {
        let facts = facts(cx, &mut conn, &asked, &tree, &given, implications).await?;
        let (mut shown, cut) = logic::expand(given, &facts, at_most());
        truncated |= cut;
        shown.retain(|s| asked.role.as_ref().is_none_or(|role| s.role_id == *role));
        shown
    } else {
        given.into_iter().take(at_most()).map(Shown::given).collect()
    };
    let names = if asked.names { Some(Names::read(cx, &mut conn, &shown).await?) } else { None };
    let items: Vec<Value> = shown.iter().map(|s| s.document(cx, names.as_ref())).collect();
    let mut document =
        json!({ "role_assignments": items, "links": { "next": null, "self": cx.self_url(), "previous": null } });
    if truncated {
        document["truncated"] = json!(true);
    }
    Reply::ok(&document)
}

fn at_most() -> usize {
    usize::try_from(LIST_MAX).unwrap_or(usize::MAX)
}

impl<'a> Asked<'a> {
    fn of(cx: &'a Cx) -> Self {
        let get = |name: &str| cx.query.get(name).filter(|value| !value.is_empty());
        Self {
            user: get("user.id").map(UserId::new),
            group: get("group.id").map(GroupId::new),
            role: get("role.id").map(RoleId::new),
            project: get("scope.project.id").map(ProjectId::new),
            domain: get("scope.domain.id").map(DomainId::new),
            system: cx.query.has("scope.system"),
            inherited: cx.query.get("scope.OS-INHERIT:inherited_to").map(|to| to == "projects"),
            effective: wire::is_asked(cx, "effective"),
            names: wire::is_asked(cx, "include_names"),
            subtree: wire::is_asked(cx, "include_subtree"),
            own: domain::own(cx),
        }
    }

    /// Filters that contradict each other, or can only leave nothing.
    fn check(&self) -> Result<()> {
        let wrong = [
            (self.domain.is_some() && self.project.is_some(), "Specify a domain or project, not both"),
            (self.domain.is_some() && self.system, "Specify system or domain, not both"),
            (self.project.is_some() && self.system, "Specify system or project, not both"),
            (self.user.is_some() && self.group.is_some(), "Specify a user or group, not both"),
            (
                self.effective && self.group.is_some(),
                "Combining effective and group filter will always result in an empty list.",
            ),
            (
                self.effective && self.inherited == Some(true) && self.domain.is_some(),
                "Combining effective, domain and inherited filters will always result in an empty list.",
            ),
            (
                self.subtree && self.project.is_none(),
                "scope.project.id must be specified if include_subtree is also specified",
            ),
        ];
        match wrong.iter().find(|(is_so, _)| *is_so) {
            Some((_, message)) => Err(Error::bad_request("ValidationError", *message)),
            None => Ok(()),
        }
    }
}

/// The project that the list is about, and what is around it.
#[derive(Default)]
struct Tree {
    /// What stands above: projects and the domain.
    above: Vec<String>,
    /// What stands below, where the list includes it.
    below: Vec<Project>,
}

/// Applies the rule that is due, and reads the tree that the list is about.
async fn authorized(cx: &Cx, conn: &mut Conn, asked: &Asked<'_>) -> Result<Tree> {
    if !asked.subtree {
        let own = asked.own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str()));
        cx.authorize(&own)?;
    }
    let Some(id) = &asked.project else {
        if asked.subtree {
            cx.authorize_instead("identity:list_role_assignments_for_tree", &Target::none())?;
        }
        return Ok(Tree::default());
    };
    let found = projects::get(conn, id).await?;
    if asked.subtree {
        let target = found
            .as_ref()
            .map_or_else(Target::none, |p| project::target(p).with("target.domain_id", p.domain_id.as_str()));
        cx.authorize_instead("identity:list_role_assignments_for_tree", &target)?;
        if found.is_none() {
            return Err(project::missing(id));
        }
    }
    let above = projects::above(conn, id).await?;
    let below = if asked.subtree { projects::subtree(conn, id, LIST_MAX).await? } else { Vec::new() };
    Ok(Tree { above, below })
}

/// What was given, as far as it bears on what is asked for.
async fn given(
    cx: &Cx,
    conn: &mut Conn,
    asked: &Asked<'_>,
    tree: &Tree,
    implications: &[Implication],
) -> Result<Vec<Assignment>> {
    let mut select = assignments::select();
    if let Some(own) = asked.own {
        assignments::in_domain(&mut select, own);
    }
    if let Some(user) = &asked.user {
        let actors =
            if asked.effective { assignments::actors_of(conn, user).await? } else { vec![Actor::User(user.clone())] };
        select.any_of("a.actor_id", actors.iter().map(|actor| Bind::from(actor.id())));
    }
    if let Some(group) = &asked.group {
        select.equal("a.actor_kind", "group").equal("a.actor_id", group.as_str());
    }
    if let Some(role) = &asked.role {
        let bringing = if asked.effective { logic::implying(role, implications) } else { vec![role.clone()] };
        select.any_of("a.role_id", bringing.iter().map(Bind::from));
    }
    if let Some(inherited) = asked.inherited {
        select.equal("a.inherited", inherited);
    }
    if asked.system {
        select.equal("a.target_kind", "system");
    }
    if let Some(domain) = &asked.domain {
        select.equal("a.target_kind", "domain").equal("a.target_id", domain.as_str());
        if asked.effective {
            select.equal("a.inherited", false);
        }
    }
    let Some(project) = &asked.project else {
        return Ok(assignments::list(conn, select, LIST_MAX + 1).await?);
    };
    let here: HashSet<&str> =
        std::iter::once(project.as_str()).chain(tree.below.iter().map(|p| p.id.as_str())).collect();
    let mut targets: Vec<&str> = here.iter().copied().collect();
    if asked.effective {
        targets.extend(tree.above.iter().map(String::as_str));
    }
    select.in_list(cx.db().dialect(), "a.target_id", &targets);
    let mut found = assignments::list(conn, select, LIST_MAX + 1).await?;
    // What was given above is of interest only where it is inherited.
    found.retain(|a| here.contains(a.target.id()) || a.inherited);
    if asked.effective && !asked.subtree {
        // What the project itself passes on is not for itself.
        found.retain(|a| !a.inherited || a.target.id() != project.as_str());
    }
    Ok(found)
}

/// What expanding that needs to know.
async fn facts(
    cx: &Cx,
    conn: &mut Conn,
    asked: &Asked<'_>,
    tree: &Tree,
    given: &[Assignment],
    implications: Vec<Implication>,
) -> Result<Facts> {
    let dialect = cx.db().dialect();
    let groups: HashSet<&str> = given.iter().filter(|a| a.actor.kind() == "group").map(|a| a.actor.id()).collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    let mut members: HashMap<String, Vec<UserId>> = HashMap::new();
    match &asked.user {
        Some(user) => members.extend(groups.iter().map(|g| ((*g).to_owned(), vec![user.clone()]))),
        None => {
            for (group, user) in groups::members_of(conn, dialect, &groups, LIST_MAX + 1).await? {
                members.entry(group).or_default().push(user);
            }
        }
    }
    let roots: HashSet<&str> = given.iter().filter(|a| a.inherited).map(|a| a.target.id()).collect();
    let mut below: HashMap<String, Vec<ProjectId>> = HashMap::new();
    match &asked.project {
        Some(project) => {
            for root in roots {
                below.insert(root.to_owned(), within(project, tree, root));
            }
        }
        None => {
            let roots: Vec<&str> = roots.into_iter().collect();
            for (root, id) in projects::below(conn, dialect, &roots, LIST_MAX + 1).await? {
                below.entry(root).or_default().push(id);
            }
        }
    }
    let domain_roles = roles::of_domains(conn).await?.into_iter().collect();
    Ok(Facts { members, below, implications, domain_roles })
}

/// Of the project and what is listed below it, the part that stands below `root`.
fn within(project: &ProjectId, tree: &Tree, root: &str) -> Vec<ProjectId> {
    if tree.above.iter().any(|id| id == root) {
        return std::iter::once(project).chain(tree.below.iter().map(|p| &p.id)).cloned().collect();
    }
    let mut found: HashSet<&str> = HashSet::from([root]);
    // Parents come before children.
    let mut below = Vec::new();
    for child in &tree.below {
        if child.parent_id.as_ref().is_some_and(|parent| found.contains(parent.as_str())) {
            found.insert(child.id.as_str());
            below.push(child.id.clone());
        }
    }
    below
}
