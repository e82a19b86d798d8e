//! Tables `subnetpools` and `address_scopes`: ranges that subnets are cut from, and the worlds in which addresses are
//! unique.

use std::collections::HashMap;

use ipnet::IpNet;
use model::{
    Error,
    addr::first_free_block,
    id::{NetworkId, ProjectId},
};

use super::{
    json,
    plain::{self, Column, Plain, Standard},
    subnets::Subnet,
};
use crate::{Conn, Result, Row, RowExt, Tx, list::Select, query};

/// A world of its own in which no two subnets have the same address.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressScope {
    /// What all such tables have.
    pub standard: Standard,
    /// 4 or 6.
    pub ip_version: i64,
    /// Whether every project may use it.
    pub shared: bool,
}

impl Plain for AddressScope {
    const TABLE: &'static str = "address_scopes";
    const SELECT: &'static str = "select r.* from address_scopes r";
    const FROM: &'static str = "address_scopes r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self { standard, ip_version: row.int("ip_version")?, shared: row.flag("shared")? })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![("ip_version", self.ip_version.into()), ("shared", self.shared.into())]
    }

    fn visible(select: &mut Select, project: &ProjectId) {
        select.filter("(r.project_id = ? or r.shared = 1)", [project.into()]);
    }
}

/// Ranges that subnets are cut from.
#[derive(Clone, Debug, PartialEq)]
pub struct SubnetPool {
    /// What all such tables have.
    pub standard: Standard,
    /// Its ranges, all of one family, none over another.
    pub prefixes: Vec<IpNet>,
    /// What a subnet gets that does not say how long its prefix is.
    pub default_prefixlen: u8,
    /// The shortest prefix, of the largest subnet.
    pub min_prefixlen: u8,
    /// The longest prefix, of the smallest subnet.
    pub max_prefixlen: u8,
    /// Addresses (in IPv6: networks of 64 bits) that one project may take; none is without limit.
    pub default_quota: Option<i64>,
    /// The scope in which its addresses are unique.
    pub address_scope_id: Option<String>,
    /// Whether every project may use it.
    pub shared: bool,
    /// Whether subnets are cut from it that name none.
    pub is_default: bool,
}

impl SubnetPool {
    /// 4 or 6.
    pub fn ip_version(&self) -> i64 {
        if self.prefixes.first().is_some_and(|net| net.addr().is_ipv6()) { 6 } else { 4 }
    }
}

impl Plain for SubnetPool {
    const TABLE: &'static str = "subnetpools";
    const SELECT: &'static str = "select r.* from subnetpools r";
    const FROM: &'static str = "subnetpools r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        let length = |name: &str| -> Result<u8> { Ok(u8::try_from(row.int(name)?).unwrap_or(u8::MAX)) };
        Ok(Self {
            standard,
            prefixes: row.json("prefixes")?,
            default_prefixlen: length("default_prefixlen")?,
            min_prefixlen: length("min_prefixlen")?,
            max_prefixlen: length("max_prefixlen")?,
            default_quota: row.opt_int("default_quota")?,
            address_scope_id: row.opt_text("address_scope_id")?,
            shared: row.flag("shared")?,
            is_default: row.flag("is_default")?,
        })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![
            ("ip_version", self.ip_version().into()),
            ("prefixes", json(&self.prefixes).into()),
            ("default_prefixlen", i64::from(self.default_prefixlen).into()),
            ("min_prefixlen", i64::from(self.min_prefixlen).into()),
            ("max_prefixlen", i64::from(self.max_prefixlen).into()),
            ("default_quota", Column::Int(self.default_quota)),
            ("address_scope_id", Column::Text(self.address_scope_id.clone())),
            ("shared", self.shared.into()),
            ("is_default", self.is_default.into()),
        ]
    }

    fn visible(select: &mut Select, project: &ProjectId) {
        select.filter("(r.project_id = ? or r.shared = 1)", [project.into()]);
    }
}

/// The pool that subnets are cut from which name none.
pub async fn default_of(conn: &mut Conn, ip_version: i64) -> Result<Option<SubnetPool>> {
    let mut select = plain::select::<SubnetPool>(&super::Viewer::Admin);
    select.equal("r.ip_version", ip_version).equal("r.is_default", true);
    Ok(plain::all(conn, select).await?.pop())
}

/// The pools of a scope.
pub async fn in_scope(conn: &mut Conn, scope: &str) -> Result<Vec<SubnetPool>> {
    let mut select = plain::select::<SubnetPool>(&super::Viewer::Admin);
    select.equal("r.address_scope_id", scope);
    plain::all(conn, select).await
}

