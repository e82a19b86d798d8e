//! Disks of one host: the [`Disks`] trait, the plain data it takes and gives, and its drivers.
//!
//! | thing | lives | made by |
//! |---|---|---|
//! | base image | as long as some root disk uses it; content never changes | [`Disks::ensure_base`]: streamed, verified, renamed into place |
//! | root disk | as long as its server | [`Disks::ensure_root`]: a copy-on-write overlay on a base image |
//! | config drive | as long as its server | [`Disks::ensure_config_drive`]: an ISO 9660 file system labelled `config-2` |
//!
//! Nobody but the driver writes into its directory. No format is ever guessed: a base image's is declared by the
//! control plane, checked against the content once (`model::image_format`) and written into the overlay.

pub mod fake;
mod intake;
mod iso9660;
pub mod local;

use std::{
    io,
    path::{Path, PathBuf},
};

use futures_util::future::BoxFuture;
use model::id::{ImageId, ServerId};
use tokio::io::AsyncRead;

pub use crate::hypervisor::DiskFormat;

/// What a checkpoint of a root disk is called inside it.
pub const CHECKPOINT: &str = "nacre-checkpoint";
/// What a root disk's snapshot is called inside it while it is copied.
pub const SAVING: &str = "nacre-saving";

/// A result of a disk call.
pub type Result<T, E = DiskError> = std::result::Result<T, E>;

/// Where a base image's bytes come from. A future, so that nothing is opened when the image is here already.
pub type ImageSource<'a> = BoxFuture<'a, io::Result<Box<dyn AsyncRead + Send + Unpin>>>;

/// One host's disks. All calls are idempotent; calls for one image or one server wait for each other.
pub trait Disks: Send + Sync {
    /// Makes the image present: if it is not, reads `source` to its end, checks length, digest and format, and keeps
    /// it under its id. A failed or broken-off attempt leaves nothing behind.
    fn ensure_base<'a>(&'a self, base: &'a BaseSpec, source: ImageSource<'a>) -> BoxFuture<'a, Result<BaseImage>>;

    /// The image, if it is here.
    fn observe_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<Option<BaseImage>>>;

    /// Drops a cached image. Refused ([`DiskError::InUse`]) while a root disk stands on it.
    fn remove_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<()>>;

    /// Makes the server's root disk exist on top of a present base image, at least as large as asked: an existing one
    /// grows (its guest must be off) and never shrinks.
    fn ensure_root<'a>(&'a self, server: &'a ServerId, root: &'a RootSpec) -> BoxFuture<'a, Result<Disk>>;

    /// Makes the server's config drive hold exactly these files.
    fn ensure_config_drive<'a>(&'a self, server: &'a ServerId, files: &'a [ConfigFile]) -> BoxFuture<'a, Result<Disk>>;

    /// Removes the server's root disk with everything that hangs on it. Its guest must be off.
    fn remove_root<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Keeps the root disk as it is now, unless it is kept already. Its guest must be off.
    fn ensure_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Makes the root disk what it was when it was kept, and forgets that. Nothing to do if it was not. Its guest must
    /// be off.
    fn roll_back<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Forgets what was kept of the root disk. Nothing to do if nothing was. Its guest must be off.
    fn remove_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Makes the server's rescue disk exist, as [`Disks::ensure_root`] does the root disk.
    fn ensure_rescue<'a>(&'a self, server: &'a ServerId, disk: &'a RootSpec) -> BoxFuture<'a, Result<Disk>>;

    /// Removes the server's rescue disk. Nothing to do if it has none. Its guest must not use it.
    fn remove_rescue<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Copies the root disk into a file that stands for itself: as it is, its guest being off, or as the snapshot of that
    /// name inside it has it, its guest running. A copy that is there already stays: its file.
    fn ensure_export<'a>(
        &'a self,
        server: &'a ServerId,
        image: &'a ImageId,
        snapshot: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PathBuf>>;

    /// The copy that [`Disks::ensure_export`] made, if it is there.
    fn observe_export<'a>(&'a self, server: &'a ServerId, image: &'a ImageId)
    -> BoxFuture<'a, Result<Option<PathBuf>>>;

    /// Removes the server's copies. Nothing to do if it has none.
    fn remove_exports<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Removes every disk of the server. Nothing to do if it has none.
    fn remove_server<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>>;

    /// Everything that is here, for the doctor and for evicting base images.
    fn list(&self) -> BoxFuture<'_, Result<Inventory>>;

    /// Removes something that the inventory calls a stray. Nothing to do if it is none (any more).
    fn remove_stray<'a>(&'a self, stray: &'a Path) -> BoxFuture<'a, Result<()>>;

    /// Room on the file system that holds the disks.
    fn usage(&self) -> BoxFuture<'_, Result<Usage>>;
}

