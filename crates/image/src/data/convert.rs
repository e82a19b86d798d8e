//! Other programs' disk formats: what of them is safe to open, and their conversion to qcow2.
//!
//! A disk may consist of several files, name a parent, or announce more than it holds, and `qemu-img` would follow. So
//! the header is read here first ([`check_head`]), and what is left runs as nobody, on two open files that it can't
//! choose, under limits of memory, time, output and open files.

use std::{
    fs::{File, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use model::{
    Error, ErrorKind, Result,
    image_format::{self, DiskFormat, HEAD_BYTES},
};
use tokio::{io::AsyncReadExt, process::Command, task::spawn_blocking, time::timeout};

use super::{Files, Received, files::storage};

/// Largest disk that is converted: 16 TiB.
pub(crate) const VIRTUAL_BYTES_MAX: u64 = 16 << 40;
/// What a conversion may take of the clock, the processor and memory.
const WALL_TIME_MAX: Duration = Duration::from_secs(4 * 3600);
const CPU_SECONDS_MAX: u64 = 3600;
const MEMORY_BYTES_MAX: u64 = 2 << 30;
const OPEN_FILES_MAX: u64 = 64;
/// What is kept of the tool's words.
const WORDS_BYTES_MAX: u64 = 4096;
/// Who is nobody everywhere.
const NOBODY: u32 = 65_534;
const SECTOR: u64 = 512;

/// The tools of a conversion.
#[derive(Clone, Debug)]
pub struct Convert {
    /// `qemu-img`.
    pub qemu_img: PathBuf,
    /// `prlimit` of util-linux.
    pub prlimit: PathBuf,
    /// Besides the folder's owner: whether conversions run as nobody. Only root can have that.
    pub as_nobody: bool,
}

impl Default for Convert {
    fn default() -> Self {
        Self {
            qemu_img: "/usr/bin/qemu-img".into(),
            prlimit: "/usr/bin/prlimit".into(),
            as_nobody: std::fs::metadata("/proc/self").is_ok_and(|us| std::os::unix::fs::MetadataExt::uid(&us) == 0),
        }
    }
}

impl Convert {
    /// Converts a file of the image directory, checked by [`check_head`] when it came, to a qcow2 file there. The source
    /// is removed: it may be the target's own name.
    pub(crate) async fn run(
        &self,
        files: &Files,
        format: &'static str,
        source: &str,
        target: &str,
        bytes_max: u64,
    ) -> Result<Received> {
        let (from, to) = (files.path(source), files.path(&format!("{target}.part")));
        let result = self.convert(format, &from, &to, bytes_max).await;
        let removed = spawn_blocking({
            let (from, to, target, keep) = (from, to, files.path(target), result.is_ok());
            move || {
                let remove = |path: &PathBuf| match std::fs::remove_file(path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                    _ => Ok(()),
                };
                if !keep {
                    return remove(&to).and_then(|()| remove(&from));
                }
                std::fs::set_permissions(&to, Permissions::from_mode(0o600))?;
                File::open(&to)?.sync_all()?;
                // The target first: whoever dies in between still has the source.
                std::fs::rename(&to, &target)?;
                if from == target { Ok(()) } else { remove(&from) }
            }
        });
        let removed = removed.await.map_err(|e| Error::internal("converting an image", e))?;
        let virtual_bytes = result?;
        removed.map_err(|e| storage("keeping a converted image", e))?;
        files.measure(target, virtual_bytes).await
    }

    async fn convert(&self, format: &'static str, from: &PathBuf, to: &PathBuf, bytes_max: u64) -> Result<u64> {
        let failed = |e| storage("converting an image", e);
        // The folders above are closed to all but us: nobody reaches the two files but through what it is handed.
        std::fs::set_permissions(from, Permissions::from_mode(0o644)).map_err(failed)?;
        let source = File::open(from).map_err(failed)?;
        let target = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o666)
            .open(to)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o666)).map(|()| file))
            .map_err(failed)?;
        let arguments = ["convert", "-q", "-f", driver(format), "-O", "qcow2", "/proc/self/fd/0", "/proc/self/fd/1"];
        let mut command = Command::new(&self.prlimit);
        command
            .arg(format!("--as={MEMORY_BYTES_MAX}"))
            .arg(format!("--cpu={CPU_SECONDS_MAX}"))
            .arg(format!("--fsize={bytes_max}"))
            .arg(format!("--nofile={OPEN_FILES_MAX}"))
            .arg("--core=0")
            .arg(&self.qemu_img)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(source))
            .stdout(Stdio::from(target))
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().map_err(failed)?;
        let mut words = Vec::new();
        let waited = timeout(WALL_TIME_MAX, async {
            if let Some(stderr) = child.stderr.take() {
                stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words).await?;
            }
            child.wait().await
        });
        let refuse = |why: String| Error::new(ErrorKind::UnsupportedMedia, "ConversionFailed", why);
        let status =
            waited.await.map_err(|_| refuse("The image's conversion took too long.".to_owned()))?.map_err(failed)?;
        if !status.success() {
            let words = String::from_utf8_lossy(&words).replace("/proc/self/fd/0", "the image");
            return Err(refuse(format!("The {format} image can't be converted: {}", words.trim())));
        }
        let head = head_of(to.clone()).await?;
        match image_format::inspect(DiskFormat::Qcow2, &head) {
            Ok(Some(bytes)) => Ok(bytes),
            other => Err(refuse(format!("The image's conversion gave something else than qcow2: {other:?}"))),
        }
    }
}

