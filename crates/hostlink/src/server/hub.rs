//! Who is connected, and how to reach them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::{Error, Result, id::HostId};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Command, Console, ImageIntake, Limits};
use crate::{
    Answer, ConsoleKind, ConsoleLog, Diagnose, Diagnostics, Found, Inventory, OpenConsole, Question, Refusal,
    RefusalKind, RemoveOrphan, SetPassword, TakeInventory, ToAgent, answer, question, to_agent,
};

/// The hosts that are connected to this control plane process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    limits: Limits,
    hosts: Mutex<HashMap<HostId, Host>>,
    next_serial: AtomicU64,
    next_question: AtomicU64,
    intake: OnceLock<Arc<dyn ImageIntake>>,
    /// Consoles that were asked for and are not open yet, by session.
    consoles: Mutex<HashMap<String, (HostId, oneshot::Sender<Console>)>>,
}

/// How long an agent may take to open a console.
const CONSOLE_TIME_MAX: Duration = Duration::from_secs(10);

/// What stays of a host between its connections, and the newest of them.
#[derive(Default)]
struct Host {
    connection: Option<Connection>,
    /// Held while the control plane is told that the host joined or left, so that the last word is the true one.
    presence: Arc<AsyncMutex<()>>,
}

/// The sending end of one connection.
#[derive(Clone)]
pub(super) struct Connection {
    serial: u64,
    outgoing: mpsc::Sender<ToAgent>,
    questions: Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>,
    /// Ends the session: a newer connection took its place, or the process shuts down.
    pub(super) ended: CancellationToken,
    pub(super) presence: Arc<AsyncMutex<()>>,
}

