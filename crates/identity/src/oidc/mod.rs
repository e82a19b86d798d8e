//! OpenID Connect, as a relying party: the cloud asks providers, and never is one.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | a protocol's settings: `/nacre/v1/identity/.../oidc` |
//! | `logic.rs` | what tokens must say, decided from claims alone |
//! | `jws.rs` | signatures |
//! | `client.rs` | discovery, keys, codes, introspection: everything that is fetched |
//!
//! The settings have an API of their own, and not a command: they concern every control plane of a cloud, change while
//! it runs, are subject to policy and audit, and a dashboard can offer them; the secret travels in a body and is never
//! in an argument list. Invariants: what is fetched goes through [`web::Outbound`], has a size, a time and a turn; keys
//! and discovery are cached for [`client::CACHE_TIME`] and fetched anew when a token names a key that isn't known.

pub mod api;
pub mod client;
pub mod jws;
pub mod logic;

pub use client::Oidc;
