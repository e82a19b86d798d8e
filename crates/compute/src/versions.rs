//! The version documents, and which microversions there are.

use model::Result;
use serde_json::{Value, json};
use web::{Cx, Reply, Version, Versions};

/// Nova's range that this service speaks.
pub const VERSIONS: Versions = Versions {
    service_type: "compute",
    legacy_header: Some("x-openstack-nova-api-version"),
    min: Version(2, 1),
    max: Version(2, 100),
};

/// `GET /`: every version there is. Clients (and tempest) look for v2.0 first.
pub async fn list(cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"versions": [v2_0(cx), v2_1(cx)]}))
}

/// `GET /v2`: the version before microversions. Its resources are not served: no client of this decade asks for them.
pub async fn show_v2_0(cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"version": with_media_type(cx, v2_0(cx), "2")}))
}

/// `GET /v2.1`.
pub async fn show_v2_1(cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"version": with_media_type(cx, v2_1(cx), "2.1")}))
}

fn v2_0(cx: &Cx) -> Value {
    json!({
        "id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{}/v2/", cx.service_url())}]
    })
}

fn v2_1(cx: &Cx) -> Value {
    json!({
        "id": "v2.1", "status": "CURRENT", "version": VERSIONS.max.to_string(),
        "min_version": VERSIONS.min.to_string(), "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{}/v2.1/", cx.service_url())}]
    })
}

/// What the document of one version says besides.
fn with_media_type(_cx: &Cx, mut version: Value, number: &str) -> Value {
    version["media-types"] = json!([{
        "base": "application/json", "type": format!("application/vnd.openstack.compute+json;version={number}")
    }]);
    if let Some(links) = version["links"].as_array_mut() {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    version
}