impl Hub {
    /// A hub with other deadlines than the default ones.
    pub fn with_limits(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, ..Inner::default() }))
    }

    /// The deadlines and sizes in force.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// From now on, images that hosts deliver are taken in there. The first call counts.
    pub fn take_images(&self, intake: Arc<dyn ImageIntake>) {
        self.0.intake.get_or_init(|| intake);
    }

    pub(super) fn intake(&self) -> Result<&dyn ImageIntake> {
        let none = || Error::unsupported("DeliveryUnsupported", "This control plane takes no images from hosts.");
        self.0.intake.get().map(|intake| &**intake).ok_or_else(none)
    }

    /// Whether the host is connected to this process.
    pub fn is_connected(&self, host: &HostId) -> bool {
        lock(&self.0.hosts).get(host).is_some_and(|h| h.connection.is_some())
    }

    /// The hosts that are connected to this process, in no order.
    pub fn connected(&self) -> Vec<HostId> {
        lock(&self.0.hosts).iter().filter(|(_, h)| h.connection.is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// Puts a command into the host's queue. Success means no more than that: what the host made of it comes as a
    /// report, and a command lost with the connection is made good when the host joins again.
    ///
    /// # Errors
    /// `HostUnavailable` when the host is not connected or its queue stays full.
    pub async fn send(&self, host: &HostId, command: Command) -> Result<()> {
        let connection = self.connection(host)?;
        self.push(host, &connection, command.into_message()).await
    }

    /// The end of a server's serial log; `lines == 0` means all that is kept.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered.
    pub async fn console_log(&self, host: &HostId, server_id: &str, lines: u32) -> Result<Vec<u8>> {
        let ask = question::Question::ConsoleLog(ConsoleLog { server_id: server_id.into(), lines });
        match self.request(host, ask, Duration::from_secs(10)).await? {
            answer::Answer::ConsoleText(console) => Ok(console.text),
            other => Err(unexpected(&other)),
        }
    }

    /// Connects to a console of a server's guest.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered: a guest that is off has no console.
    pub async fn open_console(&self, host: &HostId, server_id: &str, kind: ConsoleKind) -> Result<Console> {
        let session = model::id::random_uuid().to_string();
        let (sender, receiver) = oneshot::channel();
        lock(&self.0.consoles).insert(session.clone(), (host.clone(), sender));
        let opened = async {
            let open = OpenConsole { server_id: server_id.into(), session: session.clone(), kind: kind.into() };
            self.request(host, question::Question::OpenConsole(open), CONSOLE_TIME_MAX).await?;
            timeout(CONSOLE_TIME_MAX, receiver)
                .await
                .map_err(|e| unavailable(host).because(e))?
                .map_err(|e| unavailable(host).because(e))
        };
        let opened = opened.await;
        lock(&self.0.consoles).remove(&session);
        opened
    }

    /// Hands an opened console to whoever asked for it. Whether anyone has.
    pub(super) fn console_opened(&self, host: &HostId, session: &str, console: Console) -> bool {
        let mut waiting = lock(&self.0.consoles);
        if waiting.get(session).is_none_or(|(asked, _)| asked != host) {
            return false;
        }
        waiting.remove(session).is_some_and(|(_, sender)| sender.send(console).is_ok())
    }

    /// Has the guest's agent set a user's password.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered: most guests have no agent.
    pub async fn set_password(&self, host: &HostId, ask: SetPassword) -> Result<()> {
        match self.request(host, question::Question::SetPassword(ask), Duration::from_secs(20)).await? {
            answer::Answer::Done(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// What the hypervisor counts about a guest.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered: a guest that is off has no counters.
    pub async fn diagnostics(&self, host: &HostId, server_id: &str) -> Result<Diagnostics> {
        let ask = question::Question::Diagnose(Diagnose { server_id: server_id.into() });
        match self.request(host, ask, Duration::from_secs(10)).await? {
            answer::Answer::Diagnostics(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// Everything on the host against its ledger.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered.
    pub async fn inventory(&self, host: &HostId) -> Result<Inventory> {
        match self.request(host, question::Question::TakeInventory(TakeInventory {}), Duration::from_secs(30)).await? {
            answer::Answer::Inventory(inventory) => Ok(inventory),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes something that an inventory called an orphan, if it still is one, and looks again.
    ///
    /// # Errors
    /// `HostUnavailable`, or what the agent answered.
    pub async fn remove_orphan(&self, host: &HostId, found: Found) -> Result<Inventory> {
        let ask = question::Question::RemoveOrphan(RemoveOrphan { found: Some(found) });
        match self.request(host, ask, Duration::from_secs(60)).await? {
            answer::Answer::Inventory(inventory) => Ok(inventory),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the host and waits for its answer, at most `deadline`.
    ///
    /// # Errors
    /// `HostUnavailable` without an answer in time; the agent's refusal as the error it stands for.
    pub async fn request(&self, host: &HostId, ask: question::Question, deadline: Duration) -> Result<answer::Answer> {
        let connection = self.connection(host)?;
        let id = self.0.next_question.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        lock(&connection.questions).insert(id, sender);
        let question = Question { id, question: Some(ask) };
        let asked = async {
            let message = ToAgent { message: Some(to_agent::Message::Question(question)) };
            self.push(host, &connection, message).await?;
            // An error here means that the session ended and dropped its questions.
            receiver.await.map_err(|e| unavailable(host).because(e))
        };
        let answered = timeout(deadline, asked).await;
        lock(&connection.questions).remove(&id);
        let answer = answered.map_err(|e| unavailable(host).because(e))??;
        match answer.answer {
            Some(answer::Answer::Refusal(refusal)) => Err(from_refusal(refusal)),
            Some(answer) => Ok(answer),
            None => Err(Error::internal("reading an agent's answer", "it holds none that this version knows")),
        }
    }

    /// Ends every connection.
    pub fn disconnect_all(&self) {
        for host in lock(&self.0.hosts).values() {
            if let Some(connection) = &host.connection {
                connection.ended.cancel();
            }
        }
    }

    /// Makes this the host's connection; an older one is ended.
    pub(super) fn register(&self, host: &HostId, outgoing: mpsc::Sender<ToAgent>) -> Connection {
        let mut hosts = lock(&self.0.hosts);
        let entry = hosts.entry(host.clone()).or_default();
        let connection = Connection {
            serial: self.0.next_serial.fetch_add(1, Ordering::Relaxed),
            outgoing,
            questions: Arc::default(),
            ended: CancellationToken::new(),
            presence: entry.presence.clone(),
        };
        if let Some(older) = entry.connection.replace(connection.clone()) {
            older.ended.cancel();
        }
        connection
    }

    /// Forgets the connection, unless a newer one has taken its place.
    pub(super) fn unregister(&self, host: &HostId, connection: &Connection) {
        lock(&connection.questions).clear();
        if let Some(entry) = lock(&self.0.hosts).get_mut(host)
            && entry.connection.as_ref().is_some_and(|c| c.serial == connection.serial)
        {
            entry.connection = None;
        }
    }

    /// Sends on this very connection.
    pub(super) async fn push(&self, host: &HostId, connection: &Connection, message: ToAgent) -> Result<()> {
        match timeout(self.0.limits.send, connection.outgoing.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(unavailable(host).because(e.to_string())),
            Err(e) => Err(unavailable(host).because(e)),
        }
    }

    fn connection(&self, host: &HostId) -> Result<Connection> {
        lock(&self.0.hosts).get(host).and_then(|h| h.connection.clone()).ok_or_else(|| unavailable(host))
    }
}

impl Connection {
    /// Hands an answer to whoever waits for it; nobody does when it comes too late.
    pub(super) fn answered(&self, answer: Answer) {
        if let Some(waiting) = lock(&self.questions).remove(&answer.id) {
            // The asker may have given up in this instant.
            let _ = waiting.send(answer);
        }
    }
}

fn unavailable(host: &HostId) -> Error {
    Error::unavailable("HostUnavailable", format!("Host {host} does not answer at present."))
}

fn unexpected(answer: &answer::Answer) -> Error {
    Error::internal("reading an agent's answer", format!("it answers another question: {answer:?}"))
}

fn from_refusal(refusal: Refusal) -> Error {
    match refusal.kind() {
        RefusalKind::NotFound => Error::not_found("NotOnHost", refusal.message),
        RefusalKind::Unsupported => Error::unsupported("UnsupportedByHost", refusal.message),
        RefusalKind::Unspecified | RefusalKind::Failed => Error::internal("asking an agent", refusal.message),
    }
}

/// No holder of these locks can panic half-way through a change, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
