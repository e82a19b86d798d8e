//! The keys that tokens are signed with: kept in the database under a master key, so that all servers share them.
//!
//! A key is staged (every server knows it, it signs nothing yet), then primary (signs), then secondary until the last
//! token that it signed has ended. So a rotation never meets a server that can't read a token.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use model::{Error, Result, Timestamp};
use store::{
    Conn, Tx,
    identity::{
        credentials::{self, Sealed, SecretKey},
        tokens::{self, KeyState, WrappedKey},
    },
};
use zeroize::Zeroizing;

use crate::{
    fernet::Key,
    payload::{Payload, Receipt},
};

/// Keys that may be alive at once; a rotation beyond it is refused.
const KEYS_MAX: usize = 32;
/// How long after a rotation another server may still sign with the key of before.
const GRACE: Duration = Duration::from_secs(60);
/// Longest token text that is looked at.
const TOKEN_CHARS_MAX: usize = 1024;

/// What secrets in the database are wrapped under. Each server of a cloud has the same one, in a file of its own.
#[derive(Clone, Debug)]
pub struct MasterKey(Key);

impl MasterKey {
    /// A fresh one.
    pub fn random() -> Self {
        Self(Key::random())
    }

    /// Reads it from a file, or makes the file, which only its owner may read. Blocks; meant for the start.
    ///
    /// # Errors
    /// What is wrong with the file: others may read it, or it holds no key.
    pub fn ensure_file(path: &Path) -> io::Result<Self> {
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let key = Self::random();
                file.write_all(key.0.to_text().as_bytes())?;
                file.sync_all()?;
                Ok(key)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Self::read_file(path),
            Err(e) => Err(e),
        }
    }

    fn read_file(path: &Path) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            return Err(invalid("others may read this master key; chmod 600 it"));
        }
        let text = zeroize::Zeroizing::new(fs::read_to_string(path)?);
        Key::from_text(&text).map(Self).ok_or_else(|| invalid("this is no master key (32 bytes in base64)"))
    }

    fn wrap(&self, key: &Key, now: Timestamp) -> String {
        self.0.seal(now, key.bytes())
    }

    /// Seals a secret for the database.
    pub fn seal_text(&self, secret: &str, now: Timestamp) -> String {
        self.0.seal(now, secret.as_bytes())
    }

    /// Opens what [`MasterKey::seal_text`] sealed; none where it was another key's.
    pub fn open_text(&self, sealed: &str) -> Option<zeroize::Zeroizing<String>> {
        let bytes = zeroize::Zeroizing::new(Key::open([&self.0], sealed)?);
        std::str::from_utf8(&bytes).ok().map(|text| zeroize::Zeroizing::new(text.to_owned()))
    }

    fn unwrap_key(&self, wrapped: &str) -> Option<Key> {
        let bytes = zeroize::Zeroizing::new(Key::open([&self.0], wrapped)?);
        Key::from_bytes(&bytes)
    }
}

/// The keys of the moment: the first signs, all of them verify.
#[derive(Debug)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// Reads the database's keys.
    ///
    /// # Errors
    /// Internal where the master key is another than the one that wrapped them.
    pub async fn load(conn: &mut Conn, master: &MasterKey) -> Result<Self> {
        let mut wrapped = tokens::keys(conn).await?;
        wrapped.sort_by_key(|key| key.state != KeyState::Primary);
        let unwrapped = wrapped.iter().map(|key| {
            master.unwrap_key(&key.wrapped).ok_or_else(|| {
                Error::internal(
                    "reading the keys of tokens",
                    "the master key is not the one that this database was set up with",
                )
            })
        });
        Ok(Self(unwrapped.collect::<Result<_>>()?))
    }

    /// A token with these contents.
    ///
    /// # Errors
    /// Internal where there is no key, which [`ensure`] sees to.
    pub fn seal(&self, payload: &Payload) -> Result<String> {
        let primary = self.0.first().ok_or_else(|| Error::internal("issuing a token", "there is no key"))?;
        Ok(primary.seal(payload.issued_at, &payload.to_bytes()))
    }

    /// A receipt with these contents.
    ///
    /// # Errors
    /// As above.
    pub fn seal_receipt(&self, receipt: &Receipt) -> Result<String> {
        let primary = self.0.first().ok_or_else(|| Error::internal("issuing a receipt", "there is no key"))?;
        Ok(primary.seal(receipt.issued_at, &receipt.to_bytes()))
    }

    /// A receipt's contents; none where it is none of ours.
    pub fn open_receipt(&self, receipt: &str) -> Option<Receipt> {
        if receipt.len() > TOKEN_CHARS_MAX {
            return None;
        }
        Receipt::from_bytes(&Key::open(&self.0, receipt)?)
    }

    /// A token's contents; none where it is none of ours. Whether it is still good is not looked at.
    pub fn open(&self, token: &str) -> Option<Payload> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        Payload::from_bytes(&Key::open(&self.0, token)?)
    }
}

