//! What the handlers share: keys, passwords, and the cache that makes validation fast.
//!
//! **Revocation is immediate.** Every write of identity goes through [`State::begin`], which counts the database's
//! revision up in that transaction, and [`State::commit`], which counts the process's `epoch` up after it. A cached token is used only in the epoch in which
//! its validation began, so nothing outlives a write. Other servers look at the revision once in [`LOOK_AFTER`], and
//! use nothing from the cache that is older than [`LOOK_AT_LEAST`].

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use model::{Error, Result, Timestamp};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use store::{
    Conn, Db, Tx,
    identity::{
        credentials::{self, Holder, Sealed},
        federated_users, tokens,
    },
};
use web::{Authenticator, Caller, Outbound};
use zeroize::Zeroizing;

use crate::{
    keys::{self, KeyRing, MasterKey, SecretRing},
    ldap::mirror::{self, Directories},
    oidc::Oidc,
    password::Passwords,
    payload::{Methods, Payload, Receipt},
    security::Compliance,
    token::{catalog::Catalog, validated::Validated},
};

/// How long a token is good for. Fixed, so that a key's last token has an end.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(4 * 3600);
/// Secrets that one transaction seals anew.
const RESEALED_AT_ONCE: u32 = 200;
/// When another look at the database's revision is due: one request takes it, the others go on meanwhile...
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// ...and when all must wait for it.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);
/// Bytes that cached tokens may take, and how long each may stay.
const CACHE_BYTES_MAX: u64 = 8 << 20;
const CACHE_TIME_MAX: Duration = Duration::from_secs(300);

/// A token's SHA-256: the cache holds no tokens.
type Digest32 = [u8; 32];

/// The state of the identity service; one per process.
pub struct State {
    db: Db,
    master: MasterKey,
    keys: ArcSwap<KeyRing>,
    secrets: ArcSwap<SecretRing>,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// What passwords must be and when logins are refused.
    pub compliance: Compliance,
    cache: Cache<Digest32, Arc<Cached>>,
    catalog: ArcSwapOption<(u64, Catalog)>,
    /// Counts what made cached tokens stale in this process.
    epoch: AtomicU64,
    /// The database's revision that `epoch` accounts for.
    revision: AtomicI64,
    /// When the database was last asked for its revision, by its clock.
    looked_at: AtomicI64,
    looking: tokio::sync::Mutex<()>,
    sso: OnceLock<Sso>,
    /// Directories of domains.
    pub directories: Directories,
}

/// What single sign-on needs of its own.
pub struct Sso {
    /// Asks identity providers.
    pub oidc: Oidc,
    /// Where tokens of browsers may be sent: whole addresses, compared as they are.
    pub trusted_dashboards: Vec<String>,
}

/// A write transaction of identity; see [`State::begin`].
pub struct Write {
    tx: Tx,
    revision: i64,
}

impl Deref for Write {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

struct Cached {
    epoch: u64,
    token: Arc<Validated>,
}

impl State {
    /// Loads the keys, or makes the first ones; with the settings that a cloud has unless it is told others.
    ///
    /// # Errors
    /// Internal where the master key is not the one of this database.
    pub async fn open(db: Db, master: MasterKey) -> Result<Arc<Self>> {
        Self::open_with(db, master, Compliance::default()).await
    }

    /// The same with settings of one's own.
    ///
    /// # Errors
    /// As above.
    pub async fn open_with(db: Db, master: MasterKey, compliance: Compliance) -> Result<Arc<Self>> {
        let mut tx = db.begin().await?;
        // Locks out another server that starts at the same time.
        let revision = tokens::next_revision(&mut tx).await?;
        keys::ensure(&mut tx, &master).await?;
        let ring = KeyRing::load(&mut tx, &master).await?;
        let secrets = SecretRing::load(&mut tx, &master).await?;
        let now = tx.now();
        tx.commit().await?;
        let cache = Cache::builder()
            .weigher(|_: &Digest32, cached: &Arc<Cached>| cached.token.bytes())
            .max_capacity(CACHE_BYTES_MAX)
            .time_to_live(CACHE_TIME_MAX)
            .build();
        Ok(Arc::new(Self {
            db,
            master,
            keys: ArcSwap::from_pointee(ring),
            secrets: ArcSwap::from_pointee(secrets),
            passwords: Passwords::default(),
            compliance,
            cache,
            catalog: ArcSwapOption::empty(),
            epoch: AtomicU64::new(0),
            revision: AtomicI64::new(revision),
            looked_at: AtomicI64::new(now.0),
            looking: tokio::sync::Mutex::new(()),
            sso: OnceLock::new(),
            directories: Directories::default(),
        }))
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What secrets in the database are sealed under.
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// Says which addresses identity providers may have beside public ones, and whom browsers may bring tokens. Only the
    /// first word counts, and only before the first login.
    pub fn configure_sso(&self, outbound: Outbound, trusted_dashboards: Vec<String>) {
        // Said twice only by mistake, and then the first holds.
        let _ = self.sso.set(Sso { oidc: Oidc::new(outbound), trusted_dashboards });
    }

    /// What single sign-on needs; where nothing was said: public providers, no dashboard.
    pub fn sso(&self) -> &Sso {
        self.sso.get_or_init(|| Sso { oidc: Oidc::new(Outbound::default()), trusted_dashboards: Vec::new() })
    }

    /// Seals a secret for the database.
    pub fn seal(&self, secret: &str) -> String {
        self.master.seal_text(secret, self.db.clock().now())
    }

    /// What was sealed.
    ///
    /// # Errors
    /// Internal where it was sealed under another master key.
    pub fn unseal(&self, sealed: &str) -> Result<Zeroizing<String>> {
        let why = "the master key is not the one that this was sealed under";
        self.master.open_text(sealed).ok_or_else(|| Error::internal("reading a secret", why))
    }

    /// Begins a write of identity. Writes exclude each other, on every server: what this one reads stays true until it
    /// commits.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self) -> Result<Write> {
        let mut tx = self.db.begin().await?;
        let revision = tokens::next_revision(&mut tx).await?;
        Ok(Write { tx, revision })
    }

