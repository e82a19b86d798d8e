//! Control groups (version 2): one per guest, so that stopping the agent's service doesn't reach guests and each guest's
//! share can be seen and set. Optional: hosts without the unified hierarchy, or where it may not be written, do without.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::id::ServerId;

const HIERARCHY: &str = "/sys/fs/cgroup";
const PARENT: &str = "nacre";

/// The group under which guests' groups are made.
#[derive(Clone, Debug)]
pub struct Cgroup {
    parent: PathBuf,
}

impl Cgroup {
    /// The parent group, made if needed; or why this host has none.
    pub fn open() -> Result<Self, String> {
        Self::open_below(Path::new(HIERARCHY))
    }

    fn open_below(hierarchy: &Path) -> Result<Self, String> {
        if !hierarchy.join("cgroup.controllers").exists() {
            return Err("no control groups: this host has no unified (version 2) hierarchy".to_owned());
        }
        let parent = hierarchy.join(PARENT);
        fs::create_dir_all(&parent).map_err(|error| format!("no control groups: {}: {error}", parent.display()))?;
        Ok(Self { parent })
    }

    /// Puts a guest's process into its group. A failure is logged: the guest runs without.
    pub fn place(&self, id: &ServerId, pid: u32) {
        if let Err(error) = self.try_place(id, pid) {
            tracing::warn!(%id, %error, "guest has no control group of its own");
        }
    }

    fn try_place(&self, id: &ServerId, pid: u32) -> io::Result<()> {
        let group = self.group(id);
        fs::create_dir_all(&group)?;
        fs::write(group.join("cgroup.procs"), pid.to_string())
    }

    /// Removes the group of a guest that has ended.
    pub fn remove(&self, id: &ServerId) {
        match fs::remove_dir(self.group(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%id, %error, "control group of an ended guest stays");
            }
            _ => {}
        }
    }

    fn group(&self, id: &ServerId) -> PathBuf {
        self.parent.join(format!("guest-{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_the_unified_hierarchy_and_one_without() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Cgroup::open_below(folder.path()).unwrap_err().contains("no unified"));
        fs::write(folder.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroup = Cgroup::open_below(folder.path()).unwrap();
        cgroup.place(&ServerId::new("a"), 42);
        let procs = folder.path().join("nacre/guest-a/cgroup.procs");
        assert_eq!(fs::read_to_string(&procs).unwrap(), "42");
        // In the kernel's own file system the file goes with the folder.
        fs::remove_file(procs).unwrap();
        cgroup.remove(&ServerId::new("a"));
        cgroup.remove(&ServerId::new("a"));
        assert!(!folder.path().join("nacre/guest-a").exists());
    }
}
