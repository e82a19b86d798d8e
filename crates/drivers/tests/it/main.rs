//! Conformance: each trait's tests on its fake driver and on the real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and say why it is skipped"
)]

mod boot_sector;
mod disk;
mod fake;
mod hypervisor;
mod qemu;
mod volume;
