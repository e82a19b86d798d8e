//! What every disk driver must do: the same tests on the fake one and on local files with real `qemu-img`.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use drivers::disk::{
    BaseSpec, ConfigFile, Digest, DiskError, DiskFormat, Disks, ImageSource, RootSpec,
    fake::FakeDisks,
    local::{LocalConfig, LocalDisks},
};
use model::id::{ImageId, ServerId};
use sha2::Digest as _;

const GIB: u64 = 1 << 30;

enum Host {
    Fake(FakeDisks),
    Local(tempfile::TempDir),
}

impl Host {
    fn local() -> Option<Self> {
        if !LocalConfig::new("/", None).qemu_img.exists() {
            println!("skipped: qemu-img is not installed (package qemu-utils)");
            return None;
        }
        Some(Self::Local(tempfile::tempdir().unwrap()))
    }

    async fn driver(&self) -> Box<dyn Disks> {
        match self {
            Self::Fake(disks) => Box::new(disks.clone()),
            Self::Local(folder) => Box::new(LocalDisks::open(LocalConfig::new(folder.path(), None)).await.unwrap()),
        }
    }
}

/// An image that counts how often it is opened.
struct Image {
    spec: BaseSpec,
    content: Vec<u8>,
    opened: Arc<AtomicUsize>,
}

impl Image {
    fn new(format: DiskFormat, content: Vec<u8>) -> Self {
        let digest = Digest::Sha512(hex::encode(sha2::Sha512::digest(&content)));
        let spec = BaseSpec { image: ImageId::random(), format, size_bytes: content.len() as u64, digest };
        Self { spec, content, opened: Arc::default() }
    }

    /// A raw disk of 3 MiB with something at its start and its end, and a hole between.
    fn raw() -> Self {
        let mut content = vec![0; 3 << 20];
        content[..4].copy_from_slice(b"head");
        *content.last_mut().unwrap() = 7;
        Self::new(DiskFormat::Raw, content)
    }

    fn source(&self) -> ImageSource<'static> {
        self.source_of(self.content.clone())
    }

    fn source_of(&self, content: Vec<u8>) -> ImageSource<'static> {
        let opened = self.opened.clone();
        Box::pin(async move {
            opened.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(io::Cursor::new(content)) as Box<dyn tokio::io::AsyncRead + Send + Unpin>)
        })
    }
}

