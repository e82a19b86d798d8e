//! The version document, and which microversions there are.

use model::Result;
use serde_json::json;
use web::{Cx, Reply, Version, Versions};

/// Placement's range that this service speaks.
pub const VERSIONS: Versions =
    Versions { service_type: "placement", legacy_header: None, min: Version(1, 0), max: Version(1, 39) };

/// `GET /`.
pub async fn list(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"versions": [{
        "id": "v1.0", "status": "CURRENT", "min_version": VERSIONS.min.to_string(), "max_version": VERSIONS.max.to_string(),
        "links": [{"rel": "self", "href": ""}],
    }]}))
}
