//! The documents that a guest reads about itself: OpenStack's and EC2's, as pure functions.
//!
//! <https://docs.openstack.org/nova/latest/user/metadata.html>

use std::net::IpAddr;

use hostlink::{Ec2Metadata, Metadata, PublicKey};
use serde_json::{Value, json};
use store::{
    compute::servers::Server,
    network::{ports::FixedIp, subnets::Subnet},
};

use crate::hosts::logic::{Facts, Interface};

/// Nova's `dhcp_domain`.
const DOMAIN: &str = "novalocal";

/// Everything that the metadata service and the config drive serve.
pub fn documents(server: &Server, facts: &Facts) -> Metadata {
    Metadata {
        meta_data_json: meta_data(server, facts).to_string(),
        network_data_json: network_data(&facts.interfaces).to_string(),
        vendor_data_json: "{}".to_owned(),
        vendor_data2_json: json!({"static": {}}).to_string(),
        user_data_base64: server.user_data.clone().unwrap_or_default(),
        ec2: Some(ec2(server, facts)),
    }
}

/// The host name with the domain, unless it has one.
fn full_name(server: &Server) -> String {
    if server.hostname.contains('.') { server.hostname.clone() } else { format!("{}.{DOMAIN}", server.hostname) }
}

fn zone(server: &Server) -> &str {
    server.host.as_ref().map_or("", |host| host.zone.as_str())
}

fn meta_data(server: &Server, facts: &Facts) -> Value {
    let tagged = facts.interfaces.iter().filter_map(|i| i.tag.as_ref().map(|tag| (i, tag)));
    let devices: Vec<Value> = tagged
        .map(|(i, tag)| json!({"type": "nic", "bus": "pci", "mac": i.port.mac.to_string(), "tags": [tag]}))
        .collect();
    let mut document = json!({
        "uuid": server.id,
        "name": server.name,
        "hostname": full_name(server),
        "availability_zone": zone(server),
        "launch_index": server.launch_index,
        "project_id": server.project_id,
        "random_seed": server.random_seed,
        "devices": devices,
        "dedicated_cpus": [],
    });
    if !facts.metadata.is_empty() {
        document["meta"] = json!(facts.metadata);
    }
    if let (Some(name), Some(key)) = (&server.key_name, &server.key_public) {
        document["public_keys"] = json!({ name: key });
        document["keys"] = json!([{"name": name, "type": "ssh", "data": key}]);
    }
    document
}

