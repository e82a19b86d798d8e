//! Every operation of the service.

use store::network::{
    address_groups::AddressGroup,
    metering::{Label, LabelRule},
    subnet_pools::{AddressScope, SubnetPool},
};
use web::{
    Access::{Public, Rule, Token},
    Route, handler,
};

use crate::{
    address_groups, address_scopes, agents, collection, extensions, floating_ips::api as floating_ips, metering,
    networks::api as networks, ports::api as ports, providers, quotas, routers::api as routers,
    security_group_rules::api as rules, security_groups::api as groups, subnetpools, subnets::api as subnets, tags,
    versions,
};

/// Method, path, rule, handler.
pub const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::list)),
    Route::get("/v2.0", Public, handler!(versions::show)),
    Route::get("/v2.0/extensions", Rule("get_extension"), handler!(extensions::list)),
    Route::get("/v2.0/extensions/{alias}", Rule("get_extension"), handler!(extensions::show)),
    // networks
    Route::get("/v2.0/networks", Rule("get_network"), handler!(networks::list)),
    Route::get("/v2.0/networks/{id}", Rule("get_network"), handler!(networks::show)),
    Route::post("/v2.0/networks", Rule("create_network"), handler!(networks::create)),
    Route::put("/v2.0/networks/{id}", Rule("update_network"), handler!(networks::update)),
    Route::delete("/v2.0/networks/{id}", Rule("delete_network"), handler!(networks::delete)),
    // subnets
    Route::get("/v2.0/subnets", Rule("get_subnet"), handler!(subnets::list)),
    Route::get("/v2.0/subnets/{id}", Rule("get_subnet"), handler!(subnets::show)),
    Route::post("/v2.0/subnets", Rule("create_subnet"), handler!(subnets::create)),
    Route::put("/v2.0/subnets/{id}", Rule("update_subnet"), handler!(subnets::update)),
    Route::delete("/v2.0/subnets/{id}", Rule("delete_subnet"), handler!(subnets::delete)),
    // ports
    Route::get("/v2.0/ports", Rule("get_port"), handler!(ports::list)),
    Route::get("/v2.0/ports/{id}", Rule("get_port"), handler!(ports::show)),
    Route::post("/v2.0/ports", Rule("create_port"), handler!(ports::create)),
    Route::put("/v2.0/ports/{id}", Rule("update_port"), handler!(ports::update)),
    Route::delete("/v2.0/ports/{id}", Rule("delete_port"), handler!(ports::delete)),
    // routers
    Route::get("/v2.0/routers", Rule("get_router"), handler!(routers::list)),
    Route::get("/v2.0/routers/{id}", Rule("get_router"), handler!(routers::show)),
    Route::post("/v2.0/routers", Rule("create_router"), handler!(routers::create)),
    Route::put("/v2.0/routers/{id}", Rule("update_router"), handler!(routers::update)),
    Route::delete("/v2.0/routers/{id}", Rule("delete_router"), handler!(routers::delete)),
    Route::put(
        "/v2.0/routers/{id}/add_router_interface",
        Rule("add_router_interface"),
        handler!(routers::add_interface),
    ),
    Route::put(
        "/v2.0/routers/{id}/remove_router_interface",
        Rule("remove_router_interface"),
        handler!(routers::remove_interface),
    ),
    Route::put("/v2.0/routers/{id}/add_extraroutes", Rule("add_extraroutes"), handler!(routers::add_extraroutes)),
    Route::put(
        "/v2.0/routers/{id}/remove_extraroutes",
        Rule("remove_extraroutes"),
        handler!(routers::remove_extraroutes),
    ),
    // floatingips
    Route::get("/v2.0/floatingips", Rule("get_floatingip"), handler!(floating_ips::list)),
    Route::get("/v2.0/floatingips/{id}", Rule("get_floatingip"), handler!(floating_ips::show)),
    Route::post("/v2.0/floatingips", Rule("create_floatingip"), handler!(floating_ips::create)),
    Route::put("/v2.0/floatingips/{id}", Rule("update_floatingip"), handler!(floating_ips::update)),
    Route::delete("/v2.0/floatingips/{id}", Rule("delete_floatingip"), handler!(floating_ips::delete)),
    // security-groups
    Route::get("/v2.0/security-groups", Rule("get_security_group"), handler!(groups::list)),
    Route::get("/v2.0/security-groups/{id}", Rule("get_security_group"), handler!(groups::show)),
    Route::post("/v2.0/security-groups", Rule("create_security_group"), handler!(groups::create)),
    Route::put("/v2.0/security-groups/{id}", Rule("update_security_group"), handler!(groups::update)),
    Route::delete("/v2.0/security-groups/{id}", Rule("delete_security_group"), handler!(groups::delete)),
    // security-group-rules
    Route::get("/v2.0/security-group-rules", Rule("get_security_group_rule"), handler!(rules::list)),
    Route::get("/v2.0/security-group-rules/{id}", Rule("get_security_group_rule"), handler!(rules::show)),
    Route::post("/v2.0/security-group-rules", Rule("create_security_group_rule"), handler!(rules::create)),
    Route::delete("/v2.0/security-group-rules/{id}", Rule("delete_security_group_rule"), handler!(rules::delete)),
    // address-scopes
    Route::get("/v2.0/address-scopes", Rule("get_address_scope"), handler!(collection::list::<AddressScope>)),
    Route::get("/v2.0/address-scopes/{id}", Rule("get_address_scope"), handler!(collection::show::<AddressScope>)),
    Route::post("/v2.0/address-scopes", Rule("create_address_scope"), handler!(address_scopes::create)),
    Route::put("/v2.0/address-scopes/{id}", Rule("update_address_scope"), handler!(address_scopes::update)),
    Route::delete("/v2.0/address-scopes/{id}", Rule("delete_address_scope"), handler!(address_scopes::delete)),
    // subnetpools
    Route::get("/v2.0/subnetpools", Rule("get_subnetpool"), handler!(collection::list::<SubnetPool>)),
    Route::get("/v2.0/subnetpools/{id}", Rule("get_subnetpool"), handler!(collection::show::<SubnetPool>)),
    Route::post("/v2.0/subnetpools", Rule("create_subnetpool"), handler!(subnetpools::create)),
    Route::put("/v2.0/subnetpools/{id}", Rule("update_subnetpool"), handler!(subnetpools::update)),
    Route::delete("/v2.0/subnetpools/{id}", Rule("delete_subnetpool"), handler!(subnetpools::delete)),
    // address-groups
    Route::get("/v2.0/address-groups", Rule("get_address_group"), handler!(collection::list::<AddressGroup>)),
    Route::get("/v2.0/address-groups/{id}", Rule("get_address_group"), handler!(collection::show::<AddressGroup>)),
    Route::post("/v2.0/address-groups", Rule("create_address_group"), handler!(address_groups::create)),
    Route::put("/v2.0/address-groups/{id}", Rule("update_address_group"), handler!(address_groups::update)),
    Route::delete("/v2.0/address-groups/{id}", Rule("delete_address_group"), handler!(address_groups::delete)),
    Route::put(
        "/v2.0/address-groups/{id}/add_addresses",
        Rule("update_address_group"),
        handler!(address_groups::add_addresses),
    ),
    Route::put(
        "/v2.0/address-groups/{id}/remove_addresses",
        Rule("update_address_group"),
        handler!(address_groups::remove_addresses),
    ),
    // metering
    Route::get("/v2.0/metering/metering-labels", Rule("get_metering_label"), handler!(collection::list::<Label>)),
    Route::get("/v2.0/metering/metering-labels/{id}", Rule("get_metering_label"), handler!(collection::show::<Label>)),
    Route::post("/v2.0/metering/metering-labels", Rule("create_metering_label"), handler!(metering::create_label)),
    Route::delete(
        "/v2.0/metering/metering-labels/{id}",
        Rule("delete_metering_label"),
        handler!(metering::delete_label),
    ),
    Route::get(
        "/v2.0/metering/metering-label-rules",
        Rule("get_metering_label_rule"),
        handler!(collection::list::<LabelRule>),
    ),
    Route::get(
        "/v2.0/metering/metering-label-rules/{id}",
        Rule("get_metering_label_rule"),
        handler!(collection::show::<LabelRule>),
    ),
    Route::post(
        "/v2.0/metering/metering-label-rules",
        Rule("create_metering_label_rule"),
        handler!(metering::create_rule),
    ),
    Route::delete(
        "/v2.0/metering/metering-label-rules/{id}",
        Rule("delete_metering_label_rule"),
        handler!(metering::delete_rule),
    ),
    // what serves, what is left, what is automatic
    Route::get("/v2.0/service-providers", Rule("get_service_provider"), handler!(providers::list)),
    Route::get(
        "/v2.0/network-ip-availabilities",
        Rule("get_network_ip_availability"),
        handler!(providers::list_availabilities),
    ),
    Route::get(
        "/v2.0/network-ip-availabilities/{network_id}",
        Rule("get_network_ip_availability"),
        handler!(providers::show_availability),
    ),
    Route::get(
        "/v2.0/auto-allocated-topology/{project_id}",
        Rule("get_auto_allocated_topology"),
        handler!(providers::show_topology),
    ),
    Route::delete(
        "/v2.0/auto-allocated-topology/{project_id}",
        Rule("delete_auto_allocated_topology"),
        handler!(providers::delete_topology),
    ),
    // quotas
    Route::get("/v2.0/quotas", Rule("list_quotas"), handler!(quotas::list)),
    Route::get("/v2.0/quotas/{project_id}", Rule("get_quota"), handler!(quotas::show)),
    Route::get("/v2.0/quotas/{project_id}/default", Rule("get_quota"), handler!(quotas::show_default)),
    Route::get("/v2.0/quotas/{project_id}/details", Rule("get_quota"), handler!(quotas::show_details)),
    Route::get("/v2.0/quotas/{project_id}/details.json", Rule("get_quota"), handler!(quotas::show_details)),
    Route::put("/v2.0/quotas/{project_id}", Rule("update_quota"), handler!(quotas::update)),
    Route::delete("/v2.0/quotas/{project_id}", Rule("delete_quota"), handler!(quotas::delete)),
    // where the network runs
    Route::get("/v2.0/agents", Token, handler!(agents::list)),
    Route::get("/v2.0/agents/{id}", Rule("get_agent"), handler!(agents::show)),
    Route::get("/v2.0/availability_zones", Rule("get_availability_zone"), handler!(agents::list_zones)),
    // tags
    Route::get("/v2.0/networks/{id}/tags", Rule("get_network:tags"), handler!(tags::list)),
    Route::put("/v2.0/networks/{id}/tags", Rule("update_network:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/networks/{id}/tags", Rule("delete_network:tags"), handler!(tags::clear)),
    Route::get("/v2.0/networks/{id}/tags/{tag}", Rule("get_network:tags"), handler!(tags::show)),
    Route::put("/v2.0/networks/{id}/tags/{tag}", Rule("update_network:tags"), handler!(tags::add)),
    Route::delete("/v2.0/networks/{id}/tags/{tag}", Rule("delete_network:tags"), handler!(tags::remove)),
    Route::get("/v2.0/subnets/{id}/tags", Rule("get_subnet:tags"), handler!(tags::list)),
    Route::put("/v2.0/subnets/{id}/tags", Rule("update_subnet:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/subnets/{id}/tags", Rule("delete_subnet:tags"), handler!(tags::clear)),
    Route::get("/v2.0/subnets/{id}/tags/{tag}", Rule("get_subnet:tags"), handler!(tags::show)),
    Route::put("/v2.0/subnets/{id}/tags/{tag}", Rule("update_subnet:tags"), handler!(tags::add)),
    Route::delete("/v2.0/subnets/{id}/tags/{tag}", Rule("delete_subnet:tags"), handler!(tags::remove)),
    Route::get("/v2.0/ports/{id}/tags", Rule("get_port:tags"), handler!(tags::list)),
    Route::put("/v2.0/ports/{id}/tags", Rule("update_port:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/ports/{id}/tags", Rule("delete_port:tags"), handler!(tags::clear)),
    Route::get("/v2.0/ports/{id}/tags/{tag}", Rule("get_port:tags"), handler!(tags::show)),
    Route::put("/v2.0/ports/{id}/tags/{tag}", Rule("update_port:tags"), handler!(tags::add)),
    Route::delete("/v2.0/ports/{id}/tags/{tag}", Rule("delete_port:tags"), handler!(tags::remove)),
    Route::get("/v2.0/routers/{id}/tags", Rule("get_router:tags"), handler!(tags::list)),
    Route::put("/v2.0/routers/{id}/tags", Rule("update_router:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/routers/{id}/tags", Rule("delete_router:tags"), handler!(tags::clear)),
    Route::get("/v2.0/routers/{id}/tags/{tag}", Rule("get_router:tags"), handler!(tags::show)),
    Route::put("/v2.0/routers/{id}/tags/{tag}", Rule("update_router:tags"), handler!(tags::add)),
    Route::delete("/v2.0/routers/{id}/tags/{tag}", Rule("delete_router:tags"), handler!(tags::remove)),
    Route::get("/v2.0/floatingips/{id}/tags", Rule("get_floatingip:tags"), handler!(tags::list)),
    Route::put("/v2.0/floatingips/{id}/tags", Rule("update_floatingip:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/floatingips/{id}/tags", Rule("delete_floatingip:tags"), handler!(tags::clear)),
    Route::get("/v2.0/floatingips/{id}/tags/{tag}", Rule("get_floatingip:tags"), handler!(tags::show)),
    Route::put("/v2.0/floatingips/{id}/tags/{tag}", Rule("update_floatingip:tags"), handler!(tags::add)),
    Route::delete("/v2.0/floatingips/{id}/tags/{tag}", Rule("delete_floatingip:tags"), handler!(tags::remove)),
    Route::get("/v2.0/security-groups/{id}/tags", Rule("get_security_group:tags"), handler!(tags::list)),
    Route::put("/v2.0/security-groups/{id}/tags", Rule("update_security_group:tags"), handler!(tags::replace)),
    Route::delete("/v2.0/security-groups/{id}/tags", Rule("delete_security_group:tags"), handler!(tags::clear)),
    Route::get("/v2.0/security-groups/{id}/tags/{tag}", Rule("get_security_group:tags"), handler!(tags::show)),
    Route::put("/v2.0/security-groups/{id}/tags/{tag}", Rule("update_security_group:tags"), handler!(tags::add)),
    Route::delete("/v2.0/security-groups/{id}/tags/{tag}", Rule("delete_security_group:tags"), handler!(tags::remove)),
    Route::get("/v2.0/security-group-rules/{id}/tags", Rule("get_security_group_rule:tags"), handler!(tags::list)),
    Route::put(
        "/v2.0/security-group-rules/{id}/tags",
        Rule("update_security_group_rule:tags"),
        handler!(tags::replace),
    ),
    Route::delete(
        "/v2.0/security-group-rules/{id}/tags",
        Rule("delete_security_group_rule:tags"),
        handler!(tags::clear),
    ),
    Route::get(
        "/v2.0/security-group-rules/{id}/tags/{tag}",
        Rule("get_security_group_rule:tags"),
        handler!(tags::show),
    ),
    Route::put(
        "/v2.0/security-group-rules/{id}/tags/{tag}",
        Rule("update_security_group_rule:tags"),
        handler!(tags::add),
    ),
    Route::delete(
        "/v2.0/security-group-rules/{id}/tags/{tag}",
        Rule("delete_security_group_rule:tags"),
        handler!(tags::remove),
    ),
];
