//! The `local` driver: qcow2 files in a directory of the host, with snapshots inside them.
//!
//! ```text
//! ROOT/<volume>.qcow2     a volume with all of its snapshots
//! ROOT/<volume>.draft     one that is being made, or was when the agent died
//! ```
//!
//! Snapshots are inside the file, not a chain of files: any of them can go at any time, nothing has to be merged, and a
//! crash can't lose a link. A volume is written under another name, flushed, then renamed: a file with its final name
//! is whole. `qemu-img` and guests keep each other out by QEMU's own locks on the file.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use model::id::{VolumeId, VolumeSnapshotId};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{
    DiskFormat, Inventory, Location, Origin, Result, Usage, Volume, VolumeError, VolumeRef, VolumeSpec, Volumes,
    qemu_img::{Node, QemuImg},
};
use crate::{hypervisor::RunAs, locks::Locks};

/// Room that stays free when a volume is copied.
const RESERVE_BYTES: u64 = 256 << 20;

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The directory that the driver owns.
    pub root: PathBuf,
    /// `qemu-img`.
    pub qemu_img: PathBuf,
    /// The user that guests run as, to whom volumes will belong.
    pub owner: Option<RunAs>,
}

impl LocalConfig {
    /// The usual setting, in that directory.
    pub fn new(root: impl Into<PathBuf>, owner: Option<RunAs>) -> Self {
        Self { root: root.into(), qemu_img: "/usr/bin/qemu-img".into(), owner }
    }
}

/// See the module's text.
pub struct LocalVolumes {
    root: PathBuf,
    owner: Option<RunAs>,
    tool: QemuImg,
    locks: Locks<VolumeId, Arc<RwLock<()>>>,
}

/// A volume to oneself, and perhaps another one to read.
type Turn = (OwnedRwLockWriteGuard<()>, Option<OwnedRwLockReadGuard<()>>);

/// What a new volume is copied from.
struct Source<'a> {
    node: Node<'a>,
    of: Option<&'a VolumeRef>,
    snapshot: Option<&'a VolumeSnapshotId>,
}

