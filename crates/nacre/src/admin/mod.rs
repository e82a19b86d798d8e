//! The private socket of a running control plane: one JSON question a connection, one JSON answer.
//!
//! Mode 0600 in a directory for root alone: whoever can open it owns the cloud anyway.

pub mod audit;
pub mod doctor;
pub mod flows;
pub mod policy;

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::layout::Layout;

/// How long an answer may take: the doctor asks every host.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest question in bytes.
const QUESTION_BYTES_MAX: u64 = 4096;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Whether requests are answered and this machine's agent is connected.
    Ready,
    /// The doctor's findings.
    Doctor {
        /// Repair what can be repaired.
        fix: bool,
    },
    /// A new key for tokens.
    RotateKeys,
    /// The hosts.
    Hosts,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Ok(Value),
    Error(String),
}

/// What answers.
pub trait Answers: Send + Sync {
    /// The answer, or one sentence why there is none.
    fn answer<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, anyhow::Result<Value>>;
}

/// Takes the socket; one that a dead process left is replaced.
pub fn bind(layout: &Layout) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = layout.admin();
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).context("replacing the admin socket"),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until told to stop.
pub async fn serve(listener: UnixListener, answers: Arc<dyn Answers>, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(one(stream, answers.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn one(mut stream: UnixStream, answers: Arc<dyn Answers>) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    if BufReader::new(read.take(QUESTION_BYTES_MAX)).read_line(&mut line).await.is_err() {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(ask) => match answers.answer(&ask).await {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(format!("{error:#}")),
        },
        Err(error) => Answer::Error(format!("not a question: {error}")),
    };
    if let Ok(bytes) = serde_json::to_vec(&answer) {
        // The asker may have gone.
        let _ = write.write_all(&bytes).await;
    }
}

/// Asks the control plane of this state directory.
pub async fn call(layout: &Layout, ask: &Ask) -> anyhow::Result<Value> {
    let path = layout.admin();
    let mut stream = UnixStream::connect(&path).await.with_context(|| {
        format!("no control plane runs with the state directory {} (start it with: nacre up)", layout.root.display())
    })?;
    let mut question = serde_json::to_vec(ask)?;
    question.push(b'\n');
    stream.write_all(&question).await?;
    let mut text = String::new();
    tokio::time::timeout(ANSWER_TIME_MAX, stream.read_to_string(&mut text))
        .await
        .context("the control plane did not answer")??;
    match serde_json::from_str(&text).context("the control plane ended while answering")? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(message) => bail!("{message}"),
    }
}

/// `nacre admin hosts`.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn hosts(layout: &Layout) -> anyhow::Result<()> {
    let answer = call(layout, &Ask::Hosts).await?;
    println!(
        "{:36}  {:20}  {:5}  {:5}  {:>7}  {:>13}  {:>15}",
        "id", "name", "state", "accel", "servers", "VCPUs claimed", "MiB claimed"
    );
    for host in answer["hosts"].as_array().into_iter().flatten() {
        let text = |key: &str| host[key].as_str().unwrap_or("-").to_owned();
        let of = |claimed: &str, all: &str| format!("{} of {}", host[claimed], host[all]);
        let state = if host["up"] == true { "up" } else { "down" };
        println!(
            "{:36}  {:20}  {state:5}  {:5}  {:>7}  {:>13}  {:>15}",
            text("id"),
            text("name"),
            text("accelerator"),
            host["servers"],
            of("vcpus_claimed", "vcpus"),
            of("memory_mib_claimed", "memory_mib"),
        );
    }
    Ok(())
}
