//! Where agents come in.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{future::ready, stream::StreamExt};
use tokio::net::{TcpListener, UnixListener as TokioUnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{
    Certificate, Identity, Server, ServerTlsConfig,
    server::{Router, TcpIncoming},
};

use super::{
    ControlPlane, Hub,
    service::{Enrolment, Link, Trust},
};
use crate::{
    generated::{enrol_server::EnrolServer, host_link_server::HostLinkServer},
    pki::{Authority, PkiError},
};

/// Largest message of an agent: a hello with 10,000 servers is below 1 MiB.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// A connection on which nothing moves is probed this often...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ...and given up when the probe stays unanswered this long.
const KEEP_ALIVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Streams that one connection may have open: one link, and the images it fetches.
const STREAMS_MAX: u32 = 64;

/// Why the link could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be made.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// The path or address.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// The listener's certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The server ended by itself.
    #[error("the agents' listener failed")]
    Serve(#[from] tonic::transport::Error),
}

/// The socket for the agent on this machine: mode 0600, and only this process's own user is let in.
pub struct UnixListener(TokioUnixListener);

impl UnixListener {
    /// Makes the socket. One that a dead process left behind is replaced, a live one is not.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let bind = || {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = TokioUnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let at = || PathBuf::from(path).display().to_string();
        bind().map(Self).map_err(|source| ServeError::Listen { at: at(), source })
    }

    /// Serves agents until `shutdown` resolves, then ends their connections.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(
        self,
        hub: Hub,
        control: Arc<dyn ControlPlane>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let incoming =
            UnixListenerStream::new(self.0).filter(|accepted| ready(accepted.as_ref().map_or(true, is_own_user)));
        let router = with_link(&mut server(), &hub, &control, Trust::SameUser);
        Ok(router.serve_with_incoming_shutdown(incoming, ended(&hub, shutdown)).await?)
    }
}

/// The port for agents of other machines. Without a certificate a caller can join and nothing else.
pub struct TlsListener {
    listener: TcpListener,
    authority: Arc<Authority>,
}

impl TlsListener {
    /// Takes the port.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn bind(address: SocketAddr, authority: Arc<Authority>) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { at: address.to_string(), source })?;
        Ok(Self { listener, authority })
    }

    /// The address in use.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves agents until `shutdown` resolves, then ends their connections.
    ///
    /// # Errors
    /// When the listener's certificate can't be made or the port fails.
    pub async fn serve(
        self,
        hub: Hub,
        control: Arc<dyn ControlPlane>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let (chain, key) = self.authority.listener_identity()?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, key))
            .client_ca_root(Certificate::from_pem(self.authority.certificate_pem()))
            .client_auth_optional(true)
            .timeout(KEEP_ALIVE_TIME_MAX);
        let enrolment = Enrolment { control: control.clone(), authority: self.authority };
        let router = with_link(&mut server().tls_config(tls)?, &hub, &control, Trust::Certificate)
            .add_service(EnrolServer::new(enrolment));
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        Ok(router.serve_with_incoming_shutdown(incoming, ended(&hub, shutdown)).await?)
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIME_MAX))
        .max_concurrent_streams(STREAMS_MAX)
}

fn with_link(server: &mut Server, hub: &Hub, control: &Arc<dyn ControlPlane>, trust: Trust) -> Router {
    let link = Link { hub: hub.clone(), control: control.clone(), trust };
    server.add_service(HostLinkServer::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Links never end by themselves, so that waiting for them would be for ever.
async fn ended(hub: &Hub, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    hub.disconnect_all();
}

/// The mode of the socket says the same, but holds only from the moment after it was made.
fn is_own_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a foreign user was turned away from the agents' socket");
            false
        }
        Err(_) => false,
    }
}
