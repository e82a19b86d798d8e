//! Plugging NICs into a running guest and out of it, over QMP.
//!
//! A NIC has two halves: the backend (`netdev`, the tap) and the device. Either may be left over from an attempt that
//! was broken off, so plugging and unplugging look first and repeat what is missing. Free root ports are found in
//! QEMU itself: there is no list that could be wrong after a restart.

use std::{collections::HashSet, time::Duration};

use model::id::PortId;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

use super::{
    command_line::{nic_backend, nic_device, nic_device_options, root_port},
    qmp::{Qmp, QmpError, QmpEvent},
    tap,
};
use crate::hypervisor::{GuestNic, HypervisorError, Result};

const PERIPHERALS: &str = "/machine/peripheral";

/// Plugs the NIC in, unless it is.
pub async fn attach_nic(qmp: &Qmp, nic: &GuestNic) -> Result<()> {
    let devices = devices(qmp).await?;
    if devices.contains(&nic_device(&nic.id)) {
        return Ok(());
    }
    let port = free_root_port(qmp, &devices).await?;
    remove_backend(qmp, &nic.id).await?;
    let tap = tap::open(nic).await?;
    let backend = nic_backend(&nic.id);
    qmp.hand_over(&backend, &tap).await?;
    qmp.execute("netdev_add", json!({ "type": "tap", "id": backend, "fd": backend })).await?;
    if let Err(error) = qmp.execute("device_add", nic_device_options(nic, &port)).await {
        remove_backend(qmp, &nic.id).await?;
        return Err(error.into());
    }
    Ok(())
}

/// Unplugs the NIC, if it is plugged, and waits until the guest has let go of it.
pub async fn detach_nic(qmp: &Qmp, nic: &PortId, within: Duration) -> Result<()> {
    let device = nic_device(nic);
    // Before the command, so that the event can't be missed.
    let events = qmp.events()?;
    match qmp.execute("device_del", json!({ "id": device })).await {
        Err(QmpError::Refused { class, .. }) if class == "DeviceNotFound" => {}
        // An earlier attempt runs already: wait for it.
        Err(QmpError::Refused { reason, .. }) if reason.contains("in the process of unplug") => {
            deleted(events, &device, within).await?;
        }
        other => {
            other?;
            deleted(events, &device, within).await?;
        }
    }
    remove_backend(qmp, nic).await
}

/// The NIC's port, if the event says that a NIC is unplugged for good. A NIC sends two: one for its virtio half, which
/// names no device.
pub fn detached_nic(event: &QmpEvent) -> Option<PortId> {
    let device = event.data.get("device").and_then(Value::as_str).filter(|_| event.name == "DEVICE_DELETED")?;
    device.strip_prefix("nic-").map(PortId::new)
}

/// The NICs that are plugged, each with the socket that it sits in, and how many sockets there are.
pub async fn sockets(qmp: &Qmp, nics: Vec<GuestNic>) -> Result<(Vec<GuestNic>, u32)> {
    let devices = devices(qmp).await?;
    let mut placed = Vec::new();
    for nic in nics {
        let device = nic_device(&nic.id);
        if !devices.contains(&device) {
            continue;
        }
        let bus = bus_of(qmp, &device).await?;
        let socket = bus.strip_prefix("hp").and_then(|number| number.parse().ok());
        placed.push(GuestNic { socket, ..nic });
    }
    let sockets = (0..).take_while(|index| devices.contains(&root_port(*index))).count();
    Ok((placed, u32::try_from(sockets).unwrap_or(u32::MAX)))
}

/// The bus that a device hangs on: `hp3`.
async fn bus_of(qmp: &Qmp, device: &str) -> Result<String> {
    let path = format!("{PERIPHERALS}/{device}");
    let bus = qmp.execute("qom-get", json!({ "path": path, "property": "parent_bus" })).await?;
    // `/machine/peripheral/hp3/hp3`
    Ok(bus.as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned())
}

async fn deleted(mut events: broadcast::Receiver<QmpEvent>, device: &str, within: Duration) -> Result<()> {
    let wait = async {
        loop {
            match events.recv().await {
                Ok(event) if event.data.get("device").and_then(Value::as_str) != Some(device) => {}
                Ok(event) if event.name == "DEVICE_DELETED" => return Ok(()),
                Ok(event) if event.name == "DEVICE_UNPLUG_GUEST_ERROR" => {
                    let reason = "the guest refused to let go of the device".to_owned();
                    return Err(HypervisorError::Refused { command: format!("unplug {device}"), reason });
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(QmpError::Closed.into()),
            }
        }
    };
    let late = |_| HypervisorError::Timeout { what: format!("unplug {device}"), after: within };
    timeout(within, wait).await.map_err(late)?
}

async fn remove_backend(qmp: &Qmp, nic: &PortId) -> Result<()> {
    match qmp.execute("netdev_del", json!({ "id": nic_backend(nic) })).await {
        // There is none.
        Err(QmpError::Refused { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The ids of all devices that have one.
async fn devices(qmp: &Qmp) -> Result<HashSet<String>> {
    let listed = qmp.execute("qom-list", json!({ "path": PERIPHERALS })).await?;
    let entries = listed.as_array().map(Vec::as_slice).unwrap_or_default();
    let child = |entry: &Value| {
        let is_device = entry["type"].as_str().is_some_and(|kind| kind.starts_with("child<"));
        entry["name"].as_str().filter(|_| is_device).map(str::to_owned)
    };
    Ok(entries.iter().filter_map(child).collect())
}

async fn free_root_port(qmp: &Qmp, devices: &HashSet<String>) -> Result<String> {
    let mut taken = HashSet::new();
    for device in devices.iter().filter(|id| id.starts_with("nic-") || id.starts_with("disk-")) {
        taken.insert(bus_of(qmp, device).await?);
    }
    (0..)
        .map(root_port)
        .take_while(|port| devices.contains(port))
        .find(|port| !taken.contains(port))
        .ok_or_else(|| HypervisorError::Unsupported("the guest has no free slot to plug a device into".to_owned()))
}
