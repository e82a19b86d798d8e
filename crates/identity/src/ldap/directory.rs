//! Connections to a directory, and what it is asked.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ldap3::{
    DerefAliases, Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions,
    adapters::{Adapter, EntriesOnly, PagedResults},
};
use model::{Error, Result};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use store::identity::directory::Kind;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use web::Outbound;

use super::logic::{Aliases, Entry, Settings, Verify};
use crate::Password;

/// Entries that one search may give; more are left out, and the log says so.
pub const ENTRIES_MAX: usize = 10_000;
/// Requests to one directory at once, and how long one waits for its turn.
const AT_ONCE: usize = 32;
const TURN_TIME_MAX: Duration = Duration::from_secs(10);
/// Members that are asked about one by one; of more, all users are read instead.
const MEMBERS_ONE_BY_ONE: usize = 16;

// What directories answer, by number: RFC 4511, section 4.1.9.
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
/// No such object, inappropriate authentication, invalid credentials, unwilling: a bind that wasn't this user's.
const NOT_BOUND: [u32; 5] = [NO_SUCH_OBJECT, 34, 48, 49, 53];

/// A domain's directory.
pub struct Directory {
    settings: Settings,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<Idle>>,
    turns: Semaphore,
}

struct Idle {
    ldap: Ldap,
    since: Instant,
}

impl Directory {
    /// Reads certificates; connects to nothing yet.
    ///
    /// # Errors
    /// Unavailable where the file of certificates is not one.
    pub async fn new(settings: Settings) -> Result<Self> {
        let tls = match (&settings.ca_file, settings.verify) {
            (Some(path), Verify::Demand) => {
                let text = tokio::fs::read(path).await.map_err(|e| unavailable(format!("{path}: {e}")))?;
                Some(trusting(&text).map_err(|why| unavailable(format!("{path}: {why}")))?)
            }
            (None, Verify::Demand) => Some(Outbound::tls_of_the_system()),
            (_, Verify::Never) => None,
        };
        Ok(Self { settings, tls, idle: Mutex::default(), turns: Semaphore::new(AT_ONCE) })
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All of a kind, or those of that name.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn list(&self, kind: Kind, name: Option<&str>) -> Result<Vec<Entry>> {
        let filter = match name {
            Some(name) => self.settings.with(kind, &self.settings.tree(kind).name, name),
            None => self.settings.all(kind),
        };
        self.search(kind, &self.settings.tree(kind).base, self.settings.scope(), filter).await
    }

    /// One, by what the directory tells it from others by.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn get(&self, kind: Kind, local_id: &str) -> Result<Option<Entry>> {
        let tree = self.settings.tree(kind);
        let filter = self.settings.with(kind, &tree.id, local_id);
        let found = self.search(kind, &tree.base, self.settings.scope(), filter).await?;
        Ok(found.into_iter().next())
    }