impl LocalVolumes {
    /// Takes the directory, and clears what a broken-off copy left there.
    pub async fn open(config: LocalConfig) -> Result<Self> {
        let root = std::path::absolute(&config.root).map_err(VolumeError::io("find the volume directory"))?;
        let folder = root.clone();
        blocking("open the volume directory", move || {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder)?;
            for path in entries(&folder)?.iter().filter(|path| has_extension(path, "draft")) {
                remove_file(path)?;
            }
            Ok(())
        })
        .await?;
        Ok(Self { root, owner: config.owner, tool: QemuImg(config.qemu_img), locks: Locks::default() })
    }

    fn path(&self, volume: &VolumeId, extension: &str) -> Result<PathBuf> {
        let id = volume.as_str();
        if !crate::is_file_name(id) {
            return Err(VolumeError::Invalid(format!("{id:?} can't be a file's name")));
        }
        Ok(self.root.join(format!("{id}.{extension}")))
    }

    /// Locks in the order of ids, so that two copies in opposite directions don't wait for each other.
    async fn turn(&self, volume: &VolumeId, reading: Option<&VolumeId>) -> Turn {
        let own = self.locks.get(volume);
        let Some(other) = reading.filter(|other| *other != volume) else {
            return ((*own).clone().write_owned().await, None);
        };
        let read = self.locks.get(other);
        if other < volume {
            let read = (*read).clone().read_owned().await;
            ((*own).clone().write_owned().await, Some(read))
        } else {
            let own = (*own).clone().write_owned().await;
            (own, Some((*read).clone().read_owned().await))
        }
    }

    async fn observed(&self, volume: &VolumeId) -> Result<Option<Volume>> {
        let path = self.path(volume, "qcow2")?;
        if !tokio::fs::try_exists(&path).await.map_err(VolumeError::io("look for a volume"))? {
            return Ok(None);
        }
        let info = self.tool.info(&path, true).await?;
        let mut snapshots: Vec<_> = info.snapshots.into_iter().map(|s| VolumeSnapshotId::new(s.name)).collect();
        snapshots.sort();
        Ok(Some(Volume {
            id: volume.clone(),
            location: Location::File { path, format: DiskFormat::Qcow2 },
            size_bytes: info.virtual_size,
            allocated_bytes: info.actual_size,
            is_encrypted: info.encrypted,
            snapshots,
        }))
    }

    async fn present(&self, volume: &VolumeId) -> Result<Volume> {
        self.observed(volume).await?.ok_or_else(|| VolumeError::NoVolume(volume.clone()))
    }

    async fn create(&self, spec: &VolumeSpec, source: Option<Source<'_>>) -> Result<()> {
        let id = &spec.volume.id;
        let (draft, path) = (self.path(id, "draft")?, self.path(id, "qcow2")?);
        let made = self.fill(spec, &draft, source).await;
        let (owner, leftover) = (self.owner, draft.clone());
        match made {
            Ok(()) => blocking("keep a volume", move || keep(&draft, &path, owner)).await,
            Err(error) => {
                blocking("drop a draft", move || remove_file(&leftover)).await?;
                Err(error)
            }
        }
    }

    async fn fill(&self, spec: &VolumeSpec, draft: &Path, source: Option<Source<'_>>) -> Result<()> {
        let target = Node { path: draft, format: DiskFormat::Qcow2, key: spec.volume.key.as_ref() };
        if let Some(source) = &source {
            let (needed, occupied) = self.measure(source).await?;
            if needed > spec.size_bytes {
                return Err(VolumeError::TooSmall { asked_bytes: spec.size_bytes, needed_bytes: needed });
            }
            self.expect_room(occupied).await?;
        }
        let blank = draft.to_owned();
        blocking("clear a draft", move || remove_file(&blank)).await?;
        self.tool.create(target, spec.size_bytes).await?;
        match source {
            Some(source) => self.copy(&source, target, spec.size_bytes).await,
            None => Ok(()),
        }
    }

    async fn copy(&self, source: &Source<'_>, target: Node<'_>, bytes: u64) -> Result<()> {
        let snapshot = source.snapshot.map(VolumeSnapshotId::as_str);
        let copied = self.tool.copy(source.node, snapshot, target, bytes).await;
        match source.of {
            Some(of) => copied.map_err(|error| explained(error, &of.id)),
            None => copied,
        }
    }

    async fn expect_room(&self, needed: u64) -> Result<()> {
        let (needed_bytes, free_bytes) = (needed.saturating_add(RESERVE_BYTES), self.usage().await?.free_bytes);
        if needed_bytes > free_bytes { Err(VolumeError::NoRoom { needed_bytes, free_bytes }) } else { Ok(()) }
    }

    /// Size that a guest sees, and bytes occupied at most.
    async fn measure(&self, source: &Source<'_>) -> Result<(u64, u64)> {
        let Some(of) = source.of else {
            if source.node.format == DiskFormat::Raw {
                let file = tokio::fs::metadata(source.node.path).await.map_err(VolumeError::io("look at an image"))?;
                return Ok((file.len(), file.len()));
            }
            let info = self.tool.info(source.node.path, true).await?;
            return Ok((info.virtual_size, info.actual_size));
        };
        let volume = self.present(&of.id).await?;
        if let Some(snapshot) = source.snapshot.filter(|snapshot| !volume.snapshots.contains(snapshot)) {
            return Err(VolumeError::NoSnapshot { volume: of.id.clone(), snapshot: snapshot.clone() });
        }
        Ok((volume.size_bytes, volume.allocated_bytes))
    }

    /// A change of a volume that is there, in its turn.
    async fn change(&self, volume: &VolumeRef, action: &str, snapshot: &VolumeSnapshotId) -> Result<()> {
        let path = self.path(&volume.id, "qcow2")?;
        let node = Node { path: &path, format: DiskFormat::Qcow2, key: volume.key.as_ref() };
        let done = self.tool.snapshot(action, snapshot.as_str(), node).await;
        done.map_err(|error| explained(error, &volume.id))
    }

    async fn ensure(&self, spec: &VolumeSpec, origin: Origin<'_>) -> Result<Volume> {
        let id = &spec.volume.id;
        let reading = match origin {
            Origin::Volume(volume) | Origin::Snapshot(volume, _) => Some(&volume.id),
            Origin::Empty | Origin::File { .. } => None,
        };
        let _turn = self.turn(id, reading).await;
        match self.observed(id).await? {
            Some(found) if found.size_bytes >= spec.size_bytes => return Ok(found),
            Some(_) => {
                let path = self.path(id, "qcow2")?;
                let node = Node { path: &path, format: DiskFormat::Qcow2, key: spec.volume.key.as_ref() };
                self.tool.grow(node, spec.size_bytes).await.map_err(|error| explained(error, id))?;
            }
            None => {
                let path = reading.map(|of| self.path(of, "qcow2")).transpose()?;
                self.create(spec, source(origin, path.as_deref())).await?;
            }
        }
        self.present(id).await
    }
}

/// What an origin means to `qemu-img`; `path` is that of the volume it reads.
fn source<'a>(origin: Origin<'a>, path: Option<&'a Path>) -> Option<Source<'a>> {
    let of_volume = |volume: &'a VolumeRef, snapshot| {
        let node = Node { path: path?, format: DiskFormat::Qcow2, key: volume.key.as_ref() };
        Some(Source { node, of: Some(volume), snapshot })
    };
    match origin {
        Origin::Empty => None,
        Origin::File { path, format } => {
            Some(Source { node: Node { path, format, key: None }, of: None, snapshot: None })
        }
        Origin::Volume(volume) => of_volume(volume, None),
        Origin::Snapshot(volume, snapshot) => of_volume(volume, Some(snapshot)),
    }
}

