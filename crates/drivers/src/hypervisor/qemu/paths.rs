//! Where one guest's files are.
//!
//! ```text
//! ROOT/<server id>/           the agent's alone
//!     record.json             what was started, and how it ended: see `record`
//!     qemu.log                what QEMU printed since the last start
//!     suspended.memory        memory of a guest that is suspended
//!     console.log.1           older serial output: see `console`
//!     run/                    the guest's user may write here and nowhere else
//!         qmp.sock  serial.sock  vnc.sock  agent.sock
//!         console.log         serial output
//!         uefi-vars.fd        UEFI variables
//! ```
//!
//! A QEMU that a guest broke out into can change everything in `run/`: whoever reads there follows no link.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
};

use model::id::ServerId;

use super::guest::Shared;
use crate::hypervisor::Firmware;

/// Longest path of a unix socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Room that a guest's directory and the longest socket name need below the root.
const BELOW_ROOT_BYTES: usize = 36 + "//run/serial.sock".len();

/// The files of one guest.
#[derive(Clone, Debug)]
pub struct GuestPaths {
    directory: PathBuf,
}

impl GuestPaths {
    /// The files of that guest, or `None` if its id can't be a directory's name.
    pub fn new(root: &Path, id: &ServerId) -> Option<Self> {
        crate::is_file_name(id.as_str()).then(|| Self { directory: root.join(id.as_str()) })
    }

    /// Whether sockets below that root have paths that the kernel takes.
    pub fn root_fits(root: &Path) -> bool {
        root.as_os_str().len() + BELOW_ROOT_BYTES <= SOCKET_PATH_BYTES_MAX
    }

    /// The guest's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// What was started.
    pub fn record(&self) -> PathBuf {
        self.directory.join("record.json")
    }
    /// The memory of a guest that is suspended.
    pub fn suspended(&self) -> PathBuf {
        self.directory().join("suspended.memory")
    }

    /// What QEMU printed.
    pub fn qemu_log(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }
    /// What the guest's user may write to.
    pub fn run(&self) -> PathBuf {
        self.directory.join("run")
    }
    /// QMP.
    pub fn qmp(&self) -> PathBuf {
        self.run().join("qmp.sock")
    }
    /// Serial line.
    pub fn serial(&self) -> PathBuf {
        self.run().join("serial.sock")
    }
    /// VNC.
    pub fn vnc(&self) -> PathBuf {
        self.run().join("vnc.sock")
    }
    /// Guest agent.
    pub fn guest_agent(&self) -> PathBuf {
        self.run().join("agent.sock")
    }
    /// Serial output.
    pub fn console_log(&self) -> PathBuf {
        self.run().join("console.log")
    }
    /// Older serial output.
    pub fn console_log_older(&self) -> PathBuf {
        self.directory.join("console.log.1")
    }
    /// UEFI variables.
    pub fn uefi_vars(&self) -> PathBuf {
        self.run().join("uefi-vars.fd")
    }
    /// Sockets that an earlier process may have left.
    pub fn sockets(&self) -> [PathBuf; 4] {
        [self.qmp(), self.serial(), self.vnc(), self.guest_agent()]
    }
}

/// Makes the guest's folders, clears what an earlier process left in them, and opens QEMU's log.
pub fn prepare(paths: &GuestPaths, shared: &Shared, firmware: Firmware) -> io::Result<File> {
    let folder = |path: PathBuf, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    folder(paths.directory().to_owned(), 0o711)?;
    folder(paths.run(), 0o700)?;
    for socket in paths.sockets() {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let owned = |path: PathBuf| match shared.run_as {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    };
    owned(paths.run())?;
    if let Some(template) = shared.uefi_vars.as_ref().filter(|_| firmware == Firmware::Uefi)
        && !paths.uefi_vars().exists()
    {
        fs::copy(template, paths.uefi_vars())?;
        owned(paths.uefi_vars())?;
    }
    File::create(paths.qemu_log())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_no_names() {
        for (id, fits) in
            [("a3b1-x_Y", true), ("", false), ("..", false), ("a/b", false), ("a,b", false), (&"a".repeat(37), false)]
        {
            assert_eq!(GuestPaths::new(Path::new("/g"), &ServerId::new(id)).is_some(), fits, "{id}");
        }
        assert!(GuestPaths::root_fits(Path::new("/var/lib/nacre/guests")));
        assert!(!GuestPaths::root_fits(Path::new(&"/long".repeat(12))));
    }
}
