//! The audit log: `GET /v1/audit` and `/v1/audit/export`.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use model::{Error, Result, Timestamp, limits::PAGE_SIZE_MAX};
use serde_json::{Value, json};
use store::{
    Db,
    audit::{self, Entry, Filter},
    list::Direction,
};
use web::{Cx, Reply, StatusCode, Target};

/// Entries read at a time by an export.
const EXPORT_PAGE: u32 = 500;

/// `GET /v1/audit`: the newest first unless `sort_dir=asc`; `marker` is the last `seq` seen.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let filter = filter(cx)?;
    let direction = match cx.query.get("sort_dir") {
        None | Some("desc") => Direction::Descending,
        Some("asc") => Direction::Ascending,
        Some(other) => return Err(invalid("sort_dir", other)),
    };
    let limit = cx.query.number("limit")?.unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX);
    let entries = audit::list(&mut *cx.db().read().await?, &filter, marker(cx)?, direction, limit).await?;
    let next = entries.last().filter(|_| limit > 0 && entries.len() == limit as usize);
    let next = next.map(|last| cx.next_url(&last.seq.to_string()));
    let shown: Vec<Value> = entries.iter().map(show).collect();
    Reply::ok(&json!({ "audit": shown, "links": { "self": cx.self_url(), "next": next } }))
}

/// `GET /v1/audit/export`: every entry that the filters let through, the oldest first, one JSON object a line.
pub async fn export(cx: &Cx) -> Result<Reply> {
    let export = Export { db: cx.db().clone(), filter: filter(cx)?, at: marker(cx)?.unwrap_or(0), ended: false };
    let lines = stream::unfold(export, |mut export| async move { export.next().await.map(|chunk| (chunk, export)) });
    Ok(Reply::stream(StatusCode::OK, "application/x-ndjson", Body::from_stream(lines)))
}

struct Export {
    db: Db,
    filter: Filter,
    at: i64,
    ended: bool,
}

impl Export {
    /// The next lines. An error cuts the response off, so that a client doesn't take a part for the whole.
    async fn next(&mut self) -> Option<store::Result<Bytes>> {
        if self.ended {
            return None;
        }
        let page = async {
            let mut conn = self.db.read().await?;
            audit::list(&mut conn, &self.filter, Some(self.at), Direction::Ascending, EXPORT_PAGE).await
        };
        let entries = match page.await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "an export of the audit log was cut off");
                self.ended = true;
                return Some(Err(error));
            }
        };
        self.ended = entries.len() < EXPORT_PAGE as usize;
        self.at = entries.last()?.seq;
        let lines: String = entries.iter().map(|entry| format!("{}\n", show(entry))).collect();
        Some(Ok(lines.into()))
    }
}

/// The entries that the caller may see of those asked for: a project's own, or with `all_projects` everybody's.
fn filter(cx: &Cx) -> Result<Filter> {
    let text = |name: &str| cx.query.get(name).map(str::to_owned);
    let time = |name: &'static str| {
        let parse = |text: &str| Timestamp::parse(text).ok_or_else(|| invalid(name, text));
        cx.query.get(name).map(parse).transpose()
    };
    let everybodys = cx.query.flag("all_projects")?.unwrap_or(cx.caller.project().is_none());
    let project_id = if everybodys {
        cx.authorize(&Target::none().with("project_id", cx.caller.project().map_or("", |id| id.as_str())))?;
        cx.authorize_rule("nacre:audit:list_all", &Target::none())?;
        text("project_id")
    } else {
        Some(cx.authorize_own_project()?.to_string())
    };
    Ok(Filter {
        project_id,
        actor: text("actor"),
        action: text("action"),
        outcome: text("outcome"),
        request_id: text("request_id"),
        service: text("service"),
        target_type: text("target_type"),
        target_id: text("target_id"),
        since: time("since")?,
        before: time("before")?,
    })
}

fn marker(cx: &Cx) -> Result<Option<i64>> {
    cx.query.get("marker").map(|text| text.parse().map_err(|_| invalid("marker", text))).transpose()
}

fn invalid(name: &str, text: &str) -> Error {
    Error::bad_request("InvalidInput", format!("Invalid input for query parameter {name}. Value: {text}."))
}

/// An entry with everything that its hash covers.
fn show(entry: &Entry) -> Value {
    json!({
        "seq": entry.seq,
        "hash": entry.hash,
        "at": entry.at.to_micros_z(),
        "at_micros": entry.at.0,
        "request_id": entry.request_id,
        "actor": entry.actor,
        "scope": entry.scope,
        "address": entry.address,
        "service": entry.service,
        "method": entry.method,
        "path": entry.path,
        "action": entry.action,
        "target_type": entry.target_type,
        "target_id": entry.target_id,
        "project_id": entry.project_id,
        "outcome": entry.outcome,
        "status": entry.status,
        "reason": entry.reason,
        "details": entry.details,
    })
}
