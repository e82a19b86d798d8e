//! QEMU's command line as a pure function of what is wanted and where it runs.
//!
//! The guest's PCI tree: system devices and disks that can't be unplugged sit on the root complex; every NIC and every
//! spare slot is a `pcie-root-port` made in advance, because QEMU can't add ports to a running guest. Device ids are
//! derived from the ids of what they stand for ([`nic_device`], [`disk_device`]), so that hot-plug after a restart of
//! the agent finds them without a list.

use std::{
    os::fd::RawFd,
    path::{Path, PathBuf},
};

use model::id::PortId;
use serde_json::{Value, json};

use super::paths::GuestPaths;
use crate::hypervisor::{Accelerator, DiskBus, Firmware, GuestDisk, GuestNic, GuestSpec, Machine};

/// Root ports: most that fit beside the system devices.
const ROOT_PORTS_MAX: usize = 64;
/// QEMU refuses longer ones.
const VIRTIO_SERIAL_BYTES_MAX: usize = 20;

/// What the command line depends on beside the spec.
#[derive(Clone, Debug)]
pub struct Host {
    /// How guests' code runs.
    pub accelerator: Accelerator,
    /// The CPU model guests get.
    pub cpu_model: String,
    /// Spare root ports.
    pub hotplug_slots: usize,
    /// UEFI firmware code, where installed.
    pub uefi_code: Option<PathBuf>,
}

/// The device id of a NIC.
pub fn nic_device(port: &PortId) -> String {
    format!("nic-{port}")
}

/// The id of a NIC's host side.
pub fn nic_backend(port: &PortId) -> String {
    format!("net-{port}")
}

/// The device id of a disk.
pub fn disk_device(id: &str) -> String {
    format!("disk-{id}")
}

/// A block node's name: 31 bytes at most, and unique as long as disks' ids differ in their first 30 characters
/// without dashes, as UUIDs do.
pub fn disk_node(id: &str) -> String {
    let short: String = id.chars().filter(char::is_ascii_alphanumeric).take(30).collect();
    format!("n{short}")
}

/// The name of a root port.
pub fn root_port(index: usize) -> String {
    format!("hp{index}")
}

/// How `-name` shows the guest; also what tells in the process table whose QEMU it is.
pub fn guest_name(spec_id: &str) -> String {
    format!("guest={spec_id},debug-threads=on")
}

/// All arguments after the program's name, or what is wrong with the spec. `taps` are the numbers of the descriptors
/// that QEMU inherits, one for each NIC.
pub fn arguments(spec: &GuestSpec, paths: &GuestPaths, host: &Host, taps: &[RawFd]) -> Result<Vec<String>, String> {
    check(spec, host)?;
    let mut line = Line::default();
    line.option("-name", guest_name(spec.id.as_str()));
    line.machine(spec, host);
    line.identity(spec);
    line.firmware(spec, paths, host)?;
    line.consoles(paths);
    let sockets = spec.sockets.and_then(|sockets| usize::try_from(sockets).ok());
    line.root_ports(sockets.unwrap_or(spec.nics.len() + host.hotplug_slots));
    if spec.disks.iter().any(|disk| matches!(disk.bus, DiskBus::Scsi | DiskBus::Cdrom)) {
        line.option("-device", "virtio-scsi-pci,id=scsi");
    }
    for disk in &spec.disks {
        line.disk(disk, spec)?;
    }
    for (index, (nic, tap)) in spec.nics.iter().zip(taps).enumerate() {
        let socket = nic.socket.and_then(|socket| usize::try_from(socket).ok());
        line.nic(nic, *tap, socket.unwrap_or(index));
    }
    line.option("-object", "rng-random,id=rng0,filename=/dev/urandom");
    line.option("-device", "virtio-rng-pci,rng=rng0");
    line.option("-device", "pvpanic");
    Ok(line.0)
}

fn check(spec: &GuestSpec, host: &Host) -> Result<(), String> {
    if spec.vcpus == 0 || spec.memory_mib == 0 {
        return Err("a guest needs at least one processor and some memory".to_owned());
    }
    let most = ROOT_PORTS_MAX.saturating_sub(host.hotplug_slots);
    if spec.nics.len() > most {
        return Err(format!("{} NICs, at most {most} fit", spec.nics.len()));
    }
    let mut nodes: Vec<String> = spec.disks.iter().map(|disk| disk_node(&disk.id)).collect();
    nodes.sort();
    nodes.dedup();
    if nodes.len() < spec.disks.len() {
        return Err("two disks have the same id".to_owned());
    }
    Ok(())
}

