//! A server's flow under the crash harness: every step doubled, crashed, cut off from its host, deleted under, taken over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use drivers::network::fake::FakeNetwork;
use flow::BoxFuture;
use hostlink::{
    Answer, Capabilities, ConsoleText, FromAgent, Hello, HostStats, Phase, PortReport, Power, ServerReport, ToAgent,
    WantedPower, answer,
    client::Endpoint,
    from_agent,
    server::{Command, ControlPlane, Hub, ImageReader, UnixListener},
    to_agent,
};
use model::{
    Result,
    id::{HostId, ProjectId},
};
use serde_json::json;
use store::{Db, RowExt};
use testkit::{
    Client, auth,
    harness::{self, Options, Rest, Scenario, World},
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::world::{Ports, image, net};

const HOST: &str = "11111111-1111-4111-8111-111111111111";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_survive_everything() {
    // Shorter than hosts are waited for: a longer one leaves no valid host, as it should.
    let options = Options { outage: Duration::from_secs(30), ..Options::default() };
    let report = harness::run(&options, |db| Box::pin(scenario(db))).await;
    println!("{} plays, {} steps", report.plays, report.trace.len());
    for step in ["server/schedule", "server/build", "server/run", "server/change", "server/destroy"] {
        assert!(report.steps.iter().any(|s| s == step), "{step} was not played: {:?}", report.steps);
    }
}

async fn scenario(db: &Db) -> Scenario {
    let folder = tempfile::tempdir().unwrap();
    let state = compute::State::new(db.clone(), Hub::default(), folder.path().to_owned());
    compute::bootstrap(&state).await.unwrap();
    let (image, net) = (image(db, folder.path()).await, net(db, "blue").await);
    let control = Arc::new(Control {
        inner: compute::control_plane(&state),
        inbox: Mutex::default(),
        joined: Notify::new(),
        left: Notify::new(),
    });
    let listener = UnixListener::bind(&folder.path().join("agents.sock")).unwrap();
    let (hub, served) = (state.hub.clone(), control.clone());
    tokio::spawn(async move { listener.serve(hub, served, std::future::pending()).await });
    let client = auth::client(db, vec![compute::service(state.clone())]).token(&auth::token("alice", "member", "blue"));
    let request = json!({"server": {"name": "web", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": net}]}});
    let created = client.post("/compute/v2.1/servers", request).await.expect(202);
    let mut machines = compute::machines(&state);
    machines.push(Arc::new(Ports(FakeNetwork::default())));
    let world = Cloud {
        hub: state.hub.clone(),
        control,
        client,
        server: created.json["server"]["id"].as_str().unwrap().to_owned(),
        agent: tokio::sync::Mutex::default(),
        folder,
    };
    world.connect(db).await;
    Scenario { machines, world: Arc::new(world) }
}

/// The product's side of the link, except that what a joining host is told goes straight into the agent's inbox: so the
/// test knows when it is there.
struct Control {
    inner: Arc<dyn ControlPlane>,
    inbox: Mutex<Vec<Command>>,
    joined: Notify,
    left: Notify,
}

impl ControlPlane for Control {
    fn host_joined<'a>(&'a self, host: &'a HostId, hello: &'a Hello) -> BoxFuture<'a, Result<Vec<Command>>> {
        Box::pin(async move {
            let commands = self.inner.host_joined(host, hello).await?;
            self.inbox.lock().unwrap().extend(commands);
            self.joined.notify_one();
            Ok(Vec::new())
        })
    }

    fn host_left<'a>(&'a self, host: &'a HostId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.inner.host_left(host).await;
            self.left.notify_one();
        })
    }

    fn server_report<'a>(&'a self, host: &'a HostId, report: &'a ServerReport) -> BoxFuture<'a, Result<()>> {
        self.inner.server_report(host, report)
    }

    fn heartbeat<'a>(&'a self, _: &'a HostId, _: HostStats) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn fetch_image<'a>(&'a self, host: &'a HostId, image_id: &'a str) -> BoxFuture<'a, Result<ImageReader>> {
        self.inner.fetch_image(host, image_id)
    }
}

