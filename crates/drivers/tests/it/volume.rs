//! What every volume driver must do: the same tests on the fake one and on local files with real `qemu-img`.

use std::{path::Path, process::Command};

use drivers::volume::{
    DiskFormat, Key, Location, Origin, VolumeError, VolumeRef, VolumeSpec, Volumes,
    fake::{FakeVolumes, Op},
    local::{LocalConfig, LocalVolumes},
};
use model::id::{VolumeId, VolumeSnapshotId};

const MIB: u64 = 1 << 20;

enum Store {
    Fake(FakeVolumes),
    Local(tempfile::TempDir),
}

impl Store {
    fn local() -> Option<Self> {
        if !LocalConfig::new("/", None).qemu_img.exists() {
            println!("skipped: qemu-img is not installed (package qemu-utils)");
            return None;
        }
        Some(Self::Local(tempfile::tempdir().unwrap()))
    }

    async fn driver(&self) -> Box<dyn Volumes> {
        match self {
            Self::Fake(volumes) => Box::new(volumes.clone()),
            Self::Local(folder) => Box::new(LocalVolumes::open(config(folder.path())).await.unwrap()),
        }
    }

    /// Writes as a guest would.
    fn fill(&self, volume: &VolumeRef, byte: u8) {
        match self {
            Self::Fake(volumes) => volumes.fill(&volume.id, byte),
            Self::Local(folder) => {
                let path = file_of(folder.path(), &volume.id);
                assert!(qemu_io(&path, volume.key.as_ref(), &format!("write -P {byte} 0 1M")), "{path:?}");
            }
        }
    }

    /// Whether the volume holds that byte.
    fn holds(&self, volume: &VolumeRef, byte: u8) -> bool {
        match self {
            Self::Fake(volumes) => volumes.content(&volume.id) == Some(byte),
            Self::Local(folder) => {
                let path = file_of(folder.path(), &volume.id);
                qemu_io(&path, volume.key.as_ref(), &format!("read -P {byte} 0 1M"))
            }
        }
    }

    /// Opens the volume as a guest does, until what it returns is dropped.
    fn open(&self, volume: &VolumeRef) -> Open {
        match self {
            Self::Fake(volumes) => {
                volumes.set_open(&volume.id, true);
                Open::Fake(volumes.clone(), volume.id.clone())
            }
            Self::Local(folder) => Open::Local(Opened::new(&file_of(folder.path(), &volume.id))),
        }
    }
}

fn config(root: &Path) -> LocalConfig {
    // A comma: part of names, and of QEMU's options.
    LocalConfig::new(root.join("with, comma"), None)
}

fn file_of(root: &Path, volume: &VolumeId) -> std::path::PathBuf {
    config(root).root.join(format!("{volume}.qcow2"))
}

enum Open {
    Fake(FakeVolumes, VolumeId),
    #[allow(dead_code, reason = "held, and dropped")]
    Local(Opened),
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Self::Fake(volumes, id) = self {
            volumes.set_open(id, false);
        }
    }
}

/// `qemu-io` that has opened a file for writing and waits for its next command.
struct Opened(std::process::Child);

