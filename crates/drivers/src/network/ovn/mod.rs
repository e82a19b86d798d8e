//! [`Northbound`] on a real OVN.
//!
//! Each verb is one function that reads the replica and plans operations, and one transaction that carries them out:
//! one round trip, or none if everything is as wanted. If the replica was behind (another writer was faster), the
//! transaction fails whole and the verb plans anew.
//!
//! | file | plans |
//! |---|---|
//! | `switching` | networks, DHCP, names, ports |
//! | `routing` | routers, SNAT, routes, floating IPs |
//! | `security` | security groups |
//! | `qos` | limits and marks of ports |
//! | `plan` | the difference between wanted rows and those that are there |
//! | `rows` | tables, names and UUIDs of rows |

mod plan;
mod qos;
mod routing;
mod rows;
mod security;
mod switching;

use std::time::Duration;

use futures_util::{future::BoxFuture, stream::BoxStream};
use model::id::{FloatingIpId, NetworkId, PortId, RouterId, SecurityGroupId, SubnetId};

use self::plan::Plan;
use super::{
    ChassisPriority, DnsSpec, FloatingIpSpec, NetworkError, NetworkSpec, Northbound, Owned, OwnedKind, PortSpec,
    PortUp, Result, RouterSpec, SecurityGroupSpec, SubnetSpec,
    ovsdb::{Client, Config, OvsdbError, Remote, Row},
};

/// How long a verb may take, a broken connection's repair included.
const VERB_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a verb plans anew because another writer was faster.
const ATTEMPTS_MAX: usize = 5;

/// A connection to OVN's northbound database.
#[derive(Clone)]
pub struct Ovn {
    client: Client,
}

impl Ovn {
    /// Connects to the northbound database at `remotes` (`unix:/...`, `tcp:...`, several separated by commas), and
    /// stays connected. Returns at once; verbs wait for the connection.
    pub fn connect(remotes: &str) -> Result<Self> {
        let remotes = Remote::parse_list(remotes).map_err(|e| NetworkError::Unsupported(e.to_string()))?;
        let config =
            Config { remotes, database: rows::DATABASE, tables: rows::TABLES, request_time_max: VERB_TIME_MAX };
        Ok(Self { client: Client::start(config) })
    }

    /// Waits until the northbound database's content is here.
    pub async fn ready(&self) -> Result<()> {
        self.client.ready().await.map_err(unavailable)
    }

    /// How many transactions were sent, for metrics.
    pub fn transactions(&self) -> u64 {
        self.client.transactions()
    }