/// An agent without a clock: it does what it was told when the test lets it.
#[derive(Default)]
struct Agent {
    link: Option<(mpsc::Sender<FromAgent>, Streaming<ToAgent>)>,
    servers: BTreeMap<String, Held>,
}

#[derive(Clone, Default)]
struct Held {
    generation: i64,
    removed: bool,
    running: bool,
    boot: i64,
    ports: Vec<String>,
}

impl Agent {
    /// What becomes of the server, unless something newer was said already.
    fn obey(&mut self, command: Command) -> Option<String> {
        let (id, held) = match command {
            Command::Ensure(spec) => {
                let held = Held {
                    generation: spec.generation,
                    removed: false,
                    running: spec.power() == WantedPower::Running,
                    boot: spec.boot,
                    ports: spec.ports.iter().map(|port| port.id.clone()).collect(),
                };
                (spec.id.clone(), held)
            }
            Command::Remove(removal) => {
                (removal.server_id, Held { generation: removal.generation, removed: true, ..Held::default() })
            }
        };
        let old = self.servers.entry(id.clone()).or_default();
        if held.generation < old.generation || (held.generation == old.generation && old.removed && !held.removed) {
            return None;
        }
        *old = held;
        Some(id)
    }

    fn report(&self, id: &str) -> ServerReport {
        let held = &self.servers[id];
        let power = match (held.removed, held.running) {
            (true, _) => Power::Absent,
            (false, true) => Power::Running,
            (false, false) => Power::Shutdown,
        };
        let port = |port: &String| PortReport { port_id: port.clone(), plugged: true, active: held.running };
        ServerReport {
            server_id: id.to_owned(),
            generation: held.generation,
            phase: Phase::Settled.into(),
            power: power.into(),
            boot: held.boot,
            ports: held.ports.iter().map(port).collect(),
            ..ServerReport::default()
        }
    }
}

/// See the module's text.
struct Cloud {
    hub: Hub,
    control: Arc<Control>,
    client: Client,
    server: String,
    agent: tokio::sync::Mutex<Agent>,
    folder: tempfile::TempDir,
}

