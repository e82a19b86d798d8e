//! Every rule, as Placement names it and with its default.

use web::policy::{Rule, ScopeType};

const PROJECT: &[ScopeType] = &[ScopeType::Project];
const ADMIN_OR_SERVICE: &str = "role:admin or role:service";
const SERVICE: &str = "role:service";
const ADMIN_SERVICE_OR_READER: &str = "role:admin or role:service or (role:reader and project_id:%(project_id)s)";

/// The table.
pub const RULES: &[Rule] = &[
    rule("placement:resource_providers:list", ADMIN_OR_SERVICE, "List resource providers"),
    rule("placement:resource_providers:create", ADMIN_OR_SERVICE, "Create resource providers"),
    rule("placement:resource_providers:show", ADMIN_OR_SERVICE, "Show resource providers"),
    rule("placement:resource_providers:update", ADMIN_OR_SERVICE, "Update resource providers"),
    rule("placement:resource_providers:delete", ADMIN_OR_SERVICE, "Delete resource providers"),
    rule("placement:resource_providers:inventories:list", ADMIN_OR_SERVICE, "List inventories of resource providers"),
    rule(
        "placement:resource_providers:inventories:create",
        ADMIN_OR_SERVICE,
        "Create inventories of resource providers",
    ),
    rule("placement:resource_providers:inventories:show", ADMIN_OR_SERVICE, "Show inventories of resource providers"),
    rule(
        "placement:resource_providers:inventories:update",
        ADMIN_OR_SERVICE,
        "Update inventories of resource providers",
    ),
    rule(
        "placement:resource_providers:inventories:delete",
        ADMIN_OR_SERVICE,
        "Delete inventories of resource providers",
    ),
    rule("placement:resource_providers:usages", ADMIN_OR_SERVICE, "Show usages of resource providers"),
    rule("placement:resource_providers:aggregates:list", ADMIN_OR_SERVICE, "List aggregates of resource providers"),
    rule("placement:resource_providers:aggregates:update", ADMIN_OR_SERVICE, "Update aggregates of resource providers"),
    rule("placement:resource_providers:allocations:list", ADMIN_OR_SERVICE, "List allocations of resource providers"),
    rule("placement:resource_providers:traits:list", ADMIN_OR_SERVICE, "List traits of resource providers"),
    rule("placement:resource_providers:traits:update", ADMIN_OR_SERVICE, "Update traits of resource providers"),
    rule("placement:resource_providers:traits:delete", ADMIN_OR_SERVICE, "Delete traits of resource providers"),
    rule("placement:allocations:list", ADMIN_OR_SERVICE, "List allocations"),
    rule("placement:allocations:manage", ADMIN_OR_SERVICE, "Write several allocations"),
    rule("placement:allocations:update", ADMIN_OR_SERVICE, "Update allocations"),
    rule("placement:allocations:delete", ADMIN_OR_SERVICE, "Delete allocations"),
    rule("placement:allocation_candidates:list", ADMIN_OR_SERVICE, "List allocation candidates"),
    rule("placement:traits:list", ADMIN_OR_SERVICE, "List traits"),
    rule("placement:traits:show", ADMIN_OR_SERVICE, "Show traits"),
    rule("placement:traits:update", ADMIN_OR_SERVICE, "Update traits"),
    rule("placement:traits:delete", ADMIN_OR_SERVICE, "Delete traits"),
    rule("placement:resource_classes:list", ADMIN_OR_SERVICE, "List resource classes"),
    rule("placement:resource_classes:create", ADMIN_OR_SERVICE, "Create resource classes"),
    rule("placement:resource_classes:show", ADMIN_OR_SERVICE, "Show resource classes"),
    rule("placement:resource_classes:update", ADMIN_OR_SERVICE, "Update resource classes"),
    rule("placement:resource_classes:delete", ADMIN_OR_SERVICE, "Delete resource classes"),
    rule("placement:reshaper:reshape", SERVICE, "Move inventories and allocations at once reshaper"),
    rule("placement:usages", ADMIN_SERVICE_OR_READER, "Show what a project holds"),
];

const fn rule(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: PROJECT, description }
}
