//! Tokens: asking for one, what one means, validating and revoking one.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | the handlers of `/v3/auth/...` |
//! | `wire.rs` | the shapes of requests and of the token document |
//! | `logic.rs` | who is asked for and for what, decided from the request alone |
//! | `login.rs` | from a request to the payload of a token: users, passwords, scopes |
//! | `validated.rs` | from a payload to what the token means now |
//! | `catalog.rs` | the catalog as tokens carry it |

pub mod api;
pub mod catalog;
mod logic;
mod login;
pub mod validated;
mod wire;

pub use logic::Lookup;
pub use login::{check_password, subject};
