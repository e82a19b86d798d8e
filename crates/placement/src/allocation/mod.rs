//! Allocations: what consumers hold of providers. `wire.rs` reads them, `api.rs` shows and writes them.

pub(crate) mod api;
mod wire;
