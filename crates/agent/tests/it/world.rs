//! A host with its agent, and the control plane it talks to. Each can go away and come back.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent::{Config, Drivers, Limits};
use drivers::{
    disk::fake::FakeDisks,
    hypervisor::fake::{FakeHost, FakeHypervisor},
    network::{
        ChassisPorts, Datapath, MetadataSpec, NetworkSpec, Northbound, PlugSpec, PluggedPort, PortInstalled, PortSpec,
        Result as NetworkResult,
        fake::{FakeChassis, FakeNetwork},
    },
};
use futures_util::{future::BoxFuture, stream::BoxStream};
use hostlink::{
    FixedIp, Hello, HostStats, Metadata, MetadataPort, Phase, Port, Power, RootDisk, ServerReport, ServerSpec,
    WantedPower,
    client::Endpoint,
    server::{Command, ControlPlane, Hub, ImageReader, UnixListener},
};
use model::{
    Clock, Error, Result,
    id::{HostId, NetworkId, PortId},
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// The image that every server boots from.
pub const IMAGE: &[u8] = &[0x55; 4096];

/// The scripted control plane: what it wants, what it was told.
pub struct Script {
    pub commands: Mutex<Vec<Command>>,
    pub images: Mutex<HashMap<String, Vec<u8>>>,
    joined: mpsc::UnboundedSender<Hello>,
    reports: mpsc::UnboundedSender<ServerReport>,
}

impl ControlPlane for Script {
    fn host_joined<'a>(&'a self, _: &'a HostId, hello: &'a Hello) -> BoxFuture<'a, Result<Vec<Command>>> {
        Box::pin(async {
            self.joined.send(hello.clone()).ok();
            Ok(self.commands.lock().unwrap().clone())
        })
    }

    fn host_left<'a>(&'a self, _: &'a HostId) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn server_report<'a>(&'a self, _: &'a HostId, report: &'a ServerReport) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.reports.send(report.clone()).ok();
            Ok(())
        })
    }

    fn heartbeat<'a>(&'a self, _: &'a HostId, _: HostStats) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn fetch_image<'a>(&'a self, _: &'a HostId, image_id: &'a str) -> BoxFuture<'a, Result<ImageReader>> {
        Box::pin(async move {
            let image = self.images.lock().unwrap().get(image_id).cloned();
            let image = image.ok_or_else(|| Error::not_found("ImageNotFound", "No image with this id."))?;
            Ok(Box::pin(std::io::Cursor::new(image)) as ImageReader)
        })
    }
}

/// A task that ends when asked.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn spawn<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(work(stopped)) }
    }

    async fn end(self) {
        self.stop.send(()).ok();
        soon(self.task).await.unwrap();
    }
}

/// See the module's text.
pub struct World {
    pub host: FakeHost,
    pub disks: FakeDisks,
    pub network: FakeNetwork,
    pub chassis: Arc<Chassis>,
    pub script: Arc<Script>,
    pub hub: Hub,
    pub limits: Limits,
    folder: tempfile::TempDir,
    joined: mpsc::UnboundedReceiver<Hello>,
    reports: mpsc::UnboundedReceiver<ServerReport>,
    agent: Option<Running>,
    control: Option<Running>,
}

impl World {
    /// Host and control plane, both up and connected.
    pub async fn start() -> Self {
        let mut world = Self::new();
        world.start_control();
        world.start_agent();
        world.joined().await;
        world
    }

    /// Host and control plane, both down.
    pub fn new() -> Self {
        let (joined_sender, joined) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let script = Script {
            commands: Mutex::default(),
            images: Mutex::new(HashMap::from([("image".to_owned(), IMAGE.to_vec())])),
            joined: joined_sender,
            reports: report_sender,
        };
        let network = FakeNetwork::default();
        let limits = Limits {
            retry_first: Duration::from_millis(5),
            retry_longest: Duration::from_millis(20),
            reconnect_first: Duration::from_millis(5),
            reconnect_longest: Duration::from_millis(20),
            progress_delay: Duration::ZERO,
            ..Limits::default()
        };
        Self {
            host: FakeHost::default(),
            disks: FakeDisks::default(),
            chassis: Arc::new(Chassis { inner: network.chassis("h1"), listeners: Mutex::default() }),
            network,
            script: Arc::new(script),
            hub: Hub::default(),
            limits,
            folder: tempfile::tempdir().unwrap(),
            joined,
            reports,
            agent: None,
            control: None,
        }
    }

