//! The Placement service: its API to microversion 1.39.
//!
//! | module | what |
//! |---|---|
//! | [`routes`], [`policy`], [`versions`] | the tables |
//! | `provider` | resource providers: hosts, and what clients add to them |
//! | `inventory` | what providers have, by class |
//! | `allocation` | what consumers hold: servers' claims, and what clients claim; reshaping |
//! | `candidate` | which providers could satisfy a request |
//! | `usage`, `aggregate`, `traits`, `resource_class` | the small ones |
//! | `names` | which traits and classes there are from the start |
//!
//! Invariants:
//! - Hosts and servers' claims are compute's rows and are read where compute writes them (`store::placement`). What an
//!   agent reports of its host, and what compute claims for a server, can't be changed from here.
//! - Whoever claims from here holds compute's lock, and compute's scheduler counts what was claimed.

mod aggregate;
mod allocation;
mod candidate;
mod inventory;
mod names;
pub mod policy;
mod provider;
mod resource_class;
pub mod routes;
mod traits;
mod usage;
pub mod versions;

use std::sync::Arc;

use store::compute::allocations::Ratios;

/// What the handlers share.
pub struct State {
    /// How far hosts are over-committed: as compute has it.
    pub ratios: Ratios,
}

/// The service.
pub fn service(ratios: Ratios) -> web::Service {
    web::Service {
        name: "placement",
        prefix: "/placement",
        routes: routes::ROUTES,
        policy: policy::RULES,
        versions: Some(&versions::VERSIONS),
        faults: web::FaultStyle::Placement,
        state: Arc::new(State { ratios }),
    }
}
