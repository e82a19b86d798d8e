//! The plain data that the network driver's verbs take and return.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;
use model::{
    addr::Mac,
    id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SecurityGroupRuleId, SubnetId},
};
use uuid::Uuid;

use super::DhcpOption;

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
    /// The address of the network's metadata port in this subnet: guests get a route to [`super::METADATA_IP`] through it.
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
    /// Of IPv6: guests make their addresses themselves and only ask for the rest.
    pub stateless: bool,
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
    /// What the guest is told by DHCP besides what its subnets say, or instead.
    pub dhcp_options: Vec<DhcpOption>,
    /// The names under which guests of its network find it.
    pub names: Vec<String>,
    /// The port that carries its packets, and the VLAN tag that they have there.
    pub carrier: Option<(PortId, u16)>,
    /// How much of the network it may and shall have.
    pub qos: Vec<QosRule>,
}

/// A rule of how much of the network a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosRule {
    /// Not more than that.
    Limit {
        /// Seen from the guest.
        direction: Direction,
        /// Thousands of bits in a second.
        kbps: u32,
        /// Thousands of bits at once beyond that; none leaves it to the engine.
        burst_kb: Option<u32>,
    },
    /// What it sends carries this mark.
    Mark(u8),
    /// At least that much of the link it leaves the host by.
    Minimum {
        /// Thousands of bits in a second.
        kbps: u32,
    },
}

impl PortSpec {
    /// A server's port without addresses, on which port security applies and no rule permits anything.
    pub fn new(id: &PortId, network_id: &NetworkId, mac: Mac) -> Self {
        Self {
            id: id.clone(),
            network_id: network_id.clone(),
            kind: PortKind::Server,
            mac,
            ips: Vec::new(),
            admin_up: true,
            port_security: true,
            allowed_pairs: Vec::new(),
            security_groups: Vec::new(),
            dhcp: Vec::new(),
            dhcp_options: Vec::new(),
            names: Vec::new(),
            carrier: None,
            qos: Vec::new(),
            hostname: None,
            chassis: None,
        }
    }
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
    /// What the router tells IPv6 guests unasked.
    pub advertisement: Option<Advertisement>,
}

/// How IPv6 guests come to their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMode {
    /// They make them themselves.
    Slaac,
    /// They ask for them.
    Stateful,
    /// They make them themselves and ask for the rest.
    Stateless,
}

/// A router advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// How guests come to their addresses.
    pub mode: AddressMode,
    /// The network's MTU.
    pub mtu: u32,
    /// A name server.
    pub dns_server: Option<Ipv6Addr>,
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
    /// Where it leads.
    pub leads: Leads,
}

/// Where a floating IP leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// As a whole to one guest.
    Guest {
        /// The guest's address.
        address: IpAddr,
        /// The guest's port.
        port_id: PortId,
        /// Where set, the guest's own host translates and answers with this MAC; else the gateway's chassis does.
        external_mac: Option<Mac>,
    },
    /// Port by port.
    Forwards(Vec<Forward>),
}

/// One port of a floating IP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Whether of UDP, and not of TCP.
    pub udp: bool,
    /// The port outside.
    pub external_port: u16,
    /// The guest's address.
    pub address: IpAddr,
    /// The guest's port.
    pub port: u16,
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
    /// Any of these addresses; of none, nobody.
    Addresses(Vec<IpNet>),
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
    /// The tap's name; [`super::tap_name`] makes it.
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
