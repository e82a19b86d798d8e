//! Who may do what: OpenStack's rule names and check strings, overridable by an oslo `policy.yaml`.
//!
//! <https://docs.openstack.org/oslo.policy/latest/admin/policy-yaml-file.html>

mod check;

use std::collections::{BTreeMap, HashMap};

use model::{Error, Result};

use crate::{Caller, Scope};
use check::Check;

/// One line of a service's policy table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// As OpenStack spells it: `os_compute_api:servers:create`.
    pub name: &'static str,
    /// The default check string: `role:member and project_id:%(project_id)s`.
    pub check: &'static str,
    /// Scopes in which a token may use it; empty: any.
    pub scopes: &'static [ScopeType],
    /// For operators, one line.
    pub description: &'static str,
}

/// A kind of scope, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ScopeType {
    System,
    Domain,
    Project,
}

/// Checks that services share. `rule:NAME` in any check string refers to these or to any other rule.
pub const COMMON: &[Rule] = &[
    shared("context_is_admin", "role:admin", "An administrator of the cloud."),
    shared("admin_required", "role:admin or is_admin:1", "Keystone's name for the same."),
    shared("admin_api", "role:admin", "Nova's name for the same."),
    shared("service_role", "role:service", "One of the cloud's own services."),
    shared("owner", "project_id:%(project_id)s", "Someone in the project that owns the target."),
    shared("admin_or_owner", "role:admin or project_id:%(project_id)s", "An administrator, or the owner."),
    shared("project_manager_api", "role:manager and project_id:%(project_id)s", "A manager of the project."),
    shared("project_member_api", "role:member and project_id:%(project_id)s", "A member of the project."),
    shared("project_reader_api", "role:reader and project_id:%(project_id)s", "A reader of the project."),
    shared(
        "project_manager_or_admin",
        "rule:project_manager_api or rule:context_is_admin",
        "Manager or administrator.",
    ),
    shared("project_member_or_admin", "rule:project_member_api or rule:context_is_admin", "Member or administrator."),
    shared("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin", "Reader or administrator."),
];

const fn shared(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: &[], description }
}

/// What a rule is about: attributes that check strings refer to as `%(project_id)s`.
#[derive(Clone, Debug, Default)]
pub struct Target(Vec<(&'static str, String)>);

impl Target {
    /// Nothing in particular.
    pub fn none() -> Self {
        Self::default()
    }

    /// Something that belongs to a project.
    pub fn project(id: impl AsRef<str>) -> Self {
        Self::none().with("project_id", id.as_ref()).with("tenant_id", id.as_ref())
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// An attribute's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

/// All rules, parsed.
pub struct Policy {
    rules: HashMap<String, (Check, &'static [ScopeType])>,
}

impl Policy {
    /// From the services' tables and the operator's overrides (rule name to check string).
    ///
    /// # Errors
    /// A check string that can't be read, with its rule's name.
    pub fn new(tables: &[&'static [Rule]], overrides: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut rules = HashMap::new();
        for rule in COMMON.iter().chain(tables.iter().copied().flatten()) {
            let text = overrides.get(rule.name).map_or(rule.check, String::as_str);
            let check = check::parse(text).map_err(|why| format!("policy rule {}: {why}", rule.name))?;
            rules.insert(rule.name.to_owned(), (check, rule.scopes));
        }
        for (name, text) in overrides {
            if !rules.contains_key(name) {
                let check = check::parse(text).map_err(|why| format!("policy rule {name}: {why}"))?;
                rules.insert(name.clone(), (check, &[] as &[ScopeType]));
            }
        }
        Ok(Self { rules })
    }

    /// Reads an oslo policy file (YAML: rule name to check string; a list means "any of").
    pub fn overrides_from_yaml(text: &str) -> Result<BTreeMap<String, String>, String> {
        let raw: BTreeMap<String, serde_yaml_ng::Value> = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        let spelled = |(name, value): (String, serde_yaml_ng::Value)| match value {
            serde_yaml_ng::Value::String(text) => Ok((name, text)),
            serde_yaml_ng::Value::Sequence(list) if list.is_empty() => Ok((name, "@".to_owned())),
            other => Err(format!("policy rule {name}: expected a check string, found {other:?}")),
        };
        raw.into_iter().map(spelled).collect()
    }

    /// Whether the rule admits the caller. An unknown rule admits nobody.
    pub fn allows(&self, rule: &str, caller: &Caller, target: &Target) -> bool {
        let Some((check, scopes)) = self.rules.get(rule) else { return false };
        in_scope(scopes, &caller.scope) && check.holds(&check::Facts { policy: self, caller, target, depth: 0 })
    }

    /// As [`Policy::allows`].
    ///
    /// # Errors
    /// Forbidden, naming the rule.
    pub fn enforce(&self, rule: &str, caller: &Caller, target: &Target) -> Result<()> {
        if self.allows(rule, caller, target) {
            return Ok(());
        }
        Err(Error::forbidden("PolicyNotAuthorized", format!("Policy doesn't allow {rule} to be performed.")))
    }

    fn check(&self, rule: &str) -> Option<&Check> {
        self.rules.get(rule).map(|(check, _)| check)
    }
}

fn in_scope(scopes: &[ScopeType], scope: &Scope) -> bool {
    scopes.is_empty()
        || match scope {
            Scope::Unscoped => false,
            Scope::Project { .. } => scopes.contains(&ScopeType::Project),
            Scope::Domain { .. } => scopes.contains(&ScopeType::Domain),
            Scope::System => scopes.contains(&ScopeType::System),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{DomainId, ProjectId, UserId};

    const RULES: &[Rule] = &[
        Rule { name: "t:own", check: "role:member and project_id:%(project_id)s", scopes: &[], description: "" },
        Rule {
            name: "t:either",
            check: "rule:t:own or (role:admin and not user_id:bad)",
            scopes: &[],
            description: "",
        },
        Rule {
            name: "t:system",
            check: "role:reader and system_scope:all",
            scopes: &[ScopeType::System],
            description: "",
        },
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
        Scope::Project {
            id: ProjectId::new(id),
            name: id.into(),
            domain_id: DomainId::new("d"),
            domain_name: "d".into(),
        }
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
            (
                "t:public",
                caller(&[], project("p1")),
                &Target::none().with("visibility", "public").with("owner", "x"),
                true,
            ),
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
}
