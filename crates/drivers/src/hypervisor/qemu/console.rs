//! The serial console's log: reading its end, and keeping it small.
//!
//! QEMU appends whatever the guest writes to `console.log`, so a guest could fill the host's disk. [`trim`], called from
//! time to time, moves the end of a grown log to `console.log.1` and empties it; QEMU appends on. What the guest writes
//! in the instant between the two is lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

use super::paths::GuestPaths;

/// A log that has grown beyond this is trimmed.
const GROWN_BYTES: u64 = 2 << 20;
/// What is kept of it, and the most that one reader gets (Nova gives 100 KiB).
const KEPT_BYTES: u64 = 100 << 10;

/// The last lines of the guest's serial output, over all boots.
pub fn tail(paths: &GuestPaths, lines: Option<usize>) -> io::Result<String> {
    let mut bytes = end_of(&paths.console_log_older(), KEPT_BYTES)?;
    bytes.extend(end_of(&paths.console_log(), KEPT_BYTES)?);
    let surplus = bytes.len().saturating_sub(KEPT_BYTES as usize);
    Ok(last_lines(&String::from_utf8_lossy(&bytes[surplus..]), lines).to_owned())
}

/// Trims the log if it has grown.
pub fn trim(paths: &GuestPaths) -> io::Result<()> {
    let log = match plain_file(OpenOptions::new().write(true), &paths.console_log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if log.metadata()?.len() <= GROWN_BYTES {
        return Ok(());
    }
    fs::write(paths.console_log_older(), end_of(&paths.console_log(), KEPT_BYTES)?)?;
    log.set_len(0)
}

/// The last bytes of a file that may be missing.
pub fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = match plain_file(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file and nothing else: the folder belongs to QEMU's user, who could have put a link or a pipe there.
fn plain_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let file = options.custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn last_lines(text: &str, lines: Option<usize>) -> &str {
    let Some(lines) = lines else { return text };
    let body = text.strip_suffix('\n').unwrap_or(text);
    match lines.checked_sub(1) {
        None => "",
        Some(earlier) => match body.rmatch_indices('\n').nth(earlier) {
            Some((at, _)) => &text[at + 1..],
            None => text,
        },
    }
}

#[cfg(test)]
mod tests {
    use model::id::ServerId;

    use super::*;

    #[test]
    fn lines_from_the_end() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", Some(2), "b\nc\n"),
            ("a\nb\nc", Some(1), "c"),
            ("a\nb\n", Some(9), "a\nb\n"),
            ("a\nb\n", Some(0), ""),
            ("a\nb\n", None, "a\nb\n"),
            ("", Some(3), ""),
        ] {
            assert_eq!(last_lines(text, lines), expected, "{lines:?} of {text:?}");
        }
    }

    #[test]
    fn a_grown_log_is_trimmed_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = GuestPaths::new(folder.path(), &ServerId::new("a")).unwrap();
        fs::create_dir_all(paths.run()).unwrap();
        assert_eq!(tail(&paths, None).unwrap(), "");
        trim(&paths).unwrap();
        let mut grown = vec![b'x'; GROWN_BYTES as usize];
        grown.extend(b"\nold\n");
        fs::write(paths.console_log(), grown).unwrap();
        trim(&paths).unwrap();
        assert_eq!(fs::metadata(paths.console_log()).unwrap().len(), 0);
        fs::write(paths.console_log(), "new\n").unwrap();
        assert_eq!(tail(&paths, Some(2)).unwrap(), "old\nnew\n");

        fs::remove_file(paths.console_log()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", paths.console_log()).unwrap();
        assert!(tail(&paths, None).is_err());
        assert!(trim(&paths).is_err());
    }
}
