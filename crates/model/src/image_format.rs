//! What an image file is, read from its first bytes: the one check that stands between an uploaded file and QEMU.
//!
//! A disk format is declared by whoever uploads and never guessed. [`inspect`] says whether the content is what was
//! declared and whether it is safe to open: a qcow2 file may name another file as its backing or data file, and QEMU
//! would open that file, any file of the host, on the guest's behalf. Such files are refused, as are encrypted ones
//! and ones with features that this page does not know. `image` checks uploads with it, `drivers::disk` each file that
//! reaches a host, and the overlays that it made itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many of a file's first bytes [`inspect`] wants; a shorter file gives what it has.
pub const HEAD_BYTES: usize = 64 << 10;

/// Largest disk that a header may announce: 1 PiB.
pub const VIRTUAL_BYTES_MAX: u64 = 1 << 50;

/// Format of a disk's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Bytes as they are: also what Glance calls `iso`.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl DiskFormat {
    /// The word that QEMU, `qemu-img` and Glance use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Why an image is refused. Its text is for the caller who uploaded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The content is something else than declared.
    Mismatch {
        /// Declared.
        declared: DiskFormat,
        /// Found.
        found: &'static str,
    },
    /// It names a backing file.
    BackingFile,
    /// It keeps its data in another file.
    ExternalData,
    /// Its content is encrypted by the format's own means.
    Encrypted,
    /// A feature that nobody here knows, by its bit.
    UnknownFeature(u32),
    /// The header contradicts itself or is cut off; the text says where.
    Malformed(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { declared, found } => {
                write!(f, "the disk format is declared as {}, the content is {found}", declared.as_str())
            }
            Self::BackingFile => {
                f.write_str("a qcow2 image must not have a backing file: flatten it with qemu-img convert")
            }
            Self::ExternalData => {
                f.write_str("a qcow2 image must not have an external data file: use qemu-img convert")
            }
            Self::Encrypted => f.write_str("an image encrypted by its own format is not supported"),
            Self::UnknownFeature(bit) => write!(f, "the qcow2 image needs feature {bit}, which is not supported"),
            Self::Malformed(what) => write!(f, "the qcow2 header is not valid: {what}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Checks a file's first bytes against its declared format. Returns the size of the disk that a guest will see where
/// the content tells it; for `Raw` that is the file's length, which the first bytes don't know.
pub fn inspect(declared: DiskFormat, head: &[u8]) -> Result<Option<u64>, Refusal> {
    let found = recognise(head);
    match (declared, found) {
        (DiskFormat::Raw, None) => Ok(None),
        (DiskFormat::Raw, Some(found)) => Err(Refusal::Mismatch { declared, found }),
        (DiskFormat::Qcow2, Some("qcow2")) => Qcow2Header::parse(head)?.refuse_unsafe().map(Some),
        (DiskFormat::Qcow2, found) => {
            Err(Refusal::Mismatch { declared, found: found.unwrap_or(if head.is_empty() { "empty" } else { "raw" }) })
        }
    }
}

/// Magic numbers: offset, bytes, name. What has none of them is raw.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"\x1f\x8b\x08", "compressed by gzip"),
    (0, b"\xfd7zXZ\0", "compressed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (0, b"BZh", "compressed by bzip2"),
    (0, b"PK\x03\x04", "a zip archive"),
];

/// The format that a magic number gives away, `None` for raw.
pub fn recognise(head: &[u8]) -> Option<&'static str> {
    MAGIC.iter().find(|(at, magic, _)| head.get(*at..at + magic.len()) == Some(magic)).map(|(_, _, name)| *name)
}

/// The fields of a qcow2 header that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
    /// 2 or 3.
    pub version: u32,
    /// Size of the disk that a guest sees.
    pub virtual_bytes: u64,
    /// The backing file's name as it stands in the file.
    pub backing_file: Option<String>,
    /// Whether data lies in another file.
    pub external_data: bool,
    /// Whether the content is encrypted.
    pub encrypted: bool,
    /// Feature bits that a reader must understand.
    pub incompatible: u64,
}

/// Incompatible features: dirty, corrupt, external data, compression type, extended L2 entries.
const KNOWN_INCOMPATIBLE: u64 = 0b1_1111;
const INCOMPATIBLE_EXTERNAL_DATA: u64 = 1 << 2;
const EXTENSION_END: u32 = 0;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const BACKING_NAME_BYTES_MAX: u32 = 1023;

