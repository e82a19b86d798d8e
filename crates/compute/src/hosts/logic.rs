//! What hosts are told, as pure functions.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use hostlink::{FixedIp, Holding, MetadataPort, RootDisk, ServerSpec, WantedPower};
use prost::Message;
use sha2::{Digest, Sha256};
use store::{
    compute::{
        life::DiskImage,
        servers::{Change, Hold, Phase, Power, Server},
    },
    network::{ports::Port, subnets::Subnet},
};

use crate::{metadata, servers::logic};

/// What a spec is made of, besides the server's row.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Network interfaces, in order.
    pub interfaces: Vec<Interface>,
    /// Users' metadata.
    pub metadata: BTreeMap<String, String>,
    /// Names of security groups.
    pub security_groups: Vec<String>,
    /// A floating IP.
    pub public_ipv4: Option<IpAddr>,
}

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its port.
    pub port: Port,
    /// The user's tag.
    pub tag: Option<String>,
    /// Largest packet in bytes.
    pub mtu: i64,
    /// The subnets of its network.
    pub subnets: Vec<Subnet>,
    /// The metadata port of its network.
    pub metadata: Option<Port>,
}

impl Interface {
    /// The subnet of an address.
    pub fn subnet(&self, ip: &store::network::ports::FixedIp) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == ip.subnet_id)
    }
}

/// The whole wanted state of a server.
pub fn spec(server: &Server, facts: &Facts, grace: Duration) -> ServerSpec {
    let power = match (server.wanted.running, server.wanted.hold) {
        (false, _) => WantedPower::Stopped,
        (true, Hold::No) => WantedPower::Running,
        (true, Hold::Paused) => WantedPower::Paused,
        (true, Hold::Suspended) => WantedPower::Suspended,
    };
    let life = &server.life;
    let original = || DiskImage { id: server.image_id.clone(), image: server.image.clone() };
    let root = life.root.clone().unwrap_or_else(original);
    let hardware =
        server.image.properties.iter().filter(|(name, _)| name.starts_with("hw_") || name.starts_with("os_"));
    ServerSpec {
        id: server.id.as_str().to_owned(),
        name: server.name.clone(),
        generation: server.wanted.generation,
        power: power.into(),
        boot: server.wanted.boot,
        graceful: server.wanted.graceful,
        grace_seconds: u32::try_from(grace.as_secs()).unwrap_or(u32::MAX),
        vcpus: u32::try_from(server.flavor.vcpus).unwrap_or(1),
        memory_mib: unsigned(server.flavor.memory_mib),
        root_disk: Some(RootDisk {
            build: life.build,
            checkpoint: life.old.is_some() && server.wanted.change != Change::ConfirmResize,
            rollback: life.rollback,
            ..disk(&root, server.flavor.disk_gib)
        }),
        rescue_disk: life
            .rescue
            .as_ref()
            .filter(|_| server.wanted.change != Change::Unrescue)
            .map(|rescue| disk(rescue, server.flavor.disk_gib)),
        save_as_image: life.snapshot.as_ref().map_or_else(String::new, |snapshot| snapshot.image.to_string()),
        extra_specs: server.flavor.extra_specs.clone(),
        config_drive: server.config_drive,
        metadata: Some(metadata::documents(server, facts)),
        ports: facts.interfaces.iter().map(port).collect(),
        hardware: hardware.map(|(name, value)| (name.clone(), value.clone())).collect(),
        project_id: server.project_id.as_str().to_owned(),
    }
}

fn disk(from: &DiskImage, size_gib: i64) -> RootDisk {
    RootDisk {
        image_id: from.id.to_string(),
        hash_algorithm: "sha256".to_owned(),
        hash: from.image.sha256.clone(),
        format: from.image.format.clone(),
        size_gib: unsigned(size_gib),
        image_bytes: unsigned(from.image.bytes),
        ..RootDisk::default()
    }
}

/// Tells whether what a spec is made of has changed. The generation does not count.
pub fn digest(spec: &ServerSpec) -> String {
    let spec = ServerSpec { generation: 0, ..spec.clone() };
    hex::encode(Sha256::digest(spec.encode_to_vec()))
}

