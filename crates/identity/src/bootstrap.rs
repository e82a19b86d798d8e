//! What a cloud begins with: the default domain, the standard roles, an administrator, an ordinary user, the catalog.
//!
//! Run at each start. What is there is left alone (passwords above all); what is missing is added.

use std::sync::Arc;

use model::{
    Result,
    id::{DomainId, EndpointId, ProjectId, RoleId, ServiceId, UserId},
};
use store::identity::{
    Extra,
    assignments::{self, Assignment, Target},
    catalog::{self, Endpoint, Region, Service},
    domains::{self, Domain},
    projects::{self, Project},
    roles::{self, Role},
    tokens,
    users::{self, Security, User},
};

use crate::{Password, State, domain, state::Write};

/// The setting that remembers the public address of last time.
const PUBLIC_URL: &str = "identity.public_url";
/// The standard roles: each of the first four implies the next.
const ROLES: [&str; 5] = ["admin", "manager", "member", "reader", "service"];
const IMPLICATIONS: [(&str, &str); 3] = [("admin", "manager"), ("manager", "member"), ("member", "reader")];
const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

/// What a cloud shall begin with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The password of `admin`, where that user is made now.
    pub admin_password: Password,
    /// The password of `demo`; none: no such user and project.
    pub demo_password: Option<Password>,
    /// The region of the catalog's entries: `RegionOne`.
    pub region: String,
    /// Where clients reach this cloud: `http://192.0.2.1:8774`, without a slash at the end.
    pub public_url: String,
    /// The services of the catalog.
    pub services: Vec<ServiceAt>,
}

/// A service and where it is below the public address.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAt {
    /// Its type: `compute`.
    pub kind: &'static str,
    /// Its name: `nova`.
    pub name: &'static str,
    /// Its path: `/compute/v2.1`.
    pub path: &'static str,
}

/// The services of a cloud, at the paths that DevStack gives them.
pub const STANDARD_SERVICES: &[ServiceAt] = &[
    ServiceAt { kind: "identity", name: "keystone", path: "/identity" },
    ServiceAt { kind: "compute", name: "nova", path: "/compute/v2.1" },
    ServiceAt { kind: "image", name: "glance", path: "/image" },
    ServiceAt { kind: "network", name: "neutron", path: "/networking" },
    ServiceAt { kind: "placement", name: "placement", path: "/placement" },
];

/// The ids of what there is.
#[derive(Clone, Debug)]
pub struct Bootstrapped {
    /// The project `admin`.
    pub admin_project: ProjectId,
    /// The user `admin`.
    pub admin_user: UserId,
    /// The project `demo`.
    pub demo_project: Option<ProjectId>,
    /// The user `demo`.
    pub demo_user: Option<UserId>,
}

/// Makes sure of all of it.
///
/// # Errors
/// The database's.
pub async fn bootstrap(state: &Arc<State>, wanted: &Bootstrap) -> Result<Bootstrapped> {
    // Hashed before the transaction, and only where they are needed.
    let admin_hash = hash_for_new(state, "admin", Some(&wanted.admin_password)).await?;
    let demo_hash = hash_for_new(state, "demo", wanted.demo_password.as_ref()).await?;
    let mut tx = state.begin().await?;
    ensure_domain(&mut tx).await?;
    for name in ROLES {
        ensure_role(&mut tx, name).await?;
    }
    for (prior, implied) in IMPLICATIONS {
        let (prior, implied) = (ensure_role(&mut tx, prior).await?, ensure_role(&mut tx, implied).await?);
        roles::imply(&mut tx, &prior, &implied).await?;
    }
    let admin = ensure_role(&mut tx, "admin").await?;
    let admin_project = ensure_project(&mut tx, "admin", "For administrators.").await?;
    let admin_user = ensure_user(&mut tx, "admin", admin_hash).await?;
    for target in [Target::Project(admin_project.clone()), Target::System] {
        assignments::insert(&mut tx, &Assignment::of_user(&admin_user, target, &admin)).await?;
    }
    let (mut demo_project, mut demo_user) = (None, None);
    if wanted.demo_password.is_some() {
        let project = ensure_project(&mut tx, "demo", "An ordinary project.").await?;
        let user_id = ensure_user(&mut tx, "demo", demo_hash).await?;
        let role_id = ensure_role(&mut tx, "member").await?;
        let target = Target::Project(project.clone());
        assignments::insert(&mut tx, &Assignment::of_user(&user_id, target, &role_id)).await?;
        (demo_project, demo_user) = (Some(project), Some(user_id));
    }
    ensure_catalog(&mut tx, wanted).await?;
    state.commit(tx).await?;
    Ok(Bootstrapped { admin_project, admin_user, demo_project, demo_user })
}

async fn hash_for_new(state: &State, name: &str, password: Option<&Password>) -> Result<Option<String>> {
    let Some(password) = password else { return Ok(None) };
    let domain = DomainId::new(domain::DEFAULT);
    let known = users::get_by_name(&mut *state.db().read().await?, &domain, name).await?;
    if known.is_some() { Ok(None) } else { Ok(Some(state.passwords.hash(password.clone()).await?)) }
}

