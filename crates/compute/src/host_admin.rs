//! What administrators ask and tell about hosts besides services and hypervisors: `os-hosts` (until 2.42),
//! `os-instance_usage_audit_log`, `os-server-external-events`.

use std::collections::BTreeMap;

use model::{Error, Result, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    compute::{
        allocations::{self, Usage},
        hosts, servers, usage,
    },
    flows,
};
use web::{Cx, Reply, StatusCode, Target, Version};

use crate::input::invalid;

fn no_host(name: &str) -> Error {
    Error::not_found("ComputeHostNotFound", format!("Compute host {name} could not be found."))
}

/// `GET /v2.1/os-hosts`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let zone = cx.query.get("zone");
    let hosts = hosts::list(&mut *cx.db().read().await?).await?;
    let shown: Vec<Value> = hosts
        .iter()
        .filter(|host| zone.is_none_or(|zone| host.zone == zone))
        .map(|host| json!({"host_name": host.name, "service": "compute", "zone": host.zone}))
        .collect();
    Reply::ok(&json!({ "hosts": shown }))
}

/// `GET /v2.1/os-hosts/{name}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let name = cx.param("name");
    let mut conn = cx.db().read().await?;
    let usages = allocations::usages(&mut conn).await?;
    let found = usages.iter().find(|usage| usage.host.name == name).ok_or_else(|| no_host(name))?;
    let row = |project: &str, cpu: i64, memory: i64, disk: i64| json!({"resource": {"host": name, "project": project, "cpu": cpu, "memory_mb": memory, "disk_gb": disk}});
    let Usage { host, vcpus, memory_mib, disk_gib, .. } = found;
    let mut rows = vec![
        row("(total)", host.facts.vcpus, host.facts.memory_mib, host.facts.disk_gib),
        row("(used_now)", *vcpus, *memory_mib, *disk_gib),
        row("(used_max)", *vcpus, *memory_mib, *disk_gib),
    ];
    let mut by_project: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for server in servers::on_host(&mut conn, &host.id).await? {
        let held = by_project.entry(server.project_id.to_string()).or_default();
        held.0 += server.flavor.vcpus;
        held.1 += server.flavor.memory_mib;
        held.2 += server.flavor.disk_gib + server.flavor.ephemeral_gib;
    }
    rows.extend(by_project.iter().map(|(project, held)| row(project, held.0, held.1, held.2)));
    Reply::ok(&json!({ "host": rows }))
}

/// `PUT /v2.1/os-hosts/{name}`: enables or disables.
pub async fn update(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Update {
        status: Option<String>,
        maintenance_mode: Option<String>,
    }
    cx.authorize(&Target::none())?;
    let update: Update = cx.json()?;
    if update.maintenance_mode.is_some() {
        return Err(Error::unsupported("NotSupported", "Virt driver does not implement host maintenance mode."));
    }
    let enabled = match update.status.as_deref().map(|status| status.trim().to_ascii_lowercase()).as_deref() {
        Some("enable") => true,
        Some("disable") => false,
        _ => return Err(invalid("Invalid input for field/attribute status: it is enable or disable.")),
    };
    let name = cx.param("name");
    let mut tx = cx.db().begin().await?;
    let host = hosts::by_name(&mut tx, name).await?.ok_or_else(|| no_host(name))?;
    hosts::set_enabled(&mut tx, &host.id, enabled, "").await?;
    tx.commit().await?;
    Reply::ok(&json!({"host": name, "status": if enabled { "enabled" } else { "disabled" }}))
}

/// `GET /v2.1/os-hosts/{name}/{startup,shutdown,reboot}`: a cloud does not switch its hosts off.
pub async fn power(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let name = cx.param("name");
    hosts::by_name(&mut *cx.db().read().await?, name).await?.ok_or_else(|| no_host(name))?;
    Err(Error::unsupported("NotSupported", "Virt driver does not implement host power management."))
}

