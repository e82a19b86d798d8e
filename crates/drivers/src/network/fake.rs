//! Both traits in memory, with the meaning of the real ones: the same conformance suite runs on both.
//!
//! One [`FakeNetwork`] is the northbound side; [`FakeNetwork::chassis`] gives the ports of one of its hosts. A port is
//! installed, and up, as soon as it is both known and plugged. [`FakeNetwork::fail_next`] makes one call fail.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, ready},
    stream::BoxStream,
};
use model::id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SubnetId};
use tokio::sync::broadcast;

use super::{
    ChassisPorts, ChassisPriority, Datapath, DnsSpec, FloatingIpSpec, MetadataSpec, NetworkError, NetworkSpec,
    Northbound, Owned, OwnedKind, PlugSpec, PluggedPort, PortInstalled, PortKind, PortSpec, PortUp, Result, RouterSpec,
    SecurityGroupSpec, SubnetSpec, ovn,
};

const EVENTS_QUEUED_MAX: usize = 16 * 1024;
/// Small, since simulations have thousands of hosts: a watcher that is slower is told everything anew.
const HOST_EVENTS_QUEUED_MAX: usize = 64;

/// A network engine that only remembers.
#[derive(Clone)]
pub struct FakeNetwork {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<Change>,
    resets: broadcast::Sender<()>,
}

/// One host of a [`FakeNetwork`].
#[derive(Clone)]
pub struct FakeChassis {
    network: FakeNetwork,
    host: String,
}

/// A port became usable where it is plugged in, or ceased to be.
#[derive(Clone)]
struct Change {
    port: PortId,
    installed: bool,
}

/// What one host has.
struct Host {
    plugged: BTreeMap<PortId, PlugSpec>,
    metadata: BTreeMap<NetworkId, MetadataSpec>,
    changes: broadcast::Sender<Change>,
}

impl Default for Host {
    fn default() -> Self {
        let changes = broadcast::channel(HOST_EVENTS_QUEUED_MAX).0;
        Self { plugged: BTreeMap::new(), metadata: BTreeMap::new(), changes }
    }
}

#[derive(Default)]
struct State {
    networks: BTreeMap<NetworkId, NetworkSpec>,
    subnets: BTreeMap<SubnetId, SubnetSpec>,
    ports: BTreeMap<PortId, PortSpec>,
    routers: BTreeMap<RouterId, RouterSpec>,
    floating_ips: BTreeMap<FloatingIpId, FloatingIpSpec>,
    security_groups: BTreeMap<SecurityGroupId, SecurityGroupSpec>,
    dns: BTreeMap<NetworkId, DnsSpec>,
    hosts: BTreeMap<String, Host>,
    /// Where a port is plugged in.
    hosts_of: BTreeMap<PortId, BTreeSet<String>>,
    failures: BTreeMap<&'static str, VecDeque<NetworkError>>,
    writes: u64,
}

impl Default for FakeNetwork {
    fn default() -> Self {
        let (changes, resets) = (broadcast::channel(EVENTS_QUEUED_MAX).0, broadcast::channel(1).0);
        Self { state: Arc::default(), changes, resets }
    }
}

impl FakeNetwork {
    /// The ports of the host of that name.
    pub fn chassis(&self, host: impl Into<String>) -> FakeChassis {
        FakeChassis { network: self.clone(), host: host.into() }
    }

    /// Lets the next call of a verb (`ensure_port`, `ensure_port_plugged`, ...) fail so; further calls queue up.
    pub fn fail_next(&self, verb: &'static str, error: NetworkError) {
        self.lock().failures.entry(verb).or_default().push_back(error);
    }

    /// Loses all networks and what is in them, as an engine does whose database is deleted under it. Hosts keep theirs.
    pub fn lose_everything(&self) {
        let mut state = self.lock();
        let (hosts, hosts_of) = (std::mem::take(&mut state.hosts), std::mem::take(&mut state.hosts_of));
        *state = State { hosts, hosts_of, ..State::default() };
        let _nobody_listens = self.resets.send(());
    }

    /// How many calls changed something.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// A port as it was last wanted.
    pub fn port(&self, id: &PortId) -> Option<PortSpec> {
        self.lock().ports.get(id).cloned()
    }

    /// A router as it was last wanted.
    pub fn router(&self, id: &RouterId) -> Option<RouterSpec> {
        self.lock().routers.get(id).cloned()
    }

    /// A floating IP as it was last wanted.
    pub fn floating_ip(&self, id: &FloatingIpId) -> Option<FloatingIpSpec> {
        self.lock().floating_ips.get(id).cloned()
    }

