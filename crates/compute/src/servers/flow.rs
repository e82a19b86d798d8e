//! The life of a server.
//!
//! ```text
//!    insert
//!      │
//!   schedule ── no host fits ───────────────────────────────────────────────────┐
//!      │ a host is chosen and claimed, ports are bound to it                    │
//!    build: ports are in OVN, the spec is sent, the guest runs ── hopeless, ────┤ ERROR
//!      │                                                          too late      │
//!      v                                                                        v
//!     run <──── done, or failed ─────────── change <─ unshelved: schedule    destroy ── nothing of it is on the host:
//!      │ idle                                 ^                                 │       ports, capacity, quota are given
//!      ├── intent is newer than what the host ┘                                 │       back
//!      │   has: start, stop, rebuild, ports...                                  ├── only the build failed ──> failed (idle)
//!      ├── the guest switched itself off: that is wanted now                    ├── shelved ──> run
//!      └── its time has come: offloaded, confirmed, deleted                     └── deleted ──> done
//!
//!   any step ── its end is wanted ──> destroy
//! ```
//!
//! A host that is away delays everything that it must be told; it wakes its servers' flows when it joins. Builds and
//! changes have deadlines; a destroy waits for as long as it takes the host to return or to be forgotten.

use std::{sync::Arc, time::Duration};

use flow::{BoxFuture, Done, Flow, Machine, Next, StepCx, StepInfo};
use hostlink::server::Command;
use model::{ErrorKind, Result, id::HostId, placement};
use store::{
    Tx,
    compute::{
        actions, allocations, hosts as host_rows,
        life::Mode,
        server_groups, server_ports,
        servers::{self, Change, FlavorCopy, Observed, Placed, Server, VmState},
    },
    images::deliveries,
    network::ports,
    quotas,
};

use super::{
    ending,
    logic::{self, Progress},
};
use crate::{State, hosts};

const SCHEDULE: &str = "schedule";
const BUILD: &str = "build";
const RUN: &str = "run";
const CHANGE: &str = "change";
const FAILED: &str = "failed";
const DESTROY: &str = "destroy";

/// The phase that a new server starts in.
pub const PHASE_BUILD: &str = "build";
const PHASE_CHANGE: &str = "change";

/// How long until a command is sent again that seems to have come to nothing.
const RESEND: Duration = Duration::from_secs(60);
/// How long until a host is looked for again that another control plane may be connected to.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A host that left no longer ago is taken to come back: its agent is restarted.
const AWAY_GRACE: Duration = Duration::from_secs(60);
/// How long until it is looked for again.
const AWAY_RETRY: Duration = Duration::from_secs(1);

/// What came of the attempt to place a server.
enum Claim {
    /// It has a host.
    Done,
    /// Its end was asked for just now.
    Unwanted,
    /// A host would take it that has just left.
    Wait(String),
}

/// The machine of servers.
pub struct ServerMachine(pub Arc<State>);

