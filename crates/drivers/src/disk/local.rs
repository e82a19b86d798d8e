//! The `local` driver: files in a directory of the host.
//!
//! ```text
//! ROOT/base/<image>.qcow2 | .raw       read-only, never changed: guests hold locks on what they stand on
//! ROOT/base/<image>.draft              a download that is under way, or was when the agent died
//! ROOT/servers/<server>/root.qcow2     overlay that names its base image and the base's format
//! ROOT/servers/<server>/config.iso     config drive
//! ```
//!
//! Everything is written under another name, flushed, then renamed: a file with its final name is whole. Calls for one
//! server wait for each other; a base image is locked while it is written or removed, and shared by the rest.

mod copies;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use model::{
    id::{ImageId, ServerId},
    image_format::{HEAD_BYTES, Qcow2Header},
};
use tokio::{
    io::AsyncReadExt,
    process::Command,
    sync::{Mutex, RwLock, mpsc},
    time::timeout,
};

use super::{
    BaseImage, BaseSpec, ConfigFile, Disk, DiskError, DiskFormat, Disks, ImageSource, Inventory, Result, RootSpec,
    ServerDisks, Usage,
    intake::{self, Intake, write_sparse},
    iso9660,
};
use crate::{hypervisor::RunAs, locks::Locks};

/// Bytes that are read and hashed at once, and pieces that may wait for the disk.
const PIECE_BYTES: usize = 1 << 20;
const PIECES_WAITING: usize = 4;
/// How long a source may be silent.
const SOURCE_SILENCE_MAX: Duration = Duration::from_secs(120);
/// `qemu-img create` and `resize` write a few blocks.
const TOOL_TIME_MAX: Duration = Duration::from_secs(60);
/// A disk that is copied as a whole.
const COPY_TIME_MAX: Duration = Duration::from_secs(3600);
/// Room that stays free when an image is taken in.
const RESERVE_BYTES: u64 = 256 << 20;
const GIB: u64 = 1 << 30;
const CONFIG_DRIVE_LABEL: &str = "config-2";

/// How the driver is set up.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The directory that the driver owns.
    pub root: PathBuf,
    /// `qemu-img`.
    pub qemu_img: PathBuf,
    /// The user that guests run as (see `hypervisor::Capabilities`), to whom their disks will belong.
    pub owner: Option<RunAs>,
}

impl LocalConfig {
    /// The usual setting, in that directory.
    pub fn new(root: impl Into<PathBuf>, owner: Option<RunAs>) -> Self {
        Self { root: root.into(), qemu_img: "/usr/bin/qemu-img".into(), owner }
    }
}

/// See the module's text.
pub struct LocalDisks {
    files: Arc<Files>,
    images: Locks<ImageId, RwLock<()>>,
    servers: Locks<ServerId, Mutex<()>>,
}

impl LocalDisks {
    /// Takes the directory, and clears what a broken-off download left there.
    pub async fn open(mut config: LocalConfig) -> Result<Self> {
        // An overlay's backing file would be looked for beside the overlay.
        config.root = std::path::absolute(&config.root).map_err(DiskError::io("find the disk directory"))?;
        let files = Arc::new(Files { config });
        let opened = files.clone();
        blocking("open the disk directory", move || opened.open()).await?;
        Ok(Self { files, images: Locks::default(), servers: Locks::default() })
    }

    async fn take_in(&self, spec: &BaseSpec, source: ImageSource<'_>) -> Result<BaseImage> {
        let needed = spec.size_bytes.saturating_add(RESERVE_BYTES);
        let free = self.usage().await?.free_bytes;
        if needed > free {
            return Err(DiskError::NoRoom { needed_bytes: needed, free_bytes: free });
        }
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
        let (files, wanted) = (self.files.clone(), spec.clone());
        // Ends with an error, and without a file, if `pieces` is dropped before the image is whole.
        let writer = tokio::task::spawn_blocking(move || files.write_base(&wanted, waiting));
        let read = feed(source, pieces, spec.size_bytes).await;
        let written = writer.await.map_err(|error| DiskError::io("write a base image")(io::Error::other(error)))?;
        // A source that failed says more than what came of it; a writer that failed first says more than its reader.
        match (read, written) {
            (Err(error), Err(DiskError::Corrupt { .. })) => Err(error),
            (_, written) => written,
        }
    }

    async fn root(&self, server: &ServerId, spec: &RootSpec) -> Result<Disk> {
        self.overlay(server, spec, "root.qcow2").await
    }

