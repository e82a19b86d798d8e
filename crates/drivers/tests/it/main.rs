//! Conformance: each trait's tests on its fake driver and on the real ones.

mod boot_sector;
mod hypervisor;
