//! What must be true before a cloud starts. Each failure is one sentence that says what to do.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::{
    cli::{CloudOptions, Driver},
    layout::Layout,
};

/// Below this nothing starts: databases must always find room to write.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;

/// Checks what can be checked without changing anything.
pub fn check(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    if options.driver == Driver::Real && !rustix::process::geteuid().is_root() {
        bail!("guests, taps and network namespaces need root: run it with sudo (or try --driver fake)");
    }
    if !options.listen.is_loopback() && options.tls_cert.is_none() {
        bail!(
            "{} is reachable from other machines: give --tls-cert and --tls-key, or listen on loopback",
            options.listen
        );
    }
    if options.external_cidr.prefix_len() > 29 {
        bail!("--external-cidr {} is too small: it needs at least 8 addresses (/29)", options.external_cidr);
    }
    disk(&layout.root)?;
    if options.driver == Driver::Real {
        for program in ["qemu-system-x86_64", "qemu-img"] {
            if !on_path(program) {
                bail!(
                    "{program} is not installed: run `make setup`, or install the packages qemu-system-x86 and qemu-utils"
                );
            }
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn disk(state_dir: &Path) -> anyhow::Result<()> {
    let existing = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing).with_context(|| format!("looking at {}", existing.display()))?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < DISK_FREE_BYTES_MIN {
        bail!(
            "only {} MiB are free below {}: free at least {} MiB, or choose another place with --state-dir",
            free >> 20,
            existing.display(),
            DISK_FREE_BYTES_MIN >> 20
        );
    }
    Ok(())
}

/// Takes the port.
pub async fn listen(options: &CloudOptions) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(options.listen, options.port);
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("port {} is taken by another program: stop it, or choose another with --port", options.port)
        }
        _ => anyhow::Error::from(error).context(format!("cannot listen on {address}")),
    })
}

/// This host's name.
pub fn host_name(options: &CloudOptions) -> String {
    let from_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    options
        .host_name
        .clone()
        .or_else(|| from_kernel().ok())
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "nacre".to_owned())
}