    async fn overlay(&self, server: &ServerId, spec: &RootSpec, name: &'static str) -> Result<Disk> {
        let server_lock = self.servers.get(server);
        let _turn = server_lock.lock().await;
        let image_lock = self.images.get(&spec.base);
        let _shared = image_lock.read().await;
        let (files, base_id, owner) = (self.files.clone(), spec.base.clone(), server.clone());
        let (base, path, found) = blocking("look for the root disk", move || {
            let base = files.base(&base_id)?.ok_or(DiskError::NoBase(base_id))?;
            let path = files.root_disk(&owner)?.with_file_name(name);
            let found = files.found_root(&owner, &path, &base)?;
            Ok((base, path, found))
        })
        .await?;
        let asked = spec.size_gib.saturating_mul(GIB);
        if asked != 0 && asked < base.virtual_bytes {
            return Err(DiskError::TooSmall { asked_bytes: asked, needed_bytes: base.virtual_bytes });
        }
        let virtual_bytes = asked.max(base.virtual_bytes).max(found.unwrap_or(0));
        match found {
            Some(bytes) if bytes == virtual_bytes => {}
            Some(_) => self.resize(&path, virtual_bytes).await?,
            None => self.create_overlay(&path, &base, virtual_bytes).await?,
        }
        Ok(Disk { path, format: DiskFormat::Qcow2, virtual_bytes })
    }

    async fn create_overlay(&self, path: &Path, base: &BaseImage, virtual_bytes: u64) -> Result<()> {
        let draft = path.with_extension("draft");
        let size = virtual_bytes.to_string();
        let parts = ["create", "-q", "-f", "qcow2", "-F", base.format.as_str(), "-b"].map(Path::new);
        let arguments = [&parts[..], &[&base.path, &draft, Path::new(&size)]].concat();
        self.qemu_img(&arguments).await?;
        let (files, path) = (self.files.clone(), path.to_owned());
        blocking("keep the root disk", move || files.keep(&draft, &path, Access::Write)).await
    }

    async fn resize(&self, path: &Path, virtual_bytes: u64) -> Result<()> {
        let size = virtual_bytes.to_string();
        let parts = ["resize", "-q", "-f", "qcow2"].map(Path::new);
        self.qemu_img(&[&parts[..], &[path, Path::new(&size)]].concat()).await
    }

    async fn qemu_img(&self, arguments: &[&Path]) -> Result<()> {
        self.qemu_img_within(arguments, TOOL_TIME_MAX).await
    }

    async fn qemu_img_within(&self, arguments: &[&Path], longest: Duration) -> Result<()> {
        let program = &self.files.config.qemu_img;
        let tool = || format!("{} {}", program.display(), arguments[0].display());
        let running = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(longest, running)
            .await
            .map_err(|_| DiskError::Tool { tool: tool(), reason: format!("not done after {longest:?}") })?
            .map_err(DiskError::io(tool()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(DiskError::Tool { tool: tool(), reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

impl Disks for LocalDisks {
    fn remove_root<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_files(server, |name| name.starts_with("root.") || name.starts_with("config.")))
    }

    fn ensure_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.checkpoint(server, &["-c"], false))
    }

    fn roll_back<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.checkpoint(server, &["-a", "-d"], true))
    }

