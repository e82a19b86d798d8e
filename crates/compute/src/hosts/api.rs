//! What the agents' connections call.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::BoxFuture;
use hostlink::{
    Hello, HostStats, ServerReport,
    server::{Command, ControlPlane, ImageReader},
};
use model::{
    Error, ErrorKind, Result,
    id::{HostId, ImageId, PortId, ServerId},
};
use serde_json::json;
use store::{
    Tx,
    compute::{
        hosts as rows, server_ports,
        servers::{self, Observed, Server},
    },
    flows,
    network::{chassis, ports},
};

use super::{
    logic::{self, Catchup},
    spec,
};
use crate::{State, servers::logic as server_logic};

/// The compute service's side of the link.
pub struct Hosts(pub Arc<State>);

impl ControlPlane for Hosts {
    fn host_joined<'a>(&'a self, host: &'a HostId, hello: &'a Hello) -> BoxFuture<'a, Result<Vec<Command>>> {
        Box::pin(self.joined(host, hello))
    }

    fn host_left<'a>(&'a self, host: &'a HostId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.left(host).await {
                // Its row goes stale by itself: a host that is not heard of is down after a minute.
                tracing::error!(%host, ?error, "it could not be recorded that a host left");
            }
        })
    }

    fn server_report<'a>(&'a self, host: &'a HostId, report: &'a ServerReport) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.report(host, report))
    }

    fn heartbeat<'a>(&'a self, host: &'a HostId, stats: HostStats) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let stats = json!({
                "load_milli": stats.load_milli,
                "memory_available_mib": stats.memory_available_mib,
                "disk_free_gib": stats.disk_free_gib,
                "servers": stats.servers,
                "servers_running": stats.servers_running,
                "uptime_seconds": stats.uptime_seconds,
            });
            let mut tx = self.0.db.begin().await?;
            rows::seen(&mut tx, host, &stats).await?;
            Ok(tx.commit().await?)
        })
    }

    fn fetch_image<'a>(&'a self, host: &'a HostId, image_id: &'a str) -> BoxFuture<'a, Result<ImageReader>> {
        Box::pin(self.image(host, ImageId::new(image_id)))
    }
}

impl Hosts {
    async fn joined(&self, host: &HostId, hello: &Hello) -> Result<Vec<Command>> {
        let mut tx = self.0.db.begin().await?;
        match rows::joined(&mut tx, host, &hello.host_name, &self.0.config.zone, &facts(hello)).await {
            Err(error) if error.is_unique_violation() => {
                return Err(Error::conflict("HostNameTaken", format!("Another host is called {:?}.", hello.host_name)));
            }
            other => other?,
        }
        let chassis_name = hello.capabilities.as_ref().map_or("", |c| c.chassis.as_str());
        chassis::report(&mut tx, chassis_name, &hello.host_name, true).await?;
        let own = servers::on_host(&mut tx, host).await?;
        // Whatever is still to be told them waits in their flows.
        flows::wake_many(&mut tx, own.iter().filter(|s| has_more_to_tell(s)).map(|s| s.id.as_str()));
        tx.commit().await?;
        self.catch_up(&own, hello).await
    }

    /// What the host must be told, given what it holds.
    async fn catch_up(&self, own: &[Server], hello: &Hello) -> Result<Vec<Command>> {
        let holdings: HashMap<&str, _> = hello.holdings.iter().map(|h| (h.server_id.as_str(), h)).collect();
        let mut commands = Vec::new();
        for server in own {
            match logic::catchup(server, holdings.get(server.id.as_str()).copied()) {
                Catchup::Nothing => {}
                Catchup::Spec => commands.push(Command::Ensure(Box::new(spec(&self.0, server).await?))),
                Catchup::Removal => commands.push(Command::remove(server.id.as_str(), server.wanted.generation)),
            }
        }
        let strays = logic::strays(own, &hello.holdings);
        commands.extend(strays.into_iter().map(|h| Command::remove(h.server_id.clone(), h.generation)));
        Ok(commands)
    }

