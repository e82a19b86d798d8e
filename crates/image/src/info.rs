//! What this installation offers.

use model::Result;
use serde_json::json;
use web::{Cx, Reply};

/// `GET /v2/info/import`: ways to import data other than uploading it. None so far.
pub(crate) async fn import(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({
        "import-methods": {"description": "Import methods available.", "type": "array", "value": []}
    }))
}

/// `GET /v2/info/stores`: where data may lie. Files, and nothing to choose from.
pub(crate) async fn stores(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&json!({"stores": [{"id": "file", "default": "true"}]}))
}
