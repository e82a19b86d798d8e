//! Network namespaces that have a name: files under `/run/netns`, as `ip netns` makes and shows them, so that an
//! operator sees them and a new agent finds them.
//!
//! A process has one namespace per thread. Whatever must happen inside another one happens on a thread of its own that
//! ends afterwards; the runtime's threads never move.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statfs,
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{NetworkError, Result, sys};

const DIRECTORY: &str = "/run/netns";
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The file of a namespace.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether the namespace is there. A file that is no mount is what a namespace leaves when its mount namespace ends.
pub(super) fn exists(name: &str) -> bool {
    statfs(path(name)).is_ok_and(|fs| u64::try_from(fs.f_type) == Ok(NSFS_MAGIC))
}

/// The names of the namespaces that begin so, dead ones included.
pub(super) fn list(prefix: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// Makes a namespace. Blocks for about a millisecond: call it through [`tokio::task::spawn_blocking`] or a thread.
pub(super) fn create(name: &str) -> io::Result<()> {
    share_directory()?;
    let file = path(name);
    File::create(&file)?;
    let target = file.clone();
    let made = on_thread(move || {
        sys::leave_network_namespace()?;
        Ok(mount_bind("/proc/thread-self/ns/net", &target)?)
    });
    if made.is_err() {
        fs::remove_file(&file)?;
    }
    made
}

/// Removes a namespace's name; it ends with the last process in it.
pub(super) fn remove(name: &str) -> io::Result<()> {
    let file = path(name);
    match unmount(&file, UnmountFlags::DETACH) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `work` inside a namespace.
pub(super) async fn within<T: Send + 'static>(
    name: &str,
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let file = path(name);
    blocking(what, move || {
        let namespace = File::open(file)?;
        on_thread(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })
    })
    .await
}

/// Runs blocking `work` off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |why: String| NetworkError::System { what: what.to_owned(), why };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failed(error.to_string())),
        Err(panicked) => Err(failed(panicked.to_string())),
    }
}

/// Runs `work` on a thread that ends with it, inside the current runtime if there is one.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::try_current().ok();
    let thread = std::thread::spawn(move || {
        let _inside = runtime.as_ref().map(tokio::runtime::Handle::enter);
        work()
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Mounts made under `/run/netns` must reach the mount namespaces of other processes, as `ip netns` arranges it.
fn share_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(DIRECTORY, shared) {
        Err(Errno::INVAL) => {
            mount_bind(DIRECTORY, DIRECTORY)?;
            Ok(mount_change(DIRECTORY, shared)?)
        }
        done => Ok(done?),
    }
}
