//! A cloud without guests: the compute service and its flows, agents with fake drivers, and a stand-in for the network
//! service's flows.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use drivers::{
    disk::fake::FakeDisks,
    hypervisor::fake::{FakeHost, FakeHypervisor},
    network::{NetworkSpec, Northbound, PortSpec, fake::FakeNetwork},
};
use flow::{BoxFuture, Done, Engine, Flow, Machine, Next, StepCx, StepInfo};
use hostlink::{
    client::Endpoint,
    server::{Hub, UnixListener},
};
use model::{
    Clock, Result,
    id::{ImageId, NetworkId, ProjectId},
};
use serde_json::{Value, json};
use store::{
    Db, images,
    network::{
        networks, ports,
        rows::{self, Table},
        subnets,
    },
};
use testkit::{Client, auth};
use tokio::{sync::oneshot, task::JoinHandle};

/// The image that every server boots from.
const IMAGE: &[u8] = &[0x55; 4096];

/// How long a test waits for what takes milliseconds: machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

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
        self.task.await.unwrap();
    }
}

/// See the module's text.
pub struct World {
    pub db: Db,
    pub state: Arc<compute::State>,
    pub host: FakeHost,
    pub network: FakeNetwork,
    pub image: String,
    pub net: String,
    folder: tempfile::TempDir,
    client: Client,
    agent: Option<Running>,
    _control: Running,
    _engine: Running,
}

impl World {
    /// Control plane and one host, with an image, a network of project `blue`, and the default flavors.
    pub async fn start(db: &Db) -> Self {
        Self::with_config(db, compute::Config::default()).await
    }

    pub async fn with_config(db: &Db, config: compute::Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = compute::State::with_config(db.clone(), Hub::default(), folder.path().to_owned(), config);
        compute::bootstrap(&state).await.unwrap();
        let network = FakeNetwork::default();
        let (image, net) = (image(db, folder.path()).await, net(db, "blue").await);
        let mut machines = compute::machines(&state);
        machines.push(Arc::new(Ports(network.clone())));
        let engine = Engine::new(db.clone(), machines, flow::Config::default()).unwrap();
        let engine = Running::spawn(|stopped| async move { engine.run(async { drop(stopped.await) }).await });
        state.hub.take_images(Arc::new(Intake(db.clone(), folder.path().to_owned())));
        let (hub, control) = (state.hub.clone(), compute::control_plane(&state));
        let listener = UnixListener::bind(&folder.path().join("agents.sock")).unwrap();
        let control = Running::spawn(|stopped| async move {
            listener.serve(hub, control, async { drop(stopped.await) }).await.unwrap();
        });
        let client = auth::client(db, vec![compute::service(state.clone())]);
        let mut world = Self {
            db: db.clone(),
            state,
            host: FakeHost::default(),
            network,
            image,
            net,
            folder,
            client,
            agent: None,
            _control: control,
            _engine: engine,
        };
        world.start_agent();
        world.until("the host is up", async || world.host_is_up().await).await;
        world
    }

    /// Whether servers can be placed on it: it is connected a moment before it is recorded.
    async fn host_is_up(&self) -> bool {
        let mut conn = self.db.read().await.unwrap();
        store::compute::hosts::list(&mut conn)
            .await
            .unwrap()
            .iter()
            .any(|host| host.is_up(model::Clock::system().now()))
    }

    pub fn start_agent(&mut self) {
        let config = agent::Config {
            state_dir: self.folder.path().to_owned(),
            host_name: "h1".into(),
            endpoint: Endpoint::Unix(self.folder.path().join("agents.sock")),
            chassis: "chassis-1".into(),
            addresses: vec!["192.0.2.1".into()],
            memory_mib: Some(1 << 20),
            vcpus: Some(1000),
            clock: Clock::system(),
            limits: agent::Limits {
                retry_first: Duration::from_millis(5),
                reconnect_first: Duration::from_millis(5),
                reconnect_longest: Duration::from_millis(20),
                ..agent::Limits::default()
            },
        };
        let drivers = agent::Drivers {
            hypervisor: Arc::new(FakeHypervisor::on(self.host.clone())),
            disks: Arc::new(FakeDisks::default()),
            network: Arc::new(self.network.chassis("h1")),
        };
        self.agent = Some(Running::spawn(|stopped| async move {
            agent::run(config, drivers, async { drop(stopped.await) }).await.unwrap();
        }));
    }

