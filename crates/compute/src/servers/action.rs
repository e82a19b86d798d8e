//! `POST /servers/{id}/action`: intent is written, the flow brings it about.

use model::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use store::{
    Tx,
    compute::{
        actions,
        servers::{self, Change, Server, VmState},
    },
    flows,
};
use web::{Cx, Reply, Version};

use super::{
    api, logic,
    logic::{Legal, legal},
    wire::{ConsoleOutput, Reboot},
};
use crate::{State, input::invalid};

/// Begins an instance action that is over when the host has reached the server's present generation.
///
/// # Errors
/// When the database fails.
pub async fn begin(cx: &Cx, tx: &mut Tx, server: &Server, action: &str, event: &str) -> Result<()> {
    let action = actions::Action {
        request_id: cx.request_id.clone(),
        server_id: server.id.clone(),
        generation: server.wanted.generation,
        action: action.to_owned(),
        user_id: cx.caller.user().as_str().to_owned(),
        project_id: cx.caller.project().map_or_else(String::new, |p| p.as_str().to_owned()),
        message: None,
        start_at: tx.now(),
        updated_at: tx.now(),
        finish_at: None,
    };
    let host = server.host.as_ref().map(|host| host.name.as_str());
    Ok(actions::begin(tx, &action, event, host).await?)
}

/// Writes an intent, if it is legal now.
async fn want(cx: &Cx, legal: Legal, change: Change, event: &str) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_for_change(cx, &mut tx).await?;
    logic::check(&server, legal)?;
    if server.launched_at.is_none() {
        let message = format!("Instance {} has not been launched", server.id);
        return Err(Error::conflict("InstanceNotReady", message));
    }
    logic::change(&mut server, change, tx.now());
    servers::update(&mut tx, &server).await?;
    begin(cx, &mut tx, &server, legal.action, event).await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `os-getConsoleOutput`.
pub async fn console_output(cx: &Cx) -> Result<Reply> {
    let body: serde_json::Map<String, serde_json::Value> = cx.json()?;
    let asked = body.get("os-getConsoleOutput").cloned().unwrap_or_default();
    let asked: ConsoleOutput = match asked {
        serde_json::Value::Null => ConsoleOutput::default(),
        given => {
            serde_json::from_value(given).map_err(|e| invalid(format!("Invalid input for os-getConsoleOutput: {e}")))?
        }
    };
    // Nova takes -1 for all, and any other negative number for nothing good.
    let lines = match asked.length.map(|length| length.0) {
        None | Some(-1) => 0,
        Some(length) => u32::try_from(length)
            .map_err(|_| invalid(format!("Invalid input for field/attribute length. Value: {length}.")))?,
    };
    if asked.length.is_some_and(|length| length.0 == 0) {
        api::load(cx, &mut *cx.db().read().await?).await?;
        return Reply::ok(&json!({"output": ""}));
    }
    let server = api::load(cx, &mut *cx.db().read().await?).await?;
    let not_ready = || Error::conflict("InstanceNotReady", format!("Instance {} is not ready", server.id));
    let host = server.host.as_ref().filter(|_| server.told_generation > 0).ok_or_else(not_ready)?;
    let state: &State = cx.state()?;
    let text = match state.hub.console_log(&host.id, server.id.as_str(), lines).await {
        Ok(text) => text,
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Reply::ok(&json!({"output": printable(&text)}))
}

/// Console logs hold whatever guests write; JSON holds text.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r' | '\u{1b}'))
        .collect()
}

/// `reboot`.
pub async fn reboot(cx: &Cx) -> Result<Reply> {
    let Reboot { kind } = cx.json_in("reboot")?;
    match kind.to_ascii_uppercase().as_str() {
        "SOFT" => want(cx, legal::REBOOT, Change::Reboot, "compute_reboot_instance").await,
        "HARD" => want(cx, legal::REBOOT_HARD, Change::RebootHard, "compute_reboot_instance").await,
        _ => {
            Err(invalid(format!("Invalid input for field/attribute type. Value: {kind}. It is neither SOFT nor HARD")))
        }
    }
}

/// `os-start`.
pub async fn start(cx: &Cx) -> Result<Reply> {
    want(cx, legal::START, Change::Start, "compute_start_instance").await
}

/// `os-stop`.
pub async fn stop(cx: &Cx) -> Result<Reply> {
    want(cx, legal::STOP, Change::Stop, "compute_stop_instance").await
}

/// `pause`.
pub async fn pause(cx: &Cx) -> Result<Reply> {
    want(cx, legal::PAUSE, Change::Pause, "compute_pause_instance").await
}

/// `unpause`.
pub async fn unpause(cx: &Cx) -> Result<Reply> {
    want(cx, legal::UNPAUSE, Change::Unpause, "compute_unpause_instance").await
}

/// `suspend`.
pub async fn suspend(cx: &Cx) -> Result<Reply> {
    want(cx, legal::SUSPEND, Change::Suspend, "compute_suspend_instance").await
}

