//! Files on disk: the one place that touches them.
//!
//! `<directory>/<image>/<generation>` holds the data of one upload, `<generation>.part` what has arrived of it. A part
//! becomes the data by a rename after all of it has been synced, so a file without the suffix is always complete.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use md5::Md5;
use model::{Error, ErrorKind, Result, id::ImageId, image_format::HEAD_BYTES};
use sha2::{Digest, Sha256, Sha512};
use tokio::{io::AsyncSeekExt, sync::mpsc, task::spawn_blocking};

use super::logic::{self, Declared};

const PART: &str = ".part";
const WRITE_BYTES: usize = 1 << 20;

/// The image directory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Files {
    root: PathBuf,
}

/// A piece of an upload.
pub(crate) enum Piece {
    /// Some bytes.
    Data(Bytes),
    /// That was all. A channel that closes without it means that the upload broke off.
    End,
}

/// A file that is complete and on disk.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub size: u64,
    pub virtual_size: Option<u64>,
    pub md5: String,
    pub sha256: String,
    pub sha512: String,
}

/// A file or folder as the doctor finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The image that its folder names.
    pub image: ImageId,
    /// Its name in the folder; none for a folder that is empty.
    pub name: Option<String>,
    pub size: u64,
}

impl Files {
    pub(crate) async fn open(root: PathBuf) -> io::Result<Self> {
        let files = Self { root };
        let made = files.clone();
        spawn_blocking(move || make_folder(&made.root)).await.map_err(io::Error::other)??;
        Ok(files)
    }

    /// Where an upload's data comes to lie, relative to the directory.
    pub(crate) fn name(image: &ImageId, generation: i64) -> String {
        format!("{image}/{generation}")
    }

    /// Takes an upload from the channel to the disk, on a thread of its own. Nothing is left of one that fails.
    pub(crate) async fn receive(
        &self,
        image: &ImageId,
        generation: i64,
        declared: Declared,
        pieces: mpsc::Receiver<Piece>,
    ) -> Result<Received> {
        let path = self.root.join(Self::name(image, generation));
        let work = move || {
            let part = path.with_added_extension("part");
            let received = write_all(&path, &part, &declared, pieces);
            if received.is_err() {
                remove_file(&part).map_err(|e| storage("removing a broken upload", e))?;
            }
            received
        };
        blocking("receiving image data", work).await
    }

    /// Opens an image's data from that byte on.
    pub(crate) async fn read(&self, file: &str, from: u64) -> Result<tokio::fs::File> {
        let opened = async {
            let mut opened = tokio::fs::File::open(self.root.join(file)).await?;
            if from > 0 {
                opened.seek(io::SeekFrom::Start(from)).await?;
            }
            Ok(opened)
        };
        opened.await.map_err(|e| storage("opening image data", e))
    }

    /// Where a file of the directory lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Reads a file of ours to its end: length and hashes.
    pub(crate) async fn measure(&self, name: &str, virtual_size: u64) -> Result<Received> {
        let path = self.root.join(name);
        blocking("reading image data", move || {
            let measure = || {
                let (mut file, mut hashes) = (fs::File::open(&path)?, Hashes::default());
                let mut piece = vec![0; WRITE_BYTES];
                loop {
                    match io::Read::read(&mut file, &mut piece)? {
                        0 => return Ok(hashes),
                        read => hashes.update(piece.get(..read).unwrap_or_default()),
                    }
                }
            };
            measure().map(|hashes| hashes.finish(Some(virtual_size))).map_err(|e| storage("reading image data", e))
        })
        .await
    }

    /// Removes one upload's data, complete or not.
    pub(crate) async fn remove(&self, image: &ImageId, generation: i64) -> Result<()> {
        let path = self.root.join(Self::name(image, generation));
        blocking("removing image data", move || {
            let removed = remove_file(&path.with_added_extension("part")).and_then(|()| remove_file(&path));
            removed.map_err(|e| storage("removing image data", e))
        })
        .await
    }

    /// Removes what uploads up to that generation have left.
    pub(crate) async fn remove_up_to(&self, image: &ImageId, generation: i64) -> Result<()> {
        let folder = self.root.join(image.as_str());
        blocking("clearing image data", move || {
            let remove = || {
                for name in names_in(&folder)? {
                    if generation_of(&name).is_some_and(|g| g <= generation) {
                        remove_file(&folder.join(name))?;
                    }
                }
                Ok(())
            };
            remove().map_err(|e| storage("clearing image data", e))
        })
        .await
    }