impl Qcow2Header {
    /// Reads a header, safe or not.
    pub fn parse(head: &[u8]) -> Result<Self, Refusal> {
        let cut = Refusal::Malformed("it is cut off");
        if head.get(..4) != Some(b"QFI\xfb") {
            return Err(Refusal::Malformed("no qcow2 magic"));
        }
        let version = be32(head, 4).ok_or(cut.clone())?;
        let (backing_at, backing_len) = be64(head, 8).zip(be32(head, 16)).ok_or(cut.clone())?;
        let (cluster_bits, virtual_bytes) = be32(head, 20).zip(be64(head, 24)).ok_or(cut.clone())?;
        let crypt_method = be32(head, 32).ok_or(cut.clone())?;
        let (incompatible, length) = match version {
            2 => (0, 72),
            3 => be64(head, 72).zip(be32(head, 100)).ok_or(cut.clone())?,
            _ => return Err(Refusal::Malformed("version is neither 2 nor 3")),
        };
        if !(9..=21).contains(&cluster_bits) {
            return Err(Refusal::Malformed("cluster size"));
        }
        if virtual_bytes > VIRTUAL_BYTES_MAX {
            return Err(Refusal::Malformed("virtual size"));
        }
        if length < 72 || length > 1 << cluster_bits || (version == 3 && length < 104) {
            return Err(Refusal::Malformed("header length"));
        }
        let extensions = Extensions::walk(head, length as usize)?;
        Ok(Self {
            version,
            virtual_bytes,
            backing_file: backing_name(head, backing_at, backing_len)?,
            external_data: extensions.data_file || incompatible & INCOMPATIBLE_EXTERNAL_DATA != 0,
            encrypted: crypt_method != 0 || extensions.encryption,
            incompatible,
        })
    }

    fn refuse_unsafe(&self) -> Result<u64, Refusal> {
        let unknown = self.incompatible & !KNOWN_INCOMPATIBLE;
        if self.backing_file.is_some() {
            Err(Refusal::BackingFile)
        } else if self.external_data {
            Err(Refusal::ExternalData)
        } else if self.encrypted {
            Err(Refusal::Encrypted)
        } else if unknown != 0 {
            Err(Refusal::UnknownFeature(unknown.trailing_zeros()))
        } else if self.virtual_bytes == 0 {
            Err(Refusal::Malformed("virtual size"))
        } else {
            Ok(self.virtual_bytes)
        }
    }
}

fn backing_name(head: &[u8], at: u64, length: u32) -> Result<Option<String>, Refusal> {
    // QEMU goes by the offset alone: an offset without a length is a backing file with an empty name.
    if at == 0 {
        return Ok(None);
    }
    let start = usize::try_from(at).map_err(|_| Refusal::BackingFile)?;
    if length > BACKING_NAME_BYTES_MAX {
        return Err(Refusal::BackingFile);
    }
    let name = start.checked_add(length as usize).and_then(|end| head.get(start..end)).ok_or(Refusal::BackingFile)?;
    Ok(Some(String::from_utf8_lossy(name).into_owned()))
}

/// The header extensions that make a file unsafe.
#[derive(Default)]
struct Extensions {
    data_file: bool,
    encryption: bool,
}

