//! Column `servers.life`: what lasts from one operation on a server to a later one.

use model::id::{FlavorId, ImageId};
use serde::{Deserialize, Serialize};

use super::servers::{FlavorCopy, ImageCopy};

/// What a server is apart from being on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A server as any.
    #[default]
    Plain,
    /// It runs from a rescue image, its own disk beside it.
    Rescued,
    /// It has another flavor, which is to be confirmed or reverted.
    Resized,
    /// It is off, and an image of it is kept.
    Shelved,
    /// Only an image of it is kept: it is on no host.
    Offloaded,
    /// It was deleted and can be restored.
    SoftDeleted,
}

/// An image that a disk is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskImage {
    /// The image.
    pub id: ImageId,
    /// As it was when it was chosen.
    pub image: ImageCopy,
}

/// The flavor before a resize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldFlavor {
    /// Its id.
    pub id: FlavorId,
    /// As it was copied.
    pub flavor: FlavorCopy,
    /// Whether the server ran.
    pub was_running: bool,
}

/// An image that is being made of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The image.
    pub image: ImageId,
    /// For backups: their kind, and how many are kept.
    pub backup: Option<(String, i64)>,
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// What it is.
    pub mode: Mode,
    /// Since when, in microseconds since 1970.
    pub since: i64,
    /// Raised when its disks are to be made anew: rebuild, unshelve.
    pub build: i64,
    /// Raised when its root disk is to be again what it was before a resize.
    pub rollback: i64,
    /// The flavor before a resize that is not confirmed yet.
    pub old: Option<OldFlavor>,
    /// What its root disk is made from, where that is not its image: the image it was shelved as.
    pub root: Option<DiskImage>,
    /// What it is rescued with.
    pub rescue: Option<DiskImage>,
    /// The image that it is shelved as.
    pub shelved_as: Option<ImageId>,
    /// An administrator who is not its owner has locked it.
    pub locked_by_admin: bool,
    /// The image that is being made of it.
    pub snapshot: Option<Snapshot>,
}
