//! Federation: letting in whom an identity provider vouches for.
//!
//! | file | holds |
//! |---|---|
//! | `provider.rs`, `protocol.rs`, `mapping.rs`, `service_provider.rs` | the resources of `/v3/OS-FEDERATION` |
//! | `logic.rs` | the mapping language |
//! | `shadow.rs` | from what a mapping says to a user here, its groups and projects |
//! | `auth.rs` | coming in: bearer tokens, browsers |
//!
//! A provider's user is a user here like any other (its *shadow*), without a password, in the provider's domain. The
//! groups that a login's mapping names are memberships that end: with the login's token, or after the provider's
//! `authorization_ttl`. The next login replaces them. Nacre speaks OpenID Connect itself (`crate::oidc`); no web server
//! in front of it hands it assertions, and whatever headers a client sends are never taken for any.

pub mod auth;
pub mod logic;
pub mod mapping;
pub mod protocol;
pub mod provider;
pub mod service_provider;
pub mod shadow;
