//! The network driver: one conformance suite on the fake and on a real OVN, and packets through the real one.
//!
//! | file | holds |
//! |---|---|
//! | `lab` | a network namespace of the test's own with OVN and Open vSwitch in it |
//! | `things` | specs to begin with |
//! | `northbound`, `chassis` | what both implementations must do |
//! | `packets` | what only packets can prove |
//! | `engine` | daemons: adopted, restarted, stopped |
//! | `figures` | how long things take (ignored unless asked for) |
//!
//! The real parts need root and the programs of OVN; where they are missing the tests say so and pass, unless
//! `NACRE_REQUIRE_OVN` is set, as it is in CI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

mod chassis;
mod engine;
mod figures;
mod lab;
mod northbound;
mod packets;
mod things;