    async fn left(&self, host: &HostId) -> Result<()> {
        let mut tx = self.0.db.begin().await?;
        if let Some(row) = rows::get(&mut tx, host).await? {
            chassis::report(&mut tx, &row.facts.chassis, &row.name, false).await?;
        }
        rows::left(&mut tx, host).await?;
        Ok(tx.commit().await?)
    }

    async fn report(&self, host: &HostId, report: &ServerReport) -> Result<()> {
        let mut tx = self.0.db.begin().await?;
        let server = servers::lock(&mut tx, ServerId::new(report.server_id.clone())).await?;
        let own = server.filter(|s| s.deleted_at.is_none() && s.host.as_ref().is_some_and(|h| h.id == *host));
        let Some(mut server) = own else {
            drop(tx);
            return self.remove_stray(host, report).await;
        };
        note_ports(&mut tx, &server, report).await?;
        let before = server.clone();
        server.observed = Observed {
            generation: report.generation,
            boot: report.boot,
            power: logic::power(report.power()),
            phase: logic::phase(report.phase()),
            fault: report.fault.clone(),
            fault_is_final: report.fault_is_final,
        };
        server.guest_password.clone_from(&report.encrypted_password);
        if report.refused_generation != 0 && report.generation >= server.wanted.generation {
            // The host was told more than this database remembers: go beyond it.
            server.wanted.generation = report.generation + 1;
        }
        let now = tx.now();
        server_logic::refresh(&mut server, now);
        if server != before {
            servers::update(&mut tx, &server).await?;
            if logic::is_for_the_flow(&before, &server) {
                flows::wake(&mut tx, &server.id);
            }
        }
        Ok(tx.commit().await?)
    }

    /// A server that is not on that host as far as we know: nothing of it may be there.
    async fn remove_stray(&self, host: &HostId, report: &ServerReport) -> Result<()> {
        if report.power() == hostlink::Power::Absent {
            return Ok(());
        }
        tracing::warn!(%host, server = report.server_id, "a host has a server that is not its own; it is removed there");
        self.0.hub.send(host, Command::remove(report.server_id.clone(), report.generation)).await
    }

    async fn image(&self, host: &HostId, id: ImageId) -> Result<ImageReader> {
        let not_found = || Error::not_found("ImageNotFound", format!("No server of this host starts from image {id}."));
        let mut conn = self.0.db.read().await?;
        if !servers::host_uses_image(&mut conn, host, &id).await? {
            return Err(not_found());
        }
        let file = store::images::get(&mut conn, &id).await?.and_then(|image| image.file).ok_or_else(not_found)?;
        drop(conn);
        let path = self.0.image_dir.join(file);
        let file = tokio::fs::File::open(&path).await;
        let file = file.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "ImageUnreadable", "The image can't be read.").because(e)
        })?;
        Ok(Box::pin(file))
    }
}

/// Records which of the server's ports carry packets.
async fn note_ports(tx: &mut Tx, server: &Server, report: &ServerReport) -> Result<()> {
    if report.ports.is_empty() {
        return Ok(());
    }
    let own = server_ports::list(tx, &server.id).await?;
    for port in &report.ports {
        let id = PortId::new(port.port_id.clone());
        // A host speaks for the ports of its own servers only.
        if own.iter().any(|own| own.port_id == id) {
            ports::set_active(tx, &id, port.active).await?;
        }
    }
    Ok(())
}

fn has_more_to_tell(server: &Server) -> bool {
    server.told_generation < server.wanted.generation || server_logic::must_leave_host(server)
}

fn facts(hello: &Hello) -> rows::Facts {
    let of = hello.capabilities.clone().unwrap_or_default();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    rows::Facts {
        agent_version: hello.agent_version.clone(),
        boot_id: hello.boot_id.clone(),
        accelerator: of.accelerator,
        cpu_model: of.cpu_model,
        hypervisor_type: of.hypervisor_type,
        hypervisor_version: number(of.hypervisor_version),
        vcpus: i64::from(of.vcpus),
        memory_mib: number(of.memory_mib),
        disk_gib: number(of.disk_gib),
        chassis: of.chassis,
        addresses: of.addresses,
    }
}
