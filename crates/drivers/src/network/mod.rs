//! Networks: OVN's northbound database for the control plane, one chassis' ports for the agent.
//!
//! | file | holds |
//! |---|---|
//! | this one | the two traits, [`Northbound`] and [`ChassisPorts`], and their error |
//! | `types` | the plain data they take and return |
//! | `dhcp` | options that single guests get by DHCP |
//! | [`ovn`] | [`Northbound`] on a real OVN: pure plans, one transaction each |
//! | [`ovs`] | [`ChassisPorts`] on Open vSwitch: taps, `iface-id`, metadata namespaces |
//! | [`fake`] | both traits in memory, with the same meaning, and failures on demand |
//! | [`engine`] | starts, adopts, watches and stops the six OVN/OVS daemons |
//! | [`ovsdb`] | the OVSDB client: JSON-RPC, transactions, a replica kept by `monitor_cond_since` |
//! | `link`, `netns`, `sys` | Linux: netlink, network namespaces, the few ioctls |
//!
//! Every verb is idempotent. `ensure_x` takes the whole wanted state of `x`, compares it with what is there and writes
//! only the difference, in one transaction; called again it writes nothing. `remove_x` of what is not there succeeds.
//! Rows carry Nacre's id in `external_ids:nacre-id` and their sort in `external_ids:nacre-kind`, which is how
//! [`Northbound::inventory`] finds everything that is Nacre's and nothing else.

mod dhcp;
pub mod engine;
pub mod fake;
mod link;
mod netns;
pub mod ovn;
pub mod ovs;
pub mod ovsdb;
pub(crate) mod sys;
mod types;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use futures_util::{future::BoxFuture, stream::BoxStream};
use model::id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SubnetId};

pub use self::{
    dhcp::DhcpOption,
    types::{
        AddressMode, AddressPair, Advertisement, ChassisPriority, Datapath, Direction, DnsSpec, Family, FloatingIpSpec,
        Forward, GatewaySpec, InterfaceSpec, Leads, MetadataSpec, NetworkSpec, Owned, OwnedKind, PlugSpec, PluggedPort,
        PortInstalled, PortKind, PortSpec, PortUp, Protocol, Provider, QosRule, Remote, Route, RouterSpec,
        SecurityGroupRule, SecurityGroupSpec, SubnetSpec,
    },
};

/// The address on which guests ask for their metadata.
pub const METADATA_IP: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The address on which guests ask for their metadata in IPv6, on the link of their network.
pub const METADATA_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);

/// What a network driver's verb returns.
pub type Result<T, E = NetworkError> = std::result::Result<T, E>;

/// Why a network driver could not do something.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The engine (OVSDB server, OVS, OVN) is not there or did not answer in time. Trying later may succeed; whether
    /// the change was made is unknown, so the caller repeats the same `ensure_*`.
    #[error("{what}: not available: {why}")]
    Unavailable {
        /// The engine or verb.
        what: &'static str,
        /// What was seen.
        why: String,
    },
    /// Something this one refers to is not there (yet): a port's network, a floating IP's router.
    #[error("{kind} {id} is not there")]
    Missing {
        /// The sort of thing that is missing.
        kind: OwnedKind,
        /// Its Nacre id.
        id: String,
    },
    /// The engine refused the change: a defect in what was asked or in how it was put.
    #[error("the network engine refused: {0}")]
    Rejected(String),
    /// This host or engine can't do it; says what would be needed.
    #[error("not supported here: {0}")]
    Unsupported(String),
    /// A call to the operating system failed.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        why: String,
    },
}

impl From<NetworkError> for model::Error {
    fn from(error: NetworkError) -> Self {
        match &error {
            NetworkError::Unavailable { .. } | NetworkError::Missing { .. } => {
                model::Error::unavailable("NetworkEngineUnavailable", "The network engine is not available now.")
                    .because(error)
            }
            NetworkError::Unsupported(why) => model::Error::unsupported("NetworkUnsupported", why.clone()),
            NetworkError::Rejected(_) | NetworkError::System { .. } => {
                model::Error::internal("the network engine refused a change", error)
            }
        }
    }
}

