//! QMP, QEMU's control channel: JSON objects, one a line, over a unix socket.
//!
//! A client says `qmp_capabilities` after the greeting; then requests and replies are matched by id, and events come
//! in between. One [`Qmp`] is one connection. When it ends, waiting calls fail with [`QmpError::Closed`] and event
//! receivers are closed: that is how the guest's monitor learns of it.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::hypervisor::HypervisorError;

/// Longest line that is accepted: `query-pci` of a large guest has some 100 KiB.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// How long a command may take unless the caller says otherwise.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
/// Events that a slow receiver may lag behind.
const EVENTS_KEPT: usize = 256;
/// First and last pause between two attempts to connect: the socket appears some 10 ms after the process.
const CONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// Why a QMP call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused the command.
    #[error("{command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class: `GenericError`, `DeviceNotFound`.
        class: String,
        /// QEMU's words.
        reason: String,
    },
    /// The connection is gone.
    #[error("the QMP connection is closed")]
    Closed,
    /// No answer in time.
    #[error("{command} had no answer within {after:?}")]
    Timeout {
        /// The command, or `connect`.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// Something that is not QMP.
    #[error("not QMP: {0}")]
    Protocol(String),
}

impl From<QmpError> for HypervisorError {
    fn from(error: QmpError) -> Self {
        match error {
            QmpError::Refused { command, reason, .. } => Self::Refused { command, reason },
            QmpError::Timeout { command, after } => Self::Timeout { what: command, after },
            other => Self::Channel(other.to_string()),
        }
    }
}

/// An event that QEMU sent by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QmpEvent {
    /// `SHUTDOWN`, `DEVICE_DELETED`, ...
    #[serde(rename = "event")]
    pub name: String,
    /// What belongs to it.
    #[serde(default)]
    pub data: Value,
}

/// One connection to one QEMU. Cheap to clone.
#[derive(Clone)]
pub struct Qmp {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: Arc<AtomicU64>,
    // Weak: the reader owns the sender, so that its end closes every receiver.
    events: broadcast::WeakSender<QmpEvent>,
    peer_pid: Option<u32>,
}

/// Calls without an answer so far, `None` once the connection is closed.
type Waiting = Option<HashMap<u64, oneshot::Sender<Reply>>>;
type Reply = Result<Value, Refusal>;

#[derive(Debug, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

/// Any line that QEMU sends after the greeting.
#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

impl Qmp {
    /// Connects and negotiates, waiting up to `within` for the socket to appear and QEMU to answer. Events that come
    /// from then on are in the receiver.
    pub async fn connect(socket: &Path, within: Duration) -> Result<(Self, broadcast::Receiver<QmpEvent>), QmpError> {
        let deadline = Instant::now() + within;
        let attempt = async {
            let stream = connect_when_there(socket).await?;
            Self::negotiate(stream).await
        };
        timeout_at(deadline, attempt)
            .await
            .map_err(|_| QmpError::Timeout { command: "connect".to_owned(), after: within })?
    }

    async fn negotiate(stream: UnixStream) -> Result<(Self, broadcast::Receiver<QmpEvent>), QmpError> {
        let peer_pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = read_line(&mut reader).await?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Protocol("no greeting".to_owned()));
        }
        let (events, receiver) = broadcast::channel(EVENTS_KEPT);
        let qmp = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            waiting: Arc::new(Mutex::new(Some(HashMap::new()))),
            next_id: Arc::default(),
            events: events.downgrade(),
            peer_pid,
        };
        tokio::spawn(read_all(reader, qmp.waiting.clone(), events));
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok((qmp, receiver))
    }

    /// The process at the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Option<u32> {
        self.peer_pid
    }

    /// A receiver of the events from now on.
    pub fn events(&self) -> Result<broadcast::Receiver<QmpEvent>, QmpError> {
        self.events.upgrade().map(|sender| sender.subscribe()).ok_or(QmpError::Closed)
    }

    /// Runs a command and gives what it returned.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, COMMAND_TIME_MAX).await
    }

    /// Runs a command with a deadline of its own.
    pub async fn execute_within(&self, command: &str, arguments: Value, within: Duration) -> Result<Value, QmpError> {
        self.call(command, arguments, None, within).await
    }

    async fn call(
        &self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        within: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        match &mut *lock(&self.waiting) {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(QmpError::Closed),
        };
        let outcome = timeout(within, async {
            self.send(id, command, arguments, descriptor).await?;
            reply.await.map_err(|_| QmpError::Closed)
        })
        .await;
        if let Some(waiting) = &mut *lock(&self.waiting) {
            waiting.remove(&id);
        }
        match outcome {
            Err(_) => Err(QmpError::Timeout { command: command.to_owned(), after: within }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(returned))) => Ok(returned),
            Ok(Ok(Err(refusal))) => {
                Err(QmpError::Refused { command: command.to_owned(), class: refusal.class, reason: refusal.desc })
            }
        }
    }

    /// Gives QEMU a descriptor under a name, for a later command to use. One that it holds under that name is closed.
    pub async fn hand_over(&self, name: &str, descriptor: &OwnedFd) -> Result<(), QmpError> {
        self.call("getfd", json!({ "fdname": name }), Some(descriptor.as_fd()), COMMAND_TIME_MAX).await?;
        Ok(())
    }

    /// Writes a request; a descriptor travels with its first byte.
    async fn send(
        &self,
        id: u64,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), QmpError> {
        let mut request = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut line = request.to_string();
        line.push('\n');
        let mut writer = self.writer.lock().await;
        let sent = match descriptor {
            Some(descriptor) => {
                send_with(writer.as_ref(), line.as_bytes(), descriptor).await.map_err(|_| QmpError::Closed)?
            }
            None => 0,
        };
        writer.write_all(&line.as_bytes()[sent..]).await.map_err(|_| QmpError::Closed)
    }
}