/// `GET /v2.1/os-instance_usage_audit_log` and `.../{before}`: usage is counted from rows at any time, so each host's
/// share of the last period is complete.
pub async fn audit_log(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let before = match cx.param("before") {
        "" => cx.now(),
        text => Timestamp::parse(text).ok_or_else(|| invalid(format!("Invalid timestamp for date {text}")))?,
    };
    let (from, to) = month_before(before);
    let mut conn = cx.db().read().await?;
    let hosts = hosts::list(&mut conn).await?;
    let ran = usage::ran_between(&mut conn, (from, to), None, u32::MAX, None).await?;
    let log: serde_json::Map<String, Value> = hosts
        .iter()
        .map(|host| {
            let servers = ran.iter().filter(|ran| ran.node.as_deref() == Some(host.name.as_str())).count();
            let message = format!("{servers} instances ran on this host.");
            (host.name.clone(), json!({"state": "DONE", "instances": servers, "errors": 0, "message": message}))
        })
        .collect();
    let total: usize = log.values().filter_map(|host| host["instances"].as_u64()).map(|n| n as usize).sum();
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let none: [&str; 0] = [];
    let shown = json!({
        "period_beginning": from.to_micros_naive(), "period_ending": to.to_micros_naive(), "num_hosts": hosts.len(),
        "num_hosts_done": names.len(), "num_hosts_running": 0, "num_hosts_not_run": 0, "hosts_not_run": none,
        "total_instances": total, "total_errors": 0, "overall_status": format!("ALL hosts done. 0 errors."), "log": log,
    });
    let key = if cx.param("before").is_empty() { "instance_usage_audit_logs" } else { "instance_usage_audit_log" };
    Reply::ok(&json!({ key: shown }))
}

/// The calendar month that ended last.
fn month_before(moment: Timestamp) -> (Timestamp, Timestamp) {
    let text = moment.to_seconds_z();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u32>().ok()).unwrap_or(1);
    let (year, month) = (number(0..4), number(5..7));
    let first =
        |year: u32, month: u32| Timestamp::parse(&format!("{year:04}-{month:02}-01T00:00:00")).unwrap_or(moment);
    let earlier = if month == 1 { first(year - 1, 12) } else { first(year, month - 1) };
    (earlier, first(year, month))
}

/// One event that another service tells of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    name: String,
    server_uuid: String,
    status: Option<String>,
    tag: Option<String>,
}

/// `POST /v2.1/os-server-external-events`: the servers' flows look at what has changed.
pub async fn external_events(cx: &Cx) -> Result<Reply> {
    const NAMES: &[(&str, Version)] = &[
        ("network-changed", Version::MIN),
        ("network-vif-plugged", Version::MIN),
        ("network-vif-unplugged", Version::MIN),
        ("network-vif-deleted", Version::MIN),
        ("volume-extended", Version(2, 51)),
        ("power-update", Version(2, 76)),
        ("accelerator-request-bound", Version(2, 82)),
        ("volume-reimaged", Version(2, 93)),
    ];
    cx.authorize(&Target::none())?;
    let events: Vec<Event> = cx.json_in("events")?;
    if events.is_empty() {
        return Err(invalid("Invalid input for field/attribute events: at least one is needed."));
    }
    let mut tx = cx.db().begin().await?;
    let mut shown = Vec::new();
    let mut some_failed = false;
    for event in &events {
        if !NAMES.iter().any(|(name, since)| *name == event.name && cx.version >= *since) {
            return Err(invalid(format!("Invalid input for field/attribute name. Value: {}.", event.name)));
        }
        let status = event.status.as_deref().unwrap_or("completed");
        if !["completed", "failed", "in-progress"].contains(&status) {
            return Err(invalid(format!("Invalid event status `{status}`")));
        }
        let server = servers::get(&mut tx, &event.server_uuid).await?.filter(|server| server.deleted_at.is_none());
        let code = match &server {
            None => 404,
            // Its host is not chosen yet.
            Some(server) if server.host.is_none() => 422,
            Some(server) => {
                flows::wake(&mut tx, &server.id);
                200
            }
        };
        some_failed |= code != 200;
        let mut one = json!({"name": event.name, "server_uuid": event.server_uuid, "status": status, "code": code});
        if let Some(tag) = &event.tag {
            one["tag"] = json!(tag);
        }
        if code != 200 {
            one["status"] = json!("failed");
        }
        shown.push(one);
    }
    tx.commit().await?;
    if shown.iter().all(|event| event["code"] == 404) {
        return Err(Error::not_found("InstanceNotFound", "No instances found for any event"));
    }
    let status = if some_failed { StatusCode::MULTI_STATUS } else { StatusCode::OK };
    Reply::json(status, &json!({ "events": shown }))
}
