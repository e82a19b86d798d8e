//! Actions that make a server another: rebuild, resize, rescue, shelve, and back.

use model::{
    Error, Result,
    id::{FlavorId, ImageId, ServerId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Tx,
    compute::{
        allocations, default_quota, keypairs,
        life::{DiskImage, Mode, OldFlavor},
        migrations, server_labels,
        servers::{self, Change, Server},
    },
    flows, quotas,
};
use web::{Cx, Reply, Version};

use super::{
    action, api, create,
    flow::claim,
    logic::{self, Legal, legal},
    snapshots,
    wire::{DiskConfig, last_part},
};
use crate::{
    State,
    input::{self, Flag, invalid},
};

/// Locks the server and checks that it may be done now.
pub(super) async fn begin(cx: &Cx, legal: Legal) -> Result<(Tx, Server)> {
    let mut tx = cx.db().begin().await?;
    let server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal)?;
    Ok((tx, server))
}

/// Writes the intent, with its action and the wake of the flow.
pub(super) async fn commit(
    cx: &Cx,
    mut tx: Tx,
    mut server: Server,
    change: Change,
    legal: Legal,
    event: &str,
) -> Result<Server> {
    let now = tx.now();
    logic::change(&mut server, change, now);
    servers::update(&mut tx, &server).await?;
    action::begin(cx, &mut tx, &server, legal.action, event).await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(server)
}

/// A rebuild, as the newest microversion has it. An outer none: leave it as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rebuild {
    #[serde(rename = "imageRef")]
    image_ref: String,
    name: Option<String>,
    #[serde(rename = "adminPass")]
    admin_pass: Option<String>,
    metadata: Option<std::collections::BTreeMap<String, String>>,
    preserve_ephemeral: Option<Flag>,
    #[serde(rename = "OS-DCF:diskConfig")]
    disk_config: Option<DiskConfig>,
    #[serde(rename = "accessIPv4")]
    access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    access_ipv6: Option<String>,
    personality: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "super::wire::present")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "super::wire::present")]
    key_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "super::wire::present")]
    user_data: Option<Option<String>>,
    trusted_image_certificates: Option<Vec<String>>,
    hostname: Option<String>,
}

impl Rebuild {
    fn read(cx: &Cx) -> Result<Self> {
        const FIELDS: &[(&str, Version, Version)] = &[
            ("personality", Version::MIN, Version(2, 56)),
            ("description", Version(2, 19), Version::MAX),
            ("key_name", Version(2, 54), Version::MAX),
            ("user_data", Version(2, 57), Version::MAX),
            ("trusted_image_certificates", Version(2, 63), Version::MAX),
            ("hostname", Version(2, 90), Version::MAX),
        ];
        let fields: serde_json::Map<String, Value> = cx.json_in("rebuild")?;
        super::wire::check_fields(&fields, FIELDS, cx.version)?;
        let rebuild: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|e| invalid(format!("Invalid input for field/attribute rebuild: {e}")))?;
        if rebuild.personality.as_ref().is_some_and(|files| !files.is_empty()) {
            return Err(create::no_personality());
        }
        if rebuild.trusted_image_certificates.as_ref().is_some_and(|certificates| !certificates.is_empty()) {
            return Err(create::no_certificates());
        }
        if rebuild.preserve_ephemeral.is_some_and(|flag| flag.0) {
            let message = "This cloud's servers have no ephemeral disk that could be preserved.";
            return Err(Error::bad_request("InvalidInput", message));
        }
        create::check_access(rebuild.access_ipv4.as_deref(), rebuild.access_ipv6.as_deref())?;
        if let Some(name) = &rebuild.name {
            input::check_name("name", name)?;
        }
        if let Some(hostname) = &rebuild.hostname {
            create::check_hostname(hostname, cx.version)?;
        }
        if let Some(Some(data)) = &rebuild.user_data {
            create::check_user_data(data)?;
        }
        Ok(rebuild)
    }
}

