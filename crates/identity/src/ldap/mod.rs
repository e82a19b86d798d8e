//! Domains whose users and groups are a directory's.
//!
//! | file | holds |
//! |---|---|
//! | `logic.rs` | a domain's `[ldap]` settings, filters, entries: decided without a connection |
//! | `directory.rs` | connections, and what is asked |
//! | `mirror.rs` | from a directory's answers to rows here |
//!
//! A domain is a directory's once its configuration says `identity.driver` = `ldap`. Its users log in by a bind; what it
//! says of them is repeated in rows (the *mirror*) each time it is asked: at logins, when somebody looks at a user, a
//! group or a list of them, and when a token's user was last asked about more than [`mirror::ASK_AGAIN_AFTER`] ago. So
//! everything else - tokens, assignments, names - is as with users of our own. Ids are Keystone's: the SHA-256 of
//! domain, kind and the directory's id. Nothing is ever written to a directory: what would be is refused.

pub mod directory;
pub mod logic;
pub mod mirror;
