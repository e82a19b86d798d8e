//! One pass over a server: from what the ledger wants to what the drivers have. Each step may be repeated.

use std::collections::BTreeSet;

use drivers::{
    disk::RootSpec,
    hypervisor::{GuestDisk, HypervisorError, ObservedGuest},
    network::NetworkError,
};
use futures_util::future::{join, join_all};
use hostlink::{Phase, Power, RootDisk, ServerSpec, WantedPower};
use model::id::{ImageId, NetworkId, PortId};
use tokio::sync::watch;

use super::{
    Halt, Server, Target, Wanted,
    logic::{self, GuestAction},
};
use crate::{
    failure::Failure,
    host::Host,
    ledger::{Entry, State},
    metadata,
};

/// What a pass works with.
pub(super) struct Pass<'a> {
    host: &'a Host,
    server: &'a std::sync::Arc<Server>,
    inbox: &'a mut watch::Receiver<Wanted>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        host: &'a Host,
        server: &'a std::sync::Arc<Server>,
        inbox: &'a mut watch::Receiver<Wanted>,
    ) -> Self {
        Self { host, server, inbox }
    }

    pub(super) async fn run(mut self, wanted: &Wanted) -> Result<(), Halt> {
        match &wanted.target {
            Target::Present(spec) => {
                self.accept_spec(spec).await?;
                self.bring_about(spec).await
            }
            Target::Absent
                if self.server.with_entry(|e| e.state == State::Gone && e.generation == wanted.generation) =>
            {
                self.report_gone(wanted.generation);
                Ok(())
            }
            Target::Absent => {
                self.accept_removal(wanted.generation).await?;
                self.remove(wanted.generation).await
            }
        }
    }

    /// Into the ledger, and only then into the directories that others read.
    async fn accept_spec(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        self.server.record(&self.host.ledger, |entry| entry.with_spec(spec)).await?;
        self.host.own_ports(self.server);
        self.host.metadata.publish(self.server, spec);
        self.begin(spec.generation, |status| {
            let known = std::mem::take(&mut status.ports);
            let plugged = |id: &str| known.get(id).copied().unwrap_or(false);
            status.ports = spec.ports.iter().map(|p| (p.id.clone(), plugged(&p.id))).collect();
        });
        Ok(())
    }

    async fn accept_removal(&mut self, generation: i64) -> Result<(), Halt> {
        self.server.record(&self.host.ledger, |entry| entry.with_removal(generation)).await?;
        self.host.own_ports(self.server);
        self.host.metadata.withdraw(self.server);
        self.begin(generation, |_| {});
        self.server.publish_progress(self.host, Phase::Removing);
        Ok(())
    }

    /// The status speaks of this generation from now on.
    fn begin(&self, generation: i64, change: impl FnOnce(&mut super::Status)) {
        let mut status = self.server.status();
        if status.generation != generation {
            status.generation = generation;
            status.phase = Phase::Pending;
            status.fault.clear();
            status.fault_is_final = false;
            status.attempts = 0;
        }
        change(&mut status);
    }

    async fn bring_about(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        let observed = self.observe().await?;
        match logic::decide(spec, observed.as_ref()) {
            GuestAction::Start => self.start(spec).await?,
            GuestAction::Restart => {
                self.bring_down(spec).await?;
                self.start(spec).await?;
            }
            GuestAction::Keep => {
                self.plug(spec).await?;
                self.attach(spec).await?;
                self.read_consoles().await;
            }
            GuestAction::BringDown => {
                self.bring_down(spec).await?;
                self.observe().await?;
            }
            GuestAction::LeaveOff => {}
            GuestAction::Stale => {
                let known = observed.map_or(0, |guest| guest.boot);
                return Err(
                    HypervisorError::StaleBoot { id: self.server.id.clone(), known, asked: logic::boot(spec) }.into()
                );
            }
        }
        self.drop_ports(spec).await?;
        {
            let mut status = self.server.status();
            if spec.power() == WantedPower::Stopped {
                status.settle_off();
            }
            status.settle();
        }
        self.server.publish(self.host);
        Ok(())
    }

    async fn observe(&self) -> Result<Option<ObservedGuest>, Halt> {
        let guest = self.host.drivers.hypervisor.observe_guest(&self.server.id).await?;
        self.server.observe(guest.as_ref());
        Ok(guest)
    }

    /// From off to running: image, then disks, ports and metadata side by side, then the guest.
    async fn start(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        let Some(root) = &spec.root_disk else {
            return Err(Failure::InvalidSpec("a server needs a root disk".into()).into());
        };
        self.fetch_base(root).await?;
        let host = self.host;
        let _permit = self.interruptible(async { Ok::<_, Failure>(host.starts.acquire().await) }).await?;
        self.server.publish_progress(host, Phase::PreparingDisk);
        // Both are carried to their end even if one fails: a driver's call is never dropped half-way.
        let (disks, plugged) = join(self.disks(spec, root), self.plug(spec)).await;
        let (disks, ()) = (disks?, plugged?);
        let guest = logic::guest_spec(spec, disks, host.drivers.network.datapath())?;
        self.server.publish_progress(host, Phase::Starting);
        host.drivers.hypervisor.ensure_guest(&guest).await?;
        let started_at = host.config.clock.now().0;
        self.observe().await?;
        self.read_consoles().await;
        let recorded = |entry: Entry| Entry { started_at, started_boot: spec.boot, ..entry };
        self.server.record(&host.ledger, recorded).await?;
        Ok(())
    }

    async fn fetch_base(&mut self, root: &RootDisk) -> Result<(), Halt> {
        let base = logic::base_spec(root)?;
        let host = self.host;
        if host.drivers.disks.observe_base(&base.image).await?.is_none() {
            self.server.publish_progress(host, Phase::FetchingImage);
        }
        self.interruptible(host.drivers.disks.ensure_base(&base, host.images.source(&base.image))).await?;
        Ok(())
    }

    async fn disks(&self, spec: &ServerSpec, root: &RootDisk) -> Result<Vec<GuestDisk>, Failure> {
        let (disks, id) = (&self.host.drivers.disks, &self.server.id);
        let wanted = RootSpec { base: ImageId::new(root.image_id.clone()), size_gib: root.size_gib };
        let mut result = vec![logic::root_disk(disks.ensure_root(id, &wanted).await?, spec)];
        if spec.config_drive {
            let files = metadata::config_files(spec.metadata.as_ref().unwrap_or(&Default::default()));
            result.push(logic::config_disk(disks.ensure_config_drive(id, &files).await?));
        }
        Ok(result)
    }

    /// Every port of the spec in the switch, and its network's metadata service up.
    async fn plug(&self, spec: &ServerSpec) -> Result<(), Failure> {
        let owner = self.host.drivers.hypervisor.capabilities().run_as.map(|user| user.uid);
        let each = spec.ports.iter().map(|port| async move {
            let plug = logic::plug_spec(port, owner)?;
            let metadata = logic::metadata_spec(port)?;
            let serve = async {
                match &metadata {
                    Some(place) => self.host.metadata.ensure(place).await,
                    None => Ok(()),
                }
            };
            let (plugged, served) = join(self.host.drivers.network.ensure_port_plugged(&plug), serve).await;
            plugged?;
            self.server.status().ports.insert(port.id.clone(), true);
            Ok(served?)
        });
        join_all(each).await.into_iter().collect()
    }

    /// Every port of the spec in the running guest.
    async fn attach(&self, spec: &ServerSpec) -> Result<(), Failure> {
        let datapath = self.host.drivers.network.datapath();
        for port in &spec.ports {
            let nic = logic::guest_nic(port, datapath);
            self.host.drivers.hypervisor.attach_nic(&self.server.id, &nic).await?;
        }
        Ok(())
    }

    async fn read_consoles(&self) {
        // A server without reachable consoles is still a server.
        match self.host.drivers.hypervisor.consoles(&self.server.id).await {
            Ok(consoles) => self.server.status().set_consoles(&consoles),
            Err(error) => tracing::debug!(server = %self.server.id, %error, "no consoles"),
        }
    }

    /// Asks and waits, or takes the power away, as the spec says. A newer spec interrupts the waiting.
    async fn bring_down(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        let (host, server) = (self.host, self.server);
        self.server.publish_progress(host, Phase::Stopping);
        if spec.graceful {
            let grace = std::time::Duration::from_secs(spec.grace_seconds.into());
            self.interruptible(host.drivers.hypervisor.shut_down_guest(&server.id, grace)).await?;
        } else {
            host.drivers.hypervisor.stop_guest(&server.id).await?;
        }
        Ok(())
    }

    /// Unplugs the ports that only older specs had: from the guest, from the switch, from the ledger.
    async fn drop_ports(&self, spec: &ServerSpec) -> Result<(), Halt> {
        let wanted: BTreeSet<&str> = spec.ports.iter().map(|p| p.id.as_str()).collect();
        let dropped = self.server.entry().ports.into_iter().filter(|(port, _)| !wanted.contains(port.as_str()));
        let dropped: Vec<(String, String)> = dropped.collect();
        if dropped.is_empty() {
            return Ok(());
        }
        let is_on = matches!(self.server.status().power, Power::Running | Power::Paused | Power::Crashed);
        for (port, _) in &dropped {
            let port = PortId::new(port.clone());
            if is_on {
                self.host.drivers.hypervisor.detach_nic(&self.server.id, &port).await?;
            }
            self.host.drivers.network.remove_port_plugged(&port).await?;
        }
        self.release_networks(dropped.iter().map(|(_, network)| network)).await?;
        self.host.disown_ports(dropped.iter().map(|(port, _)| port.as_str()));
        let is_kept = |port: &String| wanted.contains(port.as_str());
        let forgotten = |mut entry: Entry| {
            entry.ports.retain(|port, _| is_kept(port));
            entry
        };
        self.server.record(&self.host.ledger, forgotten).await?;
        Ok(())
    }

    /// Ends the metadata services of networks that have no server here any more.
    async fn release_networks(&self, networks: impl Iterator<Item = &String>) -> Result<(), NetworkError> {
        for network in networks.collect::<BTreeSet<_>>() {
            self.host.metadata.release(&NetworkId::new(network.clone())).await?;
        }
        Ok(())
    }

    /// From any state to nothing.
    async fn remove(&mut self, generation: i64) -> Result<(), Halt> {
        let (drivers, id) = (&self.host.drivers, &self.server.id);
        drivers.hypervisor.remove_guest(id).await?;
        self.observe().await?;
        let ports = self.server.entry().ports;
        let unplug =
            ports.keys().map(|port| async { drivers.network.remove_port_plugged(&PortId::new(port.clone())).await });
        let (unplugged, disks) = join(join_all(unplug), drivers.disks.remove_server(id)).await;
        unplugged.into_iter().collect::<Result<(), _>>()?;
        disks?;
        self.release_networks(ports.values()).await?;
        self.host.disown_ports(ports.keys().map(String::as_str));
        self.server.record(&self.host.ledger, Entry::into_gone).await?;
        self.report_gone(generation);
        Ok(())
    }

    fn report_gone(&self, generation: i64) {
        {
            let mut status = self.server.status();
            status.generation = generation;
            status.observe(None);
            status.power = Power::Absent;
            status.ports.clear();
            status.settle();
        }
        self.server.publish(self.host);
    }

    /// Waits for `work`, unless something newer is wanted or the process ends. Only for what may be broken off anywhere:
    /// downloads and waiting.
    async fn interruptible<T, E: Into<Failure>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Halt> {
        tokio::select! {
            biased;
            _ = self.inbox.changed() => Err(Halt::Interrupted),
            () = self.host.stop.cancelled() => Err(Halt::Interrupted),
            done = work => done.map_err(|e| Halt::Failed(e.into())),
        }
    }
}
