//! What the tests of flavors, key pairs, quotas and hosts share: the service without flows and agents, two projects, and
//! a host that joined.

use model::id::{DomainId, HostId, ProjectId};
use serde_json::Value;
use store::{
    Db,
    compute::hosts::{self, Facts},
    identity::{domains, projects},
};
use testkit::{Client, auth};

/// The id of the host [`join`] adds.
pub const HOST: &str = "0e2f64a8-3a0a-4a3a-9c0e-5d2f0c9d7b11";

/// The service over HTTP.
pub struct Cloud {
    client: Client,
}

impl Cloud {
    /// With the default flavors, and projects `blue` and `red`.
    pub async fn new(db: &Db) -> Self {
        let folder = std::env::temp_dir();
        let state = compute::State::new(db.clone(), hostlink::server::Hub::default(), folder);
        compute::bootstrap(&state).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let domain = domains::Domain {
            id: DomainId::new("default"),
            name: "Default".into(),
            description: String::new(),
            enabled: true,
            tags: Vec::new(),
            options: Default::default(),
            extra: Default::default(),
            created_at: tx.now(),
        };
        domains::insert(&mut tx, &domain).await.unwrap();
        for name in ["blue", "red"] {
            let project = projects::Project {
                id: ProjectId::new(name),
                domain_id: domain.id.clone(),
                parent_id: None,
                name: name.into(),
                description: String::new(),
                enabled: true,
                generation: 0,
                tags: Vec::new(),
                options: Default::default(),
                extra: Default::default(),
                created_at: tx.now(),
            };
            projects::insert(&mut tx, &project).await.unwrap();
        }
        tx.commit().await.unwrap();
        Self { client: auth::client(db, vec![compute::service(state)]) }
    }

    /// A client of this user with this role in this project, at this microversion.
    pub fn as_(&self, user: &str, role: &str, project: &str, version: &str) -> Client {
        self.client.clone().token(&auth::token(user, role, project)).microversion(&format!("compute {version}"))
    }

    /// An administrator.
    pub fn admin(&self, version: &str) -> Client {
        self.as_("root", "admin", "admin", version)
    }

    /// A member of `blue`.
    pub fn blue(&self, version: &str) -> Client {
        self.as_("alice", "member", "blue", version)
    }

    /// A member of `red`.
    pub fn red(&self, version: &str) -> Client {
        self.as_("bob", "member", "red", version)
    }
}

/// Lets a host join, as its agent would.
pub async fn join(db: &Db) {
    let facts = Facts {
        hypervisor_type: "QEMU".into(),
        hypervisor_version: 7_002_000,
        vcpus: 8,
        memory_mib: 16384,
        disk_gib: 100,
        cpu_model: "x".into(),
        addresses: vec!["192.0.2.1".into()],
        ..Facts::default()
    };
    let mut tx = db.begin().await.unwrap();
    hosts::joined(&mut tx, &HostId::new(HOST), "h1", "nova", &facts).await.unwrap();
    tx.commit().await.unwrap();
}

/// The texts under a key in a list.
pub fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

/// An object's keys.
pub fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}