fn port(interface: &Interface) -> hostlink::Port {
    let Interface { port, mtu, metadata, .. } = interface;
    let mtu = u32::try_from(*mtu).unwrap_or(0);
    hostlink::Port {
        id: port.id.as_str().to_owned(),
        network_id: port.network_id.as_str().to_owned(),
        mac: port.mac.to_string(),
        mtu,
        fixed_ips: fixed_ips(interface, port),
        metadata_port: metadata.as_ref().map(|metadata| MetadataPort {
            port_id: metadata.id.as_str().to_owned(),
            mac: metadata.mac.to_string(),
            fixed_ips: fixed_ips(interface, metadata),
            mtu,
        }),
    }
}

fn fixed_ips(interface: &Interface, port: &Port) -> Vec<FixedIp> {
    let with_prefix = |ip: &store::network::ports::FixedIp| {
        let prefix_length = interface.subnet(ip).map_or(32, |subnet| u32::from(subnet.cidr.prefix_len()));
        FixedIp { address: ip.ip.to_string(), prefix_length }
    };
    port.fixed_ips.iter().map(with_prefix).collect()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What a host that joins must be told about a server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catchup {
    /// It has what it was told.
    Nothing,
    /// The newest spec.
    Spec,
    /// That nothing may be left.
    Removal,
}

/// Compares what a host holds of a server with what it was told. What it was not told yet is its flow's business.
pub fn catchup(server: &Server, holding: Option<&Holding>) -> Catchup {
    if logic::must_leave_host(server) {
        return match holding {
            Some(holding) if holding.removed && holding.generation >= server.wanted.generation => Catchup::Nothing,
            _ => Catchup::Removal,
        };
    }
    let told = server.told_generation;
    let has = holding.filter(|h| !h.removed).map_or(0, |h| h.generation);
    if told == 0 || told < server.wanted.generation || has >= told { Catchup::Nothing } else { Catchup::Spec }
}

/// The holdings of a host that no server of its own stands behind: left over, and to be removed.
pub fn strays<'a>(servers: &[Server], holdings: &'a [Holding]) -> Vec<&'a Holding> {
    let own: HashMap<&str, ()> = servers.iter().map(|server| (server.id.as_str(), ())).collect();
    holdings.iter().filter(|holding| !holding.removed && !own.contains_key(holding.server_id.as_str())).collect()
}

/// Whether a report changed anything that the server's flow waits for: how far the work is, is not.
pub fn is_for_the_flow(before: &Server, after: &Server) -> bool {
    let rests = matches!(after.observed.phase, Phase::Settled | Phase::Failed);
    rests || after.observed.power != before.observed.power || after.wanted != before.wanted
}

/// A report's power as rows hold it.
pub fn power(power: hostlink::Power) -> Power {
    match power {
        hostlink::Power::Unspecified => Power::Unknown,
        hostlink::Power::Running => Power::Running,
        hostlink::Power::Shutdown => Power::Shutdown,
        hostlink::Power::Paused => Power::Paused,
        hostlink::Power::Crashed => Power::Crashed,
        hostlink::Power::Absent => Power::Absent,
        hostlink::Power::Suspended => Power::Suspended,
    }
}

/// A report's phase as rows hold it.
pub fn phase(phase: hostlink::Phase) -> Phase {
    match phase {
        hostlink::Phase::Unspecified => Phase::Unknown,
        hostlink::Phase::Pending => Phase::Pending,
        hostlink::Phase::FetchingImage => Phase::FetchingImage,
        hostlink::Phase::PreparingDisk => Phase::PreparingDisk,
        hostlink::Phase::PluggingPorts => Phase::PluggingPorts,
        hostlink::Phase::Starting => Phase::Starting,
        hostlink::Phase::Stopping => Phase::Stopping,
        hostlink::Phase::Saving => Phase::Saving,
        hostlink::Phase::Removing => Phase::Removing,
        hostlink::Phase::Settled => Phase::Settled,
        hostlink::Phase::Failed => Phase::Failed,
    }
}
