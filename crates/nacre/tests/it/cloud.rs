//! Every service in one router, as `control_plane.rs` wires them; nobody drives the flows, and no host is there.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use drivers::network::{Northbound, fake::FakeNetwork};
use hostlink::server::Hub;
use identity::{Bootstrap, MasterKey, Password, STANDARD_SERVICES};
use model::id::ProjectId;
use network::bootstrap::External;
use serde_json::json;
use store::Db;
use tempfile::TempDir;
use testkit::{Client, TestDb};
use web::{App, Authenticator, Service, policy::Policy};

const PASSWORD: &str = "of both users";

/// The cloud, and who comes to it.
pub struct Cloud {
    pub app: Arc<App>,
    pub machines: Vec<Arc<dyn flow::Machine>>,
    /// Without a token.
    pub anyone: Client,
    pub admin_project: String,
    pub admin_user: String,
    pub demo_project: String,
    _db: TestDb,
    _folder: TempDir,
}

impl Cloud {
    pub async fn new() -> Self {
        Self::with(|identity| identity).await
    }

    /// With others than the identity service saying who a token is.
    pub async fn with<A: Authenticator + 'static>(whose: impl FnOnce(Arc<identity::State>) -> Arc<A>) -> Self {
        let (db, folder) = (TestDb::sqlite().await, tempfile::tempdir().unwrap());
        let identity = identity::State::open(db.clone(), MasterKey::random()).await.unwrap();
        let image = image::State::open(folder.path()).await.unwrap();
        let compute = compute::State::new(db.clone(), Hub::default(), folder.path().to_owned());
        let northbound: Arc<dyn Northbound> = Arc::new(FakeNetwork::default());
        let users = identity::bootstrap(&identity, &first_users()).await.unwrap();
        network::bootstrap_external(&db, &external(users.admin_project.clone())).await.unwrap();
        compute::bootstrap(&compute).await.unwrap();
        let machines = [
            image::machines(image.clone()),
            network::machines(&northbound, network::Options::default()),
            compute::machines(&compute),
        ];
        let services = vec![
            identity::service(identity.clone()),
            identity::own_service(identity.clone()),
            image::service(image),
            network::service(),
            placement::service(compute.config.ratios()),
            compute::service(compute),
            ::cloud::service(::cloud::State::new(Db::clone(&db))),
        ];
        let rules: Vec<_> = services.iter().map(|service| service.policy).collect();
        let policy = Policy::new(&rules, &BTreeMap::new()).unwrap();
        let app = App::new(db.clone(), services, whose(identity), policy, "http").unwrap();
        Self {
            app: app.clone(),
            machines: machines.into_iter().flatten().collect(),
            anyone: Client::new(tower::service_fn(move |request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(app.handle(request).await) }
            })),
            admin_project: users.admin_project.to_string(),
            admin_user: users.admin_user.to_string(),
            demo_project: users.demo_project.unwrap().to_string(),
            _db: db,
            _folder: folder,
        }
    }

    pub fn services(&self) -> &[Service] {
        self.app.services()
    }

    /// A client with a token of this user, `admin` or `demo`, for the project of the same name; newest microversion.
    pub async fn log_in(&self, name: &str) -> Client {
        let domain = json!({"id": "default"});
        let user = json!({"name": name, "domain": domain, "password": PASSWORD});
        let response = self
            .anyone
            .post(
                "/identity/v3/auth/tokens",
                json!({"auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": {"name": name, "domain": domain}},
                }}),
            )
            .await
            .expect(201);
        self.anyone.clone().token(response.header("x-subject-token").unwrap()).microversion("compute latest")
    }
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn first_users() -> Bootstrap {
    Bootstrap {
        admin_password: Password::new(PASSWORD),
        demo_password: Some(Password::new(PASSWORD)),
        region: "RegionOne".to_owned(),
        public_url: "http://nacre.test".to_owned(),
        services: STANDARD_SERVICES.to_vec(),
    }
}

fn external(project_id: ProjectId) -> External {
    External {
        name: "public".to_owned(),
        project_id,
        physical_network: "public".to_owned(),
        cidr: "172.24.4.0/24".parse().unwrap(),
        gateway: "172.24.4.1".parse().unwrap(),
        pool: ("172.24.4.2".parse().unwrap(), "172.24.4.254".parse().unwrap()),
    }
}
