//! Images that are made of servers: `createImage`, `createBackup`, and what shelving keeps.

use std::collections::BTreeMap;

use model::{Error, Result, id::ImageId};
use serde::Deserialize;
use serde_json::json;
use store::{
    Tx,
    compute::{
        life::Snapshot,
        servers::{Change, Server},
    },
    images::{self, deliveries},
};
use web::{Cx, Reply, StatusCode, Version};

use super::{
    create,
    lifecycle::{begin, commit},
    logic::{self, legal},
};
use crate::input::{self, Whole, invalid};

/// Properties of the server's image that its snapshots don't take over.
const OWN: &[&str] = &["instance_uuid", "user_id", "image_type", "backup_type", "base_image_ref", "boot_roles"];

/// Writes the image that the server's host is to deliver; notes in the server's row that it is to be made.
pub(super) async fn expect(
    cx: &Cx,
    tx: &mut Tx,
    server: &mut Server,
    name: &str,
    backup: Option<(String, i64)>,
    metadata: Vec<(String, String)>,
) -> Result<ImageId> {
    let Some(host) = &server.host else {
        return Err(Error::conflict("InstanceNotReady", format!("Instance {} is on no host", server.id)));
    };
    let mut image = images::Image::new(ImageId::random(), server.project_id.clone(), tx.now());
    image.name = Some(name.to_owned());
    image.visibility = images::Visibility::Private;
    image.disk_format = Some("qcow2".to_owned());
    image.container_format = Some("bare".to_owned());
    image.min_disk = server.flavor.disk_gib.max(server.image.min_disk);
    image.min_ram = server.image.min_ram;
    let taken_over = server.image.properties.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    image.properties = taken_over.map(|(name, value)| (name.clone(), value.clone())).collect();
    image.properties.extend(metadata);
    let kind = if backup.is_some() { "backup" } else { "snapshot" };
    image.properties.extend([
        ("image_type".to_owned(), kind.to_owned()),
        ("instance_uuid".to_owned(), server.id.to_string()),
        ("user_id".to_owned(), cx.caller.user().to_string()),
        ("base_image_ref".to_owned(), server.image_id.to_string()),
    ]);
    if let Some((backup_type, _)) = &backup {
        image.properties.insert("backup_type".to_owned(), backup_type.clone());
    }
    deliveries::create(tx, &image).await?;
    deliveries::expect(tx, &image.id, &host.id, &server.id.cast()).await?;
    server.life.snapshot = Some(Snapshot { image: image.id.clone(), backup });
    Ok(image.id)
}

fn reply(cx: &Cx, image: &ImageId) -> Result<Reply> {
    if cx.version >= Version(2, 45) {
        return Reply::json(StatusCode::ACCEPTED, &json!({ "image_id": image }));
    }
    let location = format!("{}/v2/images/{image}", cx.url_of("/image"));
    Ok(Reply::accepted().with("location", location))
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    create::check_metadata(metadata, 128)
}

/// `createImage`.
pub async fn create_image(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct CreateImage {
        name: String,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    }
    let request: CreateImage = cx.json_in("createImage")?;
    let name = request.name.trim();
    input::check_name("name", name)?;
    check_metadata(&request.metadata)?;
    let (mut tx, mut server) = begin(cx, legal::SNAPSHOT).await?;
    let metadata = request.metadata.into_iter().collect();
    let image = expect(cx, &mut tx, &mut server, name, None, metadata).await?;
    commit(cx, tx, server, Change::Snapshot, legal::SNAPSHOT, "compute_snapshot_instance").await?;
    reply(cx, &image)
}

/// `createBackup`: an image under a kind of which only the newest are kept.
pub async fn create_backup(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct CreateBackup {
        name: String,
        backup_type: String,
        rotation: Whole,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    }
    let request: CreateBackup = cx.json_in("createBackup")?;
    input::check_name("name", &request.name)?;
    check_metadata(&request.metadata)?;
    if request.rotation.0 < 0 {
        return Err(invalid("Invalid input for field/attribute rotation: it is at least 0."));
    }
    let (mut tx, mut server) = begin(cx, legal::BACKUP).await?;
    logic::check(&server, legal::BACKUP)?;
    let metadata = request.metadata.into_iter().collect();
    let backup = Some((request.backup_type, request.rotation.0));
    let image = expect(cx, &mut tx, &mut server, &request.name, backup, metadata).await?;
    commit(cx, tx, server, Change::Backup, legal::BACKUP, "compute_backup_instance").await?;
    reply(cx, &image)
}
