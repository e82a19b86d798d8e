//! `POST /servers`: checked against flavor, image, networks and quota, then written in one transaction.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, prelude::BASE64_STANDARD};
use model::{
    Error, Result,
    id::{FlavorId, ImageId, ProjectId, SecurityGroupId, ServerId},
    limits::{SERVERS_PER_REQUEST_MAX, USER_DATA_CHARS_MAX},
};
use serde_json::{Value, json};
use store::{
    Tx,
    compute::{
        default_quota, flavors, hosts, keypairs, server_groups, server_labels,
        servers::{self, FlavorCopy, ImageCopy, Server},
    },
    flows, images,
    quotas::{self, Charge},
};
use web::{Cx, Reply, StatusCode, Target, Version};

use super::{
    action,
    flow::{PHASE_BUILD, charges},
    logic, networks,
    wire::{BlockDevice, Create, last_part},
};
use crate::{State, input};

/// `POST /servers`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let project = cx.authorize_own_project()?.clone();
    let state: &State = cx.state()?;
    let (request, hints) = Create::read(cx)?;
    check(cx, &request)?;
    if request.networks.is_some() {
        cx.authorize_rule("os_compute_api:servers:create:attach_network", &Target::project(&project))?;
    }
    let (min, max) = counts(&request)?;
    let mut tx = cx.db().begin().await?;
    let flavor = find_flavor(cx, &mut tx, &project, request.flavor_id().as_ref()).await?;
    let image = find_image(cx, &mut tx, &project, request.image_ref.as_ref()).await?;
    check_fit(cx, &project, &flavor, &image)?;
    let key = find_key(cx, &mut tx, &request).await?;
    let (zone, host) = find_zone(cx, &mut tx, &project, &state.config.zone, &request).await?;
    let limit = store::quotas::limit(&mut tx, &project, "metadata_items").await?;
    check_metadata(&request.metadata, limit.unwrap_or_else(|| default_quota("metadata_items")))?;
    let count = affordable(&mut tx, &project, &flavor, (min, max)).await?;
    let plans = networks::plan(cx, &mut tx, &project, request.networks.as_ref(), count).await?;
    let groups = networks::groups(&mut tx, &project, &request.security_groups).await?;

    let group = find_group(&mut tx, &project, &hints).await?;
    check_group_room(&mut tx, &project, group.as_deref(), count).await?;

    let template = template(cx, &tx, &project, &request, (&flavor, &image));
    let template = Server {
        key_name: key.as_ref().map(|key| key.name.clone()),
        key_public: key.map(|key| key.public_key),
        zone_wanted: zone,
        host_wanted: host,
        scheduler_hints: Value::Object(hints).to_string(),
        ..template
    };
    let mut first = None;
    for number in 1..=count {
        let server = numbered(&template, &request, number, max);
        insert(cx, &mut tx, &server, &request, &plans, groups.as_deref(), state).await?;
        if let Some(group) = &group {
            server_groups::add_member(&mut tx, group, &server.id).await?;
        }
        first.get_or_insert(server);
    }
    tx.commit().await?;
    let first = first.ok_or_else(|| Error::internal("creating servers", "none was asked for"))?;
    reply(cx, &request, &first)
}

fn reply(cx: &Cx, request: &Create, server: &Server) -> Result<Reply> {
    if request.return_reservation_id.is_some_and(|flag| flag.0) {
        return Reply::json(StatusCode::ACCEPTED, &json!({"reservation_id": server.reservation_id}));
    }
    let groups: Vec<Value> = match request.security_groups.as_slice() {
        [] => vec![json!({"name": "default"})],
        named => named.iter().map(|group| json!({"name": group.name})).collect(),
    };
    let id = server.id.as_str();
    // Given to whoever sets it in the guest; nothing here keeps or applies it, as in Nova without an injecting agent.
    let password = request.admin_pass.clone().unwrap_or_else(new_password);
    let body = json!({"server": {
        "id": id, "links": input::links(cx, "servers", id), "OS-DCF:diskConfig": server.disk_config,
        "security_groups": groups, "adminPass": password,
    }});
    let location = format!("{}/v2.1/servers/{id}", cx.service_url());
    Ok(Reply::json(StatusCode::ACCEPTED, &body)?.with("location", location))
}

