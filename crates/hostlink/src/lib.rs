//! The contract between the control plane and the agents.
//!
//! One bidirectional gRPC stream per agent, opened by the agent: over a unix socket on the same machine (`nacre up`),
//! over TCP with mutual TLS from other hosts. `proto/hostlink.proto` is the contract itself; read it first.
//!
//! | module | holds |
//! |---|---|
//! | this one | the messages ([`ServerSpec`], [`ServerReport`]...) |
//! | [`server`] | the control plane's side: [`server::Hub`] knows who is connected, [`server::ControlPlane`] is what it calls |
//! | [`client`] | the agent's side: how to reach the control plane |
//! | [`pki`] | the internal certificate authority, and what hosts show each other over TCP |
//! | [`join`] | how a host becomes one of the cloud's |
//!
//! Rules that both sides rely on:
//! - A spec is the whole wanted state of a server. The agent refuses a generation older than the one it holds, and
//!   says which it holds ([`ServerReport::refused_generation`]).
//! - Of one server at most one report is unacknowledged; the agent sends the newest state once the acknowledgement is
//!   there. Reports of different servers are handled at the same time and in any order.
//! - A report that the control plane could not commit comes again. So does everything after a new connection.

pub mod client;
pub mod join;
pub mod pki;
pub mod server;

use std::fmt;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; the text stands in proto/hostlink.proto")]
mod generated {
    tonic::include_proto!("nacre.hostlink.v1");
}

pub use generated::*;

/// Shows how large the documents are and nothing of what they say: user-data carries passwords.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("meta_data_json", &self.meta_data_json.len())
            .field("network_data_json", &self.network_data_json.len())
            .field("vendor_data_json", &self.vendor_data_json.len())
            .field("vendor_data2_json", &self.vendor_data2_json.len())
            .field("user_data_base64", &self.user_data_base64.len())
            .finish_non_exhaustive()
    }
}

/// Leaves out the password.
impl fmt::Debug for SetPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetPassword")
            .field("server_id", &self.server_id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Leaves out the token.
impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("host_id", &self.host_id)
            .field("host_name", &self.host_name)
            .finish_non_exhaustive()
    }
}
