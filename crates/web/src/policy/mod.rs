//! Who may do what: OpenStack's rule names and check strings, overridable by an oslo `policy.yaml`.
//!
//! <https://docs.openstack.org/oslo.policy/latest/admin/policy-yaml-file.html>

//!
//! | file | what |
//! |---|---|
//! | `check.rs` | a check, parsed, and whether it holds |
//! | `parse.rs` | the language |
//! | `overrides.rs` | the operator's file: its syntax, old names, what is wrong with it |
//! | `matrix.rs` | whom a rule admits, as reviews and operators see it |

mod check;
pub mod matrix;
mod overrides;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use model::{Error, Result};

use crate::{Caller, Scope};
pub use check::{Check, Left, Pattern, Text};
pub use parse::parse;

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
    shared("service_api", "role:service", "Nova's and Neutron's name for the same."),
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

    /// Adds an attribute, or puts another value in its place.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// An attribute's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

/// All rules, parsed.
pub struct Policy {
    rules: HashMap<String, InForce>,
    warnings: Vec<String>,
}

struct InForce {
    check: Check,
    scopes: &'static [ScopeType],
}

impl Policy {
    /// From the services' tables and the operator's overrides (rule name to check string).
    ///
    /// # Errors
    /// A check string that can't be read, or that refers to no rule or to itself, with its rule's name.
    pub fn new(tables: &[&'static [Rule]], overrides: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut rules = HashMap::new();
        for rule in COMMON.iter().chain(tables.iter().copied().flatten()) {
            let check = checked(rule.name, rule.check)?;
            rules.insert(rule.name.to_owned(), InForce { check, scopes: rule.scopes });
        }
        let warnings = overrides::apply(&mut rules, overrides)?;
        let policy = Self { rules, warnings };
        // A table's own defect is a test's business; what an operator writes is refused as a whole.
        overrides.keys().try_for_each(|name| policy.sound(name, &mut Vec::new()))?;
        Ok(policy)
    }

    /// Reads an oslo policy file: YAML or JSON, rule name to check string; or to a list, which means "any of", of checks
    /// or of lists, which mean "all of".
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn overrides_from_yaml(text: &str) -> Result<BTreeMap<String, String>, String> {
        overrides::from_yaml(text)
    }

    /// What the operator's file says that has no effect, or another than it seems.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A rule's check, as it is in force.
    pub fn check(&self, rule: &str) -> Option<&Check> {
        self.rules.get(rule).map(|rule| &rule.check)
    }

    /// Fails if the rule leads to itself or to one that is not there.
    fn sound(&self, rule: &str, path: &mut Vec<String>) -> Result<(), String> {
        if path.iter().any(|seen| seen == rule) {
            return Err(format!("policy rule {rule} refers to itself: {}", path.join(" -> ")));
        }
        path.push(rule.to_owned());
        for next in self.check(rule).map(Check::references).unwrap_or_default() {
            if self.check(next).is_none() {
                return Err(format!("policy rule {rule} refers to rule:{next}, which does not exist"));
            }
            self.sound(next, path)?;
        }
        path.pop();
        Ok(())
    }

    /// Whether the rule admits the caller. An unknown rule admits nobody.
    pub fn allows(&self, rule: &str, caller: &Caller, target: &Target) -> bool {
        let Some(InForce { check, scopes }) = self.rules.get(rule) else { return false };
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
}

/// Reads a check string; what is wrong with it is said of the rule.
fn checked(rule: &str, text: &str) -> Result<Check, String> {
    parse(text).map_err(|why| format!("policy rule {rule}: {why}"))
}

fn in_scope(scopes: &[ScopeType], scope: &Scope) -> bool {
    scopes.is_empty()
        || match scope {
            // As oslo.policy has it: what is neither the system's nor a domain's is a project's. It has no roles.
            Scope::Unscoped | Scope::Project { .. } => scopes.contains(&ScopeType::Project),
            Scope::Domain { .. } => scopes.contains(&ScopeType::Domain),
            Scope::System => scopes.contains(&ScopeType::System),
        }
}
