//! What one client may take of the listener: time to say what it wants, room for it, connections.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use web::listen::{Limits, serve_within};

use crate::cloud::Cloud;

/// Longer than any limit of these tests: reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(20);

async fn listening(limits: Limits) -> (SocketAddr, Cloud) {
    let cloud = Cloud::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(serve_within(limits, listener, cloud.app.clone(), None, std::future::pending()));
    (at, cloud)
}

/// What comes back to these bytes until the server hangs up.
async fn answer(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // A server that has heard enough hangs up while we speak.
    let _ = stream.write_all(bytes).await;
    let mut all = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all));
    let _ = reading.await.expect("the server waits for ever");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let limits = Limits { head_time: Duration::from_millis(200), ..Limits::default() };
    let (at, _cloud) = listening(limits).await;
    let begun = ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for head in begun {
        let text = answer(at, head.as_bytes()).await;
        assert!(!text.contains(" 200 "), "{head:?}: {text}");
    }
    // One who has asked once and then falls silent.
    let text = answer(at, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn large_heads_and_bodies_are_refused() {
    let (at, _cloud) = listening(Limits::default()).await;
    let cases = [
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(70_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)), "4"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(200)), "431"),
        (
            format!(
                "POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {0}\r\n\r\n{1}",
                2 << 20,
                "x".repeat(2 << 20)
            ),
            "413",
        ),
    ];
    for (request, status) in cases {
        let text = answer(at, request.as_bytes()).await;
        let expected = format!("HTTP/1.1 {status}");
        // A server that hangs up before all is said may take its answer with it.
        assert!(text.starts_with(&expected) || (status == "413" && text.is_empty()), "{:.60}: {text:.200}", request);
    }
}

#[tokio::test]
async fn connections_have_a_number() {
    let (at, _cloud) = listening(Limits { connections: 1, ..Limits::default() }).await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = TcpStream::connect(at).await.unwrap();
    first.write_all(ask).await.unwrap();
    let mut buffer = [0; 12];
    first.read_exact(&mut buffer).await.unwrap();
    // The second waits, and has its turn when the first leaves.
    let mut second = TcpStream::connect(at).await.unwrap();
    second.write_all(ask).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), second.read_exact(&mut buffer)).await;
    assert!(early.is_err(), "two connections where one is the limit");
    drop(first);
    tokio::time::timeout(PATIENCE, second.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer, b"HTTP/1.1 200");
}
