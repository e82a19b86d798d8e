//! Security compliance: lock-out, history, age, expiry, strength, forced change, idle users, and that logins tell nothing.

use std::time::Duration;

use identity::Compliance;
use serde_json::{Value, json};
use testkit::Response;

use crate::{Cloud, DEMO_PASSWORD, by_password, make_user, names, on_each_db, on_each_db_with};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn strict() -> Compliance {
    Compliance { lockout_failure_attempts: 2, lockout_duration: Duration::from_secs(5), ..Compliance::default() }
}

async fn change(cloud: &Cloud, user: &str, from: &str, to: &str) -> Response {
    let body = json!({ "user": { "original_password": from, "password": to } });
    cloud.anyone.post(&format!("/identity/v3/users/{user}/password"), body).await
}

async fn set(cloud: &Cloud, user: &str, what: Value) -> Response {
    cloud.admin().await.patch(&format!("/identity/v3/users/{user}"), json!({ "user": what })).await
}

#[tokio::test]
async fn wrong_passwords_lock_a_user_out_for_a_while() {
    on_each_db_with(&strict(), |cloud| async move {
        let user = make_user(&cloud.admin().await, "mia").await;
        let (right, wrong) = (by_password("mia", "mia's"), by_password("mia", "wrong"));
        cloud.log_in(&wrong, None).await.expect(401);
        cloud.log_in(&right, None).await.expect(201);
        // A success begins anew.
        cloud.log_in(&wrong, None).await.expect(401);
        cloud.log_in(&wrong, None).await.expect(401);
        cloud.log_in(&right, None).await.expect(401);
        change(&cloud, &user, "mia's", "new").await.expect(401);
        // Trying on does not make it longer; another server knows of it too.
        cloud.db.clock().advance(Duration::from_secs(4));
        cloud.log_in(&right, None).await.expect(401);
        cloud.db.clock().advance(Duration::from_secs(1));
        cloud.log_in(&wrong, None).await.expect(401);
        cloud.log_in(&right, None).await.expect(201);
        // An administrator's reset ends it.
        cloud.log_in(&wrong, None).await.expect(401);
        cloud.log_in(&wrong, None).await.expect(401);
        set(&cloud, &user, json!({ "password": "reset" })).await.expect(200);
        cloud.log_in(&by_password("mia", "reset"), None).await.expect(201);
        set(&cloud, &user, json!({ "options": { "ignore_lockout_failure_attempts": true } })).await.expect(200);
        for _ in 0..3 {
            cloud.log_in(&wrong, None).await.expect(401);
        }
        cloud.log_in(&by_password("mia", "reset"), None).await.expect(201);
    })
    .await;
}

/// Unknown, disabled, locked out, without a password, wrong: as many hashes and the same words.
#[tokio::test]
async fn a_failed_login_tells_nothing() {
    on_each_db_with(&strict(), |cloud| async move {
        let admin = cloud.admin().await;
        make_user(&admin, "locked").await;
        let disabled = make_user(&admin, "disabled").await;
        set(&cloud, &disabled, json!({ "enabled": false })).await.expect(200);
        admin.post("/identity/v3/users", json!({ "user": { "name": "bare" } })).await.expect(201);
        for _ in 0..2 {
            cloud.log_in(&by_password("locked", "wrong"), None).await.expect(401);
        }
        let cases = [
            by_password("demo", "wrong"),
            by_password("nobody", "wrong"),
            by_password("disabled", "disabled's"),
            by_password("locked", "locked's"),
            by_password("bare", ""),
            json!({ "methods": ["password"], "password": { "user": { "id": "nobody", "password": "x" } } }),
            json!({ "methods": ["password"],
                "password": { "user": { "name": "demo", "domain": { "id": "nowhere" }, "password": "x" } } }),
        ];
        let mut seen = Vec::new();
        for identity in cases {
            let before = cloud.state.passwords.done();
            let refused = cloud.log_in(&identity, None).await.expect(401);
            let headers: Vec<String> =
                refused.headers.keys().map(ToString::to_string).filter(|name| !name.contains("request-id")).collect();
            seen.push((cloud.state.passwords.done() - before, refused.json.to_string(), headers));
        }
        assert_eq!(seen[0].0, 1);
        seen.dedup();
        assert_eq!(seen.len(), 1, "{seen:?}");
        // A login that succeeds costs the same.
        let before = cloud.state.passwords.done();
        make_user(&admin, "fine").await;
        cloud.log_in(&by_password("fine", "fine's"), None).await.expect(201);
        assert_eq!(cloud.state.passwords.done() - before, 2);
    })
    .await;
}