/// Sends the start of `bytes` with a descriptor and says how much of it went.
async fn send_with(stream: &UnixStream, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let mut send = || Ok(sendmsg(stream, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?);
    stream.async_io(Interest::WRITABLE, &mut send).await
}

async fn connect_when_there(socket: &Path) -> Result<UnixStream, QmpError> {
    let (mut pause, longest) = CONNECT_PAUSE;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            Err(error) => return Err(QmpError::Protocol(format!("{}: {error}", socket.display()))),
        }
    }
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Result<Value, QmpError> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await.map_err(|_| QmpError::Closed)?;
    if line.is_empty() {
        return Err(QmpError::Closed);
    }
    serde_json::from_slice(&line).map_err(|error| QmpError::Protocol(error.to_string()))
}

/// Hands every line to who waits for it, until the connection ends.
async fn read_all(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Mutex<Waiting>>,
    events: broadcast::Sender<QmpEvent>,
) {
    let end = loop {
        let line = match read_line(&mut reader).await.map(Line::deserialize) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => break QmpError::Protocol(error.to_string()),
            Err(error) => break error,
        };
        if let Some(name) = line.event {
            // No receiver is no error: nobody wants to know.
            let _ = events.send(QmpEvent { name, data: line.data });
            continue;
        }
        let caller = line.id.and_then(|id| lock(&waiting).as_mut().and_then(|calls| calls.remove(&id)));
        if let Some(caller) = caller {
            let reply = line.error.map_or_else(|| Ok(line.returned.unwrap_or_default()), Err);
            // The caller may have given up.
            let _ = caller.send(reply);
        }
    };
    if end != QmpError::Closed {
        tracing::warn!(error = %end, "QMP connection dropped");
    }
    // Dropping the senders wakes every waiting call with `Closed`.
    *lock(&waiting) = None;
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixListener};

    use super::*;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0, \"micro\": 2}}}}\n";

    /// A QEMU that plays a fixed script: for each line it reads, it says the next text.
    async fn scripted(
        script: &'static [&'static str],
    ) -> (tempfile::TempDir, std::path::PathBuf, tokio::task::JoinHandle<Vec<String>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            let mut heard = Vec::new();
            writer.write_all(GREETING.as_bytes()).await.unwrap();
            for say in script {
                heard.push(lines.next_line().await.unwrap().unwrap());
                writer.write_all(say.as_bytes()).await.unwrap();
            }
            heard
        });
        (folder, path, server)
    }

    #[tokio::test]
    async fn replies_find_their_calls_and_events_come_between() {
        let (_folder, path, server) = scripted(&[
            "{\"return\": {}, \"id\": 0}\n",
            "{\"event\": \"RESUME\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\n{\"return\": {\"status\": \"running\"}, \"id\": 1}\n",
            "{\"id\": 2, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device 'x' not found\"}}\n",
        ])
        .await;
        let (qmp, mut events) = Qmp::connect(&path, Duration::from_secs(5)).await.unwrap();
        assert_eq!(qmp.peer_pid(), Some(std::process::id()));
        assert_eq!(qmp.execute("query-status", Value::Null).await.unwrap(), json!({"status": "running"}));
        assert_eq!(events.recv().await.unwrap().name, "RESUME");
        let refused = qmp.execute("device_del", json!({"id": "x"})).await.unwrap_err();
        assert_eq!(
            refused,
            QmpError::Refused {
                command: "device_del".to_owned(),
                class: "DeviceNotFound".to_owned(),
                reason: "Device 'x' not found".to_owned()
            }
        );
        let heard = server.await.unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&heard[2]).unwrap(),
            json!({"execute": "device_del", "id": 2, "arguments": {"id": "x"}})
        );
        // The script is over and the server gone: receivers end, calls fail at once.
        assert_eq!(events.recv().await.unwrap_err(), broadcast::error::RecvError::Closed);
        assert_eq!(qmp.execute("stop", Value::Null).await.unwrap_err(), QmpError::Closed);
        assert_eq!(qmp.events().unwrap_err(), QmpError::Closed);
    }

    #[tokio::test]
    async fn deadlines_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp.sock");
        let within = Duration::from_millis(30);
        let nobody = Qmp::connect(&path, within).await.err().unwrap();
        assert_eq!(nobody, QmpError::Timeout { command: "connect".to_owned(), after: within });
        let _mute = UnixListener::bind(&path).unwrap();
        let mute = Qmp::connect(&path, within).await.err().unwrap();
        assert_eq!(mute, QmpError::Timeout { command: "connect".to_owned(), after: within });
    }
}
