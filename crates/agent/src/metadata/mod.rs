//! What guests learn about themselves: 169.254.169.254 and fe80::a9fe:a9fe in every network, and the files of config
//! drives.
//!
//! | file | holds |
//! |---|---|
//! | this one | [`MetadataService`]: one listener per network with servers here; who is asking |
//! | `http.rs` | one listener's connections |
//! | `openstack.rs` | the documents under `/openstack` |
//! | `ec2.rs` | the documents under `/latest` and the dated versions of EC2 |
//!
//! A guest is known by its fixed or link-local address within its network: the listener's namespace says which network,
//! port security makes the address true. Every answer comes from the ledger, so the service works with no control plane in reach.

mod ec2;
mod http;
mod openstack;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use drivers::{
    disk::ConfigFile,
    network::{ChassisPorts, MetadataSpec, NetworkError},
};
use hostlink::{Metadata, ServerSpec};
use model::{
    addr::Mac,
    id::{NetworkId, ServerId},
};
use tokio::{
    net::TcpListener,
    sync::Mutex as AsyncMutex,
    task::{AbortHandle, JoinHandle},
};

use crate::{ledger::Ledger, server::Server};

/// The metadata services of this host.
pub(crate) struct MetadataService {
    driver: Arc<dyn ChassisPorts>,
    ledger: Ledger,
    tcp_port: u16,
    directory: Arc<RwLock<Directory>>,
    /// One lock per network: making and ending its service exclude each other.
    services: Mutex<HashMap<NetworkId, Arc<AsyncMutex<Option<Service>>>>>,
}

/// A network's service while it runs.
struct Service {
    place: MetadataSpec,
    task: JoinHandle<()>,
    /// Ends the task when the process drops the service.
    _abort: AbortOnDrop,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who has which address.
#[derive(Default)]
struct Directory {
    by_address: HashMap<(NetworkId, IpAddr), Arc<Server>>,
    /// Every server's places; an address only where the port has one.
    by_server: HashMap<ServerId, Vec<(NetworkId, Option<IpAddr>)>>,
}

impl Directory {
    fn withdraw(&mut self, server: &ServerId) {
        for (network, address) in self.by_server.remove(server).unwrap_or_default() {
            let Some(address) = address else { continue };
            let key = (network, address);
            if self.by_address.get(&key).is_some_and(|owner| owner.id == *server) {
                self.by_address.remove(&key);
            }
        }
    }

    fn publish(&mut self, server: &Arc<Server>, spec: &ServerSpec) {
        self.withdraw(&server.id);
        let mut places = Vec::new();
        for port in &spec.ports {
            let network = NetworkId::new(port.network_id.clone());
            places.push((network.clone(), None));
            // Whoever asks the link-local address asks from its own.
            let local = port.mac.parse::<Mac>().ok().map(|mac| IpAddr::V6(mac.link_local()));
            for address in port.fixed_ips.iter().filter_map(|ip| ip.address.parse::<IpAddr>().ok()).chain(local) {
                self.by_address.insert((network.clone(), address), server.clone());
                places.push((network.clone(), Some(address)));
            }
        }
        self.by_server.insert(server.id.clone(), places);
    }

    fn is_used(&self, network: &NetworkId) -> bool {
        self.by_server.values().flatten().any(|(used, _)| used == network)
    }
}

impl MetadataService {
    pub(crate) fn new(driver: Arc<dyn ChassisPorts>, ledger: Ledger, tcp_port: u16) -> Self {
        Self { driver, ledger, tcp_port, directory: Arc::default(), services: Mutex::default() }
    }

    /// The server is found under the addresses of this spec, and no others.
    pub(crate) fn publish(&self, server: &Arc<Server>, spec: &ServerSpec) {
        write(&self.directory).publish(server, spec);
    }

    /// The server is not found any more.
    pub(crate) fn withdraw(&self, server: &Server) {
        write(&self.directory).withdraw(&server.id);
    }

