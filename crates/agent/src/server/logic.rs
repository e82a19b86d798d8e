//! Decisions about one server, as pure functions.

use std::{net::IpAddr, time::Duration};

use drivers::{
    disk::{BaseSpec, Digest, Disk},
    hypervisor::{
        DiskBus, DiskFormat, Firmware, GuestDisk, GuestEnd, GuestNic, GuestPower, GuestSpec, Machine, ObservedGuest,
    },
    network::{Datapath, MetadataSpec, PlugSpec, tap_name},
};
use hostlink::{FixedIp, Port, Power, RootDisk, ServerSpec, WantedPower};
use ipnet::IpNet;
use model::{
    addr::Mac,
    id::{ImageId, NetworkId, PortId, ServerId},
};

use crate::{config::Limits, failure::Failure};

/// What there is to do about a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuestAction {
    /// It is off and should run.
    Start,
    /// It runs, but a newer boot is wanted: down, then up.
    Restart,
    /// It runs as wanted.
    Keep,
    /// It runs and should stand still in memory.
    Pause,
    /// It stands still in memory, brought to it by us, and should run.
    Resume,
    /// It is on and should be on disk.
    Suspend,
    /// It runs and should not.
    BringDown,
    /// It is off, by wish or by its own doing.
    LeaveOff,
    /// It was started for a newer boot than the one that is wanted now: somebody's picture is wrong.
    Stale,
}

/// Compares what is wanted with what is. `held`: the guest was brought to a stand by us.
pub(super) fn decide(spec: &ServerSpec, observed: Option<&ObservedGuest>, held: bool) -> GuestAction {
    use GuestAction::{BringDown, Keep, LeaveOff, Pause, Restart, Resume, Stale, Start, Suspend};
    let boot = boot(spec);
    let wants_running = !matches!(spec.power(), WantedPower::Stopped | WantedPower::Unspecified);
    let Some(guest) = observed else { return if wants_running { Start } else { LeaveOff } };
    match (&guest.power, wants_running) {
        (GuestPower::Off { .. }, false) => LeaveOff,
        (_, false) => BringDown,
        (_, true) if guest.boot > boot => Stale,
        (GuestPower::Off { .. }, true) if guest.boot < boot => Start,
        // The boot that is wanted has ended: go on only where neither the guest nor a crash ended it.
        (GuestPower::Off { end }, true) => match end {
            GuestEnd::ByGuest | GuestEnd::Crashed(_) => LeaveOff,
            GuestEnd::Suspended if spec.power() == WantedPower::Suspended => LeaveOff,
            GuestEnd::Suspended | GuestEnd::ByHost | GuestEnd::HostRestart | GuestEnd::StartFailed(_) => Start,
        },
        (_, true) if guest.boot < boot => Restart,
        (GuestPower::Panicked, true) => Keep,
        (_, true) if spec.power() == WantedPower::Suspended => Suspend,
        (GuestPower::Running, true) if spec.power() == WantedPower::Paused => Pause,
        (GuestPower::Paused, true) if held && spec.power() == WantedPower::Running => Resume,
        (_, true) => Keep,
    }
}

/// The power to report.
pub(super) fn power(observed: Option<&ObservedGuest>) -> Power {
    match observed.map(|guest| &guest.power) {
        None => Power::Unspecified,
        Some(GuestPower::Running) => Power::Running,
        Some(GuestPower::Paused) => Power::Paused,
        Some(GuestPower::Panicked | GuestPower::Off { end: GuestEnd::Crashed(_) }) => Power::Crashed,
        Some(GuestPower::Off { end: GuestEnd::Suspended }) => Power::Suspended,
        Some(GuestPower::Off { .. }) => Power::Shutdown,
    }
}

