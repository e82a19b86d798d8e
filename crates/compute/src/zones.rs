//! `os-availability-zone`: the zones that hosts are in. A zone is available while one of its hosts is enabled.

use std::collections::BTreeMap;

use model::Result;
use serde_json::{Value, json};
use store::compute::hosts::{self, Host};
use web::{Cx, Reply, Target};

/// `GET /v2.1/os-availability-zone`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    reply(cx, |_| Value::Null).await
}

/// `GET /v2.1/os-availability-zone/detail`: with the hosts.
pub async fn detail(cx: &Cx) -> Result<Reply> {
    let now = cx.now();
    let shape = |host: &&Host| {
        let service = json!({
            "available": host.is_up(now), "active": host.enabled, "updated_at": host.seen_at.to_micros_naive()
        });
        (host.name.clone(), json!({"nova-compute": service}))
    };
    let shapes = |enabled: &[&Host]| match enabled {
        [] => Value::Null,
        _ => enabled.iter().map(shape).collect::<serde_json::Map<_, _>>().into(),
    };
    reply(cx, shapes).await
}

/// Available ones first, as Nova has them.
async fn reply(cx: &Cx, shape: impl Fn(&[&Host]) -> Value) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let hosts = hosts::list(&mut *cx.db().read().await?).await?;
    let mut enabled_by_zone: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in &hosts {
        let enabled = enabled_by_zone.entry(&host.zone).or_default();
        enabled.extend(host.enabled.then_some(host));
    }
    let (available, not): (Vec<_>, Vec<_>) = enabled_by_zone.iter().partition(|(_, enabled)| !enabled.is_empty());
    let zones: Vec<Value> = available
        .into_iter()
        .chain(not)
        .map(|(zone, enabled)| {
            json!({"zoneName": zone, "zoneState": {"available": !enabled.is_empty()}, "hosts": shape(enabled)})
        })
        .collect();
    Reply::ok(&json!({"availabilityZoneInfo": zones}))
}
