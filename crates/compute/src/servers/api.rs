//! Handlers of a single server: show, update, delete, and what hangs on it and is short: addresses, security groups,
//! volumes, the guest's password.

use model::{Error, Result, Timestamp, id::ServerId};
use serde_json::{Value, json};
use store::{
    Conn, Tx,
    compute::{
        server_list::{self, Details},
        server_ports,
        servers::{self, Server},
    },
    flows,
    network::{ports, security_groups},
};
use web::{Cx, Reply, StatusCode, Target, Version};

use super::{
    action, create, lifecycle, logic,
    view::{Addresses, Amount, View, Viewing},
    wire::Update,
};
use crate::input;

pub use super::{
    create::create,
    list::{detail, list},
};

/// `InstanceNotFound`, in Nova's words.
pub fn not_found(id: &str) -> Error {
    Error::not_found("InstanceNotFound", format!("Instance {id} could not be found."))
}

/// What policy rules know of a server.
pub fn target(server: &Server) -> Target {
    Target::project(&server.project_id).with("user_id", server.user_id.as_str())
}

/// The server of the path, if the caller may do what the route's rule says.
///
/// # Errors
/// `InstanceNotFound` also where the caller may not know of it.
pub async fn load(cx: &Cx, conn: &mut Conn) -> Result<Server> {
    let id = cx.param("id");
    let server = servers::get(conn, id).await?.filter(|server| server.deleted_at.is_none());
    let server = server.ok_or_else(|| not_found(id))?;
    cx.authorize_found(&target(&server), || not_found(id))?;
    Ok(server)
}

/// The same, its row locked, whether its owner has locked it or not.
///
/// # Errors
/// As [`load`].
pub async fn load_locked(cx: &Cx, tx: &mut Tx) -> Result<Server> {
    let id = cx.param("id");
    let server = servers::lock(tx, id).await?.filter(|server| server.deleted_at.is_none());
    let server = server.ok_or_else(|| not_found(id))?;
    cx.authorize_found(&target(&server), || not_found(id))?;
    Ok(server)
}

/// The same, for a change.
///
/// # Errors
/// As [`load`]; conflict where it is locked.
pub async fn load_for_change(cx: &Cx, tx: &mut Tx) -> Result<Server> {
    let server = load_locked(cx, tx).await?;
    let id = &server.id;
    if server.locked && !cx.caller.has_role("admin") {
        return Err(Error::conflict("InstanceIsLocked", format!("Instance {id} is locked")));
    }
    Ok(server)
}

/// `GET /servers/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    reply(cx, &mut conn, &server, Amount::Full).await
}

async fn reply(cx: &Cx, conn: &mut Conn, server: &Server, amount: Amount) -> Result<Reply> {
    let details = details(cx, conn, server).await?;
    let target = target(server);
    let mut viewing = Viewing::new(cx, cx.can("os_compute_api:os-extended-server-attributes", &target));
    if amount == Amount::Full && cx.version >= Version(2, 16) && cx.can(super::list::HOST_STATUS, &target) {
        viewing.host_status = Some(super::list::host_states(conn, cx.now()).await?);
    }
    let view = View { viewing: &viewing, server, details: &details, amount };
    Reply::ok(&std::collections::BTreeMap::from([("server", view)]))
}

async fn details(cx: &Cx, conn: &mut Conn, server: &Server) -> Result<Details> {
    let mut all = server_list::details(conn, cx.db().dialect(), std::slice::from_ref(server)).await?;
    Ok(all.remove(&server.id).unwrap_or_default())
}

/// `PUT /servers/{id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let request = Update::read(cx)?;
    let mut tx = cx.db().begin().await?;
    let mut server = load_for_change(cx, &mut tx).await?;
    create::check_access(request.access_ipv4.as_deref(), request.access_ipv6.as_deref())?;
    if let Some(name) = request.name {
        input::check_name("name", &name)?;
        server.name = name;
    }
    if let Some(description) = request.description {
        server.description = description;
    }
    if let Some(hostname) = request.hostname {
        create::check_hostname(&hostname, cx.version)?;
        server.hostname = hostname;
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
    server.updated_at = tx.now();
    servers::update(&mut tx, &server).await?;
    // The guest's documents carry the name.
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    let amount = if cx.version >= Version(2, 75) { Amount::Full } else { Amount::Core };
    reply(cx, &mut *cx.db().read().await?, &server, amount).await
}

/// `DELETE /servers/{id}`. Asked for again, it changes nothing.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = load_for_change(cx, &mut tx).await?;
    if server.delete_wanted_at.is_none() && !lifecycle::soft_delete(cx, &mut tx, &mut server).await? {
        end(&mut server, tx.now());
    }
    finish_delete(cx, tx, &server).await
}

/// `forceDelete`: at once, also where deleted servers could be restored.
pub async fn force_delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = load_for_change(cx, &mut tx).await?;
    if server.delete_wanted_at.is_none() {
        end(&mut server, tx.now());
    }
    finish_delete(cx, tx, &server).await
}

fn end(server: &mut Server, now: Timestamp) {
    server.delete_wanted_at = Some(now);
    server.wanted.generation += 1;
    logic::refresh(server, now);
}

