//! One connection's life.
//!
//! ```text
//! hello ─> registered ─> host_joined ─> commands sent ─> reports, heartbeats, answers ... ─> host_left
//!                                                          └── silence, error, newer connection, shutdown ──┘
//! ```

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::Stream};
use model::{Error, Result, id::HostId};
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;

use super::{ControlPlane, Hub, hub::Connection};
use crate::{FromAgent, Heartbeat, Hello, ReportAck, ServerReport, ToAgent, Welcome, from_agent, to_agent};

/// A registered connection and the control plane that it serves.
pub(super) struct Session {
    pub(super) hub: Hub,
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) host: HostId,
    pub(super) connection: Connection,
}

impl Session {
    /// Lives through the connection until it ends, whatever the cause.
    pub(super) async fn run<S>(self, hello: Hello, incoming: S)
    where
        S: Stream<Item = Result<FromAgent, Status>> + Unpin,
    {
        let end = match self.join(&hello).await {
            Ok(()) => {
                tracing::info!(host = %self.host, name = hello.host_name, version = hello.agent_version, "host joined");
                self.serve(incoming).await
            }
            Err(error) => {
                tracing::error!(host = %self.host, ?error, "host could not join");
                "could not join"
            }
        };
        self.hub.unregister(&self.host, &self.connection);
        let _presence = self.connection.presence.lock().await;
        if self.hub.is_connected(&self.host) {
            return; // It is back already: the newer connection speaks for it.
        }
        tracing::info!(host = %self.host, reason = end, "host left");
        if timeout(self.hub.limits().callback, self.control.host_left(&self.host)).await.is_err() {
            tracing::error!(host = %self.host, "recording that the host left took too long");
        }
    }

    async fn join(&self, hello: &Hello) -> Result<()> {
        let limits = self.hub.limits();
        let heartbeat_seconds = u32::try_from(limits.heartbeat.as_secs().max(1)).unwrap_or(u32::MAX);
        self.push(to_agent::Message::Welcome(Welcome { heartbeat_seconds })).await?;
        let commands = {
            let _presence = self.connection.presence.lock().await;
            within(self.hub.limits().callback, self.control.host_joined(&self.host, hello)).await?
        };
        for command in commands {
            self.hub.push(&self.host, &self.connection, command.into_message()).await?;
        }
        Ok(())
    }

    /// Handles messages until the end, and says what ended it. Reads no further while as many reports are being
    /// handled as the limit allows: that is the back-pressure.
    ///
    /// Calls run as tasks of their own: one that holds the database's writer must never wait for this loop, which may
    /// itself be waiting for another call or for the agent to read.
    async fn serve<S>(&self, mut incoming: S) -> &'static str
    where
        S: Stream<Item = Result<FromAgent, Status>> + Unpin,
    {
        let mut calls = JoinSet::new();
        loop {
            let may_read = calls.len() < self.hub.limits().reports_in_flight;
            let message = tokio::select! {
                () = self.connection.ended.cancelled() => return "replaced or shut down",
                Some(ended) = calls.join_next() => {
                    let Ok(ack) = ended else { return "a call panicked" };
                    if let Some(ack) = ack
                        && self.push(to_agent::Message::ReportAck(ack)).await.is_err()
                    {
                        return "does not read";
                    }
                    continue;
                }
                next = timeout(self.hub.limits().silence, incoming.next()), if may_read => match next {
                    Ok(Some(Ok(FromAgent { message }))) => message,
                    Ok(Some(Err(_))) => return "connection failed",
                    Ok(None) => return "closed by the agent",
                    Err(_) => return "silent for too long",
                },
            };
            match message {
                Some(from_agent::Message::Report(report)) => {
                    calls.spawn(self.calls().report(report));
                }
                Some(from_agent::Message::Heartbeat(heartbeat)) => {
                    calls.spawn(self.calls().heartbeat(heartbeat));
                }
                Some(from_agent::Message::Answer(answer)) => self.connection.answered(answer),
                Some(from_agent::Message::Hello(_)) => return "said hello twice",
                None => {} // A kind of message that a newer agent knows.
            }
        }
    }

    fn calls(&self) -> Calls {
        Calls { control: self.control.clone(), host: self.host.clone(), deadline: self.hub.limits().callback }
    }

    async fn push(&self, message: to_agent::Message) -> Result<()> {
        self.hub.push(&self.host, &self.connection, ToAgent { message: Some(message) }).await
    }
}

/// What a call to the control plane needs, apart from the session.
struct Calls {
    control: Arc<dyn ControlPlane>,
    host: HostId,
    deadline: Duration,
}

impl Calls {
    /// Nothing is answered to a heartbeat.
    async fn heartbeat(self, heartbeat: Heartbeat) -> Option<ReportAck> {
        let stats = heartbeat.stats.unwrap_or_default();
        if let Err(error) = within(self.deadline, self.control.heartbeat(&self.host, stats)).await {
            tracing::warn!(host = %self.host, ?error, "heartbeat not recorded");
        }
        None
    }

    async fn report(self, report: ServerReport) -> Option<ReportAck> {
        let outcome = within(self.deadline, self.control.server_report(&self.host, &report)).await;
        if let Err(error) = &outcome {
            tracing::warn!(host = %self.host, server = report.server_id, ?error, "report not accepted; it will come again");
        }
        Some(ReportAck { server_id: report.server_id, sequence: report.sequence, accepted: outcome.is_ok() })
    }
}

async fn within<T>(deadline: Duration, call: BoxFuture<'_, Result<T>>) -> Result<T> {
    timeout(deadline, call)
        .await
        .unwrap_or_else(|e| Err(Error::unavailable("Timeout", "The control plane took too long.").because(e)))
}
