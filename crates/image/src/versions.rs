//! Version documents.
//!
//! Glance has no microversions: a version says which operations there are. 2.15 is what a Glance with stores and tasks,
//! without an image cache (2.14, 2.16) and the newer location operations (2.17) calls itself.

use model::Result;
use serde_json::{Value, json};
use web::{Cx, Reply, StatusCode};

/// Newest first.
const VERSIONS: &[&str] =
    &["2.15", "2.13", "2.12", "2.11", "2.10", "2.9", "2.8", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0"];

/// `GET /`: 300, as it is for the client to choose.
pub(crate) async fn choices(cx: &Cx) -> Result<Reply> {
    Reply::json(StatusCode::MULTIPLE_CHOICES, &document(cx))
}

/// `GET /versions`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    Reply::ok(&document(cx))
}

fn document(cx: &Cx) -> Value {
    let href = format!("{}/v2/", cx.service_url());
    let version = |(at, version): (usize, &&str)| {
        json!({
            "id": format!("v{version}"),
            "status": if at == 0 { "CURRENT" } else { "SUPPORTED" },
            "links": [{"rel": "self", "href": href}],
        })
    };
    json!({"versions": VERSIONS.iter().enumerate().map(version).collect::<Vec<_>>()})
}
