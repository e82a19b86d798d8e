//! Whom a rule admits: six kinds of callers, four kinds of tokens and targets, one letter each.

use model::id::{DomainId, ProjectId, UserId};

use super::{Policy, Rule, Target};
use crate::{Caller, Scope};

/// What the columns of [`row`] mean.
pub const LEGEND: &str = "\
# Whom a rule admits: Admin, manaGer, Member, Reader, Service, Nobody's role. (In checks every role of the first four
# implies the next.) The columns are a token of a project for a target that is the project's and the user's own, the same
# for another project's and user's target in another domain, a token of the system for such a target, a token of a domain
# for a target in that domain. What is shared or public is not among the targets.
";

/// Letter in the matrix, roles that hold.
const ROLES: &[(char, &[&str])] = &[
    ('A', &["admin", "manager", "member", "reader"]),
    ('G', &["manager", "member", "reader"]),
    ('M', &["member", "reader"]),
    ('R', &["reader"]),
    ('S', &["service"]),
    ('N', &[]),
];

/// The rule's row: `AGMR..  A.....  A.....  A.....`.
pub fn row(policy: &Policy, rule: &str) -> String {
    let (own, other) = (target("mine"), target("another"));
    let in_domain = Scope::Domain { id: DomainId::new("domain-mine"), name: "mine".to_owned() };
    let columns = [(project_scope(), &own), (project_scope(), &other), (Scope::System, &other), (in_domain, &own)];
    columns.map(|(scope, target)| admitted(policy, rule, &scope, target)).join("  ")
}

/// The rule's scopes and its default check, as one line.
pub fn check_line(rule: &Rule) -> String {
    let scopes: Vec<String> = rule.scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    let scopes = if scopes.is_empty() { String::new() } else { format!("[{}] ", scopes.join(" ")) };
    format!("{scopes}{}", if rule.check.is_empty() { "@" } else { rule.check })
}

fn admitted(policy: &Policy, rule: &str, scope: &Scope, target: &Target) -> String {
    let letter = |(letter, roles): &(char, &[&str])| {
        let caller = Caller {
            user_id: Some(UserId::new("user-mine")),
            user_domain_id: "domain-mine".to_owned(),
            scope: scope.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Caller::default()
        };
        if policy.allows(rule, &caller, target) { *letter } else { '.' }
    };
    ROLES.iter().map(letter).collect()
}

fn project_scope() -> Scope {
    Scope::Project {
        id: ProjectId::new("project-mine"),
        name: "mine".to_owned(),
        domain_id: DomainId::new("domain-mine"),
        domain_name: "mine".to_owned(),
    }
}

fn target(whose: &str) -> Target {
    let of = |kind: &str| format!("{kind}-{whose}");
    whole_target(&of("project"), &of("user"), &of("domain"))
}

/// A target with every attribute that default checks ask for, all of them of this project, user and domain.
pub fn whole_target(project: &str, user: &str, domain: &str) -> Target {
    const PROJECT: &[&str] = &[
        "owner",
        "network:project_id",
        "network:tenant_id",
        "security_group:project_id",
        "ext_parent:project_id",
        "target.project.id",
        "target.limit.project_id",
    ];
    const USER: &[&str] = &[
        "user_id",
        "target.user.id",
        "target.token.user_id",
        "target.credential.user_id",
        "target.trust.trustor_user_id",
        "target.trust.trustee_user_id",
    ];
    const DOMAIN: &[&str] = &[
        "target.domain_id",
        "target.domain.id",
        "target.project.domain_id",
        "target.user.domain_id",
        "target.group.domain_id",
        "target.role.domain_id",
        "target.limit.domain.id",
        "target.limit.project.domain_id",
    ];
    let of = |names: &'static [&'static str], value: &str| {
        let value = value.to_owned();
        names.iter().map(move |name| (*name, value.clone()))
    };
    let target = Target::project(project).with("visibility", "private").with("target.role.name", "member");
    let attributes = of(PROJECT, project).chain(of(USER, user)).chain(of(DOMAIN, domain));
    attributes.fold(target, |target, (name, value)| target.with(name, value))
}
