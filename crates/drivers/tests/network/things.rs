//! Specs to begin with: one network with a subnet, ports, a router to an external network.

use std::time::Duration;

use drivers::network::{
    ChassisPriority, Direction, Family, FloatingIpSpec, GatewaySpec, InterfaceSpec, Leads, NetworkSpec, PortKind,
    PortSpec, Protocol, Provider, Remote, RouterSpec, SecurityGroupRule, SecurityGroupSpec, SubnetSpec,
};
use model::{
    addr::Mac,
    id::{NetworkId, PortId, RouterId, SecurityGroupId, SubnetId},
};

pub const MTU: u32 = 1442;

pub fn network() -> NetworkSpec {
    NetworkSpec { id: NetworkId::random(), mtu: MTU, provider: None }
}

pub fn external_network() -> NetworkSpec {
    NetworkSpec { provider: Some(Provider { physical_network: "public".into(), vlan: None }), ..network() }
}

pub fn subnet(network: &NetworkSpec, cidr: &str, gateway: &str, metadata: &str) -> SubnetSpec {
    SubnetSpec {
        id: SubnetId::random(),
        network_id: network.id.clone(),
        cidr: cidr.parse().unwrap(),
        gateway: gateway.parse().ok(),
        metadata_ip: metadata.parse().ok(),
        server_mac: Mac::random(),
        dns_servers: vec!["9.9.9.9".parse().unwrap()],
        dns_domain: None,
        host_routes: Vec::new(),
        mtu: MTU,
        lease: Duration::from_secs(86_400),
        stateless: false,
    }
}

pub fn port(network: &NetworkSpec, subnet: &SubnetSpec, ip: &str, groups: &[&SecurityGroupSpec]) -> PortSpec {
    PortSpec {
        ips: vec![ip.parse().unwrap()],
        security_groups: groups.iter().map(|group| group.id.clone()).collect(),
        dhcp: vec![subnet.id.clone()],
        hostname: Some("guest".into()),
        ..PortSpec::new(&PortId::random(), &network.id, Mac::random())
    }
}

pub fn metadata_port(network: &NetworkSpec, ip: &str) -> PortSpec {
    PortSpec {
        kind: PortKind::Metadata,
        ips: vec![ip.parse().unwrap()],
        port_security: false,
        ..PortSpec::new(&PortId::random(), &network.id, Mac::random())
    }
}

/// A group as every project has one: everything out, and whatever `ingress` says in.
pub fn group(ingress: Vec<(Protocol, Remote)>) -> SecurityGroupSpec {
    let mut rules = vec![rule(Direction::Egress, Protocol::Any, Remote::Any)];
    rules.extend(ingress.into_iter().map(|(protocol, remote)| rule(Direction::Ingress, protocol, remote)));
    SecurityGroupSpec { id: SecurityGroupId::random(), stateful: true, rules }
}

pub fn rule(direction: Direction, protocol: Protocol, remote: Remote) -> SecurityGroupRule {
    SecurityGroupRule { id: PortId::random().cast(), direction, family: Family::V4, protocol, remote }
}

pub fn router(external: &NetworkSpec, networks: &[(&NetworkSpec, &str)]) -> RouterSpec {
    RouterSpec {
        id: RouterId::random(),
        admin_up: true,
        gateway: Some(GatewaySpec {
            port_id: PortId::random(),
            network_id: external.id.clone(),
            mac: Mac::random(),
            addresses: vec!["172.24.4.10/24".parse().unwrap()],
            next_hops: vec!["172.24.4.1".parse().unwrap()],
            snat: true,
            chassis: vec![ChassisPriority { chassis: crate::lab::CHASSIS.into(), priority: 1 }],
        }),
        interfaces: networks
            .iter()
            .map(|(network, address)| InterfaceSpec {
                port_id: PortId::random(),
                network_id: network.id.clone(),
                mac: Mac::random(),
                addresses: vec![address.parse().unwrap()],
                advertisement: None,
            })
            .collect(),
        snat_cidrs: networks.iter().map(|(_, address)| address.parse().unwrap()).collect(),
        routes: Vec::new(),
    }
}

pub fn floating_ip(router: &RouterSpec, port: &PortSpec, address: &str) -> FloatingIpSpec {
    FloatingIpSpec {
        id: PortId::random().cast(),
        router_id: router.id.clone(),
        floating_address: address.parse().unwrap(),
        leads: Leads::Guest { address: port.ips[0], port_id: port.id.clone(), external_mac: Some(Mac::random()) },
    }
}