/// Twelve letters and digits, without those that look alike.
pub fn new_password() -> String {
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let random: [u8; 12] = rand::random();
    random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// What can be checked without the database.
fn check(cx: &Cx, request: &Create) -> Result<()> {
    input::check_name("name", &request.name)?;
    if let Some(data) = &request.user_data {
        check_user_data(data)?;
    }
    if request.personality.as_ref().is_some_and(|files| !files.is_empty()) {
        return Err(no_personality());
    }
    check_tags(&request.tags)?;
    check_disks(request)?;
    if let Some(hostname) = &request.hostname {
        check_hostname(hostname, cx.version)?;
    }
    if request.trusted_image_certificates.as_ref().is_some_and(|certificates| !certificates.is_empty()) {
        return Err(no_certificates());
    }
    check_access(request.access_ipv4.as_deref(), request.access_ipv6.as_deref())
}

/// Files are not written into images.
pub fn no_personality() -> Error {
    let message = "File injection is not supported; use user_data or a config drive.";
    Error::bad_request("PersonalityUnsupported", message)
}

/// Signatures are not looked at.
pub fn no_certificates() -> Error {
    let message = "This cloud does not validate image signatures; leave trusted_image_certificates out.";
    Error::bad_request("CertificateValidationUnsupported", message)
}

/// How many servers are asked for: at least, at most.
fn counts(request: &Create) -> Result<(u32, u32)> {
    let count = |wanted: Option<input::Whole>, what: &str| match wanted.map(|w| u32::try_from(w.0)) {
        None => Ok(None),
        Some(Ok(n)) if n >= 1 => Ok(Some(n)),
        Some(_) => Err(input::invalid(format!("Invalid input for field/attribute {what}: it must be at least 1"))),
    };
    let min = count(request.min_count, "min_count")?;
    let max = count(request.max_count, "max_count")?.or(min).unwrap_or(1);
    let min = min.unwrap_or(1);
    if min > max {
        return Err(Error::bad_request("InvalidInput", "min_count must be <= max_count"));
    }
    if max > SERVERS_PER_REQUEST_MAX {
        let message = format!("At most {SERVERS_PER_REQUEST_MAX} servers can be created by one request.");
        return Err(Error::bad_request("InvalidInput", message));
    }
    if request.hostname.is_some() && max > 1 {
        let message = "Unable to allocate a single hostname to multiple instances";
        return Err(Error::bad_request("AmbiguousHostnameForMultipleInstances", message));
    }
    Ok((min, max))
}

/// Base64, and not too much of it.
///
/// # Errors
/// Bad request for anything else.
pub fn check_user_data(data: &str) -> Result<()> {
    if data.len() > USER_DATA_CHARS_MAX {
        return Err(Error::bad_request(
            "InstanceUserDataTooLarge",
            format!(
                "User data too large. User data must be no larger than {USER_DATA_CHARS_MAX} bytes once base64 encoded."
            ),
        ));
    }
    let stripped: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD
        .decode(stripped)
        .map(|_| ())
        .map_err(|_| Error::bad_request("InstanceUserDataMalformed", "User data needs to be valid base 64."))
}

/// At most 50 tags of 60 characters, without `/` and `,`.
pub fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > 50 {
        return Err(input::invalid("The number of tags exceeded the per-server limit 50"));
    }
    let bad = tags.iter().find(|tag| tag.is_empty() || tag.chars().count() > 60 || tag.contains(['/', ',']));
    match bad {
        None => Ok(()),
        Some(tag) => Err(input::invalid(format!(
            "Invalid input for tags. Value: {tag}. A tag has 1 to 60 characters, neither / nor ,"
        ))),
    }
}

