#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a panic is how tests fail")]
//! The network service over its API, on both databases, with OVN's stand-in behind its flows.

mod address_groups;
mod floating_ips;
mod flows;
mod ipv6;
mod networks;
mod pools;
mod ports;
mod qos;
mod quotas;
mod routers;
mod security_groups;
mod store_api;
mod subnets;
mod tags;
mod tenants;
mod trunks;

use std::sync::Arc;

use drivers::network::{Northbound, fake::FakeNetwork};
use flow::{Config, Engine, Stepped};
use model::id::{NetworkId, ProjectId};
use network::bootstrap::External;
use serde_json::{Value, json};
use testkit::{Client, TestDb, auth, for_each_db, virtual_clock};

/// A cloud with an external network, two projects (`blue`, `red`) and an administrator.
pub struct World {
    pub db: TestDb,
    pub fake: FakeNetwork,
    pub engine: Engine,
    pub admin: Client,
    pub blue: Client,
    pub red: Client,
    pub reader: Client,
    pub public: NetworkId,
}

pub fn external() -> External {
    External {
        name: "public".into(),
        project_id: ProjectId::new("admin"),
        physical_network: "public".into(),
        cidr: "172.24.4.0/24".parse().unwrap(),
        gateway: "172.24.4.1".parse().unwrap(),
        pool: ("172.24.4.10".parse().unwrap(), "172.24.4.250".parse().unwrap()),
    }
}

impl World {
    pub async fn new(db: TestDb) -> Self {
        let fake = FakeNetwork::default();
        let northbound: Arc<dyn Northbound> = Arc::new(fake.clone());
        let machines = network::machines(&northbound, network::Options::default());
        let engine = Engine::new(db.clone(), machines, Config::default()).unwrap();
        let public = network::bootstrap_external(&db, &external()).await.unwrap();
        let client = auth::client(&db, vec![network::service()]);
        let with = |user: &str, role: &str, project: &str| client.clone().token(&auth::token(user, role, project));
        Self {
            admin: with("root", "admin", "admin"),
            blue: with("bob", "member", "blue"),
            red: with("rita", "member", "red"),
            reader: with("ron", "reader", "blue"),
            db,
            fake,
            engine,
            public,
        }
    }

    /// Lets all flows run until they rest.
    pub async fn settle(&self) -> Vec<Stepped> {
        self.engine.settle().await.unwrap()
    }

    /// What the doctor says; nothing when all is well.
    pub async fn doctor(&self) -> Vec<String> {
        let findings = network::doctor(&self.db, &self.fake).await.unwrap();
        findings.iter().map(ToString::to_string).collect()
    }

    /// A network with the subnet 10.0.0.0/24.
    pub async fn network(&self, client: &Client) -> (String, String) {
        let network = create(client, "networks", json!({"network": {"name": "n"}})).await;
        let network = id(&network);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"}});
        let subnet = create(client, "subnets", subnet).await;
        (network, id(&subnet))
    }

    /// A network with a subnet behind a router to the outside: network, subnet, router.
    pub async fn connected(&self, client: &Client) -> (String, String, String) {
        let (network, subnet) = self.network(client).await;
        let router = json!({"router": {"name": "r", "external_gateway_info": {"network_id": self.public}}});
        let router = id(&create(client, "routers", router).await);
        let path = path(&format!("routers/{router}/add_router_interface"));
        client.put(&path, json!({"subnet_id": subnet})).await.expect(200);
        (network, subnet, router)
    }

    /// A port on the network.
    pub async fn port(&self, client: &Client, network: &str) -> Value {
        create(client, "ports", json!({"port": {"network_id": network}})).await
    }
}

/// Runs a test in a fresh cloud on each database. Shared, so that a test which names only a part of it keeps the rest.
pub async fn in_a_cloud<F: Future<Output = ()>>(test: impl Fn(Arc<World>) -> F) {
    for_each_db(virtual_clock, |db| async { test(Arc::new(World::new(db).await)).await }).await;
}

/// The same on SQLite alone, where the database makes no difference.
pub async fn in_a_small_cloud<F: Future<Output = ()>>(test: impl Fn(Arc<World>) -> F) {
    test(Arc::new(World::new(TestDb::sqlite().await).await)).await;
}

pub fn path(rest: &str) -> String {
    format!("/networking/v2.0/{rest}")
}

/// Creates something; its body without the envelope.
pub async fn create(client: &Client, collection: &str, body: Value) -> Value {
    let reply = client.post(&path(collection), body).await.expect(201);
    only(reply.json)
}

pub async fn show(client: &Client, rest: &str) -> Value {
    only(client.get(&path(rest)).await.expect(200).json)
}

/// The ids of a list, in order.
pub async fn ids(client: &Client, rest: &str) -> Vec<String> {
    let json = client.get(&path(rest)).await.expect(200).json;
    let (_, list) = json.as_object().unwrap().iter().find(|(key, _)| !key.ends_with("_links")).unwrap();
    list.as_array().unwrap().iter().map(id).collect()
}

/// What is inside an envelope of one key.
pub fn only(json: Value) -> Value {
    let Value::Object(map) = json else { panic!("no object: {json}") };
    assert_eq!(map.len(), 1, "{map:?}");
    map.into_iter().next().unwrap().1
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

/// The type in Neutron's fault.
pub fn fault(reply: &testkit::Response) -> &str {
    reply.json["NeutronError"]["type"].as_str().unwrap_or_else(|| panic!("no fault: {}", reply.json))
}
