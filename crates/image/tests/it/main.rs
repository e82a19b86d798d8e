//! The image service on both databases, through its public surface.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod data;
mod delivery;
mod doctor;
mod flow;
mod images;
mod imports;
mod listing;
mod members;
mod metadefs;
mod sharing;
mod world;