    /// Makes the network's service run.
    pub(crate) async fn ensure(&self, place: &MetadataSpec) -> Result<(), NetworkError> {
        let slot = self.slot(&place.network_id);
        let mut service = slot.lock().await;
        let is_up = service.as_ref().is_some_and(|running| !running.task.is_finished());
        if is_up && service.as_ref().is_some_and(|running| running.place == *place) {
            return Ok(());
        }
        self.driver.ensure_metadata_namespace(place).await?;
        match service.as_mut() {
            Some(running) if is_up => running.place = place.clone(),
            _ => *service = Some(self.start(place).await?),
        }
        Ok(())
    }

    /// Ends the network's service, unless a server here still uses the network.
    pub(crate) async fn release(&self, network: &NetworkId) -> Result<(), NetworkError> {
        let slot = self.slot(network);
        let mut service = slot.lock().await;
        if read(&self.directory).is_used(network) {
            return Ok(());
        }
        if let Some(running) = service.take() {
            running.task.abort();
            // Its sockets must be closed before their namespace goes. It ends as cancelled, which is no error here.
            let _ = running.task.await;
        }
        self.driver.remove_metadata_namespace(network).await
    }

    /// The networks that must have a service here, for the inventory.
    pub(crate) fn is_used(&self, network: &NetworkId) -> bool {
        read(&self.directory).is_used(network)
    }

    async fn start(&self, place: &MetadataSpec) -> Result<Service, NetworkError> {
        let socket = self.driver.metadata_listener(&place.network_id, self.tcp_port).await?;
        let listener = TcpListener::from_std(socket)
            .map_err(|e| NetworkError::System { what: "taking over the metadata socket".into(), why: e.to_string() })?;
        let (directory, network) = (self.directory.clone(), place.network_id.clone());
        let who = move |address: IpAddr| read(&directory).by_address.get(&(network.clone(), address)).cloned();
        let task = tokio::spawn(http::serve(listener, Arc::new(who), self.ledger.clone()));
        Ok(Service { place: place.clone(), _abort: AbortOnDrop(task.abort_handle()), task })
    }

    fn slot(&self, network: &NetworkId) -> Arc<AsyncMutex<Option<Service>>> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.entry(network.clone()).or_default().clone()
    }
}

/// The files of a config drive.
pub(crate) fn config_files(metadata: &Metadata) -> Vec<ConfigFile> {
    let file = |path: String, content: Vec<u8>| ConfigFile { path, content };
    let openstack = openstack::documents(metadata)
        .into_iter()
        .map(|(name, document)| file(format!("openstack/latest/{name}"), document.body));
    let mut files: Vec<ConfigFile> = openstack.collect();
    if let Some(ec2) = &metadata.ec2 {
        files.push(file("ec2/latest/meta-data.json".into(), ec2::as_json(ec2)));
    }
    if let Some(data) = user_data(metadata) {
        files.push(file("ec2/latest/user-data".into(), data));
    }
    files
}

/// A document as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Document {
    content_type: &'static str,
    body: Vec<u8>,
}

impl Document {
    fn text(body: impl Into<String>) -> Self {
        Self { content_type: "text/plain; charset=utf-8", body: body.into().into_bytes() }
    }

    fn json(body: &str) -> Self {
        Self { content_type: "application/json", body: body.as_bytes().to_vec() }
    }

    fn bytes(body: Vec<u8>) -> Self {
        Self { content_type: "application/octet-stream", body }
    }
}

/// The document of that path.
fn find(metadata: &Metadata, path: &str) -> Option<Document> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        [] => Some(Document::text(ec2::VERSIONS.join("\n"))),
        ["openstack", rest @ ..] => openstack::find(metadata, rest),
        [version, rest @ ..] if ec2::VERSIONS.contains(version) => ec2::find(metadata, rest),
        _ => None,
    }
}

