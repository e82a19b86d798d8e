//! The `fake` driver: volumes that are rows in memory. What a volume holds is one byte, as if it were filled with it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use model::id::{VolumeId, VolumeSnapshotId};

use super::{
    DiskFormat, Inventory, Key, Location, Origin, Result, Usage, Volume, VolumeError, VolumeRef, VolumeSpec, Volumes,
};

const TOTAL_BYTES: u64 = 1 << 44;
/// What `File` origins are taken to hold, and their size.
const FILE_CONTENT: u8 = 0xf1;

/// A call of the driver, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `ensure_volume`.
    Volume,
    /// `ensure_snapshot`.
    Snapshot,
    /// `remove_volume` and `remove_snapshot`.
    Remove,
    /// `revert`.
    Revert,
    /// `copy_out`.
    CopyOut,
}

/// Cheap to clone: all clones are the same volumes, as they are for an agent that starts again.
#[derive(Clone, Default)]
pub struct FakeVolumes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    volumes: BTreeMap<VolumeId, FakeVolume>,
    open: BTreeSet<VolumeId>,
    copies: BTreeMap<std::path::PathBuf, u8>,
    faults: HashMap<Op, VecDeque<String>>,
}

struct FakeVolume {
    key: Option<Key>,
    size_bytes: u64,
    content: u8,
    snapshots: BTreeMap<VolumeSnapshotId, u8>,
}

impl FakeVolumes {
    /// Lets the next call of that kind fail with that reason. Several are used up one after the other.
    pub fn fail_next(&self, op: Op, reason: impl Into<String>) {
        self.state().faults.entry(op).or_default().push_back(reason.into());
    }

    /// Fills a volume with a byte, as a guest would.
    pub fn fill(&self, volume: &VolumeId, byte: u8) {
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            volume.content = byte;
        }
    }

    /// What a volume is filled with.
    pub fn content(&self, volume: &VolumeId) -> Option<u8> {
        Some(self.state().volumes.get(volume)?.content)
    }

    /// What a copy that was written out is filled with.
    pub fn copied(&self, path: &Path) -> Option<u8> {
        self.state().copies.get(path).copied()
    }

    /// Whether a guest has it open.
    pub fn set_open(&self, volume: &VolumeId, open: bool) {
        let mut state = self.state();
        if open {
            state.open.insert(volume.clone())
        } else {
            state.open.remove(volume)
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, op: Op) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.faults.get_mut(&op).and_then(VecDeque::pop_front) {
            Some(reason) => Err(VolumeError::Tool { tool: format!("{op:?}"), reason }),
            None => Ok(state),
        }
    }
}

impl State {
    fn closed(&self, volume: &VolumeId) -> Result<()> {
        if self.open.contains(volume) { Err(VolumeError::InUse(volume.clone())) } else { Ok(()) }
    }

    fn unlocked(&mut self, volume: &VolumeRef) -> Result<&mut FakeVolume> {
        let found = self.volumes.get_mut(&volume.id).ok_or_else(|| VolumeError::NoVolume(volume.id.clone()))?;
        if found.key == volume.key { Ok(found) } else { Err(VolumeError::WrongKey(volume.id.clone())) }
    }

    /// Content and size of an origin.
    fn origin(&mut self, origin: Origin<'_>) -> Result<(u8, u64)> {
        match origin {
            Origin::Empty => Ok((0, 0)),
            Origin::File { .. } => Ok((FILE_CONTENT, 1 << 20)),
            Origin::Volume(volume) => {
                self.closed(&volume.id)?;
                self.unlocked(volume).map(|found| (found.content, found.size_bytes))
            }
            Origin::Snapshot(volume, snapshot) => {
                let found = self.unlocked(volume)?;
                let content = found.snapshots.get(snapshot).copied();
                content.map(|content| (content, found.size_bytes)).ok_or_else(|| no_snapshot(volume, snapshot))
            }
        }
    }
}

fn no_snapshot(volume: &VolumeRef, snapshot: &VolumeSnapshotId) -> VolumeError {
    VolumeError::NoSnapshot { volume: volume.id.clone(), snapshot: snapshot.clone() }
}

