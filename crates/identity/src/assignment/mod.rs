//! Role assignments: who has which role where.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | giving, taking, checking and listing what was given to one on one target |
//! | `list.rs` | `GET /v3/role_assignments`: everything, filtered, as it was given or as it works out |
//! | `logic.rs` | from what was given to what holds: groups, inheritance, implied roles |
//! | `wire.rs` | an assignment as clients see it |

pub mod api;
pub mod list;
mod logic;
mod wire;
