//! Checking a base image while it streams in: its length, its digest, its format. Pure; the drivers do the writing.

use model::image_format::{self, HEAD_BYTES};
use sha2::{Digest as _, Sha256, Sha512};

use super::{BaseSpec, Digest, DiskError, DiskFormat, Result};

/// Takes an image's bytes in pieces and says at the end whether it is the one that was announced.
pub struct Intake {
    spec: BaseSpec,
    hasher: Hasher,
    head: Vec<u8>,
    length: u64,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Intake {
    /// An intake for that image.
    pub fn new(spec: BaseSpec) -> Self {
        let hasher = match &spec.digest {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::Sha512(_) => Hasher::Sha512(Sha512::new()),
        };
        Self { spec, hasher, head: Vec::new(), length: 0 }
    }

    /// Takes the next piece. Refuses as soon as there is more than was announced.
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.length += piece.len() as u64;
        if self.length > self.spec.size_bytes {
            return Err(self.corrupt(format!("it is longer than the announced {} bytes", self.spec.size_bytes)));
        }
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(&piece[..piece.len().min(missing)]);
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(piece),
            Hasher::Sha512(hasher) => hasher.update(piece),
        }
        Ok(())
    }

    /// The verdict; gives the size of the disk that a guest will see.
    pub fn finish(mut self) -> Result<u64> {
        if self.length < self.spec.size_bytes {
            let reason = format!("it ended after {} of {} bytes", self.length, self.spec.size_bytes);
            return Err(self.corrupt(reason));
        }
        let found = match &mut self.hasher {
            Hasher::Sha256(hasher) => hex::encode(hasher.finalize_reset()),
            Hasher::Sha512(hasher) => hex::encode(hasher.finalize_reset()),
        };
        let (Digest::Sha256(expected) | Digest::Sha512(expected)) = &self.spec.digest;
        if !found.eq_ignore_ascii_case(expected) {
            let reason = format!("its digest is {found}, announced was {expected}");
            return Err(self.corrupt(reason));
        }
        virtual_bytes(self.spec.format, &self.head, self.length)
            .map_err(|reason| DiskError::BadFormat { image: self.spec.image.clone(), reason })
    }

    fn corrupt(&self, reason: String) -> DiskError {
        DiskError::Corrupt { image: self.spec.image.clone(), reason }
    }
}

/// The size of the disk that a guest will see, if the content is what its format promises.
pub fn virtual_bytes(format: DiskFormat, head: &[u8], length: u64) -> Result<u64, String> {
    let told = image_format::inspect(format, head).map_err(|refusal| refusal.to_string())?;
    match told.unwrap_or(length) {
        0 => Err("it is empty".to_owned()),
        // QEMU shows whole sectors.
        bytes => Ok(bytes.next_multiple_of(512)),
    }
}

/// Zeros of this length are left out of the file.
const HOLE_BYTES: usize = 64 << 10;

/// Writes a piece, and moves on over long zeros instead of writing them.
pub(super) fn write_sparse(file: &mut std::fs::File, piece: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek, Write};
    for part in piece.chunks(HOLE_BYTES) {
        if part.len() == HOLE_BYTES && part.iter().all(|byte| *byte == 0) {
            file.seek(std::io::SeekFrom::Current(HOLE_BYTES as i64))?;
        } else {
            file.write_all(part)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::id::ImageId;

    use super::*;

    #[test]
    fn verdicts() {
        let content: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
        let digest = hex::encode(Sha256::digest(&content)).to_uppercase();
        let mut qcow2 = content.clone();
        qcow2[..4].copy_from_slice(b"QFI\xfb");
        let other = hex::encode(Sha512::digest(&qcow2));
        for (sent, size, digest, expected) in [
            (&content[..], 200_000, Digest::Sha256(digest.clone()), Ok(200_192)),
            (&content[..], 199_999, Digest::Sha256(digest.clone()), Err("longer than the announced 199999")),
            (&content[..9], 200_000, Digest::Sha256(digest.clone()), Err("ended after 9 of 200000")),
            (&content[..], 200_000, Digest::Sha512(other.clone()), Err("digest is")),
            (&qcow2[..], 200_000, Digest::Sha512(other), Err("declared as raw, the content is qcow2")),
        ] {
            let spec = BaseSpec { image: ImageId::new("i"), format: DiskFormat::Raw, size_bytes: size, digest };
            let mut intake = Intake::new(spec);
            let taken = sent.chunks(1000).try_for_each(|piece| intake.take(piece));
            let verdict = taken.and_then(|()| intake.finish()).map_err(|error| error.to_string());
            match expected {
                Ok(bytes) => assert_eq!(verdict, Ok(bytes)),
                Err(reason) => assert!(verdict.as_ref().unwrap_err().contains(reason), "{verdict:?}"),
            }
        }
    }
}
