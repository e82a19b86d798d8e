//! One QEMU process: starting it so that it outlives the agent, proving that a pid is it, waiting for its end, killing.
//!
//! A QEMU started here has a session of its own, no terminal, its output in a file: killing the agent or its process
//! group doesn't reach it. Everything afterwards goes through a pidfd, which can't come to mean another process.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::time::timeout;

use crate::{
    hypervisor::{HypervisorError, Result, RunAs},
    network::sys,
};

/// A process that runs or ran.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    // Holds how it ended, once it has.
    end: tokio::sync::watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts `program`. `log` gets what it prints; the descriptors in `inherited` keep their numbers in it.
    pub fn spawn(
        program: &Path,
        arguments: &[String],
        log: File,
        run_as: Option<RunAs>,
        inherited: Vec<OwnedFd>,
    ) -> Result<Self> {
        let what = || format!("start {}", program.display());
        let also_log = log.try_clone().map_err(HypervisorError::io(what()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(also_log).current_dir("/");
        own_session(&mut command, run_as, inherited);
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
        let signalled = sys::watch(signalled).map_err(HypervisorError::io(what()))?;
        let (sender, end) = tokio::sync::watch::channel(None);
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

/// Puts the child into a session of its own, under its own user, and lets it keep those descriptors.
#[allow(unsafe_code, reason = "pre_exec is the only way to setsid without a helper program")]
fn own_session(command: &mut Command, run_as: Option<RunAs>, inherited: Vec<OwnedFd>) {
    use std::os::unix::process::CommandExt;
    if let Some(user) = run_as {
        // std drops the supplementary groups with it.
        command.gid(user.gid).uid(user.uid);
    }
    let in_child = move || {
        rustix::process::setsid()?;
        for descriptor in &inherited {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and only makes system calls, which are async-signal-safe; making
    // an error of their numbers allocates nothing.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Whether one of the process's arguments is exactly `mark`.
fn has_argument(pid: u32, mark: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
}
