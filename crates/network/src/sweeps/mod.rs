//! Periodic reconcilers of whole tables.

pub mod northbound;
