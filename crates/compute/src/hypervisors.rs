//! `os-hypervisors`: the hosts once more, with what they have and what is claimed of it.
//!
//! 2.33 pages, 2.53 shows UUIDs and takes patterns and `with_servers` in the query, 2.75 shows empty lists of servers,
//! 2.88 drops all figures (Placement has them) and adds the uptime.

use std::collections::BTreeMap;

use model::{Error, Result, Timestamp, id::HostId, limits::PAGE_SIZE_MAX};
use serde_json::{Value, json};
use store::compute::{
    allocations::{self, Usage},
    hosts::Host,
    usage::{self, Named},
};
use web::{Cx, Reply, Target, Version};

use crate::{
    input::{invalid, next_link, only_known},
    services,
};

const QUERY: &[&str] = &["limit", "marker", "hypervisor_hostname_pattern", "with_servers"];

/// What responses are made of: every host, and the rest by host.
struct Facts {
    usages: Vec<Usage>,
    servers: BTreeMap<HostId, Vec<Named>>,
    workload: BTreeMap<HostId, i64>,
    with_servers: bool,
    version: Version,
    now: Timestamp,
}

/// `GET /v2.1/os-hypervisors`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    reply(cx, false).await
}

/// `GET /v2.1/os-hypervisors/detail`.
pub async fn detail(cx: &Cx) -> Result<Reply> {
    reply(cx, true).await
}

/// `GET /v2.1/os-hypervisors/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 53), &["with_servers"])?;
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, with_servers(cx)?).await?;
    let usage = facts.find(cx.param("id"))?;
    Reply::ok(&json!({"hypervisor": facts.full(usage)}))
}

/// `GET /v2.1/os-hypervisors/{id}/uptime`, until 2.87.
pub async fn uptime(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, false).await?;
    let host = &facts.find(cx.param("id"))?.host;
    if !host.is_up(facts.now) {
        return Err(invalid(format!("Compute service of {} is unavailable at this time.", host.name)));
    }
    let uptime = uptime_text(host, facts.now)
        .ok_or_else(|| Error::unsupported("NotSupported", "This host does not tell how long it has been running."))?;
    let mut shape = facts.brief(host);
    shape["uptime"] = json!(uptime);
    Reply::ok(&json!({"hypervisor": shape}))
}

/// `GET /v2.1/os-hypervisors/{pattern}/search`, until 2.52.
pub async fn search(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, false).await?;
    let shapes: Vec<Value> =
        facts.matching(cx.param("id"))?.into_iter().map(|usage| facts.brief(&usage.host)).collect();
    Reply::ok(&json!({"hypervisors": shapes}))
}

/// `GET /v2.1/os-hypervisors/{pattern}/servers`, until 2.52.
pub async fn servers(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, true).await?;
    let shapes: Vec<Value> =
        facts.matching(cx.param("id"))?.into_iter().map(|usage| facts.brief(&usage.host)).collect();
    Reply::ok(&json!({"hypervisors": shapes}))
}

/// `GET /v2.1/os-hypervisors/statistics`, until 2.87: sums over the hosts that are enabled.
pub async fn statistics(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, false).await?;
    let enabled = || facts.usages.iter().filter(|usage| usage.host.enabled);
    let sum = |figure: &str| enabled().filter_map(|usage| facts.figures(usage)[figure].as_i64()).sum::<i64>();
    let mut statistics = json!({"count": enabled().count()});
    for figure in FIGURES {
        statistics[figure] = json!(sum(figure));
    }
    Reply::ok(&json!({"hypervisor_statistics": statistics}))
}

/// What statistics sum up.
const FIGURES: [&str; 11] = [
    "vcpus",
    "vcpus_used",
    "memory_mb",
    "memory_mb_used",
    "free_ram_mb",
    "local_gb",
    "local_gb_used",
    "free_disk_gb",
    "disk_available_least",
    "current_workload",
    "running_vms",
];

async fn reply(cx: &Cx, detail: bool) -> Result<Reply> {
    only_known(cx, Version(2, 53), QUERY)?;
    cx.authorize(&Target::none())?;
    let facts = Facts::read(cx, with_servers(cx)?).await?;
    let shape = |usage: &Usage| if detail { facts.full(usage) } else { facts.brief(&usage.host) };
    let pattern = cx.query.get("hypervisor_hostname_pattern").filter(|_| cx.version >= Version(2, 53));
    if let Some(pattern) = pattern {
        if cx.query.has("limit") || cx.query.has("marker") {
            return Err(invalid(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.",
            ));
        }
        let shapes: Vec<Value> = facts.matching(pattern)?.into_iter().map(shape).collect();
        return Reply::ok(&json!({"hypervisors": shapes}));
    }
    let pages = cx.version >= Version(2, 33);
    let limit = if pages { cx.query.number("limit")?.unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX) } else { u32::MAX };
    let marker = cx.query.get("marker").filter(|_| pages);
    let start = match marker {
        None => 0,
        Some(marker) => facts
            .usages
            .iter()
            .position(|usage| id_text(&usage.host.id, cx.version) == marker)
            .map(|at| at + 1)
            .ok_or_else(|| invalid(format!("marker [{marker}] not found")))?,
    };
    let page: Vec<&Usage> = facts.usages.iter().skip(start).take(limit as usize).collect();
    let mut body = json!({"hypervisors": page.iter().map(|usage| shape(usage)).collect::<Vec<_>>()});
    let last = page.last().map(|usage| id_text(&usage.host.id, cx.version));
    if let Some(next) = next_link(cx, limit, page.len(), last.as_deref()) {
        body["hypervisors_links"] = next;
    }
    Reply::ok(&body)
}