/// The user-data as the guest gets it. What is not base64 was not accepted by the API either, and is nothing here.
fn user_data(metadata: &Metadata) -> Option<Vec<u8>> {
    if metadata.user_data_base64.is_empty() {
        return None;
    }
    let text: String = metadata.user_data_base64.split_whitespace().collect();
    BASE64_STANDARD.decode(text).ok()
}

fn read(directory: &RwLock<Directory>) -> RwLockReadGuard<'_, Directory> {
    directory.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(directory: &RwLock<Directory>) -> RwLockWriteGuard<'_, Directory> {
    directory.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hostlink::{Ec2Metadata, PublicKey};

    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            meta_data_json: r#"{"uuid":"s"}"#.into(),
            network_data_json: r#"{"links":[]}"#.into(),
            vendor_data_json: "{}".into(),
            vendor_data2_json: String::new(),
            user_data_base64: "IyEvYmluL3NoCg==".into(),
            ec2: Some(Ec2Metadata {
                instance_id: "i-0000002a".into(),
                hostname: "web.novalocal".into(),
                local_ipv4: "10.0.0.5".into(),
                availability_zone: "nova".into(),
                security_groups: vec!["default".into(), "web".into()],
                public_keys: vec![PublicKey { name: "mine".into(), openssh: "ssh-ed25519 AAAA mine".into() }],
                ..Ec2Metadata::default()
            }),
        }
    }

    #[test]
    fn paths() {
        let table = [
            ("/openstack/latest/meta_data.json", Some(r#"{"uuid":"s"}"#)),
            ("/openstack/2018-08-27/network_data.json", Some(r#"{"links":[]}"#)),
            ("/openstack/2012-08-10/network_data.json", None),
            ("/openstack/1999-01-01/meta_data.json", None),
            ("/openstack/latest/user_data", Some("#!/bin/sh\n")),
            ("/openstack/latest/vendor_data2.json", None),
            ("/openstack/2012-08-10/", Some("meta_data.json\nuser_data")),
            ("/openstack/latest", Some("meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json")),
            ("/latest/user-data", Some("#!/bin/sh\n")),
            ("/latest", Some("meta-data/\nuser-data")),
            ("/2009-04-04/meta-data/instance-id", Some("i-0000002a")),
            ("/latest/meta-data/placement/", Some("availability-zone")),
            ("/latest/meta-data/placement/availability-zone", Some("nova")),
            ("/latest/meta-data/public-keys/", Some("0=mine")),
            ("/latest/meta-data/public-keys/0/", Some("openssh-key")),
            ("/latest/meta-data/public-keys/0/openssh-key", Some("ssh-ed25519 AAAA mine")),
            ("/latest/meta-data/public-keys/1/openssh-key", None),
            ("/latest/meta-data/security-groups", Some("default\nweb")),
            ("/latest/meta-data/public-ipv4", Some("")),
            ("/latest/meta-data/hostname/", Some("web.novalocal")),
            ("/latest/meta-data/hostname/more", None),
            ("/latest/meta-data/nothing", None),
            ("/favicon.ico", None),
        ];
        for (path, expected) in table {
            let found = find(&metadata(), path).map(|document| String::from_utf8(document.body).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        let listing = find(&metadata(), "/latest/meta-data/").map(|d| String::from_utf8(d.body).unwrap()).unwrap();
        assert!(listing.contains("placement/\n") && listing.contains("public-keys/\n"), "{listing}");
        let versions = find(&metadata(), "/openstack").map(|d| String::from_utf8(d.body).unwrap()).unwrap();
        assert!(versions.starts_with("2012-08-10\n") && versions.ends_with("\nlatest"), "{versions}");
    }

    #[test]
    fn config_drives_hold_the_same() {
        let paths: Vec<String> = config_files(&metadata()).into_iter().map(|file| file.path).collect();
        assert_eq!(
            paths,
            [
                "openstack/latest/meta_data.json",
                "openstack/latest/user_data",
                "openstack/latest/vendor_data.json",
                "openstack/latest/network_data.json",
                "ec2/latest/meta-data.json",
                "ec2/latest/user-data",
            ]
        );
    }
}
