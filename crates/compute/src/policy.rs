//! Who may do what by default: Nova's rule names and checks (secure RBAC, project scope).

use web::policy::{Rule, ScopeType};

/// Every rule of this service works with tokens of projects, as Nova's do.
const SCOPES: &[ScopeType] = &[ScopeType::Project];

const fn admin(name: &'static str, description: &'static str) -> Rule {
    Rule { name, check: "rule:context_is_admin", scopes: SCOPES, description }
}

const fn member(name: &'static str, description: &'static str) -> Rule {
    Rule { name, check: "rule:project_member_or_admin", scopes: SCOPES, description }
}

const fn reader(name: &'static str, description: &'static str) -> Rule {
    Rule { name, check: "rule:project_reader_or_admin", scopes: SCOPES, description }
}

/// Anyone with a token of a project.
const fn any(name: &'static str, description: &'static str) -> Rule {
    Rule { name, check: "@", scopes: SCOPES, description }
}

/// The user that it is about, and administrators.
const fn own(name: &'static str, description: &'static str) -> Rule {
    Rule { name, check: "rule:context_is_admin or user_id:%(user_id)s", scopes: SCOPES, description }
}

/// The table.
pub const RULES: &[Rule] = &[
    // Servers.
    reader("os_compute_api:servers:index", "List servers."),
    reader("os_compute_api:servers:detail", "List servers with details."),
    admin("os_compute_api:servers:index:get_all_tenants", "List the servers of all projects."),
    admin("os_compute_api:servers:detail:get_all_tenants", "List the servers of all projects with details."),
    admin("os_compute_api:servers:allow_all_filters", "Use every filter of the server list."),
    reader("os_compute_api:servers:show", "Show a server."),
    admin("os_compute_api:servers:show:host_status", "See the status of a server's host."),
    admin("os_compute_api:os-extended-server-attributes", "See a server's host and hypervisor."),
    member("os_compute_api:servers:create", "Create a server."),
    admin("os_compute_api:servers:create:forced_host", "Create a server on a certain host."),
    admin("os_compute_api:servers:create:zero_disk_flavor", "Create a server of a flavor without a disk."),
    member("os_compute_api:servers:create:attach_network", "Create a server with networks."),
    member("os_compute_api:servers:update", "Change a server's name, description or access addresses."),
    member("os_compute_api:servers:delete", "Delete a server."),
    member("os_compute_api:os-deferred-delete:force", "Delete a server at once."),
    member("os_compute_api:servers:start", "Start a server."),
    member("os_compute_api:servers:stop", "Stop a server."),
    member("os_compute_api:servers:reboot", "Reboot a server."),
    member("os_compute_api:os-console-output", "Read a server's console."),
    reader("os_compute_api:ips:index", "List a server's addresses."),
    reader("os_compute_api:ips:show", "List a server's addresses in one network."),
    reader("os_compute_api:server-metadata:index", "List a server's metadata."),
    reader("os_compute_api:server-metadata:show", "Show one key of a server's metadata."),
    member("os_compute_api:server-metadata:create", "Add to a server's metadata."),
    member("os_compute_api:server-metadata:update", "Set one key of a server's metadata."),
    member("os_compute_api:server-metadata:update_all", "Replace a server's metadata."),
    member("os_compute_api:server-metadata:delete", "Delete a key of a server's metadata."),
    reader("os_compute_api:os-server-tags:index", "List a server's tags."),
    reader("os_compute_api:os-server-tags:show", "Ask whether a server has a tag."),
    member("os_compute_api:os-server-tags:update", "Add a tag to a server."),
    member("os_compute_api:os-server-tags:update_all", "Replace a server's tags."),
    member("os_compute_api:os-server-tags:delete", "Take a tag from a server."),
    member("os_compute_api:os-server-tags:delete_all", "Take all tags from a server."),
    reader("os_compute_api:os-instance-actions:list", "List what was done with a server."),
    reader("os_compute_api:os-instance-actions:show", "Show one thing that was done with a server."),
    admin("os_compute_api:os-instance-actions:events", "See the events of an action, with errors."),
    admin("os_compute_api:os-instance-actions:events:details", "See why an event failed."),
    reader("os_compute_api:os-attach-interfaces:list", "List a server's network interfaces."),
    reader("os_compute_api:os-attach-interfaces:show", "Show one of a server's network interfaces."),
    member("os_compute_api:os-attach-interfaces:create", "Plug a network interface into a server."),
    member("os_compute_api:os-attach-interfaces:delete", "Unplug a network interface from a server."),
    admin("compute:servers:create:requested_destination", "Create a server on a host named by `host`."),
    admin("network:attach_external_network", "Put a server on an external network."),
    reader("os_compute_api:os-server-password:show", "Read a server's encrypted password."),
    member("os_compute_api:os-server-password:clear", "Clear a server's encrypted password."),
    member("os_compute_api:os-security-groups:add", "Add a security group to a server."),
    member("os_compute_api:os-security-groups:remove", "Remove a security group from a server."),
    reader("os_compute_api:os-security-groups:list", "List a server's security groups."),
    reader("os_compute_api:os-volumes-attachments:index", "List a server's volumes."),
    // Flavors, key pairs, quotas, limits, services, hypervisors, zones, extensions.
    admin("os_compute_api:os-flavor-manage:create", "Create a flavor."),
    admin("os_compute_api:os-flavor-manage:update", "Change a flavor's description."),
    admin("os_compute_api:os-flavor-manage:delete", "Delete a flavor."),
    admin("os_compute_api:os-flavor-access", "List the projects that may use a flavor."),
    admin("os_compute_api:os-flavor-access:add_tenant_access", "Give a project access to a flavor."),
    admin("os_compute_api:os-flavor-access:remove_tenant_access", "Take a project's access to a flavor."),
    reader("os_compute_api:os-flavor-extra-specs:index", "List a flavor's extra specs."),
    reader("os_compute_api:os-flavor-extra-specs:show", "Show one of a flavor's extra specs."),
    admin("os_compute_api:os-flavor-extra-specs:create", "Add to a flavor's extra specs."),
    admin("os_compute_api:os-flavor-extra-specs:update", "Set one of a flavor's extra specs."),
    admin("os_compute_api:os-flavor-extra-specs:delete", "Remove one of a flavor's extra specs."),
    own("os_compute_api:os-keypairs:index", "List a user's key pairs."),
    own("os_compute_api:os-keypairs:show", "Show a user's key pair."),
    own("os_compute_api:os-keypairs:create", "Create or import a key pair."),
    own("os_compute_api:os-keypairs:delete", "Delete a user's key pair."),
    reader("os_compute_api:os-quota-sets:show", "Show a project's quotas."),
    reader("os_compute_api:os-quota-sets:detail", "Show a project's quotas and what is in use."),
    any("os_compute_api:os-quota-sets:defaults", "Show the default quotas."),
    admin("os_compute_api:os-quota-sets:update", "Change a project's quotas."),
    admin("os_compute_api:os-quota-sets:delete", "Set a project's quotas back to the defaults."),
    admin("os_compute_api:os-quota-class-sets:show", "Show the default quotas as a class."),
    admin("os_compute_api:os-quota-class-sets:update", "Change the default quotas."),
    any("os_compute_api:limits", "Show the own project's limits."),
    admin("os_compute_api:limits:other_project", "Show another project's limits."),
    admin("os_compute_api:os-services:list", "List compute services."),
    admin("os_compute_api:os-services:update", "Enable or disable a compute service."),
    admin("os_compute_api:os-services:delete", "Give a compute service up."),
    admin("os_compute_api:os-hypervisors:list", "List hypervisors."),
    admin("os_compute_api:os-hypervisors:list-detail", "List hypervisors with details."),
    admin("os_compute_api:os-hypervisors:statistics", "Sum up all hypervisors."),
    admin("os_compute_api:os-hypervisors:show", "Show a hypervisor."),
    admin("os_compute_api:os-hypervisors:uptime", "Show how long a hypervisor has been running."),
    admin("os_compute_api:os-hypervisors:search", "Find hypervisors by name."),
    admin("os_compute_api:os-hypervisors:servers", "List the servers of hypervisors."),
    admin("os_compute_api:os-aggregates:index", "List aggregates."),
    any("os_compute_api:os-availability-zone:list", "List availability zones."),
    admin("os_compute_api:os-availability-zone:detail", "List availability zones with their hosts."),
    any("os_compute_api:extensions", "List API extensions."),
    admin("os_compute_api:os-simple-tenant-usage:list", "Show what all projects used."),
    reader("os_compute_api:os-simple-tenant-usage:show", "Show what a project used."),
];
