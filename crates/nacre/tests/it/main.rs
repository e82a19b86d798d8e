//! The whole cloud's tables: what reviews must see change, and what must hold for every line of them.
//!
//! | file | holds |
//! |---|---|
//! | `cloud.rs` | every service in one router over SQLite, wired as `nacre server` does; an administrator, an ordinary user |
//! | `golden.rs` | routes, policy, flows and version documents as text, compared with `golden/*.txt` (`make golden` writes them) |
//! | `tables.rs` | routes and rules name each other |
//! | `upstream.rs` | our rules beside OpenStack's own (`upstream/*.tsv`) |
//! | `walk/` | every route as everybody: refused and admitted as the rules' tables say, nothing leaked |
//! | `fuzz.rs` | malformed requests over every route (`make fuzz` for long) |
//! | `listen.rs` | what one client may take of the listener |
//! | `strangers.rs` | every route without a token, with nonsense, and with another tenant's ids |

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod cloud;
mod fuzz;
mod golden;
mod listen;
mod strangers;
mod tables;
mod upstream;
mod walk;
