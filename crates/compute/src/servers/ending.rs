//! What belongs to the end of a change besides the server's own row: allocations, quota, images, migrations. All of it
//! happens in the transaction that ends the change.

use std::time::Duration;

use model::{
    ErrorKind, Result, Timestamp,
    id::{ImageId, ServerId},
};
use store::{
    Tx,
    compute::{
        allocations,
        life::Mode,
        migrations, server_images, server_ports,
        servers::{Change, Server},
    },
    flows, images,
    network::ports,
    quotas,
};

use super::{flow::claim, logic};
use crate::Config;

/// The host has what was wanted: the change is over.
///
/// # Errors
/// When the database fails.
pub async fn conclude(tx: &mut Tx, server: &mut Server) -> Result<()> {
    let now = tx.now();
    let (change, charged) = (server.wanted.change, server.charged());
    let snapshot = server.life.snapshot.clone();
    logic::conclude(server, now);
    match change {
        Change::Resize => migrations::set_status(tx, &server.id, "finished").await?,
        Change::ConfirmResize | Change::RevertResize => {
            let (cores, ram) = server.charged();
            quotas::release(tx, &server.project_id, "cores", charged.0 - cores).await?;
            quotas::release(tx, &server.project_id, "ram", charged.1 - ram).await?;
            if let Some(host) = &server.host {
                allocations::update(tx, &claim(server, &host.id)).await?;
            }
            let status = if change == Change::ConfirmResize { "confirmed" } else { "reverted" };
            migrations::set_status(tx, &server.id, status).await?;
        }
        Change::Shelve => server.life.shelved_as = snapshot.map(|snapshot| snapshot.image),
        Change::Unshelve => {
            if let Some(image) = server.life.shelved_as.take() {
                drop_image(tx, &image).await?;
            }
        }
        Change::Backup => {
            if let Some((kind, kept)) = snapshot.and_then(|snapshot| snapshot.backup) {
                rotate(tx, &server.id, &kind, kept).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The change came to nothing. Whether the server is as before nevertheless: where not, it is in error.
///
/// # Errors
/// When the database fails.
pub async fn abandon(tx: &mut Tx, server: &mut Server) -> Result<bool> {
    let now = tx.now();
    if let Some(snapshot) = server.life.snapshot.take() {
        drop_image(tx, &snapshot.image).await?;
    }
    match server.wanted.change {
        Change::None => Ok(true),
        Change::Snapshot | Change::Backup | Change::Shelve => {
            server.wanted.change = Change::None;
            logic::refresh(server, now);
            Ok(true)
        }
        Change::Unshelve if server.life.mode == Mode::Offloaded => {
            server.wanted.running = false;
            server.wanted.change = Change::None;
            if server.host.is_some() {
                logic::change(server, Change::Offload, now);
            }
            logic::refresh(server, now);
            Ok(true)
        }
        Change::Resize => {
            migrations::set_status(tx, &server.id, "error").await?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Of a server that is gone: images that only it had use for.
///
/// # Errors
/// When the database fails.
pub async fn drop_images(tx: &mut Tx, server: &mut Server) -> Result<()> {
    let unfinished = server.life.snapshot.take().map(|snapshot| snapshot.image);
    for image in unfinished.into_iter().chain(server.life.shelved_as.take()) {
        drop_image(tx, &image).await?;
    }
    Ok(())
}

/// Deletes an image, as its owner would.
async fn drop_image(tx: &mut Tx, id: &ImageId) -> Result<()> {
    let Some(image) = images::get_for_update(tx, id).await?.filter(|i| i.status != images::Status::Deleted) else {
        return Ok(());
    };
    images::mark_deleted(tx, id).await?;
    quotas::release(tx, &image.owner, images::COUNT_QUOTA, 1).await?;
    if let Some(size) = image.size {
        quotas::release(tx, &image.owner, images::SIZE_QUOTA, images::size_charge(size)).await?;
    }
    flows::wake(tx, id);
    Ok(())
}

/// Deletes the oldest backups of that kind, so that so many are left.
async fn rotate(tx: &mut Tx, server: &ServerId, kind: &str, kept: i64) -> Result<()> {
    for image in server_images::old_backups(tx, server, kind, kept).await? {
        drop_image(tx, &image).await?;
    }
    Ok(())
}

/// Frees the server's ports: for good, or for another host.
pub(super) async fn free_ports(tx: &mut Tx, server: &Server, for_good: bool) -> Result<()> {
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
pub(super) async fn free_port(tx: &mut Tx, server: &Server, port: &server_ports::ServerPort) -> Result<()> {
    server_ports::delete(tx, &server.id, &port.port_id).await?;
    if port.ours { Ok(ports::delete(tx, &port.port_id).await?) } else { ports::unbind(tx, &port.port_id).await }
}

/// What happens to the server by itself after a while, and how long until then.
pub fn later(server: &Server, config: &Config, now: Timestamp) -> Option<(Change, Duration)> {
    if server.wanted.change != Change::None {
        return None;
    }
    let (change, after) = match server.life.mode {
        Mode::Shelved => (Change::Offload, config.offload_after?),
        Mode::Resized => (Change::ConfirmResize, config.confirm_resize_after?),
        Mode::SoftDeleted => (Change::None, config.reclaim_after?),
        Mode::Plain | Mode::Rescued | Mode::Offloaded => return None,
    };
    Some((change, after.saturating_sub(now.since(Timestamp(server.life.since)))))
}
