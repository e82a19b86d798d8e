//! `os-simple-tenant-usage`: what projects used in a span of time, from the rows of their servers.
//!
//! Rows of deleted servers are kept for `Config::keep_deleted`; older spans show what is left.

use std::collections::BTreeMap;

use model::{Result, Timestamp, id::ProjectId, limits::PAGE_SIZE_MAX};
use serde_json::{Value, json};
use store::compute::usage::{self, Ran};
use web::{Cx, Reply, Target, Version};

use crate::input::{invalid, next_link, only_known};

const SECONDS_PER_HOUR: f64 = 3600.0;

/// `GET /v2.1/os-simple-tenant-usage`: every project.
pub async fn list(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["start", "end", "detailed", "limit", "marker"])?;
    cx.authorize(&Target::none())?;
    let detailed = cx.query.get("detailed") == Some("1");
    let (span, servers, limit) = read(cx, None).await?;
    let projects: Vec<Value> =
        by_project(&servers).iter().map(|(project, of)| shape(project, of, span, cx.now(), detailed)).collect();
    reply(cx, "tenant_usages", json!(projects), &servers, limit)
}

/// `GET /v2.1/os-simple-tenant-usage/{id}`: one project, server by server.
pub async fn show(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["start", "end", "limit", "marker"])?;
    let project = ProjectId::new(cx.param("id"));
    cx.authorize(&Target::project(&project))?;
    let (span, servers, limit) = read(cx, Some(&project)).await?;
    let of: Vec<&Ran> = servers.iter().collect();
    // Nova shows an empty object where nothing ran.
    let usage = if of.is_empty() { json!({}) } else { shape(&project, &of, span, cx.now(), true) };
    reply(cx, "tenant_usage", usage, &servers, limit)
}

type Span = (Timestamp, Timestamp);

async fn read(cx: &Cx, project: Option<&ProjectId>) -> Result<(Span, Vec<Ran>, u32)> {
    let span = span(cx.query.get("start"), cx.query.get("end"), cx.now())?;
    let pages = cx.version >= Version(2, 40);
    let limit = cx.query.number("limit")?.filter(|_| pages).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX);
    let marker = cx.query.get("marker").filter(|_| pages);
    let servers = usage::ran_between(&mut *cx.db().read().await?, span, project, limit, marker).await?;
    Ok((span, servers, limit))
}

fn reply(cx: &Cx, key: &str, usage: Value, servers: &[Ran], limit: u32) -> Result<Reply> {
    let mut body = json!({ key: usage });
    if cx.version >= Version(2, 40)
        && let Some(next) = next_link(cx, limit, servers.len(), servers.last().map(|server| server.id.as_str()))
    {
        body[format!("{key}_links")] = next;
    }
    Reply::ok(&body)
}

/// From `start` to `end`, now where one is missing; the future is cut off.
fn span(start: Option<&str>, end: Option<&str>, now: Timestamp) -> Result<Span> {
    let moment = |text: Option<&str>| match text.filter(|text| !text.is_empty()) {
        None => Ok(now),
        Some(text) => Timestamp::parse(text).ok_or_else(|| invalid("Datetime is in invalid format")),
    };
    let (start, end) = (moment(start)?, moment(end)?);
    if start >= end {
        return Err(invalid("Invalid start time. The start time cannot occur after the end time."));
    }
    Ok((start, end.min(now)))
}

fn by_project(servers: &[Ran]) -> BTreeMap<&ProjectId, Vec<&Ran>> {
    let mut projects: BTreeMap<&ProjectId, Vec<&Ran>> = BTreeMap::new();
    for server in servers {
        projects.entry(&server.project_id).or_default().push(server);
    }
    projects
}