#[tokio::test]
async fn the_last_passwords_are_refused_where_the_user_chooses() {
    let settings = Compliance { unique_last_password_count: 2, ..Compliance::default() };
    on_each_db_with(&settings, |cloud| async move {
        let user = make_user(&cloud.admin().await, "mia").await;
        change(&cloud, &user, "mia's", "first").await.expect(204);
        change(&cloud, &user, "first", "first").await.expect(400);
        change(&cloud, &user, "first", "mia's").await.expect(400);
        change(&cloud, &user, "first", "second").await.expect(204);
        change(&cloud, &user, "second", "mia's").await.expect(204);
        // An administrator may set any.
        set(&cloud, &user, json!({ "password": "second" })).await.expect(200);
        set(&cloud, &user, json!({ "password": "second" })).await.expect(200);
        cloud.log_in(&by_password("mia", "second"), None).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn passwords_must_be_strong_and_be_kept_for_a_while() {
    let settings = Compliance {
        minimum_password_age: 1,
        password_regex: Some(Compliance::regex(r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$").unwrap()),
        password_regex_description: Some("seven characters, a letter and a digit".to_owned()),
        ..Compliance::default()
    };
    on_each_db_with(&settings, |cloud| async move {
        let admin = cloud.admin().await;
        let weak = json!({ "user": { "name": "mia", "password": "weak" } });
        let refused = admin.post("/identity/v3/users", weak).await.expect(400);
        assert!(refused.json["error"]["message"].as_str().unwrap().contains("seven characters"), "{}", refused.json);
        let strong = json!({ "user": { "name": "mia", "password": "strong-1" } });
        let user = crate::id_in(&admin.post("/identity/v3/users", strong).await.expect(201), "user");
        set(&cloud, &user, json!({ "password": "weak" })).await.expect(400);
        change(&cloud, &user, "strong-1", "weak").await.expect(400);
        change(&cloud, &user, "strong-1", "strong-2").await.expect(204);
        change(&cloud, &user, "strong-2", "strong-3").await.expect(400);
        cloud.db.clock().advance(DAY);
        change(&cloud, &user, "strong-2", "strong-3").await.expect(204);
        set(&cloud, &user, json!({ "options": { "lock_password": true } })).await.expect(200);
        cloud.db.clock().advance(DAY);
        change(&cloud, &user, "strong-3", "strong-4").await.expect(400);
        set(&cloud, &user, json!({ "options": { "lock_password": null } })).await.expect(200);
        change(&cloud, &user, "strong-3", "strong-4").await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn passwords_expire() {
    let settings = Compliance { password_expires_days: 2, ..Compliance::default() };
    on_each_db_with(&settings, |cloud| async move {
        let admin = cloud.admin().await;
        let user = make_user(&admin, "mia").await;
        let shown = admin.get(&format!("/identity/v3/users/{user}")).await.expect(200);
        assert_eq!(shown.json["user"]["password_expires_at"], "2026-01-03T12:00:00.000000");
        let token = cloud.log_in(&by_password("mia", "mia's"), None).await.expect(201);
        assert_eq!(token.json["token"]["user"]["password_expires_at"], "2026-01-03T12:00:00.000000");
        let listed = |query: &'static str| {
            let admin = admin.clone();
            async move { admin.get(&format!("/identity/v3/users?password_expires_at={query}")).await }
        };
        assert_eq!(names(&listed("lt:2026-01-04T00:00:00Z").await.expect(200), "users"), ["mia"]);
        assert_eq!(names(&listed("gt:2026-01-04T00:00:00Z").await.expect(200), "users"), [""; 0]);
        assert_eq!(names(&listed("eq:2026-01-03T12:00:00Z").await.expect(200), "users"), ["mia"]);
        listed("soon").await.expect(400);
        listed("lt:soon").await.expect(400);
        cloud.db.clock().advance(2 * DAY);
        let expired = cloud.log_in(&by_password("mia", "mia's"), None).await.expect(401);
        assert!(expired.json["error"]["message"].as_str().unwrap().contains("expired"), "{}", expired.json);
        // Whoever doesn't know it learns nothing.
        let wrong = cloud.log_in(&by_password("mia", "wrong"), None).await.expect(401);
        assert!(!wrong.json["error"]["message"].as_str().unwrap().contains("expired"), "{}", wrong.json);
        set(&cloud, &user, json!({ "options": { "ignore_password_expiry": true } })).await.expect(200);
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(201);
        set(&cloud, &user, json!({ "options": { "ignore_password_expiry": false } })).await.expect(200);
        change(&cloud, &user, "mia's", "new").await.expect(204);
        cloud.log_in(&by_password("mia", "new"), None).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn a_password_from_an_administrator_may_serve_once() {
    let settings = Compliance { change_password_upon_first_use: true, ..Compliance::default() };
    on_each_db_with(&settings, |cloud| async move {
        let admin = cloud.admin().await;
        let user = make_user(&admin, "mia").await;
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(401);
        change(&cloud, &user, "mia's", "new").await.expect(204);
        cloud.log_in(&by_password("mia", "new"), None).await.expect(201);
        set(&cloud, &user, json!({ "password": "reset" })).await.expect(200);
        cloud.log_in(&by_password("mia", "reset"), None).await.expect(401);
        let spared = json!({ "password": "p", "options": { "ignore_change_password_upon_first_use": true } });
        set(&cloud, &user, spared).await.expect(200);
        cloud.log_in(&by_password("mia", "p"), None).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn idle_users_are_disabled() {
    let settings = Compliance { disable_user_account_days_inactive: 2, ..Compliance::default() };
    on_each_db_with(&settings, |cloud| async move {
        let user = make_user(&cloud.admin().await, "mia").await;
        cloud.db.clock().advance(DAY);
        // Somebody must be left to enable others.
        cloud.admin().await;
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(201);
        cloud.db.clock().advance(2 * DAY - Duration::from_secs(1));
        cloud.admin().await;
        cloud.db.clock().advance(Duration::from_secs(1));
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(401);
        let shown = cloud.admin().await.get(&format!("/identity/v3/users/{user}")).await.expect(200);
        assert_eq!(shown.json["user"]["enabled"], false);
        set(&cloud, &user, json!({ "enabled": true })).await.expect(200);
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(201);
        set(&cloud, &user, json!({ "options": { "ignore_user_inactivity": true } })).await.expect(200);
        cloud.db.clock().advance(Duration::from_secs(1));
        cloud.admin().await;
    })
    .await;
}

#[tokio::test]
async fn options_are_kept_and_checked() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let options = json!({ "lock_password": true, "multi_factor_auth_rules": [["password", "totp"]] });
        let body = json!({ "user": { "name": "mia", "options": options } });
        let user = crate::id_in(&admin.post("/identity/v3/users", body).await.expect(201), "user");
        let shown = admin.get(&format!("/identity/v3/users/{user}")).await.expect(200);
        assert_eq!(shown.json["user"]["options"], options);
        let changed = set(&cloud, &user, json!({ "options": { "lock_password": null } })).await.expect(200);
        assert_eq!(changed.json["user"]["options"], json!({ "multi_factor_auth_rules": [["password", "totp"]] }));
        set(&cloud, &user, json!({ "options": { "magic": true } })).await.expect(400);
        set(&cloud, &user, json!({ "options": { "lock_password": "yes" } })).await.expect(400);
        let demo = cloud.demo().await;
        demo.patch(&format!("/identity/v3/users/{user}"), json!({ "user": { "options": {} } })).await.expect(403);
        cloud.log_in(&by_password("demo", DEMO_PASSWORD), None).await.expect(201);
    })
    .await;
}