/// The keys of secrets that must be read again: the first one seals, all of them open.
pub struct SecretRing(Vec<(String, Key)>);

impl SecretRing {
    /// Reads the database's keys.
    ///
    /// # Errors
    /// Internal where the master key is another than the one that wrapped them.
    pub async fn load(conn: &mut Conn, master: &MasterKey) -> Result<Self> {
        let mut ring = Vec::new();
        for key in credentials::keys(conn).await? {
            let unwrapped = master.unwrap_key(&key.wrapped).ok_or_else(|| {
                Error::internal("reading the keys of secrets", "the master key is not the one of this database")
            })?;
            ring.push((key.id, unwrapped));
        }
        Ok(Self(ring))
    }

    /// The secret under the newest key.
    ///
    /// # Errors
    /// Internal where there is no key, which [`ensure`] sees to.
    pub fn seal(&self, now: Timestamp, secret: &str) -> Result<Sealed> {
        let (id, key) = self.0.first().ok_or_else(|| Error::internal("sealing a secret", "there is no key"))?;
        Ok(Sealed { key_id: id.clone(), text: key.seal(now, secret.as_bytes()) })
    }

    /// The secret, where its key is known.
    pub fn open(&self, sealed: &Sealed) -> Option<Zeroizing<String>> {
        let (_, key) = self.0.iter().find(|(id, _)| *id == sealed.key_id)?;
        let bytes = Key::open([key], &sealed.text)?;
        String::from_utf8(bytes).ok().map(Zeroizing::new)
    }
}

/// Makes a new key that seals from now on. Returns it, and since when the one before did.
pub(crate) async fn add_secret_key(tx: &mut Tx, master: &MasterKey) -> Result<(String, Option<Timestamp>)> {
    let (now, before) = (tx.now(), credentials::keys(tx).await?.first().map(|key| key.created_at));
    // Later than the one before, whatever the clock says.
    let created_at = before.map_or(now, |before| now.max(before + Duration::from_micros(1)));
    let id = model::id::ordered_uuid().to_string();
    let key = SecretKey { id: id.clone(), wrapped: master.wrap(&Key::random(), now), created_at };
    credentials::insert_key(tx, &key).await?;
    Ok((id, before))
}

/// Makes the first keys where there are none.
pub(crate) async fn ensure(tx: &mut Tx, master: &MasterKey) -> Result<bool> {
    if credentials::keys(tx).await?.is_empty() {
        add_secret_key(tx, master).await?;
    }
    if !tokens::keys(tx).await?.is_empty() {
        return Ok(false);
    }
    add(tx, master, KeyState::Primary).await?;
    add(tx, master, KeyState::Staged).await?;
    Ok(true)
}

/// Lets the staged key sign, stages a new one, and forgets those whose last token has ended.
pub(crate) async fn rotate(tx: &mut Tx, master: &MasterKey, token_lifetime: Duration) -> Result<()> {
    let now = tx.now();
    tokens::delete_keys_retired_before(tx, now - token_lifetime - GRACE).await?;
    if tokens::keys(tx).await?.len() >= KEYS_MAX {
        let message =
            format!("{KEYS_MAX} keys still have tokens alive; rotate again when the oldest tokens have ended.");
        return Err(Error::conflict("TooManyKeys", message));
    }
    tokens::promote_staged_key(tx).await?;
    add(tx, master, KeyState::Staged).await
}

async fn add(tx: &mut Tx, master: &MasterKey, state: KeyState) -> Result<()> {
    let now = tx.now();
    let key = WrappedKey {
        id: model::id::ordered_uuid().to_string(),
        state,
        wrapped: master.wrap(&Key::random(), now),
        created_at: now,
        retired_at: None,
    };
    Ok(tokens::insert_key(tx, &key).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn master_key_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKey::ensure_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = MasterKey::ensure_file(&path).unwrap();
        let key = Key::random();
        assert!(read.unwrap_key(&made.wrap(&key, Timestamp(0))).is_some_and(|k| k.bytes() == key.bytes()));
        assert!(MasterKey::random().unwrap_key(&made.wrap(&key, Timestamp(0))).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(MasterKey::ensure_file(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(MasterKey::ensure_file(&path).is_err());
    }
}