/// QEMU's words about locks and keys, as what they mean.
fn explained(error: VolumeError, volume: &VolumeId) -> VolumeError {
    match &error {
        VolumeError::Tool { reason, .. } if reason.contains("Failed to get") && reason.contains("lock") => {
            VolumeError::InUse(volume.clone())
        }
        VolumeError::Tool { reason, .. }
            if reason.contains("Invalid password") || reason.contains("encrypt.key-secret") =>
        {
            VolumeError::WrongKey(volume.clone())
        }
        _ => error,
    }
}

impl Volumes for LocalVolumes {
    fn ensure_volume<'a>(&'a self, spec: &'a VolumeSpec, origin: Origin<'a>) -> BoxFuture<'a, Result<Volume>> {
        Box::pin(self.ensure(spec, origin))
    }

    fn observe_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<Option<Volume>>> {
        Box::pin(self.observed(volume))
    }

    fn remove_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _turn = self.turn(volume, None).await;
            if self.observed(volume).await?.is_none() {
                return Ok(());
            }
            let path = self.path(volume, "qcow2")?;
            // Asks for the locks that a guest would hold.
            self.tool.info(&path, false).await.map_err(|error| explained(error, volume))?;
            blocking("remove a volume", move || remove_file(&path)).await
        })
    }

    fn ensure_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _turn = self.turn(&volume.id, None).await;
            if self.present(&volume.id).await?.snapshots.contains(snapshot) {
                return Ok(());
            }
            self.change(volume, "-c", snapshot).await
        })
    }

    fn remove_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _turn = self.turn(&volume.id, None).await;
            let found = self.observed(&volume.id).await?;
            if !found.is_some_and(|volume| volume.snapshots.contains(snapshot)) {
                return Ok(());
            }
            self.change(volume, "-d", snapshot).await
        })
    }

    fn revert<'a>(&'a self, volume: &'a VolumeRef, snapshot: &'a VolumeSnapshotId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _turn = self.turn(&volume.id, None).await;
            if !self.present(&volume.id).await?.snapshots.contains(snapshot) {
                return Err(VolumeError::NoSnapshot { volume: volume.id.clone(), snapshot: snapshot.clone() });
            }
            self.change(volume, "-a", snapshot).await
        })
    }

    fn copy_out<'a>(&'a self, from: Origin<'a>, to: &'a Path, format: DiskFormat) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Origin::Volume(volume) | Origin::Snapshot(volume, _)) = from else {
                return Err(VolumeError::Invalid("only volumes and snapshots are copied out".to_owned()));
            };
            let lock = self.locks.get(&volume.id);
            let _reading = (*lock).clone().read_owned().await;
            let path = self.path(&volume.id, "qcow2")?;
            let source = source(from, Some(&path)).ok_or_else(|| VolumeError::NoVolume(volume.id.clone()))?;
            let (size, occupied) = self.measure(&source).await?;
            self.expect_room(occupied).await?;
            let target = Node { path: to, format, key: None };
            self.tool.create(target, size).await?;
            let copied = self.copy(&source, target, size).await;
            if copied.is_err() {
                let unfinished = to.to_owned();
                blocking("drop an unfinished copy", move || remove_file(&unfinished)).await?;
            }
            copied
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Inventory>> {
        let root = self.root.clone();
        Box::pin(blocking("list the volumes", move || {
            let mut found = Inventory::default();
            for path in entries(&root)?.into_iter().filter(|path| !has_extension(path, "draft")) {
                let id = path.file_stem().and_then(|stem| stem.to_str()).filter(|id| crate::is_file_name(id));
                match id {
                    Some(id) if has_extension(&path, "qcow2") && path.is_file() => {
                        found.volumes.push(VolumeId::new(id));
                    }
                    _ => found.strays.push(path),
                }
            }
            found.volumes.sort();
            found.strays.sort();
            Ok(found)
        }))
    }

    fn remove_stray<'a>(&'a self, stray: &'a Path) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !self.list().await?.strays.iter().any(|found| found == stray) {
                return Ok(());
            }
            let stray = stray.to_owned();
            let remove = move || if stray.is_dir() { fs::remove_dir_all(&stray) } else { remove_file(&stray) };
            blocking("remove a stray", remove).await
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage>> {
        let root = self.root.clone();
        Box::pin(blocking("look for room", move || {
            let stat = rustix::fs::statvfs(&root)?;
            Ok(Usage {
                total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
                free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            })
        }))
    }
}

/// Gives a finished draft its owner, its mode and its name, and flushes all three.
fn keep(draft: &Path, path: &Path, owner: Option<RunAs>) -> io::Result<()> {
    if let Some(guests) = owner {
        chown(draft, Some(guests.uid), Some(guests.gid))?;
    }
    let file = File::open(draft)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done =
        tokio::task::spawn_blocking(work).await.map_err(|error| VolumeError::io(what)(io::Error::other(error)))?;
    done.map_err(VolumeError::io(what))
}
