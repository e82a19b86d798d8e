//! Removes rows of servers that have been gone for long enough.

use std::{sync::Arc, time::Duration};

use model::Result;
use store::compute::servers;

use crate::State;

const INTERVAL: Duration = Duration::from_secs(3600);
/// Rows per transaction: others write in between.
const BATCH: i64 = 200;

pub(super) async fn run(state: Arc<State>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        match sweep(&state).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "rows of deleted servers removed"),
            Err(error) => tracing::error!(?error, "rows of deleted servers could not be removed"),
        }
    }
}

/// One run. How many rows.
pub(crate) async fn sweep(state: &State) -> Result<u64> {
    let before = state.db.clock().now() - state.config.keep_deleted;
    let mut all = 0;
    loop {
        let mut tx = state.db.begin().await?;
        let purged = servers::purge(&mut tx, before, BATCH).await?;
        tx.commit().await?;
        all += purged;
        if purged == 0 {
            return Ok(all);
        }
    }
}
