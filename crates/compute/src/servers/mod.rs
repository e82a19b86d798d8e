//! Servers.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | show, update, delete, and what hangs on a server and is short |
//! | `list.rs`, `create.rs` | `GET` and `POST /servers` |
//! | `action.rs` | `POST /servers/{id}/action` |
//! | `lifecycle.rs`, `snapshots.rs` | rebuild, resize, rescue, shelve; images of servers |
//! | `diagnostics.rs` | what hypervisors count |
//! | `metadata.rs`, `tags.rs` | metadata and tags as resources |
//! | `networks.rs` | which networks servers are put on |
//! | `wire.rs`, `view.rs` | request shapes; a server as it is shown |
//! | `logic.rs` | decisions: states, names, what may be done when |
//! | `flow.rs` | the state machine |
//! | `ending.rs` | what belongs to the end of a change besides the row |

pub mod action;
pub mod api;
mod create;
mod diagnostics;
pub mod ending;
pub mod flow;
pub mod lifecycle;
mod list;
pub mod logic;
pub mod metadata;
pub mod networks;
pub mod snapshots;
pub mod tags;
mod view;
mod wire;

pub use view::host_digest;
