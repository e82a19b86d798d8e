//! Key pairs: the public keys that users have put into their servers.
//!
//! They belong to users, not to projects. A server copies its key when it is created, so deleting one changes no server.
//! Private keys are made only for clients older than 2.92, and are never stored.

pub mod api;
mod logic;
mod openssh;
