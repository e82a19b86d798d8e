//! How many addresses networks have, and how many of them are taken.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::{
    addr::to_number,
    id::{NetworkId, ProjectId, SubnetId},
};

use super::{Viewer, networks, subnets};
use crate::{Conn, Result, RowExt, list::Select};

/// A network's addresses.
#[derive(Clone, Debug)]
pub struct Availability {
    /// The network.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its subnets.
    pub subnets: Vec<SubnetAvailability>,
}

/// A subnet's addresses.
#[derive(Clone, Debug)]
pub struct SubnetAvailability {
    /// The subnet.
    pub id: SubnetId,
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// Addresses in its pools.
    pub total: u128,
    /// Addresses that ports have.
    pub used: i64,
}

/// That of these networks; of none named, of all.
pub async fn list(conn: &mut Conn, ids: &[String]) -> Result<Vec<Availability>> {
    let mut select = networks::select(&Viewer::Admin);
    if !ids.is_empty() {
        select.any_of("r.id", ids.iter().map(|id| id.as_str().into()));
    }
    let mut found = Vec::new();
    for row in select.all(conn, "r.id").await? {
        let id: NetworkId = row.id("id")?;
        found.push(Availability {
            id,
            name: row.text("name")?,
            project_id: row.id("project_id")?,
            subnets: Vec::new(),
        });
    }
    let networks: Vec<&NetworkId> = found.iter().map(|network| &network.id).collect();
    let subnets = subnets::of_networks(conn, &networks).await?;
    let base = "select i.subnet_id, count(*) as used from port_ips i join subnets r on r.id = i.subnet_id \
                where r.deleted_at is null group by i.subnet_id";
    let counts = Select::new(base, "port_ips i", "i.subnet_id").all(conn, "i.subnet_id").await?;
    let used: BTreeMap<String, i64> =
        counts.iter().map(|row| Ok((row.text("subnet_id")?, row.int("used")?))).collect::<Result<_>>()?;
    for subnet in subnets {
        let total =
            subnet.pools.iter().map(|(first, last)| to_number(*last).saturating_sub(to_number(*first)) + 1).sum();
        let taken = used.get(subnet.id.as_str()).copied().unwrap_or(0);
        let one = SubnetAvailability { id: subnet.id, name: subnet.name, cidr: subnet.cidr, total, used: taken };
        if let Some(network) = found.iter_mut().find(|network| network.id == subnet.network_id) {
            network.subnets.push(one);
        }
    }
    Ok(found)
}