    pub fn start_control(&mut self) {
        let (hub, script) = (self.hub.clone(), self.script.clone());
        let listener = UnixListener::bind(&self.folder.path().join("agents.sock")).unwrap();
        self.control = Some(Running::spawn(|stopped| async move {
            listener.serve(hub, script, async { drop(stopped.await) }).await.unwrap();
        }));
    }

    pub async fn stop_control(&mut self) {
        self.control.take().unwrap().end().await;
    }

    pub fn start_agent(&mut self) {
        let config = Config {
            state_dir: self.folder.path().to_owned(),
            host_name: "h1".into(),
            endpoint: Endpoint::Unix(self.folder.path().join("agents.sock")),
            chassis: "chassis-1".into(),
            addresses: vec!["192.0.2.1".into()],
            memory_mib: Some(4096),
            vcpus: Some(8),
            clock: Clock::system(),
            limits: self.limits.clone(),
        };
        let drivers = Drivers {
            hypervisor: Arc::new(FakeHypervisor::on(self.host.clone())),
            disks: Arc::new(self.disks.clone()),
            network: self.chassis.clone(),
        };
        self.agent = Some(Running::spawn(|stopped| async move {
            agent::run(config, drivers, async { drop(stopped.await) }).await.unwrap();
        }));
    }

    pub async fn stop_agent(&mut self) {
        self.agent.take().unwrap().end().await;
    }

    /// Ends the agent's task in the middle of whatever it does.
    pub async fn kill_agent(&mut self) {
        let running = self.agent.take().unwrap();
        running.task.abort();
        running.task.await.ok();
    }

    /// The next hello.
    pub async fn joined(&mut self) -> Hello {
        soon(self.joined.recv()).await.unwrap()
    }

    /// Sends a command to the host.
    pub async fn send(&self, command: Command) {
        let host = self.hub.connected().pop().unwrap();
        self.hub.send(&host, command).await.unwrap();
    }

    pub async fn ensure(&self, spec: &ServerSpec) {
        self.send(Command::Ensure(Box::new(spec.clone()))).await;
    }

    /// The next report for which `holds` says so; fails with all that came instead.
    pub async fn report_where(&mut self, what: &str, holds: impl Fn(&ServerReport) -> bool) -> ServerReport {
        let mut others = Vec::new();
        let found = timeout(Duration::from_secs(10), async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if holds(&report) {
                    return report;
                }
                others.push(report);
            }
        });
        match found.await {
            Ok(report) => report,
            Err(_) => panic!("no report {what}; there were {others:#?}"),
        }
    }

    /// Waits until the server is settled at this generation, and checks its power.
    pub async fn settled(&mut self, server: &str, generation: i64, power: Power) -> ServerReport {
        let settled = |r: &ServerReport| {
            r.server_id == server && r.generation == generation && matches!(r.phase(), Phase::Settled | Phase::Failed)
        };
        let report = self.report_where(&format!("settled at {generation}"), settled).await;
        assert_eq!((report.phase(), report.power()), (Phase::Settled, power), "{report:#?}");
        assert_eq!(report.fault.is_empty(), power != Power::Crashed, "{report:#?}");
        report
    }

    /// The first settled report of each of these servers, in whatever order they come.
    pub async fn settled_all(&mut self, servers: &[&String]) -> HashMap<String, ServerReport> {
        let mut settled = HashMap::new();
        while settled.len() < servers.len() {
            let wanted = |r: &ServerReport| servers.contains(&&r.server_id) && r.phase() == Phase::Settled;
            let report = self.report_where("settled", |r| wanted(r) && !settled.contains_key(&r.server_id)).await;
            settled.insert(report.server_id.clone(), report);
        }
        settled
    }

    /// Waits until no ledger entry is left: a round trip at a time, as long as it takes.
    pub async fn forgotten(&self) {
        let host = self.hub.connected().pop().unwrap();
        soon(async { while !self.hub.inventory(&host).await.unwrap().holdings.is_empty() {} }).await;
    }

    /// The northbound side of a port, as the network service would have made it.
    pub async fn make_port(&self, port: &Port) {
        let network_id = NetworkId::new(port.network_id.clone());
        let network = NetworkSpec { id: network_id.clone(), mtu: 1400, provider: None };
        self.network.ensure_network(&network).await.unwrap();
        let port = PortSpec {
            port_security: false,
            ..PortSpec::new(&PortId::new(port.id.clone()), &network_id, port.mac.parse().unwrap())
        };
        self.network.ensure_port(&port).await.unwrap();
    }

    pub fn state_dir(&self) -> &Path {
        self.folder.path()
    }
}

