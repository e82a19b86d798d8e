//! [`ChassisPorts`] on Open vSwitch: plugs taps and metadata namespaces into the integration bridge.
//!
//! A port is plugged when the bridge has an interface with `external_ids:iface-id` = the logical port's name.
//! `ovn-controller` sees it, claims the port, installs its flows and then writes `ovn-installed=true` beside it. All of
//! that is read from and written to the switch's own OVSDB, so nothing is ever polled.
//!
//! What is ours carries `nacre-kind`: `server` for taps of guests, `metadata` for the veth of a metadata namespace. The
//! namespace is called `nacre-md-SWITCH-NETWORK`; `ip netns` lists it. SWITCH stands for the switch's database: named
//! namespaces are shared by all network namespaces of a machine, and so by clouds that know nothing of each other.

use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, TcpListener},
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::id::{NetworkId, PortId};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    ChassisPorts, Datapath, METADATA_IP, METADATA_IPV6, MetadataSpec, NetworkError, PlugSpec, PluggedPort,
    PortInstalled, Result, SHORT_CHARS, TAP_PREFIX,
    link::Links,
    netns,
    ovsdb::{Client, Config, Datum, Operation, OvsdbError, Remote, Replica, Row, TableSpec},
    short, sys,
};

const DATABASE: &str = "Open_vSwitch";
pub(super) const ROOT: &str = "Open_vSwitch";
pub(super) const BRIDGE: &str = "Bridge";
pub(super) const PORT: &str = "Port";
pub(super) const INTERFACE: &str = "Interface";
pub(super) const INTEGRATION_BRIDGE: &str = "br-int";
const SERVER: &str = "server";
const METADATA: &str = "metadata";
const NAMESPACE_PREFIX: &str = "nacre-md-";
const METADATA_PREFIX: &str = "mdo";
const VERB_TIME_MAX: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: usize = 5;

const TABLES: &[TableSpec] = &[
    TableSpec {
        table: ROOT,
        columns: &["bridges", "external_ids", "next_cfg", "cur_cfg"],
        index: None,
        references: &["bridges"],
        notify: false,
    },
    TableSpec {
        table: BRIDGE,
        columns: &["name", "ports", "datapath_type"],
        index: None,
        references: &["ports"],
        notify: false,
    },
    TableSpec {
        table: PORT,
        columns: &["name", "interfaces"],
        index: None,
        references: &["interfaces"],
        notify: false,
    },
    TableSpec {
        table: INTERFACE,
        columns: &["name", "type", "external_ids"],
        index: Some(("external_ids", "iface-id")),
        references: &[],
        notify: true,
    },
];

/// This host's switch.
#[derive(Clone)]
pub struct Ovs {
    client: Client,
    links: Links,
    datapath: Datapath,
    namespace_prefix: String,
}

/// An interface of the integration bridge as it should be.
struct Plug<'a> {
    device: &'a str,
    port: &'a str,
    marks: Vec<(&'a str, String)>,
}

impl Ovs {
    /// Connects to the switch's database (`unix:/run/openvswitch/db.sock`). Returns at once; verbs wait for the
    /// connection. Needs a runtime, and works in the network namespace of the thread that calls it.
    pub fn connect(remote: &str, datapath: Datapath) -> Result<Self> {
        let remotes = Remote::parse_list(remote).map_err(|e| NetworkError::Unsupported(e.to_string()))?;
        let config = Config { remotes, database: DATABASE, tables: TABLES, request_time_max: VERB_TIME_MAX };
        let links = Links::open()
            .map_err(|e| NetworkError::System { what: "open a netlink socket".into(), why: e.to_string() })?;
        let switch = hex::encode(&Sha256::digest(remote)[..4]);
        let namespace_prefix = format!("{NAMESPACE_PREFIX}{switch}-");
        Ok(Self { client: Client::start(config), links, datapath, namespace_prefix })
    }