impl Machine for ServerMachine {
    fn kind(&self) -> &'static str {
        servers::FLOW.0
    }

    fn steps(&self) -> &'static [StepInfo] {
        const STEPS: &[StepInfo] = &[
            StepInfo::new(SCHEDULE, "choose a host, claim its capacity, bind the ports", &[BUILD, CHANGE, RUN, FAILED]),
            StepInfo::new(BUILD, "wait for the ports, tell the host, wait until the guest runs", &[RUN]),
            StepInfo::new(RUN, "nothing to do; look whether intent has changed", &[CHANGE, DESTROY]),
            StepInfo::new(CHANGE, "tell the host what is wanted now, wait until it is so", &[RUN, SCHEDULE, DESTROY]),
            StepInfo::new(FAILED, "it could not be built; wait for its end", &[]),
            StepInfo::new(DESTROY, "have the host remove it, give everything back", &[RUN, FAILED, flow::DONE]),
        ];
        STEPS
    }

    fn always_reachable(&self) -> &'static [&'static str] {
        &[DESTROY]
    }

    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let Some(server) = self.read(cx, flow).await? else { return cx.go(Next::done()).await };
            if logic::must_leave_host(&server) && ![DESTROY, FAILED].contains(&flow.step.as_str()) {
                return cx.go(Next::step(DESTROY).clear_deadline()).await;
            }
            match flow.step.as_str() {
                SCHEDULE => self.schedule(cx, &server).await,
                BUILD => self.build(cx, &server).await,
                RUN => self.idle(cx, &server).await,
                CHANGE => self.change(cx, &server).await,
                FAILED => failed(cx, &server).await,
                _ => self.destroy(cx, &server).await,
            }
        })
    }

    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let Some(server) = self.read(cx, flow).await? else { return cx.go(Next::done()).await };
            let within = if phase == PHASE_BUILD { self.0.config.build_within } else { self.within(&server) };
            let why = match server.observed.fault.as_str() {
                "" if flow.reason.is_empty() => String::new(),
                "" => format!(" It {}.", flow.reason),
                fault => format!(" {fault}"),
            };
            let message = format!("This took longer than {} s.{why}", within.as_secs());
            match (logic::progress(&server), phase) {
                // It made it in the last moment.
                (Progress::Settled, PHASE_BUILD) => self.build(cx, &server).await,
                (Progress::Settled, PHASE_CHANGE) => self.change(cx, &server).await,
                (_, PHASE_BUILD) => self.fail_build(cx, &server, &message).await,
                (_, PHASE_CHANGE) => self.fail_change(cx, &server, &message).await,
                _ => cx.go(Next::step(DESTROY).clear_deadline()).await,
            }
        })
    }
}

impl ServerMachine {
    /// The server, unless there is nothing left to do about it.
    async fn read(&self, cx: &StepCx, flow: &Flow) -> Result<Option<Server>> {
        let server = servers::get(&mut *cx.db().read().await?, &flow.id).await?;
        Ok(server.filter(|server| server.deleted_at.is_none()))
    }

    /// How long what is under way may take: where disks are made or copied, as long as a build.
    fn within(&self, server: &Server) -> Duration {
        let long = matches!(
            server.wanted.change,
            Change::Rebuild
                | Change::Resize
                | Change::Rescue
                | Change::Snapshot
                | Change::Backup
                | Change::Shelve
                | Change::Unshelve
                | Change::Suspend
        );
        self.0.config.grace + if long { self.0.config.build_within } else { self.0.config.change_within }
    }

    fn to_change(&self, server: &Server) -> Next {
        Next::step(CHANGE).deadline(PHASE_CHANGE, self.within(server))
    }

    // ---- schedule -------------------------------------------------------------------------------------------------

    async fn schedule(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let mut tx = cx.begin().await?;
        match self.claim(&mut tx, server).await {
            Ok(Claim::Done) if server.launched_at.is_some() => cx.finish(tx, Next::step(CHANGE)).await,
            Ok(Claim::Done) => cx.finish(tx, Next::step(BUILD)).await,
            Ok(Claim::Unwanted) => cx.finish(tx, Next::step(DESTROY).clear_deadline()).await,
            Ok(Claim::Wait(host)) => {
                cx.finish(tx, Next::wait(format!("waits for host {host} to come back")).for_(AWAY_RETRY)).await
            }
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {
                tx.rollback().await?;
                if server.launched_at.is_some() {
                    return self.fail_change(cx, server, &error.message).await;
                }
                self.fail_build(cx, server, &error.message).await
            }
            Err(error) => Err(error),
        }
    }

