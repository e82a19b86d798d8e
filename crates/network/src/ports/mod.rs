//! Resource ports: where guests, routers and the metadata service meet a network.

pub mod api;
pub mod flow;
pub mod logic;
pub mod wire;
