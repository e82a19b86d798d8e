//! Hypervisor hosts, as their agents see the control plane.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | [`hostlink::server::ControlPlane`]: what connections call |
//! | `logic.rs` | what a host is told: the spec of a server, and what differs when a host joins |
//! | this one | reading what a spec consists of |

pub mod api;
pub mod logic;

use std::collections::{BTreeMap, HashMap};

use hostlink::ServerSpec;
use model::{Result, id::NetworkId};
use store::{
    Conn,
    compute::{server_labels, server_ports, servers::Server},
    network::{floating_ips, networks, ports, security_groups, subnets},
};

use crate::State;
use logic::{Facts, Interface};

/// What the server's host is to be told.
///
/// # Errors
/// When the database fails.
pub async fn spec(state: &State, server: &Server) -> Result<ServerSpec> {
    let facts = facts(&mut *state.db.read().await?, server).await?;
    Ok(logic::spec(server, &facts, state.config.grace))
}

/// Everything that a spec is made of, besides the server's row.
async fn facts(conn: &mut Conn, server: &Server) -> Result<Facts> {
    let wanted = server_ports::list(conn, &server.id).await?;
    let mut rows: HashMap<_, _> =
        ports::of_device(conn, &server.id).await?.into_iter().map(|port| (port.id.clone(), port)).collect();
    let mut by_network: HashMap<NetworkId, (networks::Network, Vec<subnets::Subnet>, Option<ports::Port>)> =
        HashMap::new();
    let mut interfaces = Vec::new();
    for attachment in wanted.into_iter().filter(|p| !p.detach) {
        // A port that its owner deleted meanwhile is gone from the server as well.
        let Some(port) = rows.remove(&attachment.port_id) else { continue };
        if !by_network.contains_key(&port.network_id) {
            let Some(network) = networks::get(conn, &port.network_id).await? else { continue };
            let subnets = subnets::of_network(conn, &port.network_id).await?;
            let metadata = ports::metadata_of(conn, &port.network_id).await?;
            by_network.insert(port.network_id.clone(), (network, subnets, metadata));
        }
        if let Some((network, subnets, metadata)) = by_network.get(&port.network_id) {
            interfaces.push(Interface {
                port,
                tag: attachment.tag,
                mtu: network.mtu,
                subnets: subnets.clone(),
                metadata: metadata.clone(),
            });
        }
    }
    let ids: Vec<_> = interfaces.iter().map(|i| &i.port.id).collect();
    let public = if ids.is_empty() { Vec::new() } else { floating_ips::of_ports(conn, &ids).await? };
    let groups: Vec<_> = interfaces.iter().flat_map(|i| &i.port.security_groups).collect();
    let groups = if groups.is_empty() { HashMap::new() } else { security_groups::names(conn, &groups).await? };
    let sorted: BTreeMap<_, _> = groups.into_iter().map(|(id, name)| (name, id)).collect();
    Ok(Facts {
        public_ipv4: public.iter().map(|ip| ip.address).find(std::net::IpAddr::is_ipv4),
        security_groups: sorted.into_keys().collect(),
        metadata: server_labels::metadata(conn, &server.id).await?,
        interfaces,
    })
}
