//! Periodic whole-table work.

mod purge;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::State;

/// All of them, for as long as the process lives.
pub fn all(state: &Arc<State>) -> BoxFuture<'static, ()> {
    Box::pin(purge::run(state.clone()))
}
