//! What is wanted of this host, on disk: one JSON file per server, replaced atomically.
//!
//! ```text
//! Present ──remove──> Removing ──everything is gone──> Gone ──acknowledged──> (no file)
//!    ^──────────────newer spec───────────┴───────────────┘
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hostlink::{Holding, ServerSpec};
use serde::{Deserialize, Serialize};

use crate::facts;

/// One server of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    pub(crate) server_id: String,
    /// Of the newest spec or removal.
    pub(crate) generation: i64,
    pub(crate) state: State,
    /// The newest spec, also while it is being removed: it says what there is to remove.
    pub(crate) spec: Option<ServerSpec>,
    /// Every port that may be plugged, and its network: those of the spec and those of older ones not yet unplugged.
    pub(crate) ports: BTreeMap<String, String>,
    /// When the guest was last started, microseconds since 1970, and for which boot. For reports only.
    pub(crate) started_at: i64,
    pub(crate) started_boot: i64,
    /// What the guest posted as its (encrypted) password.
    pub(crate) password: String,
    /// The guest was brought to a stand by us: it goes on when it is wanted running.
    pub(crate) held: bool,
    /// Which making of its disks there is, and which going back to a checkpoint was done.
    pub(crate) build: i64,
    pub(crate) rollback: i64,
    /// The image that was made of it and delivered.
    pub(crate) saved_as: String,
}

/// What is wanted, or how far its removal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    #[default]
    Present,
    Removing,
    Gone,
}

impl Default for Entry {
    fn default() -> Self {
        Self::new("")
    }
}

impl Entry {
    /// A server of which nothing is known yet.
    pub(crate) fn new(server_id: &str) -> Self {
        Self {
            server_id: server_id.to_owned(),
            generation: 0,
            state: State::Present,
            spec: None,
            ports: BTreeMap::new(),
            started_at: 0,
            started_boot: 0,
            password: String::new(),
            held: false,
            build: 0,
            rollback: 0,
            saved_as: String::new(),
        }
    }

    /// The entry once this spec is wanted. A server that was gone begins anew.
    pub(crate) fn with_spec(mut self, spec: &ServerSpec) -> Self {
        if self.state != State::Present {
            let ports = std::mem::take(&mut self.ports);
            self = Self { ports, ..Self::new(&self.server_id) };
        }
        if self.spec.is_none() {
            // Its disks are still to be made: as that spec has them.
            let root = spec.root_disk.as_ref();
            self.build = root.map_or(0, |disk| disk.build);
            self.rollback = root.map_or(0, |disk| disk.rollback);
        }
        self.generation = spec.generation;
        self.ports.extend(spec.ports.iter().map(|p| (p.id.clone(), p.network_id.clone())));
        self.spec = Some(spec.clone());
        self
    }

    /// The entry once nothing of the server is wanted.
    pub(crate) fn with_removal(mut self, generation: i64) -> Self {
        self.generation = generation;
        self.state = State::Removing;
        self
    }

    /// The entry once nothing of the server is left.
    pub(crate) fn into_gone(self) -> Self {
        Self { generation: self.generation, state: State::Gone, ..Self::new(&self.server_id) }
    }

    /// What the control plane is told about it when the link comes up.
    pub(crate) fn holding(&self) -> Holding {
        Holding {
            server_id: self.server_id.clone(),
            generation: self.generation,
            removed: self.state != State::Present,
        }
    }
}

/// The folder of entries.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// Makes the folder if need be and reads every entry. A file that can't be read is set aside, loudly: its guest, if
    /// there is one, goes on running and `nacre doctor` shows it as an orphan.
    pub(crate) async fn open(folder: PathBuf) -> io::Result<(Self, Vec<Entry>)> {
        blocking(move || {
            facts::private_folder(&folder)?;
            let mut entries = Vec::new();
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                match path.extension().and_then(|e| e.to_str()) {
                    Some("json") => match serde_json::from_slice::<Entry>(&fs::read(&path)?) {
                        Ok(entry) => entries.push(entry),
                        Err(error) => {
                            tracing::error!(path = %path.display(), %error, "damaged ledger entry set aside");
                            fs::rename(&path, path.with_extension("damaged"))?;
                        }
                    },
                    Some("new") => fs::remove_file(&path)?, // A write that a crash broke off.
                    _ => {}
                }
            }
            Ok((Self { folder }, entries))
        })
        .await
    }

    /// Writes the entry; on return it is on the disk.
    pub(crate) async fn put(&self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.server_id);
        let text = serde_json::to_vec(entry)?;
        blocking(move || replace(&path, &text)).await
    }

    /// Removes the server's entry, if there is one.
    pub(crate) async fn delete(&self, server_id: &str) -> io::Result<()> {
        let path = self.path(server_id);
        blocking(move || match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }

    fn path(&self, server_id: &str) -> PathBuf {
        self.folder.join(format!("{server_id}.json"))
    }
}

/// Write beside, flush, rename, flush the folder: after a crash there is the old content or the new.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Runs file system work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use hostlink::Port;

    use super::*;

    fn spec(generation: i64, ports: &[&str]) -> ServerSpec {
        let ports = ports.iter().map(|id| Port { id: (*id).into(), network_id: "n".into(), ..Port::default() });
        ServerSpec { id: "s".into(), generation, ports: ports.collect(), ..ServerSpec::default() }
    }

    #[test]
    fn ports_are_kept_until_unplugged() {
        let entry = Entry::new("s").with_spec(&spec(1, &["a", "b"])).with_spec(&spec(2, &["b", "c"]));
        assert_eq!(entry.ports.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(entry.generation, 2);
        let removing = entry.with_removal(3);
        assert_eq!((removing.state, removing.ports.len(), removing.spec.is_some()), (State::Removing, 3, true));
        let gone = removing.into_gone();
        assert_eq!((gone.state, gone.ports.len(), gone.spec.is_some(), gone.generation), (State::Gone, 0, false, 3));
    }

    #[test]
    fn a_removed_server_begins_anew() {
        let mut old = Entry::new("s").with_spec(&spec(1, &["a"]));
        old.password = "secret".into();
        old.started_boot = 7;
        let new = old.with_removal(2).with_spec(&spec(3, &["b"]));
        assert_eq!((new.state, new.password.as_str(), new.started_boot), (State::Present, "", 0));
        assert_eq!(new.ports.len(), 2, "the old port may still be plugged");
    }

    #[tokio::test]
    async fn survives_and_reads_older_files() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, none) = Ledger::open(folder.path().join("ledger")).await.unwrap();
        assert!(none.is_empty());
        let entry = Entry::new("s").with_spec(&spec(1, &["a"]));
        ledger.put(&entry).await.unwrap();
        fs::write(folder.path().join("ledger/old.json"), r#"{"server_id":"old","spec":{"id":"old"},"later":1}"#)
            .unwrap();
        fs::write(folder.path().join("ledger/bad.json"), "{").unwrap();
        fs::write(folder.path().join("ledger/s.new"), "{").unwrap();
        let (ledger, mut entries) = Ledger::open(folder.path().join("ledger")).await.unwrap();
        entries.sort_by(|a, b| a.server_id.cmp(&b.server_id));
        assert_eq!(entries[1], entry);
        assert_eq!(entries.len(), 2);
        ledger.delete("s").await.unwrap();
        ledger.delete("s").await.unwrap();
        assert_eq!(Ledger::open(folder.path().join("ledger")).await.unwrap().1.len(), 1);
    }
}
