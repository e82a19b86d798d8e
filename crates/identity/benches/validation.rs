//! What validating a token costs over 8 connections in a large cloud: 100,000 users, 10,000 projects, 1,000,000
//! assignments, on SQLite and on PostgreSQL. Prints one line of JSON for each database.
//!
//! `hot` asks about one token again and again, which the cache answers; `cold` asks about each token once, so that each
//! answer is read from the database.
//!
//! `cargo bench -p identity`; `NACRE_TEST_DB=sqlite` or `postgres` for one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "a measurement")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::{
    Bootstrap, MasterKey, Password, State,
    payload::{AuditId, Methods, Payload, TokenScope},
};
use model::{
    Clock,
    id::{DomainId, ProjectId, UserId},
};
use serde_json::{Value, json};
use store::identity::{
    bulk::{self, Size},
    roles,
};
use testkit::{Kind, TestDb};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use web::{App, policy::Policy};

const SIZE: Size = Size { users: 100_000, projects: 10_000, groups: 1_000, roles_each: 10 };
const CONNECTIONS: usize = 8;
/// Validations of each kind; cold ones are of as many tokens.
const VALIDATIONS: usize = 20_000;
/// Lifetime of the measured tokens.
const LIFETIME: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() {
    for kind in Kind::selected() {
        let db = TestDb::new(kind, Clock::system()).await;
        println!("{}", measure(kind, &db).await);
    }
}

async fn measure(kind: Kind, db: &TestDb) -> Value {
    let master = MasterKey::random();
    let issuer = State::open((**db).clone(), master.clone()).await.unwrap();
    let wanted = Bootstrap {
        admin_password: Password::new("the administrator's"),
        demo_password: None,
        region: "RegionOne".to_owned(),
        public_url: "http://nacre.test".to_owned(),
        services: identity::STANDARD_SERVICES.to_vec(),
    };
    let made = identity::bootstrap(&issuer, &wanted).await.unwrap();
    let started = Instant::now();
    let mut tx = db.begin().await.unwrap();
    let member = roles::get_by_name(&mut tx, "member").await.unwrap().unwrap();
    bulk::fill(&mut tx, SIZE, &DomainId::new("default"), &member.id).await.unwrap();
    tx.commit().await.unwrap();
    let mut conn = db.read().await.unwrap();
    bulk::settle(&mut conn, db.dialect()).await.unwrap();
    let assignments = bulk::assignments(&mut conn).await.unwrap();
    drop(conn);
    let filling = started.elapsed();

    let admin = token(db, &issuer, &made.admin_user, &made.admin_project).await;
    let mut tokens = Vec::with_capacity(VALIDATIONS);
    for at in 0..VALIDATIONS {
        // Spread over all users.
        let number = 1 + i64::try_from(at).unwrap() * 4_999 % SIZE.users;
        let user = UserId::new(format!("bench-user-{number}"));
        tokens.push(token(db, &issuer, &user, &ProjectId::new(bulk::project_of(SIZE, number))).await);
    }
    // Another server of the same cloud: its cache has none of them.
    let state = State::open((**db).clone(), master).await.unwrap();
    let policy = Policy::new(&[identity::policy::RULES], &BTreeMap::new()).unwrap();
    let app = App::new((**db).clone(), vec![identity::service(state.clone())], state, policy, "http").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(web::listen::serve(listener, app, None, std::future::pending()));
    let cold = rounds(address, &admin, Arc::new(tokens)).await;
    let hot = rounds(address, &admin, Arc::new(vec![admin.clone(); VALIDATIONS])).await;
    server.abort();
    json!({
        "figure": "token validation, c=8", "database": kind.to_string(), "users": SIZE.users, "projects": SIZE.projects,
        "assignments": assignments, "filling_s": filling.as_secs(), "optimized": !cfg!(debug_assertions),
        "cold": cold, "hot": hot,
    })
}

async fn token(db: &TestDb, state: &State, user: &UserId, project: &ProjectId) -> String {
    let now = db.clock().now();
    let payload = Payload {
        user_id: user.clone(),
        user_generation: 0,
        methods: Methods::PASSWORD,
        scope: TokenScope::Project(project.clone()),
        scope_generation: 0,
        origin: None,
        issued_at: now,
        expires_at: now + LIFETIME,
        audit_id: AuditId::random(),
        parent_audit_id: None,
    };
    state.issue(payload).await.unwrap().0
}

/// Validates each token once, over all connections; what the requests took.
async fn rounds(address: std::net::SocketAddr, admin: &str, tokens: Arc<Vec<String>>) -> Value {
    let started = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let (admin, tokens) = (admin.to_owned(), tokens.clone());
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.set_nodelay(true).unwrap();
                let mut took = Vec::new();
                for subject in tokens.iter().skip(first).step_by(CONNECTIONS) {
                    let asked = Instant::now();
                    validate(&mut socket, &admin, subject).await;
                    took.push(asked.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let whole = started.elapsed();
    took.sort();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((took.len() - 1) as f64 * share) as usize;
        (took[index].as_secs_f64() * 1e6).round() / 1e3
    };
    #[allow(clippy::cast_precision_loss)]
    let per_second = (took.len() as f64 / whole.as_secs_f64()).round();
    json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "per_s": per_second })
}

/// One request over a connection that stays open.
async fn validate(socket: &mut TcpStream, admin: &str, subject: &str) {
    let request = format!(
        "GET /identity/v3/auth/tokens HTTP/1.1\r\nhost: nacre.test\r\nx-auth-token: {admin}\r\nx-subject-token: {subject}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        assert_ne!(socket.read_buf(&mut buffer).await.unwrap(), 0, "the server hung up");
        let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if buffer.len() >= head + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}
