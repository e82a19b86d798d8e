//! The gRPC services, and who may speak for which host.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use model::{Error, ErrorKind, id::HostId};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};
use tonic::{Request, Response, Status, Streaming};

use super::{Console, ControlPlane, Hub, session::Session};
use crate::{
    ConsoleBytes, FromAgent, ImageChunk, ImageDelivered, ImagePart, ImageRequest, JoinReply, JoinRequest, ToAgent,
    from_agent,
    generated::{enrol_server::Enrol, host_link_server::HostLink},
    image_part::Part,
    pki::{self, Authority},
};

/// How long a new connection may take to say hello.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// Images travel in pieces of this size.
const IMAGE_CHUNK_BYTES: usize = 256 << 10;

/// Messages that may wait for a guest to read its console.
const CONSOLE_MESSAGES: usize = 16;

/// How a listener knows its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The listener let in nobody but this process's own user.
    SameUser,
    /// By the certificate that TLS has verified: it names the one host that the caller may speak for.
    Certificate,
}

/// The agents' service.
pub(super) struct Link {
    pub(super) hub: Hub,
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) trust: Trust,
}

impl Link {
    /// The host, if the caller may speak for it.
    fn authorize<T>(&self, request: &Request<T>) -> impl Fn(&str) -> Result<HostId, Status> + use<T> {
        let (trust, certificates) = (self.trust, request.peer_certs());
        move |id| {
            if !model::id::is_uuid_like(id) {
                return Err(Status::invalid_argument("a host's id is a UUID"));
            }
            let host = HostId::new(id);
            let shown = certificates.as_ref().and_then(|chain| chain.first());
            match trust {
                Trust::SameUser => Ok(host),
                Trust::Certificate if shown.is_some_and(|c| pki::is_certificate_of(c, &host)) => Ok(host),
                Trust::Certificate => Err(Status::permission_denied("the certificate is not that host's")),
            }
        }
    }
}

#[tonic::async_trait]
impl HostLink for Link {
    type ConnectStream = BoxStream<'static, Result<ToAgent, Status>>;
    type FetchImageStream = BoxStream<'static, Result<ImageChunk, Status>>;
    type ConsoleStream = BoxStream<'static, Result<ConsoleBytes, Status>>;

    async fn connect(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::ConnectStream>, Status> {
        let authorize = self.authorize(&request);
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_TIME_MAX, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        if hello.host_name.is_empty() {
            return Err(Status::invalid_argument("a hello needs the host's name"));
        }
        let host = authorize(&hello.host_id)?;
        let (outgoing, queue) = mpsc::channel(self.hub.limits().queue);
        let connection = self.hub.register(&host, outgoing);
        let session = Session { hub: self.hub.clone(), control: self.control.clone(), host, connection };
        tokio::spawn(session.run(hello, incoming));
        Ok(Response::new(ReceiverStream::new(queue).map(Ok).boxed()))
    }

    async fn fetch_image(&self, request: Request<ImageRequest>) -> Result<Response<Self::FetchImageStream>, Status> {
        let authorize = self.authorize(&request);
        let ImageRequest { host_id, image_id } = request.into_inner();
        let host = authorize(&host_id)?;
        let reader = timeout(self.hub.limits().callback, self.control.fetch_image(&host, &image_id))
            .await
            .map_err(|_| Status::deadline_exceeded("opening the image took too long"))?
            .map_err(|error| to_status(&error))?;
        let chunks = ReaderStream::with_capacity(reader, IMAGE_CHUNK_BYTES).map(|chunk| {
            chunk.map(|data| ImageChunk { data }).map_err(|e| Status::unavailable(format!("reading the image: {e}")))
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn deliver_image(&self, request: Request<Streaming<ImagePart>>) -> Result<Response<ImageDelivered>, Status> {
        let authorize = self.authorize(&request);
        let mut parts = request.into_inner();
        let first = timeout(HELLO_TIME_MAX, parts.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no announcement came"))??;
        let Some(ImagePart { part: Some(Part::Announcement(announced)) }) = first else {
            return Err(Status::invalid_argument("the first part must be an announcement"));
        };
        let host = authorize(&announced.host_id)?;
        let data = parts.map_err(std::io::Error::other).and_then(|part| async move {
            match part.part {
                Some(Part::Data(data)) => Ok(data),
                _ => Err(std::io::Error::other("a part of an image that is no data")),
            }
        });
        let intake = self.hub.intake().map_err(|error| to_status(&error))?;
        let taken = intake.take_in(&host, &announced, Box::pin(StreamReader::new(Box::pin(data)))).await;
        taken.map_err(|error| {
            tracing::warn!(%host, image = announced.image_id, ?error, "an image's delivery failed");
            to_status(&error)
        })?;
        Ok(Response::new(ImageDelivered {}))
    }

    async fn console(
        &self,
        request: Request<Streaming<ConsoleBytes>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let authorize = self.authorize(&request);
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_TIME_MAX, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no first message came"))??
            .ok_or_else(|| Status::invalid_argument("a console has a first message"))?;
        let host = authorize(&first.host_id)?;
        let (outgoing, queue) = mpsc::channel(CONSOLE_MESSAGES);
        if !self.hub.console_opened(&host, &first.session, Console { incoming, outgoing }) {
            return Err(Status::not_found("nobody waits for that console"));
        }
        Ok(Response::new(ReceiverStream::new(queue).map(Ok).boxed()))
    }
}

/// The service for hosts that have no certificate yet.
pub(super) struct Enrolment {
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) authority: Arc<Authority>,
}

#[tonic::async_trait]
impl Enrol for Enrolment {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let from = request.remote_addr();
        let join = request.into_inner();
        if !model::id::is_uuid_like(&join.host_id) || join.host_name.is_empty() {
            return Err(Status::invalid_argument("joining needs the host's id and name"));
        }
        let host = HostId::new(join.host_id);
        // Signed first, so that a bad request does not spend the token; handed out only after it is spent.
        let certificate = self.authority.sign_host(&join.certificate_request, &host).map_err(|error| {
            tracing::warn!(%host, ?from, %error, "a certificate request was refused");
            Status::invalid_argument("the certificate request can't be signed")
        })?;
        self.control.host_enrols(&host, &join.host_name, &join.token).await.map_err(|error| {
            tracing::warn!(%host, name = join.host_name, ?from, ?error, "a host was refused to join");
            to_status(&error)
        })?;
        tracing::info!(%host, name = join.host_name, ?from, "a host has joined the cloud");
        Ok(Response::new(JoinReply { certificate, authority: self.authority.certificate_pem().to_owned() }))
    }
}

/// The agent only needs to know whether trying again makes sense.
fn to_status(error: &Error) -> Status {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Gone => Status::not_found(&error.message),
        ErrorKind::Forbidden | ErrorKind::Unauthenticated => Status::permission_denied(&error.message),
        ErrorKind::Conflict | ErrorKind::UnsupportedMedia | ErrorKind::OverQuota | ErrorKind::TooLarge => {
            Status::failed_precondition(&error.message)
        }
        ErrorKind::Unsupported => Status::unimplemented(&error.message),
        _ => Status::unavailable(&error.message),
    }
}