    /// A security group as it was last wanted.
    pub fn security_group(&self, id: &SecurityGroupId) -> Option<SecurityGroupSpec> {
        self.lock().security_groups.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One verb: fails if told so, changes the state, and tells watchers what became of the ports.
    fn verb<'a>(
        &self,
        name: &'static str,
        change: impl FnOnce(&mut State) -> Result<bool>,
    ) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        if let Some(error) = state.failures.get_mut(name).and_then(VecDeque::pop_front) {
            return Box::pin(ready(Err(error)));
        }
        let done = change(&mut state);
        state.writes += u64::from(matches!(done, Ok(true)));
        Box::pin(ready(done.map(drop)))
    }

    /// Tells what became of a port wherever it is plugged in.
    fn tell(&self, state: &State, port: &PortId) {
        for host in state.hosts_of.get(port).into_iter().flatten().filter_map(|host| state.hosts.get(host)) {
            self.tell_host(host, port, state.is_installed(port));
        }
    }

    fn tell_host(&self, host: &Host, port: &PortId, installed: bool) {
        for changes in [&host.changes, &self.changes] {
            let _nobody_listens = changes.send(Change { port: port.clone(), installed });
        }
    }
}

impl State {
    fn is_installed(&self, port: &PortId) -> bool {
        self.ports.get(port).is_some_and(|spec| spec.kind == PortKind::Server)
    }

    fn need(there: bool, kind: OwnedKind, id: impl AsRef<str>) -> Result<()> {
        if there { Ok(()) } else { Err(NetworkError::Missing { kind, id: id.as_ref().to_owned() }) }
    }

    fn need_network(&self, id: &NetworkId) -> Result<()> {
        Self::need(self.networks.contains_key(id), OwnedKind::Network, id)
    }

    fn check_port(&self, spec: &PortSpec) -> Result<()> {
        self.need_network(&spec.network_id)?;
        for subnet in &spec.dhcp {
            Self::need(self.subnets.contains_key(subnet), OwnedKind::Subnet, subnet)?;
        }
        for group in spec.security_groups.iter().filter(|_| spec.kind == PortKind::Server && spec.port_security) {
            Self::need(self.security_groups.contains_key(group), OwnedKind::SecurityGroup, group)?;
        }
        Ok(())
    }
}

/// Puts a value in; says whether that changed anything.
fn put<K: Ord + Clone, V: PartialEq + Clone>(map: &mut BTreeMap<K, V>, key: &K, value: &V) -> bool {
    let same = map.get(key) == Some(value);
    if !same {
        map.insert(key.clone(), value.clone());
    }
    !same
}