/// A DNS label; from 2.94 on also a whole name.
pub fn check_hostname(hostname: &str, version: Version) -> Result<()> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let good = if version >= Version(2, 94) {
        (2..=255).contains(&hostname.len()) && hostname.split('.').all(is_label)
    } else {
        hostname.len() >= 2 && is_label(hostname)
    };
    if good {
        Ok(())
    } else {
        Err(input::invalid(format!("Invalid input for field/attribute hostname. Value: {hostname}.")))
    }
}

/// Keys and values of a server's metadata.
///
/// # Errors
/// Bad request for a key or value that can't be; forbidden for too many.
pub fn check_metadata(metadata: &std::collections::BTreeMap<String, String>, limit: i64) -> Result<()> {
    for (key, value) in metadata {
        let good =
            (1..=255).contains(&key.len()) && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c));
        if !good {
            return Err(input::invalid(format!(
                "Invalid input for field/attribute metadata. Value: {key}. A key has 1 to 255 letters, digits, and -_:. "
            )));
        }
        if value.chars().count() > 255 {
            return Err(input::invalid(format!(
                "Invalid input for field/attribute {key}: a value has at most 255 characters"
            )));
        }
    }
    if limit >= 0 && i64::try_from(metadata.len()).is_ok_and(|count| count > limit) {
        return Err(Error::forbidden(
            "MetadataLimitExceeded",
            format!("Maximum number of metadata items exceeds {limit}"),
        ));
    }
    Ok(())
}

/// Of disks only the root disk from the image: the cloud has no block storage yet.
fn check_disks(request: &Create) -> Result<()> {
    let refuse = |why: &str| Err(Error::bad_request("InvalidBDM", format!("Block Device Mapping is Invalid: {why}.")));
    if request.block_device_mapping.as_ref().is_some_and(|list| !list.is_empty()) {
        return refuse("this cloud has no block storage service");
    }
    let is_root = |disk: &BlockDevice| {
        disk.source_type.as_deref() == Some("image")
            && disk.destination_type.as_deref() == Some("local")
            && matches!(&disk.boot_index, Some(index) if *index == json!(0) || *index == json!("0"))
    };
    match request.block_device_mapping_v2.as_deref() {
        None | Some([]) => Ok(()),
        Some([disk]) if is_root(disk) => match (&request.image_ref, &disk.uuid) {
            (Some(image), Some(uuid)) if last_part(image) == uuid => Ok(()),
            _ => refuse("the image of the boot disk must be imageRef"),
        },
        Some(_) => refuse("only a local boot disk from imageRef is supported, this cloud has no block storage service"),
    }
}

/// The flavor, if the project may use it.
///
/// # Errors
/// Bad request.
pub async fn find_flavor(cx: &Cx, tx: &mut Tx, project: &ProjectId, id: Option<&String>) -> Result<flavors::Flavor> {
    let id = id.ok_or_else(|| Error::bad_request("InvalidInput", "Invalid flavorRef provided."))?;
    let missing = || Error::bad_request("FlavorNotFound", format!("Flavor {id} could not be found."));
    let id = FlavorId::new(id.clone());
    let flavor = flavors::get(tx, &id).await?.filter(|f| !f.disabled).ok_or_else(missing)?;
    let usable = flavor.is_public || cx.caller.has_role("admin") || flavors::has_access(tx, &id, project).await?;
    if usable { Ok(flavor) } else { Err(missing()) }
}

