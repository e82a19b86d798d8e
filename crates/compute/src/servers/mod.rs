//! Servers.
//!
//! | file | holds |
//! |---|---|
//! | `logic.rs` | decisions: states, names, what may be done when |
//! | `flow.rs` | the state machine |

pub mod flow;
pub mod logic;