fn network_data(interfaces: &[Interface]) -> Value {
    let mut networks = Vec::new();
    let mut services: Vec<Value> = Vec::new();
    for interface in interfaces {
        for ip in &interface.port.fixed_ips {
            let Some(subnet) = interface.subnet(ip) else { continue };
            let name = format!("network{}", networks.len());
            networks.push(network(&name, interface, ip, subnet));
            for server in &subnet.dns_nameservers {
                let service = json!({"type": "dns", "address": server});
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
    }
    let links: Vec<Value> = interfaces.iter().map(link).collect();
    json!({"links": links, "networks": networks, "services": services})
}

fn link_id(interface: &Interface) -> String {
    format!("tap{}", interface.port.id.as_str().chars().take(11).collect::<String>())
}

fn link(interface: &Interface) -> Value {
    json!({
        "id": link_id(interface),
        "vif_id": interface.port.id,
        "type": "ovs",
        "mtu": interface.mtu,
        "ethernet_mac_address": interface.port.mac.to_string(),
    })
}

fn network(name: &str, interface: &Interface, ip: &FixedIp, subnet: &Subnet) -> Value {
    let version = if ip.ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let mut network = json!({
        "id": name, "link": link_id(interface), "network_id": interface.port.network_id,
    });
    if ip.ip.is_ipv4() && subnet.enable_dhcp {
        network["type"] = json!("ipv4_dhcp");
        return network;
    }
    network["type"] = match &subnet.ipv6_address_mode {
        Some(mode) if ip.ip.is_ipv6() => json!(format!("ipv6_{mode}")),
        _ => json!(version),
    };
    network["ip_address"] = json!(ip.ip);
    network["netmask"] = json!(subnet.cidr.netmask());
    network["routes"] = json!(routes(subnet));
    network["services"] =
        json!(subnet.dns_nameservers.iter().map(|dns| json!({"type": "dns", "address": dns})).collect::<Vec<_>>());
    network
}

/// The default route, then the subnet's own.
fn routes(subnet: &Subnet) -> Vec<Value> {
    let any = if subnet.cidr.addr().is_ipv4() { "0.0.0.0" } else { "::" };
    let default = subnet.gateway_ip.map(|gateway| json!({"network": any, "netmask": any, "gateway": gateway}));
    let own = subnet
        .host_routes
        .iter()
        .filter_map(|route| route.parsed())
        .map(|(to, via)| json!({"network": to.network(), "netmask": to.netmask(), "gateway": via}));
    default.into_iter().chain(own).collect()
}

fn ec2(server: &Server, facts: &Facts) -> Ec2Metadata {
    let addresses = facts.interfaces.iter().flat_map(|i| &i.port.fixed_ips).map(|ip| ip.ip);
    let local = addresses.filter(IpAddr::is_ipv4).map(|ip| ip.to_string()).next();
    let keys = server.key_name.iter().zip(&server.key_public);
    Ec2Metadata {
        instance_id: ec2_id("i", server.id.as_str()),
        ami_id: ec2_id("ami", server.image_id.as_str()),
        hostname: full_name(server),
        instance_type: server.flavor.name.clone(),
        local_ipv4: local.unwrap_or_default(),
        public_ipv4: facts.public_ipv4.map(|ip| ip.to_string()).unwrap_or_default(),
        availability_zone: zone(server).to_owned(),
        reservation_id: server.reservation_id.clone(),
        security_groups: facts.security_groups.clone(),
        public_keys: keys.map(|(name, key)| PublicKey { name: name.clone(), openssh: key.clone() }).collect(),
        ami_launch_index: u32::try_from(server.launch_index).unwrap_or(0),
    }
}

/// EC2's short ids. Nova counts; we take the first eight digits of the UUID.
fn ec2_id(prefix: &str, uuid: &str) -> String {
    format!("{prefix}-{}", uuid.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{
        Timestamp,
        id::{ProjectId, UserId},
    };

    use super::*;

    fn server() -> Server {
        Server {
            id: "12345678-0000-4000-8000-000000000000".into(),
            name: "web".into(),
            hostname: "web".into(),
            key_name: Some("mine".into()),
            key_public: Some("ssh-ed25519 AAAA".into()),
            user_data: Some("IyE=".into()),
            ..Server::new(ProjectId::new("p"), UserId::new("u"), Timestamp(0))
        }
    }

    #[test]
    fn what_cloud_init_looks_for() {
        let metadata = BTreeMap::from([("role".to_owned(), "db".to_owned())]);
        let facts = Facts { metadata, public_ipv4: "192.0.2.7".parse().ok(), ..Facts::default() };
        let documents = documents(&server(), &facts);
        let meta: Value = serde_json::from_str(&documents.meta_data_json).unwrap();
        for (pointer, expected) in [
            ("/uuid", json!("12345678-0000-4000-8000-000000000000")),
            ("/hostname", json!("web.novalocal")),
            ("/public_keys/mine", json!("ssh-ed25519 AAAA")),
            ("/keys/0/type", json!("ssh")),
            ("/meta/role", json!("db")),
            ("/launch_index", json!(0)),
        ] {
            assert_eq!(meta.pointer(pointer), Some(&expected), "{pointer}");
        }
        assert_eq!(documents.user_data_base64, "IyE=");
        let ec2 = documents.ec2.unwrap();
        assert_eq!((ec2.instance_id.as_str(), ec2.public_ipv4.as_str()), ("i-12345678", "192.0.2.7"));
        assert_eq!(ec2.public_keys.len(), 1);
    }

    #[test]
    fn without_a_key_or_metadata_there_are_no_such_fields() {
        let bare = Server { key_name: None, hostname: "a.example.org".into(), ..server() };
        let meta = meta_data(&bare, &Facts::default());
        assert!(["public_keys", "keys", "meta"].iter().all(|name| meta.get(name).is_none()));
        assert_eq!(meta["hostname"], "a.example.org");
    }
}
