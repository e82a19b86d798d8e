//! Hello, commands, reports, questions, the end.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use hostlink::{
    Answer, ConsoleText, ImageRequest, Refusal, RefusalKind, answer,
    client::deliver_image,
    from_agent,
    server::{Command, Hub, Limits, ServeError, UnixListener},
    to_agent,
};
use model::{
    ErrorKind,
    id::{HostId, ImageId},
};

use crate::{Agent, Control, Told, soon};

async fn connected() -> (Control, Agent) {
    let mut control = Control::start(Hub::default());
    let mut agent = Agent::connect(&control.endpoint(), &HostId::random()).await.unwrap();
    agent.settle().await;
    assert_eq!(control.told().await, Told::Joined("h1".into()));
    (control, agent)
}

#[tokio::test]
async fn commands_arrive_and_the_end_is_noticed() {
    let (mut control, mut agent) = connected().await;
    assert_eq!(control.hub.connected(), [agent.host.clone()]);
    control.hub.send(&agent.host, Command::remove("s", 7)).await.unwrap();
    let Some(to_agent::Message::RemoveServer(removal)) = agent.next().await else { panic!() };
    assert_eq!((removal.server_id.as_str(), removal.generation), ("s", 7));

    let host = agent.host.clone();
    drop(agent);
    assert_eq!(control.told().await, Told::Left(host.to_string()));
    assert!(!control.hub.is_connected(&host));
    let refused = control.hub.send(&host, Command::remove("s", 8)).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (ErrorKind::Unavailable, "HostUnavailable"));
}

#[tokio::test]
async fn reports_are_acknowledged_once_accepted() {
    let (mut control, mut agent) = connected().await;
    agent.report("s", 3).await;
    assert_eq!(control.told().await, Told::Report("s".into(), 3));
    let Some(to_agent::Message::ReportAck(ack)) = agent.next().await else { panic!() };
    assert_eq!((ack.server_id.as_str(), ack.sequence, ack.accepted), ("s", 3, true));
    agent.report("reject", 4).await;
    let Some(to_agent::Message::ReportAck(ack)) = agent.next().await else { panic!() };
    assert_eq!((ack.sequence, ack.accepted), (4, false));
}

#[tokio::test]
async fn questions_find_their_answers() {
    let (control, mut agent) = connected().await;
    let (hub, host) = (control.hub.clone(), agent.host.clone());
    let asker = tokio::spawn(async move {
        let first = hub.console_log(&host, "s", 10).await;
        let second = hub.console_log(&host, "unknown", 10).await;
        (first, second, hub.console_log(&host, "s", 10).await)
    });
    let text = answer::Answer::ConsoleText(ConsoleText { text: b"login:".to_vec() });
    let refusal = Refusal { kind: RefusalKind::NotFound.into(), message: "no such server here".into() };
    for reply in [text, answer::Answer::Refusal(refusal)] {
        let Some(to_agent::Message::Question(question)) = agent.next().await else { panic!() };
        let stray = Answer { id: question.id + 100, answer: None };
        agent.send(from_agent::Message::Answer(stray)).await;
        agent.send(from_agent::Message::Answer(Answer { id: question.id, answer: Some(reply) })).await;
    }
    assert!(matches!(agent.next().await, Some(to_agent::Message::Question(_))));
    drop(agent);
    let (first, second, third) = soon(asker).await.unwrap();
    assert_eq!(first.unwrap(), b"login:");
    assert_eq!(second.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(third.unwrap_err().kind, ErrorKind::Unavailable, "the host left without an answer");
}

#[tokio::test]
async fn the_newest_connection_counts() {
    let (mut control, mut older) = connected().await;
    let mut newer = Agent::connect(&control.endpoint(), &older.host).await.unwrap();
    newer.settle().await;
    assert_eq!(control.told().await, Told::Joined("h1".into()));
    assert!(older.next().await.is_none(), "the older one is ended");
    control.hub.send(&newer.host, Command::remove("s", 1)).await.unwrap();
    assert!(matches!(newer.next().await, Some(to_agent::Message::RemoveServer(_))));
    let host = newer.host.clone();
    drop(newer);
    assert_eq!(control.told().await, Told::Left(host.to_string()), "and only once");
}

#[tokio::test]
async fn a_silent_host_has_left() {
    let limits = Limits { silence: Duration::from_millis(50), ..Limits::default() };
    let mut control = Control::start(Hub::with_limits(limits));
    let mut agent = Agent::connect(&control.endpoint(), &HostId::random()).await.unwrap();
    agent.settle().await;
    assert_eq!(control.told().await, Told::Joined("h1".into()));
    assert_eq!(control.told().await, Told::Left(agent.host.to_string()));
    assert!(agent.next().await.is_none());
}

#[tokio::test]
async fn images_stream_and_refusals_say_why() {
    let (_control, mut agent) = connected().await;
    let request = |image: &str| ImageRequest { host_id: agent.host.to_string(), image_id: image.into() };
    let (big, none) = (request("big"), request("none"));
    let mut chunks = agent.client.fetch_image(big).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!(chunk.data.iter().all(|byte| *byte == 7));
        bytes += chunk.data.len();
    }
    assert_eq!(bytes, 3 << 20);
    let status = agent.client.fetch_image(none).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "No image with this id."));
}

#[tokio::test]
async fn hosts_deliver_images_and_learn_why_not() {
    let (mut control, mut agent) = connected().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk.qcow2");
    std::fs::write(&file, vec![7_u8; 3_000_001]).unwrap();
    deliver_image(&mut agent.client, &agent.host, &ImageId::new("snapshot"), &file).await.unwrap();
    let Told::Delivered(host, announced, bytes, sevens) = control.told().await else { panic!("no delivery") };
    assert_eq!((host, announced.image_id.as_str()), (agent.host.to_string(), "snapshot"));
    assert_eq!((announced.size_bytes, bytes, sevens), (3_000_001, 3_000_001, true));
    assert_eq!(announced.sha256, "7b727ce2d438f3ac83f6f4aac1685c7752d62a3aceba2469c48b3128d3e7f7ee");
    let refused = deliver_image(&mut agent.client, &agent.host, &ImageId::new("unexpected"), &file).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::NotFound, "Nothing is expected of this host."));
    let missing = folder.path().join("none");
    assert!(deliver_image(&mut agent.client, &agent.host, &ImageId::new("snapshot"), &missing).await.is_err());
}

#[tokio::test]
async fn the_end_of_the_process_ends_the_links() {
    let (control, mut agent) = connected().await;
    control.stop().await;
    assert!(agent.next().await.is_none());
}

#[tokio::test]
async fn the_socket_is_private_and_replaced_only_when_dead() {
    let (control, _agent) = connected().await;
    let mode = std::fs::metadata(&control.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(UnixListener::bind(&control.socket), Err(ServeError::Listen { .. })));
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    UnixListener::bind(&dead).unwrap();
}
