//! `qemu-img` on volumes: its command lines, its deadlines, and how keys reach it without a trace.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use super::{DiskFormat, Key, Result, VolumeError};

/// What only changes a volume's description takes no longer.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(60);
/// Copies are given this much for each byte, besides.
const COPY_BYTES_PER_SECOND_MIN: u64 = 20 << 20;
/// A key has more entropy than any number of rounds could add; LUKS wants to be told.
const KEY_ROUNDS_MS: u32 = 10;

/// To choose LUKS's rounds QEMU measures this processor, and gives up at once where the kernel's clock ticked too coarsely
/// for it: no reason to give up with it.
const NOT_MEASURED: &str = "Unable to get accurate CPU usage";
const CREATE_ATTEMPTS_MAX: u32 = 50;

/// The program.
pub(super) struct QemuImg(pub(super) PathBuf);

/// A file as `qemu-img` opens it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) path: &'a Path,
    pub(super) format: DiskFormat,
    pub(super) key: Option<&'a Key>,
}

/// What `qemu-img info` says.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Info {
    pub(super) virtual_size: u64,
    #[serde(default)]
    pub(super) actual_size: u64,
    #[serde(default)]
    pub(super) encrypted: bool,
    #[serde(default)]
    pub(super) snapshots: Vec<InfoSnapshot>,
}

#[derive(Deserialize)]
pub(super) struct InfoSnapshot {
    pub(super) name: String,
}

/// Files in memory that hold keys while a command runs. The command opens them through this process, so that no key is
/// an argument, a variable or a file on disk.
#[derive(Default)]
struct Secrets {
    files: Vec<File>,
    arguments: Vec<String>,
}

impl Secrets {
    /// Makes a key known to the command; its name there.
    fn add(&mut self, key: &Key) -> Result<String> {
        let make = || -> io::Result<File> {
            let mut file = File::from(memfd_create("nacre-volume-key", MemfdFlags::CLOEXEC)?);
            file.write_all(key.reveal().as_bytes())?;
            Ok(file)
        };
        let file = make().map_err(VolumeError::io("hand over a volume's key"))?;
        let name = format!("key{}", self.files.len());
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.arguments.extend(["--object".to_owned(), format!("secret,id={name},file={path}")]);
        self.files.push(file);
        Ok(name)
    }

    /// A node in the words of `--image-opts`.
    fn image_opts(&mut self, node: Node<'_>) -> Result<String> {
        // A comma in a value is written twice.
        let path = node.path.display().to_string().replace(',', ",,");
        let mut text = format!("driver={},file.driver=file,file.filename={path}", node.format.as_str());
        if let Some(key) = node.key {
            text.push_str(&format!(",encrypt.key-secret={}", self.add(key)?));
        }
        Ok(text)
    }
}

impl QemuImg {
    /// Makes an empty qcow2 file.
    pub(super) async fn create(&self, node: Node<'_>, size_bytes: u64) -> Result<()> {
        let mut secrets = Secrets::default();
        let mut arguments = vec!["create".to_owned(), "-q".to_owned()];
        let mut options = vec!["-f".to_owned(), node.format.as_str().to_owned()];
        if let Some(key) = node.key {
            let name = secrets.add(key)?;
            let luks = format!("encrypt.format=luks,encrypt.key-secret={name},encrypt.iter-time={KEY_ROUNDS_MS}");
            options.extend(["-o".to_owned(), luks]);
        }
        arguments.extend(secrets.arguments.iter().cloned());
        arguments.extend(options);
        arguments.extend([node.path.display().to_string(), size_bytes.to_string()]);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.run(&arguments, CHANGE_TIME_MAX).await {
                Err(VolumeError::Tool { reason, .. })
                    if reason.contains(NOT_MEASURED) && attempts < CREATE_ATTEMPTS_MAX => {}
                done => return done.map(drop),
            }
        }
    }

    /// Copies what a file, or one of its snapshots, holds over an empty target that is large enough.
    pub(super) async fn copy(&self, from: Node<'_>, snapshot: Option<&str>, to: Node<'_>, bytes: u64) -> Result<()> {
        let mut secrets = Secrets::default();
        let source = secrets.image_opts(from)?;
        let target = secrets.image_opts(to)?;
        let mut arguments = vec!["convert".to_owned(), "-q".to_owned(), "-n".to_owned()];
        arguments.extend(["--target-is-zero", "--image-opts", "--target-image-opts"].map(str::to_owned));
        arguments.append(&mut secrets.arguments);
        if let Some(name) = snapshot {
            // What a snapshot holds does not change, whoever writes to the volume meanwhile.
            arguments.extend(["-U".to_owned(), "-l".to_owned(), format!("snapshot.name={name}")]);
        }
        arguments.extend([source, target]);
        let deadline = CHANGE_TIME_MAX + Duration::from_secs(bytes / COPY_BYTES_PER_SECOND_MIN);
        self.run(&arguments, deadline).await.map(drop)
    }

    /// Makes the disk larger.
    pub(super) async fn grow(&self, node: Node<'_>, size_bytes: u64) -> Result<()> {
        self.on(&["resize", "-q"], node, &[&size_bytes.to_string()]).await
    }

    /// Takes (`-c`), drops (`-d`) or goes back to (`-a`) an internal snapshot.
    pub(super) async fn snapshot(&self, action: &str, name: &str, node: Node<'_>) -> Result<()> {
        self.on(&["snapshot", "-q", action, name], node, &[]).await
    }

    async fn on(&self, command: &[&str], node: Node<'_>, rest: &[&str]) -> Result<()> {
        let mut secrets = Secrets::default();
        let opts = secrets.image_opts(node)?;
        let mut arguments: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        arguments.append(&mut secrets.arguments);
        arguments.extend(["--image-opts".to_owned(), opts]);
        arguments.extend(rest.iter().map(|word| (*word).to_owned()));
        self.run(&arguments, CHANGE_TIME_MAX).await.map(drop)
    }

    /// What a qcow2 file is. `shared`: also while a guest has it open.
    pub(super) async fn info(&self, path: &Path, shared: bool) -> Result<Info> {
        let mut arguments = vec!["info".to_owned(), "--output=json".to_owned()];
        arguments.extend(shared.then(|| "-U".to_owned()));
        let node = Node { path, format: DiskFormat::Qcow2, key: None };
        arguments.extend(["--image-opts".to_owned(), Secrets::default().image_opts(node)?]);
        let output = self.run(&arguments, CHANGE_TIME_MAX).await?;
        serde_json::from_slice(&output).map_err(|e| self.failed("info", e.to_string()))
    }

    fn failed(&self, command: &str, reason: String) -> VolumeError {
        VolumeError::Tool { tool: format!("{} {command}", self.0.display()), reason }
    }

    async fn run(&self, arguments: &[String], deadline: Duration) -> Result<Vec<u8>> {
        let command = arguments.first().map_or("", String::as_str);
        let running = Command::new(&self.0).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(deadline, running)
            .await
            .map_err(|_| self.failed(command, format!("not done after {deadline:?}")))?
            .map_err(VolumeError::io(format!("{} {command}", self.0.display())))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(command, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
