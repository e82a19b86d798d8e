//! Resource security group rules. Their groups carry them into OVN.

pub mod api;
pub mod logic;
pub mod wire;