/// The image, if the project may see it and it has data.
///
/// # Errors
/// Bad request.
pub async fn find_image(
    cx: &Cx,
    tx: &mut Tx,
    project: &ProjectId,
    reference: Option<&String>,
) -> Result<images::Image> {
    let reference = reference.map(String::as_str).filter(|reference| !reference.is_empty());
    let reference = reference.ok_or_else(|| {
        Error::bad_request(
            "InvalidBDMBootSequence",
            "Invalid imageRef provided: servers boot from an image; this cloud has no block storage service.",
        )
    })?;
    let id = last_part(reference);
    if !model::id::is_uuid_like(id) {
        return Err(Error::bad_request("InvalidInput", "Invalid imageRef provided."));
    }
    let id = ImageId::new(id);
    let missing = || Error::bad_request("ImageNotFound", "Can not find requested image");
    let image = images::get(tx, &id).await?.filter(|i| i.status != images::Status::Deleted).ok_or_else(missing)?;
    let visible = match image.visibility {
        images::Visibility::Public | images::Visibility::Community => true,
        _ if image.owner == *project || cx.caller.has_role("admin") => true,
        images::Visibility::Shared => images::get_member(tx, &id, project).await?.is_some(),
        images::Visibility::Private => false,
    };
    if !visible {
        return Err(missing());
    }
    if image.status != images::Status::Active {
        return Err(Error::bad_request("ImageNotActive", format!("Image {id} is not active.")));
    }
    Ok(image)
}

/// Whether the image fits into the flavor.
fn check_fit(cx: &Cx, project: &ProjectId, flavor: &flavors::Flavor, image: &images::Image) -> Result<()> {
    if flavor.disk_gib == 0 {
        let rule = "os_compute_api:servers:create:zero_disk_flavor";
        if !cx.can(rule, &Target::project(project)) {
            let message = "Only volume-backed servers are allowed for flavors with zero disk.";
            return Err(Error::forbidden("BootFromVolumeRequiredForZeroDiskFlavor", message));
        }
    }
    check_copy_fits(&flavor_copy(flavor), image)
}

/// Whether the image fits into the flavor, whatever that was made of.
///
/// # Errors
/// Bad request that says what is too small.
pub fn check_copy_fits(flavor: &FlavorCopy, image: &images::Image) -> Result<()> {
    const GIB: i64 = 1 << 30;
    if flavor.memory_mib < image.min_ram {
        let message = "Flavor's memory is too small for requested image.";
        return Err(Error::bad_request("FlavorMemoryTooSmall", message));
    }
    if flavor.disk_gib == 0 {
        return Ok(());
    }
    let disk = flavor.disk_gib.saturating_mul(GIB);
    let needed = image.virtual_size.or(image.size).unwrap_or(0);
    if needed > disk {
        let message = format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {needed} bytes."
        );
        return Err(Error::bad_request("FlavorDiskSmallerThanImage", message));
    }
    if image.min_disk.saturating_mul(GIB) > disk {
        let min_disk = image.min_disk.saturating_mul(GIB);
        let message = format!(
            "The disk size of the flavor is smaller than the minimum size specified in image metadata. Flavor disk is {disk} bytes, minimum size is {min_disk} bytes."
        );
        return Err(Error::bad_request("FlavorDiskSmallerThanMinDisk", message));
    }
    Ok(())
}

async fn find_key(cx: &Cx, tx: &mut Tx, request: &Create) -> Result<Option<keypairs::Keypair>> {
    let Some(name) = &request.key_name else { return Ok(None) };
    let found = keypairs::get(tx, &cx.caller.user(), name).await?;
    found.map(Some).ok_or_else(|| {
        let user = cx.caller.user();
        Error::bad_request("KeypairNotFound", format!("Keypair {name} not found for user {user}"))
    })
}

/// The zone and the host that are asked for: `zone`, `zone:host` (administrators), or `host` of its own.
async fn find_zone(
    cx: &Cx,
    tx: &mut Tx,
    project: &ProjectId,
    default_zone: &str,
    request: &Create,
) -> Result<(Option<String>, Option<String>)> {
    let mut parts = request.availability_zone.as_deref().unwrap_or_default().splitn(3, ':');
    let part = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
    let (zone, forced) = (part(parts.next()), part(parts.next()));
    if forced.is_some() {
        cx.authorize_rule("os_compute_api:servers:create:forced_host", &Target::project(project))?;
    }
    let requested = request.host.clone().or_else(|| request.hypervisor_hostname.clone());
    if requested.is_some() {
        cx.authorize_rule("compute:servers:create:requested_destination", &Target::project(project))?;
    }
    let known = hosts::list(tx).await?;
    if let Some(zone) = &zone
        && zone != default_zone
        && known.iter().all(|host| host.zone != *zone)
    {
        return Err(Error::bad_request("InvalidInput", "The requested availability zone is not available"));
    }
    if let Some(host) = &requested
        && known.iter().all(|h| h.name != *host)
    {
        return Err(Error::bad_request("ComputeHostNotFound", format!("Compute host {host} could not be found.")));
    }
    Ok((zone, forced.or(requested)))
}

