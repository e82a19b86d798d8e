//! What this host's QEMU can do, found out by running it.
//!
//! `/dev/kvm` proves nothing: there are hosts where it exists and aborts QEMU, or runs guests slower than translation
//! does. So the smallest guest there is, a boot sector that writes one byte to a port, is started with the very CPU
//! model that guests get. QEMU's `isa-debug-exit` turns the byte into an exit status; that status, in time, is the proof.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use super::guest::blocking;
use crate::hypervisor::{Accelerator, HypervisorError, Result, RunAs, Version};

/// A KVM that needs longer for seven instructions is worse than translation.
const KVM_TIME_MAX: Duration = Duration::from_secs(1);
/// Translation is the last resort: it may be slow on a busy host, but not broken.
const TCG_TIME_MAX: Duration = Duration::from_secs(20);
const VERSION_TIME_MAX: Duration = Duration::from_secs(10);
/// `0x2a`, as isa-debug-exit reports it: times two plus one.
const PROOF: i32 = 0x2a * 2 + 1;

/// SeaBIOS reads nothing from a disk smaller than one cylinder, 504 KiB. The file is sparse.
const DISK_BYTES: u64 = 1 << 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How guests' code runs.
    pub accelerator: Accelerator,
    /// Why no better one is used.
    pub note: String,
    /// The CPU model that guests get with it.
    pub cpu_model: &'static str,
}

/// Proves an accelerator; an error if not even translation works.
pub async fn accelerator(binary: &Path, folder: &Path, run_as: Option<RunAs>) -> Result<Found> {
    let disk = folder.join("probe.img");
    let written = disk.clone();
    blocking(move || {
        let mut disk = fs::File::create(written)?;
        disk.write_all(&boot_sector())?;
        disk.set_len(DISK_BYTES)?;
        disk.set_permissions(fs::Permissions::from_mode(0o644))
    })
    .await
    .map_err(HypervisorError::io(format!("write {}", disk.display())))?;
    let why_not_kvm = if fs::exists("/dev/kvm").unwrap_or(false) {
        match run(binary, &disk, ["kvm", "host"], run_as, KVM_TIME_MAX).await {
            Ok(took) => {
                let note = format!("KVM: proved in {} ms", took.as_millis());
                return Ok(Found { accelerator: Accelerator::Kvm, note, cpu_model: "host" });
            }
            Err(reason) => format!("KVM is there but not usable: {reason}"),
        }
    } else {
        "this host has no /dev/kvm".to_owned()
    };
    match run(binary, &disk, ["tcg,thread=multi", "max"], run_as, TCG_TIME_MAX).await {
        Ok(_) => Ok(Found { accelerator: Accelerator::Tcg, note: why_not_kvm, cpu_model: "max" }),
        Err(reason) => Err(HypervisorError::Unsupported(format!("QEMU can't run a guest on this host: {reason}"))),
    }
}

/// Seven instruction bytes, `mov al, 0x2a; out 0xf4, al; hlt; jmp` back, and the boot signature.
fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0xb0, 0x2a, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

async fn run(
    binary: &Path,
    disk: &Path,
    [accelerator, cpu]: [&str; 2],
    run_as: Option<RunAs>,
    longest: Duration,
) -> Result<Duration, String> {
    let mut command = Command::new(binary);
    command
        .args(["-machine", "q35,usb=off", "-accel", accelerator, "-cpu", cpu, "-m", "16", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=none,id=d,read-only=on", disk.display().to_string().replace(',', ",,")))
        .args(["-device", "virtio-blk-pci,drive=d", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(user) = run_as {
        command.gid(user.gid).uid(user.uid);
    }
    let start = Instant::now();
    match timeout(longest, command.output()).await {
        Err(_) => Err(format!("no proof within {longest:?}")),
        Ok(Err(error)) => Err(format!("{}: {error}", binary.display())),
        Ok(Ok(output)) => verdict(output.status, &String::from_utf8_lossy(&output.stderr)).map(|()| start.elapsed()),
    }
}

fn verdict(status: ExitStatus, said: &str) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(PROOF), _) => Ok(()),
        (_, signal) => {
            let how = signal.map_or_else(|| status.to_string(), |signal| format!("died of signal {signal}"));
            let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("said nothing");
            Err(format!("{how}: {said}"))
        }
    }
}

/// QEMU's version.
pub async fn version(binary: &Path) -> Result<Version> {
    let what = format!("{} --version", binary.display());
    let running = Command::new(binary).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(VERSION_TIME_MAX, running)
        .await
        .map_err(|_| HypervisorError::Timeout { what: what.clone(), after: VERSION_TIME_MAX })?
        .map_err(HypervisorError::io(what.clone()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).ok_or(HypervisorError::Refused { command: what, reason: text })
}

fn parse_version(text: &str) -> Option<Version> {
    let number = text.split_once("version ")?.1.split([' ', '\n', '(', '-']).next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some(Version { major: parts.next()??, minor: parts.next()??, micro: parts.next().flatten().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let version = |major, minor, micro| Some(Version { major, minor, micro });
        for (text, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright", version(7, 2, 22)),
            ("QEMU emulator version 10.0.2\n", version(10, 0, 2)),
            ("QEMU emulator version 10.1.50-dev (v10.1)", version(10, 1, 50)),
            ("bash: not found", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
        assert_eq!(Version { major: 10, minor: 0, micro: 2 }.as_number(), 10_000_002);
    }

    #[test]
    fn only_the_proof_is_a_proof() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(boot_sector().len(), 512);
        assert_eq!(verdict(exited(85), ""), Ok(()));
        assert_eq!(verdict(exited(0), "\n"), Err("exit status: 0: said nothing".to_owned()));
        assert_eq!(
            verdict(ExitStatus::from_raw(6), "failed to set MSR 0x10a\nmore"),
            Err("died of signal 6: failed to set MSR 0x10a".to_owned())
        );
    }
}
