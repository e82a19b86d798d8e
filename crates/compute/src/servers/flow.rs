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
//!     run <──── done, or failed: ERROR ──── change                           destroy ── nothing of it is on the host:
//!      │ idle                                 ^                                 │       ports, capacity, quota are given
//!      ├── intent is newer than what the host ┘                                 │       back
//!      │   has: start, stop, reboot, ports                                      ├── only the build failed ──> failed (idle)
//!      └── the guest switched itself off: that is wanted now                    └── deleted ──> done
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
        actions, allocations, hosts as host_rows, server_ports,
        servers::{self, Change, Placed, Server},
    },
    network::ports,
    quotas,
};

use super::logic::{self, Progress};
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
            StepInfo::new(SCHEDULE, "choose a host, claim its capacity, bind the ports", &[BUILD, FAILED]),
            StepInfo::new(BUILD, "wait for the ports, tell the host, wait until the guest runs", &[RUN]),
            StepInfo::new(RUN, "nothing to do; look whether intent has changed", &[CHANGE]),
            StepInfo::new(CHANGE, "tell the host what is wanted now, wait until it is so", &[RUN]),
            StepInfo::new(FAILED, "it could not be built; wait for its end", &[]),
            StepInfo::new(DESTROY, "have the host remove it, give everything back", &[FAILED, flow::DONE]),
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
            let within = if phase == PHASE_BUILD { self.0.config.build_within } else { self.change_within() };
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

    fn change_within(&self) -> Duration {
        self.0.config.change_within + self.0.config.grace
    }

    // ---- schedule -------------------------------------------------------------------------------------------------

    async fn schedule(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        let mut tx = cx.begin().await?;
        match self.claim(&mut tx, server).await {
            Ok(Claim::Done) => cx.finish(tx, Next::step(BUILD)).await,
            Ok(Claim::Unwanted) => cx.finish(tx, Next::step(DESTROY).clear_deadline()).await,
            Ok(Claim::Wait(host)) => {
                cx.finish(tx, Next::wait(format!("waits for host {host} to come back")).for_(AWAY_RETRY)).await
            }
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {
                tx.rollback().await?;
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
        let chosen = match placement::choose(&request(&server), &candidates) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                for (candidate, usage) in candidates.iter_mut().zip(&usages) {
                    candidate.up |= now.since(usage.host.state_since) < AWAY_GRACE;
                }
                let host = placement::choose(&request(&server), &candidates).map_err(|_| refusal)?;
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
            return cx.finish(tx, Next::step(CHANGE).deadline(PHASE_CHANGE, self.change_within())).await;
        }
        if is_stale(server) {
            return cx.go(Next::step(CHANGE).deadline(PHASE_CHANGE, self.change_within())).await;
        }
        // What the spec is made of may have changed in other tables: addresses, metadata, security groups.
        let spec = hosts::spec(&self.0, server).await?;
        if hosts::logic::digest(&spec) == server.told_digest {
            return cx.go(Next::idle("nothing to do")).await;
        }
        let mut tx = cx.begin().await?;
        let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
        server.wanted.generation += 1;
        servers::update(&mut tx, &server).await?;
        cx.finish(tx, Next::step(CHANGE).deadline(PHASE_CHANGE, self.change_within())).await
    }

    // ---- change ---------------------------------------------------------------------------------------------------

    async fn change(&self, cx: &StepCx, server: &Server) -> Result<Done> {
        match logic::progress(server) {
            Progress::Untold => self.tell(cx, server).await,
            Progress::Working => cx.go(Next::wait("waits for its host to change it").for_(RESEND)).await,
            Progress::Hopeless(fault) => self.fail_change(cx, server, &fault).await,
            Progress::Settled => {
                let mut tx = cx.begin().await?;
                let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
                if logic::progress(&server) != Progress::Settled {
                    return cx.finish(tx, Next::step(CHANGE)).await;
                }
                let now = tx.now();
                if server.wanted.change != Change::None {
                    server.wanted.change = Change::None;
                    // Whatever was wrong before, it is as wanted now.
                    server.shown.vm_state = servers::VmState::Stopped;
                    server.fault = None;
                }
                logic::refresh(&mut server, now);
                self.settle(cx, tx, server).await
            }
        }
    }

    async fn fail_change(&self, cx: &StepCx, server: &Server, message: &str) -> Result<Done> {
        let mut tx = cx.begin().await?;
        let Some(mut server) = lock_alive(&mut tx, server).await? else { return leave(cx, tx).await };
        let now = tx.now();
        if server.wanted.change != Change::None {
            logic::fail(&mut server, message, now);
            servers::update(&mut tx, &server).await?;
        }
        finish_actions(&mut tx, &server, Some(message)).await?;
        // What the host was told stays wanted: it may still get there.
        let next = if server.told_generation < server.wanted.generation {
            Next::idle("its host could not be told")
        } else {
            Next::idle("failed")
        };
        cx.finish(tx, next.at(RUN).clear_deadline()).await
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
        free_ports(&mut tx, &server, is_end).await?;
        server.host = None;
        if is_end {
            for (resource, amount) in charges(&server) {
                quotas::release(&mut tx, &server.project_id, resource, amount).await?;
            }
            server.deleted_at = Some(now);
            server.terminated_at = Some(now);
        }
        logic::refresh(&mut server, now);
        servers::update(&mut tx, &server).await?;
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
    async fn settle(&self, cx: &StepCx, mut tx: Tx, server: Server) -> Result<Done> {
        for port in server_ports::list(&mut tx, &server.id).await?.iter().filter(|p| p.detach) {
            free_port(&mut tx, &server, port).await?;
        }
        servers::update(&mut tx, &server).await?;
        finish_actions(&mut tx, &server, None).await?;
        let more = is_stale(&server) || logic::has_ended_by_itself(&server);
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

/// Frees the server's ports: for good, or for another host.
async fn free_ports(tx: &mut Tx, server: &Server, for_good: bool) -> Result<()> {
    for port in server_ports::list(tx, &server.id).await? {
        if for_good {
            free_port(tx, server, &port).await?;
            continue;
        }
        ports::set_active(tx, &port.port_id, false).await?;
        let owner = format!("{}nova", store::network::OWNER_SERVER_PREFIX);
        match ports::bind(tx, &port.port_id, "", server.id.as_str(), &owner).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Deletes a port that was made for the server, gives back one that was brought along.
async fn free_port(tx: &mut Tx, server: &Server, port: &server_ports::ServerPort) -> Result<()> {
    server_ports::delete(tx, &server.id, &port.port_id).await?;
    if port.ours { Ok(ports::delete(tx, &port.port_id).await?) } else { ports::unbind(tx, &port.port_id).await }
}

/// What a server costs its project.
pub fn charges(server: &Server) -> [(&'static str, i64); 3] {
    [("instances", 1), ("cores", server.flavor.vcpus), ("ram", server.flavor.memory_mib)]
}

/// What a server holds of its host.
pub(crate) fn claim(server: &Server, host: &HostId) -> allocations::Allocation {
    allocations::Allocation {
        server_id: server.id.clone(),
        host_id: host.clone(),
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.memory_mib,
        disk_gib: disk_gib(server),
    }
}

/// Root disk, ephemeral disk and swap.
fn disk_gib(server: &Server) -> i64 {
    server.flavor.disk_gib + server.flavor.ephemeral_gib + (server.flavor.swap_mib + 1023) / 1024
}

fn request(server: &Server) -> placement::Request {
    placement::Request {
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.memory_mib,
        disk_gib: disk_gib(server),
        zone: server.zone_wanted.clone(),
        host: server.host_wanted.clone(),
    }
}
