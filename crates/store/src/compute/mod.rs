//! Tables of the compute service.
//!
//! | module | holds |
//! |---|---|
//! | [`servers`] | servers: rows, intent, what hosts report, what users see |
//! | [`life`] | what lasts from one operation on a server to a later one |
//! | [`server_list`] | their lists: filters, and what a page shows besides the rows |
//! | [`server_labels`] | their metadata and tags |
//! | [`server_ports`] | which ports a server has |
//! | [`actions`] | instance actions and their events |
//! | [`hosts`], [`aggregates`] | hypervisor hosts, and groups of them |
//! | [`server_groups`] | groups of servers |
//! | [`server_images`] | images that were made of servers |
//! | [`migrations`] | resizes, as administrators list them |
//! | [`allocations`] | what servers hold of hosts, and who may take one more |
//! | [`flavors`], [`keypairs`] | sizes and keys |
//! | [`usage`] | figures over servers: by host, by project and time |
//! | [`audit`] | what the doctor compares |

pub mod actions;
pub mod aggregates;
pub mod allocations;
pub mod audit;
pub mod flavors;
pub mod hosts;
pub mod keypairs;
pub mod life;
pub mod migrations;
pub mod server_groups;
pub mod server_images;
pub mod server_labels;
pub mod server_list;
pub mod server_ports;
mod server_row;
pub mod servers;
pub mod usage;

/// Quotas: Nova's names and default limits.
pub const QUOTAS: &[(&str, i64)] = &[
    ("instances", 10),
    ("cores", 20),
    ("ram", 51_200),
    ("metadata_items", 128),
    ("injected_files", 5),
    ("injected_file_content_bytes", 10_240),
    ("injected_file_path_bytes", 255),
    ("key_pairs", 100),
    ("server_groups", 10),
    ("server_group_members", 10),
];

/// The default limit of a quota.
pub fn default_quota(resource: &str) -> i64 {
    QUOTAS.iter().find(|(name, _)| *name == resource).map_or(0, |(_, limit)| *limit)
}

/// JSON for a column. Ours always can be written.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
