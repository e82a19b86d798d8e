//! `GET /v1`: what there is. `GET /v1/openapi.json`: every route of every service.

use std::sync::OnceLock;

use bytes::Bytes;
use model::Result;
use serde_json::json;
use web::{Cx, Reply, StatusCode};

use crate::State;

/// The document, written once: tables don't change while a server runs.
#[derive(Default)]
pub struct Document(OnceLock<Bytes>);

/// `GET /v1`.
pub async fn index(cx: &Cx) -> Result<Reply> {
    let url = |path: &str| format!("{}/v1/{path}", cx.service_url());
    Reply::ok(&json!({
        "version": "v1",
        "links": { "audit": url("audit"), "events": url("events"), "openapi": url("openapi.json") },
    }))
}

/// `GET /v1/openapi.json`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let document = state.document.0.get_or_init(|| web::openapi::document(cx.services()).to_string().into());
    Ok(Reply::bytes(StatusCode::OK, "application/json", document.clone()))
}
