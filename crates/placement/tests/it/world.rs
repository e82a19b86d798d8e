//! A cloud that is nothing but placement, and two hosts.

use std::future::Future;

use model::id::{HostId, ServerId};
use serde_json::json;
use store::compute::{
    allocations::{self, Allocation, Ratios},
    hosts::{self, Facts},
};
use testkit::{Client, TestDb, auth, for_each_db, virtual_clock};

pub const BIG: &str = "11111111-1111-4111-8111-111111111111";
pub const SMALL: &str = "22222222-2222-4222-8222-222222222222";
pub const SERVER: &str = "33333333-3333-4333-8333-333333333333";

pub struct World {
    pub db: TestDb,
    anyone: Client,
}

pub async fn on_each_db<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    for_each_db(virtual_clock, |db| async { test(World::new(db).await).await }).await;
}

impl World {
    async fn new(db: TestDb) -> Self {
        let ratios = Ratios { vcpus: 400, memory: 100, disk: 100 };
        let anyone = auth::client(&db, vec![placement::service(ratios)]);
        let mut tx = db.begin().await.unwrap();
        for (id, name, vcpus) in [(BIG, "big", 16), (SMALL, "small", 2)] {
            let facts = Facts { vcpus, memory_mib: 1024 * vcpus, disk_gib: 100, ..Facts::default() };
            hosts::joined(&mut tx, &HostId::new(id), name, "nova", &facts).await.unwrap();
        }
        tx.commit().await.unwrap();
        Self { db, anyone }
    }

    /// Somebody who speaks the newest version.
    pub fn user(&self, role: &str) -> Client {
        self.at(role, "1.39")
    }

    pub fn at(&self, role: &str, version: &str) -> Client {
        let client = self.anyone.clone().token(&auth::token("someone", role, "blue"));
        client.microversion(&format!("placement {version}"))
    }

    pub fn admin(&self) -> Client {
        self.user("admin")
    }

    /// As compute claims for a server.
    pub async fn claim(&self, vcpus: i64) {
        let mut tx = self.db.begin().await.unwrap();
        allocations::lock(&mut tx).await.unwrap();
        let claim = Allocation {
            server_id: ServerId::new(SERVER),
            host_id: HostId::new(BIG),
            vcpus,
            memory_mib: 512,
            disk_gib: 0,
        };
        allocations::insert(&mut tx, &claim).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn give_back(&self) {
        let mut tx = self.db.begin().await.unwrap();
        allocations::delete(&mut tx, &ServerId::new(SERVER)).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// What compute would take of the host now.
pub async fn used(world: &World, host: &str) -> (i64, i64) {
    let usages = allocations::usages(&mut world.db.read().await.unwrap()).await.unwrap();
    let of = usages.into_iter().find(|usage| usage.host.id.as_str() == host).unwrap();
    (of.vcpus, of.memory_mib)
}

pub async fn provider(admin: &Client, name: &str) -> String {
    let made = admin.post("/placement/resource_providers", json!({"name": name})).await.expect(200);
    made.json["uuid"].as_str().unwrap().to_owned()
}
