//! What `nacre doctor` asks of this service: servers against allocations, quota and ports, and against what their hosts
//! have.

use std::{collections::HashMap, sync::Arc};

use hostlink::{FoundKind, Inventory, Standing, server::Command};
use model::{
    ErrorKind, Result,
    doctor::Finding,
    id::{HostId, PortId},
};
use store::compute::{allocations, audit, hosts, servers};

use crate::{
    State,
    servers::{flow::claim, logic},
};

/// Everything that has no counterpart. With `fix`, what can be repaired is: hosts are told once more what they should
/// have, and remove what nothing accounts for; allocations and quota are counted anew.
///
/// # Errors
/// When the database fails. A host that does not answer is a finding.
pub async fn run(state: &Arc<State>, fix: bool) -> Result<Vec<Finding>> {
    let mut findings = rows(state).await?;
    if fix && !findings.is_empty() {
        repair_rows(state).await?;
    }
    let all = hosts::list(&mut *state.db.read().await?).await?;
    for host in all {
        if !state.hub.is_connected(&host.id) {
            if !host.is_up(state.db.clock().now()) {
                findings.push(Finding::new("host", host.name.clone(), "its agent is not connected"));
            }
            continue;
        }
        match state.hub.inventory(&host.id).await {
            Ok(inventory) => findings.extend(compare(state, &host.id, &host.name, &inventory, fix).await?),
            Err(error) => findings.push(Finding::new("host", host.name.clone(), error.message)),
        }
    }
    Ok(findings)
}

/// The database against itself.
async fn rows(state: &State) -> Result<Vec<Finding>> {
    let mut conn = state.db.read().await?;
    let mut findings = Vec::new();
    let mut add = |kind: &'static str, odd: Vec<audit::Odd>| {
        findings.extend(odd.into_iter().map(|odd| Finding::new(kind, odd.id, odd.problem)));
    };
    add("allocation", audit::allocations(&mut conn).await?);
    add("server", audit::without_flow(&mut conn).await?);
    add("port", audit::stray_ports(&mut conn).await?);
    for (quota, project, recorded, counted) in audit::quota_drift(&mut conn).await? {
        let problem = format!("records {recorded} {quota}, but there are {counted}");
        findings.push(Finding::new("quota", project, problem));
    }
    Ok(findings)
}

/// Allocations are what servers say; quota is what there is; ports of servers that are gone go.
async fn repair_rows(state: &State) -> Result<()> {
    let mut tx = state.db.begin().await?;
    allocations::lock(&mut tx).await?;
    audit::delete_stray_allocations(&mut tx).await?;
    for odd in audit::allocations(&mut tx).await? {
        let Some(server) = servers::get(&mut tx, &odd.id).await? else { continue };
        if let Some(host) = &server.host {
            allocations::insert(&mut tx, &claim(&server, &host.id)).await?;
        }
    }
    for odd in audit::stray_ports(&mut tx).await? {
        store::network::ports::delete(&mut tx, &PortId::new(odd.id)).await?;
    }
    audit::recount_quotas(&mut tx).await?;
    Ok(tx.commit().await?)
}

/// The database against one host.
async fn compare(state: &State, id: &HostId, name: &str, inventory: &Inventory, fix: bool) -> Result<Vec<Finding>> {
    let own = servers::on_host(&mut *state.db.read().await?, id).await?;
    let held: HashMap<&str, i64> =
        inventory.holdings.iter().filter(|h| !h.removed).map(|h| (h.server_id.as_str(), h.generation)).collect();
    let mut findings = Vec::new();
    for server in &own {
        let settled = logic::progress(server) == logic::Progress::Settled && !logic::must_leave_host(server);
        if settled && held.get(server.id.as_str()).copied() != Some(server.told_generation) {
            findings.push(Finding::new(
                "server",
                server.id.as_str(),
                format!("host {name} does not have it as it was told"),
            ));
            if fix {
                let spec = crate::hosts::spec(state, server).await?;
                send(state, id, Command::Ensure(Box::new(spec))).await?;
            }
        }
    }
    for (server, generation) in &held {
        if own.iter().all(|row| row.id.as_str() != *server) {
            findings.push(Finding::new("server", *server, format!("host {name} has it, but it is not its own")));
            if fix {
                send(state, id, Command::remove(*server, *generation)).await?;
            }
        }
    }
    let odd: Vec<_> = inventory.found.iter().filter(|found| found.standing() != Standing::Expected).collect();
    for orphan in odd.iter().filter(|found| fix && found.standing() == Standing::Orphan) {
        if let Err(error) = state.hub.remove_orphan(id, (*orphan).clone()).await {
            let problem = format!("on host {name}: can't be removed: {}", error.message);
            findings.push(Finding::new(kind(orphan.kind()), orphan.name.clone(), problem));
        }
    }
    findings.extend(odd.into_iter().map(|found| {
        let what = match found.standing() {
            Standing::Missing => "is not there, though the host's ledger wants it",
            _ => "is there, though nothing wants it",
        };
        let owner = if found.owner_id.is_empty() { String::new() } else { format!(" (of {})", found.owner_id) };
        Finding::new(kind(found.kind()), found.name.clone(), format!("on host {name}: {what}{owner}"))
    }));
    Ok(findings)
}

/// A host that has just gone is told when it joins again.
async fn send(state: &State, host: &HostId, command: Command) -> Result<()> {
    match state.hub.send(host, command).await {
        Err(error) if error.kind == ErrorKind::Unavailable => Ok(()),
        other => other,
    }
}

fn kind(kind: FoundKind) -> &'static str {
    match kind {
        FoundKind::Guest => "process",
        FoundKind::Port => "tap",
        FoundKind::MetadataNamespace => "namespace",
        FoundKind::ServerFiles | FoundKind::BaseImage | FoundKind::StrayFile => "file",
        FoundKind::StrayDevice => "device",
        FoundKind::Unspecified => "thing",
    }
}
