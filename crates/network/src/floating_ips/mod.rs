//! Resource floating IPs: external addresses that lead to ports.

pub mod api;
pub mod flow;
pub mod logic;
pub mod wire;