fn with_servers(cx: &Cx) -> Result<bool> {
    Ok(cx.version >= Version(2, 53) && cx.query.flag("with_servers")?.unwrap_or(false))
}

fn id_text(id: &HostId, version: Version) -> String {
    if version >= Version(2, 53) { id.to_string() } else { services::number(id).to_string() }
}

/// As `uptime` writes it, which is what Nova shows and the command line takes apart. None where the host does not tell.
fn uptime_text(host: &Host, now: Timestamp) -> Option<String> {
    let seconds = host.stats["uptime_seconds"].as_i64().filter(|seconds| *seconds > 0)?;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let load = host.stats["load_milli"].as_f64().unwrap_or(0.0) / 1000.0;
    let clock = now.to_seconds_z().get(11..19)?.to_owned();
    Some(format!("{clock} up {days} days, {hours}:{minutes:02},  0 users,  load average: {load:.2}"))
}

impl Facts {
    async fn read(cx: &Cx, with_servers: bool) -> Result<Self> {
        let mut conn = cx.db().read().await?;
        Ok(Self {
            usages: allocations::usages(&mut conn).await?,
            servers: if with_servers { usage::servers_by_host(&mut conn).await? } else { BTreeMap::new() },
            workload: if cx.version < Version(2, 88) { usage::workload(&mut conn).await? } else { BTreeMap::new() },
            with_servers,
            version: cx.version,
            now: cx.now(),
        })
    }

    fn find(&self, id: &str) -> Result<&Usage> {
        if self.version >= Version(2, 53) && !model::id::is_uuid_like(id) {
            return Err(invalid(format!("Invalid uuid {id}")));
        }
        self.usages.iter().find(|usage| id_text(&usage.host.id, self.version) == id).ok_or_else(|| {
            Error::not_found("ComputeHostNotFound", format!("Hypervisor with ID '{id}' could not be found."))
        })
    }

    /// Hosts whose names contain the pattern; Nova says "not found" where there is none.
    fn matching(&self, pattern: &str) -> Result<Vec<&Usage>> {
        let found: Vec<&Usage> = self.usages.iter().filter(|usage| usage.host.name.contains(pattern)).collect();
        if found.is_empty() {
            let message = format!("No hypervisor matching '{pattern}' could be found.");
            return Err(Error::not_found("ComputeHostNotFound", message));
        }
        Ok(found)
    }

    fn brief(&self, host: &Host) -> Value {
        let mut shape = json!({
            "id": services::shown_id(&host.id, self.version), "hypervisor_hostname": host.name,
            "state": services::state(host, self.now), "status": services::status(host.enabled)
        });
        let servers = self.servers.get(&host.id).map_or(&[] as &[Named], Vec::as_slice);
        if self.with_servers && (!servers.is_empty() || self.version >= Version(2, 75)) {
            shape["servers"] = servers.iter().map(|server| json!({"uuid": server.id, "name": server.name})).collect();
        }
        shape
    }

    fn full(&self, usage: &Usage) -> Value {
        let host = &usage.host;
        let mut shape = self.brief(host);
        shape["hypervisor_type"] = json!(host.facts.hypervisor_type);
        shape["hypervisor_version"] = json!(host.facts.hypervisor_version);
        shape["host_ip"] = json!(host.facts.addresses.first());
        shape["service"] = json!({
            "id": services::shown_id(&host.id, self.version), "host": host.name,
            "disabled_reason": services::reason(host)
        });
        if self.version >= Version(2, 88) {
            shape["uptime"] = json!(uptime_text(host, self.now).filter(|_| host.is_up(self.now)));
            return shape;
        }
        for (name, figure) in self.figures(usage).as_object().into_iter().flatten() {
            shape[name] = figure.clone();
        }
        let cpu = json!({"model": host.facts.cpu_model, "topology": {"cores": host.facts.vcpus}});
        // A text with JSON in it until 2.27.
        shape["cpu_info"] = if self.version >= Version(2, 28) { cpu } else { json!(cpu.to_string()) };
        shape
    }

    /// What 2.88 dropped.
    fn figures(&self, usage: &Usage) -> Value {
        let facts = &usage.host.facts;
        json!({
            "vcpus": facts.vcpus, "vcpus_used": usage.vcpus,
            "memory_mb": facts.memory_mib, "memory_mb_used": usage.memory_mib,
            "free_ram_mb": facts.memory_mib - usage.memory_mib,
            "local_gb": facts.disk_gib, "local_gb_used": usage.disk_gib,
            "free_disk_gb": facts.disk_gib - usage.disk_gib,
            "disk_available_least": usage.host.stats["disk_free_gib"].as_i64(),
            "current_workload": self.workload.get(&usage.host.id).copied().unwrap_or(0),
            "running_vms": usage.servers
        })
    }
}