    /// Waits until the switch's database is read.
    pub async fn ready(&self) -> Result<()> {
        self.client.ready().await.map_err(unavailable)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Plans on the replica and carries it out; plans anew if the replica was behind.
    pub(super) async fn apply(&self, plan: impl Fn(&Replica) -> Result<Vec<Operation>>) -> Result<()> {
        self.ready().await?;
        for _ in 0..ATTEMPTS_MAX {
            let operations = plan(&self.client.replica())?;
            if operations.is_empty() {
                return Ok(());
            }
            match self.client.transact(operations).await {
                Ok(_) => return Ok(()),
                Err(stale) if stale.is_stale() => {}
                Err(refused @ OvsdbError::Refused { .. }) => return Err(NetworkError::Rejected(refused.to_string())),
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(NetworkError::Unavailable { what: "Open vSwitch", why: "others were faster, again and again".into() })
    }

    /// [`Ovs::apply`] for a change that must not be made twice.
    pub(super) async fn apply_once(&self, plan: impl Fn(&Replica) -> Result<Vec<Operation>>) -> Result<()> {
        self.ready().await?;
        let operations = plan(&self.client.replica())?;
        self.client.transact(operations).await.map(drop).map_err(unavailable)
    }

    async fn unplug(&self, port: &str) -> Result<()> {
        self.apply(|replica| Ok(plan_unplug(replica, port))).await
    }

    /// The devices of a port's interfaces.
    fn devices(&self, port: &str) -> BTreeSet<String> {
        let replica = self.client.replica();
        let names = replica.by_key(INTERFACE, port).filter_map(|(_, row)| row.get("name").as_text());
        names.map(str::to_owned).collect()
    }

    async fn plug_tap(&self, spec: &PlugSpec) -> Result<()> {
        if !self.links.exists(&spec.tap).await? {
            let (tap, owner) = (spec.tap.clone(), spec.owner_uid);
            netns::blocking("make the tap", move || sys::make_tap(&tap, owner)).await?;
        }
        self.links.bring_up(&spec.tap, Some(spec.mtu), None).await?;
        let marks = vec![("attached-mac", spec.mac.to_string()), ("nacre-kind", SERVER.to_owned())];
        let plug = Plug { device: &spec.tap, port: spec.port_id.as_str(), marks };
        self.apply(|replica| plan_plug(replica, &plug)).await
    }

    async fn unplug_tap(&self, id: &PortId) -> Result<()> {
        self.ready().await?;
        let mut devices = self.devices(id.as_str());
        devices.insert(super::tap_name(id));
        self.unplug(id.as_str()).await?;
        for device in devices {
            self.links.remove(&device).await?;
        }
        Ok(())
    }

    async fn make_metadata(&self, spec: &MetadataSpec) -> Result<()> {
        let names = self.metadata_names(&spec.network_id);
        if !self.metadata_whole(&names).await? {
            self.unplug(spec.port_id.as_str()).await?;
            self.links.remove(&names.outside).await?;
            let namespace = names.namespace.clone();
            let file = netns::blocking("make the namespace", move || {
                netns::remove(&namespace)?;
                netns::create(&namespace)?;
                std::fs::File::open(netns::path(&namespace))
            });
            self.links.make_veth(&names.outside, &names.inside, &file.await?).await?;
        }
        self.configure_metadata(spec, &names).await?;
        self.links.bring_up(&names.outside, Some(spec.mtu), None).await?;
        let marks = vec![
            ("attached-mac", spec.mac.to_string()),
            ("nacre-kind", METADATA.to_owned()),
            ("nacre-network", spec.network_id.to_string()),
        ];
        let plug = Plug { device: &names.outside, port: spec.port_id.as_str(), marks };
        self.apply(|replica| plan_plug(replica, &plug)).await
    }

    fn metadata_names(&self, network: &NetworkId) -> MetadataNames {
        let short = short(network.as_str());
        MetadataNames {
            namespace: format!("{}{network}", self.namespace_prefix),
            outside: format!("{METADATA_PREFIX}{short}"),
            inside: format!("mdi{short}"),
        }
    }

    /// Whether the namespace is alive and joined to this one by its veth.
    async fn metadata_whole(&self, names: &MetadataNames) -> Result<bool> {
        if !netns::exists(&names.namespace) || !self.links.exists(&names.outside).await? {
            return Ok(false);
        }
        let inside = netns::within(&names.namespace, "look into the namespace", Links::open).await?;
        inside.exists(&names.inside).await
    }

    async fn configure_metadata(&self, spec: &MetadataSpec, names: &MetadataNames) -> Result<()> {
        let inside = netns::within(&names.namespace, "enter the namespace", Links::open).await?;
        inside.bring_up("lo", None, None).await?;
        inside.bring_up(&names.inside, Some(spec.mtu), Some(spec.mac)).await?;
        let metadata = IpNet::V4(Ipv4Net::from(METADATA_IP));
        let addresses: Vec<IpNet> = spec.addresses.iter().copied().chain([metadata]).collect();
        inside.set_addresses(&names.inside, &addresses).await?;
        let metadata = IpNet::V6(Ipv6Net::from(METADATA_IPV6));
        if let Err(error) = inside.ensure_address(&names.inside, metadata).await {
            tracing::warn!(%error, "no metadata over IPv6: the kernel has none");
        }
        if self.datapath == Datapath::Netdev {
            let device = names.inside.clone();
            netns::within(&names.namespace, "set up checksums", move || sys::finish_checksums(&device)).await?;
        }
        Ok(())
    }

    /// Devices of our making that the switch does not know (what a crash between two steps leaves behind) or knows
    /// without an owner.
    async fn strays(&self) -> Result<Vec<String>> {
        self.ready().await?;
        let mut devices = self.links.names(TAP_PREFIX).await?;
        devices.extend(self.links.names(METADATA_PREFIX).await?);
        let replica = self.client.replica();
        let (known, unowned): (Vec<_>, Vec<_>) = replica
            .rows(INTERFACE)
            .filter_map(|(_, row)| Some((row.get("name").as_text()?, row)))
            .partition(|(_, row)| row.get("external_ids").key("nacre-kind").is_some());
        let known: BTreeSet<&str> = known.into_iter().map(|(name, _)| name).collect();
        devices.extend(unowned.into_iter().map(|(name, _)| name.to_owned()));
        devices.retain(|device| is_ours(device) && !known.contains(device.as_str()));
        devices.sort();
        devices.dedup();
        Ok(devices)
    }

    async fn drop_stray(&self, device: &str) -> Result<()> {
        if self.strays().await?.iter().any(|stray| stray == device) {
            self.apply(|replica| Ok(plan_drop(replica, device))).await?;
            self.links.remove(device).await?;
        }
        Ok(())
    }

    async fn drop_metadata(&self, id: &NetworkId) -> Result<()> {
        self.ready().await?;
        let names = self.metadata_names(id);
        let ports: Vec<String> = {
            let replica = self.client.replica();
            let own = metadata_rows(&replica).filter(|(network, _)| network == id);
            own.filter_map(|(_, row)| row.get("external_ids").key("iface-id").map(str::to_owned)).collect()
        };
        for port in ports {
            self.unplug(&port).await?;
        }
        self.links.remove(&names.outside).await?;
        netns::blocking("remove the namespace", move || netns::remove(&names.namespace)).await
    }
}

impl ChassisPorts for Ovs {
    fn datapath(&self) -> Datapath {
        self.datapath
    }

    fn ensure_port_plugged<'a>(&'a self, spec: &'a PlugSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.plug_tap(spec))
    }

    fn remove_port_plugged<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.unplug_tap(id))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<PluggedPort>>> {
        Box::pin(async {
            self.ready().await?;
            let replica = self.client.replica();
            let port = |row: &Row| {
                let tap = row.get("name").as_text()?.to_owned();
                Some(PluggedPort { port_id: server_port(row)?, tap, installed: is_installed(row) })
            };
            let mut ports: Vec<_> = replica.rows(INTERFACE).filter_map(|(_, row)| port(row)).collect();
            ports.sort();
            Ok(ports)
        })
    }

    fn watch_installed(&self) -> BoxStream<'static, PortInstalled> {
        self.client.watch_rows(INTERFACE, |old, new| {
            let port_id = new.or(old).and_then(server_port)?;
            let before = old.filter(|row| server_port(row).is_some()).map(is_installed);
            let installed = new.is_some_and(is_installed);
            (before != Some(installed) || new.is_none()).then_some(PortInstalled { port_id, installed })
        })
    }

