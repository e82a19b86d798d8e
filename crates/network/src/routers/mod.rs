//! Resource routers.

pub mod api;
pub mod flow;
pub mod logic;
pub mod wire;