    pub async fn stop_agent(&mut self) {
        self.agent.take().unwrap().end().await;
        self.until("the host has left", async || self.state.hub.connected().is_empty()).await;
    }

    /// A client with this role in this project, at this microversion.
    pub fn as_(&self, role: &str, project: &str, version: &str) -> Client {
        let client = self.client.clone().token(&auth::token("alice", role, project));
        client.microversion(&format!("compute {version}"))
    }

    /// A member of project `blue`, newest microversion.
    pub fn blue(&self) -> Client {
        self.as_("member", "blue", "2.100")
    }

    /// What a server is created with here.
    pub fn request(&self, name: &str) -> Value {
        json!({"server": {
            "name": name, "imageRef": self.image, "flavorRef": "42", "networks": [{"uuid": self.net}],
        }})
    }

    /// Creates a server as `blue`.
    pub async fn create(&self, name: &str) -> String {
        let created = self.blue().post("/compute/v2.1/servers", self.request(name)).await.expect(202);
        created.json["server"]["id"].as_str().unwrap().to_owned()
    }

    /// Creates one and waits until it runs.
    pub async fn active(&self, name: &str) -> String {
        let id = self.create(name).await;
        self.status(&id, "ACTIVE").await;
        id
    }

    /// The server as `blue` sees it.
    pub async fn show(&self, id: &str) -> Value {
        self.blue().get(&format!("/compute/v2.1/servers/{id}")).await.expect(200).json["server"].clone()
    }

    /// Waits for a status with nothing under way; what the server looks like then.
    pub async fn status(&self, id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            last = self.show(id).await;
            if last["status"] == status && last["OS-EXT-STS:task_state"].is_null() {
                return last;
            }
            assert!(status == "ERROR" || last["status"] != "ERROR", "{last:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not {status}: {last:#}");
    }

    /// Does an action.
    pub async fn act(&self, id: &str, action: Value) -> testkit::Response {
        self.blue().post(&format!("/compute/v2.1/servers/{id}/action"), action).await
    }

    /// Waits until the server is gone.
    pub async fn gone(&self, id: &str) {
        let path = format!("/compute/v2.1/servers/{id}");
        self.until("the server is gone", async || self.blue().get(&path).await.status.as_u16() == 404).await;
    }

    /// Waits as a client does: by asking again.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut conn = self.db.read().await.unwrap();
        let rows = store::query("select kind || '/' || step || ': ' || reason || last_error as at from flows")
            .fetch_all(&mut *conn)
            .await;
        let flows: Vec<String> = rows.unwrap().iter().map(|row| store::RowExt::text(row, "at").unwrap()).collect();
        panic!("never: {what}; {flows:#?}");
    }

    /// Waits until the flow of the server sleeps for that reason.
    pub async fn waits(&self, id: &str, reason: &str) {
        self.until(reason, async || {
            let mut conn = self.db.read().await.unwrap();
            let row = store::query("select reason from flows where id = $1").bind(id).fetch_optional(&mut *conn).await;
            row.unwrap().is_some_and(|row| store::RowExt::text(&row, "reason").unwrap().contains(reason))
        })
        .await;
    }

    /// Nothing is without a counterpart.
    pub async fn assert_sound(&self) {
        let findings = compute::doctor(&self.state, false).await.unwrap();
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

/// In the image service's place: makes whatever is delivered an image's data.
struct Intake(Db, std::path::PathBuf);

impl hostlink::server::ImageIntake for Intake {
    fn take_in<'a>(
        &'a self,
        host: &'a model::id::HostId,
        announced: &'a hostlink::ImageAnnouncement,
        mut bytes: hostlink::server::ImageReader,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut content = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut bytes, &mut content).await.unwrap();
            let id = ImageId::new(announced.image_id.clone());
            let mut tx = self.0.begin().await?;
            let begun = images::deliveries::begin(&mut tx, &id, host).await?;
            let (generation, owner) =
                begun.ok_or_else(|| model::Error::not_found("ImageNotFound", "Nothing is expected."))?;
            std::fs::write(self.1.join(&announced.image_id), &content).unwrap();
            let size = i64::try_from(content.len()).unwrap();
            let charge = store::quotas::Charge {
                resource: images::SIZE_QUOTA,
                default_limit: -1,
                amount: images::size_charge(size),
            };
            store::quotas::charge(&mut tx, &owner, &[charge]).await?;
            let data = images::Data {
                format: None,
                file: announced.image_id.clone(),
                size,
                virtual_size: Some(1 << 20),
                checksum: String::new(),
                hash_algo: "sha512",
                hash_value: String::new(),
                sha256: announced.sha256.clone(),
            };
            assert!(images::finish_upload(&mut tx, &id, generation, &data).await?);
            images::deliveries::wake(&mut tx, &id).await?;
            Ok(tx.commit().await?)
        })
    }
}

