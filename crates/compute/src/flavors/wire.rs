//! Flavors as responses show them.

use serde_json::{Value, json};
use store::compute::flavors::Flavor;
use web::{Cx, Target, Version};

use crate::input::links;

/// In a list without details.
pub fn brief(cx: &Cx, flavor: &Flavor) -> Value {
    let id = flavor.id.as_str();
    let mut shape = json!({"id": id, "name": flavor.name, "links": links(cx, "flavors", id)});
    if cx.version >= Version(2, 55) {
        shape["description"] = json!(flavor.description);
    }
    shape
}

/// With everything that the microversion knows.
pub fn full(cx: &Cx, flavor: &Flavor, with_specs: bool) -> Value {
    let mut shape = brief(cx, flavor);
    shape["ram"] = json!(flavor.memory_mib);
    shape["disk"] = json!(flavor.disk_gib);
    shape["vcpus"] = json!(flavor.vcpus);
    // Nova wrote "no swap" as an empty text until 2.75.
    shape["swap"] =
        if flavor.swap_mib == 0 && cx.version < Version(2, 75) { json!("") } else { json!(flavor.swap_mib) };
    shape["OS-FLV-EXT-DATA:ephemeral"] = json!(flavor.ephemeral_gib);
    shape["OS-FLV-DISABLED:disabled"] = json!(flavor.disabled);
    shape["os-flavor-access:is_public"] = json!(flavor.is_public);
    shape["rxtx_factor"] = json!(flavor.rxtx_factor.parse::<f64>().unwrap_or(1.0));
    if with_specs {
        shape["extra_specs"] = json!(flavor.extra_specs);
    }
    shape
}

/// Whether the caller sees extra specs in flavors: from 2.61 on, if they may list them at all.
pub fn shows_specs(cx: &Cx) -> bool {
    let own = cx.caller.project().map_or_else(Target::none, Target::project);
    cx.version >= Version(2, 61) && cx.can("os_compute_api:os-flavor-extra-specs:index", &own)
}
