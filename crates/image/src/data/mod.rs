//! The content of images.
//!
//! ```text
//! request body ─pieces─> api: limits, stalls, heartbeat ─channel─> files: check of the head, hashes, disk
//!                                                                    └─ all of it synced and renamed ─> row: active
//! ```
//!
//! An upload runs in a task of its own: a client that goes away ends its request, and must not end the tidying up.

pub(crate) mod api;
pub(crate) mod convert;
mod files;
pub(crate) mod logic;
pub(crate) mod upload;

use std::time::Duration;

pub(crate) use files::{Files, Observed, Received, generation_of};

/// An upload that no process has reported on for that long is given up.
pub(crate) const UNHEARD_OF_MAX: Duration = Duration::from_secs(180);
