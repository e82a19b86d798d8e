//! Where agents come in.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    future::ready,
    stream::{BoxStream, StreamExt},
};
use model::{Error, ErrorKind, id::HostId};
use tokio::{
    net::{UnixListener as TokioUnixListener, UnixStream},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{ControlPlane, Hub, session::Session};
use crate::{
    FromAgent, ImageChunk, ImageRequest, ToAgent, from_agent,
    generated::host_link_server::{HostLink, HostLinkServer},
};

/// How long a new connection may take to say hello.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// Images travel in pieces of this size.
const IMAGE_CHUNK_BYTES: usize = 256 << 10;
/// Largest message of an agent: a hello with 10,000 servers is below 1 MiB.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Why the link could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
        bind().map(Self).map_err(|source| ServeError::Listen { path: path.to_owned(), source })
    }

    /// Serves agents until `shutdown` resolves, then ends their connections.
    pub async fn serve(
        self,
        hub: Hub,
        control: Arc<dyn ControlPlane>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let incoming =
            UnixListenerStream::new(self.0).filter(|accepted| ready(accepted.as_ref().map_or(true, is_own_user)));
        let service =
            HostLinkServer::new(Link { hub: hub.clone(), control }).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let shutdown = async {
            shutdown.await;
            hub.disconnect_all();
        };
        Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, shutdown).await?;
        Ok(())
    }
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

/// The gRPC service.
struct Link {
    hub: Hub,
    control: Arc<dyn ControlPlane>,
}

#[tonic::async_trait]
impl HostLink for Link {
    type ConnectStream = BoxStream<'static, Result<ToAgent, Status>>;
    type FetchImageStream = BoxStream<'static, Result<ImageChunk, Status>>;

    async fn connect(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_TIME_MAX, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        if !model::id::is_uuid_like(&hello.host_id) || hello.host_name.is_empty() {
            return Err(Status::invalid_argument("a hello needs the host's id and name"));
        }
        let host = HostId::new(hello.host_id.clone());
        let (outgoing, queue) = mpsc::channel(self.hub.limits().queue);
        let connection = self.hub.register(&host, outgoing);
        let session = Session { hub: self.hub.clone(), control: self.control.clone(), host, connection };
        tokio::spawn(session.run(hello, incoming));
        Ok(Response::new(ReceiverStream::new(queue).map(Ok).boxed()))
    }

    async fn fetch_image(&self, request: Request<ImageRequest>) -> Result<Response<Self::FetchImageStream>, Status> {
        let ImageRequest { host_id, image_id } = request.into_inner();
        let host = HostId::new(host_id);
        let reader = timeout(self.hub.limits().callback, self.control.fetch_image(&host, &image_id))
            .await
            .map_err(|_| Status::deadline_exceeded("opening the image took too long"))?
            .map_err(|error| to_status(&error))?;
        let chunks = ReaderStream::with_capacity(reader, IMAGE_CHUNK_BYTES).map(|chunk| {
            chunk.map(|data| ImageChunk { data }).map_err(|e| Status::unavailable(format!("reading the image: {e}")))
        });
        Ok(Response::new(chunks.boxed()))
    }
}

/// The agent only needs to know whether trying again makes sense.
fn to_status(error: &Error) -> Status {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Gone => Status::not_found(&error.message),
        ErrorKind::Forbidden => Status::permission_denied(&error.message),
        ErrorKind::Conflict => Status::failed_precondition(&error.message),
        _ => Status::unavailable(&error.message),
    }
}
