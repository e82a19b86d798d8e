//! Decisions about data: what is taken, how much of it, and which part is asked for.

use model::{
    Error, ErrorKind, Result,
    image_format::{self, DiskFormat},
};
use store::images::Image;

use super::convert;

/// Largest image: 1 TiB, Glance's default.
pub(crate) const IMAGE_BYTES_MAX: u64 = 1 << 40;

/// What an upload's content must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// A disk that guests may boot from: its header decides whether it is safe.
    Disk(DiskFormat),
    /// A format that only has to be recognised, by one of these names; no host opens it.
    Recognised(&'static str, &'static [&'static str]),
    /// Content that looks like nothing in particular, or is wrapped in a container.
    Opaque,
}

/// What an image's formats declare.
///
/// # Errors
/// Bad request where they are not set.
pub(crate) fn declared(image: &Image) -> Result<Declared> {
    let (Some(disk), Some(container)) = (&image.disk_format, &image.container_format) else {
        return Err(Error::bad_request(
            "MissingFormats",
            "Properties disk_format, container_format must be set prior to saving data.",
        ));
    };
    Ok(match (container.as_str(), disk.as_str()) {
        // An archive or a compressed file: what is in it is not for us to open.
        ("ovf" | "ova" | "docker" | "compressed", _) => Declared::Opaque,
        (_, "raw" | "iso") => Declared::Disk(DiskFormat::Raw),
        (_, "qcow2") => Declared::Disk(DiskFormat::Qcow2),
        (_, "vhd") => Declared::Recognised("vhd", &["vhd"]),
        (_, "vhdx") => Declared::Recognised("vhdx", &["vhdx"]),
        (_, "vmdk") => Declared::Recognised("vmdk", &["vmdk"]),
        (_, "vdi") => Declared::Recognised("vdi", &["vdi"]),
        (_, "ploop") => Declared::Recognised("ploop", &["parallels"]),
        _ => Declared::Opaque,
    })
}

/// Properties that ask for the verification of a signature; Glance verifies where all four are there.
const SIGNATURE: [&str; 4] =
    ["img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"];

/// Whether the image asks for a signature to be verified, which needs a certificate that only a key manager has.
///
/// # Errors
/// Bad request: data that can't be verified is not taken as if it had been.
pub(crate) fn refuse_signed(image: &Image) -> Result<()> {
    if SIGNATURE.iter().all(|name| image.properties.contains_key(*name)) {
        let text = "The image's signature can't be verified: this cloud has no key manager that would hold the \
                    certificate. Remove the properties img_signature* to upload without verification.";
        return Err(Error::bad_request("SignatureVerificationUnavailable", text));
    }
    Ok(())
}

/// Checks the first bytes. The size of the disk that a guest sees, where they tell it.
///
/// # Errors
/// Unsupported media, with the reason.
pub(crate) fn check_head(declared: &Declared, head: &[u8]) -> Result<Option<u64>> {
    let refuse = |why: String| {
        Err(Error::new(ErrorKind::UnsupportedMedia, "InvalidImageData", format!("Image data is refused: {why}.")))
    };
    match declared {
        Declared::Opaque => Ok(None),
        Declared::Disk(format) => image_format::inspect(*format, head).or_else(|refusal| refuse(refusal.to_string())),
        Declared::Recognised(name, magic) => match image_format::recognise(head) {
            Some(found) if magic.contains(&found) => {
                convert::check_head(name, head).map(Some).or_else(|why| refuse(why.to_owned()))
            }
            found => refuse(format!(
                "the disk format is declared as {name}, the content is {}",
                found.unwrap_or("something else")
            )),
        },
    }
}

/// How many bytes an upload may have: what the largest image has, and what is left of the quota (in MiB; none: as much
/// as one likes).
pub(crate) fn bytes_max(quota_left: Option<i64>) -> u64 {
    let left = quota_left.map(|mebibytes| u64::try_from(mebibytes.max(0)).unwrap_or(0) << 20);
    left.map_or(IMAGE_BYTES_MAX, |left| left.min(IMAGE_BYTES_MAX))
}

/// The part of a file that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included.
    Bytes(u64, u64),
    /// Nothing that there is.
    Beyond,
}

