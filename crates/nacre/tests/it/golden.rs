//! Tables that reviews see change. `make golden` writes them anew.

use std::{fmt::Write, fs};

use model::id::{DomainId, ProjectId, UserId};
use serde_json::Value;
use web::{
    Access, App, Caller, Route, Scope, Service, Version,
    policy::{COMMON, Rule, Target},
    service::Verb,
};

use crate::cloud::{Cloud, repository};

/// Set, it makes the tests write the files instead of comparing with them.
const UPDATE: &str = "UPDATE_GOLDEN";

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = repository("crates/nacre/tests/it/golden").join(name);
    if std::env::var_os(UPDATE).is_some() {
        return fs::write(path, text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = known.lines().zip(text.lines()).enumerate();
    let differs = lines.find(|(_, (old, new))| old != new);
    let sizes = (known.lines().count(), text.lines().count());
    let first = differs.map_or_else(|| format!("{sizes:?} lines"), |(n, (old, new))| format!("{n}:\n-{old}\n+{new}"));
    assert!(known == text, "{name} differs ({first}\n): `make golden`, and read the diff");
}

#[tokio::test]
async fn routes() {
    let cloud = Cloud::new().await;
    let mut text = "# service, method, path [action], microversions, who may\n".to_owned();
    for service in cloud.services() {
        text.push('\n');
        for route in service.routes {
            writeln!(text, "{}", route_line(service, route).trim_end()).unwrap();
        }
    }
    golden("routes.txt", &text);
}

fn route_line(service: &Service, route: &Route) -> String {
    let action = route.action.map(|action| format!(" [{action}]")).unwrap_or_default();
    let path = format!("{}{}{action}", service.prefix, route.path);
    let access = match route.access {
        Access::Public => "public",
        Access::Token => "token",
        Access::Rule(rule) => rule,
    };
    let streaming = if route.streaming { "  (streaming)" } else { "" };
    let (method, versions) = (route.method.as_http(), versions_of(route));
    format!("{:8} {:6} {path:85} {versions:11} {access}{streaming}", service.name, method.as_str())
}

fn versions_of(route: &Route) -> String {
    let bound = |version: Version, open: Version| if version == open { String::new() } else { version.to_string() };
    match (bound(route.since, Version::MIN), bound(route.until, Version::MAX)) {
        (since, until) if since.is_empty() && until.is_empty() => String::new(),
        (since, until) => format!("{since}..{until}"),
    }
}

#[tokio::test]
async fn policy() {
    let cloud = Cloud::new().await;
    let mut text = POLICY_HEAD.to_owned();
    let shared = ("shared", COMMON);
    for (name, rules) in std::iter::once(shared).chain(cloud.services().iter().map(|s| (s.name, s.policy))) {
        writeln!(text, "\n## {name}").unwrap();
        for rule in rules {
            text.push_str(&rule_lines(&cloud.app, rule));
        }
    }
    golden("policy.txt", &text);
}

const POLICY_HEAD: &str = "\
# Each rule, and whom it admits with its default check: Admin, manaGer, Member, Reader, Service, Nobody's role.
# (In checks every role of the first four implies the next.) The columns are a token of a project for a target that is the
# project's and the user's own, the same for another project's and user's target in another domain, a token of the system
# for such a target, a token of a domain for a target in that domain. What is shared or public is not among the targets.
# Below: scopes, where not every one may use the rule; the check.
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

fn rule_lines(app: &App, rule: &Rule) -> String {
    let (own, other) = (target("mine"), target("another"));
    let in_domain = Scope::Domain { id: DomainId::new("domain-mine"), name: "mine".to_owned() };
    let columns = [(project_scope(), &own), (project_scope(), &other), (Scope::System, &other), (in_domain, &own)];
    let matrix = columns.map(|(scope, target)| admitted(app, rule, &scope, target)).join("  ");
    let scopes: Vec<String> = rule.scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    let scopes = if scopes.is_empty() { String::new() } else { format!("[{}] ", scopes.join(" ")) };
    let check = if rule.check.is_empty() { "@" } else { rule.check };
    format!("{:66} {matrix}\n    {scopes}{check}\n", rule.name)
}

fn admitted(app: &App, rule: &Rule, scope: &Scope, target: &Target) -> String {
    let policy = app.policy();
    let letter = |(letter, roles): &(char, &[&str])| {
        let caller = Caller {
            user_id: Some(UserId::new("user-mine")),
            user_domain_id: "domain-mine".to_owned(),
            scope: scope.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Caller::default()
        };
        if policy.allows(rule.name, &caller, target) { *letter } else { '.' }
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

/// A target with every attribute that checks ask for, all of them of this owner.
fn target(whose: &str) -> Target {
    const PROJECT: &[&str] = &["owner", "network:project_id", "network:tenant_id", "target.project.id"];
    const USER: &[&str] = &["user_id", "target.user.id", "target.token.user_id"];
    const DOMAIN: &[&str] =
        &["target.domain_id", "target.domain.id", "target.project.domain_id", "target.user.domain_id"];
    let of = |kind: &str, names: &'static [&'static str]| {
        let value = format!("{kind}-{whose}");
        names.iter().map(move |name| (*name, value.clone()))
    };
    let attributes = of("project", PROJECT).chain(of("user", USER)).chain(of("domain", DOMAIN));
    let target =
        Target::project(format!("project-{whose}")).with("visibility", "private").with("target.role.name", "member");
    attributes.fold(target, |target, (name, value)| target.with(name, value))
}

#[tokio::test]
async fn flows() {
    let cloud = Cloud::new().await;
    let graphs: Vec<String> = cloud.machines.iter().map(|machine| flow::graph(&**machine)).collect();
    golden("flows.txt", &graphs.join("\n"));
}

/// Whatever anybody may read without a token: the version documents.
#[tokio::test]
async fn versions() {
    let cloud = Cloud::new().await;
    let mut text = String::new();
    for service in cloud.services() {
        if let Some(versions) = service.versions {
            writeln!(text, "{}: microversions {}..{}\n", service.prefix, versions.min, versions.max).unwrap();
        }
        for route in service.routes.iter().filter(|r| r.access == Access::Public && r.method == Verb::Get) {
            let path = format!("{}{}", service.prefix, route.path);
            let response = cloud.anyone.get(&path).await;
            assert_ne!(response.json, Value::Null, "{path}");
            let document = serde_json::to_string_pretty(&response.json).unwrap();
            writeln!(text, "GET {path} -> {}\n{document}\n", response.status.as_u16()).unwrap();
        }
    }
    golden("versions.txt", &text);
}
