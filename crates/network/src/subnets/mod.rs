//! Resource subnets: ranges of addresses, and what guests are told by DHCP.

pub mod api;
pub mod flow;
pub mod logic;
pub mod wire;