async fn ensure_domain(tx: &mut Write) -> Result<()> {
    let id = DomainId::new(domain::DEFAULT);
    if domains::get(tx, &id).await?.is_some() {
        return Ok(());
    }
    let created_at = tx.now();
    let domain = Domain {
        id,
        name: "Default".to_owned(),
        description: "The default domain".to_owned(),
        enabled: true,
        tags: Vec::new(),
        options: Extra::new(),
        extra: Extra::new(),
        created_at,
    };
    Ok(domains::insert(tx, &domain).await?)
}

async fn ensure_role(tx: &mut Write, name: &str) -> Result<RoleId> {
    if let Some(role) = roles::get_by_name(tx, name).await? {
        return Ok(role.id);
    }
    let role = Role {
        id: RoleId::random_hex(),
        name: name.to_owned(),
        domain_id: None,
        description: None,
        // Policy rules go by these names: nobody removes them by mistake.
        options: Extra::from_iter([("immutable".to_owned(), true.into())]),
        extra: Extra::new(),
        created_at: tx.now(),
    };
    roles::insert(tx, &role).await?;
    Ok(role.id)
}

async fn ensure_project(tx: &mut Write, name: &str, description: &str) -> Result<ProjectId> {
    let domain_id = DomainId::new(domain::DEFAULT);
    if let Some(project) = projects::get_by_name(tx, &domain_id, name).await? {
        return Ok(project.id);
    }
    let project = Project {
        id: ProjectId::random_hex(),
        domain_id,
        parent_id: None,
        name: name.to_owned(),
        description: description.to_owned(),
        enabled: true,
        generation: 0,
        tags: Vec::new(),
        options: Extra::new(),
        extra: Extra::new(),
        created_at: tx.now(),
    };
    projects::insert(tx, &project).await?;
    Ok(project.id)
}

async fn ensure_user(tx: &mut Write, name: &str, hash: Option<String>) -> Result<UserId> {
    let domain_id = DomainId::new(domain::DEFAULT);
    if let Some(user) = users::get_by_name(tx, &domain_id, name).await? {
        return Ok(user.id);
    }
    let user = User {
        id: UserId::random_hex(),
        domain_id,
        name: name.to_owned(),
        enabled: true,
        default_project_id: None,
        password_hash: hash,
        generation: 0,
        extra: Extra::new(),
        security: Security { password_at: Some(tx.now()), ..Security::default() },
        created_at: tx.now(),
    };
    users::insert(tx, &user).await?;
    Ok(user.id)
}

/// Each service with its three endpoints. Where the public address is another than last time, endpoints follow it;
/// those that an administrator put elsewhere stay.
async fn ensure_catalog(tx: &mut Write, wanted: &Bootstrap) -> Result<()> {
    let public_url = wanted.public_url.trim_end_matches('/');
    if catalog::get_region(tx, &wanted.region).await?.is_none() {
        let region = Region {
            id: wanted.region.clone(),
            description: String::new(),
            parent_region_id: None,
            extra: Extra::new(),
        };
        catalog::put_region(tx, &region).await?;
    }
    let before = tokens::setting(tx, PUBLIC_URL).await?;
    for at in &wanted.services {
        let service = match catalog::get_service_by_type(tx, at.kind).await? {
            Some(service) => service.id,
            None => insert_service(tx, at).await?,
        };
        let endpoints = catalog::endpoints_of(tx, &service).await?;
        for interface in INTERFACES {
            let url = format!("{public_url}{}", at.path);
            let ours = |e: &&Endpoint| e.interface == interface && e.region_id.as_deref() == Some(&wanted.region);
            match endpoints.iter().find(ours) {
                None => insert_endpoint(tx, &service, &wanted.region, interface, url).await?,
                Some(known) if before.as_ref().is_some_and(|b| known.url == format!("{b}{}", at.path)) => {
                    catalog::put_endpoint(tx, &Endpoint { url, ..known.clone() }).await?;
                }
                Some(_) => {}
            }
        }
    }
    Ok(tokens::set_setting(tx, PUBLIC_URL, public_url).await?)
}

async fn insert_service(tx: &mut Write, at: &ServiceAt) -> Result<ServiceId> {
    let service = Service {
        id: ServiceId::random_hex(),
        kind: at.kind.to_owned(),
        name: Some(at.name.to_owned()),
        description: Some(String::new()),
        enabled: true,
        extra: Extra::new(),
    };
    catalog::put_service(tx, &service).await?;
    Ok(service.id)
}

async fn insert_endpoint(
    tx: &mut Write,
    service_id: &ServiceId,
    region: &str,
    interface: &str,
    url: String,
) -> Result<()> {
    let endpoint = Endpoint {
        id: EndpointId::random_hex(),
        service_id: service_id.clone(),
        region_id: Some(region.to_owned()),
        interface: interface.to_owned(),
        url,
        enabled: true,
        extra: Extra::new(),
    };
    Ok(catalog::put_endpoint(tx, &endpoint).await?)
}
