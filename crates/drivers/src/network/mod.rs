//! Networks: OVN's northbound database for the control plane, one chassis' ports for the agent.
//!
//! | file | holds |
//! |---|---|
//! | this one | the two traits, [`Northbound`] and [`ChassisPorts`], and the plain data they take |
//! | [`ovn`] | [`Northbound`] on a real OVN: pure plans (`ovn/plan.rs`, `ovn/rows.rs`, `ovn/security.rs`), one transaction each |
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

pub mod engine;
pub mod fake;
mod link;
mod netns;
pub mod ovn;
pub mod ovs;
pub mod ovsdb;
mod sys;

use std::{
    fmt,
    net::{IpAddr, TcpListener},
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use ipnet::IpNet;
use model::{
    addr::Mac,
    id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SecurityGroupRuleId, SubnetId},
};
use uuid::Uuid;

/// The address on which guests ask for their metadata.
pub const METADATA_IP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

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
    /// A TCP listener on [`METADATA_IP`] and this port inside the namespace, non-blocking, ready for
    /// `tokio::net::TcpListener::from_std`. Peers are guests by their fixed addresses.
    fn metadata_listener<'a>(&'a self, id: &'a NetworkId, tcp_port: u16) -> BoxFuture<'a, Result<TcpListener>>;
}

/// The sorts of things Nacre owns in the northbound database; `nacre-kind` in its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedKind {
    /// A logical switch.
    Network,
    /// DHCP options.
    Subnet,
    /// A logical switch port of a server or a metadata service.
    Port,
    /// A router's port, gateway or interface: one on the router, its peer on the switch. One entry each.
    RouterPort,
    /// A logical router.
    Router,
    /// A `dnat_and_snat` entry.
    FloatingIp,
    /// A port group with ACLs.
    SecurityGroup,
    /// DNS names of a network; the id is the network's.
    Dns,
}

impl OwnedKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Network,
        Self::Subnet,
        Self::Port,
        Self::RouterPort,
        Self::Router,
        Self::FloatingIp,
        Self::SecurityGroup,
        Self::Dns,
    ];

    /// As it stands in `external_ids:nacre-kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Port => "port",
            Self::RouterPort => "router-port",
            Self::Router => "router",
            Self::FloatingIp => "floating-ip",
            Self::SecurityGroup => "security-group",
            Self::Dns => "dns",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for OwnedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing of Nacre's in the northbound database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// What it is.
    pub kind: OwnedKind,
    /// Nacre's id of it.
    pub nacre_id: String,
    /// The row, as `ovn-nbctl list TABLE ROW` takes it.
    pub row: Uuid,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its id.
    pub id: NetworkId,
    /// Largest packet in bytes, IP header included.
    pub mtu: u32,
    /// The physical network behind it, if it is not only an overlay.
    pub provider: Option<Provider>,
}

/// The physical side of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Name in the hosts' bridge mappings (`public`).
    pub physical_network: String,
    /// VLAN on it; none is untagged.
    pub vlan: Option<u16>,
}

/// A route: `destination` via `next_hop`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Through whom.
    pub next_hop: IpAddr,
}

/// The DHCP answers of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetSpec {
    /// Its id.
    pub id: SubnetId,
    /// The network it lies in.
    pub network_id: NetworkId,
    /// Its range.
    pub cidr: IpNet,
    /// The guests' default gateway.
    pub gateway: Option<IpAddr>,
    /// The address of the network's metadata port in this subnet: guests get a route to [`METADATA_IP`] through it.
    pub metadata_ip: Option<IpAddr>,
    /// The address OVN answers DHCP with; any stable one (the metadata port's or gateway's).
    pub server_mac: Mac,
    /// Name servers for guests.
    pub dns_servers: Vec<IpAddr>,
    /// Search domain for guests.
    pub dns_domain: Option<String>,
    /// Further routes for guests.
    pub host_routes: Vec<Route>,
    /// The network's MTU.
    pub mtu: u32,
    /// How long a lease lasts.
    pub lease: Duration,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A guest's network interface, on one host at a time.
    Server,
    /// The metadata service's port, present on every host (OVN `localport`). Security groups don't apply.
    Metadata,
}

/// Addresses that a guest may use besides its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPair {
    /// The MAC.
    pub mac: Mac,
    /// The addresses.
    pub addresses: IpNet,
}

/// A port of a server or a metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Its id, which is also the logical port's name and the `iface-id` on the host.
    pub id: PortId,
    /// The network it lies in.
    pub network_id: NetworkId,
    /// What it is for.
    pub kind: PortKind,
    /// Its MAC.
    pub mac: Mac,
    /// Its fixed addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it may carry traffic.
    pub admin_up: bool,
    /// Whether other source addresses are dropped and security groups apply (nothing passes that no rule permits).
    pub port_security: bool,
    /// Further addresses allowed as source.
    pub allowed_pairs: Vec<AddressPair>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// The subnets of its addresses that have DHCP: at most one per family is used.
    pub dhcp: Vec<SubnetId>,
    /// The host name in DHCP answers.
    pub hostname: Option<String>,
    /// The only chassis (system-id of its OVS) that may claim it; none lets the one that plugs it claim it.
    pub chassis: Option<String>,
}

