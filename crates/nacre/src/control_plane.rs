//! The control plane: services, flows and sweeps over one database, the API's listener, the agents' listener.

use std::{fs, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, anyhow};
use drivers::network::Northbound;
use futures_util::future::BoxFuture;
use hostlink::server::{Hub, UnixListener};
use model::{Clock, id::ProjectId};
use network::bootstrap::External;
use serde_json::{Value, json};
use store::{
    Db,
    journal::{self, Retention},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use web::{Access, App, FaultStyle, Reply, Route, Service, limit::Limits};

use crate::{
    admin::{self, Answers, Ask, doctor},
    cli::{CloudOptions, LoginOptions, RequestOptions},
    clouds::REGION,
    engines, host,
    layout::Layout,
    policy::{self, PolicyFile},
    preflight,
    secrets::Secrets,
    up::public_url,
};

/// A control plane that is ready to run.
pub struct ControlPlane {
    db: Db,
    app: Arc<App>,
    engine: flow::Engine,
    services: Services,
    hub: Hub,
    api: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    agents: UnixListener,
    admin: tokio::net::UnixListener,
    expects_agent: bool,
    policy_file: Option<Arc<PolicyFile>>,
    retention: Retention,
}

/// Each service's shared state.
#[derive(Clone)]
struct Services {
    identity: Arc<identity::State>,
    image: Arc<image::State>,
    northbound: Arc<dyn Northbound>,
    compute: Arc<compute::State>,
    cloud: Arc<cloud::State>,
}

/// Opens everything and makes what a cloud must have: tables, first users, flavors, the external network.
pub async fn start(
    layout: &Layout,
    options: &CloudOptions,
    secrets: &Secrets,
    drivers: &host::Drivers,
    expects_agent: bool,
) -> anyhow::Result<ControlPlane> {
    // The port first: a second control plane must fail before it touches anything.
    let api = preflight::listen(options).await?;
    let db = open_database(layout, options).await?;
    let hub = Hub::default();
    let services = Services {
        identity: identity::State::open_with(db.clone(), master_key(layout)?, compliance(&options.logins)?).await?,
        image: image_state(layout, options).await.context("opening the images' folder")?,
        northbound: drivers.northbound()?,
        compute: compute::State::new(db.clone(), hub.clone(), layout.images()),
        cloud: cloud::State::new(db.clone()),
    };
    services
        .identity
        .configure_sso(web::Outbound::new(options.sso.outbound_allow.clone()), options.sso.trusted_dashboards.clone());
    hub.take_images(image::intake(db.clone(), services.image.clone()));
    bootstrap(&db, &services, options, secrets).await?;
    let machines = [
        image::machines(services.image.clone()),
        network::machines(&services.northbound, network::Options::default()),
        compute::machines(&services.compute),
    ];
    let engine = flow::Engine::new(db.clone(), machines.into_iter().flatten().collect(), flow::Config::default())?;
    let scheme = if options.tls_cert.is_some() { "https" } else { "http" };
    let tables = services.tables();
    let policy = policy::load(options.policy_file.as_deref())?;
    let authenticator = services.identity.clone();
    let app = App::new(db.clone(), tables, authenticator, policy, scheme)
        .map_err(|why| anyhow!("wiring the services: {why}"))?;
    app.limit(limits(&options.requests), options.requests.trusted_proxies.clone());
    Ok(ControlPlane {
        db,
        app,
        engine,
        services,
        hub,
        api,
        tls: tls(options)?,
        agents: UnixListener::bind(&layout.hostlink())?,
        admin: admin::bind(layout)?,
        expects_agent,
        policy_file: options.policy_file.as_deref().map(PolicyFile::new),
        retention: options.requests.retention(),
    })
}

impl ControlPlane {
    /// Answers requests and drives flows until told to stop.
    pub async fn run(self, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that nobody can tell any more: stop too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let resets = network::follow_resets(self.db.clone(), Arc::clone(&self.services.northbound));
        let (db, retention) = (self.db.clone(), self.retention);
        let answers = Arc::new(Operator {
            db: self.db,
            services: self.services.clone(),
            hub: self.hub.clone(),
            expects_agent: self.expects_agent,
            app: self.app.clone(),
            policy_file: self.policy_file.clone(),
        });
        let control = compute::control_plane(&self.services.compute);
        let mut tasks = JoinSet::new();
        tasks.spawn(admin::serve(self.admin, answers, stopped.clone()));
        if let Some(file) = self.policy_file {
            let (app, policy_until) = (self.app.clone(), until(stopped.clone()));
            tasks.spawn(async move { file.follow(&app, policy_until).await });
        }
        tasks.spawn(web::listen::serve(self.api, self.app, self.tls, until(stopped.clone())));
        let (hub, agents, agents_until) = (self.hub, self.agents, until(stopped.clone()));
        tasks.spawn(async move {
            if let Err(error) = agents.serve(hub, control, agents_until).await {
                tracing::error!(%error, "the agents' listener ended");
            }
        });
        let (engine, flows_until) = (self.engine, until(stopped.clone()));
        tasks.spawn(async move { engine.run(flows_until).await });
        let (sweeps, sweeps_until) = (compute::sweeps(&self.services.compute), until(stopped.clone()));
        tasks.spawn(async move {
            tokio::select! {
                () = sweeps_until => {}
                () = sweeps => {}
            }
        });
        let resets_until = until(stopped.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = resets_until => {}
                () = resets => {}
            }
        });
        let journal_until = until(stopped.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = journal_until => {}
                () = journal::keep(&db, retention) => {}
            }
        });
        tasks.spawn(cloud::close_when(self.services.cloud.clone(), stopped.clone()));
        while let Some(ended) = tasks.join_next().await {
            ended.context("a part of the control plane")?;
            if !*stopped.borrow() {
                return Err(anyhow!("a part of the control plane ended by itself"));
            }
        }
        Ok(())
    }
}

