//! The external network that `nacre up` makes: routers' gateways and floating IPs are in it.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    Result,
    id::{NetworkId, ProjectId},
};
use store::{
    Db,
    list::Select,
    network::{
        Viewer,
        networks::{self, NewNetwork},
        subnets::{self, NewSubnet, Pool},
    },
};

/// What the external network is to be.
#[derive(Clone, Debug)]
pub struct External {
    /// Its name: `public`.
    pub name: String,
    /// Whose it is: the administrators' project.
    pub project_id: ProjectId,
    /// Its physical network, as hosts' bridge mappings call it: `public`.
    pub physical_network: String,
    /// Its range: `172.24.4.0/24`.
    pub cidr: IpNet,
    /// The host's own address on it: `172.24.4.1`.
    pub gateway: IpAddr,
    /// The addresses that routers and floating IPs get.
    pub pool: Pool,
}

/// Makes the external network where there is none on that physical network yet; one that is there stays as it is.
///
/// # Errors
/// The database's.
pub async fn bootstrap_external(db: &Db, external: &External) -> Result<NetworkId> {
    let mut tx = db.begin().await?;
    let mut select: Select = networks::select(&Viewer::Admin);
    select
        .filter("r.physical_network = ?", [external.physical_network.as_str().into()])
        .equal("r.network_type", "flat");
    if let Some(row) = select.all(&mut tx, "r.id").await?.first() {
        return Ok(store::RowExt::id(row, "id")?);
    }
    let network = NewNetwork {
        external: true,
        is_default: true,
        network_type: "flat".to_owned(),
        physical_network: Some(external.physical_network.clone()),
        ..NewNetwork::new(&external.project_id, external.name.as_str())
    };
    let network = networks::create(&mut tx, &network).await?;
    let subnet = NewSubnet {
        gateway_ip: Some(external.gateway),
        pools: Some(vec![external.pool]),
        // Nobody but routers and floating IPs is on it.
        enable_dhcp: false,
        ..NewSubnet::new(&network, format!("{}-subnet", external.name), external.cidr)
    };
    subnets::create(&mut tx, &subnet).await?;
    tx.commit().await?;
    Ok(network.id)
}
