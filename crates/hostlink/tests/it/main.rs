//! Both ends of the link against each other, over real sockets: the hub with a scripted control plane on one side, a
//! scripted agent on the other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod join;
mod link;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use hostlink::{
    FromAgent, Hello, HostStats, ImageAnnouncement, ServerReport, ServerSpec, ToAgent,
    client::{Endpoint, HostLinkClient},
    from_agent,
    server::{Command, ControlPlane, Hub, ImageIntake, ImageReader, UnixListener},
    to_agent,
};
use model::{Error, Result, id::HostId};
use tokio::{
    io::AsyncReadExt,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// What the control plane was told, in order.
#[derive(Debug, PartialEq)]
pub enum Told {
    Joined(String),
    Left(String),
    Report(String, u64),
    Enrolled(String),
    /// By whom, what was announced, the bytes that came, and whether they were sevens.
    Delivered(String, ImageAnnouncement, u64, bool),
}

/// Records what it is told. Reports of the server `reject` are not accepted; the token's secret is `spent` once.
#[derive(Default)]
pub struct Scripted {
    pub told: Mutex<Option<mpsc::UnboundedSender<Told>>>,
    pub invited: Mutex<Option<String>>,
}

impl Scripted {
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Told>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { told: Mutex::new(Some(sender)), ..Self::default() }), receiver)
    }

    fn tell(&self, told: Told) {
        if let Some(sender) = &*self.told.lock().unwrap() {
            sender.send(told).ok();
        }
    }
}

impl ControlPlane for Scripted {
    fn host_joined<'a>(&'a self, _: &'a HostId, hello: &'a Hello) -> BoxFuture<'a, Result<Vec<Command>>> {
        Box::pin(async move {
            self.tell(Told::Joined(hello.host_name.clone()));
            Ok(vec![Command::Ensure(Box::new(ServerSpec { id: "first".into(), ..ServerSpec::default() }))])
        })
    }

    fn host_left<'a>(&'a self, host: &'a HostId) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.tell(Told::Left(host.to_string())) })
    }

    fn server_report<'a>(&'a self, _: &'a HostId, report: &'a ServerReport) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.tell(Told::Report(report.server_id.clone(), report.sequence));
            if report.server_id == "reject" { Err(Error::unavailable("Busy", "busy")) } else { Ok(()) }
        })
    }

    fn heartbeat<'a>(&'a self, _: &'a HostId, _: HostStats) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn host_enrols<'a>(&'a self, _: &'a HostId, name: &'a str, secret: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.invited.lock().unwrap().take_if(|invited| invited == secret).is_none() {
                return Err(Error::new(model::ErrorKind::Forbidden, "BadToken", "The token is not valid (any more)."));
            }
            self.tell(Told::Enrolled(name.to_owned()));
            Ok(())
        })
    }

    fn fetch_image<'a>(&'a self, _: &'a HostId, image_id: &'a str) -> BoxFuture<'a, Result<ImageReader>> {
        Box::pin(async move {
            match image_id {
                "big" => Ok(Box::pin(std::io::Cursor::new(vec![7_u8; 3 << 20])) as ImageReader),
                _ => Err(Error::not_found("ImageNotFound", "No image with this id.")),
            }
        })
    }
}

impl ImageIntake for Scripted {
    fn take_in<'a>(
        &'a self,
        host: &'a HostId,
        announced: &'a ImageAnnouncement,
        mut data: ImageReader,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if announced.image_id == "unexpected" {
                return Err(Error::not_found("ImageNotFound", "Nothing is expected of this host."));
            }
            let mut bytes = Vec::new();
            let read = data.read_to_end(&mut bytes).await.map_err(|e| Error::unavailable("Broken", e.to_string()))?;
            self.tell(Told::Delivered(host.to_string(), announced.clone(), read as u64, bytes.iter().all(|b| *b == 7)));
            Ok(())
        })
    }
}

/// A hub behind a unix socket.
pub struct Control {
    pub hub: Hub,
    pub told: mpsc::UnboundedReceiver<Told>,
    pub socket: PathBuf,
    _folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Control {
    pub fn start(hub: Hub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agents.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (control, told) = Scripted::new();
        hub.take_images(control.clone());
        let (stop, stopped) = oneshot::channel();
        let serving = listener.serve(hub.clone(), control, async { drop(stopped.await) });
        let served = tokio::spawn(async { serving.await.unwrap() });
        Self { hub, told, socket, _folder: folder, stop: Some(stop), served }
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        soon(self.served).await.unwrap();
    }

    pub async fn told(&mut self) -> Told {
        soon(self.told.recv()).await.unwrap()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }
}

/// An agent that says what a test tells it to.
pub struct Agent {
    pub host: HostId,
    pub client: HostLinkClient<Channel>,
    pub outgoing: mpsc::Sender<FromAgent>,
    pub incoming: Streaming<ToAgent>,
}

impl Agent {
    pub async fn connect(endpoint: &Endpoint, host: &HostId) -> Result<Self, Status> {
        let mut client = endpoint.connect().await.unwrap();
        let (outgoing, queue) = mpsc::channel(16);
        let hello = Hello { host_id: host.to_string(), host_name: "h1".into(), ..Hello::default() };
        outgoing.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.unwrap();
        let incoming = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Self { host: host.clone(), client, outgoing, incoming })
    }

    pub async fn send(&self, message: from_agent::Message) {
        self.outgoing.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    pub async fn report(&self, server_id: &str, sequence: u64) {
        let report = ServerReport { server_id: server_id.into(), sequence, ..ServerReport::default() };
        self.send(from_agent::Message::Report(report)).await;
    }

    /// The next message, or `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<to_agent::Message> {
        soon(self.incoming.message()).await.ok().flatten().and_then(|m| m.message)
    }

    /// Past the welcome and the first command.
    pub async fn settle(&mut self) {
        assert!(matches!(self.next().await, Some(to_agent::Message::Welcome(_))));
        assert!(matches!(self.next().await, Some(to_agent::Message::EnsureServer(_))));
    }
}

/// A test that hangs fails.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("took too long")
}