/// `resume`.
pub async fn resume(cx: &Cx) -> Result<Reply> {
    want(cx, legal::RESUME, Change::Resume, "compute_resume_instance").await
}

/// `lock`: from 2.73 on with a reason.
pub async fn lock(cx: &Cx) -> Result<Reply> {
    let body: Value = cx.json()?;
    let reason = match &body["lock"] {
        Value::Null => None,
        Value::Object(fields) if cx.version >= Version(2, 73) => match fields.get("locked_reason") {
            _ if fields.keys().any(|key| key != "locked_reason") => {
                return Err(invalid("Additional properties are not allowed beside locked_reason"));
            }
            None => None,
            Some(Value::String(text)) if (1..=255).contains(&text.chars().count()) => Some(text.clone()),
            Some(_) => return Err(invalid("Invalid input for field/attribute locked_reason: 1 to 255 characters.")),
        },
        _ if cx.version < Version(2, 73) => None,
        _ => return Err(invalid("Invalid input for field/attribute lock.")),
    };
    set_lock(cx, true, reason, "lock").await
}

/// `unlock`. Who locked as an administrator is asked for: others can't undo that.
pub async fn unlock(cx: &Cx) -> Result<Reply> {
    set_lock(cx, false, None, "unlock").await
}

async fn set_lock(cx: &Cx, locked: bool, reason: Option<String>, name: &str) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_locked(cx, &mut tx).await?;
    let is_admin = cx.caller.has_role("admin");
    if !locked && server.locked && server.life.locked_by_admin && !is_admin {
        cx.authorize_rule("os_compute_api:os-lock-server:unlock:unlock_override", &api::target(&server))?;
    }
    server.locked = locked;
    server.locked_reason = reason;
    server.life.locked_by_admin = locked && is_admin && cx.caller.user() != server.user_id;
    server.updated_at = tx.now();
    servers::update(&mut tx, &server).await?;
    begin(cx, &mut tx, &server, name, &format!("compute_{name}_instance")).await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `os-resetState`: administrators say what state is shown.
pub async fn reset_state(cx: &Cx) -> Result<Reply> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ResetState {
        state: String,
    }
    let ResetState { state } = cx.json_in("os-resetState")?;
    let vm_state = match state.as_str() {
        "active" => VmState::Active,
        "error" => VmState::Error,
        _ => return Err(invalid(format!("Invalid input for field/attribute state. Value: {state}."))),
    };
    let mut tx = cx.db().begin().await?;
    let mut server = api::load_locked(cx, &mut tx).await?;
    let now = tx.now();
    server.wanted.change = Change::None;
    server.shown.vm_state = vm_state;
    logic::refresh(&mut server, now);
    servers::update(&mut tx, &server).await?;
    begin(cx, &mut tx, &server, "resetState", "compute_reset_state").await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `changePassword`, by the guest's own agent.
pub async fn change_password(cx: &Cx) -> Result<Reply> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ChangePassword {
        #[serde(rename = "adminPass")]
        admin_pass: String,
    }
    let ChangePassword { admin_pass } = cx.json_in("changePassword")?;
    let mut tx = cx.db().begin().await?;
    let server = api::load_for_change(cx, &mut tx).await?;
    drop(tx);
    logic::check(&server, legal::PASSWORD)?;
    let state: &State = cx.state()?;
    let not_ready = || Error::conflict("InstanceNotReady", format!("Instance {} is not ready", server.id));
    let host = server.host.as_ref().ok_or_else(not_ready)?;
    let user = server.image.properties.get("os_admin_user").cloned().unwrap_or_default();
    let ask = hostlink::SetPassword { server_id: server.id.to_string(), user, password: admin_pass };
    state.hub.set_password(&host.id, ask).await.map_err(|error| match error.kind {
        ErrorKind::Unsupported | ErrorKind::NotFound => Error::conflict(
            "InstancePasswordSetFailed",
            format!("Failed to set admin password on {} because {}", server.id, error.message),
        ),
        _ => error,
    })?;
    let mut tx = cx.db().begin().await?;
    begin(cx, &mut tx, &server, "changePassword", "compute_set_admin_password").await?;
    flows::wake(&mut tx, &server.id);
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// `GET /servers/{id}/diagnostics`.
pub async fn diagnostics(cx: &Cx) -> Result<Reply> {
    let server = api::load(cx, &mut *cx.db().read().await?).await?;
    logic::check(&server, legal::DIAGNOSE)?;
    let state: &State = cx.state()?;
    let not_ready = || Error::conflict("InstanceNotReady", format!("Instance {} is not ready", server.id));
    let host = server.host.as_ref().ok_or_else(not_ready)?;
    let found = match state.hub.diagnostics(&host.id, server.id.as_str()).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Err(not_ready()),
        other => other?,
    };
    Reply::ok(&super::diagnostics::shape(&server, &found, cx.version))
}