impl Northbound for FakeNetwork {
    fn ensure_network<'a>(&'a self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_network", |state| Ok(put(&mut state.networks, &spec.id, spec)))
    }

    fn remove_network<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_network", |state| {
            let gone: Vec<PortId> =
                state.ports.values().filter(|port| port.network_id == *id).map(|port| port.id.clone()).collect();
            for port in &gone {
                state.ports.remove(port);
                self.tell(state, port);
            }
            state.dns.remove(id);
            Ok(state.networks.remove(id).is_some())
        })
    }

    fn ensure_subnet_dhcp<'a>(&'a self, spec: &'a SubnetSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_subnet_dhcp", |state| Ok(put(&mut state.subnets, &spec.id, spec)))
    }

    fn remove_subnet_dhcp<'a>(&'a self, id: &'a SubnetId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_subnet_dhcp", |state| Ok(state.subnets.remove(id).is_some()))
    }

    fn ensure_port<'a>(&'a self, spec: &'a PortSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_port", |state| {
            state.check_port(spec)?;
            let is_new = !state.ports.contains_key(&spec.id);
            let changed = put(&mut state.ports, &spec.id, spec);
            if is_new {
                self.tell(state, &spec.id);
            }
            Ok(changed)
        })
    }

    fn remove_port<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_port", |state| {
            let removed = state.ports.remove(id).is_some();
            if removed {
                self.tell(state, id);
            }
            Ok(removed)
        })
    }

    fn ensure_router<'a>(&'a self, spec: &'a RouterSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_router", |state| {
            let networks =
                spec.gateway.iter().map(|g| &g.network_id).chain(spec.interfaces.iter().map(|i| &i.network_id));
            for network in networks {
                state.need_network(network)?;
            }
            Ok(put(&mut state.routers, &spec.id, spec))
        })
    }

    fn remove_router<'a>(&'a self, id: &'a RouterId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_router", |state| {
            state.floating_ips.retain(|_, floating| floating.router_id != *id);
            Ok(state.routers.remove(id).is_some())
        })
    }

    fn ensure_chassis_gateway<'a>(
        &'a self,
        id: &'a RouterId,
        chassis: &'a [ChassisPriority],
    ) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_chassis_gateway", |state| {
            State::need(state.routers.contains_key(id), OwnedKind::Router, id)?;
            let gateway = state.routers.get_mut(id).and_then(|router| router.gateway.as_mut());
            let changed = gateway.filter(|gateway| gateway.chassis != chassis);
            Ok(changed.map(|gateway| gateway.chassis = chassis.to_vec()).is_some())
        })
    }

    fn ensure_floating_ip<'a>(&'a self, spec: &'a FloatingIpSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_floating_ip", |state| {
            State::need(state.routers.contains_key(&spec.router_id), OwnedKind::Router, &spec.router_id)?;
            Ok(put(&mut state.floating_ips, &spec.id, spec))
        })
    }

    fn remove_floating_ip<'a>(&'a self, id: &'a FloatingIpId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_floating_ip", |state| Ok(state.floating_ips.remove(id).is_some()))
    }

    fn ensure_security_group<'a>(&'a self, spec: &'a SecurityGroupSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_security_group", |state| Ok(put(&mut state.security_groups, &spec.id, spec)))
    }

    fn remove_security_group<'a>(&'a self, id: &'a SecurityGroupId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_security_group", |state| Ok(state.security_groups.remove(id).is_some()))
    }

    fn ensure_dns<'a>(&'a self, spec: &'a DnsSpec) -> BoxFuture<'a, Result<()>> {
        self.verb("ensure_dns", |state| {
            state.need_network(&spec.network_id)?;
            Ok(put(&mut state.dns, &spec.network_id, spec))
        })
    }

    fn remove_dns<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        self.verb("remove_dns", |state| Ok(state.dns.remove(id).is_some()))
    }

    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Owned>>> {
        let state = self.lock();
        let side = |spec: &RouterSpec| {
            let interfaces = spec.interfaces.iter().map(|interface| interface.port_id.to_string());
            spec.gateway.iter().map(|gateway| gateway.port_id.to_string()).chain(interfaces).collect::<Vec<_>>()
        };
        let sides: Vec<String> = state.routers.values().flat_map(side).collect();
        let groups: [(OwnedKind, Vec<String>); 8] = [
            (OwnedKind::Network, ids(&state.networks)),
            (OwnedKind::Subnet, ids(&state.subnets)),
            (OwnedKind::Port, ids(&state.ports)),
            (OwnedKind::RouterPort, sides),
            (OwnedKind::Router, ids(&state.routers)),
            (OwnedKind::FloatingIp, ids(&state.floating_ips)),
            (OwnedKind::SecurityGroup, ids(&state.security_groups)),
            (OwnedKind::Dns, ids(&state.dns)),
        ];
        let owned = |(kind, ids): (OwnedKind, Vec<String>)| {
            ids.into_iter().map(move |nacre_id| Owned { kind, row: ovn::row_of(kind, &nacre_id), nacre_id })
        };
        let mut all: Vec<Owned> = groups.into_iter().flat_map(owned).collect();
        all.sort();
        Box::pin(ready(Ok(all)))
    }

    fn watch_ports(&self) -> BoxStream<'static, PortUp> {
        let all = |network: &FakeNetwork| {
            let state = network.lock();
            let plugged = |port: &PortId| state.hosts_of.contains_key(port);
            state.ports.keys().map(|id| PortUp { port_id: id.clone(), up: plugged(id) }).collect()
        };
        self.watch(self.changes.subscribe(), all, |change| PortUp { port_id: change.port, up: change.installed })
    }

    fn watch_resets(&self) -> BoxStream<'static, ()> {
        let reset = |mut resets: broadcast::Receiver<()>| async move {
            match resets.recv().await {
                Err(broadcast::error::RecvError::Closed) => None,
                _ => Some(((), resets)),
            }
        };
        futures_util::stream::unfold(self.resets.subscribe(), reset).boxed()
    }

    fn connected(&self) -> bool {
        true
    }
}

fn ids<K: AsRef<str>, V>(map: &BTreeMap<K, V>) -> Vec<String> {
    map.keys().map(|id| id.as_ref().to_owned()).collect()
}

/// The state of a stream of changes.
struct Watch<A, O, T> {
    network: FakeNetwork,
    changes: broadcast::Receiver<Change>,
    queue: VecDeque<T>,
    all: A,
    one: O,
}

