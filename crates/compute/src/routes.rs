//! Every operation of the service.

use web::{
    Access::{Public, Rule, Token},
    Handler, Route, handler,
};

use crate::{
    aggregates, extensions, flavors, host_admin, hypervisors, instance_actions, interfaces, keypairs, limits,
    migrations, quotas, server_groups, servers, services, usage, versions, zones,
};

const METADATA: &str = "/v2.1/servers/{id}/metadata";
const METADATA_ITEM: &str = "/v2.1/servers/{id}/metadata/{key}";
const TAGS: &str = "/v2.1/servers/{id}/tags";
const TAG: &str = "/v2.1/servers/{id}/tags/{tag}";
const INTERFACES: &str = "/v2.1/servers/{id}/os-interface";
const INTERFACE: &str = "/v2.1/servers/{id}/os-interface/{port_id}";
const PASSWORD: &str = "/v2.1/servers/{id}/os-server-password";

/// An action on a server.
const fn action(name: &'static str, rule: &'static str, handler: Handler) -> Route {
    Route::action("/v2.1/servers/{id}/action", name, Rule(rule), handler)
}

/// The table. Paths are below `/compute`.
pub const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::list)),
    Route::get("/v2", Public, handler!(versions::show_v2_0)),
    Route::get("/v2.1", Public, handler!(versions::show_v2_1)),
    // Servers.
    Route::get("/v2.1/servers", Rule("os_compute_api:servers:index"), handler!(servers::api::list)),
    Route::get("/v2.1/servers/detail", Rule("os_compute_api:servers:detail"), handler!(servers::api::detail)),
    Route::get("/v2.1/servers/{id}", Rule("os_compute_api:servers:show"), handler!(servers::api::show)),
    Route::post("/v2.1/servers", Rule("os_compute_api:servers:create"), handler!(servers::api::create)),
    Route::put("/v2.1/servers/{id}", Rule("os_compute_api:servers:update"), handler!(servers::api::update)),
    Route::delete("/v2.1/servers/{id}", Rule("os_compute_api:servers:delete"), handler!(servers::api::delete)),
    // Actions, A-Z.
    action("addSecurityGroup", "os_compute_api:os-security-groups:add", handler!(servers::api::add_security_group)),
    action("changePassword", "os_compute_api:os-admin-password", handler!(servers::action::change_password)),
    action("confirmResize", "os_compute_api:servers:confirm_resize", handler!(servers::lifecycle::confirm_resize)),
    action("createBackup", "os_compute_api:os-create-backup", handler!(servers::snapshots::create_backup)),
    action("createImage", "os_compute_api:servers:create_image", handler!(servers::snapshots::create_image)),
    action("evacuate", "os_compute_api:os-evacuate", handler!(servers::lifecycle::refuse_move)),
    action("forceDelete", "os_compute_api:os-deferred-delete:force", handler!(servers::api::force_delete)),
    action("lock", "os_compute_api:os-lock-server:lock", handler!(servers::action::lock)),
    action("migrate", "os_compute_api:os-migrate-server:migrate", handler!(servers::lifecycle::refuse_move)),
    action("os-getConsoleOutput", "os_compute_api:os-console-output", handler!(servers::action::console_output)),
    action(
        "os-migrateLive",
        "os_compute_api:os-migrate-server:migrate_live",
        handler!(servers::lifecycle::refuse_move),
    ),
    action("os-resetState", "os_compute_api:os-admin-actions:reset_state", handler!(servers::action::reset_state)),
    action("os-start", "os_compute_api:servers:start", handler!(servers::action::start)),
    action("os-stop", "os_compute_api:servers:stop", handler!(servers::action::stop)),
    action("pause", "os_compute_api:os-pause-server:pause", handler!(servers::action::pause)),
    action("reboot", "os_compute_api:servers:reboot", handler!(servers::action::reboot)),
    action("rebuild", "os_compute_api:servers:rebuild", handler!(servers::lifecycle::rebuild)),
    action(
        "removeSecurityGroup",
        "os_compute_api:os-security-groups:remove",
        handler!(servers::api::remove_security_group),
    ),
    action("rescue", "os_compute_api:os-rescue", handler!(servers::lifecycle::rescue)),
    action("resize", "os_compute_api:servers:resize", handler!(servers::lifecycle::resize)),
    action("restore", "os_compute_api:os-deferred-delete:restore", handler!(servers::lifecycle::restore)),
    action("resume", "os_compute_api:os-suspend-server:resume", handler!(servers::action::resume)),
    action("revertResize", "os_compute_api:servers:revert_resize", handler!(servers::lifecycle::revert_resize)),
    action("shelve", "os_compute_api:os-shelve:shelve", handler!(servers::lifecycle::shelve)),
    action("shelveOffload", "os_compute_api:os-shelve:shelve_offload", handler!(servers::lifecycle::shelve_offload)),
    action("suspend", "os_compute_api:os-suspend-server:suspend", handler!(servers::action::suspend)),
    action("unlock", "os_compute_api:os-lock-server:unlock", handler!(servers::action::unlock)),
    action("unpause", "os_compute_api:os-pause-server:unpause", handler!(servers::action::unpause)),
    action("unrescue", "os_compute_api:os-unrescue", handler!(servers::lifecycle::unrescue)),
    action("unshelve", "os_compute_api:os-shelve:unshelve", handler!(servers::lifecycle::unshelve)),
    // What hangs on a server.
    Route::get(
        "/v2.1/servers/{id}/diagnostics",
        Rule("os_compute_api:os-server-diagnostics"),
        handler!(servers::action::diagnostics),
    ),
    Route::get(
        "/v2.1/servers/{id}/migrations",
        Rule("os_compute_api:servers:migrations:index"),
        handler!(migrations::list_of_server),
    )
    .since(2, 23),
    Route::get(
        "/v2.1/servers/{id}/migrations/{migration_id}",
        Rule("os_compute_api:servers:migrations:show"),
        handler!(migrations::none_under_way),
    )
    .since(2, 23),
    Route::delete(
        "/v2.1/servers/{id}/migrations/{migration_id}",
        Rule("os_compute_api:servers:migrations:delete"),
        handler!(migrations::none_under_way),
    )
    .since(2, 24),
    Route::action(
        "/v2.1/servers/{id}/migrations/{migration_id}/action",
        "force_complete",
        Rule("os_compute_api:servers:migrations:force_complete"),
        handler!(migrations::none_under_way),
    )
    .since(2, 22),
    Route::get("/v2.1/servers/{id}/ips", Rule("os_compute_api:ips:index"), handler!(servers::api::ips)),
    Route::get(
        "/v2.1/servers/{id}/ips/{network}",
        Rule("os_compute_api:ips:show"),
        handler!(servers::api::ips_of_network),
    ),
    Route::get(METADATA, Rule("os_compute_api:server-metadata:index"), handler!(servers::metadata::list)),
    Route::post(METADATA, Rule("os_compute_api:server-metadata:create"), handler!(servers::metadata::create)),
    Route::put(METADATA, Rule("os_compute_api:server-metadata:update_all"), handler!(servers::metadata::update_all)),
    Route::get(METADATA_ITEM, Rule("os_compute_api:server-metadata:show"), handler!(servers::metadata::show)),
    Route::put(METADATA_ITEM, Rule("os_compute_api:server-metadata:update"), handler!(servers::metadata::update)),
    Route::delete(METADATA_ITEM, Rule("os_compute_api:server-metadata:delete"), handler!(servers::metadata::delete)),
    Route::get(TAGS, Rule("os_compute_api:os-server-tags:index"), handler!(servers::tags::list)).since(2, 26),
    Route::put(TAGS, Rule("os_compute_api:os-server-tags:update_all"), handler!(servers::tags::replace)).since(2, 26),
    Route::delete(TAGS, Rule("os_compute_api:os-server-tags:delete_all"), handler!(servers::tags::delete_all))
        .since(2, 26),
    Route::get(TAG, Rule("os_compute_api:os-server-tags:show"), handler!(servers::tags::show)).since(2, 26),
    Route::put(TAG, Rule("os_compute_api:os-server-tags:update"), handler!(servers::tags::add)).since(2, 26),
    Route::delete(TAG, Rule("os_compute_api:os-server-tags:delete"), handler!(servers::tags::delete)).since(2, 26),
    Route::get(
        "/v2.1/servers/{id}/os-instance-actions",
        Rule("os_compute_api:os-instance-actions:list"),
        handler!(instance_actions::list),
    ),
    Route::get(
        "/v2.1/servers/{id}/os-instance-actions/{request_id}",
        Rule("os_compute_api:os-instance-actions:show"),
        handler!(instance_actions::show),
    ),
    Route::get(INTERFACES, Rule("os_compute_api:os-attach-interfaces:list"), handler!(interfaces::list)),
    Route::get(INTERFACE, Rule("os_compute_api:os-attach-interfaces:show"), handler!(interfaces::show)),
    Route::post(INTERFACES, Rule("os_compute_api:os-attach-interfaces:create"), handler!(interfaces::create)),
    Route::delete(INTERFACE, Rule("os_compute_api:os-attach-interfaces:delete"), handler!(interfaces::delete)),
    Route::get(
        "/v2.1/servers/{id}/os-security-groups",
        Rule("os_compute_api:os-security-groups:list"),
        handler!(servers::api::list_security_groups),
    ),
    Route::get(PASSWORD, Rule("os_compute_api:os-server-password:show"), handler!(servers::api::show_password)),
    Route::delete(PASSWORD, Rule("os_compute_api:os-server-password:clear"), handler!(servers::api::clear_password)),
    Route::get(
        "/v2.1/servers/{id}/os-volume_attachments",
        Rule("os_compute_api:os-volumes-attachments:index"),
        handler!(servers::api::list_volumes),
    ),
    // Flavors, key pairs, quotas, limits, services, hypervisors, zones, extensions.
    Route::get("/v2.1/flavors", Token, handler!(flavors::api::list)),
    Route::get("/v2.1/flavors/detail", Token, handler!(flavors::api::detail)),
    Route::get("/v2.1/flavors/{id}", Token, handler!(flavors::api::show)),
    Route::post("/v2.1/flavors", Rule("os_compute_api:os-flavor-manage:create"), handler!(flavors::api::create)),
    Route::put("/v2.1/flavors/{id}", Rule("os_compute_api:os-flavor-manage:update"), handler!(flavors::api::update))
        .since(2, 55),
    Route::delete("/v2.1/flavors/{id}", Rule("os_compute_api:os-flavor-manage:delete"), handler!(flavors::api::delete)),
    Route::action(
        "/v2.1/flavors/{id}/action",
        "addTenantAccess",
        Rule("os_compute_api:os-flavor-access:add_tenant_access"),
        handler!(flavors::access::add),
    ),
    Route::action(
        "/v2.1/flavors/{id}/action",
        "removeTenantAccess",
        Rule("os_compute_api:os-flavor-access:remove_tenant_access"),
        handler!(flavors::access::remove),
    ),
    Route::get(
        "/v2.1/flavors/{id}/os-flavor-access",
        Rule("os_compute_api:os-flavor-access"),
        handler!(flavors::access::list),
    ),
    Route::get(
        "/v2.1/flavors/{id}/os-extra_specs",
        Rule("os_compute_api:os-flavor-extra-specs:index"),
        handler!(flavors::extra_specs::list),
    ),
    Route::get(
        "/v2.1/flavors/{id}/os-extra_specs/{key}",
        Rule("os_compute_api:os-flavor-extra-specs:show"),
        handler!(flavors::extra_specs::show),
    ),
    Route::post(
        "/v2.1/flavors/{id}/os-extra_specs",
        Rule("os_compute_api:os-flavor-extra-specs:create"),
        handler!(flavors::extra_specs::create),
    ),
    Route::put(
        "/v2.1/flavors/{id}/os-extra_specs/{key}",
        Rule("os_compute_api:os-flavor-extra-specs:update"),
        handler!(flavors::extra_specs::update),
    ),
    Route::delete(
        "/v2.1/flavors/{id}/os-extra_specs/{key}",
        Rule("os_compute_api:os-flavor-extra-specs:delete"),
        handler!(flavors::extra_specs::delete),
    ),
    Route::get("/v2.1/os-keypairs", Rule("os_compute_api:os-keypairs:index"), handler!(keypairs::api::list)),
    Route::get("/v2.1/os-keypairs/{name}", Rule("os_compute_api:os-keypairs:show"), handler!(keypairs::api::show)),
    Route::post("/v2.1/os-keypairs", Rule("os_compute_api:os-keypairs:create"), handler!(keypairs::api::create)),
    Route::delete(
        "/v2.1/os-keypairs/{name}",
        Rule("os_compute_api:os-keypairs:delete"),
        handler!(keypairs::api::delete),
    ),
    Route::get("/v2.1/os-quota-sets/{id}", Rule("os_compute_api:os-quota-sets:show"), handler!(quotas::show)),
    Route::get(
        "/v2.1/os-quota-sets/{id}/detail",
        Rule("os_compute_api:os-quota-sets:detail"),
        handler!(quotas::detail),
    ),
    Route::get(
        "/v2.1/os-quota-sets/{id}/defaults",
        Rule("os_compute_api:os-quota-sets:defaults"),
        handler!(quotas::defaults),
    ),
    Route::put("/v2.1/os-quota-sets/{id}", Rule("os_compute_api:os-quota-sets:update"), handler!(quotas::update)),
    Route::delete("/v2.1/os-quota-sets/{id}", Rule("os_compute_api:os-quota-sets:delete"), handler!(quotas::delete)),
    Route::get(
        "/v2.1/os-quota-class-sets/{id}",
        Rule("os_compute_api:os-quota-class-sets:show"),
        handler!(quotas::show_class),
    ),
    Route::put(
        "/v2.1/os-quota-class-sets/{id}",
        Rule("os_compute_api:os-quota-class-sets:update"),
        handler!(quotas::update_class),
    ),
    Route::get("/v2.1/limits", Rule("os_compute_api:limits"), handler!(limits::show)),
    Route::get("/v2.1/os-services", Rule("os_compute_api:os-services:list"), handler!(services::list)),
    Route::put("/v2.1/os-services/{id}", Rule("os_compute_api:os-services:update"), handler!(services::update_by_name))
        .until(2, 52),
    Route::put("/v2.1/os-services/{id}", Rule("os_compute_api:os-services:update"), handler!(services::update))
        .since(2, 53),
    Route::delete("/v2.1/os-services/{id}", Rule("os_compute_api:os-services:delete"), handler!(services::delete)),
    Route::get("/v2.1/os-hypervisors", Rule("os_compute_api:os-hypervisors:list"), handler!(hypervisors::list)),
    Route::get(
        "/v2.1/os-hypervisors/detail",
        Rule("os_compute_api:os-hypervisors:list-detail"),
        handler!(hypervisors::detail),
    ),
    Route::get(
        "/v2.1/os-hypervisors/statistics",
        Rule("os_compute_api:os-hypervisors:statistics"),
        handler!(hypervisors::statistics),
    )
    .until(2, 87),
    Route::get("/v2.1/os-hypervisors/{id}", Rule("os_compute_api:os-hypervisors:show"), handler!(hypervisors::show)),
    Route::get(
        "/v2.1/os-hypervisors/{id}/uptime",
        Rule("os_compute_api:os-hypervisors:uptime"),
        handler!(hypervisors::uptime),
    )
    .until(2, 87),
    Route::get(
        "/v2.1/os-hypervisors/{id}/search",
        Rule("os_compute_api:os-hypervisors:search"),
        handler!(hypervisors::search),
    )
    .until(2, 52),
    Route::get(
        "/v2.1/os-hypervisors/{id}/servers",
        Rule("os_compute_api:os-hypervisors:servers"),
        handler!(hypervisors::servers),
    )
    .until(2, 52),
    Route::get("/v2.1/os-aggregates", Rule("os_compute_api:os-aggregates:index"), handler!(aggregates::list)),
    Route::get("/v2.1/os-aggregates/{id}", Rule("os_compute_api:os-aggregates:show"), handler!(aggregates::show)),
    Route::post("/v2.1/os-aggregates", Rule("os_compute_api:os-aggregates:create"), handler!(aggregates::create)),
    Route::put("/v2.1/os-aggregates/{id}", Rule("os_compute_api:os-aggregates:update"), handler!(aggregates::update)),
    Route::delete(
        "/v2.1/os-aggregates/{id}",
        Rule("os_compute_api:os-aggregates:delete"),
        handler!(aggregates::delete),
    ),
    Route::action(
        "/v2.1/os-aggregates/{id}/action",
        "add_host",
        Rule("os_compute_api:os-aggregates:add_host"),
        handler!(aggregates::add_host),
    ),
    Route::action(
        "/v2.1/os-aggregates/{id}/action",
        "remove_host",
        Rule("os_compute_api:os-aggregates:remove_host"),
        handler!(aggregates::remove_host),
    ),
    Route::action(
        "/v2.1/os-aggregates/{id}/action",
        "set_metadata",
        Rule("os_compute_api:os-aggregates:set_metadata"),
        handler!(aggregates::set_metadata),
    ),
    Route::post(
        "/v2.1/os-aggregates/{id}/images",
        Rule("compute:aggregates:images"),
        handler!(aggregates::cache_images),
    )
    .since(2, 81),
    Route::get("/v2.1/os-hosts", Rule("os_compute_api:os-hosts:list"), handler!(host_admin::list)).until(2, 42),
    Route::get("/v2.1/os-hosts/{name}", Rule("os_compute_api:os-hosts:show"), handler!(host_admin::show)).until(2, 42),
    Route::put("/v2.1/os-hosts/{name}", Rule("os_compute_api:os-hosts:update"), handler!(host_admin::update))
        .until(2, 42),
    Route::get("/v2.1/os-hosts/{name}/startup", Rule("os_compute_api:os-hosts:start"), handler!(host_admin::power))
        .until(2, 42),
    Route::get("/v2.1/os-hosts/{name}/shutdown", Rule("os_compute_api:os-hosts:shutdown"), handler!(host_admin::power))
        .until(2, 42),
    Route::get("/v2.1/os-hosts/{name}/reboot", Rule("os_compute_api:os-hosts:reboot"), handler!(host_admin::power))
        .until(2, 42),
    Route::get(
        "/v2.1/os-instance_usage_audit_log",
        Rule("os_compute_api:os-instance-usage-audit-log:list"),
        handler!(host_admin::audit_log),
    ),
    Route::get(
        "/v2.1/os-instance_usage_audit_log/{before}",
        Rule("os_compute_api:os-instance-usage-audit-log:show"),
        handler!(host_admin::audit_log),
    ),
    Route::post(
        "/v2.1/os-server-external-events",
        Rule("os_compute_api:os-server-external-events:create"),
        handler!(host_admin::external_events),
    ),
    Route::get("/v2.1/os-migrations", Rule("os_compute_api:os-migrations:index"), handler!(migrations::list)),
    Route::get("/v2.1/os-server-groups", Rule("os_compute_api:os-server-groups:index"), handler!(server_groups::list)),
    Route::get(
        "/v2.1/os-server-groups/{id}",
        Rule("os_compute_api:os-server-groups:show"),
        handler!(server_groups::show),
    ),
    Route::post(
        "/v2.1/os-server-groups",
        Rule("os_compute_api:os-server-groups:create"),
        handler!(server_groups::create),
    ),
    Route::delete(
        "/v2.1/os-server-groups/{id}",
        Rule("os_compute_api:os-server-groups:delete"),
        handler!(server_groups::delete),
    ),
    Route::get("/v2.1/os-availability-zone", Rule("os_compute_api:os-availability-zone:list"), handler!(zones::list)),
    Route::get(
        "/v2.1/os-availability-zone/detail",
        Rule("os_compute_api:os-availability-zone:detail"),
        handler!(zones::detail),
    ),
    Route::get("/v2.1/extensions", Rule("os_compute_api:extensions"), handler!(extensions::list)),
    Route::get("/v2.1/extensions/{alias}", Rule("os_compute_api:extensions"), handler!(extensions::show)),
    Route::get(
        "/v2.1/os-simple-tenant-usage",
        Rule("os_compute_api:os-simple-tenant-usage:list"),
        handler!(usage::list),
    ),
    Route::get(
        "/v2.1/os-simple-tenant-usage/{id}",
        Rule("os_compute_api:os-simple-tenant-usage:show"),
        handler!(usage::show),
    ),
];