/// A base image as the control plane describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseSpec {
    /// The image.
    pub image: ImageId,
    /// Its declared format.
    pub format: DiskFormat,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// What its bytes must hash to.
    pub digest: Digest,
}

/// An expected digest, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256.
    Sha256(String),
    /// SHA-512: Glance's `os_hash_value`.
    Sha512(String),
}

/// A cached base image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// The image.
    pub image: ImageId,
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Length of the file.
    pub size_bytes: u64,
    /// Size of the disk that a guest sees.
    pub virtual_bytes: u64,
}

/// A wanted root disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSpec {
    /// The base image it stands on.
    pub base: ImageId,
    /// Size; 0: as large as the base image.
    pub size_gib: u64,
}

/// A disk of a server, ready to be handed to the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Size of the disk that a guest sees.
    pub virtual_bytes: u64,
}

/// A file of a config drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Path with `/`: `openstack/latest/meta_data.json`.
    pub path: String,
    /// Content.
    pub content: Vec<u8>,
}

/// What a host's disk directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Cached base images.
    pub bases: Vec<BaseImage>,
    /// Servers that have disks here, each with the base image of its root disk.
    pub servers: Vec<ServerDisks>,
    /// What is here and is neither.
    pub strays: Vec<PathBuf>,
}

/// The disks of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDisks {
    /// The server.
    pub server: ServerId,
    /// The base image of its root disk, if it has a root disk.
    pub base: Option<ImageId>,
    /// Bytes that its disks occupy on the host.
    pub allocated_bytes: u64,
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub total_bytes: u64,
    /// What an unprivileged user can still write.
    pub free_bytes: u64,
}

/// Why a disk call failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The base image is not here; call [`Disks::ensure_base`] first.
    #[error("base image {0} is not on this host")]
    NoBase(ImageId),
    /// A root disk stands on the base image.
    #[error("base image {image} is used by server {server}")]
    InUse {
        /// The image.
        image: ImageId,
        /// One of its users.
        server: ServerId,
    },
    /// The bytes are not those that the control plane announced.
    #[error("image {image}: {reason}")]
    Corrupt {
        /// The image.
        image: ImageId,
        /// What differs.
        reason: String,
    },
    /// The content is not what the declared format promises, or is unsafe.
    #[error("image {image}: {reason}")]
    BadFormat {
        /// The image.
        image: ImageId,
        /// Why.
        reason: String,
    },
    /// The disk asked for can't hold the base image.
    #[error("a disk of {asked_bytes} bytes can't hold the image's {needed_bytes}")]
    TooSmall {
        /// Wanted.
        asked_bytes: u64,
        /// Needed.
        needed_bytes: u64,
    },
    /// An existing root disk stands on another base image: remove it first.
    #[error("server {server} has a root disk of another image ({found})")]
    OtherBase {
        /// The server.
        server: ServerId,
        /// What it stands on.
        found: String,
    },
    /// The request can't be carried out as it is.
    #[error("{0}")]
    Invalid(String),
    /// The file system is full, or nearly.
    #[error("not enough room: {needed_bytes} bytes needed, {free_bytes} free")]
    NoRoom {
        /// Needed.
        needed_bytes: u64,
        /// Free.
        free_bytes: u64,
    },
    /// `qemu-img` failed; the text is what it said.
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

impl DiskError {
    /// Adds what was done to an error of the system; for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
