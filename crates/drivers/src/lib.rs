//! Drivers: what Nacre runs on, one trait per domain, each with its implementations and its fake side by side.
//!
//! | module | trait | drivers | what it owns |
//! |---|---|---|---|
//! | [`hypervisor`] | [`hypervisor::Hypervisor`] | `qemu`, `fake` | guest processes: start, observe, stop, hot-plug, adopt |
//! | [`disk`] | [`disk::Disks`] | `local`, `fake` | base images, root disks, config drives |
//! | [`volume`] | [`volume::Volumes`] | `local`, `fake` | volumes and their snapshots |
//! | [`network`] | see there | `ovn`, `ovs`, `fake` | taps and bridges of a host, the northbound database |
//!
//! Rules that every driver keeps: a call is `ensure_*`, `observe_*` or `remove_*` (or an action with a deadline) and may
//! be repeated after a crash at any moment; nothing waits without a deadline; no shell, arguments only; the fake passes
//! the same conformance tests (`tests/it`) as the real one.

pub mod disk;
pub mod hypervisor;
mod locks;
pub mod network;
pub mod volume;

/// Whether an id may be the name of a file or directory: 36 letters, digits, dashes and underscores at most, as UUIDs
/// are. Ids come from outside.
pub(crate) fn is_file_name(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=36).contains(&id.len()) && id.chars().all(plain)
}