impl Services {
    fn tables(&self) -> Vec<Service> {
        vec![
            identity::service(self.identity.clone()),
            identity::own_service(self.identity.clone()),
            image::service(self.image.clone()),
            network::service(),
            compute::service(self.compute.clone()),
            placement::service(self.compute.config.ratios()),
            cloud::service(self.cloud.clone()),
            root(),
        ]
    }
}

async fn image_state(layout: &Layout, options: &CloudOptions) -> std::io::Result<Arc<image::State>> {
    let download_networks = options.image_download_networks.clone();
    image::State::with_config(layout.images(), image::Config { download_networks, ..image::Config::default() }).await
}

/// Opens the database and brings its tables up to date.
async fn open_database(layout: &Layout, options: &CloudOptions) -> anyhow::Result<Db> {
    let url = layout.database_url(options.database.as_deref());
    if options.database.is_none() && !layout.database().exists() {
        // Made by us before SQLite does, so that only root can read it.
        crate::layout::write_private(&layout.database(), b"").context("making the database file")?;
    }
    // The URL may hold a password: it is not shown.
    let db = Db::connect(&url, Clock::system()).await.context("opening the database")?;
    db.migrate().await.context("bringing the database's tables up to date")?;
    Ok(db)
}

/// `nacre admin migrate`.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn migrate(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    layout.create()?;
    open_database(layout, options).await?.close().await;
    println!("The database's tables are up to date.");
    Ok(())
}

/// What a cloud must have before its first request. Run again, it changes nothing.
async fn bootstrap(db: &Db, services: &Services, options: &CloudOptions, secrets: &Secrets) -> anyhow::Result<()> {
    let users = identity::bootstrap(
        &services.identity,
        &identity::Bootstrap {
            admin_password: identity::Password::new(secrets.admin_password.as_str()),
            demo_password: Some(identity::Password::new(secrets.demo_password.as_str())),
            region: REGION.to_owned(),
            public_url: public_url(options),
            services: identity::STANDARD_SERVICES.to_vec(),
        },
    )
    .await
    .context("making the first users")?;
    let external = external(options, users.admin_project).context("--external-cidr has too few addresses")?;
    network::bootstrap_external(db, &external).await.context("making the external network")?;
    network::ensure_sweep(db).await.context("making the network's sweep")?;
    compute::bootstrap(&services.compute).await.context("making the first flavors")?;
    Ok(())
}

/// The external network: this host holds the first address, routers and floating IPs get the others.
fn external(options: &CloudOptions, project_id: ProjectId) -> Option<External> {
    let (gateway, last) = (engines::gateway(options.external_cidr)?.addr(), options.external_cidr.hosts().last()?);
    let first = Ipv4Addr::from(u32::from(gateway).checked_add(1)?);
    Some(External {
        name: "public".to_owned(),
        project_id,
        physical_network: engines::PHYSICAL_NETWORK.to_owned(),
        cidr: options.external_cidr.into(),
        gateway: gateway.into(),
        pool: (first.into(), last.into()),
    })
}

