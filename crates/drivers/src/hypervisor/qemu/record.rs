//! What the driver remembers of a guest on disk, so that the next agent can take it over: `record.json`.
//!
//! Written before a start (without a pid), after it (with one), and when the guest ends. A record without a pid and
//! without an end is a start that the agent didn't live to see: then the QMP socket says who listens on it.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::hypervisor::{GuestEnd, GuestSpec};

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was started.
    pub spec: GuestSpec,
    /// The start of the host's kernel under which it was started.
    pub host_boot: String,
    /// Its process.
    pub pid: Option<u32>,
    /// How it ended, once it has. With a process that still runs: how it is ending.
    pub end: Option<GuestEnd>,
}

impl Record {
    /// Reads a record, `None` if there is none or it is not readable: then the guest counts as never started.
    pub fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::error!(path = %path.display(), %error, "unreadable guest record"))
            .ok()
    }

    /// Replaces the record as a whole. Not flushed to the disk: after a crash of the host no process is left of which
    /// it could tell, and the ledger knows which guests should run.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut file = fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&draft, path)
    }

    /// How a guest of this record ended whose process is gone without anybody having seen it go.
    pub fn unseen_end(&self, host_boot_now: &str) -> GuestEnd {
        match &self.end {
            Some(end) => end.clone(),
            None if self.host_boot != host_boot_now => GuestEnd::HostRestart,
            None => GuestEnd::Crashed("the process ended while no agent watched it".to_owned()),
        }
    }
}

/// The identity of the running kernel: another one after each boot of the host.
pub fn host_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use model::id::ServerId;

    use super::*;
    use crate::hypervisor::{Firmware, Machine};

    #[test]
    fn round_trip_and_unseen_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        assert_eq!(Record::read(&path), None);
        let spec = GuestSpec {
            id: ServerId::new("a"),
            boot: 3,
            vcpus: 1,
            memory_mib: 64,
            machine: Machine::Q35,
            firmware: Firmware::Bios,
            disks: vec![],
            nics: vec![],
            sockets: None,
        };
        let record = Record { spec, host_boot: "one".to_owned(), pid: Some(7), end: None };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), Some(record.clone()));
        assert_eq!(record.unseen_end("two"), GuestEnd::HostRestart);
        assert!(matches!(record.unseen_end("one"), GuestEnd::Crashed(_)));
        let ended = Record { end: Some(GuestEnd::ByGuest), ..record };
        assert_eq!(ended.unseen_end("two"), GuestEnd::ByGuest);
        fs::write(&path, "{").unwrap();
        assert_eq!(Record::read(&path), None);
    }
}
