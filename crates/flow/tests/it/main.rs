//! The engine on both databases, through its public surface.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod engine;
mod harness;
mod running;
mod stress;
mod toy;