fn shown(id: &VolumeId, volume: &FakeVolume) -> Volume {
    Volume {
        id: id.clone(),
        location: Location::File { path: format!("/fake/volumes/{id}.qcow2").into(), format: DiskFormat::Qcow2 },
        size_bytes: volume.size_bytes,
        allocated_bytes: 0,
        is_encrypted: volume.key.is_some(),
        snapshots: volume.snapshots.keys().cloned().collect(),
    }
}

impl Volumes for FakeVolumes {
    fn ensure_volume<'a>(&'a self, spec: &'a VolumeSpec, origin: Origin<'a>) -> BoxFuture<'a, Result<Volume>> {
        Box::pin(async move {
            let mut state = self.enter(Op::Volume)?;
            let id = &spec.volume.id;
            if state.volumes.contains_key(id) {
                let grows = state.unlocked(&spec.volume)?.size_bytes < spec.size_bytes;
                if grows {
                    state.closed(id)?;
                }
                let found = state.unlocked(&spec.volume)?;
                found.size_bytes = found.size_bytes.max(spec.size_bytes);
                return Ok(shown(id, found));
            }
            let (content, needed_bytes) = state.origin(origin)?;
            if needed_bytes > spec.size_bytes {
                return Err(VolumeError::TooSmall { asked_bytes: spec.size_bytes, needed_bytes });
            }
            let (key, size_bytes) = (spec.volume.key.clone(), spec.size_bytes);
            let made = FakeVolume { key, size_bytes, content, snapshots: BTreeMap::new() };
            let volume = shown(id, &made);
            state.volumes.insert(id.clone(), made);
            Ok(volume)
        })
    }

    fn observe_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<Option<Volume>>> {
        Box::pin(async move { Ok(self.state().volumes.get(volume).map(|found| shown(volume, found))) })
    }

    fn remove_volume<'a>(&'a self, volume: &'a VolumeId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.enter(Op::Remove)?;
            state.closed(volume)?;
            state.volumes.remove(volume);
            Ok(())
        })
    }

    fn ensure_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.enter(Op::Snapshot)?;
            if !state.unlocked(volume)?.snapshots.contains_key(snapshot) {
                state.closed(&volume.id)?;
                let found = state.unlocked(volume)?;
                found.snapshots.insert(snapshot.clone(), found.content);
            }
            Ok(())
        })
    }

    fn remove_snapshot<'a>(
        &'a self,
        volume: &'a VolumeRef,
        snapshot: &'a VolumeSnapshotId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.enter(Op::Remove)?;
            if !state.volumes.contains_key(&volume.id) || !state.unlocked(volume)?.snapshots.contains_key(snapshot) {
                return Ok(());
            }
            state.closed(&volume.id)?;
            state.unlocked(volume)?.snapshots.remove(snapshot);
            Ok(())
        })
    }

    fn revert<'a>(&'a self, volume: &'a VolumeRef, snapshot: &'a VolumeSnapshotId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.enter(Op::Revert)?;
            state.closed(&volume.id)?;
            let found = state.unlocked(volume)?;
            found.content = *found.snapshots.get(snapshot).ok_or_else(|| no_snapshot(volume, snapshot))?;
            Ok(())
        })
    }

    fn copy_out<'a>(&'a self, from: Origin<'a>, to: &'a Path, _format: DiskFormat) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.enter(Op::CopyOut)?;
            let (content, _) = state.origin(from)?;
            state.copies.insert(to.to_owned(), content);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Inventory>> {
        Box::pin(async {
            Ok(Inventory { volumes: self.state().volumes.keys().cloned().collect(), strays: Vec::new() })
        })
    }

    fn remove_stray<'a>(&'a self, _stray: &'a Path) -> BoxFuture<'a, Result<()>> {
        // Nobody but the driver writes to memory.
        Box::pin(async { Ok(()) })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage>> {
        Box::pin(async { Ok(Usage { total_bytes: TOTAL_BYTES, free_bytes: TOTAL_BYTES }) })
    }
}