    /// Chooses a host, claims it, binds the ports to it.
    async fn claim(&self, tx: &mut Tx, server: &Server) -> Result<Claim> {
        allocations::lock(tx).await?;
        let Some(mut server) = lock_alive(tx, server).await? else { return Ok(Claim::Unwanted) };
        if server.host.is_some() {
            return Ok(Claim::Done);
        }
        let now = tx.now();
        let usages = allocations::usages(tx).await?;
        let mut candidates: Vec<_> = usages.iter().map(|u| u.candidate(self.0.config.ratios(), now)).collect();
        let request = placement::Request { company: company(tx, &server).await?, ..request(&server) };
        let chosen = match placement::choose(&request, &candidates) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                for (candidate, usage) in candidates.iter_mut().zip(&usages) {
                    candidate.up |= now.since(usage.host.state_since) < AWAY_GRACE;
                }
                let host = placement::choose(&request, &candidates).map_err(|_| refusal)?;
                return Ok(Claim::Wait(host.name.clone()));
            }
        };
        allocations::insert(tx, &claim(&server, &chosen.id)).await?;
        let owner = format!("{}{}", store::network::OWNER_SERVER_PREFIX, chosen.zone);
        for port in server_ports::list(tx, &server.id).await? {
            ports::bind(tx, &port.port_id, &chosen.name, server.id.as_str(), &owner).await?;
        }
        server.host = Some(Placed { id: chosen.id.clone(), name: chosen.name.clone(), zone: chosen.zone.clone() });
        logic::refresh(&mut server, now);
        servers::update(tx, &server).await?;
        Ok(Claim::Done)
    }

    // ---- build ----------------------------------------------------------------------------------------------------

    async fn build(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        match logic::progress(server) {
            Progress::Untold => self.tell(cx, server).await,
            Progress::Working => cx.go(Next::wait("waits for its host to start it").for_(RESEND)).await,
            Progress::Hopeless(fault) => self.fail_build(cx, server, &fault).await,
            Progress::Settled => {
                let mut tx = cx.begin().await?;
                let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
                if logic::progress(&server) != Progress::Settled {
                    return cx.finish(tx, Next::step(BUILD)).await;
                }
                let now = tx.now();
                server.launched_at = server.launched_at.or(Some(now));
                server.fault = None;
                logic::refresh(&mut server, now);
                self.settle(cx, tx, server).await
            }
        }
    }

    async fn fail_build(&self, cx: &StepCx, server: &Server, message: &str) -> Result<Done> {
        let mut tx = cx.begin().await?;
        let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
        let now = tx.now();
        // Nothing of it may stay on a host: newer than whatever that host was sent.
        server.wanted.generation += 1;
        logic::fail(&mut server, message, now);
        servers::update(&mut tx, &server).await?;
        finish_actions(&mut tx, &server, Some(message)).await?;
        let next =
            if server.host.is_some() { Next::step(DESTROY) } else { Next::idle("could not be built").at(FAILED) };
        cx.finish(tx, next.clear_deadline()).await
    }

    // ---- run ------------------------------------------------------------------------------------------------------

    async fn idle(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        if server.host.is_none() && server.wanted.change == Change::None {
            return cx.go(Next::idle("is on no host")).await;
        }
        if logic::has_ended_by_itself(server) {
            let mut tx = cx.begin().await?;
            let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
            if logic::has_ended_by_itself(&server) {
                // As Nova: a guest that switched itself off is stopped, so that nothing starts it but its owner.
                server.wanted.running = false;
                server.wanted.generation += 1;
                let now = tx.now();
                logic::refresh(&mut server, now);
                servers::update(&mut tx, &server).await?;
            }
            return cx.finish(tx, self.to_change(&server)).await;
        }
        if is_stale(server) {
            return cx.go(self.to_change(server)).await;
        }
        // What the spec is made of may have changed in other tables: addresses, metadata, security groups.
        let spec = hosts::spec(&self.0, server).await?;
        if hosts::logic::digest(&spec) != server.told_digest {
            let mut tx = cx.begin().await?;
            let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
            server.wanted.generation += 1;
            servers::update(&mut tx, &server).await?;
            return cx.finish(tx, self.to_change(&server)).await;
        }
        match ending::later(server, &self.0.config, cx.now()) {
            None => cx.go(Next::idle("nothing to do")).await,
            Some((_, left)) if !left.is_zero() => cx.go(Next::wait("its time has not come yet").for_(left)).await,
            Some(_) => self.time_has_come(cx, server).await,
        }
    }

    /// Shelved for long enough: offloaded. Resized: confirmed. Deleted: gone.
    async fn time_has_come(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let mut tx = cx.begin().await?;
        let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
        let now = tx.now();
        let next = match ending::later(&server, &self.0.config, now) {
            Some((Change::None, _)) => {
                server.delete_wanted_at = Some(now);
                server.wanted.generation += 1;
                logic::refresh(&mut server, now);
                Next::step(DESTROY)
            }
            Some((change, _)) => {
                logic::change(&mut server, change, now);
                if change == Change::Offload { Next::step(DESTROY) } else { self.to_change(&server) }
            }
            None => Next::step(RUN),
        };
        servers::update(&mut tx, &server).await?;
        cx.finish(tx, next).await
    }

    // ---- change ---------------------------------------------------------------------------------------------------

    async fn change(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        if server.host.is_none() {
            return cx.go(Next::step(SCHEDULE)).await;
        }
        match logic::progress(server) {
            Progress::Untold => self.tell(cx, server).await,
            Progress::Working => self.await_change(cx, server).await,
            Progress::Hopeless(fault) => self.fail_change(cx, server, &fault).await,
            Progress::Settled => {
                let mut tx = cx.begin().await?;
                let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
                if logic::progress(&server) != Progress::Settled {
                    return cx.finish(tx, Next::step(CHANGE)).await;
                }
                if server.wanted.change != Change::None {
                    ending::conclude(&mut tx, &mut server).await?;
                }
                let now = tx.now();
                logic::refresh(&mut server, now);
                self.settle(cx, tx, server).await
            }
        }
    }

    /// The host works on it; an image that it delivers may have been refused meanwhile.
    async fn await_change(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        if let Some(snapshot) = &server.life.snapshot {
            let delivery = deliveries::get(&mut *cx.db().read().await?, &snapshot.image).await?;
            if let Some(refused) = delivery.filter(|delivery| !delivery.refusal.is_empty()) {
                return self.fail_change(cx, server, &refused.refusal).await;
            }
        }
        cx.go(Next::wait("waits for its host to change it").for_(RESEND)).await
    }

    async fn fail_change(&self, cx: &StepCx, server: &Server, message: &str) -> Result<Done> {
        let mut tx = cx.begin().await?;
        let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
        let now = tx.now();
        let generation = server.wanted.generation;
        if !ending::abandon(&mut tx, &mut server).await? {
            logic::fail(&mut server, message, now);
        }
        servers::update(&mut tx, &server).await?;
        let host = server.host.as_ref().map(|host| host.name.as_str());
        actions::finish(&mut tx, &server.id, generation, Some(message), host).await?;
        // What the host was told stays wanted: it may still get there.
        let next = if logic::must_leave_host(&server) {
            Next::step(DESTROY)
        } else if server.told_generation < server.wanted.generation {
            Next::idle("its host could not be told").at(RUN)
        } else {
            Next::idle("failed").at(RUN)
        };
        cx.finish(tx, next.clear_deadline()).await
    }

    // ---- destroy --------------------------------------------------------------------------------------------------

    async fn destroy(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let Some(host) = &server.host else { return self.give_back(cx, server).await };
        let row = host_rows::get(&mut *cx.db().read().await?, &host.id).await?;
        let is_forgotten = row.is_none_or(|host| host.forgotten_at.is_some());
        if is_forgotten || logic::has_left_host(server) {
            return self.give_back(cx, server).await;
        }
        let generation = server.wanted.generation;
        match self.0.hub.send(&host.id, Command::remove(server.id.as_str(), generation)).await {
            Ok(()) if server.told_generation >= generation => {
                cx.go(Next::wait("waits for its host to remove it").for_(RESEND)).await
            }
            Ok(()) => self.note_told(cx, server, String::new(), "waits for its host to remove it").await,
            Err(error) if error.kind == ErrorKind::Unavailable => cx.go(self.host_away(cx, host).await?).await,
            Err(error) => Err(error),
        }
    }

    /// Nothing is on a host any more: frees everything.
    async fn give_back(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let mut tx = cx.begin().await?;
        let Some(mut server) = servers::lock(&mut tx, &server.id).await? else {
            return cx.finish(tx, Next::done()).await;
        };
        let now = tx.now();
        allocations::delete(&mut tx, &server.id).await?;
        let is_end = server.delete_wanted_at.is_some();
        ending::free_ports(&mut tx, &server, is_end).await?;
        server.host = None;
        if is_end {
            // What can be restored was given back when it was deleted.
            let charged = server.shown.vm_state != VmState::SoftDeleted;
            for (resource, amount) in charges(&server).into_iter().filter(|_| charged) {
                quotas::release(&mut tx, &server.project_id, resource, amount).await?;
            }
            ending::drop_images(&mut tx, &mut server).await?;
            server_groups::remove_member(&mut tx, &server.id).await?;
            server.deleted_at = Some(now);
            server.terminated_at = Some(now);
        }
        let is_offload = !is_end && server.wanted.change == Change::Offload;
        if is_offload {
            (server.life.mode, server.life.since) = (Mode::Offloaded, now.0);
            (server.wanted.change, server.observed) = (Change::None, Observed::nothing());
            (server.told_generation, server.host_wanted) = (server.wanted.generation, None);
        }
        logic::refresh(&mut server, now);
        servers::update(&mut tx, &server).await?;
        if is_offload {
            finish_actions(&mut tx, &server, None).await?;
            return cx.finish(tx, Next::idle("is on no host").at(RUN)).await;
        }
        if is_end {
            let earlier = "The server was deleted before this was done.";
            actions::finish(&mut tx, &server.id, server.wanted.generation - 1, Some(earlier), None).await?;
            finish_actions(&mut tx, &server, None).await?;
        }
        let next = if is_end { Next::done() } else { Next::idle("could not be built").at(FAILED) };
        cx.finish(tx, next).await
    }

    // ---- what steps have in common --------------------------------------------------------------------------------

    /// Sends the newest spec, once OVN has the ports.
    async fn tell(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let unrealized = server_ports::unrealized(&mut *cx.db().read().await?, &server.id).await?;
        if !unrealized.is_empty() {
            return cx.go(Next::idle("waits for the network to have its ports")).await;
        }
        let Some(host) = &server.host else { return cx.go(Next::step(DESTROY)).await };
        let spec = hosts::spec(&self.0, server).await?;
        let digest = hosts::logic::digest(&spec);
        match self.0.hub.send(&host.id, Command::Ensure(Box::new(spec))).await {
            Ok(()) => self.note_told(cx, server, digest, "waits for its host").await,
            Err(error) if error.kind == ErrorKind::Unavailable => cx.go(self.host_away(cx, host).await?).await,
            Err(error) => Err(error),
        }
    }

    /// Records that the host was sent the generation that was read.
    async fn note_told(&self, cx: &StepCx, read: &Server, digest: String, reason: &str) -> Result<Done> {
        let generation = read.wanted.generation;
        let mut tx = cx.begin().await?;
        let Some(mut server) = servers::lock(&mut tx, &read.id).await? else {
            return cx.finish(tx, Next::done()).await;
        };
        server.told_generation = server.told_generation.max(generation);
        server.told_digest = digest;
        let now = tx.now();
        logic::refresh(&mut server, now);
        servers::update(&mut tx, &server).await?;
        cx.finish(tx, Next::wait(reason).for_(RESEND)).await
    }

    /// A host that joins wakes its servers. One that is connected to another control plane wakes nobody: some control
    /// plane will try again, and sooner or later it is that one.
    async fn host_away(&self, cx: &StepCx, host: &Placed) -> Result<Next> {
        let row = host_rows::get(&mut *cx.db().read().await?, &host.id).await?;
        let is_elsewhere = row.is_some_and(|row| row.is_up(cx.now()));
        let wait = Next::wait(format!("waits for host {}, which is away", host.name));
        Ok(wait.for_(if is_elsewhere { ELSEWHERE } else { RESEND }))
    }

    /// The host has what is wanted: ends actions, frees unplugged ports, and idles unless there is more to do.
    async fn settle(&self, cx: &StepCx, mut tx: Tx, mut server: Server) -> Result<Done> {
        for port in server_ports::list(&mut tx, &server.id).await?.iter().filter(|p| p.detach) {
            ending::free_port(&mut tx, &server, port).await?;
        }
        servers::update(&mut tx, &server).await?;
        finish_actions(&mut tx, &server, None).await?;
        let now = tx.now();
        if matches!(ending::later(&server, &self.0.config, now), Some((Change::Offload, left)) if left.is_zero()) {
            logic::change(&mut server, Change::Offload, now);
            servers::update(&mut tx, &server).await?;
            return cx.finish(tx, Next::step(DESTROY).clear_deadline()).await;
        }
        let waits = ending::later(&server, &self.0.config, now).is_some();
        let more = waits || is_stale(&server) || logic::has_ended_by_itself(&server);
        let next = if more { Next::step(RUN) } else { Next::idle("nothing to do").at(RUN) };
        cx.finish(tx, next.clear_deadline()).await
    }
}