/// The driver's part of `device_add` and `-device`.
pub fn nic_device_options(nic: &GuestNic, bus: &str) -> Value {
    json!({
        "driver": "virtio-net-pci", "id": nic_device(&nic.id), "netdev": nic_backend(&nic.id),
        "mac": nic.mac, "host_mtu": nic.mtu, "bus": bus,
    })
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(name.to_owned());
        self.0.push(value.into());
    }

    fn machine(&mut self, spec: &GuestSpec, host: &Host) {
        let board = match spec.machine {
            Machine::Q35 => "q35",
        };
        let mut machine = format!("{board},usb=off,vmport=off,dump-guest-core=off");
        if spec.firmware == Firmware::Uefi {
            machine.push_str(",pflash0=uefi-code,pflash1=uefi-vars");
        }
        self.option("-machine", machine);
        let accelerator = match host.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg | Accelerator::None => "tcg,thread=multi",
        };
        self.option("-accel", accelerator);
        self.option("-cpu", host.cpu_model.clone());
        self.option("-m", spec.memory_mib.to_string());
        self.option("-smp", format!("cpus={0},sockets=1,cores={0},threads=1", spec.vcpus));
        for flag in ["-nodefaults", "-no-user-config", "-display", "none"] {
            self.0.push(flag.to_owned());
        }
        // A guest that powers off stays as a paused process until the monitor has seen why: see `guest`.
        self.option("-action", "shutdown=pause,panic=pause,reboot=reset");
        self.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }

    /// What the guest reads from SMBIOS. cloud-init looks for its OpenStack data source where the product is one of
    /// OpenStack's two names.
    fn identity(&mut self, spec: &GuestSpec) {
        let id = spec.id.as_str();
        let mut system = "type=1,manufacturer=Nacre,product=OpenStack Compute,family=Virtual Machine".to_owned();
        system.push_str(&format!(",serial={id}"));
        if model::id::is_uuid_like(id) {
            system.push_str(&format!(",uuid={id}"));
            self.option("-uuid", id);
        }
        self.option("-smbios", system);
        self.option("-rtc", "base=utc,driftfix=slew");
    }

    fn firmware(&mut self, spec: &GuestSpec, paths: &GuestPaths, host: &Host) -> Result<(), String> {
        if spec.firmware == Firmware::Bios {
            return Ok(());
        }
        let code = host.uefi_code.as_deref().ok_or("this host has no UEFI firmware (package ovmf)")?;
        let flash = |node: &str, file: &Path, read_only: bool| -> Result<String, String> {
            let file = json!({ "driver": "file", "filename": text(file)? });
            Ok(json!({ "driver": "raw", "node-name": node, "read-only": read_only, "file": file }).to_string())
        };
        self.option("-blockdev", flash("uefi-code", code, true)?);
        self.option("-blockdev", flash("uefi-vars", &paths.uefi_vars(), false)?);
        Ok(())
    }

    fn consoles(&mut self, paths: &GuestPaths) {
        let path = |path: PathBuf| escaped(&path.to_string_lossy());
        let socket = |id: &str, at: PathBuf| format!("socket,id={id},path={},server=on,wait=off", path(at));
        self.option("-chardev", socket("qmp", paths.qmp()));
        self.option("-mon", "chardev=qmp,mode=control");
        let log = path(paths.console_log());
        self.option("-chardev", format!("{},logfile={log},logappend=on", socket("serial", paths.serial())));
        self.option("-serial", "chardev:serial");
        self.option("-vnc", format!("unix:{}", path(paths.vnc())));
        self.option("-device", "VGA");
        self.option("-device", "virtio-serial-pci");
        self.option("-chardev", socket("agent", paths.guest_agent()));
        self.option("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    }

    /// Eight ports to a slot of the root complex, from slot 16 on: below it are the other devices, above it the board's.
    fn root_ports(&mut self, count: usize) {
        for index in 0..count {
            let (slot, function) = (16 + index / 8, index % 8);
            let multifunction = if function == 0 { ",multifunction=on" } else { "" };
            let port = root_port(index);
            let chassis = index + 1;
            self.option(
                "-device",
                format!(
                    "pcie-root-port,id={port},chassis={chassis},slot={chassis},addr={slot:#x}.{function}{multifunction}"
                ),
            );
        }
    }

    fn disk(&mut self, disk: &GuestDisk, spec: &GuestSpec) -> Result<(), String> {
        let read_only = disk.read_only || disk.bus.is_cdrom();
        let node = disk_node(&disk.id);
        let backend = json!({
            "driver": disk.format.as_str(), "node-name": node, "read-only": read_only, "discard": "unmap",
            "file": { "driver": "file", "filename": text(&disk.path)? },
        });
        self.option("-blockdev", backend.to_string());
        let on_sata = |other: &&GuestDisk| matches!(other.bus, DiskBus::Sata | DiskBus::SataCdrom);
        let before = spec.disks.iter().take_while(|other| other.id != disk.id);
        let sata = format!("ide.{}", before.filter(on_sata).count());
        let mut device = match disk.bus {
            DiskBus::Virtio => json!({ "driver": "virtio-blk-pci" }),
            DiskBus::Scsi => json!({ "driver": "scsi-hd", "bus": "scsi.0" }),
            DiskBus::Cdrom => json!({ "driver": "scsi-cd", "bus": "scsi.0" }),
            DiskBus::Sata => json!({ "driver": "ide-hd", "bus": sata }),
            DiskBus::SataCdrom => json!({ "driver": "ide-cd", "bus": sata }),
        };
        device["id"] = disk_device(&disk.id).into();
        device["drive"] = node.into();
        if let Some(index) = disk.boot_index {
            device["bootindex"] = index.into();
        }
        if let Some(serial) = &disk.serial {
            device["serial"] = serial.chars().take(VIRTIO_SERIAL_BYTES_MAX).collect::<String>().into();
        }
        self.option("-device", device.to_string());
        Ok(())
    }

    fn nic(&mut self, nic: &GuestNic, tap: RawFd, index: usize) {
        self.option("-netdev", format!("tap,id={},fd={tap}", nic_backend(&nic.id)));
        self.option("-device", nic_device_options(nic, &root_port(index)).to_string());
    }
}

/// QEMU's options take a comma in a value only doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use model::id::ServerId;

    use super::*;
    use crate::hypervisor::DiskFormat;

    fn spec() -> GuestSpec {
        let disk = |id: &str, bus, format, boot_index| GuestDisk {
            id: id.to_owned(),
            path: format!("/d/{id},1").into(),
            format,
            bus,
            read_only: false,
            boot_index,
            serial: None,
        };
        GuestSpec {
            id: ServerId::new("0b8a4a5e-5c0f-4f0a-9d7e-6f2b7a1c3d4e"),
            boot: 1,
            vcpus: 2,
            memory_mib: 512,
            machine: Machine::Q35,
            firmware: Firmware::Bios,
            disks: vec![
                disk("root", DiskBus::Virtio, DiskFormat::Qcow2, Some(0)),
                disk("config", DiskBus::Cdrom, DiskFormat::Raw, None),
            ],
            nics: vec![GuestNic {
                id: PortId::new("7c1d2a30-0000-4000-8000-000000000001"),
                mac: "fa:16:3e:00:00:01".to_owned(),
                tap: "tap7c1d2a30-00".to_owned(),
                mtu: 1442,
                vnet_hdr: false,
                socket: None,
            }],
            sockets: None,
        }
    }

    fn host() -> Host {
        Host {
            accelerator: Accelerator::Tcg,
            cpu_model: "max".to_owned(),
            hotplug_slots: 2,
            uefi_code: Some("/usr/share/OVMF/OVMF_CODE.fd".into()),
        }
    }

    fn line(spec: &GuestSpec, host: &Host) -> Result<String, String> {
        let paths = GuestPaths::new(Path::new("/g"), &spec.id).unwrap();
        arguments(spec, &paths, host, &[20]).map(|line| line.join(" ").replace(" -", "\n-"))
    }

    #[test]
    fn golden() {
        insta::assert_snapshot!(line(&spec(), &host()).unwrap());
    }

    #[test]
    fn what_differs() {
        type Change = fn(&mut GuestSpec, &mut Host);
        let table: &[(Change, &str)] = &[
            (|_, host| host.accelerator = Accelerator::Kvm, "-accel kvm\n"),
            (|spec, _| spec.firmware = Firmware::Uefi, ",pflash0=uefi-code,pflash1=uefi-vars\n"),
            (|spec, _| spec.firmware = Firmware::Uefi, "run/uefi-vars.fd"),
            (|spec, _| spec.disks[0].bus = DiskBus::Sata, r#""bus":"ide.0","drive":"nroot","driver":"ide-hd""#),
            (|spec, _| spec.disks[0].bus = DiskBus::Scsi, r#""bus":"scsi.0","drive":"nroot","driver":"scsi-hd""#),
            (
                |spec, _| {
                    spec.disks[0].bus = DiskBus::Sata;
                    spec.disks[1].bus = DiskBus::SataCdrom;
                },
                r#""bus":"ide.1","drive":"nconfig","driver":"ide-cd""#,
            ),
            (
                |spec, _| spec.disks[0].serial = Some("0123456789-123456789-x".to_owned()),
                r#""serial":"0123456789-123456789""#,
            ),
            (|spec, _| spec.id = ServerId::new("not-a-uuid"), "family=Virtual Machine,serial=not-a-uuid\n"),
        ];
        for (change, expected) in table {
            let (mut spec, mut host) = (spec(), host());
            change(&mut spec, &mut host);
            let line = line(&spec, &host).unwrap();
            assert!(line.contains(expected), "{expected} is not in\n{line}");
        }
    }

    #[test]
    fn what_is_refused() {
        type Change = fn(&mut GuestSpec, &mut Host);
        let table: &[(Change, &str)] = &[
            (|spec, _| spec.vcpus = 0, "at least one processor"),
            (|spec, _| spec.nics = vec![spec.nics[0].clone(); 63], "63 NICs, at most 62 fit"),
            (|spec, _| spec.disks[1].id = "root".to_owned(), "two disks have the same id"),
            (
                |spec, host| {
                    spec.firmware = Firmware::Uefi;
                    host.uefi_code = None;
                },
                "no UEFI firmware",
            ),
        ];
        for (change, expected) in table {
            let (mut spec, mut host) = (spec(), host());
            change(&mut spec, &mut host);
            let reason = line(&spec, &host).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
