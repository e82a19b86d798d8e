//! Tables that reviews see change.

use std::{fmt::Write, sync::Arc};

use drivers::network::{Northbound, fake::FakeNetwork};
use web::{Access, policy::Policy};

#[test]
fn routes() {
    let mut text = String::new();
    for route in network::routes::ROUTES {
        let access = match route.access {
            Access::Public => "public",
            Access::Token => "token",
            Access::Rule(rule) => rule,
        };
        writeln!(text, "{:6} {:60} {access}", route.method.as_http().as_str(), route.path).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn rules() {
    Policy::new(&[network::policy::POLICY], &std::collections::BTreeMap::new()).unwrap();
    let mut text = String::new();
    for rule in network::policy::POLICY {
        writeln!(text, "{:60} {}", rule.name, rule.check).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_route_has_its_rule() {
    let known = |name: &str| network::policy::POLICY.iter().any(|rule| rule.name == name);
    for route in network::routes::ROUTES {
        if let Access::Rule(rule) = route.access {
            assert!(known(rule), "{rule}");
        }
    }
}

#[test]
fn flows() {
    let northbound: Arc<dyn Northbound> = Arc::new(FakeNetwork::default());
    let machines = network::machines(&northbound, network::Options::default());
    let graphs: Vec<String> = machines.iter().map(|machine| flow::graph(&**machine)).collect();
    insta::assert_snapshot!(graphs.join("\n"));
}
