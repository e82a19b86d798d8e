//! What only the real driver can get wrong: processes, files, an agent that dies, hot-plug.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use drivers::hypervisor::{
    Accelerator, DiskBus, DiskFormat, Ensured, Firmware, GuestDisk, GuestEnd, GuestEvent, GuestEventKind, GuestNic,
    GuestPower, GuestSpec, Hypervisor, HypervisorError, Machine,
    fake::Behaviour,
    qemu::{QemuConfig, QemuHypervisor},
};
use model::id::{PortId, ServerId};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::broadcast,
    time::timeout,
};

use crate::boot_sector;

const LONG: Duration = Duration::from_secs(60);
/// Set for the process that plays an agent that is killed.
const VICTIM_ROOT: &str = "NACRE_TEST_VICTIM_ROOT";

/// A folder for guests, whose processes end with it whatever happens.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// `None`, and a word about it, where QEMU is not installed.
    pub fn new() -> Option<Self> {
        if !config(Path::new("/")).binary.exists() {
            println!("skipped: QEMU is not installed (package qemu-system-x86)");
            return None;
        }
        // Short, for the sockets, and open to the guests' user.
        let folder = tempfile::Builder::new().prefix("hyp").tempdir_in("/tmp").unwrap();
        mode(folder.path(), 0o711);
        Some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn guest(&self, id: &ServerId) -> PathBuf {
        self.path().join("guests").join(id.as_str())
    }

    pub fn config(&self) -> QemuConfig {
        config(&self.path().join("guests"))
    }

    pub async fn driver(&self) -> QemuHypervisor {
        QemuHypervisor::open(self.config()).await.unwrap()
    }

    /// A guest whose system behaves so.
    pub fn spec(&self, behaviour: Behaviour) -> GuestSpec {
        let id = ServerId::random();
        let path = self.path().join(format!("{id}.img"));
        write_disk(&path, behaviour);
        let root = GuestDisk {
            id: "root".to_owned(),
            path,
            format: DiskFormat::Raw,
            bus: DiskBus::Virtio,
            read_only: false,
            boot_index: Some(0),
            serial: None,
        };
        GuestSpec {
            id,
            boot: 1,
            vcpus: 1,
            memory_mib: 32,
            machine: Machine::Q35,
            firmware: Firmware::Bios,
            disks: vec![root],
            nics: vec![],
            sockets: None,
        }
    }

    fn record(&self, id: &ServerId) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.guest(id).join("record.json")).ok()?).ok()
    }

    fn change_record(&self, id: &ServerId, change: impl FnOnce(&mut Value)) {
        let mut record = self.record(id).unwrap();
        change(&mut record);
        std::fs::write(self.guest(id).join("record.json"), record.to_string()).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path().join("guests")).into_iter().flatten().flatten() {
            let id = ServerId::new(entry.file_name().to_string_lossy());
            let pid = self.record(&id).and_then(|record| record["pid"].as_u64());
            if let Some(pid) = pid.filter(|pid| runs(*pid as u32, &id)) {
                kill(pid as u32);
            }
        }
    }
}

/// The usual setting, with another QEMU if the environment names one.
fn config(root: &Path) -> QemuConfig {
    let mut config = QemuConfig::new(root);
    if let Some(binary) = std::env::var_os("NACRE_TEST_QEMU") {
        config.binary = binary.into();
    }
    config
}

pub fn write_disk(path: &Path, behaviour: Behaviour) {
    std::fs::write(path, boot_sector::that(behaviour)).unwrap();
    mode(path, 0o666);
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn kill(pid: u32) {
    Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Whether that process is the guest's QEMU.
fn runs(pid: u32, id: &ServerId) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&format!("guest={id}"))
}

async fn stopped(events: &mut broadcast::Receiver<GuestEvent>, id: &ServerId) -> GuestEnd {
    let wait = async {
        loop {
            match events.recv().await.unwrap() {
                GuestEvent { id: found, kind: GuestEventKind::Stopped(end), .. } if found == *id => return end,
                _ => {}
            }
        }
    };
    timeout(LONG, wait).await.unwrap()
}

async fn pid(driver: &dyn Hypervisor, id: &ServerId) -> u32 {
    driver.observe_guest(id).await.unwrap().unwrap().pid.unwrap()
}

