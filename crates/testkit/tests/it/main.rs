//! The test kit itself.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use axum::{Router, routing::any};
use http::{HeaderMap, Method, Uri, header::CONTENT_TYPE};
use serde_json::{Value, json};
use store::query;
use testkit::{Client, TestDb, for_each_db, virtual_clock};

#[tokio::test]
async fn the_client_sends_what_it_is_told_and_shows_what_comes_back() {
    let echo = |method: Method, uri: Uri, headers: HeaderMap, body: String| async move {
        let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        let headers = [header("x-auth-token"), header("content-type"), header("openstack-api-version")];
        let answer = json!({"method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": body});
        ([(CONTENT_TYPE, "application/json")], answer.to_string())
    };
    let client = Client::new(Router::new().route("/echo", any(echo)));
    client.get("/nowhere").await.expect(404);
    let client = client.token("secret").microversion("compute 2.100");
    let answer = client.post("/echo?limit=1", json!({"a": 1})).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json,
        json!({
            "method": "POST",
            "uri": "/echo?limit=1",
            "headers": ["secret", "application/json", "compute 2.100"],
            "body": "{\"a\":1}",
        })
    );
    assert_eq!(client.get("/echo").await.expect(200).json["body"], Value::from(""));
}

#[tokio::test]
async fn each_database_is_migrated_empty_and_its_own() {
    for_each_db(virtual_clock, |db| async move {
        let other = TestDb::new(db.kind(), virtual_clock()).await;
        let count = async |db: &store::Db| {
            query("select name from settings").fetch_all(&mut *db.read().await.unwrap()).await.unwrap().len()
        };
        let mut tx = db.begin().await.unwrap();
        query("insert into settings (name, value) values ('a', 'b')").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((count(&db).await, count(&other).await), (1, 0));
        assert_eq!(count(&db.reconnect().await).await, 1, "the same database over another connection");
        // Migrating again does nothing.
        db.migrate().await.unwrap();
    })
    .await;
}
