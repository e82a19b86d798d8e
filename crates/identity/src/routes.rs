//! Every operation, on one page.

use web::{
    Access::{Public, Rule},
    Route, handler,
};

use crate::{assignment, domain, endpoint, project, region, role, service, token::api as token, user, versions};

/// The table.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::list)),
    Route::get("/v3", Public, handler!(versions::show)),

    // Tokens. HEAD comes to GET.
    Route::post("/v3/auth/tokens", Public, handler!(token::issue)),
    Route::get("/v3/auth/tokens", Rule("identity:validate_token"), handler!(token::validate)),
    Route::head("/v3/auth/tokens", Rule("identity:check_token"), handler!(token::validate)),
    Route::delete("/v3/auth/tokens", Rule("identity:revoke_token"), handler!(token::revoke)),
    Route::get("/v3/auth/catalog", Rule("identity:get_auth_catalog"), handler!(token::catalog)),
    Route::get("/v3/auth/projects", Rule("identity:get_auth_projects"), handler!(token::list_projects)),
    Route::get("/v3/auth/domains", Rule("identity:get_auth_domains"), handler!(token::list_domains)),
    Route::get("/v3/auth/system", Rule("identity:get_auth_system"), handler!(token::system)),

    Route::get("/v3/domains", Rule("identity:list_domains"), handler!(domain::list)),
    Route::post("/v3/domains", Rule("identity:create_domain"), handler!(domain::create)),
    Route::get("/v3/domains/{domain_id}", Rule("identity:get_domain"), handler!(domain::get)),
    Route::patch("/v3/domains/{domain_id}", Rule("identity:update_domain"), handler!(domain::update)),
    Route::delete("/v3/domains/{domain_id}", Rule("identity:delete_domain"), handler!(domain::delete)),

    Route::get("/v3/projects", Rule("identity:list_projects"), handler!(project::list)),
    Route::post("/v3/projects", Rule("identity:create_project"), handler!(project::create)),
    Route::get("/v3/projects/{project_id}", Rule("identity:get_project"), handler!(project::get)),
    Route::patch("/v3/projects/{project_id}", Rule("identity:update_project"), handler!(project::update)),
    Route::delete("/v3/projects/{project_id}", Rule("identity:delete_project"), handler!(project::delete)),

    Route::get("/v3/users", Rule("identity:list_users"), handler!(user::list)),
    Route::post("/v3/users", Rule("identity:create_user"), handler!(user::create)),
    Route::get("/v3/users/{user_id}", Rule("identity:get_user"), handler!(user::get)),
    Route::patch("/v3/users/{user_id}", Rule("identity:update_user"), handler!(user::update)),
    Route::delete("/v3/users/{user_id}", Rule("identity:delete_user"), handler!(user::delete)),
    Route::post("/v3/users/{user_id}/password", Public, handler!(user::change_password)),
    Route::get("/v3/users/{user_id}/projects", Rule("identity:list_user_projects"), handler!(project::list_of_user)),

    Route::get("/v3/roles", Rule("identity:list_roles"), handler!(role::list)),
    Route::post("/v3/roles", Rule("identity:create_role"), handler!(role::create)),
    Route::get("/v3/roles/{role_id}", Rule("identity:get_role"), handler!(role::get)),
    Route::patch("/v3/roles/{role_id}", Rule("identity:update_role"), handler!(role::update)),
    Route::delete("/v3/roles/{role_id}", Rule("identity:delete_role"), handler!(role::delete)),
    Route::get("/v3/role_inferences", Rule("identity:list_role_inference_rules"), handler!(role::list_inferences)),
    Route::get("/v3/roles/{role_id}/implies", Rule("identity:list_implied_roles"), handler!(role::list_implied)),
    Route::get("/v3/roles/{role_id}/implies/{implied_role_id}", Rule("identity:get_implied_role"), handler!(role::get_implied)),
    Route::head("/v3/roles/{role_id}/implies/{implied_role_id}", Rule("identity:check_implied_role"), handler!(role::check_implied)),
    Route::put("/v3/roles/{role_id}/implies/{implied_role_id}", Rule("identity:create_implied_role"), handler!(role::imply)),
    Route::delete("/v3/roles/{role_id}/implies/{implied_role_id}", Rule("identity:delete_implied_role"), handler!(role::unimply)),

    Route::get("/v3/role_assignments", Rule("identity:list_role_assignments"), handler!(assignment::list)),
    Route::get("/v3/projects/{project_id}/users/{user_id}/roles", Rule("identity:list_grants"), handler!(assignment::list_granted)),
    Route::get("/v3/projects/{project_id}/users/{user_id}/roles/{role_id}", Rule("identity:check_grant"), handler!(assignment::check)),
    Route::put("/v3/projects/{project_id}/users/{user_id}/roles/{role_id}", Rule("identity:create_grant"), handler!(assignment::grant)),
    Route::delete("/v3/projects/{project_id}/users/{user_id}/roles/{role_id}", Rule("identity:revoke_grant"), handler!(assignment::revoke)),
    Route::get("/v3/domains/{domain_id}/users/{user_id}/roles", Rule("identity:list_grants"), handler!(assignment::list_granted)),
    Route::get("/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}", Rule("identity:check_grant"), handler!(assignment::check)),
    Route::put("/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}", Rule("identity:create_grant"), handler!(assignment::grant)),
    Route::delete("/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}", Rule("identity:revoke_grant"), handler!(assignment::revoke)),
    Route::get("/v3/system/users/{user_id}/roles", Rule("identity:list_system_grants_for_user"), handler!(assignment::list_granted)),
    Route::get("/v3/system/users/{user_id}/roles/{role_id}", Rule("identity:check_system_grant_for_user"), handler!(assignment::check)),
    Route::put("/v3/system/users/{user_id}/roles/{role_id}", Rule("identity:create_system_grant_for_user"), handler!(assignment::grant)),
    Route::delete("/v3/system/users/{user_id}/roles/{role_id}", Rule("identity:revoke_system_grant_for_user"), handler!(assignment::revoke)),

    Route::get("/v3/regions", Rule("identity:list_regions"), handler!(region::list)),
    Route::post("/v3/regions", Rule("identity:create_region"), handler!(region::create)),
    Route::get("/v3/regions/{region_id}", Rule("identity:get_region"), handler!(region::get)),
    Route::put("/v3/regions/{region_id}", Rule("identity:create_region"), handler!(region::put)),
    Route::patch("/v3/regions/{region_id}", Rule("identity:update_region"), handler!(region::update)),
    Route::delete("/v3/regions/{region_id}", Rule("identity:delete_region"), handler!(region::delete)),

    Route::get("/v3/services", Rule("identity:list_services"), handler!(service::list)),
    Route::post("/v3/services", Rule("identity:create_service"), handler!(service::create)),
    Route::get("/v3/services/{service_id}", Rule("identity:get_service"), handler!(service::get)),
    Route::patch("/v3/services/{service_id}", Rule("identity:update_service"), handler!(service::update)),
    Route::delete("/v3/services/{service_id}", Rule("identity:delete_service"), handler!(service::delete)),

    Route::get("/v3/endpoints", Rule("identity:list_endpoints"), handler!(endpoint::list)),
    Route::post("/v3/endpoints", Rule("identity:create_endpoint"), handler!(endpoint::create)),
    Route::get("/v3/endpoints/{endpoint_id}", Rule("identity:get_endpoint"), handler!(endpoint::get)),
    Route::patch("/v3/endpoints/{endpoint_id}", Rule("identity:update_endpoint"), handler!(endpoint::update)),
    Route::delete("/v3/endpoints/{endpoint_id}", Rule("identity:delete_endpoint"), handler!(endpoint::delete)),
];