    fn remove_checkpoint<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.checkpoint(server, &["-d"], true))
    }

    fn ensure_rescue<'a>(&'a self, server: &'a ServerId, disk: &'a RootSpec) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(self.overlay(server, disk, "rescue.qcow2"))
    }

    fn remove_rescue<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_files(server, |name| name.starts_with("rescue.")))
    }

    fn ensure_export<'a>(
        &'a self,
        server: &'a ServerId,
        image: &'a ImageId,
        snapshot: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PathBuf>> {
        Box::pin(self.export(server, image, snapshot))
    }

    fn observe_export<'a>(
        &'a self,
        server: &'a ServerId,
        image: &'a ImageId,
    ) -> BoxFuture<'a, Result<Option<PathBuf>>> {
        Box::pin(async move {
            let path = self.files.server(server)?.join(format!("export-{}.qcow2", checked(image.as_str())?));
            blocking("look for an export", move || Ok(path.exists().then_some(path))).await
        })
    }

    fn remove_exports<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_files(server, |name| name.starts_with("export-")))
    }

    fn ensure_base<'a>(&'a self, base: &'a BaseSpec, source: ImageSource<'a>) -> BoxFuture<'a, Result<BaseImage>> {
        Box::pin(async move {
            let lock = self.images.get(&base.image);
            let _alone = lock.write().await;
            match self.observe_base(&base.image).await? {
                Some(here) if here.format == base.format => Ok(here),
                Some(here) => Err(DiskError::BadFormat {
                    image: base.image.clone(),
                    reason: format!("it is here as {}, asked for was {}", here.format.as_str(), base.format.as_str()),
                }),
                None => self.take_in(base, source).await,
            }
        })
    }

    fn observe_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<Option<BaseImage>>> {
        let (files, image) = (self.files.clone(), image.clone());
        Box::pin(blocking("look for a base image", move || files.base(&image)))
    }

    fn remove_base<'a>(&'a self, image: &'a ImageId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let lock = self.images.get(image);
            let _alone = lock.write().await;
            let (files, image) = (self.files.clone(), image.clone());
            blocking("remove a base image", move || files.remove_base(&image)).await
        })
    }

    fn ensure_root<'a>(&'a self, server: &'a ServerId, root: &'a RootSpec) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(self.root(server, root))
    }

    fn ensure_config_drive<'a>(
        &'a self,
        server: &'a ServerId,
        content: &'a [ConfigFile],
    ) -> BoxFuture<'a, Result<Disk>> {
        Box::pin(async move {
            let lock = self.servers.get(server);
            let _turn = lock.lock().await;
            let image = iso9660::image(CONFIG_DRIVE_LABEL, content).map_err(DiskError::Invalid)?;
            let (files, server) = (self.files.clone(), server.clone());
            blocking("write the config drive", move || files.write_config_drive(&server, &image)).await
        })
    }

    fn remove_server<'a>(&'a self, server: &'a ServerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let lock = self.servers.get(server);
            let _turn = lock.lock().await;
            let (files, server) = (self.files.clone(), server.clone());
            blocking("remove a server's disks", move || files.remove_server(&server)).await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Inventory>> {
        let files = self.files.clone();
        Box::pin(blocking("list the disks", move || files.list()))
    }

    fn remove_stray<'a>(&'a self, stray: &'a Path) -> BoxFuture<'a, Result<()>> {
        let (files, stray) = (self.files.clone(), stray.to_owned());
        Box::pin(blocking("remove a stray file", move || files.remove_stray(&stray)))
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage>> {
        let root = self.files.config.root.clone();
        Box::pin(blocking("look for room", move || {
            let stat = rustix::fs::statvfs(&root).map_err(|error| DiskError::io("statvfs")(error.into()))?;
            Ok(Usage {
                total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
                free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            })
        }))
    }
}

/// Reads the source and hands it on in pieces.
async fn feed(source: ImageSource<'_>, pieces: mpsc::Sender<Vec<u8>>, announced: u64) -> Result<()> {
    let silent = |_| DiskError::io("read the image")(ErrorKind::TimedOut.into());
    let mut source =
        timeout(SOURCE_SILENCE_MAX, source).await.map_err(silent)?.map_err(DiskError::io("open the image"))?;
    let piece_bytes = usize::try_from(announced).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES);
    loop {
        let mut piece = Vec::with_capacity(piece_bytes);
        while piece.len() < piece_bytes {
            let mut limited = (&mut source).take((piece_bytes - piece.len()) as u64);
            let read = timeout(SOURCE_SILENCE_MAX, limited.read_buf(&mut piece)).await.map_err(silent)?;
            if read.map_err(DiskError::io("read the image"))? == 0 {
                break;
            }
        }
        // The writer has given up: it says why.
        if piece.is_empty() || pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

/// What guests may do with a file.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    Read,
    Write,
}

/// What is done to files, on threads that may wait for a disk.
struct Files {
    config: LocalConfig,
}

