//! Why an attempt failed, and whether another may help.

use std::io;

use drivers::{disk::DiskError, hypervisor::HypervisorError, network::NetworkError};

/// A failed attempt. Its text becomes the server's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("an image of the server can't be delivered: {0}")]
    Delivery(io::Error),
    #[error("the ledger can't be written: {0}")]
    Ledger(io::Error),
    #[error("the spec can't be carried out: {0}")]
    InvalidSpec(String),
}

impl Failure {
    /// Whether only a new spec can help. What may pass by itself (no room, an engine that restarts, a control plane
    /// that is away) is not final.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Disk(error) => match error {
                DiskError::Corrupt { .. }
                | DiskError::BadFormat { .. }
                | DiskError::TooSmall { .. }
                | DiskError::OtherBase { .. }
                | DiskError::Invalid(_) => true,
                DiskError::Io { source, .. } => is_refused_image(source),
                _ => false,
            },
            Self::Hypervisor(error) => matches!(
                error,
                HypervisorError::InvalidSpec { .. }
                    | HypervisorError::Unsupported(_)
                    | HypervisorError::StaleBoot { .. }
            ),
            Self::Network(error) => matches!(error, NetworkError::Unsupported(_)),
            Self::Delivery(error) => is_refused_image(error),
            Self::Ledger(_) => false,
            Self::InvalidSpec(_) => true,
        }
    }
}

/// The control plane said that this host can't have the image.
#[derive(Debug, thiserror::Error)]
#[error("the image can't be had: {0}")]
pub(crate) struct RefusedImage(pub(crate) String);

fn is_refused_image(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<RefusedImage>() || inner.source().is_some_and(|s| s.is::<RefusedImage>()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_can_not_pass_is_final() {
        let refused = io::Error::other(RefusedImage("deleted".into()));
        let away = io::Error::new(io::ErrorKind::NotConnected, "away");
        let timeout = HypervisorError::Timeout { what: "start".into(), after: Duration::ZERO };
        let cases: [(Failure, bool); 6] = [
            (DiskError::io("image")(refused).into(), true),
            (DiskError::io("image")(away).into(), false),
            (DiskError::NoRoom { needed_bytes: 2, free_bytes: 1 }.into(), false),
            (DiskError::TooSmall { asked_bytes: 1, needed_bytes: 2 }.into(), true),
            (timeout.into(), false),
            (NetworkError::Rejected("?".into()).into(), false),
        ];
        for (failure, is_final) in cases {
            assert_eq!(failure.is_final(), is_final, "{failure}");
        }
    }
}