/// What secures logins.
fn compliance(options: &LoginOptions) -> anyhow::Result<identity::Compliance> {
    let regex = options.password_regex.as_deref().map(identity::Compliance::regex).transpose();
    Ok(identity::Compliance {
        lockout_failure_attempts: options.lockout_failure_attempts,
        lockout_duration: std::time::Duration::from_secs(options.lockout_duration.into()),
        unique_last_password_count: options.unique_last_password_count,
        minimum_password_age: options.minimum_password_age,
        password_expires_days: options.password_expires_days,
        password_regex: regex.map_err(|why| anyhow!("--password-regex: {why}"))?,
        password_regex_description: options.password_regex_description.clone(),
        change_password_upon_first_use: options.change_password_upon_first_use,
        disable_user_account_days_inactive: options.disable_user_account_days_inactive,
        allow_rescope_scoped_token: !options.no_rescope_scoped_token,
    })
}

/// The key that wraps every secret in the database.
fn master_key(layout: &Layout) -> anyhow::Result<identity::MasterKey> {
    let path = layout.secrets().join("master.key");
    identity::MasterKey::ensure_file(&path).with_context(|| format!("reading {}", path.display()))
}

/// How often somebody may ask.
fn limits(options: &RequestOptions) -> Limits {
    Limits {
        caller: options.rate_of_callers,
        privileged: options.rate_of_admins,
        anonymous: options.rate_of_addresses,
        login: options.rate_of_failed_logins,
    }
}

fn tls(options: &CloudOptions) -> anyhow::Result<Option<tokio_rustls::TlsAcceptor>> {
    let (Some(chain), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let read = |path: &std::path::Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let acceptor = web::listen::tls_from_pem(&read(chain)?, &read(key)?).context("using the TLS certificate")?;
    Ok(Some(acceptor))
}

/// What is at `/`: where the services are.
fn root() -> Service {
    const ROUTES: &[Route] = &[Route::get("/", Access::Public, web::handler!(index))];
    Service {
        name: "root",
        prefix: "",
        routes: ROUTES,
        policy: &[],
        versions: None,
        faults: FaultStyle::Nova,
        state: Arc::new(()),
    }
}

async fn index(cx: &web::Cx) -> model::Result<Reply> {
    let url = |prefix: &str| cx.url_of(prefix);
    Reply::ok(&json!({
        "name": "nacre",
        "version": env!("CARGO_PKG_VERSION"),
        "services": {
            "identity": url("/identity"), "image": url("/image"), "network": url("/networking"), "compute": url("/compute"), "placement": url("/placement"), "nacre": url("/nacre/v1"),
        },
    }))
}

/// Answers on the private socket.
struct Operator {
    db: Db,
    services: Services,
    hub: Hub,
    expects_agent: bool,
    app: Arc<App>,
    policy_file: Option<Arc<PolicyFile>>,
}

impl Answers for Operator {
    fn answer<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, anyhow::Result<Value>> {
        Box::pin(async move {
            match ask {
                Ask::Ready if self.expects_agent && self.hub.connected().is_empty() => {
                    Err(anyhow!("no agent is connected yet"))
                }
                Ask::Ready => Ok(json!({})),
                Ask::Doctor { fix } => self.doctor(*fix).await,
                Ask::RotateKeys => {
                    self.services.identity.rotate_keys().await?;
                    Ok(json!({}))
                }
                Ask::Hosts => Ok(compute::hosts_overview(&self.services.compute).await?),
            }
        })
    }
}

impl Operator {
    async fn doctor(&self, fix: bool) -> anyhow::Result<Value> {
        let mut findings = identity::doctor(&self.db).await?;
        findings.extend(image::doctor(&self.db, &self.services.image).await?);
        findings.extend(network::doctor(&self.db, &*self.services.northbound).await?);
        findings.extend(compute::doctor(&self.services.compute, fix).await?);
        findings.extend(self.policy_file.iter().flat_map(|file| file.findings(&self.app.policy())));
        if fix && !findings.is_empty() {
            identity::repair(&self.db).await?;
            image::repair(&self.db, &self.services.image).await?;
            network::repair(&self.db).await?;
        }
        let findings: Vec<Value> = findings.iter().map(doctor::to_json).collect();
        Ok(json!({ "findings": findings }))
    }
}
