//! `os-services`: the `nova-compute` of each host. The control plane itself is no service here: it answers, so it is up.
//!
//! A host's id is its service's and its hypervisor's. Nova numbered both until 2.53, so old clients get a number that is
//! derived from the id and as stable as it.

use model::{Error, Result, Timestamp, id::HostId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn,
    compute::{
        allocations,
        hosts::{self, Host},
    },
};
use web::{Cx, Reply, Target, Version};

use crate::input::{Flag, invalid, only_known};

const BINARY: &str = "nova-compute";
const REASON_CHARS_MAX: usize = 255;
const NO_FORCED_DOWN: &str =
    "Services can't be forced down: whether a host is down is seen by its connection. Disable it instead.";

/// `GET /v2.1/os-services`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["host", "binary"])?;
    cx.authorize(&Target::none())?;
    let wanted = |name: &str, value: &str| cx.query.get(name).is_none_or(|asked| asked.is_empty() || asked == value);
    let hosts = hosts::list(&mut *cx.db().read().await?).await?;
    let shown = hosts.iter().filter(|host| wanted("host", &host.name) && wanted("binary", BINARY));
    let services: Vec<Value> = shown.map(|host| shape(host, cx.version, cx.now())).collect();
    Reply::ok(&json!({"services": services}))
}

/// `PUT /v2.1/os-services/{id}` from 2.53 on.
pub async fn update(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Changes {
        status: Option<String>,
        disabled_reason: Option<String>,
        forced_down: Option<Flag>,
    }
    cx.authorize(&Target::none())?;
    let id = uuid(cx)?;
    let changes: Changes = cx.json()?;
    let reason = changes.disabled_reason.as_deref();
    let enabled = match changes.status.as_deref() {
        None => None,
        Some("enabled") if reason.is_some() => {
            return Err(invalid("Specifying 'disabled_reason' with status 'enabled' is invalid."));
        }
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        Some(other) => return Err(invalid(format!("Invalid input for status: {other:?} is not enabled or disabled."))),
    };
    check_reason(reason)?;
    refuse_forced_down(changes.forced_down)?;
    if enabled.is_none() && changes.forced_down.is_none() {
        return Err(invalid("No updates were requested. Fields 'status' or 'forced_down' should be specified."));
    }
    let mut tx = cx.db().begin().await?;
    let mut host = find(&mut tx, &id).await?;
    if let Some(enabled) = enabled {
        hosts::set_enabled(&mut tx, &host.id, enabled, reason.unwrap_or_default()).await?;
        host = find(&mut tx, &id).await?;
    }
    tx.commit().await?;
    Reply::ok(&json!({"service": shape(&host, cx.version, cx.now())}))
}

/// `PUT /v2.1/os-services/{enable,disable,disable-log-reason,force-down}` until 2.52.
pub async fn update_by_name(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        host: String,
        binary: String,
        disabled_reason: Option<String>,
        forced_down: Option<Flag>,
    }
    cx.authorize(&Target::none())?;
    let Named { host, binary, disabled_reason, forced_down } = cx.json()?;
    if forced_down.is_some() && cx.version < Version(2, 11) {
        return Err(invalid("Additional properties are not allowed ('forced_down' was unexpected)"));
    }
    check_reason(disabled_reason.as_deref())?;
    let mut shape = json!({"host": host, "binary": binary});
    let change = match cx.param("id") {
        "enable" => Some((true, "")),
        "disable" => Some((false, "")),
        "disable-log-reason" => {
            let reason = disabled_reason.as_deref().ok_or_else(|| invalid("Missing disabled reason field"))?;
            shape["disabled_reason"] = json!(reason);
            Some((false, reason))
        }
        "force-down" if cx.version >= Version(2, 11) => {
            refuse_forced_down(Some(forced_down.ok_or_else(|| invalid("Missing forced_down field"))?))?;
            shape["forced_down"] = json!(false);
            None
        }
        _ => return Err(Error::not_found("UnknownAction", "Unknown action")),
    };
    if binary != BINARY {
        return Err(invalid(format!(
            "Updating a {binary} service is not supported. Only {BINARY} services can be updated."
        )));
    }
    let mut tx = cx.db().begin().await?;
    let found = hosts::by_name(&mut tx, &host).await?.ok_or_else(|| {
        Error::not_found("HostBinaryNotFound", format!("Could not find binary {binary} on host {host}."))
    })?;
    if let Some((enabled, reason)) = change {
        hosts::set_enabled(&mut tx, &found.id, enabled, reason).await?;
        shape["status"] = json!(status(enabled));
    }
    tx.commit().await?;
    Reply::ok(&json!({"service": shape}))
}