fn shape(project: &ProjectId, servers: &[&Ran], span: Span, now: Timestamp, detailed: bool) -> Value {
    let total = |figure: fn(&Ran) -> i64| -> f64 {
        servers.iter().map(|server| hours(server, span) * figure(server) as f64).sum()
    };
    let mut usage = json!({
        "tenant_id": project, "start": span.0.to_micros_naive(), "stop": span.1.to_micros_naive(),
        "total_hours": total(|_| 1), "total_vcpus_usage": total(vcpus),
        "total_memory_mb_usage": total(memory_mib), "total_local_gb_usage": total(disk_gib)
    });
    if detailed {
        usage["server_usages"] = servers.iter().map(|server| server_shape(server, span, now)).collect();
    }
    usage
}

fn server_shape(server: &Ran, span: Span, now: Timestamp) -> Value {
    let ended = server.terminated_at;
    json!({
        "instance_id": server.id, "name": server.name, "tenant_id": server.project_id,
        "flavor": server.flavor["name"].as_str().unwrap_or_default(), "vcpus": vcpus(server),
        "memory_mb": memory_mib(server), "local_gb": disk_gib(server), "hours": hours(server, span),
        "started_at": server.launched_at.to_micros_naive(), "ended_at": ended.map(Timestamp::to_micros_naive),
        "state": if ended.is_some() { "terminated" } else { server.vm_state.as_str() },
        "uptime": ended.unwrap_or(now).since(server.launched_at).as_secs()
    })
}

/// How long it ran within the span.
fn hours(server: &Ran, (start, end): Span) -> f64 {
    let until = server.terminated_at.map_or(end, |ended| ended.min(end));
    until.since(server.launched_at.max(start)).as_secs_f64() / SECONDS_PER_HOUR
}

fn vcpus(server: &Ran) -> i64 {
    server.flavor["vcpus"].as_i64().unwrap_or(0)
}

fn memory_mib(server: &Ran) -> i64 {
    server.flavor["memory_mib"].as_i64().unwrap_or(0)
}

fn disk_gib(server: &Ran) -> i64 {
    ["disk_gib", "ephemeral_gib"].iter().filter_map(|part| server.flavor[*part].as_i64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: Timestamp = Timestamp(1_767_268_800_000_000);

    fn ran(from_hours_ago: u64, until_hours_ago: Option<u64>) -> Ran {
        let ago = |hours| NOON - Duration::from_secs(hours * 3600);
        Ran {
            id: "s".into(),
            project_id: "p".into(),
            name: "s".into(),
            flavor: json!({"name": "m", "vcpus": 2, "memory_mib": 512, "disk_gib": 10, "ephemeral_gib": 1}),
            vm_state: "active".into(),
            node: None,
            launched_at: ago(from_hours_ago),
            terminated_at: until_hours_ago.map(ago),
        }
    }

    #[test]
    fn hours_within_a_span() {
        let span = (NOON - Duration::from_secs(10 * 3600), NOON);
        for (from, until, expected) in
            [(20, None, 10.0), (4, None, 4.0), (20, Some(15), 0.0), (20, Some(6), 4.0), (6, Some(5), 1.0)]
        {
            assert!((hours(&ran(from, until), span) - expected).abs() < 1e-9, "{from} {until:?}");
        }
    }

    #[test]
    fn totals() {
        let span = (NOON - Duration::from_secs(10 * 3600), NOON);
        let usage = shape(&"p".into(), &[&ran(2, None), &ran(3, Some(2))], span, NOON, true);
        assert_eq!(usage["total_hours"], 3.0);
        assert_eq!(usage["total_vcpus_usage"], 6.0);
        assert_eq!(usage["total_local_gb_usage"], 33.0);
        assert_eq!(usage["server_usages"][1]["state"], "terminated");
    }

    #[test]
    fn spans() {
        assert_eq!(span(Some("2026-01-01T00:00:00"), Some("2027-01-01T00:00:00.5"), NOON).unwrap().1, NOON);
        assert!(span(None, None, NOON).is_err());
        assert!(span(Some("soon"), None, NOON).is_err());
    }
}
