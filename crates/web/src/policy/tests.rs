//! The language, its file, and what is refused.

use super::*;
use model::id::{DomainId, ProjectId, UserId};

const RULES: &[Rule] = &[
    Rule { name: "t:own", check: "role:member and project_id:%(project_id)s", scopes: &[], description: "" },
    Rule { name: "t:either", check: "rule:t:own or (role:admin and not user_id:bad)", scopes: &[], description: "" },
    Rule { name: "t:system", check: "role:reader and system_scope:all", scopes: &[ScopeType::System], description: "" },
    Rule { name: "t:public", check: "'public':%(visibility)s or None:%(owner)s", scopes: &[], description: "" },
    Rule { name: "t:all", check: "", scopes: &[], description: "" },
    Rule { name: "t:none", check: "!", scopes: &[], description: "" },
    Rule { name: "t:loop", check: "rule:t:loop", scopes: &[], description: "" },
];

fn caller(roles: &[&str], scope: Scope) -> Caller {
    let roles = roles.iter().map(|r| (*r).to_owned()).collect();
    Caller { user_id: Some(UserId::new("u1")), roles, scope, ..Caller::default() }
}

fn project(id: &str) -> Scope {
    Scope::Project { id: ProjectId::new(id), name: id.into(), domain_id: DomainId::new("d"), domain_name: "d".into() }
}

#[test]
fn checks() {
    let policy = Policy::new(&[RULES], &BTreeMap::new()).unwrap();
    let mine = Target::project("p1");
    let cases = [
        ("t:own", caller(&["member"], project("p1")), &mine, true),
        ("t:own", caller(&["member"], project("p2")), &mine, false),
        ("t:own", caller(&["reader"], project("p1")), &mine, false),
        ("t:either", caller(&["admin"], project("p2")), &mine, true),
        ("t:either", caller(&["Member"], project("p1")), &mine, true),
        ("t:system", caller(&["reader"], Scope::System), &mine, true),
        ("t:system", caller(&["reader"], project("p1")), &mine, false),
        ("t:public", caller(&[], project("p1")), &Target::none().with("visibility", "public").with("owner", "x"), true),
        ("t:public", caller(&[], project("p1")), &Target::none().with("visibility", "private"), true),
        (
            "t:public",
            caller(&[], project("p1")),
            &Target::none().with("visibility", "private").with("owner", "x"),
            false,
        ),
        ("t:all", caller(&[], Scope::Unscoped), &mine, true),
        ("t:none", caller(&["admin"], Scope::System), &mine, false),
        ("t:loop", caller(&["admin"], Scope::System), &mine, false),
        ("t:unknown", caller(&["admin"], Scope::System), &mine, false),
    ];
    for (rule, caller, target, expected) in cases {
        assert_eq!(policy.allows(rule, &caller, target), expected, "{rule} {caller:?}");
    }
}

#[test]
fn overrides_win_and_nonsense_is_refused() {
    let overrides = Policy::overrides_from_yaml("\"t:none\": \"role:admin\"\n").unwrap();
    let policy = Policy::new(&[RULES], &overrides).unwrap();
    assert!(policy.allows("t:none", &caller(&["admin"], Scope::System), &Target::none()));
    for bad in ["role:a and", "(role:a", "role", "role:a role:b", "or role:a"] {
        let overrides = BTreeMap::from([("t:none".to_owned(), bad.to_owned())]);
        assert!(Policy::new(&[RULES], &overrides).is_err(), "{bad}");
    }
}

