//! Version documents. Neutron has one version and no microversions: what a cloud can do its extensions say.

use model::Result;
use serde_json::{Value, json};
use web::{Cx, Reply};

/// The one version.
const VERSION: &str = "v2.0";

/// Resources as `GET /v2.0` lists them: name and collection.
const RESOURCES: &[(&str, &str)] = &[
    ("network", "networks"),
    ("subnet", "subnets"),
    ("port", "ports"),
    ("router", "routers"),
    ("floatingip", "floatingips"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("quota", "quotas"),
    ("extension", "extensions"),
    ("agent", "agents"),
    ("availability_zone", "availability_zones"),
    ("address_group", "address-groups"),
    ("address_scope", "address-scopes"),
    ("subnetpool", "subnetpools"),
    ("trunk", "trunks"),
    ("policy", "qos/policies"),
    ("metering_label", "metering/metering-labels"),
    ("metering_label_rule", "metering/metering-label-rules"),
    ("service_provider", "service-providers"),
    ("network_ip_availability", "network-ip-availabilities"),
    ("auto_allocated_topology", "auto-allocated-topology"),
];

/// `GET /`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let link = json!({"rel": "self", "href": format!("{}/{VERSION}/", cx.service_url())});
    Reply::ok(&json!({"versions": [{"id": VERSION, "status": "CURRENT", "links": [link]}]}))
}

/// `GET /v2.0`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let base = cx.service_url();
    let resource = |(name, collection): &(&str, &str)| -> Value {
        let link = json!({"rel": "self", "href": format!("{base}/{VERSION}/{collection}")});
        json!({"name": name, "collection": collection, "links": [link]})
    };
    Reply::ok(&json!({"resources": RESOURCES.iter().map(resource).collect::<Vec<_>>()}))
}
