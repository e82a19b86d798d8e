//! Everything on this host: start and adoption, commands in, events in, and the end.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use drivers::{
    hypervisor::{GuestEventKind, HypervisorError},
    network::PortInstalled,
};
use futures_util::StreamExt;
use hostlink::{Holding, RemoveServer, ReportAck, ServerSpec};
use model::id::{PortId, ServerId};
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, Drivers},
    facts,
    image::Images,
    ledger::{Entry, Ledger, blocking},
    link,
    metadata::MetadataService,
    outbox::Outbox,
    server::{self, Server, Taken},
    sweep,
};

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory is not usable.
    #[error("the agent's state directory: {0}")]
    State(#[source] io::Error),
    /// Another agent works on the same state directory.
    #[error("another agent is running on this state directory")]
    Running,
    /// The guests of the process before could not be taken over.
    #[error("running guests could not be taken over")]
    Adopt(#[from] HypervisorError),
}

/// Shared by every task of the agent. Locks are taken in the order `servers`, a server's status, its entry, `ports`.
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) drivers: Drivers,
    pub(crate) ledger: Ledger,
    pub(crate) outbox: Outbox,
    pub(crate) images: Images,
    pub(crate) metadata: MetadataService,
    /// Servers that are brought up at the same time are limited.
    pub(crate) starts: Semaphore,
    /// The process ends.
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    servers: Mutex<HashMap<ServerId, Arc<Server>>>,
    ports: Mutex<HashMap<String, PortFacts>>,
}

/// What is known of a port besides its server's status.
#[derive(Default)]
struct PortFacts {
    owner: Option<ServerId>,
    /// The switch has its flows.
    installed: bool,
}

