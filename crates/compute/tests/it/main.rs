//! The compute service over HTTP, on both databases, with real agents on fake drivers.

mod administration;
mod flavors;
mod hosts;
mod keypairs;
mod quotas;
mod samples;
mod servers;
mod world;
