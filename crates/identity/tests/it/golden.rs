//! Tables that reviews see change.

use std::fmt::Write;

use web::Access;

#[test]
fn routes() {
    let mut text = String::new();
    for route in identity::routes::ROUTES {
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
    let mut text = String::new();
    for rule in identity::policy::RULES {
        writeln!(text, "{:45} {}", rule.name, rule.check).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_rule_has_its_route_and_every_route_its_rule() {
    let asked: Vec<&str> = identity::routes::ROUTES
        .iter()
        .filter_map(|route| match route.access {
            Access::Rule(rule) => Some(rule),
            Access::Public | Access::Token => None,
        })
        .collect();
    for rule in &asked {
        assert!(identity::policy::RULES.iter().any(|known| known.name == *rule), "{rule}");
    }
    for rule in identity::policy::RULES.iter().filter(|rule| rule.name.starts_with("identity:")) {
        assert!(asked.contains(&rule.name), "{}", rule.name);
    }
}