async fn head_of(path: PathBuf) -> Result<Vec<u8>> {
    let read = spawn_blocking(move || {
        let mut head = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(File::open(path)?, HEAD_BYTES as u64), &mut head)?;
        Ok::<_, std::io::Error>(head)
    });
    read.await
        .map_err(|e| Error::internal("reading a converted image", e))?
        .map_err(|e| storage("reading a converted image", e))
}

/// What QEMU calls the format.
fn driver(format: &'static str) -> &'static str {
    match format {
        "vhd" => "vpc",
        "ploop" => "parallels",
        other => other,
    }
}

/// Checks the header of a file that was recognised as one of these formats. The size of its disk.
pub(crate) fn check_head(format: &str, head: &[u8]) -> Result<u64, &'static str> {
    let bytes = match format {
        "vmdk" => vmdk(head)?,
        "vdi" => vdi(head)?,
        "vhd" => vhd(head)?,
        "vhdx" => vhdx(head)?,
        // Parallels: tracks of sectors; version 2 alone.
        "ploop" => le64(head, 36).map(|sectors| sectors.saturating_mul(SECTOR)).ok_or("its header is cut off")?,
        _ => return Err("its format is not supported"),
    };
    match bytes {
        0 => Err("its disk has no size"),
        bytes if bytes > VIRTUAL_BYTES_MAX => Err("its disk is larger than 16 TiB"),
        bytes => Ok(bytes),
    }
}

/// A sparse file that holds its own description, of a disk that consists of this one file.
fn vmdk(head: &[u8]) -> Result<u64, &'static str> {
    if head.get(..4) != Some(b"KDMV") {
        return Err(
            "of vmdk, only files that hold their data themselves are supported (monolithicSparse, streamOptimized)",
        );
    }
    let cut = "its vmdk header is cut off";
    let capacity = le64(head, 12).ok_or(cut)?;
    let (at, sectors) = le64(head, 28).zip(le64(head, 36)).ok_or(cut)?;
    // QEMU takes a file without capacity for a mere description, whatever else its header says.
    if capacity == 0 {
        return Err("its vmdk header has no capacity");
    }
    if at == 0 || sectors == 0 {
        return Err("a vmdk file must hold its own description");
    }
    let bounds = at.checked_mul(SECTOR).zip(at.checked_add(sectors).and_then(|end| end.checked_mul(SECTOR)));
    let bounds = bounds.and_then(|(from, to)| Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?));
    let text = bounds.and_then(|bounds| head.get(bounds)).ok_or("its vmdk description lies out of reach")?;
    let text = String::from_utf8_lossy(text);
    description(text.split('\0').next().unwrap_or_default())?;
    Ok(capacity.saturating_mul(SECTOR))
}

fn description(text: &str) -> Result<(), &'static str> {
    let (mut kind, mut extents) = (None, 0);
    for line in text.lines().map(str::trim) {
        let lower = line.to_ascii_lowercase();
        if let Some((key, value)) = lower.split_once('=') {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "createtype" => kind = Some(value.to_owned()),
                "parentcid" if value != "ffffffff" => return Err("a vmdk image must not have a parent"),
                "parentfilenamehint" => return Err("a vmdk image must not have a parent"),
                _ => {}
            }
        }
        let mut words = lower.split_whitespace();
        if matches!(words.next(), Some("rw" | "rdonly" | "noaccess")) {
            extents += 1;
            if words.nth(1) != Some("sparse") {
                return Err("a vmdk image must hold its data itself, not in another file");
            }
        }
    }
    match (kind.as_deref(), extents) {
        (Some("monolithicsparse" | "streamoptimized"), 1) => Ok(()),
        (Some("monolithicsparse" | "streamoptimized"), _) => Err("a vmdk image must consist of one file"),
        _ => Err("of vmdk, only monolithicSparse and streamOptimized are supported"),
    }
}

