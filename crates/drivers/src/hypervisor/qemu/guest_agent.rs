//! The QEMU guest agent: a daemon inside the guest that most images come with and not all of them run.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

use crate::hypervisor::{HypervisorError, Result};

/// A daemon that runs answers at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Lines that an earlier conversation may have left.
const STALE_LINES_MAX: usize = 16;

/// Sets a user's password.
pub async fn set_password(socket: &Path, user: &str, password: &str) -> Result<()> {
    let mut agent = Agent::connect(socket).await?;
    let encoded = BASE64_STANDARD.encode(password);
    let arguments = json!({ "username": user, "password": encoded, "crypted": false });
    agent.execute("guest-set-user-password", arguments).await.map(drop)
}

struct Agent(BufReader<UnixStream>);

impl Agent {
    /// Connects, and finds the end of what an earlier conversation has left.
    async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.map_err(HypervisorError::io("connect to the guest agent"))?;
        let mut agent = Self(BufReader::new(stream));
        let mark = i64::from(std::process::id());
        agent.send(&json!({ "execute": "guest-sync", "arguments": { "id": mark } })).await?;
        for _ in 0..STALE_LINES_MAX {
            if agent.receive().await?["return"] == json!(mark) {
                return Ok(agent);
            }
        }
        Err(HypervisorError::Channel("the guest agent answers other questions".to_owned()))
    }

    async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.send(&json!({ "execute": command, "arguments": arguments })).await?;
        let mut answer = self.receive().await?;
        match answer["error"]["desc"].as_str() {
            Some(reason) => Err(HypervisorError::Unsupported(format!("the guest agent refused: {reason}"))),
            None => Ok(answer["return"].take()),
        }
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        let line = format!("{message}\n");
        let sent = self.0.get_mut().write_all(line.as_bytes()).await;
        sent.map_err(HypervisorError::io("write to the guest agent"))
    }

    async fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = timeout(ANSWER_TIME_MAX, self.0.read_line(&mut line)).await;
        let silent = |_| HypervisorError::Unsupported("the guest runs no QEMU guest agent".to_owned());
        let bytes = read.map_err(silent)?.map_err(HypervisorError::io("read from the guest agent"))?;
        if bytes == 0 {
            return Err(HypervisorError::Channel("the guest agent's channel is closed".to_owned()));
        }
        Ok(serde_json::from_str(line.trim_start_matches('\u{ff}')).unwrap_or(Value::Null))
    }
}
