//! Tables of the compute service.
//!
//! | module | holds |
//! |---|---|
//! | [`servers`] | servers: rows, lists, intent, and what hosts report |
//! | [`server_ports`] | which ports a server has |
//! | [`actions`] | instance actions and their events |
//! | [`hosts`] | hypervisor hosts |
//! | [`allocations`] | what servers hold of hosts; choosing a host |
//! | [`flavors`], [`keypairs`] | sizes and keys |

pub mod flavors;
pub mod keypairs;

/// JSON for a column. Ours always can be written.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
