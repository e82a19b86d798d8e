//! `POST /servers/{id}/action`: intent is written, the flow brings it about.

use model::{Error, ErrorKind, Result};
use serde_json::json;
use store::{
    Tx,
    compute::{
        actions,
        servers::{self, Change, Server},
    },
    flows,
};
use web::{Cx, Reply};

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