/// A running server with one port on `network`, as the control plane would want it.
pub fn spec(id: &str, network: &str) -> ServerSpec {
    let metadata_port = MetadataPort {
        port_id: model::id::random_uuid().to_string(),
        mac: "fa:16:3e:00:00:02".into(),
        fixed_ips: vec![FixedIp { address: "10.0.0.2".into(), prefix_length: 24 }],
        mtu: 1400,
    };
    let port = Port {
        id: model::id::random_uuid().to_string(),
        network_id: network.into(),
        mac: "fa:16:3e:00:00:05".into(),
        mtu: 1400,
        // Where connections to the fake's listeners come from.
        fixed_ips: vec![FixedIp { address: "127.0.0.1".into(), prefix_length: 8 }],
        metadata_port: Some(metadata_port),
    };
    ServerSpec {
        id: id.into(),
        name: "web".into(),
        generation: 1,
        power: WantedPower::Running.into(),
        boot: 1,
        vcpus: 1,
        memory_mib: 128,
        root_disk: Some(RootDisk {
            image_id: "image".into(),
            hash_algorithm: "sha256".into(),
            hash: Sha256::digest(IMAGE).iter().map(|byte| format!("{byte:02x}")).collect(),
            format: "raw".into(),
            size_gib: 1,
            image_bytes: IMAGE.len() as u64,
            ..RootDisk::default()
        }),
        metadata: Some(Metadata { meta_data_json: format!(r#"{{"uuid":"{id}"}}"#), ..Metadata::default() }),
        ports: vec![port],
        ..ServerSpec::default()
    }
}

pub fn new_id() -> String {
    model::id::random_uuid().to_string()
}

/// A test that hangs fails.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("took too long")
}

/// The fake chassis, remembering where its metadata listeners listen: on loopback, each on a port of its own.
pub struct Chassis {
    inner: FakeChassis,
    listeners: Mutex<HashMap<NetworkId, SocketAddr>>,
}

impl Chassis {
    pub fn metadata_address(&self, network: &str) -> SocketAddr {
        self.listeners.lock().unwrap()[&NetworkId::new(network)]
    }
}

impl ChassisPorts for Chassis {
    fn datapath(&self) -> Datapath {
        self.inner.datapath()
    }
    fn ensure_port_plugged<'a>(&'a self, spec: &'a PlugSpec) -> BoxFuture<'a, NetworkResult<()>> {
        self.inner.ensure_port_plugged(spec)
    }
    fn remove_port_plugged<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, NetworkResult<()>> {
        self.inner.remove_port_plugged(id)
    }
    fn list(&self) -> BoxFuture<'_, NetworkResult<Vec<PluggedPort>>> {
        self.inner.list()
    }
    fn watch_installed(&self) -> BoxStream<'static, PortInstalled> {
        self.inner.watch_installed()
    }
    fn list_strays(&self) -> BoxFuture<'_, NetworkResult<Vec<String>>> {
        self.inner.list_strays()
    }
    fn remove_stray<'a>(&'a self, device: &'a str) -> BoxFuture<'a, NetworkResult<()>> {
        self.inner.remove_stray(device)
    }
    fn ensure_metadata_namespace<'a>(&'a self, spec: &'a MetadataSpec) -> BoxFuture<'a, NetworkResult<()>> {
        self.inner.ensure_metadata_namespace(spec)
    }
    fn remove_metadata_namespace<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, NetworkResult<()>> {
        self.inner.remove_metadata_namespace(id)
    }
    fn list_metadata_namespaces(&self) -> BoxFuture<'_, NetworkResult<Vec<NetworkId>>> {
        self.inner.list_metadata_namespaces()
    }
    fn metadata_listener<'a>(&'a self, id: &'a NetworkId, tcp_port: u16) -> BoxFuture<'a, NetworkResult<TcpListener>> {
        Box::pin(async move {
            let listener = self.inner.metadata_listener(id, tcp_port).await?;
            self.listeners.lock().unwrap().insert(id.clone(), listener.local_addr().unwrap());
            Ok(listener)
        })
    }
}