    /// Commits a write of identity: from here on no cached token is used that was validated before.
    ///
    /// # Errors
    /// The database's.
    pub async fn commit(&self, write: Write) -> Result<()> {
        write.tx.commit().await?;
        self.revision.fetch_max(write.revision, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Encrypts a secret for a table.
    ///
    /// # Errors
    /// Internal where there is no key.
    pub fn seal_secret(&self, secret: &str) -> Result<Sealed> {
        self.secrets.load().seal(self.db.clock().now(), secret)
    }

    /// A secret from a table.
    ///
    /// # Errors
    /// Internal where it can't be decrypted.
    pub async fn reveal(&self, conn: &mut Conn, sealed: &Sealed) -> Result<Zeroizing<String>> {
        if let Some(secret) = self.secrets.load().open(sealed) {
            return Ok(secret);
        }
        // Sealed by another server under a key that is newer than what is known here.
        let ring = SecretRing::load(conn, &self.master).await?;
        let secret = ring.open(sealed);
        self.secrets.store(Arc::new(ring));
        secret.ok_or_else(|| Error::internal("reading a secret", "it was sealed under none of the keys"))
    }

    /// Lets the next key sign tokens; those of the old one stay good. Secrets in the database are sealed anew.
    ///
    /// # Errors
    /// Conflict when too many keys have tokens alive.
    pub async fn rotate_keys(&self) -> Result<()> {
        self.rotate_token_keys().await?;
        self.rotate_secret_keys().await
    }

    async fn rotate_secret_keys(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let (newest, before) = keys::add_secret_key(&mut tx, &self.master).await?;
        let ring = SecretRing::load(&mut tx, &self.master).await?;
        self.commit(tx).await?;
        self.secrets.store(Arc::new(ring));
        for holder in Holder::ALL {
            loop {
                let mut tx = self.begin().await?;
                let some = credentials::sealed_otherwise(&mut tx, holder, &newest, RESEALED_AT_ONCE).await?;
                for (id, sealed) in &some {
                    let secret = self.reveal(&mut tx, sealed).await?;
                    credentials::reseal(&mut tx, holder, id, &self.seal_secret(&secret)?).await?;
                }
                self.commit(tx).await?;
                if some.is_empty() {
                    break;
                }
            }
        }
        // The key of before stays for servers that haven't heard of the new one yet.
        let mut tx = self.begin().await?;
        if let Some(before) = before {
            credentials::delete_idle_keys(&mut tx, before).await?;
        }
        self.commit(tx).await
    }

    async fn rotate_token_keys(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        keys::rotate(&mut tx, &self.master, TOKEN_LIFETIME).await?;
        let ring = KeyRing::load(&mut tx, &self.master).await?;
        self.commit(tx).await?;
        self.keys.store(Arc::new(ring));
        Ok(())
    }

    /// Signs a receipt.
    ///
    /// # Errors
    /// Internal where there is no key.
    pub fn issue_receipt(&self, receipt: &Receipt) -> Result<String> {
        self.keys.load().seal_receipt(receipt)
    }

    /// What a receipt says; none where it isn't good (any more).
    pub fn open_receipt(&self, receipt: &str) -> Option<Receipt> {
        let now = self.db.clock().now();
        self.keys.load().open_receipt(receipt).filter(|receipt| now < receipt.expires_at)
    }

    /// Signs a new token and remembers what it means.
    ///
    /// # Errors
    /// Unauthenticated where the payload's user may not have it (any more).
    pub async fn issue(&self, payload: Payload) -> Result<(String, Arc<Validated>)> {
        let epoch = self.epoch().await?;
        let token = self.keys.load().seal(&payload)?;
        let validated = self.resolve(epoch, payload).await?;
        self.remember(&token, epoch, &validated);
        Ok((token, validated))
    }

    /// What a token means; none where it isn't good (any more).
    ///
    /// # Errors
    /// The database's.
    pub async fn validate(&self, token: &str) -> Result<Option<Arc<Validated>>> {
        let epoch = self.epoch().await?;
        let now = self.db.clock().now();
        if let Some(cached) = self.cache.get(&digest(token))
            && cached.epoch == epoch
        {
            return Ok((now < cached.token.payload.expires_at).then(|| cached.token.clone()));
        }
        let Some(payload) = self.keys.load().open(token) else { return Ok(None) };
        if now >= payload.expires_at {
            return Ok(None);
        }
        match self.resolve(epoch, payload).await {
            Ok(validated) => {
                self.remember(token, epoch, &validated);
                Ok(Some(validated))
            }
            Err(e) if e.kind == model::ErrorKind::Unauthenticated => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn resolve(&self, epoch: u64, payload: Payload) -> Result<Arc<Validated>> {
        mirror::keep_fresh(self, &payload.user_id).await?;
        let mut conn = self.db.read().await?;
        // Who has a password here has no groups by a provider's word.
        let now = self.db.clock().now();
        if !payload.methods.contain(Methods::PASSWORD)
            && federated_users::has_expired_groups(&mut conn, &payload.user_id, now).await?
        {
            let mut tx = self.begin().await?;
            federated_users::end_expired_groups(&mut tx, &payload.user_id).await?;
            self.commit(tx).await?;
        }
        let catalog = self.catalog(epoch, &mut conn).await?;
        Ok(Arc::new(Validated::resolve(&mut conn, payload, &catalog.1, &self.compliance, self.db.clock().now()).await?))
    }

    fn remember(&self, token: &str, epoch: u64, validated: &Arc<Validated>) {
        self.cache.insert(digest(token), Arc::new(Cached { epoch, token: validated.clone() }));
    }

    /// The catalog, read once an epoch.
    async fn catalog(&self, epoch: u64, conn: &mut store::Conn) -> Result<Arc<(u64, Catalog)>> {
        if let Some(known) = self.catalog.load_full()
            && known.0 == epoch
        {
            return Ok(known);
        }
        let read = Arc::new((epoch, Catalog::read(conn).await?));
        self.catalog.store(Some(read.clone()));
        Ok(read)
    }

    /// The epoch of the moment, after another look at the database where one is due.
    async fn epoch(&self) -> Result<u64> {
        let age = |now: Timestamp| {
            let looked_at = Timestamp(self.looked_at.load(Ordering::SeqCst));
            // A clock that was set back says nothing about the age.
            if now < looked_at { LOOK_AT_LEAST } else { now.since(looked_at) }
        };
        let now = self.db.clock().now();
        if age(now) >= LOOK_AT_LEAST {
            let _only = self.looking.lock().await;
            if age(self.db.clock().now()) >= LOOK_AFTER {
                self.look().await?;
            }
        } else if age(now) >= LOOK_AFTER
            && let Ok(_only) = self.looking.try_lock()
            && let Err(error) = self.look().await
        {
            // The cache is young enough for now; at the limit the error is the answer.
            tracing::warn!(chain = error.chain(), "identity's revision could not be read: {error}");
        }
        Ok(self.epoch.load(Ordering::SeqCst))
    }

    /// Reads the revision; whatever another server wrote ends the epoch and brings its keys.
    async fn look(&self) -> Result<()> {
        // Before the read: what is committed after it is not accounted for.
        let now = self.db.clock().now();
        let mut conn = self.db.read().await?;
        let revision = tokens::revision(&mut conn).await?;
        if revision > self.revision.load(Ordering::SeqCst) {
            self.keys.store(Arc::new(KeyRing::load(&mut conn, &self.master).await?));
            self.secrets.store(Arc::new(SecretRing::load(&mut conn, &self.master).await?));
            self.revision.fetch_max(revision, Ordering::SeqCst);
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.looked_at.store(now.0, Ordering::SeqCst);
        Ok(())
    }
}

impl Authenticator for State {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller>> {
        Box::pin(async move {
            let validated = self.validate(token).await?;
            validated.map(|v| v.caller.clone()).ok_or_else(unauthenticated)
        })
    }
}

/// The one answer to every failed authentication.
pub(crate) fn unauthenticated() -> Error {
    Error::unauthenticated("Unauthorized", "The request you have made requires authentication.")
}

fn digest(token: &str) -> Digest32 {
    Sha256::digest(token.as_bytes()).into()
}