/// `DELETE /v2.1/os-services/{id}`: gives up a host that is away and holds no server.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut tx = cx.db().begin().await?;
    let host = if cx.version >= Version(2, 53) {
        find(&mut tx, &uuid(cx)?).await?
    } else {
        find_by_number(&mut tx, cx.param("id")).await?.ok_or_else(|| not_found(cx.param("id")))?
    };
    // No scheduler may choose the host while it goes.
    allocations::lock(&mut tx).await?;
    let usages = allocations::usages(&mut tx).await?;
    if usages.iter().any(|usage| usage.host.id == host.id && usage.servers > 0) {
        return Err(Error::conflict(
            "ServiceInUse",
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.",
        ));
    }
    if host.is_up(cx.now()) {
        return Err(Error::conflict("ServiceIsUp", "The host is connected and would return; stop its agent first."));
    }
    hosts::forget(&mut tx, &host.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// The number that stands for a host until 2.52.
pub fn number(id: &HostId) -> u32 {
    id.as_str().bytes().fold(7_u32, |number, byte| number.wrapping_mul(31).wrapping_add(u32::from(byte))) >> 1
}

/// An id as this microversion has it.
pub fn shown_id(id: &HostId, version: Version) -> Value {
    if version >= Version(2, 53) { json!(id) } else { json!(number(id)) }
}

/// `up` or `down`.
pub fn state(host: &Host, now: Timestamp) -> &'static str {
    if host.is_up(now) { "up" } else { "down" }
}

/// `enabled` or `disabled`.
pub fn status(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

/// Why it is disabled, null where nobody said.
pub fn reason(host: &Host) -> Value {
    if host.disabled_reason.is_empty() { Value::Null } else { json!(host.disabled_reason) }
}

fn shape(host: &Host, version: Version, now: Timestamp) -> Value {
    let mut shape = json!({
        "id": shown_id(&host.id, version), "binary": BINARY, "host": host.name, "zone": host.zone,
        "status": status(host.enabled), "state": state(host, now), "disabled_reason": reason(host),
        "updated_at": host.seen_at.to_micros_naive()
    });
    if version >= Version(2, 11) {
        shape["forced_down"] = json!(false);
    }
    shape
}

async fn find(conn: &mut Conn, id: &HostId) -> Result<Host> {
    let host = hosts::get(conn, id).await?.filter(|host| host.forgotten_at.is_none());
    host.ok_or_else(|| not_found(id.as_str()))
}

async fn find_by_number(conn: &mut Conn, text: &str) -> Result<Option<Host>> {
    let wanted: u32 = text.parse().map_err(|_| invalid(format!("id must be an integer, not {text:?}.")))?;
    Ok(hosts::list(conn).await?.into_iter().find(|host| number(&host.id) == wanted))
}

/// The path's id, which must be a UUID.
fn uuid(cx: &Cx) -> Result<HostId> {
    let id = cx.param("id");
    if model::id::is_uuid_like(id) { Ok(HostId::new(id)) } else { Err(invalid(format!("Invalid uuid {id}"))) }
}

fn check_reason(reason: Option<&str>) -> Result<()> {
    match reason {
        Some(text) if text.is_empty() || text.chars().count() > REASON_CHARS_MAX => {
            Err(invalid(format!("Invalid input for disabled_reason: it has 1 to {REASON_CHARS_MAX} characters.")))
        }
        _ => Ok(()),
    }
}

/// To say that a host is not forced down is always true.
fn refuse_forced_down(wish: Option<Flag>) -> Result<()> {
    if wish == Some(Flag(true)) { Err(invalid(NO_FORCED_DOWN)) } else { Ok(()) }
}

fn not_found(id: &str) -> Error {
    Error::not_found("ServiceNotFound", format!("Service {id} could not be found."))
}
