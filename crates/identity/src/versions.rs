//! The version documents: one version, which every client of the last years speaks.

use model::Result;
use serde_json::{Value, json};
use web::{Cx, Reply, StatusCode};

/// `GET /`: what there is to choose from.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let here = format!("{}/v3/", cx.service_url());
    let document = json!({ "versions": { "values": [version(&here)] } });
    Ok(Reply::json(StatusCode::MULTIPLE_CHOICES, &document)?.with("location", here))
}

/// `GET /v3`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({ "version": version(&format!("{}/v3/", cx.service_url())) }))
}

fn version(here: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{ "rel": "self", "href": here }],
        "media-types": [{ "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }],
    })
}
