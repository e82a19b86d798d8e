//! The `fake` driver: disks that are rows in memory. Images are read and checked as the real driver does, then dropped.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use model::id::{ImageId, ServerId};
use tokio::io::AsyncReadExt;

use super::{
    BaseImage, BaseSpec, ConfigFile, Disk, DiskError, DiskFormat, Disks, ImageSource, Inventory, Result, RootSpec,
    ServerDisks, Usage, intake::Intake, iso9660,
};
use crate::locks::Locks;

const GIB: u64 = 1 << 30;
const TOTAL_BYTES: u64 = 1 << 44;
const READ_BYTES: usize = 1 << 20;

/// A call of the driver, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `ensure_base`, when the image is not there yet.
    Base,
    /// `ensure_root`.
    Root,
    /// `ensure_config_drive`.
    ConfigDrive,
    /// `remove_server`.
    Remove,
}

/// Cheap to clone: all clones are the same disks, as they are for an agent that starts again.
#[derive(Clone, Default)]
pub struct FakeDisks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    images: Locks<ImageId, tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    bases: BTreeMap<ImageId, BaseImage>,
    servers: BTreeMap<ServerId, FakeServer>,
    faults: HashMap<Op, VecDeque<String>>,
}

#[derive(Default)]
struct FakeServer {
    root: Option<(ImageId, u64)>,
    checkpoint: Option<(ImageId, u64)>,
    rescue: Option<(ImageId, u64)>,
    export: Option<(ImageId, PathBuf)>,
    config: Option<Vec<ConfigFile>>,
}

impl FakeDisks {
    /// Lets the next call of that kind fail with that reason. Several are used up one after the other.
    pub fn fail_next(&self, op: Op, reason: impl Into<String>) {
        self.state().faults.entry(op).or_default().push_back(reason.into());
    }

    /// What the server's config drive holds.
    pub fn config_drive(&self, server: &ServerId) -> Option<Vec<ConfigFile>> {
        self.state().servers.get(server)?.config.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, op: Op) -> Result<()> {
        match self.state().faults.get_mut(&op).and_then(VecDeque::pop_front) {
            Some(reason) => Err(DiskError::Tool { tool: format!("{op:?}"), reason }),
            None => Ok(()),
        }
    }

    async fn take_in(&self, spec: &BaseSpec, source: ImageSource<'_>) -> Result<BaseImage> {
        self.enter(Op::Base)?;
        let mut source = source.await.map_err(DiskError::io("open the image"))?;
        let mut intake = Intake::new(spec.clone());
        let mut piece = Vec::with_capacity(READ_BYTES);
        while source.read_buf(&mut piece).await.map_err(DiskError::io("read the image"))? > 0 {
            intake.take(&piece)?;
            piece.clear();
        }
        let virtual_bytes = intake.finish()?;
        let path = format!("/fake/base/{}.{}", spec.image, spec.format.as_str()).into();
        let (image, format, size_bytes) = (spec.image.clone(), spec.format, spec.size_bytes);
        let base = BaseImage { image, path, format, size_bytes, virtual_bytes };
        self.state().bases.insert(spec.image.clone(), base.clone());
        Ok(base)
    }

    fn root(&self, server: &ServerId, spec: &RootSpec) -> Result<Disk> {
        self.overlay(server, spec, "root.qcow2", |server| &mut server.root)
    }

    fn overlay(
        &self,
        server: &ServerId,
        spec: &RootSpec,
        name: &str,
        which: fn(&mut FakeServer) -> &mut Option<(ImageId, u64)>,
    ) -> Result<Disk> {
        self.enter(Op::Root)?;
        let mut state = self.state();
        let needed = state.bases.get(&spec.base).ok_or_else(|| DiskError::NoBase(spec.base.clone()))?.virtual_bytes;
        let asked = spec.size_gib.saturating_mul(GIB);
        if asked != 0 && asked < needed {
            return Err(DiskError::TooSmall { asked_bytes: asked, needed_bytes: needed });
        }
        let found = which(state.servers.entry(server.clone()).or_default());
        let bytes = match found {
            Some((base, _)) if *base != spec.base => {
                return Err(DiskError::OtherBase { server: server.clone(), found: base.to_string() });
            }
            Some((_, bytes)) => (*bytes).max(asked),
            None => asked.max(needed),
        };
        *found = Some((spec.base.clone(), bytes));
        Ok(disk(server, name, DiskFormat::Qcow2, bytes))
    }
}

