//! POSTs that are sent twice.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use store::Db;
use testkit::{TestDb, auth::token, for_each_db, virtual_clock};

use crate::things::{app, json, request};

fn keyed(user: &str, project: &str, key: &str, body: &str) -> Request<Body> {
    let mut request = request(&token(user, "member", project), "/toy/things", Some(body));
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

async fn things(db: &Db) -> usize {
    let rows = store::query("select id from images").fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
    rows.len()
}

#[tokio::test]
async fn a_replay_gets_the_first_answer() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let body = r#"{"name":1}"#;
        let first = app.clone().handle(keyed("ann", "blue", "k1", body)).await;
        assert_eq!(first.headers()["x-thing"], "yes");
        let first = json(first, 201).await;
        let again = app.clone().handle(keyed("ann", "blue", "k1", body)).await;
        assert_eq!(
            (&again.headers()["x-thing"], &again.headers()["idempotent-replayed"]),
            (&"yes".parse().unwrap(), &"true".parse().unwrap())
        );
        assert_eq!(json(again, 201).await, first);
        assert_eq!(things(&db).await, 1);
        let fault = json(app.clone().handle(keyed("ann", "blue", "k1", r#"{"name":2}"#)).await, 422).await;
        assert!(fault.to_string().contains("another request"), "{fault}");
        // Others' keys are others'; so are those of another project.
        json(app.clone().handle(keyed("bob", "blue", "k1", body)).await, 201).await;
        json(app.clone().handle(keyed("ann", "red", "k1", body)).await, 201).await;
        json(app.clone().handle(keyed("ann", "blue", "k2", body)).await, 201).await;
        assert_eq!(things(&db).await, 4);
        // What changed nothing takes no key.
        json(app.clone().handle(keyed("ann", "blue", "k3", "{}")).await, 400).await;
        json(app.clone().handle(keyed("ann", "blue", "k3", body)).await, 201).await;
        json(app.clone().handle(keyed("ann", "blue", &"k".repeat(256), body)).await, 400).await;
        db.clock().advance(Duration::from_secs(24 * 3600 + 1));
        let later = json(app.clone().handle(keyed("ann", "blue", "k1", body)).await, 201).await;
        assert_ne!(later, first);
    })
    .await;
}

#[tokio::test]
async fn answers_lie_sealed() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        json(app.clone().handle(keyed("ann", "blue", "k1", r#"{"name":1}"#)).await, 201).await;
        let mut conn = db.read().await.unwrap();
        use store::RowExt;
        let row = store::query("select answer, key_hash from idempotency_keys").fetch_one(&mut *conn).await.unwrap();
        let (answer, key) = (row.text("answer").unwrap(), row.text("key_hash").unwrap());
        assert!(answer.len() > 64 && key.len() == 64);
        // Hex of `only for`.
        assert!(!answer.contains("6f6e6c7920666f72"), "the answer can be read");
    })
    .await;
}

/// As many at once as it takes: one thing is made, whoever wins.
#[tokio::test]
async fn concurrent_twins_make_one() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let all = (0..8).map(|_| app.clone().handle(keyed("ann", "blue", "k", r#"{"name":1}"#)));
        let answers = futures_util::future::join_all(all).await;
        let mut made = Vec::new();
        for answer in answers {
            match answer.status().as_u16() {
                201 => made.push(json(answer, 201).await["id"].clone()),
                409 => assert_eq!(answer.headers()["retry-after"], "1"),
                other => panic!("{other}"),
            }
        }
        made.dedup();
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(things(&db).await, 1);
    })
    .await;
}

/// The process dies between the commit and the answer.
#[tokio::test]
async fn a_lost_answer_is_not_a_second_thing() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let body = r#"{"name":1}"#;
        json(app.clone().handle(keyed("ann", "blue", "k", body)).await, 201).await;
        let mut tx = db.begin().await.unwrap();
        store::query("update idempotency_keys set answer = ''").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        json(app.clone().handle(keyed("ann", "blue", "k", body)).await, 409).await;
        db.clock().advance(Duration::from_secs(61));
        let fault = json(app.clone().handle(keyed("ann", "blue", "k", body)).await, 409).await;
        assert!(fault.to_string().contains("answer was lost"), "{fault}");
        assert_eq!(things(&db).await, 1);
    })
    .await;
}
