//! From what was given to what holds: a group's role is each member's, an inherited one holds in the projects below, and
//! roles imply others.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use model::id::{GroupId, ProjectId, RoleId, UserId};
use store::identity::{
    assignments::{Actor, Assignment, Target},
    roles::Implication,
};

/// An assignment as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who has the role.
    pub actor: Actor,
    /// Where.
    pub target: Target,
    /// Which.
    pub role_id: RoleId,
    /// Given as inherited, and not expanded.
    pub inherited: bool,
    /// The group that it comes by.
    pub group: Option<GroupId>,
    /// Where it was given, if elsewhere.
    pub from: Option<Target>,
    /// For an implied role: the one that brings it.
    pub prior: Option<RoleId>,
}

impl Shown {
    /// As it was given.
    pub fn given(assignment: Assignment) -> Self {
        let Assignment { actor, target, role_id, inherited } = assignment;
        Self { actor, target, role_id, inherited, group: None, from: None, prior: None }
    }
}

/// What expanding needs to know.
#[derive(Debug, Default)]
pub struct Facts {
    /// Members of each group.
    pub members: HashMap<String, Vec<UserId>>,
    /// Projects below each project and in each domain that inherited roles were given on.
    pub below: HashMap<String, Vec<ProjectId>>,
    /// Which roles imply which.
    pub implications: Vec<Implication>,
    /// Roles of a domain's own: they only imply others.
    pub domain_roles: HashSet<RoleId>,
}

/// What holds, each once: what was given comes before what follows from it. No more than a number, and whether that cut
/// it off.
pub fn expand(given: Vec<Assignment>, facts: &Facts, at_most: usize) -> (Vec<Shown>, bool) {
    let mut direct = Vec::new();
    for assignment in given {
        if direct.len() > at_most {
            break;
        }
        for placed in placed(assignment, facts) {
            match &placed.actor {
                Actor::User(_) => direct.push(placed),
                Actor::Group(id) => {
                    for user in facts.members.get(id.as_str()).into_iter().flatten() {
                        let (actor, group) = (Actor::User(user.clone()), Some(id.clone()));
                        direct.push(Shown { actor, group, ..placed.clone() });
                    }
                }
            }
        }
    }
    // Assigned before expanded: what needs no explanation wins over what does.
    direct.sort_by_key(|shown| (shown.group.is_some(), shown.from.is_some()));
    let key = |shown: &Shown| (shown.actor.clone(), shown.target.clone(), shown.role_id.clone());
    let mut seen = BTreeSet::new();
    direct.retain(|shown| seen.insert(key(shown)));
    let mut implied = Vec::new();
    'all: for shown in &direct {
        let mut queue = VecDeque::from([&shown.role_id]);
        while let Some(prior) = queue.pop_front() {
            for Implication { implied: role, .. } in facts.implications.iter().filter(|i| i.prior == *prior) {
                let follows = Shown { role_id: role.clone(), prior: Some(prior.clone()), ..shown.clone() };
                if seen.insert(key(&follows)) {
                    queue.push_back(role);
                    implied.push(follows);
                }
                if implied.len() > at_most {
                    break 'all;
                }
            }
        }
    }
    let mut all = direct;
    all.extend(implied);
    all.retain(|shown| !facts.domain_roles.contains(&shown.role_id));
    let cut = all.len() > at_most;
    all.truncate(at_most);
    (all, cut)
}

/// The assignment on each target where it holds.
fn placed(assignment: Assignment, facts: &Facts) -> Vec<Shown> {
    if !assignment.inherited {
        return vec![Shown::given(assignment)];
    }
    let below = facts.below.get(assignment.target.id());
    let there = |project: &ProjectId| Shown {
        target: Target::Project(project.clone()),
        from: Some(assignment.target.clone()),
        inherited: false,
        ..Shown::given(assignment.clone())
    };
    below.into_iter().flatten().map(there).collect()
}

/// The roles that bring this one, itself among them.
pub fn implying(role: &RoleId, implications: &[Implication]) -> Vec<RoleId> {
    let mut found = vec![role.clone()];
    let mut at = 0;
    while let Some(wanted) = found.get(at).cloned() {
        for Implication { prior, .. } in implications.iter().filter(|i| i.implied == wanted) {
            if !found.contains(prior) {
                found.push(prior.clone());
            }
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imply(prior: &str, implied: &str) -> Implication {
        Implication { prior: RoleId::new(prior), implied: RoleId::new(implied) }
    }

    fn project(id: &str) -> Target {
        Target::Project(ProjectId::new(id))
    }

    fn user(id: &str) -> Actor {
        Actor::User(UserId::new(id))
    }

    fn on(actor: Actor, target: Target, role: &str, inherited: bool) -> Assignment {
        Assignment { actor, target, role_id: RoleId::new(role), inherited }
    }

    fn brief(shown: &Shown) -> String {
        let prior = shown.prior.as_ref().map_or(String::new(), |p| format!(" by {p}"));
        let group = shown.group.as_ref().map_or(String::new(), |g| format!(" in {g}"));
        let from = shown.from.as_ref().map_or(String::new(), |f| format!(" from {}", f.id()));
        format!("{} {} {}{group}{from}{prior}", shown.actor.id(), shown.role_id, shown.target.id())
    }

    #[test]
    fn what_holds() {
        let facts = Facts {
            members: HashMap::from([("g".to_owned(), vec![UserId::new("u"), UserId::new("v")])]),
            below: HashMap::from([("d".to_owned(), vec![ProjectId::new("p"), ProjectId::new("q")])]),
            // A circle must end.
            implications: vec![imply("admin", "member"), imply("member", "reader"), imply("reader", "admin")],
            domain_roles: HashSet::from([RoleId::new("local")]),
        };
        let group = || Actor::Group(GroupId::new("g"));
        let domain = || Target::Domain(model::id::DomainId::new("d"));
        let cases: [(Vec<Assignment>, &[&str]); 6] = [
            (
                vec![on(user("u"), project("p"), "admin", false)],
                &["u admin p", "u member p by admin", "u reader p by member"],
            ),
            (
                vec![on(user("u"), project("p"), "other", false), on(user("u"), project("p"), "other", false)],
                &["u other p"],
            ),
            (vec![on(group(), project("p"), "other", false)], &["u other p in g", "v other p in g"]),
            (vec![on(user("u"), domain(), "other", true)], &["u other p from d", "u other q from d"]),
            (
                vec![on(group(), domain(), "other", true), on(user("u"), project("p"), "other", false)],
                &["u other p", "v other p in g from d", "u other q in g from d", "v other q in g from d"],
            ),
            (vec![on(user("u"), domain(), "local", false), on(user("u"), domain(), "other", false)], &["u other d"]),
        ];
        for (given, expected) in cases {
            let (shown, cut) = expand(given.clone(), &facts, 100);
            assert_eq!(shown.iter().map(brief).collect::<Vec<_>>(), expected, "{given:?}");
            assert!(!cut);
        }
        let many = vec![on(group(), domain(), "admin", true)];
        let (shown, cut) = expand(many, &facts, 5);
        assert_eq!((shown.len(), cut), (5, true));
    }

    #[test]
    fn what_brings_a_role() {
        let implications = [imply("admin", "member"), imply("member", "reader"), imply("reader", "admin")];
        let found = implying(&RoleId::new("reader"), &implications);
        assert_eq!(found, ["reader", "member", "admin"].map(RoleId::new));
        assert_eq!(implying(&RoleId::new("other"), &implications), [RoleId::new("other")]);
    }
}
