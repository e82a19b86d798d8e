//! A whole cloud on this machine, in the background or the foreground, and its two halves.

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Read, Seek, SeekFrom, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    admin::{self, Ask},
    cli::CloudOptions,
    clouds, control_plane, host,
    layout::Layout,
    logs, preflight,
    secrets::Secrets,
};

/// How long a cloud may take to be ready; on the slowest machine seen it takes 5 s.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a lock may be held by somebody who is not the cloud.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
/// How often readiness is asked for meanwhile.
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// What clients write before `/identity`.
pub fn public_url(options: &CloudOptions) -> String {
    let scheme = if options.tls_cert.is_some() { "https" } else { "http" };
    let host = std::net::SocketAddr::new(options.listen, options.port);
    options.public_url.clone().unwrap_or_else(|| format!("{scheme}://{host}")).trim_end_matches('/').to_owned()
}

/// `nacre up`: starts the cloud in the background and returns when it is ready.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn start(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    preflight::check(layout, options)?;
    layout.create()?;
    let started = Instant::now();
    // One that was just killed holds its lock until its last thread is gone: then it is not waited for but replaced.
    if Lock::is_held(layout) && wait_until_ready(layout, None).await? {
        println!("The cloud is running already.");
    } else {
        // Found out here, where a person sees it, and not only in the log.
        drop(preflight::listen(options).await?);
        // Listened for before there is a child: a Ctrl-C must not leave one of which `nacre down` knows nothing yet.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut child = spawn(layout)?;
        tokio::select! {
            ready = wait_until_ready(layout, Some(&mut child)) => drop(ready?),
            _ = interrupt.recv() => {
                end(&mut child)?;
                bail!("interrupted; what has been started so far ends with: nacre down");
            }
        }
        println!("The cloud is up ({:.1} s).", started.elapsed().as_secs_f64());
    }
    println!("  API          {}", public_url(options));
    println!("  clouds.yaml  {}", layout.clouds().display());
    println!("  log          {}", layout.log().display());
    Ok(())
}

/// Runs this program again in a session of its own, in the foreground there, logging to the log file.
fn spawn(layout: &Layout) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(layout.log()).context("opening the log")?;
    let exe = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(exe);
    command.args(std::env::args_os().skip(1)).arg("--foreground");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // A group of its own: Ctrl-C at the terminal is not for it.
    command.process_group(0);
    command.spawn().context("starting the cloud in the background")
}

/// Ends the process that was to be the cloud. It leaves guests and daemons as a SIGKILL at any other moment does.
fn end(child: &mut Child) -> anyhow::Result<()> {
    child.kill().and_then(|()| child.wait()).map(drop).context("ending what was started")
}

/// Waits for the cloud that `child` is to become, or for one that runs already: false if that one has ended meanwhile.
#[allow(clippy::print_stderr, reason = "progress, on a terminal")]
async fn wait_until_ready(layout: &Layout, mut child: Option<&mut Child>) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut told = 0;
    loop {
        if let Some(status) = child.as_mut().map(|child| child.try_wait()).transpose()?.flatten() {
            bail!("the cloud ended while starting ({status}): {}", last_error(layout));
        }
        if admin::call(layout, &Ask::Ready).await.is_ok() {
            break;
        }
        if child.is_none() && !Lock::is_held(layout) {
            return Ok(false);
        }
        if started.elapsed() > READY_TIME_MAX {
            bail!("the cloud is not ready after {READY_TIME_MAX:?}; its log is {}", layout.log().display());
        }
        let seconds = started.elapsed().as_secs();
        if seconds >= 2 && seconds > told {
            told = seconds;
            eprint!(
                "{}",
                if std::io::stderr().is_terminal() {
                    format!("\rstarting the cloud... {seconds} s")
                } else {
                    ".".into()
                }
            );
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
    if told > 0 {
        eprintln!();
    }
    Ok(true)
}

/// The last line of the log that says why.
fn last_error(layout: &Layout) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(layout.log()) {
        let size = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(size.saturating_sub(8192)));
        let _ = file.read_to_string(&mut text);
    }
    let line = text
        .lines()
        .rev()
        .find(|line| line.starts_with("nacre: "))
        .map(|line| line.trim_start_matches("nacre: ").to_owned());
    line.unwrap_or_else(|| format!("see {}", layout.log().display()))
}

/// `nacre up --foreground`: control plane and agent in one process.
pub async fn run(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    serve(layout, options, true, true).await
}

/// `nacre server`: the control plane alone.
pub async fn run_server(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    serve(layout, options, true, false).await
}

/// `nacre agent`: this host's agent alone.
pub async fn run_agent(layout: &Layout, options: &CloudOptions) -> anyhow::Result<()> {
    serve(layout, options, false, true).await
}

async fn serve(layout: &Layout, options: &CloudOptions, control: bool, agent: bool) -> anyhow::Result<()> {
    logs::start();
    preflight::check(layout, options)?;
    layout.create()?;
    let _lock = Lock::take(layout, if control { "nacre" } else { "agent" }).await?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(on_signal(stop));
    let drivers = host::Drivers::open(layout, options).await?;
    let mut tasks = tokio::task::JoinSet::new();
    if control {
        let secrets = Secrets::load_or_create(layout)?;
        let plane = control_plane::start(layout, options, &secrets, &drivers, agent).await?;
        clouds::write(layout, &secrets, &public_url(options))?;
        tasks.spawn(plane.run(stopped.clone()));
    }
    if agent {
        for host in drivers.hosts(layout, options).await? {
            tasks.spawn(host.run(stopped.clone()));
        }
    }
    // The first that ends ends all: a half of a cloud is none.
    let first = tasks.join_next().await;
    if !*stopped.borrow() {
        first.transpose()?.transpose()?;
        bail!("a part of the cloud ended by itself");
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// SIGTERM and SIGINT end it; guests are left alone.
async fn on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals can't be listened for: end this process by SIGKILL");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    // Fails only when nobody waits any more.
    let _ = stop.send(true);
}

/// The pid file, locked for as long as the process lives: a pid alone may be another program's by now.
pub struct Lock {
    _file: File,
}

impl Lock {
    fn path(layout: &Layout, role: &str) -> std::path::PathBuf {
        layout.pid().with_file_name(format!("{role}.pid"))
    }

    /// Whether a control plane of this state directory lives.
    pub fn is_held(layout: &Layout) -> bool {
        Self::holder(layout, "nacre").is_some()
    }

    /// The process that holds it.
    pub fn holder(layout: &Layout, role: &str) -> Option<i32> {
        let path = Self::path(layout, role);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => None,
            Err(_) => fs::read_to_string(&path).ok()?.trim().parse().ok(),
        }
    }

    async fn take(layout: &Layout, role: &str) -> anyhow::Result<Self> {
        let path = Self::path(layout, role);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        // Whoever only looks holds it for a moment, and so does one that was killed.
        let since = Instant::now();
        while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            if since.elapsed() > LOCK_TIME_MAX {
                bail!("another nacre already runs with the state directory {}", layout.root.display());
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}