/// Whether a subnet was cut from the pool that is still there.
pub async fn is_used(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query("select 1 as used from subnets where subnetpool_id = $1 and deleted_at is null limit 1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Forgets that subnets which are going came from the pool.
pub async fn forget(tx: &mut Tx, id: &str) -> Result<()> {
    query("update subnets set subnetpool_id = null where subnetpool_id = $1 and deleted_at is not null")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Which scope each of these subnets' pools is in, by the pool's id.
pub async fn scopes(conn: &mut Conn, subnets: &[Subnet]) -> Result<HashMap<String, String>> {
    let mut select = plain::select::<SubnetPool>(&super::Viewer::Admin);
    select.filter("r.address_scope_id is not null", []);
    select.any_of("r.id", subnets.iter().filter_map(|s| s.subnetpool_id.as_deref()).map(Into::into));
    let pools: Vec<SubnetPool> = plain::all(conn, select).await?;
    Ok(pools.into_iter().filter_map(|pool| Some((pool.standard.id, pool.address_scope_id?))).collect())
}

/// Cuts a range from a locked pool for a project's new subnet: the one asked for, or the first free one of that length.
///
/// # Errors
/// `SubnetAllocationError` where there is none; `MinPrefixSubnetAllocationError` and its opposite;
/// `SubnetPoolQuotaExceeded`; `NetworkSubnetPoolAffinityError` where the network has subnets of another origin.
pub async fn allocate(
    tx: &mut Tx,
    pool: &SubnetPool,
    (project, network): (&ProjectId, &NetworkId),
    asked: (Option<IpNet>, Option<u8>),
) -> Result<IpNet, Error> {
    let length = asked.0.map(|net| net.prefix_len()).or(asked.1).unwrap_or(pool.default_prefixlen);
    if length < pool.min_prefixlen {
        return Err(Error::bad_request(
            "MinPrefixSubnetAllocationError",
            format!(
                "Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {}.",
                pool.min_prefixlen
            ),
        ));
    }
    if length > pool.max_prefixlen {
        return Err(Error::bad_request(
            "MaxPrefixSubnetAllocationError",
            format!(
                "Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {}.",
                pool.max_prefixlen
            ),
        ));
    }
    expect_same_origin(tx, pool, network).await?;
    let taken = taken(tx, pool, project).await?;
    let ranges: Vec<IpNet> = taken.iter().map(|(net, _)| *net).collect();
    let free = match asked.0 {
        Some(net) => {
            let inside = pool.prefixes.iter().any(|prefix| prefix.contains(&net));
            let clear = ranges.iter().all(|other| !other.contains(&net) && !net.contains(other));
            (inside && clear).then_some(net)
        }
        None => first_free_block(&pool.prefixes, &ranges, length),
    };
    let range = free.ok_or_else(|| {
        Error::conflict(
            "SubnetAllocationError",
            format!(
                "Failed to allocate subnet: no range of prefix length {length}{} is free in subnet pool {}.",
                asked.0.map_or_else(String::new, |net| format!(" at {net}")),
                pool.standard.id
            ),
        )
    })?;
    let used: i128 = taken.iter().filter(|(_, own)| *own).map(|(net, _)| units(*net)).sum();
    match pool.default_quota {
        Some(quota) if used + units(range) > i128::from(quota) => {
            Err(Error::conflict("SubnetPoolQuotaExceeded", "Per-tenant subnet pool prefix quota exceeded."))
        }
        _ => Ok(range),
    }
}

/// What a range counts: its addresses; in IPv6 its networks of 64 bits.
fn units(net: IpNet) -> i128 {
    let whole = if net.addr().is_ipv4() { 32 } else { 64 };
    1_i128 << whole_u32(whole, net.prefix_len())
}

fn whole_u32(whole: u8, length: u8) -> u32 {
    u32::from(whole.saturating_sub(length))
}

/// What was cut from the pool, and whether for this project.
async fn taken(tx: &mut Tx, pool: &SubnetPool, project: &ProjectId) -> Result<Vec<(IpNet, bool)>> {
    let rows = query("select cidr, project_id from subnets where subnetpool_id = $1 and deleted_at is null")
        .bind(pool.standard.id.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let read = |row: &Row| {
        let cidr = row.text("cidr")?.parse().map_err(|e| super::column("cidr", e))?;
        Ok((cidr, row.text("project_id")? == project.as_str()))
    };
    rows.iter().map(read).collect()
}

async fn expect_same_origin(tx: &mut Tx, pool: &SubnetPool, network: &NetworkId) -> Result<(), Error> {
    let row = query(
        "select id from subnets where network_id = $1 and ip_version = $2 and deleted_at is null \
         and coalesce(subnetpool_id, '') <> $3 limit 1",
    )
    .bind(network.as_str())
    .bind(pool.ip_version())
    .bind(pool.standard.id.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    match row {
        None => Ok(()),
        Some(_) => Err(Error::bad_request(
            "NetworkSubnetPoolAffinityError",
            "Subnets hosted on the same network must be allocated from the same subnet pool.",
        )),
    }
}
