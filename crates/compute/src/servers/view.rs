//! A server as the API shows it, in every microversion, written straight into the response.

use std::collections::{BTreeMap, HashMap};

use model::id::HostId;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha224};
use store::compute::{
    server_list::{Address, Details},
    servers::{Fault, Server, VmState},
};
use web::{Cx, Version};

/// Who looks, and what that lets them see.
pub struct Viewing {
    /// `http://cloud:8774/compute`.
    pub service_url: String,
    /// The microversion.
    pub version: Version,
    /// Host, hypervisor and the like.
    pub extended: bool,
    /// What operators know of a fault.
    pub fault_details: bool,
    /// The state of hosts, where it is shown.
    pub host_status: Option<HashMap<HostId, &'static str>>,
}

impl Viewing {
    /// A link of a resource that clients may keep.
    fn bookmark<'a>(&'a self, collection: &'static str, id: &'a str) -> Bookmark<'a> {
        Bookmark { service: &self.service_url, collection, id }
    }

    /// From the request; without hosts' states.
    pub fn new(cx: &Cx, extended: bool) -> Self {
        let fault_details = cx.caller.has_role("admin");
        Self { service_url: cx.service_url(), version: cx.version, extended, fault_details, host_status: None }
    }

    fn since(&self, minor: u16) -> bool {
        self.version >= Version(2, minor)
    }
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Id, name, links: `GET /servers`.
    Brief,
    /// What `PUT /servers/{id}` answers before 2.75.
    Core,
    /// Everything, in a list.
    Detail,
    /// Everything, alone.
    Full,
}

/// A server and what is shown besides its row.
pub struct View<'a> {
    /// Who looks.
    pub viewing: &'a Viewing,
    /// The row.
    pub server: &'a Server,
    /// Metadata, tags, addresses.
    pub details: &'a Details,
    /// How much.
    pub amount: Amount,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("id", &self.server.id)?;
        map.serialize_entry("name", &self.server.name)?;
        map.serialize_entry("links", &Links(&self.viewing.service_url, self.server.id.as_str()))?;
        if self.amount != Amount::Brief {
            self.core(&mut map)?;
            self.newer_core(&mut map)?;
        }
        if matches!(self.amount, Amount::Detail | Amount::Full) {
            self.rest(&mut map)?;
            self.attributes(&mut map)?;
        }
        map.end()
    }
}

