//! Placement on both databases, through its public surface.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod allocations;
mod candidates;
mod providers;
mod world;
