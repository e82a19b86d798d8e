//! A PostgreSQL server for this test process: private folder, unix socket only, nothing durable, gone with the process.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Where Debian and Ubuntu keep the server's programs, one folder per version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Folders of servers start with this; those whose process is gone are removed by the next one.
const FOLDER: &str = "nacre-test-pg-";
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// No durability: the data need not survive the test. Many connections: each test's pool has its own.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "max_connections=300",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "unix_socket_permissions=0777",
];

/// A running server.
pub(crate) struct Server {
    folder: PathBuf,
    /// Tells other processes that this folder is in use; the kernel lets go of it when this process ends.
    _lock: fs::File,
}

impl Server {
    /// Starts one. Blocks for about a second.
    pub(crate) fn start() -> Self {
        let programs = programs();
        remove_stale();
        let (folder, lock) = make_folder();
        let user = user();
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((_, uid, gid)) = &user {
            chown(&data, Some(*uid), Some(*gid)).unwrap();
        }
        let mut initdb = as_user(&user, &programs.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.arg("--pgdata").arg(&data).current_dir("/").output().expect("running initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = as_user(&user, &programs.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(&data).current_dir("/");
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        keep_running(postgres, &folder);
        Self { folder, _lock: lock }
    }

    /// How to reach one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=postgres", self.folder.join("data").display())
    }
}

/// The newest version that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut found: Vec<PathBuf> = versions.filter(|bin| bin.join("postgres").exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no PostgreSQL server under {VERSIONS}: apt-get install postgresql"))
}

/// PostgreSQL refuses to run as root: then it is the user `postgres`, with its ids.
fn user() -> Option<(String, u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == "postgres");
    let account = account.expect("a user postgres in /etc/passwd");
    Some((account[0].to_owned(), account[2].parse().unwrap(), account[3].parse().unwrap()))
}

/// A command that ends with this process and has no more rights than it needs.
fn as_user(user: &Option<(String, u32, u32)>, program: &Path) -> Command {
    // A fast way down without a checkpoint, which also frees the shared memory.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some((name, _, gid)) = user {
        command.arg("--reuid").arg(name).arg("--regid").arg(gid.to_string()).arg("--init-groups");
    }
    command.arg("--").arg(program);
    command
}

/// Starts the server on a thread that outlives every test: the kernel sends a child its parent-death signal when the
/// *thread* that started it ends.
fn keep_running(mut postgres: Command, folder: &Path) {
    let log = folder.join("log");
    let output = fs::File::create(&log).unwrap();
    postgres.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    std::thread::spawn(move || postgres.spawn().expect("running postgres").wait());
    let started = Instant::now();
    let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready to accept connections"));
    while !ready() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert!(!text.contains("FATAL") && started.elapsed() < START_TIMEOUT, "PostgreSQL did not start: {text}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A folder that no other process takes for a stale one: it gets its name only once its lock is held.
fn make_folder() -> (PathBuf, fs::File) {
    let new = tempfile::Builder::new().prefix("nacre-test-new-").tempdir().unwrap().keep();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    let lock = fs::File::create(new.join("lock")).unwrap();
    lock.lock().unwrap();
    let unique = new.file_name().unwrap().to_string_lossy().replace("nacre-test-new-", FOLDER);
    let folder = new.with_file_name(unique);
    fs::rename(&new, &folder).unwrap();
    (folder, lock)
}

/// Removes the folders of test processes that are gone.
fn remove_stale() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(FOLDER);
        let lock = is_ours.then(|| fs::File::open(entry.path().join("lock")).ok()).flatten();
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            // Another process may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