    fn list_strays(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(self.strays())
    }

    fn remove_stray<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.drop_stray(device))
    }

    fn ensure_metadata_namespace<'a>(&'a self, spec: &'a MetadataSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.make_metadata(spec))
    }

    fn remove_metadata_namespace<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.drop_metadata(id))
    }

    fn list_metadata_namespaces(&self) -> BoxFuture<'_, Result<Vec<NetworkId>>> {
        Box::pin(async {
            self.ready().await?;
            let prefix = self.namespace_prefix.clone();
            let names = netns::blocking("list the namespaces", move || netns::list(&prefix)).await?;
            let own = |name: &String| name.strip_prefix(&self.namespace_prefix).map(NetworkId::from);
            let named = names.iter().filter_map(own);
            let replica = self.client.replica();
            let plugged = metadata_rows(&replica).map(|(network, _)| network);
            Ok(named.chain(plugged).collect::<BTreeSet<_>>().into_iter().collect())
        })
    }

    fn metadata_listener<'a>(&'a self, id: &'a NetworkId, tcp_port: u16) -> BoxFuture<'a, Result<TcpListener>> {
        Box::pin(async move {
            netns::within(&self.metadata_names(id).namespace, "listen in the metadata namespace", move || {
                // Of both families at once; where the kernel has no IPv6, of the one that there is.
                let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, tcp_port));
                let listener = both.or_else(|_| TcpListener::bind((METADATA_IP, tcp_port)))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .await
        })
    }
}

/// The names that belong to a network's metadata service.
struct MetadataNames {
    namespace: String,
    outside: String,
    inside: String,
}

