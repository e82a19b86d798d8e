//! SSH keys as OpenSSH writes them: checking public ones, and making a pair.
//!
//! Formats: RFC 4253 section 6.6, RFC 5656, RFC 8709, and OpenSSH's `PROTOCOL.key` for private keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use model::{Error, Result};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Longest public key in characters; RSA with 16,384 bits takes 2,800.
const PUBLIC_KEY_CHARS_MAX: usize = 16_384;
const ED25519: &str = "ssh-ed25519";
/// What follows the type in the body of a public key.
const KINDS: &[(&str, usize)] = &[
    ("ssh-rsa", 2),
    (ED25519, 1),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// A pair that was made. It has no `Debug`: the private key is shown to its user once, and to nobody else.
pub struct Pair {
    /// One line.
    pub public_key: String,
    /// PEM.
    pub private_key: String,
}

/// Makes an Ed25519 pair: what every OpenSSH of this decade takes, and made in microseconds.
pub fn generate() -> Result<Pair> {
    encode(&rand::random(), rand::random())
}

/// MD5 over the key's body, in hex with colons. The key is checked on the way.
pub fn fingerprint(public_key: &str) -> Result<String> {
    let body = body(public_key).ok_or_else(|| {
        Error::bad_request("InvalidKeypair", "Keypair data is invalid: failed to generate fingerprint")
    })?;
    let digest: [u8; 16] = Md5::digest(&body).into();
    Ok(digest.map(|byte| format!("{byte:02x}")).join(":"))
}

/// The body of a well-formed public key on one line. More lines would let a user smuggle options into a guest's
/// `authorized_keys`, so they are refused.
fn body(public_key: &str) -> Option<Vec<u8>> {
    let line = public_key.trim_end_matches(['\r', '\n']);
    if line.chars().count() > PUBLIC_KEY_CHARS_MAX || line.chars().any(char::is_control) {
        return None;
    }
    let mut words = line.split(' ');
    let (kind, fields) = words.next().and_then(|word| KINDS.iter().find(|(kind, _)| *kind == word))?;
    let body = STANDARD.decode(words.next()?).ok()?;
    let mut rest = body.as_slice();
    if take(&mut rest)? != kind.as_bytes() {
        return None;
    }
    for _ in 0..*fields {
        if take(&mut rest)?.is_empty() {
            return None;
        }
    }
    rest.is_empty().then_some(body)
}

/// Reads a string with its length before it.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (text, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(text)
}

/// Writes a string with its length before it.
fn put(to: &mut Vec<u8>, text: &[u8]) {
    // What is written here has less than 400 bytes.
    to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(text);
}

/// `check` lets readers of an encrypted key see that they used the right password; here it is only part of the format.
fn encode(seed: &[u8; 32], check: u32) -> Result<Pair> {
    const COMMENT: &str = "Generated-by-Nova";
    let pair =
        Ed25519KeyPair::from_seed_unchecked(seed).map_err(|e| Error::internal("making a key pair", e.to_string()))?;
    let public = pair.public_key().as_ref();
    let mut body = Vec::new();
    put(&mut body, ED25519.as_bytes());
    put(&mut body, public);

    let mut private = [check.to_be_bytes(), check.to_be_bytes()].concat();
    private.extend_from_slice(&body);
    put(&mut private, &[seed, public].concat());
    put(&mut private, COMMENT.as_bytes());
    // Filled up with 1, 2, 3... to the block size of "none".
    private.extend((1..).take(private.len().next_multiple_of(8) - private.len()));

    let mut file = b"openssh-key-v1\0".to_vec();
    for none in ["none", "none", ""] {
        put(&mut file, none.as_bytes());
    }
    file.extend_from_slice(&1_u32.to_be_bytes());
    put(&mut file, &body);
    put(&mut file, &private);

    let text = STANDARD.encode(file);
    let mut private_key = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(70) {
        private_key.push_str(&String::from_utf8_lossy(line));
        private_key.push('\n');
    }
    private_key.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    Ok(Pair { public_key: format!("{ED25519} {} {COMMENT}", STANDARD.encode(body)), private_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys() {
        // `ssh-keygen -l -E md5` says the same.
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBF60fFHDUsH8EdPhQOg2PwBKf8G5Nejvu46BROCKZmH u@h";
        assert_eq!(fingerprint(good).unwrap(), "44:47:a1:5f:c3:dc:fa:40:8c:6a:9d:7b:af:3b:f4:c5");
        assert_eq!(fingerprint(&format!("{good}\n")).unwrap(), fingerprint(good).unwrap());
        let zeros = format!("ssh-rsa {} u@h", "A".repeat(2048));
        let two_lines = format!("{good}\ncommand=\"x\" {good}");
        for bad in [
            "",
            "ssh-rsa",
            "ssh-rsa JUNK nova@ubuntu",
            &zeros,
            &two_lines,
            &good.replace("ssh-ed25519 ", "ssh-rsa "),
            &good.replace("KZmH", "KZmHAAAA"),
            &good[..40],
        ] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    /// Of a private key that `ssh-keygen -y` and paramiko have read.
    const PRIVATE_SHA256: &str = "325b08d698879788104b88d07de78aa5b5a328816290d399e6c75638c4f2b2c0";

    #[test]
    fn pairs() {
        let pair = encode(&[7; 32], 42).unwrap();
        assert_eq!(
            pair.public_key,
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs Generated-by-Nova"
        );
        assert_eq!(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&pair.private_key)), PRIVATE_SHA256);
        assert!(fingerprint(&pair.public_key).is_ok());
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one.private_key, other.private_key);
    }
}
