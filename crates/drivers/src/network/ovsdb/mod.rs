//! A client of OVSDB (RFC 7047 and ovsdb-server's extensions): the protocol of Open vSwitch's and OVN's databases.
//!
//! [`Client`] holds one connection, made again whenever it breaks. Over it go transactions ([`Client::transact`],
//! [`Operation`]s) and the changes of the monitored tables, from which a [`Replica`] is kept in memory. The server sends
//! a transaction's changes before its reply, so after `transact` returns the replica shows what was written.
//!
//! | file | holds |
//! |---|---|
//! | `value` | atoms, sets, maps |
//! | `replica` | the monitored tables, indexed |
//! | `operation` | the operations of a transaction |
//! | `frame` | cuts the byte stream into messages |
//! | `client` | the connection |

mod client;
mod frame;
mod operation;
mod replica;
mod value;

pub use client::{Client, Config};
pub use operation::Operation;
pub use replica::{Change, Event, Replica, Row, TableSpec};
pub use value::{Atom, Datum};

use std::{path::PathBuf, str::FromStr};

/// What can go wrong between us and an OVSDB server.
#[derive(Debug, thiserror::Error)]
pub enum OvsdbError {
    /// No connection, or no answer in time. Whether a transaction took place is unknown.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The server refused an operation of the transaction; nothing of it took place.
    #[error("operation {index} refused: {error}: {details}")]
    Refused {
        /// Which operation.
        index: usize,
        /// The server's word for it: `constraint violation`, `timed out` (an unmet `wait`), ...
        error: String,
        /// Its explanation.
        details: String,
    },
    /// An address that can't be used.
    #[error("{0}")]
    Address(String),
}

impl OvsdbError {
    /// Whether the transaction was refused for what other writers did: a `wait` did not hold, a row is there already
    /// or gone. Look at the replica again and plan anew.
    pub fn is_stale(&self) -> bool {
        const WORDS: [&str; 4] =
            ["timed out", "duplicate uuid", "referential integrity violation", "constraint violation"];
        matches!(self, Self::Refused { error, .. } if WORDS.contains(&error.as_str()))
    }
}

/// Where a server listens, as OVS writes it: `unix:/run/ovn/ovnnb_db.sock`, `tcp:192.0.2.1:6641`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp(String),
}

impl Remote {
    /// A comma-separated list, as a cluster's remotes are given.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, OvsdbError> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl FromStr for Remote {
    type Err = OvsdbError;

    fn from_str(text: &str) -> Result<Self, OvsdbError> {
        let bad = |why: &str| Err(OvsdbError::Address(format!("{text}: {why}")));
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => bad("the path of a socket must be absolute"),
            Some(("tcp", address)) => match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(address.into())),
                _ => bad("expected tcp:HOST:PORT"),
            },
            Some(("ssl", _)) => bad("OVSDB over TLS is not supported yet: use unix: or tcp:"),
            _ => bad("expected unix:PATH or tcp:HOST:PORT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes() {
        let parse = |text: &str| Remote::parse_list(text).map_err(|e| e.to_string());
        assert_eq!(
            parse("unix:/a, tcp:[::1]:6641"),
            Ok(vec![Remote::Unix("/a".into()), Remote::Tcp("[::1]:6641".into())])
        );
        for bad in ["unix:a", "tcp:host", "tcp::1", "ssl:a:1", "", "a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
