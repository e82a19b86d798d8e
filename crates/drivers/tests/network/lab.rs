//! A network namespace and a mount namespace of the test's own, with OVN and Open vSwitch in them.

#![allow(unsafe_code, reason = "unshare: see SAFETY")]

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use drivers::network::{
    Datapath,
    engine::{Binaries, Engine, ExternalBridge, Role, Settings},
    ovn::Ovn,
    ovs::Ovs,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

pub const CHASSIS: &str = "host-1";
/// Patience for what OVN does on its own; far more than it ever takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running OVN with one chassis.
pub struct Lab {
    pub engine: Engine,
    pub ovn: Ovn,
    pub ovs: Ovs,
    pub directory: PathBuf,
}

/// Runs a test in a lab, on a thread that has left the host's network and mounts for ever.
pub fn in_lab<F: Future<Output = ()>>(test: impl FnOnce(Lab) -> F + Send + 'static) {
    let Some(binaries) = binaries() else { return };
    let thread = std::thread::spawn(move || {
        leave_host();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let directory = tempfile::Builder::new().prefix("nacre-ovn-").tempdir().unwrap();
        let engine = Engine::new(settings(binaries, directory.path().join("ovn"))).unwrap();
        let stop = engine.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                engine.ensure_running().await.unwrap();
                let ovn = Ovn::connect(&engine.northbound()).unwrap();
                let ovs = Ovs::connect(&engine.switch(), Datapath::Netdev).unwrap();
                test(Lab { engine, ovn, ovs, directory: directory.path().join("ovn") }).await;
            })
        }));
        if outcome.is_err() {
            for log in ["northd", "controller", "vswitchd"] {
                let text = std::fs::read_to_string(directory.path().join(format!("ovn/log/{log}.log")));
                let warnings = text.unwrap_or_default();
                warnings
                    .lines()
                    .filter(|line| line.contains("|WARN|") || line.contains("|ERR|"))
                    .for_each(|line| eprintln!("{log}: {line}"));
            }
        }
        runtime.block_on(stop.stop_all()).unwrap();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

pub fn settings(binaries: Binaries, directory: PathBuf) -> Settings {
    Settings {
        directory,
        binaries,
        role: Role::Whole,
        system_id: CHASSIS.into(),
        hostname: CHASSIS.into(),
        encap_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        datapath: Datapath::Netdev,
        external: Some(ExternalBridge {
            name: "br-ex".into(),
            physical_network: "public".into(),
            address: "172.24.4.1/24".parse().ok(),
        }),
        north_listen: Vec::new(),
        south_listen: Vec::new(),
    }
}

pub fn binaries() -> Option<Binaries> {
    let named = std::env::var_os("NACRE_OVS_DIR").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/ovs");
    let folders: Vec<PathBuf> = named.into_iter().chain([built]).collect();
    let why = match Binaries::find(&folders) {
        Ok(_) if !rustix::process::geteuid().is_root() => "not root: can't make network namespaces".to_owned(),
        Ok(binaries) => return Some(binaries),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("NACRE_REQUIRE_OVN").is_none(), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// Nothing of this test touches the host: neither devices, nor names under /run/netns.
fn leave_host() {
    // SAFETY: UnshareFlags::FILES is not asked for, so no descriptor is taken away from another thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    std::fs::create_dir_all("/run/netns").unwrap();
    mount("tmpfs", "/run/netns", "tmpfs", MountFlags::empty(), None).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
}

/// Runs a program that must succeed; its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program succeeds.
pub async fn succeeds(program: &str, arguments: &[&str]) -> bool {
    tokio::process::Command::new(program).args(arguments).output().await.unwrap().status.success()
}
