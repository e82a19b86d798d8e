//! Routes and rules name each other, and these tests see the services that the product has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use web::{Access, Service, policy::COMMON};

use crate::cloud::{Cloud, repository};

/// A service that `nacre server` has and these tests lack would go unseen.
#[tokio::test]
async fn every_service_is_here() {
    let cloud = Cloud::new().await;
    let wiring = fs::read_to_string(repository("crates/nacre/src/control_plane.rs")).unwrap();
    let called = |line: &str| {
        let own = line.trim().split_once("::own_service(").map(|(name, _)| format!("{name}-settings"));
        own.or_else(|| line.trim().split_once("::service(").map(|(name, _)| name.to_owned()))
    };
    let wired: BTreeSet<String> = wiring.lines().filter_map(called).collect();
    let here: BTreeSet<String> = cloud.services().iter().map(|service| service.name.to_owned()).collect();
    assert_eq!(wired, here);
}

/// A service whose rules `nacre admin policy` and `policy.yaml` don't know.
#[tokio::test]
async fn every_table_is_in_the_policy() {
    let cloud = Cloud::new().await;
    let text = fs::read_to_string(repository("crates/nacre/src/policy.rs")).unwrap();
    let missing: Vec<&str> = cloud
        .services()
        .iter()
        .filter(|service| !service.policy.is_empty() && !text.contains(&table_of(service.name)))
        .map(|service| service.name)
        .collect();
    assert!(missing.is_empty(), "add the tables of {missing:?} to `tables` in crates/nacre/src/policy.rs");
}

/// `identity-settings` is what Keystone has no API for, in the same crate.
fn crate_of(service: &str) -> &str {
    service.split('-').next().unwrap_or(service)
}

fn table_of(service: &str) -> String {
    let table = if crate_of(service) == service { "" } else { "OWN_RULES" };
    format!("{}::policy::{table}", crate_of(service))
}

#[tokio::test]
async fn every_route_names_a_rule_of_its_service() {
    let cloud = Cloud::new().await;
    let mut missing = Vec::new();
    for service in cloud.services() {
        let known: BTreeSet<&str> = service.policy.iter().map(|rule| rule.name).collect();
        missing.extend(rules_of_routes(service).filter(|rule| !known.contains(rule)));
    }
    assert!(missing.is_empty(), "rules of routes that no table has: {missing:#?}");
}

#[tokio::test]
async fn no_rule_is_there_twice() {
    let cloud = Cloud::new().await;
    let mut seen = BTreeMap::new();
    let shared = COMMON.iter().map(|rule| ("shared", rule));
    let of_services = cloud.services().iter().flat_map(|s| s.policy.iter().map(|rule| (s.name, rule)));
    for (table, rule) in shared.chain(of_services) {
        let earlier = seen.insert(rule.name, table);
        assert_eq!(earlier, None, "{} in {table}", rule.name);
        assert!(!rule.description.is_empty(), "{}: operators want to know what it is for", rule.name);
    }
}

/// Rules that only operators' policy files refer to: Keystone has them.
const FOR_OPERATORS: &[&str] = &["service_or_admin"];

/// A rule that nothing asks is a promise to operators that is not kept.
#[tokio::test]
async fn every_rule_is_asked() {
    let cloud = Cloud::new().await;
    let mut unused = Vec::new();
    let checks: Vec<&str> = cloud.services().iter().flat_map(|s| s.policy).map(|rule| rule.check).collect();
    for service in cloud.services() {
        let by_routes: BTreeSet<&str> = rules_of_routes(service).collect();
        let mut code = String::new();
        read_sources(&repository(&format!("crates/{}/src", crate_of(service.name))), &mut code);
        for rule in service.policy.iter().map(|rule| rule.name) {
            let by_checks = checks.iter().any(|check| words(check).any(|word| word == format!("rule:{rule}")));
            // `create_port:fixed_ips:ip_address`: asked for the attribute, wherever the code knows one of that name.
            let attribute = rule.split_once(':').filter(|(operation, _)| by_routes.contains(operation));
            let by_attribute = attribute.is_some_and(|(_, name)| code.contains(name));
            let by_code = code.contains(&format!("\"{rule}\""));
            if !(by_routes.contains(rule) || by_code || by_checks || by_attribute || FOR_OPERATORS.contains(&rule)) {
                unused.push(rule);
            }
        }
    }
    assert!(unused.is_empty(), "rules that neither a route nor the code names: {unused:#?}");
}

fn rules_of_routes(service: &Service) -> impl Iterator<Item = &'static str> {
    service.routes.iter().filter_map(|route| match route.access {
        Access::Rule(rule) => Some(rule),
        Access::Public | Access::Token => None,
    })
}

fn words(check: &str) -> impl Iterator<Item = &str> {
    check.split(|c: char| c.is_whitespace() || c == '(' || c == ')')
}

/// All Rust text below a folder, the policy table apart.
fn read_sources(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, code);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("policy.rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
