//! The compute service over HTTP, on both databases, with real agents on fake drivers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod administration;
mod crash;
mod faults;
mod flavors;
mod hosts;
mod keypairs;
mod lifecycle;
mod quotas;
mod requests;
mod samples;
mod scale;
mod servers;
mod world;
