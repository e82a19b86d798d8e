//! Imports: data that comes otherwise than by an upload, in the background.
//!
//! ```text
//! PUT stage ──> uploading ──POST import──> importing ──┬─ the flow: staged data becomes the image's
//! queued ──POST import (web-download)──────────^       ├─ a job: fetches it, or converts what was staged
//!                                                      └─ failed: queued again, the task says why
//! ```
//!
//! A job runs in a task of this process and reports that it is alive, as uploads do; the image's flow begins it, and
//! begins it again where it is unheard of, [`ATTEMPTS_MAX`] times at the most.

pub(crate) mod api;
pub(crate) mod fetch;
pub(crate) mod job;
pub(crate) mod wire;

use std::time::Duration;

use model::{Error, Result, id::ImageId};
use store::{
    Tx,
    images::tasks::{self, TaskStatus},
};

/// How often fetching is begun anew after a process died.
pub(crate) const ATTEMPTS_MAX: i64 = 3;
/// How long finished tasks are told about: Glance's default.
const TASK_KEPT: Duration = Duration::from_secs(48 * 3600);

/// Notes in the transaction that makes the image active.
pub(crate) async fn succeeded(tx: &mut Tx, image: &ImageId) -> Result<()> {
    let until = tx.now() + TASK_KEPT;
    Ok(tasks::set_status(tx, image, TaskStatus::Success, "", Some(until)).await?)
}

/// Notes in the transaction that gives the import up.
pub(crate) async fn failed(tx: &mut Tx, image: &ImageId, why: &Error) -> Result<()> {
    let until = tx.now() + TASK_KEPT;
    Ok(tasks::set_status(tx, image, TaskStatus::Failure, &why.message, Some(until)).await?)
}