/// The pause before the next attempt: doubled each time up to the longest, and somewhere between half of that and all
/// of it, so that many servers that failed together do not come back together. `chance` is between 0 and 1.
pub(super) fn pause(attempts: u32, limits: &Limits, chance: f64) -> Duration {
    let doubled = limits.retry_first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    doubled.min(limits.retry_longest).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// The boot counter as drivers count it.
pub(super) fn boot(spec: &ServerSpec) -> u64 {
    u64::try_from(spec.boot).unwrap_or(0)
}

/// The base image that the root disk stands on.
pub(super) fn base_spec(root: &RootDisk) -> Result<BaseSpec, Failure> {
    let format = match root.format.as_str() {
        "raw" => DiskFormat::Raw,
        "qcow2" => DiskFormat::Qcow2,
        other => return Err(Failure::InvalidSpec(format!("images of format {other:?} can't be booted from"))),
    };
    let digest = match root.hash_algorithm.as_str() {
        "sha256" => Digest::Sha256(root.hash.clone()),
        "sha512" => Digest::Sha512(root.hash.clone()),
        other => return Err(Failure::InvalidSpec(format!("hashes of kind {other:?} can't be verified"))),
    };
    Ok(BaseSpec { image: ImageId::new(root.image_id.clone()), format, size_bytes: root.image_bytes, digest })
}

/// The guest to start.
pub(super) fn guest_spec(spec: &ServerSpec, disks: Vec<GuestDisk>, datapath: Datapath) -> Result<GuestSpec, Failure> {
    let memory_mib = u32::try_from(spec.memory_mib).map_err(|_| Failure::InvalidSpec("too much memory".into()))?;
    let firmware = match spec.hardware.get("hw_firmware_type").map(String::as_str) {
        Some("uefi") => Firmware::Uefi,
        _ => Firmware::Bios,
    };
    Ok(GuestSpec {
        id: ServerId::new(spec.id.clone()),
        boot: boot(spec),
        vcpus: spec.vcpus.max(1),
        memory_mib,
        machine: Machine::Q35,
        firmware,
        disks,
        sockets: None,
        nics: spec.ports.iter().map(|port| guest_nic(port, datapath)).collect(),
    })
}

/// The disk that the guest boots from.
pub(super) fn root_disk(disk: Disk, spec: &ServerSpec) -> GuestDisk {
    let bus = match spec.hardware.get("hw_disk_bus").map(String::as_str) {
        Some("sata" | "ide") => DiskBus::Sata,
        _ => DiskBus::Virtio,
    };
    GuestDisk {
        id: "root".into(),
        path: disk.path,
        format: disk.format,
        bus,
        read_only: false,
        boot_index: Some(0),
        serial: None,
    }
}

/// The disks of a guest that is rescued: it boots from the rescue disk. With `hw_rescue_device` or `hw_rescue_bus` its
/// own disks stay what they were, and the rescue disk comes last (Nova's stable device rescue); else it comes first.
pub(super) fn with_rescue(mut disks: Vec<GuestDisk>, rescue: Disk, spec: &ServerSpec) -> Vec<GuestDisk> {
    let property = |name: &str| spec.hardware.get(name).map(String::as_str);
    let (device, bus) = (property("hw_rescue_device"), property("hw_rescue_bus"));
    let is_cdrom = device == Some("cdrom");
    let bus = match (bus, is_cdrom) {
        (Some("sata" | "ide"), true) => DiskBus::SataCdrom,
        (_, true) => DiskBus::Cdrom,
        (Some("sata" | "ide"), false) => DiskBus::Sata,
        (Some("scsi" | "usb"), false) => DiskBus::Scsi,
        _ => disks.first().map_or(DiskBus::Virtio, |disk| disk.bus),
    };
    for disk in &mut disks {
        disk.boot_index = disk.boot_index.map(|index| index + 1);
    }
    let rescue = GuestDisk {
        id: "rescue".into(),
        path: rescue.path,
        format: rescue.format,
        bus,
        read_only: is_cdrom,
        boot_index: Some(0),
        serial: None,
    };
    let stable = device.is_some() || property("hw_rescue_bus").is_some();
    disks.insert(if stable { disks.len() } else { 0 }, rescue);
    disks
}

/// The config drive: on virtio, so that a system that boots here can read it even without drivers for CD-ROMs.
pub(super) fn config_disk(disk: Disk) -> GuestDisk {
    GuestDisk {
        id: "config".into(),
        path: disk.path,
        format: disk.format,
        bus: DiskBus::Virtio,
        read_only: true,
        boot_index: None,
        serial: None,
    }
}

/// A port as the guest sees it.
pub(super) fn guest_nic(port: &Port, datapath: Datapath) -> GuestNic {
    let id = PortId::new(port.id.clone());
    let tap = tap_name(&id);
    GuestNic { id, mac: port.mac.clone(), tap, mtu: port.mtu, vnet_hdr: datapath.vnet_hdr(), socket: None }
}

/// A port as the host's switch sees it.
pub(super) fn plug_spec(port: &Port, owner_uid: Option<u32>) -> Result<PlugSpec, Failure> {
    let port_id = PortId::new(port.id.clone());
    let tap = tap_name(&port_id);
    Ok(PlugSpec { port_id, tap, mac: mac(&port.mac)?, mtu: port.mtu, owner_uid })
}

/// The metadata service's place in the port's network, if it has one.
pub(super) fn metadata_spec(port: &Port) -> Result<Option<MetadataSpec>, Failure> {
    let Some(place) = &port.metadata_port else { return Ok(None) };
    Ok(Some(MetadataSpec {
        network_id: NetworkId::new(port.network_id.clone()),
        port_id: PortId::new(place.port_id.clone()),
        mac: mac(&place.mac)?,
        addresses: place.fixed_ips.iter().map(net).collect::<Result<_, _>>()?,
        mtu: if place.mtu == 0 { port.mtu } else { place.mtu },
    }))
}

fn mac(text: &str) -> Result<Mac, Failure> {
    text.parse().map_err(|()| Failure::InvalidSpec(format!("{text:?} is not a MAC address")))
}

fn net(ip: &FixedIp) -> Result<IpNet, Failure> {
    let invalid = || Failure::InvalidSpec(format!("{}/{} is not an address", ip.address, ip.prefix_length));
    let address: IpAddr = ip.address.parse().map_err(|_| invalid())?;
    IpNet::new(address, u8::try_from(ip.prefix_length).map_err(|_| invalid())?).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_guest() {
        use GuestAction::{BringDown, Keep, LeaveOff, Pause, Restart, Resume, Stale, Start, Suspend};
        let guest = |boot, power| Some(ObservedGuest { id: ServerId::new("s"), boot, power, pid: None });
        let off = |end| GuestPower::Off { end };
        let crashed = || GuestEnd::Crashed("killed".into());
        let run = WantedPower::Running;
        let stop = WantedPower::Stopped;
        let (pause, suspend) = (WantedPower::Paused, WantedPower::Suspended);
        let table = [
            (run, None, Start),
            (stop, None, LeaveOff),
            (run, guest(2, GuestPower::Running), Keep),
            (run, guest(2, GuestPower::Paused), Keep),
            (run, guest(2, GuestPower::Panicked), Keep),
            (run, guest(1, GuestPower::Running), Restart),
            (run, guest(1, GuestPower::Panicked), Restart),
            (run, guest(3, GuestPower::Running), Stale),
            (run, guest(3, off(GuestEnd::ByGuest)), Stale),
            (stop, guest(2, GuestPower::Running), BringDown),
            (stop, guest(3, GuestPower::Paused), BringDown),
            (stop, guest(2, off(crashed())), LeaveOff),
            (run, guest(2, off(GuestEnd::ByGuest)), LeaveOff),
            (run, guest(2, off(crashed())), LeaveOff),
            (run, guest(2, off(GuestEnd::ByHost)), Start),
            (run, guest(2, off(GuestEnd::HostRestart)), Start),
            (run, guest(2, off(GuestEnd::StartFailed("no memory".into()))), Start),
            (run, guest(1, off(GuestEnd::ByGuest)), Start),
            (run, guest(1, off(crashed())), Start),
            (run, guest(2, off(GuestEnd::Suspended)), Start),
            (suspend, guest(2, off(GuestEnd::Suspended)), LeaveOff),
            (suspend, guest(2, GuestPower::Running), Suspend),
            (suspend, guest(2, GuestPower::Paused), Suspend),
            (suspend, guest(2, off(GuestEnd::ByGuest)), LeaveOff),
            (pause, guest(2, GuestPower::Running), Pause),
            (pause, guest(2, GuestPower::Paused), Keep),
            (pause, guest(1, GuestPower::Running), Restart),
            (pause, None, Start),
        ];
        for (wanted, observed, action) in table {
            let spec = ServerSpec { power: wanted.into(), boot: 2, ..ServerSpec::default() };
            assert_eq!(decide(&spec, observed.as_ref(), false), action, "{wanted:?} {observed:?}");
        }
        let spec = ServerSpec { power: run.into(), boot: 2, ..ServerSpec::default() };
        assert_eq!(decide(&spec, guest(2, GuestPower::Paused).as_ref(), true), Resume);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let limits =
            Limits { retry_first: Duration::from_secs(1), retry_longest: Duration::from_secs(10), ..Limits::default() };
        let at = |attempts| pause(attempts, &limits, 1.0).as_secs();
        assert_eq!([at(1), at(2), at(3), at(4), at(5), at(4_000_000)], [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause(1, &limits, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn specs_that_no_driver_should_see_are_refused() {
        let root = RootDisk { format: "vmdk".into(), hash_algorithm: "sha256".into(), ..RootDisk::default() };
        assert!(base_spec(&root).is_err());
        let port = Port { mac: "fa:16:3e".into(), ..Port::default() };
        assert!(plug_spec(&port, None).is_err_and(|failure| failure.is_final()));
        let ip = FixedIp { address: "10.0.0.2".into(), prefix_length: 33 };
        assert!(net(&ip).is_err());
    }
}