/// `rebuild`: the same server with a disk made anew.
pub async fn rebuild(cx: &Cx) -> Result<Reply> {
    let request = Rebuild::read(cx)?;
    let (mut tx, mut server) = begin(cx, legal::REBUILD).await?;
    if server.launched_at.is_none() {
        return Err(Error::conflict("InstanceInvalidState", "A server that was never built can't be rebuilt."));
    }
    let image = create::find_image(cx, &mut tx, &server.project_id, Some(&request.image_ref)).await?;
    create::check_copy_fits(&server.flavor, &image)?;
    server.image_id = image.id.clone();
    server.image = create::image_copy(&image);
    if let Some(name) = request.name {
        server.name = name;
    }
    if let Some(description) = request.description {
        server.description = description;
    }
    if let Some(hostname) = request.hostname {
        server.hostname = hostname;
    }
    if let Some(key) = request.key_name {
        let found = match &key {
            Some(name) => Some(keypairs::get(&mut tx, &server.user_id, name).await?.ok_or_else(|| {
                let message = format!("Keypair {name} not found for user {}", server.user_id);
                Error::bad_request("KeypairNotFound", message)
            })?),
            None => None,
        };
        server.key_public = found.map(|key| key.public_key);
        server.key_name = key;
    }
    if let Some(data) = request.user_data {
        server.user_data = data.filter(|data| !data.is_empty());
    }
    if let Some(ipv4) = request.access_ipv4 {
        server.access_ipv4 = ipv4;
    }
    if let Some(ipv6) = request.access_ipv6 {
        server.access_ipv6 = create::canonical_ipv6(&ipv6);
    }
    if let Some(config) = request.disk_config {
        config.as_str().clone_into(&mut server.disk_config);
    }
    if let Some(metadata) = &request.metadata {
        let limit = quotas::limit(&mut tx, &server.project_id, "metadata_items").await?;
        create::check_metadata(metadata, limit.unwrap_or_else(|| default_quota("metadata_items")))?;
        server_labels::set_metadata(&mut tx, &server.id, metadata).await?;
    }
    let server = commit(cx, tx, server, Change::Rebuild, legal::REBUILD, "compute_rebuild_instance").await?;
    let password = request.admin_pass.unwrap_or_else(create::new_password);
    api::reply_rebuilt(cx, &server, &password).await
}

/// `resize`: another flavor on the same host, to be confirmed or reverted.
pub async fn resize(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Resize {
        #[serde(rename = "flavorRef")]
        flavor_ref: Value,
        #[serde(rename = "OS-DCF:diskConfig")]
        disk_config: Option<DiskConfig>,
    }
    let request: Resize = cx.json_in("resize")?;
    let id = match &request.flavor_ref {
        Value::Number(number) => number.to_string(),
        Value::String(text) => last_part(text).to_owned(),
        _ => return Err(invalid("Invalid input for field/attribute flavorRef.")),
    };
    let (mut tx, mut server) = begin(cx, legal::RESIZE).await?;
    allocations::lock(&mut tx).await?;
    let flavor = create::find_flavor(cx, &mut tx, &server.project_id.clone(), Some(&id)).await?;
    if flavor.id == server.flavor_id {
        let message = "When resizing, instances must change flavor!";
        return Err(Error::bad_request("CannotResizeToSameFlavor", message));
    }
    if flavor.disk_gib < server.flavor.disk_gib {
        let message = "Resize error: a disk can't shrink: choose a flavor whose disk is at least as large.";
        return Err(Error::bad_request("CannotResizeDisk", message));
    }
    let image = &server.image;
    if flavor.memory_mib < image.min_ram {
        let message = "Flavor's memory is too small for requested image.";
        return Err(Error::bad_request("FlavorMemoryTooSmall", message));
    }
    let old_charge = server.charged();
    let new = create::flavor_copy(&flavor);
    let old = OldFlavor {
        id: std::mem::replace(&mut server.flavor_id, flavor.id.clone()),
        flavor: std::mem::replace(&mut server.flavor, new),
        was_running: server.wanted.running,
    };
    server.life.old = Some(old.clone());
    let charge = |resource, amount| quotas::Charge { resource, default_limit: default_quota(resource), amount };
    let (cores, ram) = server.charged();
    let charges = [charge("cores", cores - old_charge.0), charge("ram", ram - old_charge.1)];
    quotas::charge(&mut tx, &server.project_id, &charges).await?;
    check_room(cx, &mut tx, &server).await?;
    record(cx, &mut tx, &server, &old.id).await?;
    if let Some(config) = request.disk_config {
        config.as_str().clone_into(&mut server.disk_config);
    }
    commit(cx, tx, server, Change::Resize, legal::RESIZE, "compute_resize_instance").await?;
    Ok(Reply::accepted())
}

