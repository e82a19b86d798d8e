//! Policy rules: Neutron's names and its present defaults.

use web::policy::{Rule, ScopeType};

const ADMIN: &str = "rule:admin_only";
const MEMBER: &str = "rule:admin_only or (role:member and project_id:%(project_id)s)";
const READER: &str = "rule:admin_only or (role:reader and project_id:%(project_id)s)";
const NET_OWNER: &str = "rule:admin_only or role:service or (role:member and rule:network_owner)";
const NET_OWNER_OR_SHARED: &str =
    "rule:admin_only or role:service or (role:member and rule:network_owner) or rule:shared";
const NET_OWNER_ADMIN: &str = "rule:admin_only or (role:member and rule:network_owner)";
const SERVICE: &str = "rule:admin_only or role:service";

const fn rule(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: &[ScopeType::Project], description }
}

/// What others refer to, in any scope.
const fn part(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, scopes: &[], description }
}

/// Every rule.
pub const POLICY: &[Rule] = &[
    // What others refer to.
    part("admin_only", "rule:context_is_admin", "Rule for cloud admin access"),
    part("network_owner", "project_id:%(network:project_id)s", "Rule for network owner access"),
    part("shared", "field:networks:shared=True", "Rule of shared network"),
    part("external", "field:networks:router:external=True", "Rule of external network"),
    part("network_device", "field:port:device_owner=~^network:", "Rule for device of the network service"),
    part("external_network", "field:subnets:router:external=True", "Rule of a subnet in an external network"),
    part("sg_owner", "project_id:%(security_group:project_id)s", "Rule for owner of a security group"),
    part("shared_security_group", "field:security_groups:shared=True", "Rule of a shared security group"),
    part("shared_address_groups", "field:address_groups:shared=True", "Rule of a shared address group"),
    part("context_is_advsvc", "role:advsvc", "Rule for advanced services"),
    part("compute_device", "field:port:device_owner=~^compute:", "Rule for a server's port"),
    part("baremetal_device", "field:port:device_owner=~^baremetal:", "Rule for a bare-metal machine's port"),
    part("manila_device", "field:port:device_owner=~^manila:", "Rule for a file share's port"),
    part("regular_user", "", "Rule for a regular user access"),
    // Networks.
    rule("create_network", MEMBER, "Create a network"),
    rule("create_network:shared", ADMIN, "Create a shared network"),
    rule("create_network:router:external", ADMIN, "Create an external network"),
    rule("create_network:is_default", ADMIN, "Specify is_default attribute when creating a network"),
    rule("create_network:port_security_enabled", MEMBER, "Specify port_security_enabled when creating a network"),
    rule("create_network:provider:network_type", ADMIN, "Specify provider:network_type when creating a network"),
    rule(
        "create_network:provider:physical_network",
        ADMIN,
        "Specify provider:physical_network when creating a network",
    ),
    rule("create_network:provider:segmentation_id", ADMIN, "Specify provider:segmentation_id when creating a network"),
    rule(
        "get_network",
        "(rule:admin_only) or (role:reader and project_id:%(project_id)s) or rule:service_api or rule:shared or rule:external or rule:context_is_advsvc",
        "Get a network",
    ),
    rule("get_network:provider:network_type", ADMIN, "Get provider attributes of a network"),
    rule("update_network", MEMBER, "Update a network"),
    rule("update_network:shared", ADMIN, "Update shared attribute of a network"),
    rule("update_network:router:external", ADMIN, "Update router:external attribute of a network"),
    rule("update_network:is_default", ADMIN, "Update is_default attribute of a network"),
    rule("update_network:port_security_enabled", MEMBER, "Update port_security_enabled attribute of a network"),
    rule("delete_network", MEMBER, "Delete a network"),
    rule(
        "get_network:tags",
        "(rule:admin_only) or (role:reader and project_id:%(project_id)s) or rule:shared or rule:external or rule:context_is_advsvc",
        "Get the network tags",
    ),
    rule("update_network:tags", MEMBER, "Update the network tags"),
    rule("delete_network:tags", MEMBER, "Delete the network tags"),
    // Subnets.
    rule("create_subnet", NET_OWNER_ADMIN, "Create a subnet"),
    rule(
        "get_subnet",
        "role:reader and project_id:%(project_id)s or rule:shared or rule:external_network or (rule:admin_only) or (role:reader and rule:network_owner) or rule:service_api",
        "Get a subnet",
    ),
    rule(
        "update_subnet",
        "rule:admin_only or (role:member and project_id:%(project_id)s) or (role:member and rule:network_owner)",
        "Update a subnet",
    ),
    rule(
        "delete_subnet",
        "rule:admin_only or (role:member and project_id:%(project_id)s) or (role:member and rule:network_owner)",
        "Delete a subnet",
    ),
    rule(
        "get_subnet:tags",
        "role:reader and project_id:%(project_id)s or rule:shared or rule:external_network or (rule:admin_only) or (role:reader and rule:network_owner)",
        "Get the subnet tags",
    ),
    rule(
        "update_subnet:tags",
        "role:member and project_id:%(project_id)s or (rule:admin_only) or (role:member and rule:network_owner)",
        "Update the subnet tags",
    ),
    rule(
        "delete_subnet:tags",
        "role:member and project_id:%(project_id)s or (rule:admin_only) or (role:member and rule:network_owner)",
        "Delete the subnet tags",
    ),
    // Ports.
    rule(
        "create_port",
        "(rule:admin_only) or (rule:service_api) or role:member and rule:network_owner or rule:shared",
        "Create a port",
    ),
    rule(
        "create_port:device_owner",
        "not rule:network_device or rule:admin_only or role:service or (role:member and rule:network_owner)",
        "Specify device_owner attribute when creating a port",
    ),
    rule("create_port:mac_address", NET_OWNER, "Specify mac_address attribute when creating a port"),
    rule("create_port:fixed_ips", NET_OWNER_OR_SHARED, "Specify fixed_ips information when creating a port"),
    rule("create_port:fixed_ips:ip_address", NET_OWNER, "Specify IP address in fixed_ips when creating a port"),
    rule("create_port:fixed_ips:subnet_id", NET_OWNER_OR_SHARED, "Specify subnet ID in fixed_ips when creating a port"),
    rule(
        "create_port:port_security_enabled",
        NET_OWNER,
        "Specify port_security_enabled attribute when creating a port",
    ),
    rule("create_port:binding:host_id", SERVICE, "Specify binding:host_id attribute when creating a port"),
    rule("create_port:binding:profile", "rule:service_api", "Specify binding:profile attribute when creating a port"),
    rule(
        "create_port:binding:vnic_type",
        "rule:admin_only or role:service or (role:member and project_id:%(project_id)s)",
        "Specify binding:vnic_type attribute when creating a port",
    ),
    rule(
        "create_port:allowed_address_pairs",
        "(rule:admin_only) or (role:member and rule:network_owner) or rule:service_api",
        "Specify allowed_address_pairs attribute when creating a port",
    ),
    rule(
        "get_port",
        "rule:admin_only or role:service or (role:reader and rule:network_owner) or (role:reader and project_id:%(project_id)s)",
        "Get a port",
    ),
    rule("get_port:binding:host_id", SERVICE, "Get binding attributes of a port"),
    rule(
        "update_port",
        "rule:admin_only or role:service or (role:member and project_id:%(project_id)s)",
        "Update a port",
    ),
    rule(
        "update_port:device_owner",
        "not rule:network_device or rule:admin_only or role:service or (role:member and rule:network_owner)",
        "Update device_owner attribute of a port",
    ),
    rule(
        "update_port:mac_address",
        "(rule:admin_only) or (rule:service_api) or role:manager and rule:network_owner",
        "Update mac_address attribute of a port",
    ),
    rule("update_port:fixed_ips", NET_OWNER, "Specify fixed_ips information when updating a port"),
    rule(
        "update_port:fixed_ips:ip_address",
        NET_OWNER,
        "Specify IP address in fixed_ips information when updating a port",
    ),
    rule(
        "update_port:fixed_ips:subnet_id",
        NET_OWNER_OR_SHARED,
        "Specify subnet ID in fixed_ips information when updating a port",
    ),
    rule("update_port:port_security_enabled", NET_OWNER, "Update port_security_enabled attribute of a port"),
    rule("update_port:binding:host_id", SERVICE, "Update binding:host_id attribute of a port"),
    rule("update_port:binding:profile", "rule:service_api", "Update binding:profile attribute of a port"),
    rule(
        "update_port:binding:vnic_type",
        "rule:admin_only or role:service or (role:member and project_id:%(project_id)s)",
        "Update binding:vnic_type attribute of a port",
    ),
    rule(
        "update_port:allowed_address_pairs",
        "(rule:admin_only) or (role:member and rule:network_owner) or rule:service_api",
        "Update allowed_address_pairs attribute of a port",
    ),
    rule(
        "delete_port",
        "(rule:admin_only) or (rule:service_api) or (service_roles:service and (role:member and rule:network_owner or role:member and project_id:%(project_id)s)) or (not rule:compute_device and not rule:baremetal_device and not rule:manila_device and (role:member and rule:network_owner or role:member and project_id:%(project_id)s))",
        "Delete a port",
    ),
    rule(
        "get_port:tags",
        "rule:context_is_advsvc or (rule:admin_only) or (role:reader and rule:network_owner) or role:reader and project_id:%(project_id)s",
        "Get the port tags",
    ),
    rule(
        "update_port:tags",
        "(rule:admin_only) or (role:member and project_id:%(project_id)s) or rule:context_is_advsvc",
        "Update the port tags",
    ),
    rule(
        "delete_port:tags",
        "rule:context_is_advsvc or role:member and project_id:%(project_id)s or (rule:admin_only) or (role:member and rule:network_owner)",
        "Delete the port tags",
    ),
    // Routers.
    rule("create_router", MEMBER, "Create a router"),
    rule(
        "create_router:external_gateway_info:enable_snat",
        ADMIN,
        "Specify enable_snat in external_gateway_info when creating a router",
    ),
    rule(
        "create_router:external_gateway_info:external_fixed_ips",
        ADMIN,
        "Specify external_fixed_ips in external_gateway_info when creating a router",
    ),
    rule("get_router", READER, "Get a router"),
    rule("update_router", MEMBER, "Update a router"),
    rule("update_router:external_gateway_info:enable_snat", ADMIN, "Update enable_snat of the external gateway"),
    rule(
        "update_router:external_gateway_info:external_fixed_ips",
        ADMIN,
        "Update external_fixed_ips of the external gateway",
    ),
    rule("delete_router", MEMBER, "Delete a router"),
    rule("add_router_interface", MEMBER, "Add an interface to a router"),
    rule("remove_router_interface", MEMBER, "Remove an interface from a router"),
    rule("add_extraroutes", MEMBER, "Add extra routes to a router"),
    rule("remove_extraroutes", MEMBER, "Remove extra routes from a router"),
    rule("get_router:tags", READER, "Get the router tags"),
    rule("update_router:tags", MEMBER, "Update the router tags"),
    rule("delete_router:tags", MEMBER, "Delete the router tags"),
    // Floating IPs.
    rule("create_floatingip", MEMBER, "Create a floating IP"),
    rule(
        "create_floatingip:floating_ip_address",
        "(rule:admin_only) or (role:manager and project_id:%(project_id)s)",
        "Create a floating IP with a specific IP address",
    ),
    rule("get_floatingip", READER, "Get a floating IP"),
    rule("update_floatingip", MEMBER, "Update a floating IP"),
    rule("delete_floatingip", MEMBER, "Delete a floating IP"),
    rule("get_floatingip:tags", READER, "Get the floating IP tags"),
    rule("update_floatingip:tags", MEMBER, "Update the floating IP tags"),
    rule("delete_floatingip:tags", MEMBER, "Delete the floating IP tags"),
    // Security groups.
    rule("create_security_group", MEMBER, "Create a security group"),
    rule(
        "get_security_group",
        "(rule:admin_only) or (role:reader and project_id:%(project_id)s) or rule:shared_security_group",
        "Get a security group",
    ),
    rule("update_security_group", MEMBER, "Update a security group"),
    rule("delete_security_group", MEMBER, "Delete a security group"),
    rule(
        "get_security_group:tags",
        "(rule:admin_only) or (role:reader and project_id:%(project_id)s) or rule:shared_security_group",
        "Get the security group tags",
    ),
    rule("update_security_group:tags", MEMBER, "Update the security group tags"),
    rule("delete_security_group:tags", MEMBER, "Delete the security group tags"),
    rule("get_security_group_rule:tags", READER, "Get the security group rule tags"),
    rule("update_security_group_rule:tags", MEMBER, "Update the security group rule tags"),
    rule("delete_security_group_rule:tags", MEMBER, "Delete the security group rule tags"),
    rule(
        "create_security_group_rule",
        "(rule:admin_only) or (role:member and rule:sg_owner)",
        "Create a security group rule",
    ),
    rule(
        "get_security_group_rule",
        "(rule:admin_only) or (role:reader and rule:sg_owner)",
        "Get a security group rule",
    ),
    rule(
        "delete_security_group_rule",
        "(rule:admin_only) or (role:member and rule:sg_owner)",
        "Delete a security group rule",
    ),
    // Pools, scopes and lists of addresses.
    rule("create_address_scope", MEMBER, "Create an address scope"),
    rule("create_address_scope:shared", ADMIN, "Create a shared address scope"),
    rule("update_address_scope:shared", ADMIN, "Share an address scope"),
    rule(
        "get_address_scope",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get an address scope",
    ),
    rule("update_address_scope", MEMBER, "Update an address scope"),
    rule("delete_address_scope", MEMBER, "Delete an address scope"),
    rule("create_subnetpool", MEMBER, "Create a subnet pool"),
    rule("create_subnetpool:shared", ADMIN, "Create a shared subnet pool"),
    rule("create_subnetpool:is_default", ADMIN, "Create a default subnet pool"),
    rule("update_subnetpool:is_default", ADMIN, "Make a subnet pool the default"),
    rule(
        "get_subnetpool",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get a subnet pool",
    ),
    rule("update_subnetpool", MEMBER, "Update a subnet pool"),
    rule("delete_subnetpool", MEMBER, "Delete a subnet pool"),
    rule("create_address_group", MEMBER, "Create an address group"),
    rule(
        "get_address_group",
        "(rule:admin_only) or (role:reader and project_id:%(project_id)s) or rule:shared_address_groups",
        "Get an address group",
    ),
    rule("update_address_group", MEMBER, "Update an address group"),
    rule("delete_address_group", MEMBER, "Delete an address group"),
    // Metering.
    rule("create_metering_label", ADMIN, "Create a metering label"),
    rule("get_metering_label", ADMIN, "Get a metering label"),
    rule("delete_metering_label", ADMIN, "Delete a metering label"),
    rule("create_metering_label_rule", ADMIN, "Create a metering label rule"),
    rule("get_metering_label_rule", ADMIN, "Get a metering label rule"),
    rule("delete_metering_label_rule", ADMIN, "Delete a metering label rule"),
    // Port forwardings, trunks.
    rule("create_floatingip_port_forwarding", MEMBER, "Create a floating IP port forwarding"),
    rule("get_floatingip_port_forwarding", READER, "Get a floating IP port forwarding"),
    rule("update_floatingip_port_forwarding", MEMBER, "Update a floating IP port forwarding"),
    rule("delete_floatingip_port_forwarding", MEMBER, "Delete a floating IP port forwarding"),
    rule("create_trunk", MEMBER, "Create a trunk"),
    rule("get_trunk", READER, "Get a trunk"),
    rule("update_trunk", MEMBER, "Update a trunk"),
    rule("delete_trunk", MEMBER, "Delete a trunk"),
    rule("get_subports", READER, "List subports attached to a trunk"),
    rule("add_subports", MEMBER, "Add subports to a trunk"),
    rule("remove_subports", MEMBER, "Delete subports from a trunk"),
    // Quality of service.
    rule("get_rule_type", "rule:regular_user", "List QoS rule types"),
    rule(
        "get_policy",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get QoS policies",
    ),
    rule("create_policy", ADMIN, "Create a QoS policy"),
    rule("update_policy", ADMIN, "Update a QoS policy"),
    rule("delete_policy", ADMIN, "Delete a QoS policy"),
    rule(
        "get_policy_bandwidth_limit_rule",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get a QoS bandwidth limit rule",
    ),
    rule("create_policy_bandwidth_limit_rule", ADMIN, "Create a QoS bandwidth limit rule"),
    rule("update_policy_bandwidth_limit_rule", ADMIN, "Update a QoS bandwidth limit rule"),
    rule("delete_policy_bandwidth_limit_rule", ADMIN, "Delete a QoS bandwidth limit rule"),
    rule(
        "get_policy_dscp_marking_rule",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get a QoS dscp marking rule",
    ),
    rule("create_policy_dscp_marking_rule", ADMIN, "Create a QoS dscp marking rule"),
    rule("update_policy_dscp_marking_rule", ADMIN, "Update a QoS dscp marking rule"),
    rule("delete_policy_dscp_marking_rule", ADMIN, "Delete a QoS dscp marking rule"),
    rule(
        "get_policy_minimum_bandwidth_rule",
        "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared",
        "Get a QoS minimum bandwidth rule",
    ),
    rule("create_policy_minimum_bandwidth_rule", ADMIN, "Create a QoS minimum bandwidth rule"),
    rule("update_policy_minimum_bandwidth_rule", ADMIN, "Update a QoS minimum bandwidth rule"),
    rule("delete_policy_minimum_bandwidth_rule", ADMIN, "Delete a QoS minimum bandwidth rule"),
    rule("get_subnetpools_tags", "rule:get_subnetpool", "Get the subnet pool tags"),
    rule("update_subnetpools_tags", MEMBER, "Update the subnet pool tags"),
    rule("delete_subnetpools_tags", MEMBER, "Delete the subnet pool tags"),
    rule("get_trunks_tags", READER, "Get the trunk tags"),
    rule("update_trunks_tags", MEMBER, "Update the trunk tags"),
    rule("delete_trunks_tags", MEMBER, "Delete the trunk tags"),
    rule("get_policies_tags", "rule:get_policy", "Get the QoS policy tags"),
    rule("update_policies_tags", ADMIN, "Update the QoS policy tags"),
    rule("delete_policies_tags", ADMIN, "Delete the QoS policy tags"),
    // The rest.
    rule("get_service_provider", "role:reader", "Get service providers"),
    rule("get_network_ip_availability", "(rule:admin_only) or (rule:service_api)", "Get network IP availability"),
    rule("get_auto_allocated_topology", READER, "Get a project's auto-allocated topology"),
    rule("delete_auto_allocated_topology", MEMBER, "Delete a project's auto-allocated topology"),
    rule("get_quota", "(rule:admin_only) or (role:manager and project_id:%(project_id)s)", "Get a resource quota"),
    rule("list_quotas", ADMIN, "List the resource quotas of all projects"),
    rule("update_quota", ADMIN, "Update a resource quota"),
    rule("delete_quota", ADMIN, "Delete a resource quota"),
    rule("get_extension", "rule:regular_user", "List the extensions"),
    rule("get_agent", ADMIN, "Get an agent"),
    rule("get_availability_zone", "role:reader", "List availability zones"),
];