impl Extensions {
    /// Follows the extensions from `at` until the end mark. Each is type, length, data padded to 8 bytes.
    fn walk(head: &[u8], mut at: usize) -> Result<Self, Refusal> {
        let mut found = Self::default();
        loop {
            let Some((kind, length)) = be32(head, at).zip(be32(head, at + 4)) else {
                return Err(Refusal::Malformed("its extensions have no end"));
            };
            match kind {
                EXTENSION_END => return Ok(found),
                EXTENSION_DATA_FILE => found.data_file = true,
                EXTENSION_ENCRYPTION => found.encryption = true,
                _ => {}
            }
            at += 8 + (length as usize).next_multiple_of(8);
        }
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 3 header as `qemu-img create -f qcow2 x 1G` writes it.
    fn qcow2() -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[4..8].copy_from_slice(&3u32.to_be_bytes());
        head[20..24].copy_from_slice(&16u32.to_be_bytes());
        head[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        head[96..100].copy_from_slice(&4u32.to_be_bytes());
        head[100..104].copy_from_slice(&104u32.to_be_bytes());
        head
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = qcow2();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn qcow2_headers() {
        let name_at_512 = |head: &mut Vec<u8>| head[512..523].copy_from_slice(b"/etc/passwd");
        let mut backed = with(8, &512u64.to_be_bytes());
        backed[16..20].copy_from_slice(&11u32.to_be_bytes());
        name_at_512(&mut backed);
        let mut version2 = with(4, &2u32.to_be_bytes());
        version2[72..].fill(0);
        let data_file = [&EXTENSION_DATA_FILE.to_be_bytes()[..], &5u32.to_be_bytes(), b"/data\0\0\0"].concat();
        let crypt = [&EXTENSION_ENCRYPTION.to_be_bytes()[..], &16u32.to_be_bytes()].concat();
        let endless = [&7u32.to_be_bytes()[..], &0xffff_ffffu32.to_be_bytes()].concat();
        let late = {
            // An innocent extension first: the walk must not stop at it.
            let mut head = with(104, &[&0x6803_f857u32.to_be_bytes()[..], &48u32.to_be_bytes()].concat());
            head[160..176].copy_from_slice(&data_file);
            head
        };
        type Case = (&'static str, Vec<u8>, Result<Option<u64>, Refusal>);
        let table: Vec<Case> = vec![
            ("plain version 3", qcow2(), Ok(Some(1 << 30))),
            ("plain version 2", version2, Ok(Some(1 << 30))),
            ("backing file", backed, Err(Refusal::BackingFile)),
            ("backing file without a name", with(8, &512u64.to_be_bytes()), Err(Refusal::BackingFile)),
            ("backing file name out of reach", with(8, &u64::MAX.to_be_bytes()), Err(Refusal::BackingFile)),
            ("data file by feature", with(72, &4u64.to_be_bytes()), Err(Refusal::ExternalData)),
            ("data file by extension", with(104, &data_file), Err(Refusal::ExternalData)),
            ("data file by a later extension", late, Err(Refusal::ExternalData)),
            ("AES", with(32, &1u32.to_be_bytes()), Err(Refusal::Encrypted)),
            ("LUKS", with(104, &crypt), Err(Refusal::Encrypted)),
            ("compression type, extended L2", with(72, &0x18u64.to_be_bytes()), Ok(Some(1 << 30))),
            ("unknown feature", with(72, &0x20u64.to_be_bytes()), Err(Refusal::UnknownFeature(5))),
            ("version 4", with(4, &4u32.to_be_bytes()), Err(Refusal::Malformed("version is neither 2 nor 3"))),
            ("cluster size", with(20, &40u32.to_be_bytes()), Err(Refusal::Malformed("cluster size"))),
            ("virtual size 0", with(24, &[0; 8]), Err(Refusal::Malformed("virtual size"))),
            ("virtual size huge", with(24, &[0xff; 8]), Err(Refusal::Malformed("virtual size"))),
            ("header length", with(100, &8u32.to_be_bytes()), Err(Refusal::Malformed("header length"))),
            ("endless extensions", with(104, &endless), Err(Refusal::Malformed("its extensions have no end"))),
            ("cut off", qcow2()[..40].to_vec(), Err(Refusal::Malformed("it is cut off"))),
        ];
        for (name, head, expected) in table {
            assert_eq!(inspect(DiskFormat::Qcow2, &head), expected, "{name}");
        }
    }

    #[test]
    fn declared_against_found() {
        let at = |offset: usize, magic: &[u8]| {
            let mut head = vec![0; 512];
            head[offset..offset + magic.len()].copy_from_slice(magic);
            head
        };
        let boot_sector = at(510, b"\x55\xaa");
        let table: [(DiskFormat, Vec<u8>, Result<(), &str>); 11] = [
            (DiskFormat::Raw, boot_sector.clone(), Ok(())),
            (DiskFormat::Raw, vec![], Ok(())),
            (DiskFormat::Qcow2, boot_sector, Err("raw")),
            (DiskFormat::Qcow2, vec![], Err("empty")),
            (DiskFormat::Raw, qcow2(), Err("qcow2")),
            (DiskFormat::Raw, at(0, b"KDMV"), Err("vmdk")),
            (DiskFormat::Raw, at(0, b"# Disk DescriptorFile"), Err("vmdk")),
            (DiskFormat::Raw, at(64, b"\x7f\x10\xda\xbe"), Err("vdi")),
            (DiskFormat::Raw, at(0, b"conectix"), Err("vhd")),
            (DiskFormat::Qcow2, at(0, b"vhdxfile"), Err("vhdx")),
            (DiskFormat::Qcow2, at(0, b"\x1f\x8b\x08"), Err("compressed by gzip")),
        ];
        for (declared, head, expected) in table {
            let expected = expected.map_err(|found| Refusal::Mismatch { declared, found }).map(|()| None);
            assert_eq!(inspect(declared, &head), expected);
        }
    }

    #[test]
    fn every_cut_of_a_header_is_refused_without_a_panic() {
        let head = qcow2();
        for length in 0..112 {
            assert!(inspect(DiskFormat::Qcow2, &head[..length]).is_err(), "{length} bytes");
        }
    }
}