/// A public image with data.
pub async fn image(db: &Db, folder: &Path) -> String {
    let id = ImageId::random();
    std::fs::write(folder.join("image"), IMAGE).unwrap();
    let mut tx = db.begin().await.unwrap();
    let mut image = images::Image::new(id.clone(), ProjectId::new("admin"), tx.now());
    image.name = Some("tiny".into());
    image.visibility = images::Visibility::Public;
    image.disk_format = Some("raw".into());
    image.container_format = Some("bare".into());
    images::insert(&mut tx, &image).await.unwrap();
    let generation = images::begin_upload(&mut tx, &id).await.unwrap().unwrap();
    let data = images::Data {
        file: "image".into(),
        size: 4096,
        virtual_size: Some(4096),
        checksum: "x".into(),
        hash_algo: "sha512",
        hash_value: "x".into(),
        sha256: "0fc2b13db17f80a1e2bcde80ca85eb1e2bc1ae26f8bd78f4ebbcdf6e3f4d1b1e".into(),
        format: None,
    };
    let data = images::Data { sha256: sha256(IMAGE), ..data };
    images::finish_upload(&mut tx, &id, generation, &data).await.unwrap();
    tx.commit().await.unwrap();
    id.as_str().to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// A network with a subnet.
pub async fn net(db: &Db, project: &str) -> String {
    let mut tx = db.begin().await.unwrap();
    let network = networks::NewNetwork::new(&ProjectId::new(project), "private");
    let network = networks::create(&mut tx, &network).await.unwrap();
    let subnet = subnets::NewSubnet::new(&network, "private", "10.0.0.0/20".parse().unwrap());
    subnets::create(&mut tx, &subnet).await.unwrap();
    tx.commit().await.unwrap();
    network.id.as_str().to_owned()
}

/// Does for ports what the network service's flow does, on the fake network.
pub struct Ports(pub FakeNetwork);

impl Machine for Ports {
    fn kind(&self) -> &'static str {
        ports::FLOW.0
    }

    fn steps(&self) -> &'static [StepInfo] {
        const STEPS: &[StepInfo] = &[StepInfo::new("realize", "all of it", &[flow::DONE])];
        STEPS
    }

    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let port = ports::find(&mut *cx.db().read().await?, &flow.id).await?;
            match port {
                Some(port) if port.meta.deleted => {
                    self.0.remove_port(&port.id).await.unwrap();
                    let mut tx = cx.begin().await?;
                    rows::purge(&mut tx, Table::Ports, port.id.as_str()).await?;
                    cx.finish(tx, Next::done()).await
                }
                Some(port) => {
                    realize(&self.0, &port).await;
                    let mut tx = cx.begin().await?;
                    ports::set_realized(&mut tx, &port).await?;
                    cx.finish(tx, Next::idle("realized")).await
                }
                None => cx.go(Next::done()).await,
            }
        })
    }

    fn expired<'a>(&'a self, cx: &'a StepCx, _: &'a Flow, _: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(cx.go(Next::idle("too late")))
    }
}

async fn realize(network: &FakeNetwork, port: &ports::Port) {
    let network_id = NetworkId::new(port.network_id.as_str());
    network.ensure_network(&NetworkSpec { id: network_id.clone(), mtu: 1400, provider: None }).await.unwrap();
    let spec = PortSpec { port_security: false, ..PortSpec::new(&port.id, &network_id, port.mac) };
    network.ensure_port(&spec).await.unwrap();
}