/// A router with everything that hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSpec {
    /// Its id.
    pub id: RouterId,
    /// Whether it routes.
    pub admin_up: bool,
    /// Its way out.
    pub gateway: Option<GatewaySpec>,
    /// Its ports on tenant networks.
    pub interfaces: Vec<InterfaceSpec>,
    /// The ranges that leave through the gateway under its address; used only if the gateway has `snat`.
    pub snat_cidrs: Vec<IpNet>,
    /// Static routes besides the default one.
    pub routes: Vec<Route>,
}

/// A router's port on its external network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySpec {
    /// The port's id.
    pub port_id: PortId,
    /// The external network.
    pub network_id: NetworkId,
    /// The port's MAC.
    pub mac: Mac,
    /// The port's addresses with the prefix of their subnet.
    pub addresses: Vec<IpNet>,
    /// Default gateways, one per family.
    pub next_hops: Vec<IpAddr>,
    /// Whether guests without floating IP get out.
    pub snat: bool,
    /// The chassis that may hold it, best first by priority.
    pub chassis: Vec<ChassisPriority>,
}

/// A chassis that may hold a gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChassisPriority {
    /// The `system-id` of its OVS.
    pub chassis: String,
    /// Higher wins.
    pub priority: u16,
}

/// A router's port on a tenant network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// The port's id.
    pub port_id: PortId,
    /// The network.
    pub network_id: NetworkId,
    /// The port's MAC.
    pub mac: Mac,
    /// The port's addresses with the prefix of their subnet.
    pub addresses: Vec<IpNet>,
}

/// An associated floating IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIpSpec {
    /// Its id.
    pub id: FloatingIpId,
    /// The router that translates.
    pub router_id: RouterId,
    /// The external address.
    pub floating_address: IpAddr,
    /// The guest's address.
    pub fixed_address: IpAddr,
    /// The guest's port.
    pub port_id: PortId,
    /// Where set, the guest's own host translates and answers with this MAC; else the gateway's chassis does.
    pub external_mac: Option<Mac>,
}

/// A security group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupSpec {
    /// Its id.
    pub id: SecurityGroupId,
    /// Whether answers to permitted traffic are permitted.
    pub stateful: bool,
    /// What it permits.
    pub rules: Vec<SecurityGroupRule>,
}

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// Seen from the guest.
    pub direction: Direction,
    /// The IP version it is about.
    pub family: Family,
    /// What protocol, and which ports or ICMP types.
    pub protocol: Protocol,
    /// The other end.
    pub remote: Remote,
}

/// Direction of traffic, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the guest.
    Ingress,
    /// From the guest.
    Egress,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A protocol with its selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Any.
    Any,
    /// TCP, with destination ports (first, last), both included.
    Tcp(Option<(u16, u16)>),
    /// UDP.
    Udp(Option<(u16, u16)>),
    /// SCTP.
    Sctp(Option<(u16, u16)>),
    /// ICMP, or ICMPv6 by the rule's family.
    Icmp {
        /// Message type.
        kind: Option<u8>,
        /// Message code.
        code: Option<u8>,
    },
    /// Another protocol by its number.
    Number(u8),
}

/// The other end of permitted traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Anyone.
    Any,
    /// These addresses.
    Cidr(IpNet),
    /// The ports of that group.
    Group(SecurityGroupId),
}

/// Names that a network's guests can resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSpec {
    /// The network.
    pub network_id: NetworkId,
    /// Fully qualified names, without the last dot, and their addresses.
    pub records: Vec<(String, Vec<IpAddr>)>,
}

/// Whether OVN considers a port up: bound to a chassis with its flows in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUp {
    /// The port.
    pub port_id: PortId,
    /// Up or down.
    pub up: bool,
}

/// What forwards packets on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The openvswitch kernel module.
    System,
    /// OVS's userspace datapath.
    Netdev,
}

impl Datapath {
    /// Whether a guest's tap may leave checksums to the device (`vnet_hdr=on`): in the userspace datapath half-done
    /// checksums break every TCP connection.
    pub fn vnet_hdr(self) -> bool {
        self == Self::System
    }

    /// As OVSDB spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Netdev => "netdev",
        }
    }
}

/// A guest's port to plug in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlugSpec {
    /// The port.
    pub port_id: PortId,
    /// The tap's name; [`tap_name`] makes it.
    pub tap: String,
    /// The guest's MAC.
    pub mac: Mac,
    /// The network's MTU.
    pub mtu: u32,
    /// The user that may open the tap (QEMU's); none is root only.
    pub owner_uid: Option<u32>,
}

/// A plugged port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluggedPort {
    /// The port.
    pub port_id: PortId,
    /// Its tap.
    pub tap: String,
    /// Whether its flows are in the switch.
    pub installed: bool,
}

/// Whether a plugged port's flows are in the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInstalled {
    /// The port.
    pub port_id: PortId,
    /// Whether it can carry traffic.
    pub installed: bool,
}

/// A metadata service's place on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataSpec {
    /// The network it serves.
    pub network_id: NetworkId,
    /// Its localport.
    pub port_id: PortId,
    /// The localport's MAC.
    pub mac: Mac,
    /// The localport's addresses with their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// The network's MTU.
    pub mtu: u32,
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