/// The server group that the hints name.
async fn find_group(
    tx: &mut Tx,
    project: &ProjectId,
    hints: &serde_json::Map<String, Value>,
) -> Result<Option<String>> {
    let Some(hint) = hints.get("group") else { return Ok(None) };
    let id = hint.as_str().filter(|id| model::id::is_uuid_like(id)).ok_or_else(|| {
        input::invalid(format!("Invalid input for field/attribute group. Value: {hint}. A server group has a UUID."))
    })?;
    match server_groups::get(tx, id).await? {
        Some(group) if group.project_id == *project => Ok(Some(group.id)),
        _ => Err(Error::bad_request("InstanceGroupNotFound", format!("Instance group {id} could not be found."))),
    }
}

/// Whether the group may take so many members more.
async fn check_group_room(tx: &mut Tx, project: &ProjectId, group: Option<&str>, more: u32) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    let limit = quotas::limit(tx, project, "server_group_members").await?;
    let limit = limit.unwrap_or_else(|| default_quota("server_group_members"));
    if limit >= 0 && server_groups::count_members(tx, group).await? + i64::from(more) > limit {
        return Err(Error::forbidden("OverQuota", "Quota exceeded, too many servers in group"));
    }
    Ok(())
}

/// How many servers the project's quota allows: as many as asked for, or at least the minimum. Charges them.
async fn affordable(tx: &mut Tx, project: &ProjectId, flavor: &flavors::Flavor, (min, max): (u32, u32)) -> Result<u32> {
    let each = [("instances", 1), ("cores", flavor.vcpus), ("ram", flavor.memory_mib)];
    let mut count = i64::from(max);
    if min < max {
        for (resource, amount) in each.into_iter().filter(|(_, amount)| *amount > 0) {
            let limit = quotas::limit(tx, project, resource).await?.unwrap_or_else(|| default_quota(resource));
            let used = quotas::used(tx, project, resource).await?;
            if limit >= 0 {
                count = count.min((limit - used).max(0) / amount);
            }
        }
    }
    let count = count.max(i64::from(min));
    let charges = each.map(|(resource, amount)| Charge {
        resource,
        default_limit: default_quota(resource),
        amount: amount.saturating_mul(count),
    });
    quotas::charge(tx, project, &charges).await?;
    Ok(u32::try_from(count).unwrap_or(max))
}

/// The flavor as servers keep it.
pub fn flavor_copy(flavor: &flavors::Flavor) -> FlavorCopy {
    FlavorCopy {
        name: flavor.name.clone(),
        vcpus: flavor.vcpus,
        memory_mib: flavor.memory_mib,
        disk_gib: flavor.disk_gib,
        ephemeral_gib: flavor.ephemeral_gib,
        swap_mib: flavor.swap_mib,
        extra_specs: flavor.extra_specs.clone(),
    }
}

/// The image as servers keep it.
pub fn image_copy(image: &images::Image) -> ImageCopy {
    ImageCopy {
        name: image.name.clone().unwrap_or_default(),
        sha256: image.sha256.clone().unwrap_or_default(),
        format: image.disk_format.clone().unwrap_or_default(),
        bytes: image.size.unwrap_or(0),
        min_disk: image.min_disk,
        min_ram: image.min_ram,
        properties: image.properties.clone(),
    }
}

