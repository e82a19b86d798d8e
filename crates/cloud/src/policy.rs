//! Every policy rule. The names are ours: OpenStack has none for these.

use web::policy::Rule;

const fn rule(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: &[], description }
}

/// Whoever looks after the cloud as a whole.
const OVERSEER: &str = "rule:context_is_admin or (role:reader and system_scope:all)";

/// A-Z.
pub const POLICY: &[Rule] = &[
    rule(
        "nacre:audit:list",
        "rule:project_manager_or_admin or (role:reader and system_scope:all)",
        "Read the audit log of the token's project.",
    ),
    rule("nacre:audit:list_all", OVERSEER, "Read the audit log of all projects."),
    rule(
        "nacre:events:list",
        "rule:project_reader_or_admin or (role:reader and system_scope:all)",
        "Follow the state changes of the token's project and of what is the user's own.",
    ),
    rule("nacre:events:list_all", OVERSEER, "Follow the state changes of all projects and of the cloud itself."),
];