/// oslo.policy's own ways, one by one: the check, the target's `a.b`, whether a member `u1` of `p1` passes.
#[test]
fn the_language_is_whole() {
    let cases = [
        ("", None, true),
        ("@", None, true),
        ("!", None, false),
        ("not !", None, true),
        ("NOT role:admin AND role:member", None, true),
        ("role:a or role:b and role:c or role:member", None, true),
        ("role:member or role:b and role:c", None, true),
        ("(role:member or role:b) and role:c", None, false),
        ("not (role:member and role:c)", None, true),
        ("((role:member))", None, true),
        ("role:%(a.b)s", Some("member"), true),
        ("role:%(a.b)s", None, false),
        ("project_id:%(a.b)s", Some("p1"), true),
        ("tenant:%(a.b)s", Some("p1"), true),
        ("project_id:p%(a.b)s", Some("1"), true),
        ("project_id:p%(a.b)s", None, false),
        ("token.project.domain.id:%(a.b)s", Some("d"), true),
        ("roles:member", None, true),
        ("is_admin:False", None, true),
        ("is_admin:1", None, false),
        ("'x':%(a.b)s", Some("x"), true),
        ("\"x\":%(a.b)s", Some("x"), true),
        ("True:%(a.b)s", Some("True"), true),
        ("None:%(a.b)s", None, true),
        ("None:%(a.b)s", Some("x"), false),
        ("7:%(a.b)s", Some("7"), true),
        ("domain_id:None", None, true),
        ("not domain_id:None", None, false),
        ("project_id:None", None, false),
        ("domain_id:%(a.b)s", None, false),
        ("unheard_of:x", None, false),
        ("not unheard_of:%(a.b)s", Some("x"), true),
        ("field:things:a.b=True", Some("True"), true),
        ("field:things:a.b=True", None, false),
        ("field:port:a.b=~^network:", Some("network:dhcp"), true),
        ("field:port:a.b=~^network:", Some("compute:nova"), false),
    ];
    for (check, value, expected) in cases {
        let overrides = BTreeMap::from([("t:none".to_owned(), check.to_owned())]);
        let policy = Policy::new(&[RULES], &overrides).unwrap();
        let target = value.map_or_else(Target::none, |value| Target::none().with("a.b", value));
        let caller = caller(&["member"], project("p1"));
        assert_eq!(policy.allows("t:none", &caller, &target), expected, "{check} {value:?}");
        // What is shown to operators can be read again and means the same.
        let shown = policy.check("t:none").unwrap().to_string();
        assert_eq!(parse(&shown).unwrap().to_string(), shown, "{check}");
    }
}

#[test]
fn lists_of_lists_are_alternatives() {
    let cases = [
        ("[]", "@"),
        ("[[]]", "!"),
        ("['role:a']", "(role:a)"),
        ("[['role:a', 'rule:t:all'], 'role:b']", "(role:a and rule:t:all) or (role:b)"),
    ];
    for (list, expected) in cases {
        let rules = Policy::overrides_from_yaml(&format!("t:none: {list}")).unwrap();
        assert_eq!(rules["t:none"], expected, "{list}");
    }
}

/// A file with any of these changes nothing; the message says where and what.
#[test]
fn files_are_refused_as_a_whole() {
    let cases = [
        ("t:none: http://judge/", "not supported"),
        ("t:none: 'role:a and https://judge/'", "not supported"),
        ("t:none: rule:nowhere", "rule:nowhere, which does not exist"),
        ("t:none: rule:t:none", "refers to itself"),
        ("t:none: rule:mine\nmine: not rule:t:none", "refers to itself"),
        ("t:none:", "expected a check, found nothing"),
        ("t:none: 7", "expected a check, found 7"),
        ("t:none: {a: b}", "expected a check, found a mapping"),
        ("t:none: [['role:a or role:b']]", "single check"),
        ("t:none: [7]", "found 7"),
        ("t:none: role:a and", "missing at the end"),
        ("t:none: (role:a", "not closed"),
        ("t:none: \"'a'\"", "is no check"),
        ("t:none: project_id:%(x", "not closed"),
        ("t:none: field:port:x=~a|b", "regular expressions"),
        ("- role:a", "expected a mapping"),
        ("7: role:a", "name is a text"),
        ("t:none: [", "at line"),
    ];
    for (text, expected) in cases {
        let refused = Policy::overrides_from_yaml(text).and_then(|rules| Policy::new(&[RULES], &rules).map(|_| ()));
        let why = refused.expect_err(text);
        assert!(why.contains(expected), "{text}: {why}");
    }
    let deep = format!("t:none: \"{}role:a{}\"", "(".repeat(100_000), ")".repeat(100_000));
    assert!(Policy::overrides_from_yaml(&deep).and_then(|r| Policy::new(&[RULES], &r).map(|_| ())).is_err());
}

#[test]
fn earlier_names_and_idle_ones_are_told_of() {
    const NOW: &[Rule] = &[Rule { name: "get_network:tags", check: "!", scopes: &[], description: "" }];
    let text = "get_networks_tags: role:old\nmine: role:a\nt:none: rule:mine\ntypo: '@'";
    let policy = Policy::new(&[RULES, NOW], &Policy::overrides_from_yaml(text).unwrap()).unwrap();
    assert!(policy.allows("get_network:tags", &caller(&["old"], Scope::System), &Target::none()));
    let [renamed, idle] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert!(renamed.contains("get_network:tags") && idle.contains("typo"), "{renamed} {idle}");
    assert!(Policy::overrides_from_yaml("").unwrap().is_empty());
    assert_eq!(Policy::overrides_from_yaml("{\"a\": \"@\"}").unwrap()["a"], "@");
}
