//! The network service: Neutron's v2.0 API on OVN.
//!
//! Networks, subnets, ports, routers, floating IPs, security groups and their rules, quotas, tags. A request changes
//! rows in one transaction and returns; each row's flow then makes OVN hold what the row says.
//!
//! | module | what |
//! |---|---|
//! | [`routes`], [`policy`] | every operation, every rule |
//! | [`versions`], [`extensions`] | what the service says of itself |
//! | [`networks`] ... [`security_group_rules`] | one resource each: `api`, `wire`, `logic`, `flow` |
//! | `realize` | the machine that all those flows are |
//! | [`sweeps`] | rows against OVN, both ways |
//! | [`bootstrap`] | the external network that `nacre up` makes |
//!
//! Invariants: addresses, MACs and quota change with the rows that hold them (`store::network`); a row's
//! `realized_revision` says which of its states OVN has; nothing here talks to hosts: a port is `ACTIVE` when its host
//! says so (`store::network::ports::set_active`).

pub mod address_groups;
pub mod address_scopes;
pub mod agents;
pub mod bootstrap;
pub mod collection;
pub mod extensions;
pub mod floating_ips;
pub mod metering;
pub mod networks;
pub mod policy;
pub mod port_forwardings;
pub mod ports;
pub mod providers;
pub mod qos;
pub mod quotas;
mod realize;
pub mod routers;
pub mod routes;
pub mod security_group_rules;
pub mod security_groups;
pub mod subnetpools;
pub mod subnets;
pub mod sweeps;
pub mod tags;
pub mod trunks;
pub mod versions;

use std::sync::Arc;

use drivers::network::Northbound;
use flow::Machine;
use realize::Realizer;
use web::{FaultStyle, Service};

pub use bootstrap::bootstrap_external;
pub use sweeps::northbound::{doctor, ensure_sweep, follow_resets, repair};

/// What differs between installations.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a guest's own host translates its floating IP. Every host must then be connected to the external
    /// network; else the router's gateway translates.
    pub distributed_floating_ips: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { distributed_floating_ips: true }
    }
}

/// The service's tables.
pub fn service() -> Service {
    Service {
        name: "network",
        prefix: "/networking",
        routes: routes::ROUTES,
        policy: policy::POLICY,
        versions: None,
        faults: FaultStyle::Neutron,
        state: Arc::new(()),
    }
}

/// The machines of its flows.
pub fn machines(northbound: &Arc<dyn Northbound>, options: Options) -> Vec<Arc<dyn Machine>> {
    let engine = || Arc::clone(northbound);
    vec![
        Arc::new(Realizer(networks::flow::Networks(engine()))),
        Arc::new(Realizer(subnets::flow::Subnets(engine()))),
        Arc::new(Realizer(security_groups::flow::SecurityGroups(engine()))),
        Arc::new(Realizer(ports::flow::Ports(engine()))),
        Arc::new(Realizer(routers::flow::Routers(engine()))),
        Arc::new(Realizer(floating_ips::flow::FloatingIps {
            engine: engine(),
            distributed: options.distributed_floating_ips,
        })),
        Arc::new(sweeps::northbound::Sweep(engine())),
    ]
}
