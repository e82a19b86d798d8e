//! `/limits`: a project's quotas once more, under older names, with what is in use.

use std::collections::BTreeMap;

use model::{Result, id::ProjectId};
use serde_json::{Map, Value, json};
use web::{Cx, Reply, Target, Version};

use crate::{
    input::only_known,
    quotas::{self, Standing},
};

/// The limit's name, and the quota's.
const LIMITS: &[(&str, &str)] = &[
    ("maxTotalInstances", "instances"),
    ("maxTotalCores", "cores"),
    ("maxTotalRAMSize", "ram"),
    ("maxTotalKeypairs", "key_pairs"),
    ("maxServerMeta", "metadata_items"),
    ("maxImageMeta", "metadata_items"),
    ("maxPersonality", "injected_files"),
    ("maxPersonalitySize", "injected_file_content_bytes"),
    ("maxServerGroups", "server_groups"),
    ("maxServerGroupMembers", "server_group_members"),
    ("maxTotalFloatingIps", "floating_ips"),
    ("maxSecurityGroups", "security_groups"),
    ("maxSecurityGroupRules", "security_group_rules"),
];

/// The figure's name, and the quota's.
const USED: &[(&str, &str)] = &[
    ("totalInstancesUsed", "instances"),
    ("totalCoresUsed", "cores"),
    ("totalRAMUsed", "ram"),
    ("totalServerGroupsUsed", "server_groups"),
    ("totalFloatingIpsUsed", "floating_ips"),
    ("totalSecurityGroupsUsed", "security_groups"),
];

/// `GET /v2.1/limits`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["tenant_id"])?;
    cx.authorize(&Target::none())?;
    let project = match cx.query.get("tenant_id") {
        Some(other) => {
            cx.authorize_rule("os_compute_api:limits:other_project", &Target::none())?;
            ProjectId::new(other)
        }
        None => cx.project()?.clone(),
    };
    let standings = quotas::standings(&mut *cx.db().read().await?, &project).await?;
    Reply::ok(&json!({"limits": {"rate": [], "absolute": absolute(cx.version, &standings)}}))
}

fn absolute(version: Version, standings: &BTreeMap<&'static str, Standing>) -> Map<String, Value> {
    let hidden = quotas::hidden(version, Version(2, 36));
    let of = |quota: &str| standings.get(quota).filter(|_| !hidden.contains(&quota));
    let limits = LIMITS.iter().filter(|(name, _)| *name != "maxImageMeta" || version < Version(2, 39));
    let limits = limits.filter_map(|(name, quota)| Some((*name, of(quota)?.limit)));
    let used = USED.iter().filter_map(|(name, quota)| Some((*name, of(quota)?.used)));
    limits.chain(used).map(|(name, figure)| (name.to_owned(), json!(figure))).collect()
}
