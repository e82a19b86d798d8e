//! What tests stand on: real databases, a virtual clock, the crash harness of flows, a JSON client without sockets.
//!
//! | file | holds |
//! |---|---|
//! | `db.rs` | [`TestDb`]: a migrated database of its own for each test, SQLite or PostgreSQL; [`for_each_db`] |
//! | `postgres.rs` | the PostgreSQL server that the test process starts for itself |
//! | `harness.rs` | [`harness::run`]: every step of a flow doubled, crashed, cut off, deleted under and taken over |
//! | `client.rs` | [`Client`]: requests straight into the router |
//! | `auth.rs` | [`auth::client`]: real services with callers whose token says who they are |
//!
//! A test that fails here panics with the reason: nothing returns an error for a test to handle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "only tests use this crate: a panic is how they fail, and what they print shows only then"
)]

pub mod auth;
mod client;
mod db;
pub mod harness;
mod postgres;

pub use client::{Client, Response};
pub use db::{Kind, TestDb, for_each_db, virtual_clock};
