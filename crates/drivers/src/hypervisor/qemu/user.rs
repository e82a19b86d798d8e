//! The unprivileged user that QEMU runs as when the agent is root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::hypervisor::{HypervisorError, Result, RunAs};

const USERADD_TIME_MAX: Duration = Duration::from_secs(10);
const SBIN: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// The user of that name; made if there is none.
pub async fn ensure(name: &str) -> Result<RunAs> {
    if let Some(user) = look_up(name)? {
        return Ok(user);
    }
    let making = Command::new("useradd")
        .env("PATH", SBIN)
        .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
        .args(["--shell", "/usr/sbin/nologin", name])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let what = format!("useradd {name}");
    let output = timeout(USERADD_TIME_MAX, making)
        .await
        .map_err(|_| HypervisorError::Timeout { what: what.clone(), after: USERADD_TIME_MAX })?
        .map_err(HypervisorError::io(what.clone()))?;
    // Two agents may start at once: what counts is that the user is there.
    look_up(name)?.ok_or_else(|| HypervisorError::Refused {
        command: what,
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn look_up(name: &str) -> Result<Option<RunAs>> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(HypervisorError::io("read /etc/passwd"))?;
    Ok(parse_passwd(&passwd, name))
}

fn parse_passwd(passwd: &str, name: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        found.then_some(RunAs { uid, gid })
    })
}

/// The same user with the group that may open `/dev/kvm`, where a group may.
pub fn with_kvm_group(user: RunAs) -> RunAs {
    match fs::metadata("/dev/kvm") {
        Ok(kvm) if kvm.permissions().mode() & 0o060 == 0o060 && kvm.gid() != 0 => RunAs { gid: kvm.gid(), ..user },
        _ => user,
    }
}

/// The first folder on the way to `path` that the user may not pass through.
pub fn barrier(path: &Path, user: RunAs) -> Option<PathBuf> {
    let closed = |folder: &&Path| {
        let Ok(folder) = fs::metadata(folder) else { return false };
        let mode = folder.permissions().mode();
        !(mode & 0o001 != 0
            || folder.gid() == user.gid && mode & 0o010 != 0
            || folder.uid() == user.uid && mode & 0o100 != 0)
    };
    path.ancestors().filter(closed).last().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nqemu:x:990:991::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(parse_passwd(passwd, "qemu"), Some(RunAs { uid: 990, gid: 991 }));
        assert_eq!(parse_passwd(passwd, "qem"), None);
    }

    #[test]
    fn closed_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(folder.path(), 0o711);
        mode(&folder.path().join("a"), 0o711);
        mode(&inner, 0o700);
        let stranger = RunAs { uid: 4_000_000_000, gid: 4_000_000_000 };
        let parent = folder.path().parent().unwrap();
        assert_eq!(barrier(&parent.join("nothing-here"), stranger), None, "the temporary folder itself is open");
        assert_eq!(barrier(&inner, stranger), Some(inner.clone()));
        mode(folder.path(), 0o700);
        assert_eq!(barrier(&inner, stranger), Some(folder.path().to_owned()), "the outermost is named");
        let owner = fs::metadata(&inner).unwrap();
        assert_eq!(barrier(&inner, RunAs { uid: owner.uid(), gid: owner.gid() }), None);
    }
}
