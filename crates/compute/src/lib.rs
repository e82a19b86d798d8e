//! The compute service: Nova's API v2.1, microversions 2.1 to 2.100.
//!
//! | module | what |
//! |---|---|
//! | [`routes`], [`policy`], [`versions`] | the tables |
//! | `servers` | servers: API, decisions, the state machine that brings them up and down |
//! | `hosts` | the hypervisor hosts' side: what their agents call, what is sent to them |
//! | `metadata` | the documents that guests read about themselves |
//! | `instance_actions`, `interfaces` | what hangs on a server |
//! | `flavors`, `keypairs` | what servers are made from |
//! | `quotas`, `limits`, `usage` | what projects may have, and what they had |
//! | `services`, `hypervisors`, `zones`, `aggregates`, `host_admin` | hosts, as administrators see them |
//! | `server_groups`, `migrations` | servers kept together or apart; resizes |
//! | `input` | what Nova's schemas let in |
//! | `sweeps` | periodic whole-table work |
//!
//! Invariants:
//! - The API writes intent (`wanted_power`, `boot`, `delete_wanted_at`, a port to detach) and wakes the server's flow;
//!   the flow alone brings it about. Both in one transaction with quota, allocations and addresses.
//! - What users see of a server's state is computed by `servers::logic::shown` from its row and the flow's step, and
//!   written in that same commit.
//! - A host is told a server's whole wanted state under a generation that only grows. What it reports is stored as it
//!   comes and wakes the flow.

mod aggregates;
mod bootstrap;
mod doctor;
mod extensions;
mod flavors;
mod host_admin;
pub mod hosts;
mod hypervisors;
mod input;
mod instance_actions;
mod interfaces;
mod keypairs;
mod limits;
mod metadata;
mod migrations;
pub mod policy;
mod quotas;
pub mod routes;
mod server_groups;
pub mod servers;
mod services;
mod sweeps;
mod usage;
pub mod versions;
mod zones;

use std::{path::PathBuf, sync::Arc, time::Duration};

use flow::BoxFuture;
use hostlink::server::{ControlPlane, Hub};
use model::{Result, doctor::Finding};
use serde_json::{Value, json};
use store::{Db, compute::allocations::Ratios};

pub use bootstrap::bootstrap;

/// What the handlers, the machines and the hosts' side share.
pub struct State {
    /// The database.
    pub db: Db,
    /// The hosts that are connected.
    pub hub: Hub,
    /// Where image files lie; rows name them relative to it.
    pub image_dir: PathBuf,
    /// Settings.
    pub config: Config,
}

/// Settings of the service; the defaults are for production.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zone of hosts that name none (Nova's `default_availability_zone`).
    pub zone: String,
    /// How far hosts' processors are over-committed, in hundredths (Nova: 4.0).
    pub cpu_ratio_percent: i64,
    /// How far hosts' memory is over-committed, in hundredths (Nova: 1.0).
    pub memory_ratio_percent: i64,
    /// How far hosts' disks are over-committed, in hundredths (Nova: 1.0).
    pub disk_ratio_percent: i64,
    /// How long building a server may take, from the request to the running guest.
    pub build_within: Duration,
    /// How long starting, rebooting and plugging may take.
    pub change_within: Duration,
    /// How long a guest has to power itself down before it is stopped hard (Nova: 60 s).
    pub grace: Duration,
    /// How long shelved servers stay on their hosts (Nova's `shelved_offload_time`: 0 s); none: for good.
    pub offload_after: Option<Duration>,
    /// After which time resizes confirm themselves (Nova's `resize_confirm_window`); none: never.
    pub confirm_resize_after: Option<Duration>,
    /// How long deleted servers can be restored (Nova's `reclaim_instance_interval`); none: they are deleted at once.
    pub reclaim_after: Option<Duration>,
    /// How long rows of deleted servers stay, for `changes-since`.
    pub keep_deleted: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            zone: "nova".to_owned(),
            cpu_ratio_percent: 400,
            memory_ratio_percent: 100,
            disk_ratio_percent: 100,
            build_within: Duration::from_secs(600),
            change_within: Duration::from_secs(180),
            grace: Duration::from_secs(60),
            offload_after: Some(Duration::ZERO),
            confirm_resize_after: None,
            reclaim_after: None,
            keep_deleted: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Config {
    /// How far hosts are over-committed.
    pub fn ratios(&self) -> Ratios {
        Ratios { vcpus: self.cpu_ratio_percent, memory: self.memory_ratio_percent, disk: self.disk_ratio_percent }
    }
}

impl State {
    /// The service's state, with the default settings.
    pub fn new(db: Db, hub: Hub, image_dir: PathBuf) -> Arc<Self> {
        Self::with_config(db, hub, image_dir, Config::default())
    }

    /// With other settings.
    pub fn with_config(db: Db, hub: Hub, image_dir: PathBuf, config: Config) -> Arc<Self> {
        Arc::new(Self { db, hub, image_dir, config })
    }
}

/// The service as `web` serves it.
pub fn service(state: Arc<State>) -> web::Service {
    web::Service {
        name: "compute",
        prefix: "/compute",
        routes: routes::ROUTES,
        policy: policy::RULES,
        versions: Some(&versions::VERSIONS),
        faults: web::FaultStyle::Nova,
        state,
    }
}

/// The state machines of this service.
pub fn machines(state: &Arc<State>) -> Vec<Arc<dyn flow::Machine>> {
    vec![Arc::new(servers::flow::ServerMachine(state.clone()))]
}

/// What the agents' connections call.
pub fn control_plane(state: &Arc<State>) -> Arc<dyn ControlPlane> {
    Arc::new(hosts::api::Hosts(state.clone()))
}

/// Periodic work, for as long as the process lives.
pub fn sweeps(state: &Arc<State>) -> BoxFuture<'static, ()> {
    sweeps::all(state)
}

/// What has no counterpart in the database and on the hosts; with `fix`, hosts are told once more what they should have.
///
/// # Errors
/// When the database fails.
pub async fn doctor(state: &Arc<State>, fix: bool) -> Result<Vec<Finding>> {
    doctor::run(state, fix).await
}

/// The hosts, for operators: who they are, whether they are up, what is claimed of them.
///
/// # Errors
/// When the database fails.
pub async fn hosts_overview(state: &Arc<State>) -> Result<Value> {
    let usages = store::compute::allocations::usages(&mut *state.db.read().await?).await?;
    let now = state.db.clock().now();
    let overview: Vec<Value> = usages
        .iter()
        .map(|usage| {
            let host = &usage.host;
            json!({
                "id": host.id, "name": host.name, "zone": host.zone, "up": host.is_up(now), "enabled": host.enabled,
                "accelerator": host.facts.accelerator, "servers": usage.servers,
                "vcpus": host.facts.vcpus, "vcpus_claimed": usage.vcpus,
                "memory_mib": host.facts.memory_mib, "memory_mib_claimed": usage.memory_mib,
                "disk_gib": host.facts.disk_gib, "disk_gib_claimed": usage.disk_gib,
            })
        })
        .collect();
    Ok(json!({ "hosts": overview }))
}
