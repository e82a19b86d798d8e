//! Allocation candidates: which providers could satisfy a request.
//!
//! `wire.rs` reads the request, `logic.rs` finds what satisfies it, `api.rs` shows that.

pub(crate) mod api;
pub(crate) mod logic;
pub(crate) mod wire;
