//! The compute service over HTTP, on both databases, with real agents on fake drivers.

mod servers;
mod world;
