//! State: the same hand-written SQL on SQLite and on PostgreSQL.
//!
//! [`Db`] hands out read connections and write transactions ([`Tx`]); everything else is a module per table family with
//! plain functions over a connection (`get list insert update delete`, and domain verbs such as `claim`). Nothing here
//! knows about HTTP, and nothing outside knows about SQL.
//!
//! House rules of the tables: ids are text, times are microseconds since 1970 in a bigint, flags are 0 or 1 in a bigint,
//! enums and JSON are text, so that sqlx's `Any` driver carries everything. Every list has an index for its order.
//!
//! Invariants: quota, allocations and IP addresses change in the same transaction as the resource that owns them; so are
//! written the events of every change that users see ([`events`]), and the audit entry of the request ([`audit`]).

pub mod audit;
pub mod compute;
mod db;
mod dialect;
mod error;
pub mod events;
pub mod flows;
mod gather;
pub mod idempotency;
pub mod identity;
pub mod images;
pub mod journal;
pub mod list;
mod migrate;
pub mod network;
pub mod placement;
pub mod quotas;
pub mod request;
mod row;

pub use db::{Conn, Db, Reader, Tx};
pub use dialect::Dialect;
pub use error::{Error, Result};
pub use gather::{Gathered, GatheredRow};
pub use row::{Row, RowExt};
pub use sqlx::query;
