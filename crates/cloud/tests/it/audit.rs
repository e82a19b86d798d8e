//! What requests leave in the audit log, and that nobody changes it unseen.

use std::time::Duration;

use serde_json::Value;
use store::{Db, audit, journal};
use testkit::{TestDb, auth::token, for_each_db, virtual_clock};
use web::App;

use crate::things::{app, json, request};

async fn sealed(db: &Db, app: &std::sync::Arc<App>, query: &str) -> Vec<Value> {
    journal::seal(db).await.unwrap();
    let path = format!("/nacre/v1/audit?all_projects=1&sort_dir=asc&{query}");
    let admin = token("root", "admin", "ops");
    json(app.clone().handle(request(&admin, &path, None)).await, 200).await["audit"].as_array().unwrap().clone()
}

fn entry(entry: &Value) -> (&str, &str, &str, &str, i64, &str) {
    let text = |key: &str| entry[key].as_str().unwrap();
    (
        text("actor"),
        text("action"),
        text("project_id"),
        text("outcome"),
        entry["status"].as_i64().unwrap(),
        text("reason"),
    )
}

#[tokio::test]
async fn changes_and_refusals_leave_entries() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let send = |user: &'static str, role: &'static str, project: &'static str, path: String, body| {
            app.clone().handle(request(&token(user, role, project), &path, body))
        };
        let made =
            json(send("ann", "member", "blue", "/toy/things".to_owned(), Some(r#"{"name":1}"#)).await, 201).await;
        let id = made["id"].as_str().unwrap().to_owned();
        json(send("bob", "reader", "blue", "/toy/things".to_owned(), Some(r#"{"name":1}"#)).await, 403).await;
        json(send("ann", "member", "blue", "/toy/things".to_owned(), Some("{}")).await, 400).await;
        // Reading leaves nothing, unless a rule refuses it.
        json(send("ann", "member", "blue", format!("/toy/things/{id}"), None).await, 200).await;
        json(send("eve", "member", "red", format!("/toy/things/{id}"), None).await, 404).await;
        json(send("eve", "member", "red", "/toy/things/none".to_owned(), None).await, 404).await;
        json(app.clone().handle(request("nonsense", "/toy/things/x", None)).await, 401).await;
        let entries = sealed(&db, &app, "service=toy").await;
        let seen: Vec<_> = entries.iter().map(entry).collect();
        assert_eq!(
            seen,
            [
                ("user-ann", "things:create", "blue", "success", 0, ""),
                ("user-bob", "things:create", "blue", "refused", 403, "PolicyNotAuthorized"),
                ("user-ann", "things:create", "blue", "refused", 400, "NoName"),
                ("user-eve", "things:show", "blue", "refused", 404, "NoThing"),
            ],
        );
        let first = &entries[0];
        assert_eq!((first["target_type"].as_str(), first["target_id"].as_str()), (Some("image"), Some(id.as_str())));
        assert_eq!(first["scope"], "project:blue");
        assert!(first["request_id"].as_str().unwrap().starts_with("req-"));
    })
    .await;
}

#[tokio::test]
async fn projects_see_their_own() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        for project in ["blue", "red"] {
            let made =
                app.clone().handle(request(&token("ann", "member", project), "/toy/things", Some(r#"{"name":1}"#)));
            json(made.await, 201).await;
        }
        journal::seal(&db).await.unwrap();
        let list = |role: &'static str, project: &'static str, query: &'static str| {
            app.clone().handle(request(&token("eve", role, project), &format!("/nacre/v1/audit{query}"), None))
        };
        let own = json(list("manager", "red", "").await, 200).await;
        let own = own["audit"].as_array().unwrap();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0]["project_id"], "red");
        // A wish for another project's is not heard without the right to all.
        let asked = json(list("manager", "red", "?project_id=blue").await, 200).await;
        assert_eq!(asked["audit"][0]["project_id"], "red");
        json(list("manager", "red", "?all_projects=1").await, 403).await;
        json(list("member", "red", "").await, 403).await;
        json(list("reader", "system:all", "").await, 200).await;
        let blue = json(list("admin", "ops", "?all_projects=1&project_id=blue&target_type=image").await, 200).await;
        assert_eq!(blue["audit"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn pages_and_exports() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let ann = token("ann", "admin", "blue");
        for _ in 0..5 {
            json(app.clone().handle(request(&ann, "/toy/things", Some(r#"{"name":1}"#))).await, 201).await;
        }
        journal::seal(&db).await.unwrap();
        let (mut path, mut seen) = ("/nacre/v1/audit?limit=2".to_owned(), Vec::new());
        loop {
            let page = json(app.clone().handle(request(&ann, &path, None)).await, 200).await;
            seen.extend(page["audit"].as_array().unwrap().iter().map(|entry| entry["seq"].as_i64().unwrap()));
            let Some(next) = page["links"]["next"].as_str() else { break };
            path = next.trim_start_matches("http://localhost").to_owned();
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
        let export = app.clone().handle(request(&ann, "/nacre/v1/audit/export", None)).await;
        assert_eq!(export.headers()["content-type"], "application/x-ndjson");
        use http_body_util::BodyExt;
        let text = export.into_body().collect().await.unwrap().to_bytes();
        let lines: Vec<Value> = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line["hash"].as_str().unwrap().len() == 64));
    })
    .await;
}

/// Six entries, sealed; then `harm` on the database; then what `verify` finds.
async fn after(harm: &[&'static str]) {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        for _ in 0..6 {
            let ann = token("ann", "member", "blue");
            json(app.clone().handle(request(&ann, "/toy/things", Some(r#"{"name":1}"#))).await, 201).await;
        }
        journal::seal(&db).await.unwrap();
        let before = audit::verify(&mut db.read().await.unwrap(), None).await.unwrap();
        assert_eq!((before.first, before.last, before.checked, before.unsealed), (1, 6, 6, 0));
        assert_eq!(before.findings, Vec::<String>::new());
        let mut tx = db.begin().await.unwrap();
        for statement in harm {
            assert!(store::query(*statement).execute(&mut *tx).await.unwrap().rows_affected() > 0);
        }
        tx.commit().await.unwrap();
        let noted = Some((before.last, before.hash.as_str()));
        let report = audit::verify(&mut db.read().await.unwrap(), noted).await.unwrap();
        assert!(!report.findings.is_empty(), "{harm:?} went unseen");
    })
    .await;
}

#[tokio::test]
async fn a_tampered_entry_is_found() {
    after(&["update audit set actor = 'user-eve' where seq = 3"]).await;
    after(&["update audit set at = at + 1 where seq = 6"]).await;
}

#[tokio::test]
async fn a_removed_entry_is_found() {
    after(&["delete from audit where seq = 3"]).await;
    after(&["delete from audit where seq = 1"]).await;
    after(&["delete from audit where seq = 6"]).await;
    // Also by one who moves the beginning of the chain, as retention would.
    after(&[
        "update journal_heads set tail_seq = 2, tail_hash = (select hash from audit where seq = 2) where name = 'audit'",
        "delete from audit where seq <= 2",
    ])
    .await;
    // And its end: by who noted the head.
    after(&[
        "delete from audit where seq = 6",
        "update journal_heads set seq = 5, hash = (select hash from audit where seq = 5) where name = 'audit'",
    ])
    .await;
}

#[tokio::test]
async fn reordered_entries_are_found() {
    after(&[
        "update audit set seq = 100 where seq = 3",
        "update audit set seq = 3 where seq = 4",
        "update audit set seq = 4 where seq = 100",
    ])
    .await;
}

#[tokio::test]
async fn retention_keeps_the_proof() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let make = |count: usize| {
            let app = app.clone();
            async move {
                for _ in 0..count {
                    let ann = token("ann", "member", "blue");
                    json(app.clone().handle(request(&ann, "/toy/things", Some(r#"{"name":1}"#))).await, 201).await;
                }
            }
        };
        const DAY: Duration = Duration::from_secs(24 * 3600);
        make(4).await;
        journal::seal(&db).await.unwrap();
        db.clock().advance(DAY * 400);
        make(2).await;
        journal::seal(&db).await.unwrap();
        journal::prune(&db, journal::Retention::default()).await.unwrap();
        // The entry about it has no place yet, and is known all the same.
        for _ in 0..2 {
            let report = audit::verify(&mut db.read().await.unwrap(), None).await.unwrap();
            assert_eq!(report.findings, Vec::<String>::new());
            assert_eq!(report.first, 5);
            journal::seal(&db).await.unwrap();
        }
        let left = sealed(&db, &app, "").await;
        assert_eq!(left.last().unwrap()["action"], "nacre:audit:prune");
    })
    .await;
}
