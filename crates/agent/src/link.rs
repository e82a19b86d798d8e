//! The connection to the control plane: opened here, opened again whenever it ends.

use std::{sync::Arc, time::Duration};

use hostlink::{
    Answer, Capabilities, ConsoleText, Done, FromAgent, Heartbeat, Hello, HostStats, Question, Refusal, RefusalKind,
    ToAgent, answer, from_agent, question, to_agent,
};
use model::id::ServerId;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use drivers::hypervisor::{Accelerator, HypervisorError};

use crate::console;
use crate::{facts, failure::Failure, host::Host, inventory};

/// Messages that may wait for the network.
const QUEUE: usize = 64;
/// Questions that are answered at the same time.
const QUESTIONS: usize = 8;
/// How long the control plane may take to answer a hello.
const WELCOME_TIME_MAX: Duration = Duration::from_secs(15);

/// Keeps the link up until the process ends.
pub(crate) async fn run(host: Arc<Host>) {
    let limits = &host.config.limits;
    let mut pause = limits.reconnect_first;
    while !host.stop.is_cancelled() {
        let welcomed = tokio::select! {
            () = host.stop.cancelled() => return,
            welcomed = session(&host) => welcomed,
        };
        host.images.set_link(None);
        pause = if welcomed { limits.reconnect_first } else { (pause * 2).min(limits.reconnect_longest) };
        tokio::select! {
            () = host.stop.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
        }
    }
}

/// One connection from beginning to end. Says whether the control plane welcomed it.
async fn session(host: &Arc<Host>) -> bool {
    let mut client = match host.config.endpoint.connect().await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(%error, "the control plane is not reachable");
            return false;
        }
    };
    let (outgoing, queue) = mpsc::channel(QUEUE);
    // There is room for the first message.
    let _ = outgoing.try_send(message(from_agent::Message::Hello(hello(host).await)));
    let opened = tokio::time::timeout(WELCOME_TIME_MAX, async {
        let mut incoming = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let first = incoming.message().await?;
        Ok::<_, Status>((incoming, first))
    });
    let (incoming, heartbeat) = match opened.await {
        Ok(Ok((incoming, Some(ToAgent { message: Some(to_agent::Message::Welcome(welcome)) })))) => {
            (incoming, Duration::from_secs(u64::from(welcome.heartbeat_seconds.max(1))))
        }
        other => {
            tracing::warn!(answer = ?other.map(|r| r.map(|_| "no welcome")), "the control plane turned this host away");
            return false;
        }
    };
    tracing::info!("connected to the control plane");
    host.images.set_link(Some((client, host.id.clone())));
    host.outbox.resend_all();
    host.retry_all();
    let ended = tokio::select! {
        ended = receive(host, incoming, &outgoing) => ended,
        () = send_reports(host, &outgoing) => Ok(()),
        () = send_heartbeats(host, &outgoing, heartbeat) => Ok(()),
    };
    tracing::warn!(reason = ?ended.err().map(|status| status.message().to_owned()), "connection to the control plane ended");
    true
}

/// Takes commands in; never waits for the other direction.
async fn receive(
    host: &Arc<Host>,
    mut incoming: Streaming<ToAgent>,
    outgoing: &mpsc::Sender<FromAgent>,
) -> Result<(), Status> {
    let answering = Arc::new(Semaphore::new(QUESTIONS));
    while let Some(ToAgent { message: received }) = incoming.message().await? {
        match received {
            Some(to_agent::Message::EnsureServer(spec)) => host.ensure(spec),
            Some(to_agent::Message::RemoveServer(removal)) => host.remove(&removal),
            Some(to_agent::Message::ReportAck(ack)) => host.acknowledge(&ack),
            Some(to_agent::Message::Question(question)) => {
                // One too many stays unanswered: whoever asked has a deadline.
                if let Ok(permit) = answering.clone().try_acquire_owned() {
                    let (host, outgoing) = (host.clone(), outgoing.clone());
                    tokio::spawn(async move {
                        let answer = answer_question(&host, question).await;
                        // The connection may have ended meanwhile, and with it the question.
                        let _ = outgoing.send(message(from_agent::Message::Answer(answer))).await;
                        drop(permit);
                    });
                }
            }
            Some(to_agent::Message::Welcome(_)) | None => {} // Nothing, or something that a newer control plane knows.
        }
    }
    Ok(())
}

async fn send_reports(host: &Host, outgoing: &mpsc::Sender<FromAgent>) {
    loop {
        // Room first: a report stays replaceable by a newer one until it can leave.
        let Ok(room) = outgoing.reserve().await else { return };
        room.send(message(from_agent::Message::Report(host.outbox.next().await)));
    }
}

