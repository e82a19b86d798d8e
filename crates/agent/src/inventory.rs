//! What is on the host against the ledger, for `nacre doctor`, and the removal of what nothing accounts for.

use std::{collections::BTreeSet, path::Path};

use hostlink::{Found, FoundKind, Inventory, Standing};
use model::id::{NetworkId, PortId, ServerId};

use crate::{
    failure::Failure,
    host::Host,
    ledger::{Entry, State},
};

/// Looks at everything the drivers have.
pub(crate) async fn take(host: &Host) -> Result<Inventory, Failure> {
    let guests = host.drivers.hypervisor.list_guests().await?;
    let disks = host.drivers.disks.list().await?;
    let ports = host.drivers.network.list().await?;
    let strays = host.drivers.network.list_strays().await?;
    let namespaces = host.drivers.network.list_metadata_namespaces().await?;
    // The ledger last: what was made meanwhile is wanted by now.
    let entries = host.entries();
    let wanted = Wanted::of(&entries);

    let mut found = Vec::new();
    for guest in &guests {
        let name = guest.pid.map_or_else(|| "not running".to_owned(), |pid| pid.to_string());
        found.push(seen(FoundKind::Guest, &name, guest.id.as_str(), wanted.servers.contains(guest.id.as_str())));
    }
    for server in &disks.servers {
        let id = server.server.as_str();
        found.push(seen(FoundKind::ServerFiles, id, id, wanted.servers.contains(id)));
    }
    for base in &disks.bases {
        // A cached image nobody uses is a cache, not an orphan.
        found.push(seen(FoundKind::BaseImage, &base.path.display().to_string(), base.image.as_str(), true));
    }
    for port in &ports {
        found.push(seen(
            FoundKind::Port,
            &port.tap,
            port.port_id.as_str(),
            wanted.ports.contains(port.port_id.as_str()),
        ));
    }
    for network in &namespaces {
        found.push(seen(
            FoundKind::MetadataNamespace,
            network.as_str(),
            network.as_str(),
            host.metadata.is_used(network),
        ));
    }
    found.extend(strays.iter().map(|device| seen(FoundKind::StrayDevice, device, "", false)));
    found.extend(disks.strays.iter().map(|path| seen(FoundKind::StrayFile, &path.display().to_string(), "", false)));
    let plugged: BTreeSet<&str> = ports.iter().map(|port| port.port_id.as_str()).collect();
    let with_files: BTreeSet<&str> = disks.servers.iter().map(|server| server.server.as_str()).collect();
    for guest in guests.iter().filter(|guest| guest.power.is_on()) {
        let Some(entry) = entries.iter().find(|e| e.server_id == guest.id.as_str() && e.state == State::Present) else {
            continue;
        };
        if !with_files.contains(entry.server_id.as_str()) {
            found.push(missing(FoundKind::ServerFiles, &entry.server_id));
        }
        let lacking = entry.spec.iter().flat_map(|spec| &spec.ports).filter(|port| !plugged.contains(port.id.as_str()));
        found.extend(lacking.map(|port| missing(FoundKind::Port, &port.id)));
    }
    Ok(Inventory { holdings: entries.iter().map(Entry::holding).collect(), found })
}

/// Removes the thing if an inventory of this moment calls it an orphan too.
pub(crate) async fn remove_orphan(host: &Host, wanted: &Found) -> Result<Inventory, Failure> {
    let is_same =
        |found: &&Found| found.kind == wanted.kind && found.name == wanted.name && found.owner_id == wanted.owner_id;
    let now = take(host).await?;
    let Some(found) = now.found.iter().find(is_same).filter(|found| found.standing() == Standing::Orphan) else {
        return Ok(now);
    };
    let drivers = &host.drivers;
    tracing::warn!(kind = ?found.kind(), name = found.name, owner = found.owner_id, "orphan removed");
    match found.kind() {
        FoundKind::Guest => drivers.hypervisor.remove_guest(&ServerId::new(found.owner_id.clone())).await?,
        FoundKind::ServerFiles => drivers.disks.remove_server(&ServerId::new(found.owner_id.clone())).await?,
        FoundKind::Port => drivers.network.remove_port_plugged(&PortId::new(found.owner_id.clone())).await?,
        FoundKind::MetadataNamespace => host.metadata.release(&NetworkId::new(found.owner_id.clone())).await?,
        FoundKind::StrayDevice => drivers.network.remove_stray(&found.name).await?,
        FoundKind::StrayFile => drivers.disks.remove_stray(Path::new(&found.name)).await?,
        FoundKind::BaseImage | FoundKind::Unspecified => {}
    }
    take(host).await
}

/// What the ledger accounts for.
struct Wanted<'a> {
    servers: BTreeSet<&'a str>,
    ports: BTreeSet<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let kept = || entries.iter().filter(|entry| entry.state != State::Gone);
        Self {
            servers: kept().map(|entry| entry.server_id.as_str()).collect(),
            ports: kept().flat_map(|entry| entry.ports.keys()).map(String::as_str).collect(),
        }
    }
}

fn seen(kind: FoundKind, name: &str, owner_id: &str, is_wanted: bool) -> Found {
    let standing = if is_wanted { Standing::Expected } else { Standing::Orphan };
    Found { kind: kind.into(), name: name.to_owned(), owner_id: owner_id.to_owned(), standing: standing.into() }
}

fn missing(kind: FoundKind, owner_id: &str) -> Found {
    Found { kind: kind.into(), name: String::new(), owner_id: owner_id.to_owned(), standing: Standing::Missing.into() }
}