#[tokio::test]
async fn what_this_host_can_do_is_proved() {
    let Some(folder) = Folder::new() else { return };
    let found = folder.driver().await.capabilities();
    println!("{found:#?}");
    assert!(found.version.major >= 7);
    assert_eq!(found.cpu_model, if found.accelerator == Accelerator::Kvm { "host" } else { "max" });
    assert!(!found.accelerator_note.is_empty() && found.isolation.len() >= 3);
    let second = {
        let _first = folder.driver().await;
        QemuHypervisor::open(folder.config()).await.err().unwrap().to_string()
    };
    assert!(second.contains("another agent uses it"), "{second}");
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn victim() {
    let Ok(root) = std::env::var(VICTIM_ROOT) else { return };
    let driver = QemuHypervisor::open(config(Path::new(&root))).await.unwrap();
    let spec = std::fs::read(Path::new(&root).with_file_name("spec.json")).unwrap();
    driver.ensure_guest(&serde_json::from_slice(&spec).unwrap()).await.unwrap();
    println!("victim is ready");
    std::future::pending().await
}

#[tokio::test]
async fn guests_outlive_an_agent_that_is_killed_with_its_process_group() {
    let Some(folder) = Folder::new() else { return };
    let spec = folder.spec(Behaviour::IgnoresPowerButton);
    std::fs::write(folder.path().join("spec.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut agent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["qemu::victim", "--exact", "--nocapture"])
        .env(VICTIM_ROOT, folder.path().join("guests"))
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(agent.stdout.take().unwrap()).lines();
    let ready = async { while !said.next_line().await.unwrap().unwrap().contains("victim is ready") {} };
    timeout(LONG, ready).await.unwrap();
    let group = format!("-{}", agent.id().unwrap());
    Command::new("kill").args(["-9", "--", &group]).status().unwrap();
    agent.wait().await.unwrap();

    let driver = folder.driver().await;
    let adopted = driver.adopt().await.unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!(adopted[0].power, GuestPower::Running);
    let process = adopted[0].pid.unwrap();
    assert!(runs(process, &spec.id));
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Running);

    // Neither our child nor to be reaped by us: its end is seen all the same.
    let mut events = driver.subscribe();
    kill(process);
    assert!(matches!(stopped(&mut events, &spec.id).await, GuestEnd::Crashed(_)));
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Started);
    driver.remove_guest(&spec.id).await.unwrap();
}

#[tokio::test]
async fn a_killed_process_is_a_crash() {
    let Some(folder) = Folder::new() else { return };
    let driver = folder.driver().await;
    let spec = folder.spec(Behaviour::IgnoresPowerButton);
    driver.ensure_guest(&spec).await.unwrap();
    let process = pid(&driver, &spec.id).await;
    let mut events = driver.subscribe();
    kill(process);
    let end = stopped(&mut events, &spec.id).await;
    assert_eq!(end, GuestEnd::Crashed("QEMU: signal: 9 (SIGKILL)".to_owned()));
    assert!(!Path::new(&format!("/proc/{process}")).exists(), "reaped");
    driver.remove_guest(&spec.id).await.unwrap();
}

/// Says something to a guest's QEMU behind the driver's back, and waits for an event.
async fn behind_the_back(folder: &Folder, id: &ServerId, command: &str, event: &str) {
    let socket = folder.guest(id).join("run/qmp.sock");
    let (reader, mut writer) = UnixStream::connect(socket).await.unwrap().into_split();
    writer.write_all(b"{\"execute\": \"qmp_capabilities\"}\n").await.unwrap();
    writer.write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(reader).lines();
    let heard = async { while !lines.next_line().await.unwrap().unwrap().contains(event) {} };
    timeout(LONG, heard).await.unwrap();
}

/// Waits until the guest's system has said its line.
async fn up(driver: &dyn Hypervisor, id: &ServerId) {
    let mut serial = UnixStream::connect(driver.consoles(id).await.unwrap().serial).await.unwrap();
    let mut heard = [0; 6];
    timeout(LONG, tokio::io::AsyncReadExt::read_exact(&mut serial, &mut heard)).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_happens_while_no_agent_is_there_is_learned_later() {
    let Some(folder) = Folder::new() else { return };
    let driver = folder.driver().await;
    let powers_off = folder.spec(Behaviour::Cooperates);
    let specs = [(); 4].map(|()| folder.spec(Behaviour::IgnoresPowerButton));
    let [is_killed, host_restarts, pid_is_lost, start_is_lost] = &specs;
    for spec in specs.iter().chain([&powers_off]) {
        driver.ensure_guest(spec).await.unwrap();
    }
    up(&driver, &powers_off.id).await;
    let pids = [pid(&driver, &is_killed.id).await, pid(&driver, &host_restarts.id).await];
    drop(driver);

    behind_the_back(&folder, &powers_off.id, "system_powerdown", "SHUTDOWN").await;
    pids.into_iter().for_each(kill);
    folder.change_record(&host_restarts.id, |record| record["host_boot"] = "another".into());
    let process = folder.record(&pid_is_lost.id).unwrap()["pid"].take();
    folder.change_record(&pid_is_lost.id, |record| record["pid"] = Value::Null);
    // A start that was noted and came to nothing: no process, no pid.
    kill(folder.record(&start_is_lost.id).unwrap()["pid"].as_u64().unwrap() as u32);
    folder.change_record(&start_is_lost.id, |record| record["pid"] = Value::Null);

    let driver = folder.driver().await;
    driver.adopt().await.unwrap();
    let power = async |spec: &GuestSpec| driver.observe_guest(&spec.id).await.unwrap().unwrap().power;
    assert_eq!(power(&powers_off).await, GuestPower::Off { end: GuestEnd::ByGuest });
    assert!(matches!(power(is_killed).await, GuestPower::Off { end: GuestEnd::Crashed(_) }));
    assert_eq!(power(host_restarts).await, GuestPower::Off { end: GuestEnd::HostRestart });
    assert!(matches!(power(start_is_lost).await, GuestPower::Off { end: GuestEnd::Crashed(_) }));
    assert_eq!(power(pid_is_lost).await, GuestPower::Running);
    assert_eq!(u64::from(pid(&driver, &pid_is_lost.id).await), process.as_u64().unwrap());
    for spec in specs.iter().chain([&powers_off]) {
        driver.remove_guest(&spec.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_number_that_means_another_process_by_now_is_not_touched() {
    let Some(folder) = Folder::new() else { return };
    let spec = folder.spec(Behaviour::IgnoresPowerButton);
    let driver = folder.driver().await;
    driver.ensure_guest(&spec).await.unwrap();
    let process = pid(&driver, &spec.id).await;
    drop(driver);
    kill(process);
    let mut stranger = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    folder.change_record(&spec.id, |record| record["pid"] = stranger.id().into());

    let driver = folder.driver().await;
    let adopted = driver.adopt().await.unwrap();
    assert!(matches!(&adopted[0].power, GuestPower::Off { end: GuestEnd::Crashed(_) }));
    driver.stop_guest(&spec.id).await.unwrap();
    driver.remove_guest(&spec.id).await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "it runs on");
}

#[tokio::test]
async fn folders_without_a_guest_do_not_disturb_adoption() {
    let Some(folder) = Folder::new() else { return };
    let never_started = folder.guest(&ServerId::random());
    let foreign = folder.path().join("guests/lost+found");
    std::fs::create_dir_all(never_started.join("run")).unwrap();
    std::fs::create_dir_all(&foreign).unwrap();
    assert_eq!(folder.driver().await.adopt().await.unwrap(), vec![]);
    assert!(!never_started.exists() && foreign.exists());
}

#[tokio::test]
async fn traces_of_guests_that_nobody_started_are_listed_and_can_be_removed() {
    let Some(folder) = Folder::new() else { return };
    let driver = folder.driver().await;
    let (lies, runs) = (ServerId::random(), ServerId::random());
    std::fs::create_dir_all(folder.guest(&lies)).unwrap();
    let mut process = Command::new("sh")
        .args(["-c", "echo ready; read _", "-name", &format!("guest={runs},debug-threads=on"), "-qmp"])
        .arg(folder.guest(&runs).join("run/qmp.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A process has no command line yet in the moment of its start.
    std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
    let mut expected = vec![(lies.clone(), None), (runs.clone(), Some(process.id()))];
    expected.sort();
    let found = driver.list_guests().await.unwrap().into_iter().map(|guest| (guest.id, guest.pid)).collect::<Vec<_>>();
    assert_eq!(found, expected);
    driver.stop_guest(&runs).await.unwrap();
    assert!(!process.wait().unwrap().success());
    driver.remove_guest(&lies).await.unwrap();
    assert_eq!(driver.list_guests().await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_call_whose_caller_gives_up_ends_all_the_same() {
    let Some(folder) = Folder::new() else { return };
    let driver = folder.driver().await;
    let spec = folder.spec(Behaviour::IgnoresPowerButton);
    let mut events = driver.subscribe();
    assert!(timeout(Duration::from_millis(5), driver.ensure_guest(&spec)).await.is_err());
    let event = timeout(LONG, events.recv()).await.unwrap().unwrap();
    assert_eq!(event.kind, GuestEventKind::Started);
    assert_eq!(driver.ensure_guest(&spec).await.unwrap(), Ensured::Running);
    driver.remove_guest(&spec.id).await.unwrap();
}

#[tokio::test]
async fn uefi_guests_start_with_variables_of_their_own() {
    let Some(folder) = Folder::new() else { return };
    let driver = folder.driver().await;
    if !driver.capabilities().firmware.contains(&Firmware::Uefi) {
        return println!("skipped: no UEFI firmware is installed (package ovmf)");
    }
    let mut spec = folder.spec(Behaviour::IgnoresPowerButton);
    spec.firmware = Firmware::Uefi;
    spec.memory_mib = 128;
    driver.ensure_guest(&spec).await.unwrap();
    assert!(folder.guest(&spec.id).join("run/uefi-vars.fd").exists());
    driver.remove_guest(&spec.id).await.unwrap();
}

/// A tap that nothing is sent through: it stays down.
struct Tap(String);

impl Tap {
    fn new() -> Option<Self> {
        let name = format!("hyp{}", std::process::id());
        let made = Command::new("ip").args(["tuntap", "add", "dev", &name, "mode", "tap"]).output();
        if made.is_ok_and(|made| made.status.success()) {
            return Some(Self(name));
        }
        println!("skipped: no tap can be made here (root and package iproute2 are needed)");
        None
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

#[tokio::test]
async fn nics_are_plugged_once_and_unplugged_when_the_guest_lets_go() {
    let Some(folder) = Folder::new() else { return };
    let mut config = folder.config();
    config.unplug_time_max = Duration::from_millis(300);
    let driver = QemuHypervisor::open(config).await.unwrap();
    let Some(tap) = Tap::new() else { return };
    let nic = GuestNic {
        id: PortId::random(),
        mac: "fa:16:3e:00:00:01".to_owned(),
        tap: tap.0.clone(),
        mtu: 1442,
        vnet_hdr: false,
        socket: None,
    };
    let mut spec = folder.spec(Behaviour::Cooperates);
    let off = driver.attach_nic(&spec.id, &nic).await.unwrap_err();
    assert!(matches!(off, HypervisorError::NotRunning { .. }), "{off}");

    // Started with it.
    spec.nics = vec![nic.clone()];
    driver.ensure_guest(&spec).await.unwrap();
    driver.attach_nic(&spec.id, &nic).await.unwrap();

    // Started without it.
    (spec.boot, spec.nics) = (2, vec![]);
    driver.ensure_guest(&spec).await.unwrap();
    up(&driver, &spec.id).await;
    driver.detach_nic(&spec.id, &nic.id).await.unwrap();
    driver.attach_nic(&spec.id, &nic).await.unwrap();
    driver.attach_nic(&spec.id, &nic).await.unwrap();
    let missing = GuestNic { id: PortId::random(), tap: "no-such-tap".to_owned(), ..nic.clone() };
    let refused = driver.attach_nic(&spec.id, &missing).await.unwrap_err();
    assert!(refused.to_string().contains("open tap no-such-tap: No such device"), "{refused}");

    // This guest knows nothing of hot-plug. A reset takes the device out.
    for _ in 0..2 {
        let late = driver.detach_nic(&spec.id, &nic.id).await.unwrap_err();
        assert!(matches!(late, HypervisorError::Timeout { .. }), "{late}");
    }
    let mut events = driver.subscribe();
    driver.reset_guest(&spec.id).await.unwrap();
    let detached = async { while events.recv().await.unwrap().kind != GuestEventKind::NicDetached(nic.id.clone()) {} };
    timeout(LONG, detached).await.unwrap();
    driver.detach_nic(&spec.id, &nic.id).await.unwrap();
    driver.attach_nic(&spec.id, &nic).await.unwrap();
    driver.remove_guest(&spec.id).await.unwrap();
}
