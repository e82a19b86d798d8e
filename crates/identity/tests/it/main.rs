//! The identity service over its real router, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod assignment;
mod bootstrap;
mod catalog;
mod credential;
mod delegation;
mod domain;
mod domain_config;
mod endpoint_group;
mod federation;
mod group;
mod ldap;
mod limit;
mod password;
mod policies;
mod project;
mod provider;
mod role;
mod security;
mod servers;
mod token;
mod user;

use std::{collections::BTreeMap, sync::Arc};

use identity::{Bootstrap, Compliance, MasterKey, Password, State, bootstrap::STANDARD_SERVICES};
use serde_json::{Value, json};
use store::Db;
use testkit::{Client, Response, TestDb};
use web::{App, policy::Policy};

pub const ADMIN_PASSWORD: &str = "the administrator's";
pub const DEMO_PASSWORD: &str = "the demonstrator's";

/// A bootstrapped cloud with nothing but identity in it.
pub struct Cloud {
    pub db: TestDb,
    pub master: MasterKey,
    pub state: Arc<State>,
    pub anyone: Client,
}

impl Cloud {
    pub async fn new(db: TestDb) -> Self {
        Self::with(db, Compliance::default()).await
    }

    /// The same with other settings for logins.
    pub async fn with(db: TestDb, compliance: Compliance) -> Self {
        let master = MasterKey::random();
        let (state, anyone) = server_with(db.clone(), master.clone(), compliance).await;
        identity::bootstrap(&state, &wanted("http://nacre.test")).await.unwrap();
        Self { db, master, state, anyone }
    }

    /// A client with a token of the administrator, for the project admin.
    pub async fn admin(&self) -> Client {
        let scope = project_scope("admin");
        self.with_token(&by_password("admin", ADMIN_PASSWORD), Some(scope)).await
    }

    /// A client with a token of the demonstrator, for the project demo.
    pub async fn demo(&self) -> Client {
        self.with_token(&by_password("demo", DEMO_PASSWORD), Some(project_scope("demo"))).await
    }

    pub async fn with_token(&self, identity: &Value, scope: Option<Value>) -> Client {
        let response = self.log_in(identity, scope).await.expect(201);
        self.anyone.clone().token(response.header("x-subject-token").unwrap())
    }

    pub async fn log_in(&self, identity: &Value, scope: Option<Value>) -> Response {
        log_in(&self.anyone, identity, scope).await
    }
}

pub async fn log_in(client: &Client, identity: &Value, scope: Option<Value>) -> Response {
    let mut auth = json!({ "identity": identity });
    if let Some(scope) = scope {
        auth["scope"] = scope;
    }
    client.post("/identity/v3/auth/tokens", json!({ "auth": auth })).await
}

/// Runs the test on a new cloud over each selected database.
pub async fn on_each_db<F: Future<Output = ()>>(test: impl Fn(Cloud) -> F) {
    testkit::for_each_db(testkit::virtual_clock, |db| async { test(Cloud::new(db).await).await }).await;
}

/// The same with other settings for logins.
pub async fn on_each_db_with<F: Future<Output = ()>>(compliance: &Compliance, test: impl Fn(Cloud) -> F) {
    let run = |db| async { test(Cloud::with(db, compliance.clone()).await).await };
    testkit::for_each_db(testkit::virtual_clock, run).await;
}

/// One control plane over the database.
pub async fn server(db: Db, master: MasterKey) -> (Arc<State>, Client) {
    server_with(db, master, Compliance::default()).await
}

async fn server_with(db: Db, master: MasterKey, compliance: Compliance) -> (Arc<State>, Client) {
    let state = State::open_with(db.clone(), master, compliance).await.unwrap();
    let policy = Policy::new(&[identity::policy::RULES, identity::policy::OWN_RULES], &BTreeMap::new()).unwrap();
    let app = App::new(
        db,
        vec![identity::service(state.clone()), identity::own_service(state.clone())],
        state.clone(),
        policy,
        "http",
    )
    .unwrap();
    let client = Client::new(tower::service_fn(move |request| {
        let app = app.clone();
        async move { Ok(app.handle(request).await) }
    }));
    (state, client)
}

pub fn wanted(public_url: &str) -> Bootstrap {
    Bootstrap {
        admin_password: Password::new(ADMIN_PASSWORD),
        demo_password: Some(Password::new(DEMO_PASSWORD)),
        region: "RegionOne".to_owned(),
        public_url: public_url.to_owned(),
        services: STANDARD_SERVICES.to_vec(),
    }
}

pub fn by_password(name: &str, password: &str) -> Value {
    json!({ "methods": ["password"],
        "password": { "user": { "name": name, "domain": { "id": "default" }, "password": password } } })
}

pub fn by_token(token: &str) -> Value {
    json!({ "methods": ["token"], "token": { "id": token } })
}

pub fn project_scope(name: &str) -> Value {
    json!({ "project": { "name": name, "domain": { "name": "Default" } } })
}

pub fn token_of(response: &Response) -> String {
    response.header("x-subject-token").unwrap().to_owned()
}

/// Makes a user in the default domain; its id.
pub async fn make_user(admin: &Client, name: &str) -> String {
    let body = json!({ "user": { "name": name, "password": format!("{name}'s") } });
    id_in(&admin.post("/identity/v3/users", body).await.expect(201), "user")
}

/// Makes a project in the default domain; its id.
pub async fn make_project(admin: &Client, name: &str) -> String {
    id_in(&admin.post("/identity/v3/projects", json!({ "project": { "name": name } })).await.expect(201), "project")
}

pub async fn role_id(admin: &Client, name: &str) -> String {
    let found = admin.get(&format!("/identity/v3/roles?name={name}")).await.expect(200);
    found.json["roles"][0]["id"].as_str().unwrap().to_owned()
}

/// Gives a user a role somewhere: `projects/ID`, `domains/ID`, `system`.
pub async fn grant(admin: &Client, user: &str, role: &str, target: &str) {
    let role = role_id(admin, role).await;
    admin.send(http::Method::PUT, &format!("/identity/v3/{target}/users/{user}/roles/{role}"), None).await.expect(204);
}

pub fn id_in(response: &Response, key: &str) -> String {
    response.json[key]["id"].as_str().unwrap().to_owned()
}

pub fn names(response: &Response, key: &str) -> Vec<String> {
    let items = response.json[key].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}