/// Reads a `Range` header. One that is not understood, or asks for several ranges, is passed over, as HTTP wants it.
pub(crate) fn part(range: Option<&str>, size: u64) -> Part {
    let Some(spec) = range.and_then(|r| r.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Part::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            None => Part::Whole,
            Some(0) => Part::Beyond,
            Some(_) if size == 0 => Part::Beyond,
            Some(length) => Part::Bytes(size.saturating_sub(length), size - 1),
        },
        (first, "") => match number(first) {
            None => Part::Whole,
            Some(first) if first < size => Part::Bytes(first, size - 1),
            Some(_) => Part::Beyond,
        },
        (first, last) => match number(first).zip(number(last)) {
            Some((first, last)) if first <= last && first < size => Part::Bytes(first, last.min(size - 1)),
            Some((first, last)) if first <= last => Part::Beyond,
            _ => Part::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use model::{
        Timestamp,
        id::{ImageId, ProjectId},
    };

    use super::*;

    #[test]
    fn parts() {
        use Part::{Beyond, Bytes, Whole};
        let table = [
            (None, 10, Whole),
            (Some("bytes=0-3"), 10, Bytes(0, 3)),
            (Some("bytes=4-"), 10, Bytes(4, 9)),
            (Some("bytes=-3"), 10, Bytes(7, 9)),
            (Some("bytes=-30"), 10, Bytes(0, 9)),
            (Some("bytes=5-50"), 10, Bytes(5, 9)),
            (Some("bytes=10-"), 10, Beyond),
            (Some("bytes=10-20"), 10, Beyond),
            (Some("bytes=-0"), 10, Beyond),
            (Some("bytes=-5"), 0, Beyond),
            (Some("bytes=3-2"), 10, Whole),
            (Some("bytes=0-1,3-4"), 10, Whole),
            (Some("lines=1-2"), 10, Whole),
            (Some("bytes=x-"), 10, Whole),
        ];
        for (range, size, expected) in table {
            assert_eq!(part(range, size), expected, "{range:?} of {size}");
        }
    }

    #[test]
    fn what_formats_declare() {
        let table = [
            (Some("raw"), Some("bare"), Ok(Declared::Disk(DiskFormat::Raw))),
            (Some("qcow2"), Some("bare"), Ok(Declared::Disk(DiskFormat::Qcow2))),
            (Some("iso"), Some("bare"), Ok(Declared::Disk(DiskFormat::Raw))),
            (Some("qcow2"), Some("ova"), Ok(Declared::Opaque)),
            (Some("aki"), Some("aki"), Ok(Declared::Opaque)),
            (Some("vmdk"), Some("bare"), Ok(Declared::Recognised("vmdk", &["vmdk"]))),
            (None, Some("bare"), Err(ErrorKind::BadRequest)),
            (Some("raw"), None, Err(ErrorKind::BadRequest)),
        ];
        for (disk, container, expected) in table {
            let mut image = Image::new(ImageId::new("i"), ProjectId::new("p"), Timestamp(0));
            image.disk_format = disk.map(str::to_owned);
            image.container_format = container.map(str::to_owned);
            assert_eq!(declared(&image).map_err(|e| e.kind), expected, "{disk:?} {container:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let vmdk = Declared::Recognised("vmdk", &["vmdk"]);
        assert!(check_head(&vmdk, b"QFI\xfb").is_err());
        assert!(check_head(&vmdk, b"plain").is_err());
        assert!(check_head(&Declared::Opaque, b"QFI\xfb").is_ok());
        assert!(check_head(&Declared::Disk(DiskFormat::Raw), b"QFI\xfb").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes_max(None), IMAGE_BYTES_MAX);
        assert_eq!(bytes_max(Some(3)), 3 << 20);
        assert_eq!(bytes_max(Some(-3)), 0);
        assert_eq!(bytes_max(Some(i64::MAX >> 20)), IMAGE_BYTES_MAX);
    }
}