    /// Removes all of an image's files, and its folder.
    pub(crate) async fn remove_all(&self, image: &ImageId) -> Result<()> {
        let folder = self.root.join(image.as_str());
        blocking("removing an image's folder", move || match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(storage("removing an image's folder", e)),
            _ => Ok(()),
        })
        .await
    }

    /// Removes something observed, and the folder that it leaves empty.
    pub(crate) async fn remove_stray(&self, stray: &Observed) -> Result<()> {
        let folder = self.root.join(stray.image.as_str());
        let file = stray.name.as_ref().map_or_else(|| folder.clone(), |name| folder.join(name));
        blocking("removing a stray file", move || {
            let removed = if file.is_dir() { fs::remove_dir_all(&file) } else { remove_file(&file) };
            // Not empty, or gone: both are fine.
            let _ = fs::remove_dir(&folder);
            removed.map_err(|e| storage("removing a stray file", e))
        })
        .await
    }

    /// Everything that there is.
    pub(crate) async fn observe(&self) -> Result<Vec<Observed>> {
        let root = self.root.clone();
        blocking("looking through the image directory", move || {
            observe(&root).map_err(|e| storage("looking through the image directory", e))
        })
        .await
    }
}

/// The upload that a file belongs to.
pub(crate) fn generation_of(name: &str) -> Option<i64> {
    name.strip_suffix(PART).unwrap_or(name).parse().ok()
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.map_err(|e| Error::internal(what, e))?
}

pub(super) fn storage(what: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::TooLarge, "StorageFull", "Image storage media is full.").because(error)
        }
        _ => Error::internal(what, error),
    }
}

/// Data is for nobody but us: agents get it over their own connection.
fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

fn observe(root: &Path) -> io::Result<Vec<Observed>> {
    let mut found = Vec::new();
    for image in names_in(root)? {
        let folder = root.join(&image);
        let names = if folder.is_dir() { names_in(&folder)? } else { Vec::new() };
        if names.is_empty() {
            found.push(Observed { image: ImageId::new(&*image), name: None, size: 0 });
        }
        for name in names {
            // Gone between the two looks: an upload that was renamed.
            let Ok(metadata) = fs::metadata(folder.join(&name)) else { continue };
            found.push(Observed { image: ImageId::new(&*image), name: Some(name), size: metadata.len() });
        }
    }
    Ok(found)
}

/// The hashes of what passes through.
#[derive(Default)]
struct Hashes {
    md5: Md5,
    sha256: Sha256,
    sha512: Sha512,
    size: u64,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self, virtual_size: Option<u64>) -> Received {
        Received {
            size: self.size,
            virtual_size,
            md5: hex::encode(self.md5.finalize()),
            sha256: hex::encode(self.sha256.finalize()),
            sha512: hex::encode(self.sha512.finalize()),
        }
    }
}

fn write_all(path: &Path, part: &Path, declared: &Declared, mut pieces: mpsc::Receiver<Piece>) -> Result<Received> {
    // The head stays in memory until it has been checked: a refused file never reaches the disk.
    let (mut head, mut ended) = (Vec::new(), false);
    while head.len() < HEAD_BYTES && !ended {
        match next(&mut pieces)? {
            Piece::Data(bytes) => head.extend_from_slice(&bytes),
            Piece::End => ended = true,
        }
    }
    let virtual_size = logic::check_head(declared, head.get(..HEAD_BYTES).unwrap_or(&head))?;
    let failed = |e| storage("writing image data", e);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(failed)?;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failed)?;
    let mut file = io::BufWriter::with_capacity(WRITE_BYTES, file);
    let mut hashes = Hashes::default();
    let mut piece = Bytes::from(head);
    loop {
        hashes.update(&piece);
        file.write_all(&piece).map_err(failed)?;
        if ended {
            break;
        }
        match next(&mut pieces)? {
            Piece::Data(bytes) => piece = bytes,
            Piece::End => break,
        }
    }
    file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    fs::rename(part, path).map_err(failed)?;
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    let virtual_size = match declared {
        Declared::Disk(_) => Some(virtual_size.unwrap_or(hashes.size)),
        Declared::Recognised(..) | Declared::Opaque => None,
    };
    Ok(hashes.finish(virtual_size))
}

fn next(pieces: &mut mpsc::Receiver<Piece>) -> Result<Piece> {
    pieces.blocking_recv().ok_or_else(|| Error::bad_request("UploadBrokenOff", "The upload broke off."))
}