impl Opened {
    fn new(path: &Path) -> Self {
        use std::{
            io::{BufRead, BufReader, Write},
            process::Stdio,
        };
        let opts = image_opts(path, false);
        let mut command = Command::new("qemu-io");
        command.args(["--image-opts", &opts]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut answer = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        assert!(answer.contains("MiB"), "{answer}");
        Self(child)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn image_opts(path: &Path, encrypted: bool) -> String {
    let path = path.display().to_string().replace(',', ",,");
    let key = if encrypted { ",encrypt.key-secret=k" } else { "" };
    format!("driver=qcow2,file.driver=file,file.filename={path}{key}")
}

/// Whether `qemu-io` did it; a pattern that is not found is none.
fn qemu_io(path: &Path, key: Option<&Key>, words: &str) -> bool {
    let mut command = Command::new("qemu-io");
    if key.is_some() {
        command.args(["--object", &format!("secret,id=k,data={SECRET}")]);
    }
    let output = command.args(["--image-opts", &image_opts(path, key.is_some()), "-c", words]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && !said.contains("Pattern verification failed") && said.contains("1 MiB")
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn spec(mib: u64) -> VolumeSpec {
    VolumeSpec { volume: VolumeRef { id: VolumeId::random(), key: None }, size_bytes: mib * MIB }
}

fn encrypted(mib: u64) -> VolumeSpec {
    let mut spec = spec(mib);
    spec.volume.key = Some(Key::new(SECRET).unwrap());
    spec
}

async fn a_volume_is_made_once_and_grows(store: Store) {
    let volumes = store.driver().await;
    let mut wanted = spec(8);
    let id = wanted.volume.id.clone();
    assert_eq!(volumes.observe_volume(&id).await.unwrap(), None);
    let made = volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap();
    assert_eq!((&made.id, made.size_bytes, made.is_encrypted), (&id, 8 * MIB, false));
    assert!(store.holds(&wanted.volume, 0));
    store.fill(&wanted.volume, 7);
    volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap();
    wanted.size_bytes = 12 * MIB;
    assert_eq!(volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap().size_bytes, 12 * MIB);
    wanted.size_bytes = MIB;
    assert_eq!(volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap().size_bytes, 12 * MIB, "never shrinks");
    assert!(store.holds(&wanted.volume, 7), "what it holds stays");
    // After a restart it is still there.
    let volumes = store.driver().await;
    assert_eq!(volumes.list().await.unwrap().volumes, std::slice::from_ref(&id));
    volumes.remove_volume(&id).await.unwrap();
    volumes.remove_volume(&id).await.unwrap();
    assert_eq!(volumes.observe_volume(&id).await.unwrap(), None);
    assert_eq!(volumes.list().await.unwrap().volumes, vec![]);
}

async fn snapshots_keep_what_was(store: Store) {
    let volumes = store.driver().await;
    let wanted = spec(8);
    let volume = &wanted.volume;
    let (one, two) = (VolumeSnapshotId::random(), VolumeSnapshotId::random());
    let missing = volumes.ensure_snapshot(volume, &one).await.unwrap_err();
    assert!(matches!(missing, VolumeError::NoVolume(_)), "{missing}");
    volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap();
    store.fill(volume, 1);
    volumes.ensure_snapshot(volume, &one).await.unwrap();
    store.fill(volume, 2);
    volumes.ensure_snapshot(volume, &two).await.unwrap();
    store.fill(volume, 3);
    volumes.ensure_snapshot(volume, &one).await.unwrap();
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(volumes.observe_volume(&volume.id).await.unwrap().unwrap().snapshots, both);
    // Copies of each, and of the volume.
    let from = [(Origin::Snapshot(volume, &one), 1), (Origin::Snapshot(volume, &two), 2), (Origin::Volume(volume), 3)];
    for (origin, byte) in from {
        let copy = spec(10);
        assert_eq!(volumes.ensure_volume(&copy, origin).await.unwrap().size_bytes, 10 * MIB);
        assert!(store.holds(&copy.volume, byte), "{origin:?}");
    }
    let small = volumes.ensure_volume(&spec(4), Origin::Snapshot(volume, &one)).await.unwrap_err();
    assert!(matches!(small, VolumeError::TooSmall { .. }), "{small}");
    // Any of them can go; the others stay.
    volumes.remove_snapshot(volume, &one).await.unwrap();
    volumes.remove_snapshot(volume, &one).await.unwrap();
    let gone = volumes.ensure_volume(&spec(8), Origin::Snapshot(volume, &one)).await.unwrap_err();
    assert!(matches!(gone, VolumeError::NoSnapshot { .. }), "{gone}");
    let gone = volumes.revert(volume, &one).await.unwrap_err();
    assert!(matches!(gone, VolumeError::NoSnapshot { .. }), "{gone}");
    assert!(store.holds(volume, 3));
    volumes.revert(volume, &two).await.unwrap();
    assert!(store.holds(volume, 2));
    volumes.remove_volume(&volume.id).await.unwrap();
    volumes.remove_snapshot(volume, &two).await.unwrap();
}

async fn what_a_guest_has_open_is_left_alone(store: Store) {
    let volumes = store.driver().await;
    let mut wanted = spec(8);
    let snapshot = VolumeSnapshotId::random();
    volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap();
    store.fill(&wanted.volume, 5);
    volumes.ensure_snapshot(&wanted.volume, &snapshot).await.unwrap();
    store.fill(&wanted.volume, 6);
    let open = store.open(&wanted.volume);
    let volume = &wanted.volume.clone();
    wanted.size_bytes = 16 * MIB;
    let refused = [
        volumes.ensure_volume(&wanted, Origin::Empty).await.map(drop),
        volumes.remove_volume(&volume.id).await,
        volumes.ensure_snapshot(volume, &VolumeSnapshotId::random()).await,
        volumes.remove_snapshot(volume, &snapshot).await,
        volumes.revert(volume, &snapshot).await,
        volumes.ensure_volume(&spec(8), Origin::Volume(volume)).await.map(drop),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(VolumeError::InUse(_))), "{at}: {result:?}");
    }
    // It can be looked at, and its snapshots can be read.
    assert_eq!(volumes.observe_volume(&volume.id).await.unwrap().unwrap().size_bytes, 8 * MIB);
    let copy = spec(8);
    volumes.ensure_volume(&copy, Origin::Snapshot(volume, &snapshot)).await.unwrap();
    assert!(store.holds(&copy.volume, 5));
    drop(open);
    assert_eq!(volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap().size_bytes, 16 * MIB);
    assert!(store.holds(volume, 6));
}

async fn an_encrypted_volume_needs_its_key(store: Store) {
    let volumes = store.driver().await;
    let wanted = encrypted(8);
    assert!(volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap().is_encrypted);
    store.fill(&wanted.volume, 0x5a);
    let snapshot = VolumeSnapshotId::random();
    volumes.ensure_snapshot(&wanted.volume, &snapshot).await.unwrap();
    // Into an encrypted one, and into one that is not.
    for copy in [encrypted(8), spec(8)] {
        volumes.ensure_volume(&copy, Origin::Snapshot(&wanted.volume, &snapshot)).await.unwrap();
        assert!(store.holds(&copy.volume, 0x5a));
    }
    let other = VolumeRef { key: Some(Key::new("f".repeat(32)).unwrap()), ..wanted.volume.clone() };
    let none = VolumeRef { key: None, ..wanted.volume.clone() };
    for wrong in [other, none] {
        let error = volumes.ensure_volume(&spec(8), Origin::Volume(&wrong)).await.unwrap_err();
        assert!(matches!(error, VolumeError::WrongKey(_)), "{error}");
        let error = volumes.ensure_snapshot(&wrong, &VolumeSnapshotId::random()).await.unwrap_err();
        assert!(matches!(error, VolumeError::WrongKey(_)), "{error}");
    }
    if let Store::Local(folder) = &store {
        let bytes = std::fs::read(file_of(folder.path(), &wanted.volume.id)).unwrap();
        assert!(!bytes.windows(64).any(|window| window.iter().all(|byte| *byte == 0x5a)), "plain text on disk");
    }
    assert!(!format!("{wanted:?}").contains(SECRET));
}

async fn copies_for_upload_are_plain(store: Store) {
    let volumes = store.driver().await;
    let wanted = encrypted(8);
    volumes.ensure_volume(&wanted, Origin::Empty).await.unwrap();
    store.fill(&wanted.volume, 9);
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("copy.qcow2", DiskFormat::Qcow2), ("copy.raw", DiskFormat::Raw)] {
        let to = folder.path().join(name);
        volumes.copy_out(Origin::Volume(&wanted.volume), &to, format).await.unwrap();
        match &store {
            Store::Fake(volumes) => assert_eq!(volumes.copied(&to), Some(9)),
            Store::Local(_) if format == DiskFormat::Raw => {
                let bytes = std::fs::read(&to).unwrap();
                assert_eq!((bytes.len() as u64, bytes[0], bytes[MIB as usize]), (8 * MIB, 9, 0));
            }
            Store::Local(_) => assert!(qemu_io(&to, None, "read -P 9 0 1M")),
        }
    }
}

async fn room_is_told(store: Store) {
    let usage = store.driver().await.usage().await.unwrap();
    assert!(usage.free_bytes > 0 && usage.free_bytes <= usage.total_bytes, "{usage:?}");
}

macro_rules! on_every_driver {
    ($($test:ident)*) => {
        mod fake {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Store::Fake(FakeVolumes::default())).await })*
        }
        mod local {
            use super::*;
            $(#[tokio::test] async fn $test() {
                if let Some(store) = Store::local() { super::$test(store).await }
            })*
        }
    };
}

