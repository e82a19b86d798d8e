//! The control plane's side of the link.
//!
//! | file | holds |
//! |---|---|
//! | this one | [`ControlPlane`]: what a connection calls; the compute service implements it |
//! | `console.rs` | [`Console`]: a guest's console, as a stream that its agent opens |
//! | `hub.rs` | [`Hub`]: who is connected; sending commands and asking questions |
//! | `session.rs` | one connection's life: hello, reports, heartbeats, end |
//! | `listen.rs` | where agents come in: unix socket, TCP with TLS |
//! | `service.rs` | the gRPC services, and who may speak for which host |

mod console;
mod hub;
mod listen;
mod service;
mod session;

use std::{pin::Pin, time::Duration};

use futures_util::future::BoxFuture;
use model::{Error, Result, id::HostId};
use tokio::io::AsyncRead;

use crate::{Hello, HostStats, ImageAnnouncement, RemoveServer, ServerReport, ServerSpec, ToAgent, to_agent};

pub use console::{Console, ConsoleInput};
pub use hub::Hub;
pub use listen::{ServeError, TlsListener, UnixListener};

/// An image's bytes.
pub type ImageReader = Pin<Box<dyn AsyncRead + Send>>;

/// What connections call. Every call has a deadline ([`Limits::callback`]) and may be made again: hosts reconnect, and
/// reports are repeated until one call returned `Ok`.
pub trait ControlPlane: Send + Sync + 'static {
    /// A host has connected: record it as up, and say what it must be told, given what it holds (`hello.holdings`).
    /// Never overlaps with another call of this or [`ControlPlane::host_left`] for the same host. Commands may be sent
    /// through the [`Hub`] at the same time: generations put them in order.
    fn host_joined<'a>(&'a self, host: &'a HostId, hello: &'a Hello) -> BoxFuture<'a, Result<Vec<Command>>>;

    /// The host's connection has ended or fallen silent, and there is no newer one.
    fn host_left<'a>(&'a self, host: &'a HostId) -> BoxFuture<'a, ()>;

    /// A server's state on its host. `Ok` acknowledges it: it must be committed by then. On one connection, calls for
    /// one server never overlap.
    fn server_report<'a>(&'a self, host: &'a HostId, report: &'a ServerReport) -> BoxFuture<'a, Result<()>>;

    /// The host is alive, and this is how it fares. Sent every few seconds.
    fn heartbeat<'a>(&'a self, host: &'a HostId, stats: HostStats) -> BoxFuture<'a, Result<()>>;

    /// A host wants to join with the secret of a token ([`crate::join::JoinToken`]): spend it, or refuse. The default
    /// invites nobody.
    fn host_enrols<'a>(
        &'a self,
        _host: &'a HostId,
        _host_name: &'a str,
        _secret: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Err(Error::unsupported("EnrolmentUnsupported", "This control plane invites no hosts.")) })
    }

    /// Opens the image for the host. Should refuse an image that no server of the host starts from.
    fn fetch_image<'a>(&'a self, host: &'a HostId, image_id: &'a str) -> BoxFuture<'a, Result<ImageReader>>;
}

/// Where the data of images goes that hosts deliver; the image service implements it, and [`Hub::take_images`] says so.
pub trait ImageIntake: Send + Sync + 'static {
    /// Reads the data to its end, verifies it against the announcement and makes it the image's. Refuses an image that
    /// this host was not told to deliver. What is broken off leaves nothing behind and may be delivered again.
    fn take_in<'a>(
        &'a self,
        host: &'a HostId,
        announced: &'a ImageAnnouncement,
        data: ImageReader,
    ) -> BoxFuture<'a, Result<()>>;
}

/// What an agent is told to do. Idempotent.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make the server as described.
    Ensure(Box<ServerSpec>),
    /// Leave nothing of the server.
    Remove(RemoveServer),
}

impl Command {
    /// Removal of a server; `generation` must be at least that of every spec sent before.
    pub fn remove(server_id: impl Into<String>, generation: i64) -> Self {
        Self::Remove(RemoveServer { server_id: server_id.into(), generation })
    }

    fn into_message(self) -> ToAgent {
        let message = match self {
            Self::Ensure(spec) => to_agent::Message::EnsureServer(*spec),
            Self::Remove(remove) => to_agent::Message::RemoveServer(remove),
        };
        ToAgent { message: Some(message) }
    }
}

/// Deadlines and sizes. The defaults are for production.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often agents are told to send a heartbeat.
    pub heartbeat: Duration,
    /// A host that sent nothing for so long has left.
    pub silence: Duration,
    /// How long a [`ControlPlane`] call may take.
    pub callback: Duration,
    /// How long a command may wait for room in a host's queue.
    pub send: Duration,
    /// Messages that may wait for a host.
    pub queue: usize,
    /// Reports of one host that are handled at the same time.
    pub reports_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            silence: Duration::from_secs(20),
            callback: Duration::from_secs(10),
            send: Duration::from_secs(5),
            queue: 256,
            reports_in_flight: 32,
        }
    }
}