/// A qcow2 header of 2 GiB, with something at the place where a backing file's offset and length stand.
fn qcow2(backing: Option<&str>) -> Vec<u8> {
    let mut content = vec![0; 1 << 16];
    content[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    content[20..24].copy_from_slice(&16_u32.to_be_bytes());
    content[24..32].copy_from_slice(&(2 * GIB).to_be_bytes());
    if let Some(name) = backing {
        content[8..16].copy_from_slice(&512_u64.to_be_bytes());
        content[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        content[512..512 + name.len()].copy_from_slice(name.as_bytes());
    }
    content
}

async fn an_image_is_fetched_once(host: Host) {
    let disks = host.driver().await;
    let image = Image::raw();
    assert_eq!(disks.observe_base(&image.spec.image).await.unwrap(), None);
    let (one, two) =
        tokio::join!(disks.ensure_base(&image.spec, image.source()), disks.ensure_base(&image.spec, image.source()));
    let base = one.unwrap();
    assert_eq!(two.unwrap(), base);
    assert_eq!((base.format, base.size_bytes, base.virtual_bytes), (DiskFormat::Raw, 3 << 20, 3 << 20));
    assert_eq!(image.opened.load(Ordering::SeqCst), 1);
    if let Host::Local(_) = host {
        assert_eq!(std::fs::read(&base.path).unwrap(), image.content);
    }
    // After a restart it is still there.
    let disks = host.driver().await;
    assert_eq!(disks.observe_base(&image.spec.image).await.unwrap(), Some(base.clone()));
    assert_eq!(disks.list().await.unwrap().bases, vec![base]);
    disks.remove_base(&image.spec.image).await.unwrap();
    disks.remove_base(&image.spec.image).await.unwrap();
    assert_eq!(disks.observe_base(&image.spec.image).await.unwrap(), None);
}

async fn an_image_that_is_not_as_announced_leaves_nothing(host: Host) {
    let disks = host.driver().await;
    let good = Image::raw();
    let mut changed = good.content.clone();
    changed[1000] = 1;
    let longer = [&good.content[..], b"x"].concat();
    for (what, content) in [("changed", changed), ("longer", longer), ("shorter", good.content[..9].to_vec())] {
        let error = disks.ensure_base(&good.spec, good.source_of(content)).await.unwrap_err();
        assert!(matches!(error, DiskError::Corrupt { .. }), "{what}: {error}");
        assert_eq!(disks.observe_base(&good.spec.image).await.unwrap(), None, "{what}");
    }
    let unreachable: ImageSource = Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
    let error = disks.ensure_base(&good.spec, unreachable).await.unwrap_err();
    assert!(matches!(error, DiskError::Io { .. }), "{error}");
    for (format, content) in [(DiskFormat::Qcow2, qcow2(Some("/etc/shadow"))), (DiskFormat::Raw, qcow2(None))] {
        let bad = Image::new(format, content);
        let error = disks.ensure_base(&bad.spec, bad.source()).await.unwrap_err();
        assert!(matches!(error, DiskError::BadFormat { .. }), "{error}");
    }
    assert_eq!(disks.list().await.unwrap().bases, vec![]);
    if let Host::Local(folder) = &host {
        assert_eq!(std::fs::read_dir(folder.path().join("base")).unwrap().count(), 0, "no draft stays");
    }
    // The same image, sent properly.
    disks.ensure_base(&good.spec, good.source()).await.unwrap();
}

async fn a_root_disk_grows_and_never_shrinks(host: Host) {
    let disks = host.driver().await;
    let image = Image::raw();
    let server = ServerId::random();
    let root = |size_gib| RootSpec { base: image.spec.image.clone(), size_gib };
    let missing = disks.ensure_root(&server, &root(1)).await.unwrap_err();
    assert!(matches!(missing, DiskError::NoBase(_)), "{missing}");
    disks.ensure_base(&image.spec, image.source()).await.unwrap();
    for (asked, expected) in [(0, 3 << 20), (2, 2 * GIB), (2, 2 * GIB), (1, 2 * GIB), (0, 2 * GIB), (3, 3 * GIB)] {
        let disk = disks.ensure_root(&server, &root(asked)).await.unwrap();
        assert_eq!((disk.format, disk.virtual_bytes), (DiskFormat::Qcow2, expected), "asked for {asked}");
    }
    let in_use = disks.remove_base(&image.spec.image).await.unwrap_err();
    assert!(matches!(in_use, DiskError::InUse { .. }), "{in_use}");
    let listed = disks.list().await.unwrap().servers;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].server, &listed[0].base), (&server, &Some(image.spec.image.clone())));

    let other = Image::raw();
    disks.ensure_base(&other.spec, other.source()).await.unwrap();
    let error =
        disks.ensure_root(&server, &RootSpec { base: other.spec.image.clone(), size_gib: 1 }).await.unwrap_err();
    assert!(matches!(error, DiskError::OtherBase { .. }), "{error}");

    disks.remove_server(&server).await.unwrap();
    disks.remove_server(&server).await.unwrap();
    assert_eq!(disks.list().await.unwrap().servers, vec![]);
    disks.remove_base(&image.spec.image).await.unwrap();
}

async fn a_root_disk_holds_its_image(host: Host) {
    let disks = host.driver().await;
    let image = Image::new(DiskFormat::Qcow2, qcow2(None));
    let base = disks.ensure_base(&image.spec, image.source()).await.unwrap();
    assert_eq!(base.virtual_bytes, 2 * GIB);
    let error = disks
        .ensure_root(&ServerId::random(), &RootSpec { base: image.spec.image.clone(), size_gib: 1 })
        .await
        .unwrap_err();
    assert!(matches!(error, DiskError::TooSmall { .. }), "{error}");
}