async fn finish_delete(cx: &Cx, mut tx: Tx, server: &Server) -> Result<Reply> {
    servers::update(&mut tx, server).await?;
    action::begin(cx, &mut tx, server, "delete", "compute_terminate_instance").await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// What `rebuild` answers: the server, with a password where the guest may use one.
pub(super) async fn reply_rebuilt(cx: &Cx, server: &Server, password: &str) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let amount = if cx.version >= Version(2, 75) { Amount::Full } else { Amount::Core };
    let details = details(cx, &mut conn, server).await?;
    let viewing = Viewing::new(cx, cx.can("os_compute_api:os-extended-server-attributes", &target(server)));
    let view = View { viewing: &viewing, server, details: &details, amount };
    let mut shown = serde_json::to_value(view).map_err(|e| Error::internal("writing a response", e))?;
    shown["adminPass"] = json!(password);
    if cx.version >= Version(2, 54) {
        shown["key_name"] = json!(server.key_name);
    }
    if cx.version >= Version(2, 57) {
        shown["user_data"] = json!(server.user_data);
    }
    let location = format!("{}/v2.1/servers/{}", cx.service_url(), server.id);
    Ok(Reply::json(StatusCode::ACCEPTED, &json!({ "server": shown }))?.with("location", location))
}

/// `GET /servers/{id}/ips`.
pub async fn ips(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    let details = details(cx, &mut conn, &server).await?;
    Reply::ok(&std::collections::BTreeMap::from([("addresses", Addresses(&details.addresses, false))]))
}

/// `GET /servers/{id}/ips/{network}`.
pub async fn ips_of_network(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    let mut addresses = details(cx, &mut conn, &server).await?.addresses;
    addresses.retain(|address| address.network == cx.param("network"));
    if addresses.is_empty() {
        return Err(Error::not_found("NetworkNotFound", "Instance is not a member of specified network"));
    }
    Reply::ok(&Addresses(&addresses, false))
}

/// `GET /servers/{id}/os-security-groups`.
pub async fn list_security_groups(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    let mut ids = Vec::new();
    for port in ports::of_device(&mut conn, &server.id).await? {
        ids.extend(port.security_groups);
    }
    ids.sort();
    ids.dedup();
    let mut shown = Vec::new();
    for id in ids {
        if let Some(group) = security_groups::get(&mut conn, &id).await? {
            let rules: Vec<Value> = group.rules.iter().filter(|r| r.direction == "ingress").map(rule).collect();
            shown.push(json!({
                "id": group.id, "name": group.name, "description": group.description, "tenant_id": group.project_id,
                "rules": rules,
            }));
        }
    }
    Reply::ok(&json!({ "security_groups": shown }))
}

/// A rule, as Nova's own security groups had it.
fn rule(rule: &security_groups::Rule) -> Value {
    let range = match (&rule.remote_ip_prefix, &rule.remote_group_id) {
        (Some(prefix), _) => json!({ "cidr": prefix }),
        (None, Some(_)) => json!({}),
        (None, None) => json!({"cidr": if rule.ethertype == "IPv6" { "::/0" } else { "0.0.0.0/0" }}),
    };
    json!({
        "id": rule.id, "parent_group_id": rule.security_group_id, "ip_protocol": rule.protocol,
        "from_port": rule.port_range_min, "to_port": rule.port_range_max, "group": {}, "ip_range": range,
    })
}

/// `GET /servers/{id}/os-volume_attachments`: none, for there are no volumes.
pub async fn list_volumes(cx: &Cx) -> Result<Reply> {
    load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({"volumeAttachments": []}))
}

/// `GET /servers/{id}/os-server-password`.
pub async fn show_password(cx: &Cx) -> Result<Reply> {
    let server = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({"password": server.guest_password}))
}

/// `DELETE /servers/{id}/os-server-password`.
pub async fn clear_password(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = load_for_change(cx, &mut tx).await?;
    server.guest_password.clear();
    servers::update(&mut tx, &server).await?;
    tx.commit().await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Adds or removes a security group on all ports of the server, by name or id.
async fn change_group(cx: &Cx, key: &str, add: bool) -> Result<Reply> {
    let name: super::wire::GroupName = cx.json_in(key)?;
    let mut tx = cx.db().begin().await?;
    let server = load_for_change(cx, &mut tx).await?;
    let found = security_groups::by_name(&mut tx, &server.project_id, &name.name).await?;
    let [group] = found.as_slice() else {
        let message = format!("Security group {} not found for project {}.", name.name, server.project_id);
        return Err(Error::not_found("SecurityGroupNotFound", message));
    };
    let mut changed = false;
    for attachment in server_ports::list(&mut tx, &server.id).await?.iter().filter(|p| !p.detach) {
        let Some(port) = ports::get(&mut tx, &attachment.port_id).await? else { continue };
        let mut groups = port.security_groups.clone();
        let had = groups.contains(group);
        if add == had || !port.port_security_enabled {
            continue;
        }
        if add {
            groups.push(group.clone())
        } else {
            groups.retain(|g| g != group)
        }
        ports::set_security_groups(&mut tx, &port, &groups).await?;
        changed = true;
    }
    if !add && !changed {
        let message = format!("Security group {} is not associated with instance {}.", name.name, server.id);
        return Err(Error::not_found("SecurityGroupNotExistsForInstance", message));
    }
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `addSecurityGroup`.
pub async fn add_security_group(cx: &Cx) -> Result<Reply> {
    change_group(cx, "addSecurityGroup", true).await
}

/// `removeSecurityGroup`.
pub async fn remove_security_group(cx: &Cx) -> Result<Reply> {
    change_group(cx, "removeSecurityGroup", false).await
}

/// The server's id, for those that only need that.
pub fn id_of(cx: &Cx) -> ServerId {
    ServerId::new(cx.param("id"))
}
