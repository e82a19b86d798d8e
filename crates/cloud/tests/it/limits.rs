//! Who asks too often is told when to come back, in the service's own words.

use std::net::IpAddr;

use axum::body::Body;
use http::Request;
use testkit::{TestDb, auth::token};
use web::{
    dispatch::Peer,
    limit::{Limits, Rate},
};

use crate::things::{app, json, request};

fn from(address: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Peer(address.parse::<IpAddr>().unwrap()));
    request
}

#[tokio::test]
async fn callers_addresses_and_logins() {
    let db = TestDb::sqlite().await;
    let app = app(&db);
    let few = |burst| Rate { per_second: 1.0, burst };
    let none = Rate { per_second: 0.0, burst: 0 };
    app.limit(
        Limits { caller: few(3), privileged: none, anonymous: few(5), login: few(2) },
        vec!["10.0.0.0/8".parse().unwrap()],
    );
    let ask = |user: &'static str, role: &'static str| {
        app.clone().handle(from("192.0.2.1", request(&token(user, role, "blue"), "/nacre/v1/audit?limit=1", None)))
    };
    for _ in 0..3 {
        json(ask("ann", "manager").await, 200).await;
    }
    let refused = ask("ann", "manager").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(json(refused, 429).await["errors"][0]["code"], "TooManyRequests");
    json(ask("bob", "manager").await, 200).await;
    for _ in 0..50 {
        json(ask("root", "admin").await, 200).await;
    }
    let login = |address: &'static str, right: bool| {
        let path = format!("/toy/login?right={right}");
        app.clone().handle(from(address, request("", &path, Some(""))))
    };
    json(login("192.0.2.2", false).await, 401).await;
    for _ in 0..3 {
        json(login("192.0.2.2", true).await, 204).await;
    }
    json(login("192.0.2.2", false).await, 401).await;
    json(login("192.0.2.2", true).await, 429).await;
    json(login("192.0.2.3", true).await, 204).await;
    // Guessing tokens is counted as well; and a trusted proxy's word, not a client's, says who guesses.
    let guess = |address: &'static str, forwarded: &'static str| {
        let mut request = request("guess", "/nacre/v1/audit", None);
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        app.clone().handle(from(address, request))
    };
    for _ in 0..5 {
        json(guess("10.0.0.1", "8.8.8.8, 192.0.2.9").await, 401).await;
    }
    json(guess("10.0.0.1", "1.1.1.1, 192.0.2.9").await, 429).await;
    json(guess("10.0.0.1", "192.0.2.10").await, 401).await;
    json(guess("192.0.2.9", "192.0.2.11").await, 429).await;
}
