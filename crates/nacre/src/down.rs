//! `nacre down`: stops the cloud of a state directory, guests included. Works on what it finds, whatever state an
//! interrupted start or a killed process left.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use drivers::network::{ChassisPorts, Datapath, ovs::Ovs};
use futures_util::future::join_all;

use crate::{
    cli::{CloudOptions, DownOptions},
    engines, host,
    layout::Layout,
    up::Lock,
};

/// How long the process may take to end by itself.
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// Stops processes, guests, taps, namespaces and daemons, in this order, and says what it did.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn run(layout: &Layout, options: &DownOptions) -> anyhow::Result<()> {
    if !layout.root.exists() {
        println!("There is no cloud in {}.", layout.root.display());
        return Ok(());
    }
    for role in ["nacre", "agent"] {
        end_process(layout, role).await?;
    }
    let guests = stop_guests(layout).await?;
    unplug(layout, options.ovs_dir.as_ref()).await?;
    println!("The cloud is down: {guests} guest(s) stopped. Its state is kept in {}.", layout.root.display());
    if options.purge {
        std::fs::remove_dir_all(&layout.root).with_context(|| format!("deleting {}", layout.root.display()))?;
        println!("Deleted {}.", layout.root.display());
    }
    Ok(())
}

async fn end_process(layout: &Layout, role: &str) -> anyhow::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let Some(pid) = Lock::holder(layout, role).and_then(Pid::from_raw) else { return Ok(()) };
    // The process may end between the look and the signal.
    let _ = kill_process(pid, Signal::TERM);
    let ended = async {
        while Lock::holder(layout, role).is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(END_TIME_MAX, ended).await.is_err() {
        let _ = kill_process(pid, Signal::KILL);
        bail!("process {} took too long to end and was killed; run nacre down again", pid.as_raw_nonzero());
    }
    Ok(())
}

async fn stop_guests(layout: &Layout) -> anyhow::Result<usize> {
    let hypervisor = host::open_hypervisor(layout).await?;
    let running = hypervisor.adopt().await?.into_iter().filter(|guest| guest.power.is_on()).collect::<Vec<_>>();
    let stopped = join_all(running.iter().map(|guest| hypervisor.stop_guest(&guest.id))).await;
    for result in stopped {
        result.context("stopping a guest")?;
    }
    Ok(running.len())
}

/// Takes away taps and namespaces, then ends the daemons of OVS and OVN.
async fn unplug(layout: &Layout, ovs_dir: Option<&PathBuf>) -> anyhow::Result<()> {
    if !layout.ovn().exists() {
        return Ok(());
    }
    let options = CloudOptions { ovs_dir: ovs_dir.cloned(), ..<CloudOptions as DefaultOptions>::default_options() };
    let (engine, _) = engines::engine(layout, &options).await?;
    if !engine.status().iter().any(|daemon| daemon.pid.is_some()) {
        return Ok(());
    }
    let ovs = Ovs::connect(&engine.switch(), Datapath::Netdev)?;
    let cleaned = async {
        for port in ovs.list().await? {
            ovs.remove_port_plugged(&port.port_id).await?;
        }
        for network in ovs.list_metadata_namespaces().await? {
            ovs.remove_metadata_namespace(&network).await?;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(END_TIME_MAX, cleaned).await {
        Ok(result) => result.context("unplugging guests")?,
        Err(_) => tracing::warn!("the switch did not answer; its taps end with it"),
    }
    Ok(engine.stop_all().await?)
}

/// The options that a command without them stands for.
trait DefaultOptions {
    fn default_options() -> Self;
}

impl DefaultOptions for CloudOptions {
    fn default_options() -> Self {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            options: CloudOptions,
        }
        <Only as clap::Parser>::parse_from(["nacre"]).options
    }
}
