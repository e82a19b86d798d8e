//! Passwords: hashed with argon2id, off the async runtime, a few at a time.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use model::{Error, Result};
use serde::{Deserialize, Deserializer};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// OWASP's argon2id parameters with the least memory: the same cost to an attacker as 19 MiB with two passes, but a
/// control plane that hashes on every core at once stays small.
const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;
const LANES: u32 = 1;
/// Room that is reserved for one hash, in blocks of 1 KiB, whatever part of it is used. Above 32 MiB the C library maps
/// memory of its own for it and gives it back at once; below, each thread that ever hashed would keep what it freed.
const RESERVED_BLOCKS: usize = 33 * 1024;
/// Hashes at once; more would only share the same cores.
const AT_ONCE: usize = 2;
/// How long a login waits for its turn before it is told to try again.
const TURN_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest password in bytes (Keystone's `max_password_length`).
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// What an unknown user's password is checked against, so that it takes as long as a known one's. Nobody knows the
/// password behind it: it was random and thrown away.
const NOBODY: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$bmFjcmUtbm9ib2R5LXNhbHQ$Hx0iJ2S0jWb5L9bL0n0e2gXkqkq0xJrB1qJ8m0b1W0Y";

/// A password: never shown, wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes it as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Its text, for what must look at it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

/// The one place that hashes.
pub struct Passwords {
    turns: Semaphore,
    done: AtomicU64,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), done: AtomicU64::new(0) }
    }
}

impl Passwords {
    /// How many hashes were computed so far: what logins cost, apart from anybody's clock.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The password's hash as a PHC string.
    ///
    /// # Errors
    /// Bad request for one that is too long; unavailable when too many wait.
    pub async fn hash(&self, password: Password) -> Result<String> {
        if password.len() > PASSWORD_BYTES_MAX {
            let message = format!("A password may have {PASSWORD_BYTES_MAX} bytes at the most.");
            return Err(Error::bad_request("PasswordTooLong", message));
        }
        self.run(move || hash(password.0.as_bytes())).await?.map_err(|e| Error::internal("hashing a password", e))
    }

    /// Whether it is the password. Takes as long where there is no hash to compare with.
    ///
    /// # Errors
    /// Unavailable when too many wait.
    pub async fn verify(&self, password: Password, hash: Option<String>) -> Result<bool> {
        let work = move || {
            let known = hash.is_some() && password.len() <= PASSWORD_BYTES_MAX;
            let against = hash.as_deref().unwrap_or(NOBODY);
            let bytes = if known { password.0.as_bytes() } else { b"".as_slice() };
            is_hash_of(against, bytes) == Some(true) && known
        };
        self.run(work).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(TURN_TIME_MAX, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| {
            Error::unavailable("TooManyLogins", "Too many logins at once; try again.")
                .retry_after(Duration::from_secs(5))
        })?;
        self.done.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("hashing a password", e))
    }
}

fn hash(password: &[u8]) -> Result<String, String> {
    let text = |e: &dyn fmt::Display| e.to_string();
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| text(&e))?;
    let salt: [u8; 16] = rand::random();
    let output = digest(&params, Version::V0x13, password, &salt, Params::DEFAULT_OUTPUT_LEN);
    let hash = PasswordHash {
        algorithm: Ident::new("argon2id").map_err(|e| text(&e))?,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|e| text(&e))?,
        salt: Some(Salt::new(&salt).map_err(|e| text(&e))?),
        hash: Some(output.ok_or("argon2 refused its parameters")?),
    };
    Ok(hash.to_string())
}

/// None for a hash that isn't ours.
fn is_hash_of(hash: &str, password: &[u8]) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    if hash.algorithm.as_str() != "argon2id" {
        return None;
    }
    let params = Params::try_from(&hash).ok()?;
    let version = Version::try_from(hash.version?).ok()?;
    let output = digest(&params, version, password, salt.as_ref(), expected.len())?;
    // Compares in constant time.
    Some(output == *expected)
}

fn digest(params: &Params, version: Version, password: &[u8], salt: &[u8], bytes: usize) -> Option<Output> {
    if params.block_count() > RESERVED_BLOCKS {
        return None;
    }
    let mut blocks: Vec<Block> = Vec::with_capacity(RESERVED_BLOCKS);
    blocks.resize(params.block_count(), Block::default());
    let mut output = vec![0; bytes];
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params.clone());
    argon2.hash_password_into_with_memory(password, salt, &mut output, &mut blocks).ok()?;
    Output::new(&output).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_and_verifies() {
        let passwords = Passwords::default();
        let hash = passwords.hash(Password::new("secret")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(Password::new("secret")).await.unwrap());
        let cases = [("secret", true, true), ("Secret", true, false), ("secret", false, false), ("", false, false)];
        for (password, known, expected) in cases {
            let against = known.then(|| hash.clone());
            assert_eq!(passwords.verify(Password::new(password), against).await.unwrap(), expected, "{password}");
        }
        assert!(passwords.hash(Password::new("x".repeat(5000))).await.is_err());
        assert_eq!(format!("{:?}", Password::new("secret")), "Password(..)");
    }

    #[test]
    fn nobody_costs_what_somebody_costs() {
        let hash = PasswordHash::new(NOBODY).unwrap();
        let params = Params::try_from(&hash).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert!(hash.hash.is_some());
    }
}