    /// A verb that needs nothing to be there.
    async fn always(&self, plan: impl Fn(&mut Plan<'_>)) -> Result<()> {
        self.apply(|made| {
            plan(made);
            Ok(())
        })
        .await
    }

    async fn apply(&self, plan: impl Fn(&mut Plan<'_>) -> Result<()>) -> Result<()> {
        self.ready().await?;
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let operations = {
                let replica = self.client.replica();
                let mut made = Plan::new(&replica);
                plan(&mut made)?;
                made.into_operations()
            };
            if operations.is_empty() {
                return Ok(());
            }
            match self.client.transact(operations).await {
                Ok(_) => return Ok(()),
                Err(stale) if stale.is_stale() => last = Some(stale),
                Err(refused @ OvsdbError::Refused { .. }) => return Err(NetworkError::Rejected(refused.to_string())),
                Err(error) => return Err(unavailable(error)),
            }
        }
        let why = last.map_or_else(String::new, |error| error.to_string());
        Err(NetworkError::Unavailable { what: "OVN northbound database", why: format!("others were faster: {why}") })
    }
}

/// The UUID of the row that stands for a thing.
pub(super) fn row_of(kind: OwnedKind, id: &str) -> uuid::Uuid {
    if kind == OwnedKind::Dns { switching::dns_row(id) } else { rows::uuid_of(id) }
}

fn unavailable(error: OvsdbError) -> NetworkError {
    NetworkError::Unavailable { what: "OVN northbound database", why: error.to_string() }
}

impl Northbound for Ovn {
    fn ensure_network<'a>(&'a self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::ensure_network(plan, spec)))
    }

    fn remove_network<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::remove_network(plan, id.as_str())))
    }

    fn ensure_subnet_dhcp<'a>(&'a self, spec: &'a SubnetSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::ensure_subnet_dhcp(plan, spec)))
    }

    fn remove_subnet_dhcp<'a>(&'a self, id: &'a SubnetId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::remove_subnet_dhcp(plan, id.as_str())))
    }

    fn ensure_port<'a>(&'a self, spec: &'a PortSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.apply(move |plan| switching::ensure_port(plan, spec)))
    }

    fn remove_port<'a>(&'a self, id: &'a PortId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::remove_port(plan, id.as_str())))
    }

    fn ensure_router<'a>(&'a self, spec: &'a RouterSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.apply(move |plan| routing::ensure_router(plan, spec)))
    }

    fn remove_router<'a>(&'a self, id: &'a RouterId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| routing::remove_router(plan, id.as_str())))
    }

    fn ensure_chassis_gateway<'a>(
        &'a self,
        id: &'a RouterId,
        chassis: &'a [ChassisPriority],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.apply(move |plan| routing::ensure_chassis(plan, id.as_str(), chassis)))
    }

    fn ensure_floating_ip<'a>(&'a self, spec: &'a FloatingIpSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.apply(move |plan| routing::ensure_floating_ip(plan, spec)))
    }

    fn remove_floating_ip<'a>(&'a self, id: &'a FloatingIpId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| routing::remove_floating_ip(plan, id.as_str())))
    }

    fn ensure_security_group<'a>(&'a self, spec: &'a SecurityGroupSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| security::ensure_group(plan, spec)))
    }

    fn remove_security_group<'a>(&'a self, id: &'a SecurityGroupId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| {
            let (uuid, _) = rows::locate(plan.replica(), rows::GROUP, OwnedKind::SecurityGroup, id.as_str());
            plan.remove_root(rows::GROUP, uuid);
        }))
    }

    fn ensure_dns<'a>(&'a self, spec: &'a DnsSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.apply(move |plan| switching::ensure_dns(plan, spec)))
    }

    fn remove_dns<'a>(&'a self, id: &'a NetworkId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.always(move |plan| switching::remove_dns(plan, id.as_str())))
    }

    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Owned>>> {
        Box::pin(async {
            self.ready().await?;
            let replica = self.client.replica();
            let mut owned: Vec<Owned> = rows::OWNED
                .iter()
                .flat_map(|(kind, table)| {
                    replica.rows(table).filter_map(|(row, content)| {
                        let nacre_id = content.get("external_ids").key(rows::ID_KEY)?.to_owned();
                        (rows::kind_of(content) == Some(*kind)).then_some(Owned { kind: *kind, nacre_id, row })
                    })
                })
                .collect();
            owned.sort();
            owned.dedup();
            Ok(owned)
        })
    }

    fn watch_ports(&self) -> BoxStream<'static, PortUp> {
        let up = |row: &Row| row.get("up").as_bool() == Some(true);
        self.client.watch_rows(rows::SWITCH_PORT, move |old, new| {
            let row = new.or(old).filter(|row| rows::kind_of(row) == Some(OwnedKind::Port))?;
            let (before, now) = (old.map(up), new.is_some_and(up));
            let port_id = row.get("external_ids").key(rows::ID_KEY)?.into();
            (before != Some(now)).then_some(PortUp { port_id, up: now })
        })
    }

    fn watch_resets(&self) -> BoxStream<'static, ()> {
        self.client.watch_resets()
    }

    fn connected(&self) -> bool {
        self.client.connected()
    }
}