    /// The groups that a user is in.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn groups_of(&self, user: &Entry) -> Result<Vec<Entry>> {
        let (settings, filter) = (&self.settings, self.settings.groups_of(user));
        self.search(Kind::Group, &settings.groups.base, settings.scope(), filter).await
    }

    /// The users in a group.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn members_of(&self, group: &Entry) -> Result<Vec<Entry>> {
        if group.members.len() > MEMBERS_ONE_BY_ONE {
            let named: HashSet<String> = group.members.iter().map(|member| plain(member)).collect();
            let is_in = |user: &Entry| {
                named.contains(&plain(if self.settings.members_are_ids { &user.local_id } else { &user.dn }))
            };
            return Ok(self.list(Kind::User, None).await?.into_iter().filter(is_in).collect());
        }
        let mut found = Vec::new();
        for member in &group.members {
            if self.settings.members_are_ids {
                found.extend(self.get(Kind::User, member).await?);
            } else {
                let filter = self.settings.all(Kind::User);
                found.extend(self.search(Kind::User, member, Scope::Base, filter).await?);
            }
        }
        Ok(found)
    }

    /// Whether it is the password of whom the DN names. Takes a connection of its own: what was bound as a user is not
    /// used for anything else.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn is_password_of(&self, dn: &str, password: &Password) -> Result<bool> {
        // A bind without a password succeeds for anybody: it proves nothing.
        if password.is_empty() || password.reveal().contains('\0') {
            return Ok(false);
        }
        let _turn = self.turn().await?;
        let mut ldap = self.open().await?;
        let answer = ldap.with_timeout(self.settings.timeout).simple_bind(dn, password.reveal()).await;
        let answer = answer.map_err(unavailable)?;
        // The verdict stands, whether the farewell is heard or not.
        let _ = ldap.unbind().await;
        match answer.rc {
            0 => Ok(true),
            rc if NOT_BOUND.contains(&rc) => Ok(false),
            rc => Err(unavailable(format!("a bind ended with {rc}: {}", answer.text))),
        }
    }

    async fn search(&self, kind: Kind, base: &str, scope: Scope, filter: String) -> Result<Vec<Entry>> {
        let _turn = self.turn().await?;
        let mut ldap = match self.take_idle() {
            Some(idle) => idle,
            None => Idle { ldap: self.bound().await?, since: Instant::now() },
        };
        let found = tokio::time::timeout(self.settings.timeout, self.read(&mut ldap.ldap, kind, base, scope, &filter))
            .await
            .map_err(|_| unavailable("a search took too long"))??;
        self.put_idle(ldap);
        Ok(found)
    }

    async fn read(&self, ldap: &mut Ldap, kind: Kind, base: &str, scope: Scope, filter: &str) -> Result<Vec<Entry>> {
        let aliases = match self.settings.aliases {
            Aliases::Never => DerefAliases::Never,
            Aliases::Searching => DerefAliases::Searching,
            Aliases::Finding => DerefAliases::Finding,
            Aliases::Always => DerefAliases::Always,
        };
        let seconds = i32::try_from(self.settings.timeout.as_secs()).unwrap_or(30);
        ldap.with_search_options(SearchOptions::new().deref(aliases).timelimit(seconds));
        let mut adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> = vec![Box::new(EntriesOnly::new())];
        if self.settings.page_size > 0 {
            adapters.push(Box::new(PagedResults::new(self.settings.page_size)));
        }
        let attributes = self.settings.attributes(kind);
        let mut stream =
            ldap.streaming_search_with(adapters, base, scope, filter, attributes).await.map_err(unavailable)?;
        let mut found = Vec::new();
        while let Some(entry) = stream.next().await.map_err(unavailable)? {
            if found.len() >= ENTRIES_MAX {
                tracing::warn!(
                    base,
                    "a search of a directory gives more than {ENTRIES_MAX} entries: the rest is left out"
                );
                return Ok(found);
            }
            found.extend(self.settings.read(kind, &SearchEntry::construct(entry)));
        }
        let end = stream.finish().await;
        match end.rc {
            0 | NO_SUCH_OBJECT => Ok(found),
            SIZE_LIMIT_EXCEEDED => {
                tracing::warn!(base, "the directory gives only {} entries: set page_size", found.len());
                Ok(found)
            }
            rc => Err(unavailable(format!("a search ended with {rc}: {}", end.text))),
        }
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(TURN_TIME_MAX, self.turns.acquire()).await;
        turn.map_err(|_| unavailable("too many requests at once"))?.map_err(unavailable)
    }

    /// A connection of the pool that is still good.
    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|one| one.since.elapsed() < self.settings.pool_lifetime && !one.ldap.is_closed());
        idle.pop()
    }

    fn put_idle(&self, one: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.settings.pool_size {
            idle.push(one);
        }
    }

    /// A connection as the user of the settings.
    async fn bound(&self) -> Result<Ldap> {
        let mut ldap = self.open().await?;
        if let Some(user) = &self.settings.user {
            let answer = ldap.with_timeout(self.settings.timeout).simple_bind(user, &self.settings.password).await;
            answer.and_then(|answer| answer.success()).map_err(unavailable)?;
        }
        Ok(ldap)
    }

    /// A connection to the first server that answers.
    async fn open(&self) -> Result<Ldap> {
        let mut last = unavailable("there is no server");
        for url in &self.settings.urls {
            let mut how = LdapConnSettings::new()
                .set_conn_timeout(self.settings.timeout)
                .set_starttls(self.settings.start_tls)
                .set_no_tls_verify(self.settings.verify == Verify::Never);
            if let Some(tls) = &self.tls {
                how = how.set_config(tls.clone());
            }
            match LdapConnAsync::with_settings(how, url).await {
                Ok((connection, ldap)) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.drive().await {
                            tracing::debug!(%error, "a connection to a directory ended");
                        }
                    });
                    return Ok(ldap);
                }
                Err(error) => last = unavailable(format!("{url}: {error}")),
            }
        }
        Err(last)
    }
}

/// DNs and ids that differ in case or blanks after commas only are the same.
fn plain(dn: &str) -> String {
    dn.split(',').map(str::trim).collect::<Vec<_>>().join(",").to_lowercase()
}

fn trusting(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate is in it".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn unavailable(why: impl Into<Why>) -> Error {
    let message =
        "The directory of this domain can't be asked now; try again, and tell the operator if that does not help.";
    Error::unavailable("DirectoryUnavailable", message).retry_after(Duration::from_secs(5)).because(why.into().0)
}

/// A cause, for the log.
struct Why(String);

impl From<LdapError> for Why {
    fn from(error: LdapError) -> Self {
        Self(error.to_string())
    }
}
impl From<tokio::sync::AcquireError> for Why {
    fn from(error: tokio::sync::AcquireError) -> Self {
        Self(error.to_string())
    }
}
impl From<String> for Why {
    fn from(text: String) -> Self {
        Self(text)
    }
}
impl From<&str> for Why {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
