//! Volumes of one back end: the [`Volumes`] trait, the plain data it takes and gives, and its drivers.
//!
//! | thing | lives | made by |
//! |---|---|---|
//! | volume | until it is removed, whatever becomes of servers | [`Volumes::ensure_volume`]: empty, or a copy of an image, a volume or a snapshot |
//! | snapshot | inside its volume, and no longer than it | [`Volumes::ensure_snapshot`]: what the volume held at that moment |
//!
//! A volume that a guest has open changes only through the guest's hypervisor: the driver refuses
//! ([`VolumeError::InUse`]) and leaves it as it is. Nothing that a volume holds decides how it is opened: its format and
//! its size are the driver's own.

pub mod fake;
pub mod local;
mod qemu_img;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use futures_util::future::BoxFuture;
use model::id::{VolumeId, VolumeSnapshotId};
use zeroize::Zeroizing;

pub use crate::disk::{DiskFormat, Usage};

/// A result of a volume call.
pub type Result<T, E = VolumeError> = std::result::Result<T, E>;

/// The volumes of one back end. All calls are idempotent; calls for one volume wait for each other.
pub trait Volumes: Send + Sync {
    /// Makes the volume exist, at least as large as asked: if it does not, it is made from `origin`; if it does, it
    /// grows and never shrinks. A failed or broken-off attempt leaves nothing behind.
    fn ensure_volume<'a>(&'a self, spec: &'a VolumeSpec, origin: Origin<'a>) -> BoxFuture<'a, Result<Volume>>;

    /// The volume, if it is there. Works while a guest has it open.
    fn observe_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<Option<Volume>>>;

    /// Removes the volume with its snapshots. Nothing to do if it is not there.
    fn remove_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<()>>;

    /// Makes the snapshot exist: what the volume holds now, unless it was taken before.
    fn ensure_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>>;

    /// Removes the snapshot. Nothing to do if it, or its volume, is not there.
    fn remove_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>>;

    /// Makes the volume hold again what it held when the snapshot was taken. Other snapshots stay.
    fn revert<'a>(&'a self, volume: &'a VolumeRef, snapshot: &'a VolumeSnapshotId) -> BoxFuture<'a, Result<()>>;

    /// Writes all of a volume or snapshot into a file that was not there before: an image for upload, in plain text.
    fn copy_out<'a>(&'a self, from: Origin<'a>, to: &'a Path, format: DiskFormat) -> BoxFuture<'a, Result<()>>;

    /// Everything that is here, for the doctor.
    fn list(&self) -> BoxFuture<'_, Result<Inventory>>;

    /// Removes something that the inventory calls a stray. Nothing to do if it is none (any more).
    fn remove_stray<'a>(&'a self, stray: &'a Path) -> BoxFuture<'a, Result<()>>;

    /// Room of the back end.
    fn usage(&self) -> BoxFuture<'_, Result<Usage>>;
}

/// The key of an encrypted volume: text of high entropy, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<String>);

impl Key {
    /// From its text, at least 32 characters.
    ///
    /// # Errors
    /// [`VolumeError::Invalid`] for a shorter one: the volume's cipher trusts in its entropy.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        if text.len() < 32 {
            return Err(VolumeError::Invalid("a volume's key needs 32 characters or more".to_owned()));
        }
        Ok(Self(text))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A volume, and what it takes to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRef {
    /// The volume.
    pub id: VolumeId,
    /// Set if its data is encrypted (LUKS).
    pub key: Option<Key>,
}

/// A wanted volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// The volume; with a key its data is encrypted at rest.
    pub volume: VolumeRef,
    /// Size that a guest sees.
    pub size_bytes: u64,
}

/// What a new volume holds at first.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// Zeros.
    Empty,
    /// A disk image whose format was verified (a base image of this host).
    File {
        /// Its file.
        path: &'a Path,
        /// Its format.
        format: DiskFormat,
    },
    /// Another volume, as it is now. No guest may be writing to it.
    Volume(&'a VolumeRef),
    /// A snapshot.
    Snapshot(&'a VolumeRef, &'a VolumeSnapshotId),
}

/// A volume as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub id: VolumeId,
    /// Where its data lies.
    pub location: Location,
    /// Size that a guest sees.
    pub size_bytes: u64,
    /// Bytes that it occupies, snapshots included.
    pub allocated_bytes: u64,
    /// Whether its data is encrypted.
    pub is_encrypted: bool,
    /// Its snapshots, sorted.
    pub snapshots: Vec<VolumeSnapshotId>,
}

/// What a hypervisor opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of this host.
    File {
        /// Its path.
        path: PathBuf,
        /// Its format.
        format: DiskFormat,
    },
}

/// What a back end holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Volumes, sorted.
    pub volumes: Vec<VolumeId>,
    /// What is there and is none.
    pub strays: Vec<PathBuf>,
}

/// Why a volume call failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The volume is not there.
    #[error("volume {0} is not there")]
    NoVolume(VolumeId),
    /// The snapshot is not there.
    #[error("volume {volume} has no snapshot {snapshot}")]
    NoSnapshot {
        /// The volume.
        volume: VolumeId,
        /// The snapshot.
        snapshot: VolumeSnapshotId,
    },
    /// A guest has it open.
    #[error("volume {0} is open in a guest")]
    InUse(VolumeId),
    /// The volume asked for can't hold what it is to be made from.
    #[error("a volume of {asked_bytes} bytes can't hold the {needed_bytes} bytes it is made from")]
    TooSmall {
        /// Wanted.
        asked_bytes: u64,
        /// Needed.
        needed_bytes: u64,
    },
    /// The key opens nothing.
    #[error("the key does not open volume {0}")]
    WrongKey(VolumeId),
    /// The request can't be carried out as it is.
    #[error("{0}")]
    Invalid(String),
    /// The back end is full, or nearly.
    #[error("not enough room: {needed_bytes} bytes needed, {free_bytes} free")]
    NoRoom {
        /// Needed.
        needed_bytes: u64,
        /// Free.
        free_bytes: u64,
    },
    /// A tool failed; the text is what it said.
    #[error("{tool}: {reason}")]
    Tool {
        /// The command.
        tool: String,
        /// Its words.
        reason: String,
    },
    /// The host's file system.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl VolumeError {
    /// Adds what was done to an error of the system; for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
