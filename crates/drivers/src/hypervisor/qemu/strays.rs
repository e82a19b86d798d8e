//! Folders and processes of guests that the driver has no entry of: somebody put or left them there while it ran, or
//! took a guest's folder away from under its process.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use model::id::ServerId;

use super::{command_line, paths::GuestPaths, process::Process};

/// What is there of one guest: its folder, its process, or both.
pub type Traces = BTreeMap<ServerId, Option<u32>>;

/// Everything below that root. A guest that is being started has its entry before it has a folder, so that who looks
/// here first and at the entries then takes none for a stray.
pub fn traces(root: &Path) -> io::Result<Traces> {
    let folders = directories(root)?.into_iter().map(|name| (ServerId::new(name), None));
    let mut traces: Traces = folders.collect();
    traces.extend(processes(root)?.into_iter().map(|(id, pid)| (id, Some(pid))));
    Ok(traces)
}

/// Kills what runs as that guest and has no entry.
pub async fn kill(root: PathBuf, id: &ServerId, within: Duration) -> io::Result<()> {
    let mark = command_line::guest_name(id.as_str());
    let found = tokio::task::spawn_blocking(move || processes(&root)).await.map_err(io::Error::other)??;
    for process in found.into_iter().filter(|(owner, _)| owner == id).filter_map(|(_, pid)| Process::adopt(pid, &mark))
    {
        process.kill();
        if !process.ended_within(within).await {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {} does not end", process.pid())));
        }
    }
    Ok(())
}

/// The folders' names.
pub fn directories(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string().ok().filter(|name| crate::is_file_name(name)));
        }
    }
    Ok(names)
}

/// The processes with a guest's name and a file below its folder in their arguments: other clouds' have other roots.
fn processes(root: &Path) -> io::Result<Vec<(ServerId, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Most have ended or are not ours to read; those are no guests.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line);
        found.extend(guest_of(root, &line).map(|id| (id, pid)));
    }
    Ok(found)
}

/// The guest of a command line (arguments end with a zero byte).
fn guest_of(root: &Path, line: &str) -> Option<ServerId> {
    let (before, after) = command_line::guest_name("\0").split_once('\0').map(|(b, a)| (b.to_owned(), a.to_owned()))?;
    let mut arguments = line.split('\0');
    let id = ServerId::new(arguments.find_map(|argument| argument.strip_prefix(&before)?.strip_suffix(&after))?);
    let folder = format!("{}/", GuestPaths::new(root, &id)?.directory().display());
    line.contains(&folder).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_known_by_its_name_and_its_folder() {
        let root = Path::new("/state/guests");
        let line = |arguments: &[&str]| arguments.join("\0");
        let name = command_line::guest_name("a");
        for (line, expected) in [
            (line(&["qemu", "-name", &name, "-qmp", "unix:/state/guests/a/run/qmp.sock"]), Some("a")),
            (line(&["qemu", "-name", &name, "-qmp", "unix:/other/guests/a/run/qmp.sock"]), None),
            (line(&["qemu", "-name", &name, "-qmp", "unix:/state/guests/ab/run/qmp.sock"]), None),
            (line(&["less", "/state/guests/a/qemu.log"]), None),
            (String::new(), None),
        ] {
            assert_eq!(guest_of(root, &line).as_ref().map(ServerId::as_str), expected, "{line:?}");
        }
    }
}
