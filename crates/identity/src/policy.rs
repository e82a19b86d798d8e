//! Every policy rule, named as Keystone names it, with the checks that its secure defaults have.
//!
//! An administrator's token is good in any scope; a domain's reader and manager see and manage what is in it.

use web::policy::{Rule, ScopeType};

const ALL: &[ScopeType] = &[ScopeType::System, ScopeType::Domain, ScopeType::Project];
const SYSTEM_AND_PROJECT: &[ScopeType] = &[ScopeType::System, ScopeType::Project];

const fn rule(
    name: &'static str,
    check: &'static str,
    scopes: &'static [ScopeType],
    description: &'static str,
) -> Rule {
    Rule { name, check, scopes, description }
}

/// The table.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("service_or_admin", "rule:admin_required or rule:service_role", &[], "An administrator, or one of the cloud's own services."),
    rule("token_subject", "user_id:%(target.token.user_id)s", &[], "Whose token it is."),
    rule("domain_managed_target_role", "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s", &[], "Roles that a domain's manager may give."),

    rule("identity:validate_token", "rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject", ALL, "Validate a token."),
    rule("identity:check_token", "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject", ALL, "Check a token."),
    rule("identity:revoke_token", "rule:admin_required or rule:token_subject", ALL, "Revoke a token."),
    rule("identity:get_auth_catalog", "", &[], "Show the catalog of one's token."),
    rule("identity:get_auth_projects", "", &[], "List the projects that one can ask a token for."),
    rule("identity:get_auth_domains", "", &[], "List the domains that one can ask a token for."),
    rule("identity:get_auth_system", "", &[], "Show whether one can ask a token for the system."),

    rule("identity:list_domains", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain.id)s)", ALL, "List domains."),
    rule("identity:create_domain", "rule:admin_required", SYSTEM_AND_PROJECT, "Create a domain."),
    rule("identity:get_domain", "rule:admin_required or (role:reader and system_scope:all) or domain_id:%(target.domain.id)s or project_domain_id:%(target.domain.id)s", ALL, "Show a domain."),
    rule("identity:update_domain", "rule:admin_required", SYSTEM_AND_PROJECT, "Update a domain."),
    rule("identity:delete_domain", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete a domain."),

    rule("identity:list_projects", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)", ALL, "List projects."),
    rule("identity:create_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)", ALL, "Create a project."),
    rule("identity:get_project", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.project.domain_id)s) or project_id:%(target.project.id)s", ALL, "Show a project."),
    rule("identity:update_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)", ALL, "Update a project."),
    rule("identity:delete_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)", ALL, "Delete a project."),
    rule("identity:list_project_tags", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s", ALL, "List a project's tags."),
    rule("identity:get_project_tag", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s", ALL, "Check whether a project has a tag."),
    rule("identity:update_project_tags", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)", ALL, "Replace a project's tags."),
    rule("identity:create_project_tag", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)", ALL, "Tag a project."),
    rule("identity:delete_project_tags", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)", ALL, "Remove a project's tags."),
    rule("identity:delete_project_tag", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)", ALL, "Remove a tag of a project."),
    rule("identity:list_user_projects", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", &[], "List the projects in which a user has a role."),

    rule("identity:list_users", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)", ALL, "List users."),
    rule("identity:create_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)", ALL, "Create a user."),
    rule("identity:get_user", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", ALL, "Show a user."),
    rule("identity:update_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)", ALL, "Update a user, the password too."),
    rule("identity:delete_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)", ALL, "Delete a user."),

    rule("identity:list_groups", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)", ALL, "List groups."),
    rule("identity:create_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)", ALL, "Create a group."),
    rule("identity:get_group", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)", ALL, "Show a group."),
    rule("identity:update_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)", ALL, "Update a group."),
    rule("identity:delete_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)", ALL, "Delete a group."),
    rule("identity:list_groups_for_user", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s", ALL, "List the groups that a user is in."),
    rule("identity:list_users_in_group", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)", ALL, "List a group's users."),
    rule("identity:check_user_in_group", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)", ALL, "Check whether a user is in a group."),
    rule("identity:add_user_to_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)", ALL, "Put a user into a group."),
    rule("identity:remove_user_from_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)", ALL, "Take a user out of a group."),

    rule("identity:list_roles", "rule:admin_required or (role:reader and system_scope:all) or (role:manager and domain_id:%(target.domain_id)s)", ALL, "List roles."),
    rule("identity:create_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Create a role."),
    rule("identity:get_role", "rule:admin_required or (role:reader and system_scope:all) or (role:manager and rule:domain_managed_target_role)", ALL, "Show a role."),
    rule("identity:update_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Update a role."),
    rule("identity:delete_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete a role."),
    rule("identity:list_domain_roles", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List a domain's own roles."),
    rule("identity:create_domain_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Create a role of a domain's own."),
    rule("identity:get_domain_role", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Show a role of a domain's own."),
    rule("identity:update_domain_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Update a role of a domain's own."),
    rule("identity:delete_domain_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete a role of a domain's own."),
    rule("identity:list_role_inference_rules", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List which roles imply which."),
    rule("identity:list_implied_roles", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List what a role implies."),
    rule("identity:get_implied_role", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Show an implication."),
    rule("identity:check_implied_role", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Check an implication."),
    rule("identity:create_implied_role", "rule:admin_required", SYSTEM_AND_PROJECT, "Make a role imply another."),
    rule("identity:delete_implied_role", "rule:admin_required", SYSTEM_AND_PROJECT, "End an implication."),

    rule("identity:list_role_assignments", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)", ALL, "List who has which role where."),
    rule("identity:list_role_assignments_for_tree", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s and not None:%(target.domain_id)s)", ALL, "List who has which role in a project and all below it."),
    rule("identity:list_grants", "rule:admin_required or (role:reader and system_scope:all) or ((role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s))", ALL, "List the roles of a user or group on a project or domain."),
    rule("identity:check_grant", "rule:admin_required or (((role:reader and system_scope:all) or ((role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s))) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s))", ALL, "Check a role of a user or group on a project or domain."),
    rule("identity:create_grant", "rule:admin_required or (((role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)) or (((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role)", ALL, "Give a user or group a role on a project or domain."),
    rule("identity:revoke_grant", "rule:admin_required or (((role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)) or (((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role)", ALL, "Take a role of a user or group on a project or domain back."),
    rule("identity:list_system_grants_for_user", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List a user's roles on the system."),
    rule("identity:check_system_grant_for_user", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Check a user's role on the system."),
    rule("identity:create_system_grant_for_user", "rule:admin_required", SYSTEM_AND_PROJECT, "Give a user a role on the system."),
    rule("identity:revoke_system_grant_for_user", "rule:admin_required", SYSTEM_AND_PROJECT, "Take a user's role on the system back."),

    rule("identity:list_system_grants_for_group", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List a group's roles on the system."),
    rule("identity:check_system_grant_for_group", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Check a group's role on the system."),
    rule("identity:create_system_grant_for_group", "rule:admin_required", SYSTEM_AND_PROJECT, "Give a group a role on the system."),
    rule("identity:revoke_system_grant_for_group", "rule:admin_required", SYSTEM_AND_PROJECT, "Take a group's role on the system back."),

    rule("identity:list_regions", "", ALL, "List regions."),
    rule("identity:get_region", "", ALL, "Show a region."),
    rule("identity:create_region", "rule:admin_required", SYSTEM_AND_PROJECT, "Create a region."),
    rule("identity:update_region", "rule:admin_required", SYSTEM_AND_PROJECT, "Update a region."),
    rule("identity:delete_region", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete a region."),

    rule("identity:list_services", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List services."),
    rule("identity:create_service", "rule:admin_required", SYSTEM_AND_PROJECT, "Create a service."),
    rule("identity:get_service", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Show a service."),
    rule("identity:update_service", "rule:admin_required", SYSTEM_AND_PROJECT, "Update a service."),
    rule("identity:delete_service", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete a service."),

    rule("identity:list_endpoints", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "List endpoints."),
    rule("identity:create_endpoint", "rule:admin_required", SYSTEM_AND_PROJECT, "Create an endpoint."),
    rule("identity:get_endpoint", "rule:admin_required or (role:reader and system_scope:all)", SYSTEM_AND_PROJECT, "Show an endpoint."),
    rule("identity:update_endpoint", "rule:admin_required", SYSTEM_AND_PROJECT, "Update an endpoint."),
    rule("identity:delete_endpoint", "rule:admin_required", SYSTEM_AND_PROJECT, "Delete an endpoint."),
];
