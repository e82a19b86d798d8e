//! The per-host daemon: makes this host be what the control plane wants of it.
//!
//! ```text
//! link ──spec──> host ──wanted──> server task ──> ledger ──> drivers: disks, network, hypervisor
//!   ^                                 │                            │ events
//!   └──────── outbox <────report──────┴────────────────────────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what the daemon is told when it starts |
//! | `host` | everything on this host; start, adoption, events |
//! | `link` | the connection to the control plane |
//! | `console` | guests' consoles, for the control plane to connect to; counters |
//! | `outbox` | the newest report of each server, until it is acknowledged |
//! | `ledger` | what is wanted of this host, on disk |
//! | `server` | one server: its task, decisions (`logic`), steps, status |
//! | `image` | image bytes from the control plane |
//! | `metadata` | 169.254.169.254 in every network, and the files of config drives |
//! | `inventory` | what is on the host against the ledger, for `nacre doctor` |
//! | `sweep` | cached images that no server uses any more |
//! | `membership` | joining a cloud from another machine |
//! | `facts` | what the host's kernel says about itself |
//!
//! Invariants:
//! - What is wanted stands in the ledger before anything is done about it, and what was done is observed, not
//!   remembered. So the process may be killed at any moment: the next one reads the ledger, takes over the guests that
//!   run, and goes on. It needs no control plane for that, nor to restart guests after a reboot of the host.
//! - A guest is never a child that dies with the agent. Ending the agent leaves guests alone.
//! - One task per server, fed by a queue of one: the newest spec. Older generations are refused.
//! - A guest that ended by itself is reported and left alone: whether it starts again is the control plane's decision.

pub mod config;
mod console;
mod facts;
mod failure;
mod host;
mod image;
mod inventory;
mod ledger;
mod link;
mod membership;
mod metadata;
mod outbox;
mod server;
mod sweep;

pub use config::{Config, Drivers, Limits};
pub use host::{AgentError, run};
pub use membership::{MembershipError, identity, join};
