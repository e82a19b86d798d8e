//! `os-aggregates`: groups of hosts. There are none yet; clients that show a hypervisor ask which it is in.

use model::Result;
use serde_json::json;
use web::{Cx, Reply, Target};

/// `GET /v2.1/os-aggregates`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    Reply::ok(&json!({"aggregates": []}))
}
