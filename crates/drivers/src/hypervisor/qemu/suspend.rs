//! A guest's memory on disk: written as QEMU would send it to another host, read back by the next start.
//!
//! The file is the agent's own and reaches QEMU as a descriptor, as taps do. It is written under another name and
//! renamed when it is whole. What the next start must look like is kept in the guest's record: the same machine, with
//! every NIC in the socket that it sits in now.

use std::{
    fs::{self, File, OpenOptions},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    guest::{Guest, blocking},
    hotplug,
    qmp::Qmp,
};
use crate::hypervisor::{GuestEnd, GuestNic, GuestPower, HypervisorError, Result};

/// Memory is written at the disk's speed.
const WRITE_TIME_MAX: Duration = Duration::from_secs(1200);
/// How often QEMU is asked how far it is: it has no event for it by default.
const ASK_PERIOD: Duration = Duration::from_millis(100);
const DESCRIPTOR: &str = "suspend";

/// Writes the memory and ends the process.
pub async fn suspend(guest: &Arc<Guest>, nics: Vec<GuestNic>) -> Result<()> {
    match guest.observe().map(|seen| seen.power) {
        Some(GuestPower::Off { end: GuestEnd::Suspended }) => return Ok(()),
        Some(power) if power.is_on() => {}
        _ => return Err(HypervisorError::NotRunning { id: guest.id().clone() }),
    }
    let qmp = guest.qmp()?;
    let (placed, sockets) = hotplug::sockets(&qmp, nics).await?;
    qmp.execute("stop", Value::Null).await?;
    let (draft, state) = (guest.paths().suspended().with_extension("draft"), guest.paths().suspended());
    if let Err(error) = write(&qmp, &draft, &state).await {
        // It goes on as if nothing had been asked.
        let _ = qmp.execute("cont", Value::Null).await;
        return Err(error);
    }
    guest.suspended(placed, sockets)?;
    guest.stop().await
}

async fn write(qmp: &Qmp, draft: &Path, state: &Path) -> Result<()> {
    let at = draft.to_owned();
    let open = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(at)
    };
    let file = blocking(open).await.map_err(HypervisorError::io("make a file for a guest's memory"))?;
    qmp.hand_over(DESCRIPTOR, &OwnedFd::from(file)).await?;
    // As fast as the disk is.
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 })).await?;
    qmp.execute("migrate", json!({ "uri": format!("fd:{DESCRIPTOR}") })).await?;
    let end = Instant::now() + WRITE_TIME_MAX;
    loop {
        let progress = qmp.execute("query-migrate", Value::Null).await?;
        match progress["status"].as_str().unwrap_or_default() {
            "completed" => break,
            "failed" | "cancelled" => {
                let reason = progress["error-desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(HypervisorError::Refused { command: "write the guest's memory".to_owned(), reason });
            }
            _ if Instant::now() > end => {
                let _ = qmp.execute("migrate_cancel", Value::Null).await;
                let what = "writing the guest's memory".to_owned();
                return Err(HypervisorError::Timeout { what, after: WRITE_TIME_MAX });
            }
            _ => sleep(ASK_PERIOD).await,
        }
    }
    let (draft, state) = (draft.to_owned(), state.to_owned());
    let keep = move || {
        File::open(&draft)?.sync_all()?;
        fs::rename(draft, state)
    };
    blocking(keep).await.map_err(HypervisorError::io("keep a guest's memory"))
}

/// Waits until QEMU has read the memory, and lets the guest go on.
pub async fn go_on(qmp: &Qmp, within: Duration) -> Result<(), String> {
    let end = Instant::now() + within;
    loop {
        let status = qmp.execute("query-status", Value::Null).await.map_err(|error| error.to_string())?;
        match status["status"].as_str().unwrap_or_default() {
            "inmigrate" if Instant::now() > end => return Err("its memory could not be read in time".to_owned()),
            "inmigrate" => sleep(ASK_PERIOD).await,
            "running" => return Ok(()),
            _ => return qmp.execute("cont", Value::Null).await.map(drop).map_err(|error| error.to_string()),
        }
    }
}