async fn failed(cx: &StepCx, server: &Server) -> Result<Done> {
    if server.delete_wanted_at.is_some() {
        return cx.go(Next::step(DESTROY)).await;
    }
    cx.go(Next::idle("could not be built")).await
}

/// Whether the host is to be told something new.
fn is_stale(server: &Server) -> bool {
    server.told_generation < server.wanted.generation || server.wanted.change != Change::None
}

/// The server with its row locked, unless it is to leave its host.
async fn lock_alive(tx: &mut Tx, server: &Server) -> Result<Option<Server>> {
    let server = servers::lock(tx, &server.id).await?;
    Ok(server.filter(|server| !logic::must_leave_host(server)))
}

/// Its end was asked for while the step was at work.
async fn leave(cx: &StepCx, tx: Tx) -> Result<Done> {
    cx.finish(tx, Next::step(DESTROY).clear_deadline()).await
}

async fn finish_actions(tx: &mut Tx, server: &Server, failure: Option<&str>) -> Result<()> {
    let host = server.host.as_ref().map(|host| host.name.as_str());
    Ok(actions::finish(tx, &server.id, server.wanted.generation, failure, host).await?)
}

/// What a server costs its project.
pub fn charges(server: &Server) -> [(&'static str, i64); 3] {
    let (cores, ram) = server.charged();
    [("instances", 1), ("cores", cores), ("ram", ram)]
}

/// What a server holds of its host: while a resize is not confirmed, of each the larger.
pub(crate) fn claim(server: &Server, host: &HostId) -> allocations::Allocation {
    let (vcpus, memory_mib) = server.charged();
    let old_disk = server.life.old.as_ref().map_or(0, |old| disk_gib(&old.flavor));
    allocations::Allocation {
        server_id: server.id.clone(),
        host_id: host.clone(),
        vcpus,
        memory_mib,
        disk_gib: disk_gib(&server.flavor).max(old_disk),
    }
}

/// Root disk, ephemeral disk and swap.
fn disk_gib(flavor: &FlavorCopy) -> i64 {
    flavor.disk_gib + flavor.ephemeral_gib + (flavor.swap_mib + 1023) / 1024
}

fn request(server: &Server) -> placement::Request {
    placement::Request {
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.memory_mib,
        disk_gib: disk_gib(&server.flavor),
        zone: server.zone_wanted.clone(),
        host: server.host_wanted.clone(),
        company: placement::Company::default(),
    }
}

/// Where the others of the server's group are, and what the group's policy makes of that.
async fn company(tx: &mut Tx, server: &Server) -> Result<placement::Company> {
    let Some(group) = server_groups::of_server(tx, &server.id).await? else {
        return Ok(placement::Company::default());
    };
    let hosts = server_groups::hosts(tx, &group.id, &server.id).await?;
    let full = |servers: i64| servers >= group.per_host.unwrap_or(1);
    Ok(match group.policy.as_str() {
        "affinity" => placement::Company { only: hosts.into_keys().collect(), ..placement::Company::default() },
        "anti-affinity" => placement::Company {
            never: hosts.into_iter().filter(|(_, servers)| full(*servers)).map(|(host, _)| host).collect(),
            ..placement::Company::default()
        },
        "soft-affinity" => placement::Company { preference: hosts, ..placement::Company::default() },
        _ => placement::Company {
            preference: hosts.into_iter().map(|(host, servers)| (host, -servers)).collect(),
            ..placement::Company::default()
        },
    })
}