/// Whether the server's host has what the larger of its flavors takes; claims it.
async fn check_room(cx: &Cx, tx: &mut Tx, server: &Server) -> Result<()> {
    let state: &State = cx.state()?;
    let Some(host) = &server.host else { return Ok(()) };
    let wanted = claim(server, &host.id);
    allocations::update(tx, &wanted).await?;
    let now = tx.now();
    let usages = allocations::usages(tx).await?;
    let Some(usage) = usages.iter().find(|usage| usage.host.id == host.id) else { return Ok(()) };
    let candidate = usage.candidate(state.config.ratios(), now);
    let lacks = [
        (candidate.vcpus - candidate.vcpus_used, "VCPUs"),
        (candidate.memory_mib - candidate.memory_mib_used, "MiB of memory"),
        (candidate.disk_gib - candidate.disk_gib_used, "GiB of disk"),
    ];
    match lacks.iter().find(|(left, _)| *left < 0) {
        None => Ok(()),
        Some((left, what)) => Err(Error::bad_request(
            "NoValidHost",
            format!("No valid host was found. The server's host lacks {} {what} for that flavor.", -left),
        )),
    }
}

async fn record(cx: &Cx, tx: &mut Tx, server: &Server, old: &FlavorId) -> Result<()> {
    let now = tx.now();
    let migration = migrations::Migration {
        number: 0,
        id: ServerId::random().to_string(),
        server_id: server.id.clone(),
        project_id: server.project_id.clone(),
        user_id: cx.caller.user().to_string(),
        kind: "resize".to_owned(),
        status: "migrating".to_owned(),
        host: server.host.as_ref().map_or_else(String::new, |host| host.name.clone()),
        old_flavor_id: old.clone(),
        new_flavor_id: server.flavor_id.clone(),
        created_at: now,
        updated_at: now,
    };
    Ok(migrations::insert(tx, &migration).await?)
}

/// `confirmResize`.
pub async fn confirm_resize(cx: &Cx) -> Result<Reply> {
    let (tx, server) = begin(cx, legal::CONFIRM_RESIZE).await?;
    commit(cx, tx, server, Change::ConfirmResize, legal::CONFIRM_RESIZE, "compute_confirm_resize").await?;
    Ok(Reply::no_content())
}

/// `revertResize`.
pub async fn revert_resize(cx: &Cx) -> Result<Reply> {
    let (tx, mut server) = begin(cx, legal::REVERT_RESIZE).await?;
    let Some(old) = server.life.old.clone() else {
        return Err(Error::conflict("InstanceInvalidState", "There is no resize to revert."));
    };
    let new = OldFlavor {
        id: std::mem::replace(&mut server.flavor_id, old.id),
        flavor: std::mem::replace(&mut server.flavor, old.flavor),
        was_running: old.was_running,
    };
    server.wanted.running = old.was_running;
    // Both are held until it is done.
    server.life.old = Some(new);
    commit(cx, tx, server, Change::RevertResize, legal::REVERT_RESIZE, "compute_revert_resize").await?;
    Ok(Reply::accepted())
}

/// `rescue`.
pub async fn rescue(cx: &Cx) -> Result<Reply> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rescue {
        #[serde(rename = "adminPass")]
        admin_pass: Option<String>,
        rescue_image_ref: Option<String>,
    }
    let given: Option<Rescue> = cx.json_in("rescue")?;
    let request = given.unwrap_or_default();
    let (mut tx, mut server) = begin(cx, legal::RESCUE).await?;
    let (id, image) = match &request.rescue_image_ref {
        None => (server.image_id.clone(), server.image.clone()),
        Some(reference) => {
            let image = create::find_image(cx, &mut tx, &server.project_id, Some(reference)).await?;
            create::check_copy_fits(&server.flavor, &image)?;
            (image.id.clone(), create::image_copy(&image))
        }
    };
    server.life.rescue = Some(DiskImage { id, image });
    commit(cx, tx, server, Change::Rescue, legal::RESCUE, "compute_rescue_instance").await?;
    let password = request.admin_pass.unwrap_or_else(create::new_password);
    Reply::ok(&json!({ "adminPass": password }))
}

/// `unrescue`.
pub async fn unrescue(cx: &Cx) -> Result<Reply> {
    let (tx, server) = begin(cx, legal::UNRESCUE).await?;
    commit(cx, tx, server, Change::Unrescue, legal::UNRESCUE, "compute_unrescue_instance").await?;
    Ok(Reply::accepted())
}

