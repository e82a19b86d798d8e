//! Tables that reviews see change. `make golden` writes them anew.

use std::{fmt::Write, fs};

use serde_json::Value;
use web::{
    Access, App, Route, Service, Version,
    policy::{COMMON, Rule, matrix},
    service::Verb,
};

use crate::cloud::{Cloud, repository};

/// Set, it makes the tests write the files instead of comparing with them.
const UPDATE: &str = "UPDATE_GOLDEN";

#[track_caller]
fn golden(name: &str, text: &str) {
    golden_at(&format!("crates/nacre/tests/it/golden/{name}"), text);
}

#[track_caller]
fn golden_at(name: &str, text: &str) {
    let path = repository(name);
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
    let mut text = format!("{}# Below: scopes, where not every one may use the rule; the check.\n", matrix::LEGEND);
    let shared = ("shared", COMMON);
    for (name, rules) in std::iter::once(shared).chain(cloud.services().iter().map(|s| (s.name, s.policy))) {
        writeln!(text, "\n## {name}").unwrap();
        for rule in rules {
            text.push_str(&rule_lines(&cloud.app, rule));
        }
    }
    golden("policy.txt", &text);
}

fn rule_lines(app: &App, rule: &Rule) -> String {
    format!("{:66} {}\n    {}\n", rule.name, matrix::row(&app.policy(), rule.name), matrix::check_line(rule))
}

#[tokio::test]
async fn flows() {
    let cloud = Cloud::new().await;
    let graphs: Vec<String> = cloud.machines.iter().map(|machine| flow::graph(&**machine)).collect();
    golden("flows.txt", &graphs.join("\n"));
}

/// The document that is checked in is the one that is served; `tests/e2e/test_openapi.py` holds it to the specification.
#[tokio::test]
async fn openapi() {
    let cloud = Cloud::new().await;
    let served = cloud.anyone.get("/nacre/v1/openapi.json").await.expect(200);
    let text = serde_json::to_string_pretty(&served.json).unwrap();
    golden_at("docs/openapi.json", &format!("{text}\n"));
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
        let readable = |r: &&Route| r.access == Access::Public && r.method == Verb::Get && !r.path.ends_with(".json");
        for route in service.routes.iter().filter(readable) {
            let path = format!("{}{}", service.prefix, route.path);
            let response = cloud.anyone.get(&path).await;
            assert_ne!(response.json, Value::Null, "{path}");
            let document = serde_json::to_string_pretty(&response.json).unwrap();
            writeln!(text, "GET {path} -> {}\n{document}\n", response.status.as_u16()).unwrap();
        }
    }
    golden("versions.txt", &text);
}
