//! The agent against a scripted control plane, through the real link, on the fake drivers.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod faults;
mod lifecycle;
mod metadata;
mod recovery;
mod speed;
mod world;