/// Dynamic or fixed, without a parent.
fn vdi(head: &[u8]) -> Result<u64, &'static str> {
    let cut = "its vdi header is cut off";
    match le32(head, 76).ok_or(cut)? {
        1 | 2 => le64(head, 368).ok_or(cut),
        _ => Err("of vdi, only dynamic and fixed images are supported, without a parent"),
    }
}

/// Dynamic: differencing disks have a parent.
fn vhd(head: &[u8]) -> Result<u64, &'static str> {
    let cut = "its vhd header is cut off";
    let kind = head.get(60..64).ok_or(cut)?;
    if kind != 3_u32.to_be_bytes() && kind != 2_u32.to_be_bytes() {
        return Err("a vhd image must not have a parent");
    }
    let size: [u8; 8] = head.get(48..56).and_then(|b| b.try_into().ok()).ok_or(cut)?;
    Ok(u64::from_be_bytes(size))
}

/// Its size lies in a metadata region; what has a parent says so there, beyond the head or not: QEMU refuses parents.
fn vhdx(head: &[u8]) -> Result<u64, &'static str> {
    if head.len() < HEAD_BYTES {
        return Err("its vhdx header is cut off");
    }
    // Not told by the first bytes: any size that is not refused. The conversion's own limits hold.
    Ok(1)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmdk_with(text: &str, capacity: u64) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"KDMV");
        head[12..20].copy_from_slice(&capacity.to_le_bytes());
        head[28..36].copy_from_slice(&1_u64.to_le_bytes());
        head[36..44].copy_from_slice(&4_u64.to_le_bytes());
        head[512..512 + text.len()].copy_from_slice(text.as_bytes());
        head
    }

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\
                        RW 2048 SPARSE \"x.vmdk\"\n";

    #[test]
    fn vmdk_headers() {
        let table = [
            ("good", vmdk_with(GOOD, 2048), Ok(1 << 20)),
            ("stream", vmdk_with(&GOOD.replace("monolithicSparse", "streamOptimized"), 2048), Ok(1 << 20)),
            (
                "description only",
                b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n".to_vec(),
                Err("monolithicSparse"),
            ),
            ("old format", b"COWD".to_vec(), Err("monolithicSparse")),
            ("no capacity", vmdk_with(GOOD, 0), Err("no capacity")),
            ("huge", vmdk_with(GOOD, 1 << 60), Err("16 TiB")),
            ("flat", vmdk_with(&GOOD.replace("SPARSE", "FLAT"), 2048), Err("another file")),
            ("two extents", vmdk_with(&format!("{GOOD}RW 1 SPARSE \"/etc/shadow\"\n"), 2048), Err("one file")),
            ("flat type", vmdk_with(&GOOD.replace("monolithicSparse", "monolithicFlat"), 2048), Err("supported")),
            ("parent", vmdk_with(&GOOD.replace("ffffffff", "12345678"), 2048), Err("parent")),
            ("parent's name", vmdk_with(&format!("{GOOD}parentFileNameHint=\"/x\"\n"), 2048), Err("parent")),
            ("no type", vmdk_with("RW 2048 SPARSE \"x\"", 2048), Err("supported")),
            ("cut", b"KDMV".to_vec(), Err("cut off")),
        ];
        for (name, head, expected) in table {
            match (check_head("vmdk", &head), expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{name}"),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{name}: {found}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn others() {
        let with = |at: usize, bytes: &[u8]| {
            let mut head = vec![0; HEAD_BYTES];
            head[at..at + bytes.len()].copy_from_slice(bytes);
            head
        };
        let mut vdi = with(368, &(1_u64 << 30).to_le_bytes());
        vdi[76] = 1;
        let mut differencing = vdi.clone();
        differencing[76] = 4;
        let mut vhd = with(48, &(1_u64 << 30).to_be_bytes());
        vhd[63] = 3;
        let mut child = vhd.clone();
        child[63] = 4;
        for (format, head, fits) in [
            ("vdi", vdi, true),
            ("vdi", differencing, false),
            ("vdi", with(76, &[1]), false),
            ("vhd", vhd, true),
            ("vhd", child, false),
            ("vhdx", with(0, b"vhdxfile"), true),
            ("vhdx", b"vhdxfile".to_vec(), false),
            ("qed", with(0, b"QED"), false),
        ] {
            assert_eq!(check_head(format, &head).is_ok(), fits, "{format}");
        }
    }
}