async fn a_config_drive_holds_exactly_these_files(host: Host) {
    let disks = host.driver().await;
    let server = ServerId::random();
    let file = |path: &str, content: &str| ConfigFile { path: path.to_owned(), content: content.into() };
    let files = vec![file("openstack/latest/meta_data.json", "{\"uuid\": 1}"), file("ec2/latest/meta-data.json", "{}")];
    let disk = disks.ensure_config_drive(&server, &files).await.unwrap();
    assert_eq!(disk.format, DiskFormat::Raw);
    assert_eq!(disks.ensure_config_drive(&server, &files).await.unwrap(), disk);
    let changed = vec![file("openstack/latest/meta_data.json", "{\"uuid\": 2}")];
    let disk = disks.ensure_config_drive(&server, &changed).await.unwrap();
    match &host {
        Host::Fake(disks) => assert_eq!(disks.config_drive(&server), Some(changed)),
        Host::Local(_) => {
            let bytes = std::fs::read(&disk.path).unwrap();
            let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
            assert!(holds(b"{\"uuid\": 2}") && !holds(b"{\"uuid\": 1}"));
        }
    }
    let bad = disks.ensure_config_drive(&server, &[file("../x", "")]).await.unwrap_err();
    assert!(matches!(bad, DiskError::Invalid(_)), "{bad}");
    disks.remove_server(&server).await.unwrap();
    if let Host::Local(_) = host {
        assert!(!Path::new(&disk.path).exists());
    }
}

async fn room_is_told(host: Host) {
    let usage = host.driver().await.usage().await.unwrap();
    assert!(usage.free_bytes > 0 && usage.free_bytes <= usage.total_bytes, "{usage:?}");
}

macro_rules! on_every_driver {
    ($($test:ident)*) => {
        mod fake {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Host::Fake(FakeDisks::default())).await })*
        }
        mod local {
            use super::*;
            $(#[tokio::test] async fn $test() {
                if let Some(host) = Host::local() { super::$test(host).await }
            })*
        }
    };
}

on_every_driver! {
    an_image_is_fetched_once
    an_image_that_is_not_as_announced_leaves_nothing
    a_root_disk_grows_and_never_shrinks
    a_root_disk_holds_its_image
    a_config_drive_holds_exactly_these_files
    room_is_told
}

#[tokio::test]
async fn what_is_no_disk_is_a_stray_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let disks = LocalDisks::open(LocalConfig::new(folder.path(), None)).await.unwrap();
    let strays = ["base/noise.qcow2", "base/noise.txt", "note", "servers/note"].map(|name| folder.path().join(name));
    for stray in &strays {
        std::fs::write(stray, "not an image").unwrap();
    }
    std::fs::create_dir(folder.path().join("servers/a-server")).unwrap();
    let found = disks.list().await.unwrap();
    assert_eq!((found.bases, found.servers.len(), found.strays), (vec![], 1, strays.to_vec()));
    disks.remove_stray(&folder.path().join("servers/a-server")).await.unwrap();
    for stray in &strays {
        disks.remove_stray(stray).await.unwrap();
    }
    let found = disks.list().await.unwrap();
    assert_eq!((found.servers.len(), found.strays), (1, vec![]), "a server's folder is no stray");
}

#[tokio::test]
async fn a_download_that_the_agent_did_not_live_to_finish_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("base")).unwrap();
    let draft = folder.path().join("base/an-image.draft");
    std::fs::write(&draft, "half").unwrap();
    let disks = LocalDisks::open(LocalConfig::new(folder.path(), None)).await.unwrap();
    assert!(!draft.exists());
    assert_eq!(disks.list().await.unwrap().bases, vec![]);
}

#[tokio::test]
async fn ids_from_outside_do_not_leave_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let disks = LocalDisks::open(LocalConfig::new(folder.path(), None)).await.unwrap();
    let error = disks.remove_server(&ServerId::new("../base")).await.unwrap_err();
    assert!(matches!(error, DiskError::Invalid(_)), "{error}");
    assert!(folder.path().join("base").exists());
}