impl FakeNetwork {
    /// Everything, then each change; everything again if the reader was too slow.
    fn watch<T, A, O>(&self, changes: broadcast::Receiver<Change>, all: A, one: O) -> BoxStream<'static, T>
    where
        T: Send + 'static,
        A: Fn(&Self) -> VecDeque<T> + Send + 'static,
        O: Fn(Change) -> T + Send + 'static,
    {
        let start = Watch { queue: all(self), network: self.clone(), changes, all, one };
        let next = |mut watch: Watch<A, O, T>| async move {
            loop {
                if let Some(item) = watch.queue.pop_front() {
                    return Some((item, watch));
                }
                match watch.changes.recv().await {
                    Ok(change) => return Some(((watch.one)(change), watch)),
                    Err(broadcast::error::RecvError::Lagged(_)) => watch.queue = (watch.all)(&watch.network),
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        futures_util::stream::unfold(start, next).boxed()
    }
}

impl ChassisPorts for FakeChassis {
    fn datapath(&self) -> Datapath {
        Datapath::Netdev
    }

    fn ensure_port_plugged<'a>(&'a self, spec: &'a PlugSpec) -> BoxFuture<'a, Result<()>> {
        self.network.verb("ensure_port_plugged", |state| {
            let installed = state.is_installed(&spec.port_id);
            let host = state.hosts.entry(self.host.clone()).or_default();
            let changed = put(&mut host.plugged, &spec.port_id, spec);
            if changed {
                self.network.tell_host(host, &spec.port_id, installed);
                state.hosts_of.entry(spec.port_id.clone()).or_default().insert(self.host.clone());
            }
            Ok(changed)
        })
    }

    fn remove_port_plugged<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>> {
        self.network.verb("remove_port_plugged", |state| {
            let host = state.hosts.entry(self.host.clone()).or_default();
            if host.plugged.remove(id).is_none() {
                return Ok(false);
            }
            self.network.tell_host(host, id, false);
            if let Some(hosts) = state.hosts_of.get_mut(id) {
                hosts.remove(&self.host);
                if hosts.is_empty() {
                    state.hosts_of.remove(id);
                }
            }
            Ok(true)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<PluggedPort>>> {
        let state = self.network.lock();
        let own = state.hosts.get(&self.host).into_iter().flat_map(|host| &host.plugged);
        let ports = own.map(|(port, spec)| PluggedPort {
            port_id: port.clone(),
            tap: spec.tap.clone(),
            installed: state.is_installed(port),
        });
        Box::pin(ready(Ok(ports.collect())))
    }

    fn watch_installed(&self) -> BoxStream<'static, PortInstalled> {
        let changes = self.network.lock().hosts.entry(self.host.clone()).or_default().changes.subscribe();
        let name = self.host.clone();
        let all = move |network: &FakeNetwork| {
            let state = network.lock();
            let own = state.hosts.get(&name).into_iter().flat_map(|host| host.plugged.keys());
            own.map(|port| PortInstalled { port_id: port.clone(), installed: state.is_installed(port) }).collect()
        };
        let one = |change: Change| PortInstalled { port_id: change.port, installed: change.installed };
        self.network.watch(changes, all, one)
    }

    /// Nothing crashes here, so there are none.
    fn list_strays(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn remove_stray<'a>(&'a self, _device: &'a str) -> BoxFuture<'a, Result<()>> {
        self.network.verb("remove_stray", |_| Ok(false))
    }

    fn ensure_metadata_namespace<'a>(&'a self, spec: &'a MetadataSpec) -> BoxFuture<'a, Result<()>> {
        self.network.verb("ensure_metadata_namespace", |state| {
            let host = state.hosts.entry(self.host.clone()).or_default();
            Ok(put(&mut host.metadata, &spec.network_id, spec))
        })
    }

    fn remove_metadata_namespace<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        self.network.verb("remove_metadata_namespace", |state| {
            let host = state.hosts.get_mut(&self.host);
            Ok(host.and_then(|host| host.metadata.remove(id)).is_some())
        })
    }

    fn list_metadata_namespaces(&self) -> BoxFuture<'_, Result<Vec<NetworkId>>> {
        let state = self.network.lock();
        let own = state.hosts.get(&self.host).into_iter().flat_map(|host| host.metadata.keys());
        Box::pin(ready(Ok(own.cloned().collect())))
    }

    /// On loopback, on a port of the system's choice: there is no namespace here.
    fn metadata_listener<'a>(&'a self, id: &'a NetworkId, _tcp_port: u16) -> BoxFuture<'a, Result<TcpListener>> {
        let there = self.network.lock().hosts.get(&self.host).is_some_and(|host| host.metadata.contains_key(id));
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let made: std::io::Result<TcpListener> =
            if there { listen() } else { Err(std::io::ErrorKind::NotFound.into()) };
        let failed = |error: std::io::Error| NetworkError::System {
            what: "listen in the metadata namespace".into(),
            why: error.to_string(),
        };
        Box::pin(ready(made.map_err(failed)))
    }
}
