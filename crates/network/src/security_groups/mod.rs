//! Resource security groups: what may reach a port, and what it may reach.

pub mod api;
pub mod flow;
pub mod logic;
pub mod wire;
