//! A guest's console: the control plane asks for it, the agent opens a stream for it, bytes go both ways.

use bytes::Bytes;
use model::{Error, Result};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::ConsoleBytes;

/// One connection to a console. Dropping it ends it.
pub struct Console {
    pub(super) incoming: Streaming<ConsoleBytes>,
    pub(super) outgoing: mpsc::Sender<ConsoleBytes>,
}

/// The end that writes to a console.
#[derive(Clone)]
pub struct ConsoleInput(mpsc::Sender<ConsoleBytes>);

impl Console {
    /// An end that writes, for a task of its own.
    pub fn input(&self) -> ConsoleInput {
        ConsoleInput(self.outgoing.clone())
    }

    /// The next bytes from the guest; none when the console has ended.
    pub async fn read(&mut self) -> Option<Bytes> {
        loop {
            match self.incoming.message().await {
                Ok(Some(message)) if message.data.is_empty() => {}
                Ok(Some(message)) => return Some(message.data),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl ConsoleInput {
    /// Writes to the guest.
    ///
    /// # Errors
    /// When the console has ended.
    pub async fn write(&self, data: Bytes) -> Result<()> {
        let message = ConsoleBytes { data, ..ConsoleBytes::default() };
        self.0.send(message).await.map_err(|_| Error::unavailable("ConsoleClosed", "The console has ended."))
    }
}