impl View<'_> {
    /// What every response about a server has shown from the beginning.
    fn core<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (server, details) = (self.server, self.details);
        map.serialize_entry("status", &server.shown.status)?;
        map.serialize_entry("tenant_id", &server.project_id)?;
        map.serialize_entry("user_id", &server.user_id)?;
        map.serialize_entry("metadata", &details.metadata)?;
        map.serialize_entry("hostId", &host_id(server))?;
        map.serialize_entry("image", &self.image())?;
        map.serialize_entry("flavor", &self.flavor())?;
        map.serialize_entry("created", &server.created_at.to_seconds_z())?;
        map.serialize_entry("updated", &server.updated_at.to_seconds_z())?;
        map.serialize_entry("addresses", &Addresses(&details.addresses, true))?;
        map.serialize_entry("accessIPv4", &server.access_ipv4)?;
        map.serialize_entry("accessIPv6", &server.access_ipv6)?;
        map.serialize_entry("OS-DCF:diskConfig", &server.disk_config)?;
        if matches!(server.shown.status.as_str(), "ACTIVE" | "BUILD" | "REBUILD" | "RESIZE" | "VERIFY_RESIZE") {
            map.serialize_entry("progress", &0)?;
        }
        match &server.fault {
            Some(fault) if matches!(server.shown.vm_state, VmState::Error | VmState::Deleted) => {
                map.serialize_entry("fault", &self.fault(fault))
            }
            _ => Ok(()),
        }
    }

    /// What later microversions added to all of them.
    fn newer_core<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (server, viewing) = (self.server, self.viewing);
        if viewing.since(9) {
            map.serialize_entry("locked", &server.locked)?;
        }
        if viewing.since(19) {
            map.serialize_entry("description", &server.description)?;
        }
        if viewing.since(26) {
            map.serialize_entry("tags", &self.details.tags)?;
        }
        if viewing.since(63) {
            map.serialize_entry("trusted_image_certificates", &())?;
        }
        if viewing.since(71) && self.amount != Amount::Detail {
            map.serialize_entry("server_groups", &self.details.server_groups)?;
        }
        if viewing.since(73) {
            map.serialize_entry("locked_reason", &server.locked_reason)?;
        }
        Ok(())
    }

    /// What only showing a server shows.
    fn rest<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (server, viewing) = (self.server, self.viewing);
        map.serialize_entry("key_name", &server.key_name)?;
        map.serialize_entry("config_drive", if server.config_drive { "True" } else { "" })?;
        let zone = server.host.as_ref().map(|host| &host.zone).or(server.zone_wanted.as_ref());
        map.serialize_entry("OS-EXT-AZ:availability_zone", zone.map_or("", String::as_str))?;
        map.serialize_entry("OS-EXT-STS:vm_state", server.shown.vm_state.as_str())?;
        map.serialize_entry("OS-EXT-STS:task_state", &server.shown.task_state)?;
        map.serialize_entry("OS-EXT-STS:power_state", &server.shown.power_state)?;
        // Nova's only times with fractions and without a zone.
        map.serialize_entry("OS-SRV-USG:launched_at", &server.launched_at.map(|t| t.to_micros_naive()))?;
        map.serialize_entry("OS-SRV-USG:terminated_at", &server.terminated_at.map(|t| t.to_micros_naive()))?;
        map.serialize_entry("os-extended-volumes:volumes_attached", &[(); 0])?;
        if !self.details.security_groups.is_empty() {
            map.serialize_entry("security_groups", &Names(&self.details.security_groups))?;
        }
        if viewing.since(96) {
            map.serialize_entry("pinned_availability_zone", &server.zone_wanted)?;
        }
        if viewing.since(100) {
            let hints: Option<&RawValue> = serde_json::from_str(&server.scheduler_hints).ok();
            map.serialize_entry("scheduler_hints", &hints)?;
        }
        if let (true, Some(states)) = (viewing.since(16), &viewing.host_status) {
            let state = server.host.as_ref().map_or("", |host| states.get(&host.id).copied().unwrap_or("UNKNOWN"));
            map.serialize_entry("host_status", state)?;
        }
        Ok(())
    }

    /// What only operators see, the host name apart from 2.90 on.
    fn attributes<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (server, viewing) = (self.server, self.viewing);
        if viewing.since(90) || (viewing.since(3) && viewing.extended) {
            map.serialize_entry("OS-EXT-SRV-ATTR:hostname", &server.hostname)?;
        }
        if !viewing.extended {
            return Ok(());
        }
        let host = server.host.as_ref().map(|host| &host.name);
        map.serialize_entry("OS-EXT-SRV-ATTR:host", &host)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:hypervisor_hostname", &host)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:instance_name", &instance_name(server))?;
        if viewing.since(3) {
            map.serialize_entry("OS-EXT-SRV-ATTR:reservation_id", &server.reservation_id)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:launch_index", &server.launch_index)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:kernel_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:ramdisk_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:user_data", &server.user_data)?;
        }
        Ok(())
    }

    fn image(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Image<'a> {
            id: &'a str,
            links: [Bookmark<'a>; 1],
            #[serde(skip_serializing_if = "Option::is_none")]
            properties: Option<&'a BTreeMap<String, String>>,
        }
        let id = self.server.image_id.as_str();
        let properties = self.viewing.since(98).then_some(&self.server.image.properties);
        Image { id, links: [self.viewing.bookmark("images", id)], properties }
    }

    fn flavor(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Flavor<'a> {
            Link {
                id: &'a str,
                links: [Bookmark<'a>; 1],
            },
            Copy {
                original_name: &'a str,
                vcpus: i64,
                ram: i64,
                disk: i64,
                ephemeral: i64,
                swap: i64,
                extra_specs: &'a BTreeMap<String, String>,
            },
        }
        let (id, flavor) = (self.server.flavor_id.as_str(), &self.server.flavor);
        if !self.viewing.since(47) {
            return Flavor::Link { id, links: [self.viewing.bookmark("flavors", id)] };
        }
        Flavor::Copy {
            original_name: &flavor.name,
            vcpus: flavor.vcpus,
            ram: flavor.memory_mib,
            disk: flavor.disk_gib,
            ephemeral: flavor.ephemeral_gib,
            swap: flavor.swap_mib,
            extra_specs: &flavor.extra_specs,
        }
    }

    fn fault(&self, fault: &Fault) -> Value {
        let mut shown = json!({"code": fault.code, "message": fault.message, "created": fault.at.to_seconds_z()});
        if self.viewing.fault_details && !fault.details.is_empty() {
            shown["details"] = json!(fault.details);
        }
        shown
    }
}