impl Cloud {
    async fn connect(&self, db: &Db) {
        let mut agent = self.agent.lock().await;
        let holdings = agent.servers.iter().map(|(id, held)| hostlink::Holding {
            server_id: id.clone(),
            generation: held.generation,
            removed: held.removed,
        });
        let hello = Hello {
            host_id: HOST.into(),
            host_name: "h1".into(),
            capabilities: Some(Capabilities { vcpus: 4, memory_mib: 4096, disk_gib: 100, ..Capabilities::default() }),
            holdings: holdings.collect(),
            ..Hello::default()
        };
        let (outgoing, queue) = mpsc::channel(16);
        outgoing.send(message(from_agent::Message::Hello(hello))).await.unwrap();
        let endpoint = Endpoint::Unix(self.folder.path().join("agents.sock"));
        let mut link = endpoint.connect().await.unwrap();
        let incoming = link.connect(ReceiverStream::new(queue)).await.unwrap().into_inner();
        self.control.joined.notified().await;
        agent.link = Some((outgoing, incoming));
        // It lives on while the clock jumps.
        let mut tx = db.begin().await.unwrap();
        store::query("update hosts set seen_at = $1").bind(i64::MAX).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn disconnect(&self) {
        if self.agent.lock().await.link.take().is_some() {
            self.control.left.notified().await;
        }
    }

    /// Everything that the host was sent so far: a question is asked, and what came before it has come.
    async fn receive(&self, agent: &mut Agent) -> Vec<Command> {
        let mut commands = std::mem::take(&mut *self.control.inbox.lock().unwrap());
        let Some((outgoing, incoming)) = &mut agent.link else { return Vec::new() };
        let (hub, host) = (self.hub.clone(), HostId::new(HOST));
        let asked = tokio::spawn(async move { hub.console_log(&host, "barrier", 1).await });
        loop {
            let received = tokio::time::timeout(Duration::from_secs(30), incoming.message()).await;
            match received.unwrap().unwrap().unwrap().message.unwrap() {
                to_agent::Message::EnsureServer(spec) => commands.push(Command::Ensure(Box::new(spec))),
                to_agent::Message::RemoveServer(removal) => commands.push(Command::Remove(removal)),
                to_agent::Message::Question(question) => {
                    let text = Some(answer::Answer::ConsoleText(ConsoleText::default()));
                    let answer = Answer { id: question.id, answer: text };
                    outgoing.send(message(from_agent::Message::Answer(answer))).await.unwrap();
                    break;
                }
                to_agent::Message::Welcome(_) | to_agent::Message::ReportAck(_) => {}
            }
        }
        asked.await.unwrap().unwrap();
        commands
    }

    /// Once it runs, it is stopped: so the scenario has a change in it.
    async fn stop_once(&self) -> bool {
        let path = format!("/compute/v2.1/servers/{}", self.server);
        let server = self.client.get(&path).await;
        let runs =
            server.json["server"]["status"] == "ACTIVE" && server.json["server"]["OS-EXT-STS:task_state"].is_null();
        runs && self.client.post(&format!("{path}/action"), json!({"os-stop": null})).await.status.is_success()
    }
}

fn message(message: from_agent::Message) -> FromAgent {
    FromAgent { message: Some(message) }
}

impl World for Cloud {
    fn set_reachable<'a>(&'a self, db: &'a Db, reachable: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if reachable {
                self.connect(db).await
            } else {
                self.disconnect().await
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, _: &'a Db) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let deleted = self.client.delete(&format!("/compute/v2.1/servers/{}", self.server)).await;
            assert!([204, 404].contains(&deleted.status.as_u16()), "{:?}", deleted.json);
            Ok(())
        })
    }

    fn act<'a>(&'a self, _: &'a Db) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let mut agent = self.agent.lock().await;
            let commands = self.receive(&mut agent).await;
            let changed: Vec<String> = commands.into_iter().filter_map(|command| agent.obey(command)).collect();
            for id in &changed {
                self.control.server_report(&HostId::new(HOST), &agent.report(id)).await?;
            }
            Ok(!changed.is_empty() || self.stop_once().await)
        })
    }

    fn check<'a>(&'a self, db: &'a Db, rest: Rest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let held = self.agent.lock().await.servers.get(&self.server).cloned().unwrap_or_default();
            let facts = facts(db, &self.server).await;
            let expected = match rest {
                Rest::Settled => Facts { status: "SHUTOFF".into(), allocations: 1, used: 1, ports: 1, open_actions: 0 },
                Rest::Deleted => Facts { status: "DELETED".into(), ..Facts::default() },
            };
            let is_there = held.generation > 0 && !held.removed;
            if facts == expected && is_there == (rest == Rest::Settled) && !held.running {
                return Ok(());
            }
            Err(format!("{facts:?} instead of {expected:?}; on the host: {is_there}"))
        })
    }
}

#[derive(Debug, Default, PartialEq)]
struct Facts {
    status: String,
    allocations: i64,
    used: i64,
    ports: i64,
    open_actions: i64,
}

async fn facts(db: &Db, server: &str) -> Facts {
    let mut conn = db.read().await.unwrap();
    let row = store::query(
        "select s.status, (select count(*) from allocations) as allocations, \
         (select count(*) from ports p where p.device_id = s.id and p.deleted_at is null) as ports, \
         (select count(*) from instance_actions a where a.server_id = s.id and a.finish_at is null) as open_actions \
         from servers s where s.id = $1",
    )
    .bind(server)
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    Facts {
        status: row.text("status").unwrap(),
        allocations: row.int("allocations").unwrap(),
        used: store::quotas::used(&mut conn, &ProjectId::new("blue"), "instances").await.unwrap(),
        ports: row.int("ports").unwrap(),
        open_actions: row.int("open_actions").unwrap(),
    }
}