on_every_driver! {
    a_volume_is_made_once_and_grows
    snapshots_keep_what_was
    what_a_guest_has_open_is_left_alone
    an_encrypted_volume_needs_its_key
    copies_for_upload_are_plain
    room_is_told
}

#[tokio::test]
async fn a_volume_from_an_image_holds_it() {
    let Some(Store::Local(folder)) = Store::local() else { return };
    let volumes = LocalVolumes::open(config(folder.path())).await.unwrap();
    let image = folder.path().join("image.raw");
    std::fs::write(&image, vec![4; 2 * MIB as usize]).unwrap();
    let wanted = spec(8);
    let made = volumes.ensure_volume(&wanted, Origin::File { path: &image, format: DiskFormat::Raw }).await.unwrap();
    let Location::File { path, format } = made.location;
    assert_eq!((format, made.size_bytes), (DiskFormat::Qcow2, 8 * MIB));
    assert!(qemu_io(&path, None, "read -P 4 0 1M"));
}

#[tokio::test]
async fn a_copy_that_fails_or_was_broken_off_leaves_nothing() {
    let Some(Store::Local(folder)) = Store::local() else { return };
    let root = config(folder.path()).root;
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("broken-off.draft"), "half").unwrap();
    let volumes = LocalVolumes::open(config(folder.path())).await.unwrap();
    let image = folder.path().join("image.qcow2");
    std::fs::write(&image, "no image").unwrap();
    let error =
        volumes.ensure_volume(&spec(8), Origin::File { path: &image, format: DiskFormat::Qcow2 }).await.unwrap_err();
    assert!(matches!(error, VolumeError::Tool { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    let error = volumes.remove_volume(&VolumeId::new("../image")).await.unwrap_err();
    assert!(matches!(error, VolumeError::Invalid(_)), "{error}");
    std::fs::write(root.join("note.txt"), "a stray").unwrap();
    let strays = volumes.list().await.unwrap().strays;
    assert_eq!(strays, [root.join("note.txt")]);
    volumes.remove_stray(&strays[0]).await.unwrap();
    assert_eq!(volumes.list().await.unwrap().strays, Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn the_fake_fails_when_told() {
    let volumes = FakeVolumes::default();
    volumes.fail_next(Op::Volume, "no room");
    let error = volumes.ensure_volume(&spec(1), Origin::Empty).await.unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
    volumes.ensure_volume(&spec(1), Origin::Empty).await.unwrap();
}