/// A digest of project and host: tells a project's users which of their servers share a host, and nothing else.
pub fn host_id(server: &Server) -> String {
    host_digest(server.project_id.as_str(), server.host.as_ref().map(|host| host.name.as_str()))
}

/// The same of any host.
pub fn host_digest(project: &str, host: Option<&str>) -> String {
    host.map_or_else(String::new, |host| hex::encode(Sha224::new().chain_update(project).chain_update(host).finalize()))
}

/// What the hypervisor calls it. Nova counts; we take the first eight digits of the UUID.
fn instance_name(server: &Server) -> String {
    format!("instance-{}", server.id.as_str().chars().take(8).collect::<String>())
}

struct Bookmark<'a> {
    service: &'a str,
    collection: &'static str,
    id: &'a str,
}

impl Serialize for Bookmark<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { service, collection, id } = self;
        let mut link = to.serialize_map(Some(2))?;
        link.serialize_entry("rel", "bookmark")?;
        link.serialize_entry("href", &format_args!("{service}/{collection}/{id}"))?;
        link.end()
    }
}

struct Links<'a>(&'a str, &'a str);

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Link {
            rel: &'static str,
            href: String,
        }
        let Self(service, id) = self;
        let mut list = to.serialize_seq(Some(2))?;
        list.serialize_element(&Link { rel: "self", href: format!("{service}/v2.1/servers/{id}") })?;
        list.serialize_element(&Link { rel: "bookmark", href: format!("{service}/servers/{id}") })?;
        list.end()
    }
}

struct Names<'a>(&'a [String]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Name<'a> {
            name: &'a str,
        }
        to.collect_seq(self.0.iter().map(|name| Name { name }))
    }
}

/// Addresses by network, in the order of the interfaces; with type and MAC, or as `GET .../ips` has them.
pub struct Addresses<'a>(pub &'a [Address], pub bool);

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(addresses, extended) = self;
        let mut map = to.serialize_map(None)?;
        for (at, address) in addresses.iter().enumerate() {
            let network = address.network.as_str();
            if addresses[..at].iter().any(|earlier| earlier.network == network) {
                continue;
            }
            let of_network: Vec<_> =
                addresses[at..].iter().filter(|a| a.network == network).map(|a| shown_address(a, *extended)).collect();
            map.serialize_entry(network, &of_network)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct ShownAddress<'a> {
    version: u8,
    addr: &'a str,
    #[serde(rename = "OS-EXT-IPS:type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr", skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
}

fn shown_address(address: &Address, extended: bool) -> ShownAddress<'_> {
    let kind = if address.floating { "floating" } else { "fixed" };
    ShownAddress {
        version: if address.ip.contains(':') { 6 } else { 4 },
        addr: &address.ip,
        kind: extended.then_some(kind),
        mac: extended.then_some(&address.mac),
    }
}