/// What all servers of the request have in common.
fn template(
    cx: &Cx,
    tx: &Tx,
    project: &ProjectId,
    request: &Create,
    (flavor, image): (&flavors::Flavor, &images::Image),
) -> Server {
    // Before it could be given, Nova took the name.
    let description = if cx.version < Version(2, 19) { Some(&request.name) } else { request.description.as_ref() };
    Server {
        description: description.cloned(),
        flavor_id: flavor.id.clone(),
        flavor: flavor_copy(flavor),
        image_id: image.id.clone(),
        image: image_copy(image),
        user_data: request.user_data.clone().filter(|data| !data.is_empty()),
        config_drive: request.config_drive.is_some_and(|flag| flag.0),
        disk_config: request.disk_config.map_or("MANUAL", super::wire::DiskConfig::as_str).to_owned(),
        reservation_id: new_reservation(),
        access_ipv4: request.access_ipv4.clone().unwrap_or_default(),
        access_ipv6: canonical_ipv6(request.access_ipv6.as_deref().unwrap_or_default()),
        ..Server::new(project.clone(), cx.caller.user(), tx.now())
    }
}

/// One of them.
fn numbered(template: &Server, request: &Create, number: u32, of: u32) -> Server {
    let id = ServerId::random();
    let name = logic::numbered(&request.name, number, of);
    let hostname = request.hostname.clone().unwrap_or_else(|| logic::hostname(&name, id.as_str()));
    let seed: [[u8; 32]; 16] = std::array::from_fn(|_| rand::random());
    let mut server = Server {
        id,
        name,
        hostname,
        launch_index: i64::from(number) - 1,
        random_seed: BASE64_STANDARD.encode(seed.concat()),
        ..template.clone()
    };
    server.shown = logic::shown(&server);
    server
}

/// Writes a server and everything that belongs to it.
async fn insert(
    cx: &Cx,
    tx: &mut Tx,
    server: &Server,
    request: &Create,
    plans: &[networks::Plan],
    groups: Option<&[SecurityGroupId]>,
    state: &State,
) -> Result<()> {
    servers::insert(tx, server).await?;
    server_labels::set_metadata(tx, &server.id, &request.metadata).await?;
    server_labels::set_tags(tx, &server.id, &request.tags).await?;
    // In the order of networks' ids, so that two servers on the same networks don't wait for each other.
    let mut ordered: Vec<(i64, &networks::Plan)> = (0_i64..).zip(plans).collect();
    ordered.sort_by_key(|(_, plan)| plan.lock_order());
    for (position, plan) in ordered {
        let place = (position, "", state.config.zone.as_str());
        networks::attach(tx, (&server.project_id, &server.id), plan, groups, place).await?;
    }
    let phase = flows::Phase { name: PHASE_BUILD, within: state.config.build_within };
    flows::insert(tx, &server.id, servers::FLOW.0, servers::FLOW.1, Some(phase)).await?;
    debug_assert_eq!(charges(server)[0].1, 1, "each server counts once");
    action::begin(cx, tx, server, "create", "compute__do_build_and_run_instance").await
}

fn new_reservation() -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let random: [u8; 8] = rand::random();
    let text: String = random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
    format!("r-{text}")
}

/// The access addresses, checked.
///
/// # Errors
/// Bad request for what is no address of that version.
pub fn check_access(ipv4: Option<&str>, ipv6: Option<&str>) -> Result<()> {
    let bad =
        |what: &str, text: &str| input::invalid(format!("Invalid input for field/attribute {what}. Value: {text}."));
    match ipv4 {
        Some(text) if !text.is_empty() && text.parse::<Ipv4Addr>().is_err() => return Err(bad("accessIPv4", text)),
        _ => {}
    }
    match ipv6 {
        Some(text) if !text.is_empty() && text.parse::<Ipv6Addr>().is_err() => Err(bad("accessIPv6", text)),
        _ => Ok(()),
    }
}

/// As RFC 5952 writes it.
pub fn canonical_ipv6(text: &str) -> String {
    text.parse::<Ipv6Addr>().map_or_else(|_| text.to_owned(), |ip| ip.to_string())
}
