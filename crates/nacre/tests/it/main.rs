//! The whole cloud's tables: what reviews must see change, and what must hold for every line of them.
//!
//! | file | holds |
//! |---|---|
//! | `cloud.rs` | every service in one router over SQLite, wired as `nacre server` does; an administrator, an ordinary user |
//! | `golden.rs` | routes, policy, flows and version documents as text, compared with `golden/*.txt` (`make golden` writes them) |
//! | `tables.rs` | routes and rules name each other |
//! | `upstream.rs` | our rules beside OpenStack's own (`upstream/*.tsv`) |
//! | `strangers.rs` | every route without a token, with nonsense, and with another tenant's ids |

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod cloud;
mod golden;
mod strangers;
mod tables;
mod upstream;
