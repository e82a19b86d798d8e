//! How this host becomes one of a cloud's, and what it shows from then on.

use std::{
    io,
    path::{Path, PathBuf},
};

use hostlink::{
    join::{JoinError, JoinToken, join as buy_certificate},
    pki::Identity,
};
use model::id::HostId;

use crate::{facts, ledger::blocking};

/// Why the host could not join.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The state directory is not usable.
    #[error("the agent's state directory: {0}")]
    State(#[from] io::Error),
    /// The token, the network, or the control plane's answer.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// Joins the cloud that made the token, at `address` (`host:port`), and keeps the identity it gives.
///
/// # Errors
/// Says what to change: the token, the address, the state directory.
pub async fn join(state_dir: &Path, host_name: &str, address: &str, token: &str) -> Result<(), MembershipError> {
    let token: JoinToken = token.parse()?;
    let folder = state_dir.join("agent");
    let id_file = folder.join("host-id");
    let host_id = blocking(move || {
        facts::private_folder(&folder)?;
        facts::host_id(&id_file)
    })
    .await?;
    let identity = buy_certificate(address, &token, &HostId::new(host_id), host_name).await?;
    let folder = identity_folder(state_dir);
    blocking(move || identity.save(&folder)).await?;
    Ok(())
}

/// What this host shows to the control plane; `None` before it has joined.
///
/// # Errors
/// When the files can't be read.
pub async fn identity(state_dir: &Path) -> io::Result<Option<Identity>> {
    let folder = identity_folder(state_dir);
    blocking(move || Identity::load(&folder)).await
}

fn identity_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("agent/identity")
}
