//! Tables of the network service.
//!
//! | module | holds |
//! |---|---|
//! | [`networks`], [`subnets`], [`ports`], [`routers`], [`floating_ips`], [`security_groups`] | one table family each |
//! | [`address_groups`], [`metering`], [`port_forwardings`], [`qos`], [`subnet_pools`], [`trunks`] | resources without a flow |
//! | [`plain`] | what all resources without a flow have |
//! | `addresses` | which addresses a port gets |
//! | [`ip_availability`] | how many addresses are left |
//! | [`rows`] | revisions and deletion, the same in all of them |
//! | [`tags`] | tags of all of them |
//! | [`chassis`] | hosts that may hold gateways |
//! | [`audit`] | what the sweep and the doctor compare |
//!
//! Each `create` charges quota, allocates addresses and inserts the resource's flow in the caller's transaction; each
//! change raises the row's `revision` and wakes the flow; each `delete` gives everything back that others may want and
//! leaves the row, marked, to its flow. Locks are taken in this order, so that no two transactions deadlock: quota of
//! the project, network, then what lies in it.

pub mod address_groups;
mod addresses;
pub mod audit;
pub mod chassis;
pub mod floating_ips;
pub mod ip_availability;
pub mod metering;
pub mod networks;
pub mod plain;
pub mod port_forwardings;
pub mod ports;
pub mod qos;
pub mod routers;
pub mod rows;
pub mod security_groups;
pub mod subnet_pools;
pub mod subnets;
pub mod tags;
pub mod trunks;

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Error, Timestamp, id::ProjectId};
use serde::{Deserialize, Serialize};

pub use addresses::RequestedIp;

use crate::{Conn, Error as StoreError, Row, RowExt, Tx, list::Select, quotas};

/// `device_owner` of a network's metadata port.
pub const OWNER_METADATA: &str = "network:distributed";
/// `device_owner` of a router's port on a tenant network.
pub const OWNER_ROUTER_INTERFACE: &str = "network:router_interface";
/// `device_owner` of a router's port on its external network.
pub const OWNER_ROUTER_GATEWAY: &str = "network:router_gateway";
/// `device_owner` of the port that holds a floating IP's address.
pub const OWNER_FLOATING_IP: &str = "network:floatingip";
/// `device_owner` of a server's port: this, and the availability zone.
pub const OWNER_SERVER_PREFIX: &str = "compute:";

/// Quotas: Neutron's names and default limits.
pub const QUOTAS: &[(&str, i64)] = &[
    ("floatingip", 50),
    ("network", 100),
    ("port", 500),
    ("router", 10),
    ("security_group", 10),
    ("security_group_rule", 100),
    ("subnet", 100),
];

/// What every table of this service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Counts changes of intent.
    pub revision: i64,
    /// The revision that OVN has; -1 before the first.
    pub realized_revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its intent last changed.
    pub updated_at: Timestamp,
    /// Whether it is to go.
    pub deleted: bool,
}

impl Meta {
    fn from_row(row: &Row) -> crate::Result<Self> {
        Ok(Self {
            revision: row.int("revision")?,
            realized_revision: row.int("realized_revision")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            deleted: row.opt_int("deleted_at")?.is_some(),
        })
    }

    fn new(now: Timestamp) -> Self {
        Self { revision: 1, realized_revision: -1, created_at: now, updated_at: now, deleted: false }
    }

    /// Whether OVN has it as it is wanted.
    pub fn is_realized(&self) -> bool {
        self.realized_revision >= self.revision
    }

    /// Whether OVN has it in any form: what others that refer to it wait for.
    pub fn exists_in_ovn(&self) -> bool {
        self.realized_revision > 0
    }
}

/// A static route of a subnet's guests or of a router, as clients write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A CIDR.
    pub destination: String,
    /// An address.
    pub nexthop: String,
}

impl Route {
    /// Both parts as what they are; none for text that is neither.
    pub fn parsed(&self) -> Option<(IpNet, IpAddr)> {
        Some((self.destination.parse().ok()?, self.nexthop.parse().ok()?))
    }
}

/// Who looks at a list.
#[derive(Clone, Debug)]
pub enum Viewer {
    /// Sees what belongs to anyone.
    Admin,
    /// Sees what is its own, and what is shared.
    Project(ProjectId),
}

/// Charges one of a project's quotas; what belongs to no project costs nothing.
async fn charge(tx: &mut Tx, project: &ProjectId, resource: &'static str, amount: i64) -> Result<(), Error> {
    if project.as_str().is_empty() || amount == 0 {
        return Ok(());
    }
    let default_limit = QUOTAS.iter().find(|(name, _)| *name == resource).map_or(0, |(_, limit)| *limit);
    let charged = quotas::charge(tx, project, &[quotas::Charge { resource, default_limit, amount }]).await;
    charged.map_err(|error| match error.code {
        // Neutron's own sentence: clients look for it.
        "OverQuota" => Error::over_quota("OverQuota", format!("Quota exceeded for resources: ['{resource}'].")),
        _ => error,
    })
}

async fn release(tx: &mut Tx, project: &ProjectId, resource: &'static str, amount: i64) -> crate::Result<()> {
    if project.as_str().is_empty() || amount == 0 {
        return Ok(());
    }
    quotas::release(tx, project, resource, amount).await
}

/// JSON for a column. Ours always can be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn column(column: &str, reason: impl ToString) -> StoreError {
    StoreError::Column { column: column.to_owned(), reason: reason.to_string() }
}

fn address(row: &Row, name: &str) -> crate::Result<IpAddr> {
    row.text(name)?.parse().map_err(|e| column(name, e))
}

fn opt_address(row: &Row, name: &str) -> crate::Result<Option<IpAddr>> {
    row.opt_text(name)?.map(|text| text.parse().map_err(|e| column(name, e))).transpose()
}

/// Projects that have limits of their own for any of [`QUOTAS`].
pub async fn projects_with_limits(conn: &mut Conn) -> crate::Result<Vec<ProjectId>> {
    let base = "select distinct l.project_id from quota_limits l";
    let mut select = Select::new(base, "quota_limits l", "l.project_id");
    select.filter("l.project_id <> ''", []).any_of("l.resource", QUOTAS.iter().map(|(name, _)| (*name).into()));
    select.all(conn, "l.project_id").await?.iter().map(|row| row.id("project_id")).collect()
}
