//! One daemon: found by its pid file, started detached, watched through a process descriptor, stopped.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{process::Command, time::timeout};

use super::{Layout, Settings};
use crate::network::{NetworkError, Result, sys};

const START_TIME_MAX: Duration = Duration::from_secs(20);
const TERM_TIME_MAX: Duration = Duration::from_secs(5);
const KILL_TIME_MAX: Duration = Duration::from_secs(5);
/// A log beyond this is put aside when its daemon starts.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// The six daemons, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Daemon {
    /// The switch's own database.
    SwitchDb,
    /// The northbound database.
    NorthDb,
    /// The southbound database.
    SouthDb,
    /// Translates northbound to southbound.
    Northd,
    /// The switch.
    Switch,
    /// Programs the switch from the southbound database.
    Controller,
}

impl Daemon {
    /// The short name, of its pid file and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::SwitchDb => "ovsdb",
            Self::NorthDb => "nb",
            Self::SouthDb => "sb",
            Self::Northd => "northd",
            Self::Switch => "vswitchd",
            Self::Controller => "controller",
        }
    }

    pub(super) fn program(self) -> &'static str {
        match self {
            Self::SwitchDb | Self::NorthDb | Self::SouthDb => "ovsdb-server",
            Self::Northd => "ovn-northd",
            Self::Switch => "ovs-vswitchd",
            Self::Controller => "ovn-controller",
        }
    }

    /// The database it serves: its file's name and its schema below the share directory.
    pub(super) fn database(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::SwitchDb => Some(("conf.db", "openvswitch/vswitch.ovsschema")),
            Self::NorthDb => Some(("nb.db", "ovn/ovn-nb.ovsschema")),
            Self::SouthDb => Some(("sb.db", "ovn/ovn-sb.ovsschema")),
            Self::Northd | Self::Switch | Self::Controller => None,
        }
    }

    /// What follows the options that all have.
    fn arguments(self, settings: &Settings, layout: &Layout) -> Vec<String> {
        let serve = |socket: PathBuf, more: &[String]| {
            let (file, _) = self.database().unwrap_or_default();
            let own = [layout.database(file).display().to_string(), format!("--remote=punix:{}", socket.display())];
            own.into_iter().chain(more.iter().map(|remote| format!("--remote={remote}"))).collect()
        };
        match self {
            Self::SwitchDb => serve(layout.switch_socket(), &[]),
            Self::NorthDb => serve(layout.north_socket(), &settings.north_listen),
            Self::SouthDb => serve(layout.south_socket(), &settings.south_listen),
            Self::Northd => vec![
                format!("--ovnnb-db=unix:{}", layout.north_socket().display()),
                format!("--ovnsb-db=unix:{}", layout.south_socket().display()),
            ],
            Self::Switch | Self::Controller => vec![format!("unix:{}", layout.switch_socket().display())],
        }
    }

    /// The running process, if its pid file names one that was started with that very pid file.
    pub(super) fn find(self, layout: &Layout) -> Option<Running> {
        let pid_file = layout.pid_file(self);
        let number: i32 = fs::read_to_string(&pid_file).ok()?.trim().parse().ok()?;
        let pid = Pid::from_raw(number)?;
        // The descriptor comes first: it stays with this process, so that the check below is about the same one.
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let command = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let marker = pid_file_option(&pid_file);
        command
            .split(|byte| *byte == 0)
            .any(|argument| argument == marker.as_bytes())
            .then_some(Running { pid: number, descriptor })
    }

    /// Starts it and returns when it is ready. It detaches: it lives on in its own session when this process ends.
    pub(super) async fn start(self, settings: &Settings, layout: &Layout) -> Result<Running> {
        let log = layout.log_file(self);
        set_aside(&log);
        let mut command = Command::new(settings.binaries.program(self.program()));
        layout.environment(&mut command);
        command
            .args(["--detach", "--no-chdir", "-vconsole:off"])
            .arg(pid_file_option(&layout.pid_file(self)))
            .arg(format!("--log-file={}", log.display()))
            .args(self.arguments(settings, layout));
        run(&mut command, self.program(), START_TIME_MAX).await?;
        self.find(layout).ok_or_else(|| failed(self.program(), "ended as soon as it had started; see its log", &log))
    }
}

fn pid_file_option(path: &Path) -> String {
    format!("--pidfile={}", path.display())
}

/// A process that is not our child.
pub(super) struct Running {
    pub(super) pid: i32,
    descriptor: OwnedFd,
}

impl Running {
    /// Waits until it ends.
    pub(super) async fn ended(self) -> io::Result<()> {
        sys::watch(self.descriptor)?.readable().await.map(drop)
    }

    /// Asks it to end, makes it end, and waits for that.
    pub(super) async fn stop(self, daemon: Daemon) -> Result<()> {
        let why = |error: String| NetworkError::System { what: format!("stop {}", daemon.program()), why: error };
        let watch = sys::watch(self.descriptor).map_err(|e| why(e.to_string()))?;
        for (signal, patience) in [(Signal::TERM, TERM_TIME_MAX), (Signal::KILL, KILL_TIME_MAX)] {
            match pidfd_send_signal(watch.get_ref(), signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(why(error.to_string())),
            }
            if timeout(patience, watch.readable()).await.is_ok() {
                return Ok(());
            }
        }
        Err(why("it does not end, not even when killed".into()))
    }
}

/// Runs a tool to its end and returns what it printed.
pub(super) async fn run(command: &mut Command, program: &str, within: Duration) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let refused = |why: String| NetworkError::System { what: format!("run {program}"), why };
    match timeout(within, command.output()).await {
        Err(_) => Err(refused(format!("not done within {} s", within.as_secs()))),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(Ok(output)) => {
            Err(refused(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
        }
    }
}

fn set_aside(log: &Path) {
    if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX)
        && let Err(error) = fs::rename(log, log.with_extension("log.1"))
    {
        tracing::warn!(log = %log.display(), %error, "can't put an old log aside");
    }
}

fn failed(program: &str, why: &str, log: &Path) -> NetworkError {
    NetworkError::System { what: format!("start {program}"), why: format!("{why}: {}", log.display()) }
}
