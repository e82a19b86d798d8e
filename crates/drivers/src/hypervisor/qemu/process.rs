//! One QEMU process: starting it so that it outlives the agent, proving that a pid is it, waiting for its end, killing.
//!
//! A QEMU started here has a session of its own, no terminal, its output in a file: killing the agent or its process
//! group doesn't reach it. Everything afterwards goes through a pidfd, which can't come to mean another process.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    time::timeout,
};

use crate::hypervisor::{HypervisorError, Result, RunAs};

/// A process that runs or ran.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    // Holds how it ended, once it has.
    end: watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts `program`. `log` gets what it prints.
    pub fn spawn(program: &Path, arguments: &[String], log: File, run_as: Option<RunAs>) -> Result<Self> {
        let what = || format!("start {}", program.display());
        let also_log = log.try_clone().map_err(HypervisorError::io(what()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(also_log).current_dir("/");
        own_session(&mut command, run_as);
        let child = tokio::process::Command::from(command).spawn().map_err(HypervisorError::io(what()))?;
        let pid = child.id().ok_or_else(|| HypervisorError::Channel("the process has no id".to_owned()))?;
        Self::watch(pid, Some(child))
    }

    /// Takes over a process that an earlier agent started, if that pid is still the one whose command line has the
    /// argument `mark`.
    pub fn adopt(pid: u32, mark: &str) -> Option<Self> {
        // The pidfd first: what is verified after it can't have been replaced.
        let process = Self::watch(pid, None).ok()?;
        has_argument(pid, mark).then_some(process)
    }

    fn watch(pid: u32, child: Option<tokio::process::Child>) -> Result<Self> {
        let what = || format!("watch process {pid}");
        let no_pid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let raw =
            i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_pid).map_err(HypervisorError::io(what()))?;
        let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK).map_err(|e| HypervisorError::io(what())(e.into()))?;
        let signalled = pidfd.try_clone().map_err(HypervisorError::io(what()))?;
        let signalled = readable(signalled).map_err(HypervisorError::io(what()))?;
        let (sender, end) = watch::channel(None);
        tokio::spawn(async move {
            // A pidfd is readable once the process has ended, our child or not.
            let readable = signalled.readable().await.map(|_| ());
            let text = match (readable, child) {
                (Err(error), _) => format!("can't be watched: {error}"),
                (Ok(()), None) => "ended".to_owned(),
                (Ok(()), Some(mut child)) => match child.wait().await {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
            };
            sender.send_replace(Some(text));
        });
        Ok(Self { pid, pidfd, end })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end and says how it was (`exit status: 1`, `signal: 9 (SIGKILL)`).
    pub async fn ended(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            Err(_) => "not watched any more".to_owned(),
        }
    }

    /// Waits for its end no longer than that.
    pub async fn ended_within(&self, longest: Duration) -> bool {
        timeout(longest, self.ended()).await.is_ok()
    }

    /// Kills it. Nothing to do if it has ended.
    pub fn kill(&self) {
        // ESRCH says that it is gone already.
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(pid = self.pid, %error, "a QEMU process can't be killed");
        }
    }
}

/// Puts the child into a session of its own and under its own user.
#[allow(unsafe_code, reason = "pre_exec is the only way to setsid without a helper program")]
fn own_session(command: &mut Command, run_as: Option<RunAs>) {
    use std::os::unix::process::CommandExt;
    if let Some(user) = run_as {
        // std drops the supplementary groups with it.
        command.gid(user.gid).uid(user.uid);
    }
    // SAFETY: the closure runs between fork and exec and does nothing but one system call, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}

#[allow(unsafe_code, reason = "tokio has no safe way to wait for a descriptor of any kind")]
fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, so it stays open and the same for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(Into::into)
}

/// Whether one of the process's arguments is exactly `mark`.
fn has_argument(pid: u32, mark: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
}
