//! `/nacre/v1` through the router, on both databases, beside a small service whose requests leave traces.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod audit;
mod events;
mod idempotency;
mod limits;
mod things;