impl Files {
    fn open(&self) -> Result<()> {
        for folder in [self.config.root.clone(), self.bases(), self.servers()] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o711).create(&folder).map_err(DiskError::io(show("make", &folder)))?;
        }
        for path in entries(&self.bases())? {
            if path.extension().is_some_and(|extension| extension == "draft") {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn bases(&self) -> PathBuf {
        self.config.root.join("base")
    }

    fn servers(&self) -> PathBuf {
        self.config.root.join("servers")
    }

    fn base_path(&self, image: &ImageId, extension: &str) -> Result<PathBuf> {
        Ok(self.bases().join(format!("{}.{extension}", checked(image.as_str())?)))
    }

    fn server(&self, server: &ServerId) -> Result<PathBuf> {
        Ok(self.servers().join(checked(server.as_str())?))
    }

    fn root_disk(&self, server: &ServerId) -> Result<PathBuf> {
        let folder = self.server(server)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711).create(&folder).map_err(DiskError::io(show("make", &folder)))?;
        Ok(folder.join("root.qcow2"))
    }

    fn base(&self, image: &ImageId) -> Result<Option<BaseImage>> {
        for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
            let path = self.base_path(image, format.as_str())?;
            let Some((head, size_bytes)) = head_of(&path)? else { continue };
            let virtual_bytes = intake::virtual_bytes(format, &head, size_bytes)
                .map_err(|reason| DiskError::BadFormat { image: image.clone(), reason })?;
            return Ok(Some(BaseImage { image: image.clone(), path, format, size_bytes, virtual_bytes }));
        }
        Ok(None)
    }

    fn write_base(&self, spec: &BaseSpec, mut pieces: mpsc::Receiver<Vec<u8>>) -> Result<BaseImage> {
        let path = self.base_path(&spec.image, spec.format.as_str())?;
        let draft = self.base_path(&spec.image, "draft")?;
        let mut write = || {
            let failed = || show("write", &draft);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&draft).map_err(DiskError::io(failed()))?;
            let mut intake = Intake::new(spec.clone());
            while let Some(piece) = pieces.blocking_recv() {
                intake.take(&piece)?;
                write_sparse(&mut file, &piece).map_err(DiskError::io(failed()))?;
            }
            let virtual_bytes = intake.finish()?;
            file.set_len(spec.size_bytes).map_err(DiskError::io(failed()))?;
            self.keep(&draft, &path, Access::Read)?;
            Ok(virtual_bytes)
        };
        match write() {
            Ok(virtual_bytes) => Ok(BaseImage {
                image: spec.image.clone(),
                path,
                format: spec.format,
                size_bytes: spec.size_bytes,
                virtual_bytes,
            }),
            Err(error) => {
                remove_file(&draft)?;
                Err(error)
            }
        }
    }

    fn remove_base(&self, image: &ImageId) -> Result<()> {
        let user = self.list_servers()?.into_iter().find(|server| server.base.as_ref() == Some(image));
        if let Some(user) = user {
            return Err(DiskError::InUse { image: image.clone(), server: user.server });
        }
        for folder in entries(&self.servers())? {
            if backing_of(&folder.join("rescue.qcow2"))?.as_ref().is_some_and(|path| self.is_base(path, image)) {
                let server = folder.file_name().and_then(|name| name.to_str()).map(ServerId::new);
                let server = server.unwrap_or_else(|| ServerId::new(""));
                return Err(DiskError::InUse { image: image.clone(), server });
            }
        }
        for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
            remove_file(&self.base_path(image, format.as_str())?)?;
        }
        Ok(())
    }

    fn is_base(&self, path: &Path, image: &ImageId) -> bool {
        path.parent() == Some(&self.bases()) && path.file_stem().and_then(|stem| stem.to_str()) == Some(image.as_str())
    }

    /// The size of the root disk that is there, if it stands on that base image.
    fn found_root(&self, server: &ServerId, path: &Path, base: &BaseImage) -> Result<Option<u64>> {
        let Some((head, _)) = head_of(path)? else { return Ok(None) };
        let header =
            Qcow2Header::parse(&head).map_err(|refusal| DiskError::Invalid(show(&refusal.to_string(), path)))?;
        match header.backing_file {
            Some(name) if Path::new(&name) == base.path => Ok(Some(header.virtual_bytes)),
            found => Err(DiskError::OtherBase { server: server.clone(), found: found.unwrap_or("none".to_owned()) }),
        }
    }

    fn write_config_drive(&self, server: &ServerId, image: &[u8]) -> Result<Disk> {
        let path = self.root_disk(server)?.with_file_name("config.iso");
        let disk = Disk { path: path.clone(), format: DiskFormat::Raw, virtual_bytes: image.len() as u64 };
        if fs::read(&path).is_ok_and(|found| found == image) {
            return Ok(disk);
        }
        let draft = path.with_extension("draft");
        remove_file(&draft)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(DiskError::io(show("make", &draft)))?;
        file.write_all(image).map_err(DiskError::io(show("write", &draft)))?;
        self.keep(&draft, &path, Access::Read)?;
        Ok(disk)
    }

    fn remove_server(&self, server: &ServerId) -> Result<()> {
        let folder = self.server(server)?;
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::io(show("remove", &folder))(error)),
            _ => Ok(()),
        }
    }

    fn list(&self) -> Result<Inventory> {
        let (mut bases, mut strays) = (Vec::new(), Vec::new());
        for path in entries(&self.bases())? {
            if path.extension().is_some_and(|extension| extension == "draft") {
                continue;
            }
            let image = path.file_stem().and_then(|stem| stem.to_str()).map(ImageId::new);
            // A file that its name does not lead to, or that is no image, is nobody's.
            match image.map(|image| self.base(&image)) {
                Some(Ok(Some(base))) if base.path == path => bases.push(base),
                Some(Err(error @ DiskError::Io { .. })) => return Err(error),
                _ => strays.push(path),
            }
        }
        let own = [self.bases(), self.servers()];
        strays.extend(entries(&self.config.root)?.into_iter().filter(|path| !own.contains(path)));
        strays.extend(entries(&self.servers())?.into_iter().filter(|path| !path.is_dir()));
        bases.sort_by(|a, b| a.image.cmp(&b.image));
        strays.sort();
        Ok(Inventory { bases, servers: self.list_servers()?, strays })
    }

    fn remove_stray(&self, stray: &Path) -> Result<()> {
        if !self.list()?.strays.iter().any(|found| found == stray) {
            return Ok(());
        }
        let removed = if stray.is_dir() { fs::remove_dir_all(stray) } else { fs::remove_file(stray) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::io(show("remove", stray))(error)),
            _ => Ok(()),
        }
    }

    fn list_servers(&self) -> Result<Vec<ServerDisks>> {
        let mut servers = Vec::new();
        for folder in entries(&self.servers())?.into_iter().filter(|path| path.is_dir()) {
            let Some(server) = folder.file_name().and_then(|name| name.to_str()).map(ServerId::new) else { continue };
            let head = head_of(&folder.join("root.qcow2"))?;
            let header = head.and_then(|(head, _)| Qcow2Header::parse(&head).ok());
            let base = header.and_then(|header| header.backing_file).map(PathBuf::from);
            let base = base.filter(|path| path.parent() == Some(&self.bases()));
            let base = base.as_ref().and_then(|path| path.file_stem()?.to_str()).map(ImageId::new);
            let allocated = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.blocks() * 512);
            let allocated_bytes = entries(&folder)?.into_iter().map(allocated).sum();
            servers.push(ServerDisks { server, base, allocated_bytes });
        }
        servers.sort_by(|a, b| a.server.cmp(&b.server));
        Ok(servers)
    }

    /// Gives a finished draft its owner, its mode and its name, and flushes all three. What guests only read stays the
    /// agent's: its owner could give himself the right to write.
    fn keep(&self, draft: &Path, path: &Path, access: Access) -> Result<()> {
        let keep = || -> io::Result<()> {
            if let Some(guests) = self.config.owner {
                chown(draft, (access == Access::Write).then_some(guests.uid), Some(guests.gid))?;
            }
            let file = File::open(draft)?;
            let mode = if access == Access::Write { 0o600 } else { 0o440 };
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(draft, path)?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        keep().map_err(DiskError::io(show("keep", path)))
    }
}

/// A file's first bytes and its length, `None` if there is no such file.
fn head_of(path: &Path) -> Result<Option<(Vec<u8>, u64)>> {
    let read = || -> io::Result<_> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        Ok((head, length))
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(DiskError::io(show("read", path))),
    }
}

/// What an overlay stands on, `None` if there is no such overlay.
fn backing_of(path: &Path) -> Result<Option<PathBuf>> {
    let header = head_of(path)?.and_then(|(head, _)| Qcow2Header::parse(&head).ok());
    Ok(header.and_then(|header| header.backing_file).map(PathBuf::from))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    match read() {
        // Removed by a call for that server meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(DiskError::io(show("list", folder))),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::io(show("remove", path))(error)),
        _ => Ok(()),
    }
}

fn show(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

/// An id as a file's name.
fn checked(id: &str) -> Result<&str> {
    if crate::is_file_name(id) { Ok(id) } else { Err(DiskError::Invalid(format!("{id:?} can't be a file's name"))) }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DiskError::io(what)(io::Error::other(error)))?
}
