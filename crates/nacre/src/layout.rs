//! Where files are.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The state directory's parts.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The state directory.
    pub root: PathBuf,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident => $path:literal;)*) => {
        impl Layout {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.root.join($path) })*
        }
    };
}

parts! {
    /// The database, unless another is given.
    database => "nacre.db";
    /// For clients; holds passwords.
    clouds => "clouds.yaml";
    /// Master key and passwords.
    secrets => "secrets";
    /// Uploaded images.
    images => "images";
    /// Guests' sockets, logs and records.
    guests => "guests";
    /// Base images, root disks and config drives.
    disks => "disks";
    /// Daemons of OVS and OVN.
    ovn => "ovn";
    /// The log of a cloud in the background.
    log => "log/nacre.log";
    /// Sockets and pid files.
    run => "run";
    /// Where agents of this machine connect.
    hostlink => "run/hostlink.sock";
    /// The private socket of the control plane.
    admin => "run/admin.sock";
    /// The pid file; locked while the process lives.
    pid => "run/nacre.pid";
}

impl Layout {
    /// A state directory; a relative path is taken from here.
    pub fn new(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// The database's URL.
    pub fn database_url(&self, given: Option<&str>) -> String {
        given.map_or_else(|| format!("sqlite:{}", self.database().display()), str::to_owned)
    }

    /// Makes the directories. What holds secrets is for root alone; guests' own files must be reachable for QEMU's
    /// unprivileged user, so the root itself can be passed through.
    pub fn create(&self) -> anyhow::Result<()> {
        let make = |path: &Path, mode: u32| -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        let private = [self.secrets(), self.run(), self.images(), self.root.join("log")];
        make(&self.root, 0o711).and_then(|()| private.iter().try_for_each(|path| make(path, 0o700))).with_context(
            || format!("cannot make the state directory {}; choose another with --state-dir", self.root.display()),
        )
    }
}

/// Writes a file that only root may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    // A file left by a killed process may have another mode: mode() only holds for new ones.
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
