//! This machine as a hypervisor host: its drivers and its agent.

use std::{path::PathBuf, sync::Arc};

use agent::{Config, Limits};
use anyhow::Context;
use drivers::{
    disk::{
        fake::FakeDisks,
        local::{LocalConfig, LocalDisks},
    },
    hypervisor::{
        Hypervisor,
        fake::{FakeHost, FakeHypervisor},
        qemu::{QemuConfig, QemuHypervisor},
    },
    network::{Northbound, engine::Engine, fake::FakeNetwork, ovn::Ovn, ovs::Ovs},
};
use hostlink::client::Endpoint;
use model::Clock;
use tokio::sync::watch;

use crate::{
    cli::{CloudOptions, Driver},
    engines,
    layout::Layout,
    preflight,
};

/// What runs guests and networks on this machine.
pub enum Drivers {
    /// QEMU, Open vSwitch, OVN.
    Real {
        /// The daemons of OVS and OVN.
        engine: Engine,
        /// What guests' taps are made for.
        datapath: drivers::network::Datapath,
    },
    /// Memory.
    Fake(FakeNetwork),
}

impl Drivers {
    /// Opens them; real ones start their daemons where they don't run yet.
    pub async fn open(layout: &Layout, options: &CloudOptions) -> anyhow::Result<Self> {
        match options.driver {
            Driver::Fake => Ok(Self::Fake(FakeNetwork::default())),
            Driver::Real => {
                let (engine, settings) = engines::engine(layout, options).await?;
                engine.ensure_running().await.context("starting Open vSwitch and OVN")?;
                Ok(Self::Real { engine, datapath: settings.datapath })
            }
        }
    }

    /// The control plane's side of the network.
    pub fn northbound(&self) -> anyhow::Result<Arc<dyn Northbound>> {
        Ok(match self {
            Self::Real { engine, .. } => Arc::new(Ovn::connect(&engine.northbound())?),
            Self::Fake(network) => Arc::new(network.clone()),
        })
    }

    /// The hosts that run in this process: this machine, or as many as are pretended.
    pub async fn hosts(&self, layout: &Layout, options: &CloudOptions) -> anyhow::Result<Vec<Host>> {
        let name = preflight::host_name(options);
        match self {
            Self::Real { engine, datapath } => {
                let hypervisor = open_hypervisor(layout).await?;
                // Guests' disks belong to the user that QEMU runs as.
                let disks = LocalConfig::new(layout.disks(), hypervisor.capabilities().run_as);
                let drivers = agent::Drivers {
                    hypervisor,
                    disks: Arc::new(LocalDisks::open(disks).await.context("opening the disks' folder")?),
                    network: Arc::new(Ovs::connect(&engine.switch(), *datapath)?),
                };
                Ok(vec![Host { config: config(layout, layout.root.clone(), name), drivers }])
            }
            Self::Fake(network) => Ok((1..=options.fake_hosts)
                .map(|number| {
                    let name = if options.fake_hosts == 1 { name.clone() } else { format!("{name}-{number}") };
                    let drivers = agent::Drivers {
                        hypervisor: Arc::new(FakeHypervisor::on(FakeHost::default())),
                        disks: Arc::new(FakeDisks::default()),
                        network: Arc::new(network.chassis(name.clone())),
                    };
                    let mut config = config(layout, layout.root.join("fake").join(&name), name);
                    // Pretended hosts are as large as a real one of a provider.
                    (config.vcpus, config.memory_mib) = (Some(256), Some(1 << 20));
                    Host { config, drivers }
                })
                .collect()),
        }
    }
}

/// QEMU with the accelerator that a probe boot proves.
pub async fn open_hypervisor(layout: &Layout) -> anyhow::Result<Arc<dyn Hypervisor>> {
    let config = QemuConfig::new(layout.guests());
    Ok(Arc::new(QemuHypervisor::open(config).await.context("opening QEMU")?))
}

fn config(layout: &Layout, state_dir: PathBuf, name: String) -> Config {
    Config {
        state_dir,
        host_name: name.clone(),
        endpoint: Endpoint::Unix(layout.hostlink()),
        chassis: name,
        addresses: Vec::new(),
        memory_mib: None,
        vcpus: None,
        clock: Clock::system(),
        limits: Limits::default(),
    }
}

/// One host.
pub struct Host {
    config: Config,
    drivers: agent::Drivers,
}

impl Host {
    /// Runs its agent until told to stop. Guests are left alone.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let shutdown = async move {
            // An error means that nobody can tell any more: stop too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        Ok(agent::run(self.config, self.drivers, shutdown).await?)
    }
}
