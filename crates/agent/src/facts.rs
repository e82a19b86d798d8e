//! What the host's kernel says about itself.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Makes a folder that only this user may look into.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The host's id for life: read from the file, made on the first start.
pub(crate) fn host_id(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) if model::id::is_uuid_like(text.trim()) => Ok(text.trim().to_owned()),
        Ok(text) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: not an id: {text:?}", file.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let id = model::id::random_uuid().to_string();
            let beside = file.with_extension("new");
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
            out.write_all(id.as_bytes())?;
            out.sync_all()?;
            fs::rename(&beside, file)?;
            Ok(id)
        }
        Err(e) => Err(e),
    }
}

/// Changes with each boot of the host.
pub(crate) async fn boot_id() -> String {
    tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await.unwrap_or_default().trim().to_owned()
}

/// Total and available memory in MiB.
pub(crate) async fn memory_mib() -> (u64, u64) {
    let text = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
    (field_kib(&text, "MemTotal:") / 1024, field_kib(&text, "MemAvailable:") / 1024)
}

/// Load average of the last minute in thousandths.
pub(crate) async fn load_milli() -> u64 {
    load(&tokio::fs::read_to_string("/proc/loadavg").await.unwrap_or_default())
}

/// Seconds since the kernel started.
pub(crate) async fn uptime_seconds() -> u64 {
    let text = tokio::fs::read_to_string("/proc/uptime").await.unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

/// Processors that this process may use.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

fn field_kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn load(loadavg: &str) -> u64 {
    let (whole, fraction) =
        loadavg.split_whitespace().next().and_then(|first| first.split_once('.')).unwrap_or_default();
    let number = |digits: &str| digits.parse::<u64>().unwrap_or(0);
    number(whole) * 1000 + number(fraction) * 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        assert_eq!(field_kib("MemTotal:       24616328 kB\nMemFree: 1 kB\n", "MemTotal:"), 24_616_328);
        assert_eq!(field_kib("", "MemTotal:"), 0);
        assert_eq!(load("1.25 0.80 0.30 1/200 4242\n"), 1250);
    }

    #[test]
    fn the_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("host-id");
        let first = host_id(&file).unwrap();
        assert_eq!(host_id(&file).unwrap(), first);
        fs::write(&file, "nonsense").unwrap();
        assert!(host_id(&file).is_err(), "a new id would orphan every server of the host");
    }
}