/// The control plane's side: writes wanted networks into OVN's northbound database.
pub trait Northbound: Send + Sync {
    /// Makes or changes a network (logical switch, with a localnet port if it has a physical network).
    fn ensure_network<'a>(&'a self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes a network with every port and its names. DHCP options of its subnets go by
    /// [`Northbound::remove_subnet_dhcp`].
    fn remove_network<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes the DHCP options of a subnet. A subnet without DHCP is [`Northbound::remove_subnet_dhcp`].
    fn ensure_subnet_dhcp<'a>(&'a self, spec: &'a SubnetSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes the DHCP options of a subnet; ports that used them get no more answers.
    fn remove_subnet_dhcp<'a>(&'a self, id: &'a SubnetId) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes a server's or metadata service's port. Its network, its security groups and the subnets whose
    /// DHCP it uses must be there. Ports of routers belong to [`Northbound::ensure_router`].
    fn ensure_port<'a>(&'a self, spec: &'a PortSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes a port of any kind but a router's.
    fn remove_port<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes a router with all its interfaces, its gateway, SNAT and routes; what the spec no longer names
    /// is removed. The networks must be there.
    fn ensure_router<'a>(&'a self, spec: &'a RouterSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes a router, both halves of its ports, and its floating IPs.
    fn remove_router<'a>(&'a self, id: &'a RouterId) -> BoxFuture<'a, Result<()>>;
    /// Changes only the chassis that may hold the gateway of a router (hosts came or went).
    fn ensure_chassis_gateway<'a>(
        &'a self,
        id: &'a RouterId,
        chassis: &'a [ChassisPriority],
    ) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes an associated floating IP; an unassociated one is [`Northbound::remove_floating_ip`].
    fn ensure_floating_ip<'a>(&'a self, spec: &'a FloatingIpSpec) -> BoxFuture<'a, Result<()>>;
    /// Takes a floating IP out of its router.
    fn remove_floating_ip<'a>(&'a self, id: &'a FloatingIpId) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes a security group with all its rules. Remote groups need not be there yet.
    fn ensure_security_group<'a>(&'a self, spec: &'a SecurityGroupSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes a security group; its ports fall back to their other groups.
    fn remove_security_group<'a>(&'a self, id: &'a SecurityGroupId) -> BoxFuture<'a, Result<()>>;

    /// Makes or changes the names that a network's guests can resolve.
    fn ensure_dns<'a>(&'a self, spec: &'a DnsSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes a network's names.
    fn remove_dns<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>>;

    /// Everything in the northbound database that is Nacre's, for the sweep and for `nacre doctor`.
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Owned>>>;

    /// Which ports are up: first the state of every server port, then each change. After a gap (the connection was
    /// lost, the reader was slow) the whole state comes again.
    fn watch_ports(&self) -> BoxStream<'static, PortUp>;

    /// When the whole content was read anew: at first, and when the engine could not tell what had changed, because its
    /// database is another one. Who compares rows with the engine compares then.
    fn watch_resets(&self) -> BoxStream<'static, ()> {
        Box::pin(futures_util::stream::pending())
    }

    /// Whether the engine answers at the moment.
    fn connected(&self) -> bool;
}

/// The agent's side: plugs ports of guests and metadata services into this host's switch.
pub trait ChassisPorts: Send + Sync {
    /// What the switch of this host is made of, and so how guests' taps must be opened.
    fn datapath(&self) -> Datapath;

    /// Makes the tap, adds it to the integration bridge as that port, brings it up.
    fn ensure_port_plugged<'a>(&'a self, spec: &'a PlugSpec) -> BoxFuture<'a, Result<()>>;
    /// Takes the port out of the bridge and removes its tap.
    fn remove_port_plugged<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>>;
    /// The ports of guests that are plugged in here.
    fn list(&self) -> BoxFuture<'_, Result<Vec<PluggedPort>>>;
    /// Which plugged ports have their flows in the switch: first every port, then each change; the whole state again
    /// after a gap. A port that is unplugged is reported as not installed.
    fn watch_installed(&self) -> BoxStream<'static, PortInstalled>;

    /// Devices of Nacre's making on this host that are not plugged in: for `nacre doctor`.
    fn list_strays(&self) -> BoxFuture<'_, Result<Vec<String>>>;
    /// Removes such a device; one that is plugged in stays.
    fn remove_stray<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Makes the network namespace of a network's metadata service, plugged in as its localport, with the port's
    /// address and [`METADATA_IP`].
    fn ensure_metadata_namespace<'a>(&'a self, spec: &'a MetadataSpec) -> BoxFuture<'a, Result<()>>;
    /// Removes the namespace and its port.
    fn remove_metadata_namespace<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>>;
    /// The networks that have such a namespace here.
    fn list_metadata_namespaces(&self) -> BoxFuture<'_, Result<Vec<NetworkId>>>;
    /// A TCP listener on this port inside the namespace, for [`METADATA_IP`] and [`METADATA_IPV6`], non-blocking, ready
    /// for `tokio::net::TcpListener::from_std`. Peers are guests by their fixed and link-local addresses; those of IPv4
    /// may be mapped into IPv6.
    fn metadata_listener<'a>(&'a self, id: &'a NetworkId, tcp_port: u16) -> BoxFuture<'a, Result<TcpListener>>;
}

/// How taps of guests begin.
pub(crate) const TAP_PREFIX: &str = "tap";
/// How much of an id fits into an interface name after a prefix of three letters.
pub(crate) const SHORT_CHARS: usize = 11;

/// The tap's name of a port: as long a part of the id as an interface name holds.
pub fn tap_name(port: &PortId) -> String {
    format!("{TAP_PREFIX}{}", short(port.as_str()))
}

/// The part of an id that goes into interface names.
pub(crate) fn short(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(SHORT_CHARS).collect()
}
