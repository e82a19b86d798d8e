//! A cloud that is nothing but the image service.

use std::{future::Future, path::PathBuf, sync::Arc};

use axum::body::Body;
use flow::{Config, Engine};
use http::Method;
use image::State;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Client, Response, TestDb, auth, for_each_db, virtual_clock};

pub struct World {
    pub db: TestDb,
    pub state: Arc<State>,
    pub folder: TempDir,
    pub engine: Engine,
    anyone: Client,
}

/// Runs the test on every database, in a new world each time.
pub async fn on_each_db<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    for_each_db(virtual_clock, |db| async { test(World::new(db).await).await }).await;
}

impl World {
    pub async fn new(db: TestDb) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            image::Config { download_networks: vec!["127.0.0.0/8".parse().unwrap()], ..image::Config::default() };
        let state = State::with_config(folder.path(), config).await.unwrap();
        let anyone = auth::client(&db, vec![image::service(state.clone())]);
        let config = Config { seed: Some(1), ..Config::default() };
        let engine = Engine::new(db.clone(), image::machines(state.clone()), config).unwrap();
        Self { db, state, folder, engine, anyone }
    }

    /// Someone with a role in a project.
    pub fn user(&self, role: &str, project: &str) -> Client {
        self.anyone.clone().token(&auth::token("someone", role, project))
    }

    /// A member of the project `blue`.
    pub fn blue(&self) -> Client {
        self.user("member", "blue")
    }

    /// A member of the project `red`.
    pub fn red(&self) -> Client {
        self.user("member", "red")
    }

    pub fn admin(&self) -> Client {
        self.user("admin", "admin")
    }

    pub fn nobody(&self) -> Client {
        self.anyone.clone()
    }

    /// Names of all files below the image directory.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for image in std::fs::read_dir(self.folder.path()).unwrap() {
            let image = image.unwrap();
            for file in std::fs::read_dir(image.path()).unwrap() {
                let file = file.unwrap().file_name().into_string().unwrap();
                files.push(format!("{}/{file}", image.file_name().into_string().unwrap()));
            }
        }
        files.sort();
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets flows and jobs run until the image's import is over.
    pub async fn imported(&self, id: &str) {
        let limit = std::time::Duration::from_secs(120);
        tokio::time::timeout(limit, async {
            loop {
                self.engine.settle().await.unwrap();
                let image = store::images::get(&mut self.db.read().await.unwrap(), &model::id::ImageId::new(id)).await;
                if image.unwrap().is_none_or(|image| image.status != store::images::Status::Importing) {
                    return;
                }
                self.db.flows_due().await;
            }
        })
        .await
        .unwrap();
    }

    /// What the doctor says.
    pub async fn doctor(&self) -> Vec<String> {
        let findings = image::doctor(&self.db, &self.state).await.unwrap();
        findings.iter().map(ToString::to_string).collect()
    }
}

/// Creates an image; its id.
pub async fn create(client: &Client, body: Value) -> String {
    let image = client.post("/image/v2/images", body).await.expect(201);
    image.json["id"].as_str().unwrap().to_owned()
}

/// Creates an image of this format and visibility, without data.
pub async fn queued(client: &Client, disk_format: &str, visibility: &str) -> String {
    let body = json!({
        "name": "an image", "disk_format": disk_format, "container_format": "bare", "visibility": visibility
    });
    create(client, body).await
}

/// Creates a raw image with this content.
pub async fn active(client: &Client, content: &[u8], visibility: &str) -> String {
    let id = queued(client, "raw", visibility).await;
    upload(client, &id, Body::from(content.to_vec())).await.expect(204);
    id
}

pub async fn upload(client: &Client, id: &str, body: Body) -> Response {
    let path = format!("/image/v2/images/{id}/file");
    client.send_body(Method::PUT, &path, Some("application/octet-stream"), body).await
}

pub async fn show(client: &Client, id: &str) -> Response {
    client.get(&format!("/image/v2/images/{id}")).await
}

pub async fn patch(client: &Client, id: &str, changes: Value) -> Response {
    let kind = Some("application/openstack-images-v2.1-json-patch");
    client.send_body(Method::PATCH, &format!("/image/v2/images/{id}"), kind, Body::from(changes.to_string())).await
}
