//! One pass over a server: from what the ledger wants to what the drivers have. Each step may be repeated.

use std::collections::BTreeSet;

use drivers::{
    disk::{CHECKPOINT, RootSpec, SAVING},
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

/// The root disk among a guest's disks.
const ROOT: &str = "root";

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
        self.renew_disks(spec).await?;
        let observed = self.observe().await?;
        let held = self.server.with_entry(|entry| entry.held);
        let mut action = logic::decide(spec, observed.as_ref(), held);
        if matches!(action, GuestAction::Start | GuestAction::Restart) {
            if action == GuestAction::Restart {
                self.bring_down(spec).await?;
            }
            self.start(spec).await?;
            // What was started may still have to be brought to a stand.
            action = match (spec.power(), action) {
                (WantedPower::Paused, _) => GuestAction::Pause,
                (WantedPower::Suspended, _) => GuestAction::Suspend,
                _ => GuestAction::Start,
            };
        }
        match action {
            GuestAction::Start => self.hold(false).await?,
            GuestAction::Restart | GuestAction::LeaveOff => {}
            GuestAction::Keep => {
                self.plug(spec).await?;
                self.attach(spec).await?;
                self.read_consoles().await;
            }
            GuestAction::Pause => {
                self.hold(true).await?;
                self.host.drivers.hypervisor.pause_guest(&self.server.id).await?;
                self.observe().await?;
            }
            GuestAction::Resume => {
                self.host.drivers.hypervisor.resume_guest(&self.server.id).await?;
                self.hold(false).await?;
                self.observe().await?;
            }
            GuestAction::Suspend => self.suspend(spec).await?,
            GuestAction::BringDown => {
                self.bring_down(spec).await?;
                self.hold(false).await?;
                self.observe().await?;
            }
            GuestAction::Stale => {
                let known = observed.map_or(0, |guest| guest.boot);
                return Err(
                    HypervisorError::StaleBoot { id: self.server.id.clone(), known, asked: logic::boot(spec) }.into()
                );
            }
        }
        self.drop_ports(spec).await?;
        self.drop_disks(spec).await?;
        self.save(spec).await?;
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

    /// Into the ledger that the guest was brought to a stand by us, or that it was not.
    async fn hold(&self, held: bool) -> Result<(), Halt> {
        Ok(self.server.record(&self.host.ledger, |entry| Entry { held, ..entry }).await?)
    }

    async fn suspend(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        self.hold(true).await?;
        let datapath = self.host.drivers.network.datapath();
        let nics: Vec<_> = spec.ports.iter().map(|port| logic::guest_nic(port, datapath)).collect();
        self.host.drivers.hypervisor.suspend_guest(&self.server.id, &nics).await?;
        self.observe().await?;
        Ok(())
    }

    /// Disks that are to be made anew go, and with them the guest that has them open; one that is to be again what it
    /// was goes back. A disk that is to be kept as it is now is kept once its guest is off.
    async fn renew_disks(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        let Some(root) = &spec.root_disk else { return Ok(()) };
        let (host, id) = (self.host, &self.server.id);
        let (build, rollback) = self.server.with_entry(|entry| (entry.build, entry.rollback));
        if build < root.build {
            self.server.publish_progress(host, Phase::Stopping);
            host.drivers.hypervisor.stop_guest(id).await?;
            host.drivers.disks.remove_root(id).await?;
            self.server.record(&host.ledger, |entry| Entry { build: root.build, ..entry }).await?;
        }
        if rollback < root.rollback {
            self.server.publish_progress(host, Phase::Stopping);
            host.drivers.hypervisor.stop_guest(id).await?;
            host.drivers.disks.roll_back(id).await?;
            self.server.record(&host.ledger, |entry| Entry { rollback: root.rollback, ..entry }).await?;
        } else if root.checkpoint {
            let observed = self.observe().await?;
            let is_on = observed.as_ref().is_some_and(|guest| guest.power.is_on());
            let goes_down = observed.is_some_and(|guest| guest.boot < logic::boot(spec));
            if is_on && goes_down {
                self.bring_down(spec).await?;
            }
            if !is_on || goes_down {
                host.drivers.disks.ensure_checkpoint(id).await?;
            }
        }
        Ok(())
    }

    /// Forgets a checkpoint and a rescue disk that are not wanted any more.
    async fn drop_disks(&self, spec: &ServerSpec) -> Result<(), Failure> {
        let (drivers, id) = (&self.host.drivers, &self.server.id);
        let is_on = self.server.status().is_on;
        if spec.rescue_disk.is_none() {
            drivers.disks.remove_rescue(id).await?;
        }
        let kept = spec.root_disk.as_ref().is_some_and(|root| root.checkpoint);
        if !kept && is_on {
            drivers.hypervisor.drop_disk_snapshot(id, ROOT, CHECKPOINT).await?;
        } else if !kept {
            drivers.disks.remove_checkpoint(id).await?;
        }
        Ok(())
    }

    /// Makes the image that is wanted of the root disk and delivers it, once.
    async fn save(&mut self, spec: &ServerSpec) -> Result<(), Halt> {
        let (drivers, id) = (&self.host.drivers, &self.server.id);
        if spec.save_as_image.is_empty() {
            if self.server.with_entry(|entry| !entry.saved_as.is_empty()) {
                drivers.disks.remove_exports(id).await?;
                self.server.record(&self.host.ledger, |entry| Entry { saved_as: String::new(), ..entry }).await?;
            }
            return Ok(());
        }
        if self.server.with_entry(|entry| entry.saved_as == spec.save_as_image) {
            return Ok(());
        }
        let image = ImageId::new(spec.save_as_image.clone());
        self.server.publish_progress(self.host, Phase::Saving);
        let is_on = self.server.status().is_on;
        let file = match drivers.disks.observe_export(id, &image).await? {
            Some(file) => file,
            None if is_on => {
                drivers.hypervisor.snapshot_disk(id, ROOT, SAVING).await?;
                let copied = drivers.disks.ensure_export(id, &image, Some(SAVING)).await;
                drivers.hypervisor.drop_disk_snapshot(id, ROOT, SAVING).await?;
                copied?
            }
            None => drivers.disks.ensure_export(id, &image, None).await?,
        };
        let host = self.host;
        self.interruptible(host.images.deliver(&image, &file)).await?;
        let saved_as = spec.save_as_image.clone();
        self.server.record(&host.ledger, |entry| Entry { saved_as, ..entry }).await?;
        host.drivers.disks.remove_exports(id).await?;
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
        if let Some(rescue) = &spec.rescue_disk {
            self.fetch_base(rescue).await?;
        }
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
        if let Some(rescue) = &spec.rescue_disk {
            let wanted = RootSpec { base: ImageId::new(rescue.image_id.clone()), size_gib: rescue.size_gib };
            result = logic::with_rescue(result, disks.ensure_rescue(id, &wanted).await?, spec);
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
        let is_on = self.server.status().is_on;
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