/// Runs the agent until `shutdown` resolves. Guests go on running.
///
/// # Errors
/// When it can't start; once it runs, it deals with what goes wrong by itself.
pub async fn run(config: Config, drivers: Drivers, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let folder = config.state_dir.join("agent");
    let (host_id, _lock) = blocking(move || {
        facts::private_folder(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok((facts::host_id(&folder.join("host-id"))?, lock))
    })
    .await
    .map_err(|e| if e.kind() == io::ErrorKind::WouldBlock { AgentError::Running } else { AgentError::State(e) })?;
    let (ledger, entries) = Ledger::open(config.state_dir.join("agent/ledger")).await.map_err(AgentError::State)?;
    let adopted = drivers.hypervisor.adopt().await?;
    tracing::info!(host = host_id, servers = entries.len(), guests = adopted.len(), "agent starts");

    let stop = CancellationToken::new();
    // Also when this future is dropped, no task outlives it for long.
    let _stop_on_drop = stop.clone().drop_guard();
    let host = Arc::new(Host {
        id: host_id,
        outbox: Outbox::new(config.limits.report_again),
        images: Images::default(),
        metadata: MetadataService::new(drivers.network.clone(), ledger.clone(), config.limits.metadata_tcp_port),
        starts: Semaphore::new(config.limits.starts),
        stop,
        tasks: TaskTracker::new(),
        servers: Mutex::default(),
        ports: Mutex::default(),
        config,
        drivers,
        ledger,
    });
    // Before the first server's task, so that no event is missed.
    host.tasks.spawn(host.clone().follow_guests(host.drivers.hypervisor.subscribe()));
    host.tasks.spawn(host.clone().follow_ports());
    for entry in entries {
        host.add(&mut host.servers(), entry);
    }
    host.tasks.spawn(sweep::run(host.clone()));
    host.tasks.spawn(link::run(host.clone()));

    shutdown.await;
    host.stop.cancel();
    host.tasks.close();
    if timeout(host.config.limits.shutdown, host.tasks.wait()).await.is_err() {
        tracing::warn!("the agent ends in the middle of a step; the next one repeats it");
    }
    Ok(())
}

impl Host {
    /// A spec from the control plane.
    pub(crate) fn ensure(self: &Arc<Self>, spec: ServerSpec) {
        let generation = spec.generation;
        self.command(&spec.id.clone(), generation, |server| server.want(spec));
    }

    /// A removal from the control plane. Also of a server that the ledger does not know: what it may have left is removed.
    pub(crate) fn remove(self: &Arc<Self>, removal: &RemoveServer) {
        let generation = removal.generation;
        self.command(&removal.server_id, generation, |server| server.want_gone(generation));
    }

    /// Under the lock, so that a server is not forgotten between being found and being told.
    fn command(self: &Arc<Self>, id: &str, generation: i64, tell: impl FnOnce(&Server) -> Taken) {
        // The id becomes a file's name: anything but a UUID is no server's.
        if !model::id::is_uuid_like(id) {
            tracing::error!(id, "a command for something that is no server's id was dropped");
            return;
        }
        let (server, taken) = {
            let mut servers = self.servers();
            let found = servers.get(&ServerId::new(id)).cloned();
            let server = found.unwrap_or_else(|| self.add(&mut servers, Entry::new(id)));
            let taken = tell(&server);
            (server, taken)
        };
        match taken {
            Taken::Accepted => {}
            Taken::Known => server.publish_again(self),
            Taken::Refused => server.publish_refusal(self, generation),
        }
    }

    /// The control plane has committed a report, or wants it again.
    pub(crate) fn acknowledge(&self, ack: &ReportAck) {
        let gone = self.outbox.acknowledge(&ack.server_id, ack.sequence, ack.accepted);
        let Some(server) = self.server(&ServerId::new(ack.server_id.clone())) else { return };
        if let Some(generation) = gone {
            server.notify_known_gone(generation);
        }
        if ack.accepted && self.outbox.password_is_known(&ack.server_id) {
            server.notify_password_known();
        }
    }

    /// The link is up: what failed for want of it may be tried again.
    pub(crate) fn retry_all(&self) {
        self.servers().values().for_each(|server| server.notify_retry());
    }

    /// Every server of the ledger.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        self.servers().values().map(|server| server.with_entry(Entry::holding)).collect()
    }

    /// Every ledger entry.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.servers().values().map(|server| server.entry()).collect()
    }

    /// How many servers there are, and how many of them run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let servers = self.servers();
        (servers.len(), servers.values().filter(|server| server.is_running()).count())
    }

    /// Whether the switch has the port's flows.
    pub(crate) fn is_port_active(&self, port: &str) -> bool {
        self.ports().get(port).is_some_and(|facts| facts.installed)
    }

    /// Notes whose the ports of the server's entry are.
    pub(crate) fn own_ports(&self, server: &Server) {
        let owned: Vec<String> = server.with_entry(|entry| entry.ports.keys().cloned().collect());
        let mut ports = self.ports();
        for port in owned {
            ports.entry(port).or_default().owner = Some(server.id.clone());
        }
    }

    /// Forgets unplugged ports.
    pub(crate) fn disown_ports<'a>(&self, unplugged: impl Iterator<Item = &'a str>) {
        let mut ports = self.ports();
        for port in unplugged {
            ports.remove(port);
        }
    }

    /// Forgets a server whose removal is known, if `still` holds while no command can come in.
    pub(crate) fn forget(&self, server: &Server, still: impl FnOnce() -> bool) -> bool {
        let mut servers = self.servers();
        let forgotten = still();
        if forgotten {
            servers.remove(&server.id);
            self.outbox.forget(server.id.as_str());
        }
        forgotten
    }

    fn server(&self, id: &ServerId) -> Option<Arc<Server>> {
        self.servers().get(id).cloned()
    }

    fn add(self: &Arc<Self>, servers: &mut HashMap<ServerId, Arc<Server>>, entry: Entry) -> Arc<Server> {
        let server = Arc::new(Server::new(entry));
        servers.insert(server.id.clone(), server.clone());
        self.tasks.spawn(server::run(self.clone(), server.clone()));
        server
    }

    async fn follow_guests(
        self: Arc<Self>,
        mut events: tokio::sync::broadcast::Receiver<drivers::hypervisor::GuestEvent>,
    ) {
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(event) => match event.kind {
                    GuestEventKind::Started | GuestEventKind::Reset | GuestEventKind::NicDetached(_) => {}
                    GuestEventKind::Stopped(_)
                    | GuestEventKind::Paused
                    | GuestEventKind::Resumed
                    | GuestEventKind::Panicked => {
                        if let Some(server) = self.server(&event.id) {
                            server.notify_event();
                        }
                    }
                },
                Err(RecvError::Lagged(_)) => self.servers().values().for_each(|server| server.notify_event()),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn follow_ports(self: Arc<Self>) {
        let mut changes = self.drivers.network.watch_installed();
        loop {
            let change = tokio::select! {
                () = self.stop.cancelled() => return,
                change = changes.next() => change,
            };
            let Some(PortInstalled { port_id, installed }) = change else {
                tracing::error!("the switch tells no more about its ports: none becomes active from now on");
                return;
            };
            if let Some(server) = self.note_installed(&port_id, installed).and_then(|owner| self.server(&owner)) {
                server.publish(&self);
            }
        }
    }

    /// The server whose port has changed.
    fn note_installed(&self, port: &PortId, installed: bool) -> Option<ServerId> {
        let mut ports = self.ports();
        let facts = ports.entry(port.as_str().to_owned()).or_default();
        facts.installed = installed;
        let owner = facts.owner.clone();
        if owner.is_none() && !installed {
            ports.remove(port.as_str());
        }
        owner
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<ServerId, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<String, PortFacts>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
