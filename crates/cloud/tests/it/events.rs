//! State changes as they happen.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use http::Response;
use http_body_util::BodyExt;
use model::{
    Clock,
    id::{ImageId, ProjectId},
};
use serde_json::Value;
use store::{
    Db,
    images::{self, Status},
    journal::{self, Retention},
};
use testkit::{TestDb, auth::token, for_each_db, virtual_clock};
use tokio::task::JoinSet;
use web::App;

use crate::things::{app, json, request, thing};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a client knows of a stream.
#[derive(Default)]
struct Client {
    text: String,
    last_id: Option<String>,
    events: Vec<(String, Value)>,
}

impl Client {
    /// Takes what came over the wire; only blocks that are complete count.
    fn take(&mut self, text: &str) {
        self.text.push_str(text);
        while let Some((block, rest)) = self.text.split_once("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let Some(id) = field("id: ") {
                self.last_id = Some(id);
            }
            if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
                self.events.push((kind, serde_json::from_str(&data).unwrap()));
            }
            self.text = rest.to_owned();
        }
    }

    fn cut_off(&mut self) {
        self.text.clear();
    }
}

async fn open(app: &Arc<App>, who: &str, query: &str, last_id: Option<&str>) -> Body {
    let mut request = request(who, &format!("/nacre/v1/events{query}"), None);
    if let Some(id) = last_id {
        request.headers_mut().insert("last-event-id", id.parse().unwrap());
    }
    let response: Response<Body> = app.clone().handle(request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

/// Everything that is there by now.
async fn all(app: &Arc<App>, who: &str, query: &str, last_id: Option<&str>) -> Client {
    let body =
        open(app, who, &format!("{query}{}follow=false", if query.is_empty() { "?" } else { "&" }), last_id).await;
    let mut client = Client::default();
    client.take(std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap());
    client
}

async fn make(app: &Arc<App>, project: &str) -> String {
    let made = request(&token("ann", "member", project), "/toy/things", Some(r#"{"name":1}"#));
    json(app.clone().handle(made).await, 201).await["id"].as_str().unwrap().to_owned()
}

async fn set_status(db: &Db, id: &str, from: Status, to: Status) {
    let mut tx = db.begin().await.unwrap();
    assert!(images::set_status(&mut tx, &ImageId::new(id), from, to).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn changes_are_told_to_whom_they_concern() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        let id = make(&app, "blue").await;
        make(&app, "red").await;
        set_status(&db, &id, Status::Queued, Status::Active).await;
        let delete =
            http::Request::delete(format!("/toy/things/{id}")).header("x-auth-token", token("ann", "member", "blue"));
        json(app.clone().handle(delete.body(Body::empty()).unwrap()).await, 204).await;
        let blue = token("ben", "reader", "blue");
        assert_eq!(all(&app, &blue, "", Some("0")).await.events.len(), 0, "nothing has its place yet");
        journal::seal(&db).await.unwrap();
        let seen = all(&app, &blue, "", Some("0")).await;
        let told: Vec<_> =
            seen.events.iter().map(|(kind, data)| (kind.as_str(), data["status"].as_str().unwrap())).collect();
        assert_eq!(told, [("image.created", "queued"), ("image.updated", "active"), ("image.deleted", "deleted")]);
        assert!(seen.events.iter().all(|(_, data)| data["project_id"] == "blue" && data["resource_id"] == id.as_str()));
        assert!(seen.events[0].1["request_id"].as_str().unwrap().starts_with("req-"));
        assert_eq!(seen.events[1].1["request_id"], Value::Null);
        // Another project's are not to be had, however one asks.
        let red = token("eve", "manager", "red");
        for query in ["", &format!("?resource_id={id}"), "?project_id=blue", "?resource=image"] {
            let seen = all(&app, &red, query, Some("0")).await;
            assert!(seen.events.iter().all(|(_, data)| data["project_id"] == "red"), "{query}");
        }
        let refused = request(&red, "/nacre/v1/events?all_projects=1", None);
        json(app.clone().handle(refused).await, 403).await;
        let root = token("root", "admin", "ops");
        assert_eq!(all(&app, &root, "?all_projects=1", Some("0")).await.events.len(), 4);
        assert_eq!(all(&app, &root, "?all_projects=1&resource=server", Some("0")).await.events.len(), 0);
        assert_eq!(all(&app, &root, "", Some("0")).await.events.len(), 0);
        assert_eq!(all(&app, &blue, "", Some("3")).await.events.len(), 1);
        assert_eq!(all(&app, &blue, "", None).await.events.len(), 0);
        json(app.clone().handle(request(&blue, "/nacre/v1/events?last_event_id=x", None)).await, 400).await;
    })
    .await;
}

#[tokio::test]
async fn who_was_away_too_long_is_told() {
    for_each_db(virtual_clock, |db: TestDb| async move {
        let app = app(&db);
        for _ in 0..3 {
            make(&app, "blue").await;
        }
        journal::seal(&db).await.unwrap();
        db.clock().advance(DAY * 8);
        make(&app, "blue").await;
        journal::seal(&db).await.unwrap();
        journal::prune(&db, Retention::default()).await.unwrap();
        let blue = token("ben", "reader", "blue");
        let seen = all(&app, &blue, "", Some("1")).await;
        let kinds: Vec<&str> = seen.events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!((kinds, seen.last_id.as_deref()), (vec!["lost", "image.created"], Some("4")));
        let seen = all(&app, &blue, "", Some("3")).await;
        assert_eq!(seen.events.len(), 1);
        // Places go on where they were.
        make(&app, "blue").await;
        journal::seal(&db).await.unwrap();
        assert_eq!(all(&app, &blue, "", Some("4")).await.last_id.as_deref(), Some("5"));
    })
    .await;
}

const WRITERS: usize = 50;
const CHANGES: usize = 10_000;
const THINGS: usize = 40;
const CYCLE: [Status; 4] = [Status::Queued, Status::Saving, Status::Active, Status::Deactivated];

/// One step of some thing's life, from wherever it is.
async fn step(db: &Db, id: &ImageId) {
    let mut tx = db.begin().await.unwrap();
    let image = images::get_for_update(&mut tx, id).await.unwrap().unwrap();
    let at = CYCLE.iter().position(|status| *status == image.status).unwrap();
    assert!(images::set_status(&mut tx, id, image.status, CYCLE[(at + 1) % CYCLE.len()]).await.unwrap());
    tx.commit().await.unwrap();
}

/// Follows until it has seen everything, cut off at random moments in the middle of whatever is said.
async fn follow(app: Arc<App>, who: String, mut random: u64, expected: usize) -> Client {
    let (mut client, mut last_id) = (Client::default(), Some("0".to_owned()));
    while client.events.len() < expected {
        let mut body = open(&app, &who, "", last_id.as_deref()).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes_left = usize::try_from((random >> 33) % 60_000).unwrap();
        while client.events.len() < expected {
            let Some(frame) = body.frame().await else { break };
            let data = frame.unwrap().into_data().unwrap();
            let text = std::str::from_utf8(&data).unwrap();
            let part = &text[..text.len().min(bytes_left)];
            client.take(part);
            bytes_left -= part.len();
            if bytes_left == 0 {
                break;
            }
        }
        client.cut_off();
        last_id = client.last_id.clone();
    }
    client
}

/// 10,000 changes by 50 writers, on two servers where the database allows it; streams that are cut off at random moments
/// and resumed see each change exactly once, in order per resource.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_that_are_cut_off_miss_nothing_and_repeat_nothing() {
    for_each_db(Clock::system, |db: TestDb| async move {
        let servers = [Db::clone(&db), db.reconnect().await];
        let (project, mut ids) = (ProjectId::new("blue"), Vec::new());
        for _ in 0..THINGS {
            let mut tx = db.begin().await.unwrap();
            let thing = thing(&project, tx.now());
            images::insert(&mut tx, &thing).await.unwrap();
            tx.commit().await.unwrap();
            ids.push(thing.id);
        }
        let mut keepers = JoinSet::new();
        for server in &servers {
            let server = server.clone();
            keepers.spawn(async move { journal::keep(&server, Retention::default()).await });
        }
        let apps = servers.each_ref().map(app);
        let mut followers = JoinSet::new();
        for (n, app) in apps.iter().chain(&apps).enumerate() {
            let who = token(&format!("user{n}"), "reader", "blue");
            followers.spawn(follow(app.clone(), who, n as u64 + 7, CHANGES + THINGS));
        }
        let (ids, next) = (Arc::new(ids), Arc::new(AtomicUsize::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (ids, next) = (ids.clone(), next.clone());
            let server = servers[writer % 2].clone();
            writers.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= CHANGES {
                        break;
                    }
                    step(&server, &ids[n * 7 % ids.len()]).await;
                }
            });
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        let mut statuses = Vec::new();
        for id in ids.iter() {
            let row = images::get(&mut db.read().await.unwrap(), id).await.unwrap().unwrap();
            statuses.push((id.to_string(), row.status.as_str()));
        }
        while let Some(client) = followers.join_next().await {
            check(&client.unwrap(), &statuses);
        }
        keepers.shutdown().await;
    })
    .await;
}

fn check(client: &Client, statuses: &[(String, &str)]) {
    assert_eq!(client.events.len(), CHANGES + THINGS);
    let ids: Vec<i64> = client.events.iter().map(|(_, data)| data["id"].as_i64().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "an event came twice or out of order");
    let mut told: HashMap<&str, Vec<&str>> = HashMap::new();
    for (_, data) in &client.events {
        told.entry(data["resource_id"].as_str().unwrap()).or_default().push(data["status"].as_str().unwrap());
    }
    for (id, last) in statuses {
        let told = &told[id.as_str()];
        for (n, status) in told.iter().enumerate() {
            assert_eq!(*status, CYCLE[n % CYCLE.len()].as_str(), "change {n} of {id}");
        }
        assert_eq!(told.last(), Some(last));
    }
}
