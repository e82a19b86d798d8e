//! Fernet: authenticated encryption of short texts (AES-128-CBC, then HMAC-SHA256), as tokens carry it.
//!
//! <https://github.com/fernet/spec/blob/master/Spec.md>. Ages are the caller's business: a token says itself when it ends.

use std::fmt;

use aes::Aes128;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use hmac::{Hmac, KeyInit, Mac};
use model::Timestamp;
use sha2::Sha256;
use zeroize::Zeroizing;

const VERSION: u8 = 0x80;
const IV_START: usize = 9;
const TEXT_START: usize = 25;
const MAC_BYTES: usize = 32;
const BLOCK_BYTES: usize = 16;

/// 16 bytes to sign with, 16 to encrypt with.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A fresh one.
    pub fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// From its text: base64 as URLs have it, with or without padding.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).ok()?);
        Self::from_bytes(&bytes)
    }

    /// Its text, for a file that nobody else may read.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(&self.0[..]))
    }

    /// Its 32 bytes, for wrapping it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// Encrypts and signs; base64 without padding, as Keystone writes tokens.
    pub fn seal(&self, now: Timestamp, plain: &[u8]) -> String {
        self.seal_with(u64::try_from(now.seconds()).unwrap_or(0), rand::random(), plain)
    }

    fn seal_with(&self, seconds: u64, iv: [u8; BLOCK_BYTES], plain: &[u8]) -> String {
        let (signing, encryption) = self.halves();
        let mut bytes = Vec::with_capacity(TEXT_START + plain.len() + BLOCK_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&iv);
        let cipher = cbc::Encryptor::<Aes128>::new(&encryption.into(), &iv.into());
        bytes.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(plain));
        let mac = mac(&signing, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn halves(&self) -> ([u8; 16], [u8; 16]) {
        let (mut signing, mut encryption) = ([0; 16], [0; 16]);
        signing.copy_from_slice(&self.0[..16]);
        encryption.copy_from_slice(&self.0[16..]);
        (signing, encryption)
    }

    /// Decrypts what one of the keys sealed. None for anything else, without saying why.
    pub fn open<'k>(keys: impl IntoIterator<Item = &'k Key>, sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed.trim_end_matches('=')).ok()?;
        let text_end = bytes.len().checked_sub(MAC_BYTES)?;
        let well_formed = bytes.first() == Some(&VERSION)
            && text_end > TEXT_START
            && (text_end - TEXT_START).is_multiple_of(BLOCK_BYTES);
        if !well_formed {
            return None;
        }
        let (signed, tag) = bytes.split_at(text_end);
        for key in keys {
            let (signing, encryption) = key.halves();
            // Compares in constant time.
            if mac(&signing, signed).verify_slice(tag).is_ok() {
                let iv: [u8; BLOCK_BYTES] = signed[IV_START..TEXT_START].try_into().ok()?;
                let cipher = cbc::Decryptor::<Aes128>::new(&encryption.into(), &iv.into());
                return cipher.decrypt_padded_vec::<Pkcs7>(&signed[TEXT_START..]).ok();
            }
        }
        None
    }
}

fn mac(signing: &[u8; 16], bytes: &[u8]) -> Hmac<Sha256> {
    // A key of any length will do for HMAC, so this can't fail; an all-zero one would only make tokens invalid.
    let mut mac = Hmac::<Sha256>::new_from_slice(signing).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(bytes);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own vectors: generate.json, verify.json, invalid.json.
    const SECRET: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SEALED: &str =
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn vectors_of_the_specification() {
        let key = Key::from_text(SECRET).unwrap();
        let iv = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(key.seal_with(499_162_800, iv, b"hello"), SEALED.trim_end_matches('='));
        assert_eq!(Key::open([&key], SEALED).as_deref(), Some(b"hello".as_slice()));
        let invalid = [
            (
                "incorrect mac",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
            ),
            ("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="),
            (
                "invalid base64",
                "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
            ),
            (
                "payload size not multiple of block size",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
            ),
            (
                "payload padding error",
                "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
            ),
            (
                "incorrect IV (causes padding error)",
                "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
            ),
        ];
        for (what, sealed) in invalid {
            assert_eq!(Key::open([&key], sealed), None, "{what}");
        }
    }

    #[test]
    fn several_keys() {
        let (old, new) = (Key::random(), Key::random());
        let sealed = old.seal(Timestamp(1_700_000_000_000_000), b"text");
        assert_eq!(Key::open([&new, &old], &sealed).as_deref(), Some(b"text".as_slice()));
        assert_eq!(Key::open([&new], &sealed), None);
        assert_eq!(format!("{old:?}"), "Key(..)");
    }
}