/// `shelve`.
pub async fn shelve(cx: &Cx) -> Result<Reply> {
    let (mut tx, mut server) = begin(cx, legal::SHELVE).await?;
    let name = format!("{}-shelved", server.name);
    snapshots::expect(cx, &mut tx, &mut server, &name, None, Vec::new()).await?;
    commit(cx, tx, server, Change::Shelve, legal::SHELVE, "compute_shelve_instance").await?;
    Ok(Reply::accepted())
}

/// `shelveOffload`.
pub async fn shelve_offload(cx: &Cx) -> Result<Reply> {
    let (tx, server) = begin(cx, legal::OFFLOAD).await?;
    commit(cx, tx, server, Change::Offload, legal::OFFLOAD, "compute_shelve_offload_instance").await?;
    Ok(Reply::accepted())
}

/// `unshelve`: from 2.77 on into another zone, from 2.91 on onto a certain host.
pub async fn unshelve(cx: &Cx) -> Result<Reply> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Unshelve {
        #[serde(default, deserialize_with = "super::wire::present")]
        availability_zone: Option<Option<String>>,
        host: Option<String>,
    }
    let given: Option<Unshelve> = cx.json_in("unshelve")?;
    let request = given.unwrap_or_default();
    if request.host.is_some() && cx.version < Version(2, 91) {
        return Err(invalid("Additional properties are not allowed ('host' was unexpected)"));
    }
    let (mut tx, mut server) = begin(cx, legal::UNSHELVE).await?;
    if server.life.mode == Mode::Offloaded {
        let image = server.life.shelved_as.clone().unwrap_or_else(|| ImageId::new(""));
        let found = store::images::get(&mut tx, &image).await?.filter(|i| i.status == store::images::Status::Active);
        let found = found.ok_or_else(|| {
            Error::conflict("UnshelveException", format!("Image {image} that the server is shelved as is gone."))
        })?;
        server.life.root = Some(DiskImage { id: found.id.clone(), image: create::image_copy(&found) });
        if let Some(zone) = request.availability_zone {
            server.zone_wanted = zone;
        }
        if let Some(host) = request.host {
            cx.authorize_rule("os_compute_api:os-shelve:unshelve_to_host", &api::target(&server))?;
            server.host_wanted = Some(host);
        }
    } else if request.availability_zone.is_some() || request.host.is_some() {
        let message = "Only a server that has been offloaded can be unshelved into another zone or onto another host.";
        return Err(Error::conflict("UnshelveInstanceInvalidState", message));
    }
    commit(cx, tx, server, Change::Unshelve, legal::UNSHELVE, "compute_unshelve_instance").await?;
    Ok(Reply::accepted())
}

/// `restore`: brings a deleted server back while that is possible.
pub async fn restore(cx: &Cx) -> Result<Reply> {
    let (mut tx, mut server) = begin(cx, legal::RESTORE).await?;
    let charges = super::flow::charges(&server).map(|(resource, amount)| quotas::Charge {
        resource,
        default_limit: default_quota(resource),
        amount,
    });
    quotas::charge(&mut tx, &server.project_id, &charges).await?;
    server.shown.vm_state = servers::VmState::Stopped;
    commit(cx, tx, server, Change::Restore, legal::RESTORE, "compute_restore_instance").await?;
    Ok(Reply::accepted())
}

/// Deletes a server so that it can be restored, where the cloud is set up for it and it can be. Whether it was.
pub(super) async fn soft_delete(cx: &Cx, tx: &mut Tx, server: &mut Server) -> Result<bool> {
    let state: &State = cx.state()?;
    let plain = server.life.mode == Mode::Plain && server.launched_at.is_some() && server.host.is_some();
    let rests = server.wanted.change == Change::None && server.shown.vm_state != servers::VmState::Error;
    if state.config.reclaim_after.is_none() || !plain || !rests {
        return Ok(false);
    }
    for (resource, amount) in super::flow::charges(server) {
        quotas::release(tx, &server.project_id, resource, amount).await?;
    }
    server.shown.vm_state = servers::VmState::SoftDeleted;
    logic::change(server, Change::SoftDelete, tx.now());
    Ok(true)
}

/// `migrate`, `os-migrateLive`, `evacuate`: there is no other host that could take a server's disk over.
pub async fn refuse_move(cx: &Cx) -> Result<Reply> {
    let server = api::load(cx, &mut *cx.db().read().await?).await?;
    let busy = Legal { action: "migrate", ..legal::RESIZE };
    logic::check(&server, busy)?;
    let message =
        "No valid host was found. Servers' disks lie on their hosts; this cloud does not move them to another.";
    Err(Error::bad_request("NoValidHost", message))
}
