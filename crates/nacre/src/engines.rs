//! Open vSwitch and OVN on this machine.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Context;
use drivers::network::engine::{Binaries, Engine, ExternalBridge, Role, Settings, detect_datapath};
use ipnet::{IpNet, Ipv4Net};

use crate::{cli::CloudOptions, layout::Layout, preflight};

/// The physical network's name, as OVN's bridge mappings and provider attributes call it.
pub const PHYSICAL_NETWORK: &str = "public";
/// The bridge of the external network.
const EXTERNAL_BRIDGE: &str = "br-ex";

/// The engine of this state directory, whether it runs or not.
pub async fn engine(layout: &Layout, options: &CloudOptions) -> anyhow::Result<(Engine, Settings)> {
    let binaries =
        Binaries::find(&folders(options)).context("looking for Open vSwitch and OVN (`make setup` installs them)")?;
    let host = preflight::host_name(options);
    let settings = Settings {
        directory: layout.ovn(),
        binaries,
        role: Role::Whole,
        system_id: host.clone(),
        hostname: host,
        encap_ip: IpAddr::from([127, 0, 0, 1]),
        datapath: detect_datapath().await,
        external: Some(ExternalBridge {
            name: EXTERNAL_BRIDGE.to_owned(),
            physical_network: PHYSICAL_NETWORK.to_owned(),
            address: gateway(options.external_cidr).map(IpNet::V4),
        }),
        north_listen: Vec::new(),
        south_listen: Vec::new(),
    };
    Ok((Engine::new(settings.clone())?, settings))
}

/// The external network's first address, with its prefix: this host's own.
pub fn gateway(cidr: Ipv4Net) -> Option<Ipv4Net> {
    let first = cidr.hosts().next()?;
    Ipv4Net::new(first, cidr.prefix_len()).ok()
}

/// Where a private OVS may be: as told, beside the binary's build tree (`make setup` puts it there), as installed.
fn folders(options: &CloudOptions) -> Vec<PathBuf> {
    let exe = std::env::current_exe().unwrap_or_default();
    let build = exe.ancestors().map(|folder| folder.join("build/ovs")).find(|folder| folder.is_dir());
    let given = options.ovs_dir.clone();
    given
        .into_iter()
        .chain(build)
        .chain([PathBuf::from("/usr/lib/nacre/ovs")])
        .filter(|folder| folder.is_dir())
        .collect()
}
