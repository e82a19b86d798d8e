//! One listener's connections. Guests are not trusted: few at a time, short, small.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Document, find, openstack};
use crate::{
    ledger::{Entry, Ledger},
    server::Server,
};

/// Finds the guest of an address in this listener's network.
pub(super) type Who = Arc<dyn Fn(IpAddr) -> Option<Arc<Server>> + Send + Sync>;

/// Connections of one network at the same time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 128;
/// How long a connection may last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a guest may take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Nova's limit: an encrypted password in base64, four metadata values of 255 characters.
const PASSWORD_BYTES_MAX: usize = 1020;
/// How long the answer to a password waits until the control plane has it.
const PASSWORD_TOLD_TIME_MAX: Duration = Duration::from_secs(3);

/// Serves until dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, who: Who, ledger: Ledger) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(timeout(
                    CONNECTION_TIME_MAX,
                    connection(stream, peer.ip().to_canonical(), who.clone(), ledger.clone()),
                ));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "metadata connection not accepted");
                sleep(Duration::from_millis(100)).await; // No file descriptors left: others must close some first.
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, who: Who, ledger: Ledger) {
    let service = service_fn(|request: Request<Incoming>| {
        let (server, ledger) = (who(peer), ledger.clone());
        async move { Ok::<_, Infallible>(respond(server, request, &ledger).await) }
    });
    // A guest that breaks off is no event worth telling.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(server: Option<Arc<Server>>, request: Request<Incoming>, ledger: &Ledger) -> Response<Full<Bytes>> {
    let Some(server) = server else { return status(StatusCode::NOT_FOUND) };
    let path = request.uri().path().to_owned();
    let is_password = openstack::is_password(&path);
    match *request.method() {
        Method::GET | Method::HEAD if is_password => ok(Document::text(server.with_entry(|e| e.password.clone()))),
        Method::GET | Method::HEAD => {
            let found = server.with_entry(|e| find(e.spec.as_ref()?.metadata.as_ref()?, &path));
            found.map_or_else(|| status(StatusCode::NOT_FOUND), ok)
        }
        Method::POST if is_password => set_password(&server, request, ledger).await,
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// Once and for all, as Nova has it: a second one is a conflict.
async fn set_password(server: &Server, request: Request<Incoming>, ledger: &Ledger) -> Response<Full<Bytes>> {
    let body = match Limited::new(request.into_body(), PASSWORD_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return status(StatusCode::BAD_REQUEST),
    };
    let Ok(password) = String::from_utf8(body.to_vec()) else { return status(StatusCode::BAD_REQUEST) };
    if server.with_entry(|entry| !entry.password.is_empty()) {
        return status(StatusCode::CONFLICT);
    }
    let first = |entry: Entry| if entry.password.is_empty() { Entry { password, ..entry } } else { entry };
    match server.record(ledger, first).await {
        Ok(()) => {
            server.notify_event(); // The next report tells it.
            // Whoever sees the guest's answer will ask the API for the password next. Without a control plane in reach
            // it is told later; here it is kept already.
            let _ = timeout(PASSWORD_TOLD_TIME_MAX, server.password_known()).await;
            status(StatusCode::OK)
        }
        Err(failure) => {
            tracing::error!(server = %server.id, %failure, "a guest's password was not kept");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn ok(document: Document) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(document.body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response
}