async fn send_heartbeats(host: &Host, outgoing: &mpsc::Sender<FromAgent>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heartbeat = Heartbeat { stats: Some(stats(host).await) };
        if outgoing.send(message(from_agent::Message::Heartbeat(heartbeat))).await.is_err() {
            return;
        }
    }
}

async fn answer_question(host: &Host, question: Question) -> Answer {
    let answered = match question.question {
        Some(question::Question::ConsoleLog(ask)) => {
            let lines = (ask.lines > 0).then(|| usize::try_from(ask.lines).unwrap_or(usize::MAX));
            let text = host.drivers.hypervisor.console_log(&ServerId::new(ask.server_id), lines).await;
            text.map(|text| answer::Answer::ConsoleText(ConsoleText { text: text.into() })).map_err(refuse)
        }
        Some(question::Question::TakeInventory(_)) => {
            inventory::take(host).await.map(answer::Answer::Inventory).map_err(|f| failed(&f))
        }
        Some(question::Question::RemoveOrphan(ask)) => inventory::remove_orphan(host, &ask.found.unwrap_or_default())
            .await
            .map(answer::Answer::Inventory)
            .map_err(|f| failed(&f)),
        Some(question::Question::OpenConsole(ask)) => {
            console::open(host, &ask).await.map(|()| answer::Answer::Done(Done {})).map_err(refuse)
        }
        Some(question::Question::SetPassword(ask)) => {
            let id = ServerId::new(ask.server_id.clone());
            let set = host.drivers.hypervisor.set_password(&id, &ask.user, &ask.password).await;
            set.map(|()| answer::Answer::Done(Done {})).map_err(refuse)
        }
        Some(question::Question::Diagnose(ask)) => {
            let counters = host.drivers.hypervisor.counters(&ServerId::new(ask.server_id)).await;
            counters.map(|counters| answer::Answer::Diagnostics(console::diagnostics(counters))).map_err(refuse)
        }
        None => Err(Refusal {
            kind: RefusalKind::Unsupported.into(),
            message: "this agent's version does not know the question".into(),
        }),
    };
    Answer { id: question.id, answer: Some(answered.unwrap_or_else(answer::Answer::Refusal)) }
}

fn failed(failure: &Failure) -> Refusal {
    Refusal { kind: RefusalKind::Failed.into(), message: failure.to_string() }
}

fn refuse(error: HypervisorError) -> Refusal {
    let kind = match error {
        HypervisorError::Unsupported(_) => RefusalKind::Unsupported,
        HypervisorError::NotRunning { .. } => RefusalKind::NotFound,
        _ => RefusalKind::Failed,
    };
    Refusal { kind: kind.into(), message: error.to_string() }
}

async fn hello(host: &Host) -> Hello {
    let found = host.drivers.hypervisor.capabilities();
    let (memory, _) = facts::memory_mib().await;
    let disk = host.drivers.disks.usage().await.map_or(0, |usage| usage.total_bytes >> 30);
    let accelerator = match found.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
        Accelerator::None => "none",
    };
    Hello {
        host_id: host.id.clone(),
        host_name: host.config.host_name.clone(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        boot_id: facts::boot_id().await,
        capabilities: Some(Capabilities {
            accelerator: accelerator.into(),
            cpu_model: found.cpu_model,
            hypervisor_type: found.hypervisor.to_uppercase(),
            hypervisor_version: found.version.as_number().into(),
            vcpus: host.config.vcpus.unwrap_or_else(facts::processors),
            memory_mib: host.config.memory_mib.unwrap_or(memory),
            disk_gib: disk,
            chassis: host.config.chassis.clone(),
            addresses: host.config.addresses.clone(),
        }),
        holdings: host.holdings(),
    }
}

async fn stats(host: &Host) -> HostStats {
    let (servers, running) = host.counts();
    let (_, memory_available_mib) = facts::memory_mib().await;
    HostStats {
        load_milli: facts::load_milli().await,
        memory_available_mib,
        disk_free_gib: host.drivers.disks.usage().await.map_or(0, |usage| usage.free_bytes >> 30),
        servers: u32::try_from(servers).unwrap_or(u32::MAX),
        uptime_seconds: facts::uptime_seconds().await,
        servers_running: u32::try_from(running).unwrap_or(u32::MAX),
    }
}

fn message(message: from_agent::Message) -> FromAgent {
    FromAgent { message: Some(message) }
}