impl Disks for FakeDisks {
    fn ensure_base<'a>(&'a self, base: &'a BaseSpec, source: ImageSource<'a>) -> BoxFuture<'a, Result<BaseImage>> {
        Box::pin(async move {
            let lock = self.0.images.get(&base.image);
            let _alone = lock.lock().await;
            match self.observe_base(&base.image).await? {
                Some(here) => Ok(here),
                None => self.take_in(base, source).await,
            }
        })
    }

    fn observe_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<Option<BaseImage>>> {
        Box::pin(async move { Ok(self.state().bases.get(image).cloned()) })
    }

    fn remove_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut state = self.state();
            let uses = |server: &FakeServer| {
                [&server.root, &server.rescue].into_iter().flatten().any(|(base, _)| base == image)
            };
            if let Some((server, _)) = state.servers.iter().find(|(_, server)| uses(server)) {
                return Err(DiskError::InUse { image: image.clone(), server: server.clone() });
            }
            state.bases.remove(image);
            Ok(())
        })
    }

    fn ensure_root<'a>(&'a self, server: &'a ServerId, root: &'a RootSpec) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(async move { self.root(server, root) })
    }

    fn ensure_config_drive<'a>(&'a self, server: &'a ServerId, files: &'a [ConfigFile]) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(async move {
            self.enter(Op::ConfigDrive)?;
            let bytes = iso9660::image("config-2", files).map_err(DiskError::Invalid)?.len() as u64;
            self.state().servers.entry(server.clone()).or_default().config = Some(files.to_vec());
            Ok(disk(server, "config.iso", DiskFormat::Raw, bytes))
        })
    }

    fn remove_root<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Remove)?;
            if let Some(found) = self.state().servers.get_mut(server) {
                (found.root, found.checkpoint, found.config) = (None, None, None);
            }
            Ok(())
        })
    }

    fn ensure_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(found) = self.state().servers.get_mut(server) {
                found.checkpoint = found.checkpoint.take().or_else(|| found.root.clone());
            }
            Ok(())
        })
    }

    fn roll_back<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(found) = self.state().servers.get_mut(server)
                && let Some(kept) = found.checkpoint.take()
            {
                found.root = Some(kept);
            }
            Ok(())
        })
    }

    fn remove_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(found) = self.state().servers.get_mut(server) {
                found.checkpoint = None;
            }
            Ok(())
        })
    }

    fn ensure_rescue<'a>(&'a self, server: &'a ServerId, spec: &'a RootSpec) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(async move { self.overlay(server, spec, "rescue.qcow2", |server| &mut server.rescue) })
    }

    fn remove_rescue<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(found) = self.state().servers.get_mut(server) {
                found.rescue = None;
            }
            Ok(())
        })
    }

    fn ensure_export<'a>(
        &'a self,
        server: &'a ServerId,
        image: &'a ImageId,
        _snapshot: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PathBuf>> {
        Box::pin(async move {
            if let Some(path) = self.observe_export(server, image).await? {
                return Ok(path);
            }
            // Files of their own, for what is delivered is read from a file: the smallest qcow2 that there is.
            let folder = std::env::temp_dir().join("nacre-fake-disks");
            let path = folder.join(format!("{image}.qcow2"));
            let failed = || DiskError::io("write a fake export");
            std::fs::create_dir_all(&folder).map_err(failed())?;
            std::fs::write(&path, empty_qcow2()).map_err(failed())?;
            self.state().servers.entry(server.clone()).or_default().export = Some((image.clone(), path.clone()));
            Ok(path)
        })
    }

    fn observe_export<'a>(
        &'a self,
        server: &'a ServerId,
        image: &'a ImageId,
    ) -> BoxFuture<'a, Result<Option<PathBuf>>> {
        Box::pin(async move {
            let state = self.state();
            let export = state.servers.get(server).and_then(|found| found.export.as_ref());
            Ok(export.filter(|(of, _)| of == image).map(|(_, path)| path.clone()))
        })
    }

    fn remove_exports<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let export = self.state().servers.get_mut(server).and_then(|found| found.export.take());
            if let Some((_, path)) = export {
                // Gone already is fine.
                let _ = std::fs::remove_file(path);
            }
            Ok(())
        })
    }

    fn remove_server<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.enter(Op::Remove)?;
            self.state().servers.remove(server);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Inventory>> {
        Box::pin(async move {
            let state = self.state();
            let server = |(id, server): (&ServerId, &FakeServer)| ServerDisks {
                server: id.clone(),
                base: server.root.as_ref().map(|(base, _)| base.clone()),
                allocated_bytes: 0,
            };
            let servers = state.servers.iter().map(server).collect();
            Ok(Inventory { bases: state.bases.values().cloned().collect(), servers, strays: Vec::new() })
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

/// A disk of 1 MiB without anything on it.
fn empty_qcow2() -> Vec<u8> {
    const CLUSTER: usize = 65_536;
    let mut file = vec![0_u8; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 20).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    file
}

fn disk(server: &ServerId, name: &str, format: DiskFormat, virtual_bytes: u64) -> Disk {
    Disk { path: format!("/fake/servers/{server}/{name}").into(), format, virtual_bytes }
}
