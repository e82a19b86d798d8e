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
    reader("os_compute_api:os-security-groups:list", "List a server's security groups."),
    reader("os_compute_api:os-volumes-attachments:index", "List a server's volumes."),
    // Flavors, key pairs, quotas, limits, services, hypervisors, zones, extensions.
];