/// Whether a device's name is one that [`super::tap_name`] or [`MetadataNames`] makes of a UUID.
fn is_ours(device: &str) -> bool {
    let id = device.strip_prefix(TAP_PREFIX).or_else(|| device.strip_prefix(METADATA_PREFIX)).unwrap_or_default();
    id.len() == SHORT_CHARS && id.chars().all(|c| c.is_ascii_hexdigit())
}

fn server_port(row: &Row) -> Option<PortId> {
    let ids = row.get("external_ids");
    (ids.key("nacre-kind") == Some(SERVER)).then(|| ids.key("iface-id").map(PortId::from)).flatten()
}

fn is_installed(row: &Row) -> bool {
    row.get("external_ids").key("ovn-installed") == Some("true")
}

fn metadata_rows(replica: &Replica) -> impl Iterator<Item = (NetworkId, &Row)> {
    replica.rows(INTERFACE).filter_map(|(_, row)| {
        let ids = row.get("external_ids");
        let network = ids.key("nacre-network").filter(|_| ids.key("nacre-kind") == Some(METADATA))?;
        Some((network.into(), row.as_ref()))
    })
}

/// The bridge of that name.
pub(super) fn bridge(replica: &Replica, name: &str) -> Option<Uuid> {
    replica.rows(BRIDGE).find(|(_, row)| row.get("name").as_text() == Some(name)).map(|(uuid, _)| uuid)
}

/// One interface with that port's id on that device, and no other.
fn plan_plug(replica: &Replica, plug: &Plug<'_>) -> Result<Vec<Operation>> {
    let Some(bridge) = bridge(replica, INTEGRATION_BRIDGE) else {
        let why = format!("there is no bridge {INTEGRATION_BRIDGE} yet: is ovn-controller running?");
        return Err(NetworkError::Unavailable { what: "Open vSwitch", why });
    };
    let mut operations = vec![Operation::expect_row(BRIDGE, bridge)];
    let own = |row: &Row| row.get("name").as_text() == Some(plug.device);
    for (other, _) in replica.by_key(INTERFACE, plug.port).filter(|(_, row)| !own(row)) {
        operations.extend(plan_take(replica, other));
    }
    let marks = Datum::map([("iface-id", plug.port.to_owned())].into_iter().chain(plug.marks.iter().cloned()));
    let there = replica.by_key(INTERFACE, plug.port).find(|(_, row)| own(row));
    match there {
        Some((uuid, row)) => {
            let ids = row.get("external_ids");
            if plug.marks.iter().any(|(key, value)| ids.key(key) != Some(value)) {
                operations.push(Operation::set_keys(INTERFACE, uuid, "external_ids", &marks));
            }
        }
        None => {
            // The device under another port's id, or without one: it was plugged for something that is no more.
            let stale = replica.rows(INTERFACE).filter(|(_, row)| own(row));
            operations.extend(stale.flat_map(|(uuid, _)| plan_take(replica, uuid)));
            let (interface, port) = (model::id::random_uuid(), model::id::random_uuid());
            let name = || ("name", Datum::one(plug.device));
            operations.push(Operation::insert(INTERFACE, interface, [name(), ("external_ids", marks)]));
            operations.push(Operation::insert(PORT, port, [name(), ("interfaces", Datum::one(interface))]));
            operations.push(Operation::add(BRIDGE, bridge, "ports", &Datum::set([port])));
        }
    }
    // The guard alone is nothing to do.
    Ok(if operations.len() == 1 { Vec::new() } else { operations })
}

fn plan_unplug(replica: &Replica, port: &str) -> Vec<Operation> {
    replica.by_key(INTERFACE, port).flat_map(|(interface, _)| plan_take(replica, interface)).collect()
}

/// Takes a device out of its bridge.
fn plan_drop(replica: &Replica, device: &str) -> Vec<Operation> {
    let interfaces = replica.rows(INTERFACE).filter(|(_, row)| row.get("name").as_text() == Some(device));
    interfaces.flat_map(|(interface, _)| plan_take(replica, interface)).collect()
}

/// Takes an interface's port out of its bridges; OVSDB drops both.
fn plan_take(replica: &Replica, interface: Uuid) -> Vec<Operation> {
    let ports = replica.referrers(PORT, "interfaces", interface);
    let bridges = ports.flat_map(|port| replica.referrers(BRIDGE, "ports", port).map(move |bridge| (bridge, port)));
    bridges.map(|(bridge, port)| Operation::take(BRIDGE, bridge, "ports", &Datum::set([port]))).collect()
}

fn unavailable(error: OvsdbError) -> NetworkError {
    NetworkError::Unavailable { what: "Open vSwitch", why: error.to_string() }
}
