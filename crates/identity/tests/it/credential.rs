//! Credentials, encrypted and rotated; EC2 credentials and tokens for signed requests; passcodes; several factors.

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use http::Method;
use ring::hmac;
use serde_json::{Value, json};
use testkit::{Client, Response};

use crate::{
    Cloud, DEMO_PASSWORD, by_password, by_token, grant, id_in, make_project, make_user, on_each_db, project_scope,
    role_id, server, token_of,
};

async fn demo_user(cloud: &Cloud) -> String {
    let found = cloud.admin().await.get("/identity/v3/users?name=demo").await.expect(200);
    found.json["users"][0]["id"].as_str().unwrap().to_owned()
}

async fn make(client: &Client, what: Value) -> Response {
    client.post("/identity/v3/credentials", json!({ "credential": what })).await
}

#[tokio::test]
async fn credentials_are_encrypted_and_survive_rotation() {
    on_each_db(|cloud| async move {
        let (admin, demo, user) = (cloud.admin().await, cloud.demo().await, demo_user(&cloud).await);
        let made = make(&demo, json!({ "type": "cert", "blob": "a secret", "user_id": user })).await.expect(201);
        let path = format!("/identity/v3/credentials/{}", id_in(&made, "credential"));
        assert_eq!(made.json["credential"]["blob"], "a secret");
        let stored = || async {
            let mut conn = cloud.db.read().await.unwrap();
            let found = store::identity::credentials::get(&mut conn, path.rsplit('/').next().unwrap()).await;
            found.unwrap().unwrap().blob
        };
        let before = stored().await;
        assert!(!before.text.contains("secret"));
        let (_, other) = server(cloud.db.reconnect().await, cloud.master.clone()).await;
        let issued = cloud.log_in(&by_password("demo", DEMO_PASSWORD), Some(project_scope("demo"))).await;
        let token = token_of(&issued.expect(201));
        cloud.state.rotate_keys().await.unwrap();
        let after = stored().await;
        assert_ne!((&before.key_id, &before.text), (&after.key_id, &after.text));
        assert_eq!(demo.get(&path).await.expect(200).json["credential"]["blob"], "a secret");
        // At once on another server too.
        assert_eq!(other.token(&token).get(&path).await.expect(200).json["credential"]["blob"], "a secret");
        cloud.state.rotate_keys().await.unwrap();
        cloud.state.rotate_keys().await.unwrap();
        let keys = store::identity::credentials::keys(&mut cloud.db.read().await.unwrap()).await.unwrap();
        assert_eq!(keys.len(), 2, "keys that seal nothing go");
        // One's own, all for an administrator.
        let blobs = |list: Response| list.json["credentials"].as_array().unwrap().len();
        assert_eq!(blobs(admin.get("/identity/v3/credentials?type=cert").await.expect(200)), 1);
        assert_eq!(blobs(admin.get("/identity/v3/credentials?type=ec2").await.expect(200)), 0);
        assert_eq!(blobs(demo.get("/identity/v3/credentials").await.expect(200)), 1);
        let mia = make_user(&admin, "mia").await;
        let project = make_project(&admin, "shop").await;
        grant(&admin, &mia, "member", &format!("projects/{project}")).await;
        let stranger = cloud.with_token(&by_password("mia", "mia's"), Some(project_scope("shop"))).await;
        assert_eq!(blobs(stranger.get(&format!("/identity/v3/credentials?user_id={user}")).await.expect(200)), 0);
        stranger.get(&path).await.expect(403);
        stranger.patch(&path, json!({ "credential": { "blob": "x" } })).await.expect(403);
        stranger.delete(&path).await.expect(403);
        stranger.get("/identity/v3/credentials/nothing").await.expect(403);
        make(&stranger, json!({ "type": "cert", "blob": "x", "user_id": user })).await.expect(403);
        let changed = demo.patch(&path, json!({ "credential": { "blob": "another" } })).await.expect(200);
        assert_eq!(changed.json["credential"]["blob"], "another");
        demo.patch(&path, json!({ "credential": { "type": "ec2" } })).await.expect(400);
        demo.patch(&path, json!({ "credential": { "user_id": mia } })).await.expect(400);
        demo.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
        let invalid = [
            json!({ "type": "cert", "user_id": user }),
            json!({ "type": "ec2", "user_id": user, "blob": "no json" }),
            json!({ "type": "ec2", "user_id": user, "blob": "{\"access\": \"a\"}" }),
            json!({ "type": "ec2", "user_id": user, "blob": "{\"access\": \"a\", \"secret\": \"s\"}" }),
            json!({ "type": "totp", "user_id": user, "blob": "not base32!" }),
        ];
        for what in invalid {
            make(&demo, what).await.expect(400);
        }
    })
    .await;
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[tokio::test]
async fn ec2_credentials_and_signed_requests() {
    on_each_db(|cloud| async move {
        let (admin, demo, user) = (cloud.admin().await, cloud.demo().await, demo_user(&cloud).await);
        let list = format!("/identity/v3/users/{user}/credentials/OS-EC2");
        let project = demo.get("/identity/v3/auth/projects").await.json["projects"][0]["id"].clone();
        demo.post(&list, json!({})).await.expect(400);
        demo.post(&list, json!({ "tenant_id": "nowhere" })).await.expect(404);
        let made = demo.post(&list, json!({ "tenant_id": project })).await.expect(201);
        let own = made.json["credential"].clone();
        let (access, secret) = (own["access"].as_str().unwrap(), own["secret"].as_str().unwrap());
        assert_eq!((&own["user_id"], &own["tenant_id"]), (&json!(user), &project));
        let path = format!("{list}/{access}");
        assert_eq!(demo.get(&path).await.expect(200).json, made.json);
        assert_eq!(demo.get(&list).await.expect(200).json["credentials"], json!([own]));
        // Also a credential like others.
        let ids = demo.get("/identity/v3/credentials?type=ec2").await.expect(200);
        assert!(ids.json["credentials"][0]["blob"].as_str().unwrap().contains(secret));
        // Version 2, as euca2ools sign.
        let params = json!({ "AWSAccessKeyId": access, "Action": "DescribeInstances", "SignatureMethod": "HmacSHA256",
            "SignatureVersion": "2", "Timestamp": "2026-01-01T12:00:00Z", "Version": "2009-11-30" });
        let text = format!(
            "GET\nec2.cloud:8773\n/services/Cloud\nAWSAccessKeyId={access}&Action=DescribeInstances&\
             SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2026-01-01T12%3A00%3A00Z&Version=2009-11-30"
        );
        let signature = STANDARD.encode(hmac_sha256(secret.as_bytes(), &text));
        let request = |signature: &str| {
            json!({ "credentials": { "access": access, "signature": signature, "host": "ec2.cloud:8773", "verb": "GET",
                "path": "/services/Cloud", "params": params } })
        };
        let ask = "/identity/v3/ec2tokens";
        cloud.anyone.post(ask, request(&signature)).await.expect(401);
        demo.post(ask, request(&signature)).await.expect(403);
        admin.post(ask, request("wrong")).await.expect(401);
        admin.post(ask, json!({})).await.expect(400);
        let unknown = json!({ "credentials": { "access": "nothing", "signature": signature } });
        admin.post(ask, unknown).await.expect(404);
        let issued = admin.post(ask, request(&signature)).await.expect(200);
        assert_eq!(issued.json["token"]["user"]["id"], json!(user));
        assert_eq!(issued.json["token"]["project"]["id"], project);
        let client = cloud.anyone.clone().token(&token_of(&issued));
        client.get("/identity/v3/auth/catalog").await.expect(200);
        client.get(&list).await.expect(403);
        cloud.log_in(&by_token(&token_of(&issued)), None).await.expect(403);
        // One of the cloud's own services may ask too, without being an administrator.
        let glance = make_user(&admin, "swift").await;
        grant(&admin, &glance, "service", &format!("projects/{}", project.as_str().unwrap())).await;
        let service = cloud.with_token(&by_password("swift", "swift's"), Some(project_scope("demo"))).await;
        let to_sign = "AWS4-HMAC-SHA256\n20260101T120000Z\n20260101/RegionOne/s3/aws4_request\nhash";
        let key = ["20260101", "RegionOne", "s3", "aws4_request"]
            .iter()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac_sha256(&key, part));
        let s3 = |signature: String| {
            json!({ "credentials": { "access": access, "signature": signature, "token": URL_SAFE.encode(to_sign) } })
        };
        let right = hex::encode(hmac_sha256(&key, to_sign));
        let found = service.post("/identity/v3/s3tokens", s3(right.clone())).await.expect(200);
        assert_eq!(found.json["token"]["user"]["id"], json!(user));
        assert_eq!(found.header("x-subject-token"), None);
        service.post("/identity/v3/s3tokens", s3("wrong".into())).await.expect(401);
        demo.post("/identity/v3/s3tokens", s3(right)).await.expect(403);
        // What is old was maybe heard by others.
        cloud.db.clock().advance(Duration::from_secs(15 * 60 + 1));
        admin.post(ask, request(&signature)).await.expect(401);
        // Only its own user's.
        let stranger = service;
        stranger.get(&path).await.expect(403);
        stranger.get(&list).await.expect(403);
        stranger.delete(&path).await.expect(403);
        stranger.get(&path.replace(&user, &glance)).await.expect(404);
        demo.delete(&path).await.expect(204);
        demo.get(&path).await.expect(404);
        admin.post(ask, request(&signature)).await.expect(404);
    })
    .await;
}

const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// RFC 6238 by itself: what an authenticator would show.
fn passcode(cloud: &Cloud) -> String {
    let step = cloud.db.clock().now().seconds() / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"12345678901234567890");
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn by_passcode(name: &str, passcode: &str) -> Value {
    json!({ "methods": ["totp"],
        "totp": { "user": { "name": name, "domain": { "id": "default" }, "passcode": passcode } } })
}

fn by_both(passcode: &str) -> Value {
    let (mut both, code) = (by_password("mia", "mia's"), by_passcode("mia", passcode));
    both["methods"] = json!(["password", "totp"]);
    both["totp"] = code["totp"].clone();
    both
}

async fn with_passcodes(cloud: &Cloud) -> String {
    let admin = cloud.admin().await;
    let user = make_user(&admin, "mia").await;
    make(&admin, json!({ "type": "totp", "blob": SECRET, "user_id": user })).await.expect(201);
    user
}

#[tokio::test]
async fn a_passcode_serves_once() {
    on_each_db(|cloud| async move {
        with_passcodes(&cloud).await;
        let code = passcode(&cloud);
        cloud.log_in(&by_passcode("mia", "000000"), None).await.expect(401);
        cloud.log_in(&by_passcode("nobody", &code), None).await.expect(401);
        cloud.log_in(&by_passcode("demo", &code), None).await.expect(401);
        let issued = cloud.log_in(&by_passcode("mia", &code), None).await.expect(201);
        assert_eq!(issued.json["token"]["methods"], json!(["totp"]));
        cloud.log_in(&by_passcode("mia", &code), None).await.expect(401);
        cloud.db.clock().advance(Duration::from_secs(30));
        let code = passcode(&cloud);
        cloud.db.clock().advance(Duration::from_secs(30));
        cloud.log_in(&by_passcode("mia", &code), None).await.expect(201);
        cloud.db.clock().advance(Duration::from_secs(30));
        let old = passcode(&cloud);
        cloud.db.clock().advance(Duration::from_secs(60));
        cloud.log_in(&by_passcode("mia", &old), None).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn several_factors_at_once_or_with_a_receipt() {
    on_each_db(|cloud| async move {
        let user = with_passcodes(&cloud).await;
        let rules = json!({ "user": { "options": { "multi_factor_auth_rules": [["password", "totp"]] } } });
        let path = format!("/identity/v3/users/{user}");
        cloud.admin().await.patch(&path, rules).await.expect(200);
        let issued = cloud.log_in(&by_both(&passcode(&cloud)), None).await.expect(201);
        assert_eq!(issued.json["token"]["methods"], json!(["password", "totp"]));
        // What was proven counts when a token is exchanged.
        cloud.log_in(&by_token(&token_of(&issued)), None).await.expect(201);
        let refused = cloud.log_in(&by_password("mia", "mia's"), None).await.expect(401);
        assert_eq!(refused.json["required_auth_methods"], json!([["password", "totp"]]));
        assert_eq!(refused.json["receipt"]["methods"], json!(["password"]));
        assert_eq!(refused.json["receipt"]["user"]["name"], "mia");
        let receipt = refused.header("openstack-auth-receipt").unwrap().to_owned();
        assert_eq!(refused.header("x-subject-token"), None);
        // It is no token, and no other user's.
        cloud.anyone.clone().token(&receipt).get("/identity/v3/auth/projects").await.expect(401);
        let with_receipt = |identity: Value| {
            let client = cloud.anyone.clone().header("openstack-auth-receipt", &receipt);
            async move { crate::log_in(&client, &identity, None).await }
        };
        with_receipt(by_password("demo", DEMO_PASSWORD)).await.expect(401);
        with_receipt(by_passcode("mia", "000000")).await.expect(401);
        cloud.db.clock().advance(Duration::from_secs(30));
        let whole = with_receipt(by_passcode("mia", &passcode(&cloud))).await.expect(201);
        assert_eq!(whole.json["token"]["methods"], json!(["password", "totp"]));
        // It ends.
        cloud.db.clock().advance(Duration::from_secs(300));
        with_receipt(by_passcode("mia", &passcode(&cloud))).await.expect(401);
        // A wrong password gets none.
        let wrong = cloud.log_in(&by_password("mia", "wrong"), None).await.expect(401);
        assert_eq!(wrong.header("openstack-auth-receipt"), None);
        let off = json!({ "user": { "options": { "multi_factor_auth_enabled": false } } });
        cloud.admin().await.patch(&path, off).await.expect(200);
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(201);
    })
    .await;
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2D", "-")
        .replace("%2E", ".")
        .replace("%5F", "_")
        .replace("%7E", "~")
}

/// A header as RFC 5849 wants it, for a `POST` of that path.
fn signed(cloud: &Cloud, path: &str, secrets: (&str, &str), own: &[(&str, &str)]) -> String {
    let time = cloud.db.clock().now().seconds().to_string();
    let mut all: Vec<(&str, &str)> = own.to_vec();
    all.extend([("oauth_nonce", "n"), ("oauth_signature_method", "HMAC-SHA1"), ("oauth_timestamp", &time)]);
    all.sort_unstable();
    let params: Vec<String> = all.iter().map(|(n, v)| format!("{}={}", encoded(n), encoded(v))).collect();
    let base = format!("POST&{}&{}", encoded(&format!("http://nacre.test{path}")), encoded(&params.join("&")));
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        format!("{}&{}", encoded(secrets.0), encoded(secrets.1)).as_bytes(),
    );
    let signature = STANDARD.encode(hmac::sign(&key, base.as_bytes()));
    all.push(("oauth_signature", &signature));
    let parts: Vec<String> = all.iter().map(|(n, v)| format!("{n}=\"{}\"", encoded(v))).collect();
    format!("OAuth {}", parts.join(", "))
}

fn form(response: &Response) -> (String, String) {
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    let value = |name: &str| {
        let part = text.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")));
        part.unwrap().to_owned()
    };
    (value("oauth_token"), value("oauth_token_secret"))
}

#[tokio::test]
async fn oauth_from_consumer_to_token() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let consumers = "/identity/v3/OS-OAUTH1/consumers";
        demo.post(consumers, json!({ "consumer": {} })).await.expect(403);
        demo.get(consumers).await.expect(403);
        let made = admin.post(consumers, json!({ "consumer": { "description": "d" } })).await.expect(201);
        let (consumer, secret) =
            (id_in(&made, "consumer"), made.json["consumer"]["secret"].as_str().unwrap().to_owned());
        let path = format!("{consumers}/{consumer}");
        assert_eq!(admin.get(&path).await.expect(200).json["consumer"].get("secret"), None);
        admin.patch(&path, json!({ "consumer": { "secret": "x" } })).await.expect(400);
        let changed = admin.patch(&path, json!({ "consumer": { "description": "e" } })).await.expect(200);
        assert_eq!(changed.json["consumer"]["description"], "e");
        demo.patch(&path, json!({ "consumer": {} })).await.expect(403);
        demo.get(&path).await.expect(403);
        demo.delete(&path).await.expect(403);
        // The consumer asks...
        let project = admin.get("/identity/v3/auth/projects").await.json["projects"][0]["id"].clone();
        let project = project.as_str().unwrap();
        let ask = "/identity/v3/OS-OAUTH1/request_token";
        let post = |path: &'static str, header: String| {
            let client = cloud.anyone.clone().header("authorization", &header);
            let client = client.header("requested-project-id", project);
            async move { client.send(Method::POST, path, None).await }
        };
        let own = [("oauth_consumer_key", consumer.as_str()), ("oauth_callback", "oob")];
        cloud.anyone.post(ask, json!({})).await.expect(400);
        post(ask, signed(&cloud, ask, ("wrong", ""), &own)).await.expect(401);
        let asked = post(ask, signed(&cloud, ask, (&secret, ""), &own)).await.expect(201);
        let (request, request_secret) = form(&asked);
        // ...the user lets it...
        let authorize = format!("/identity/v3/OS-OAUTH1/authorize/{request}");
        let reader = role_id(&admin, "reader").await;
        demo.put(&authorize, json!({ "roles": [{ "id": reader }] })).await.expect(403);
        admin.put(&authorize, json!({ "roles": [] })).await.expect(400);
        let service = json!({ "roles": [{ "name": "service" }] });
        admin.put(&authorize, service).await.expect(401);
        let exchange = "/identity/v3/OS-OAUTH1/access_token";
        let keys = [("oauth_consumer_key", consumer.as_str()), ("oauth_token", request.as_str())];
        let with = |verifier: &'static str| [keys[0], keys[1], ("oauth_verifier", verifier)];
        post(exchange, signed(&cloud, exchange, (&secret, &request_secret), &with("x"))).await.expect(401);
        let allowed = admin.put(&authorize, json!({ "roles": [{ "id": reader }] })).await.expect(200);
        let verifier = allowed.json["token"]["oauth_verifier"].as_str().unwrap();
        // ...and it gets an access token, once.
        let right = [keys[0], keys[1], ("oauth_verifier", verifier)];
        post(exchange, signed(&cloud, exchange, (&secret, "wrong"), &right)).await.expect(401);
        post(exchange, signed(&cloud, exchange, (&secret, &request_secret), &with("x"))).await.expect(401);
        let got = post(exchange, signed(&cloud, exchange, (&secret, &request_secret), &right)).await.expect(201);
        post(exchange, signed(&cloud, exchange, (&secret, &request_secret), &right)).await.expect(401);
        let (access, access_secret) = form(&got);
        // It logs in by signing.
        let log_in = |header: String| {
            let client = cloud.anyone.clone().header("authorization", &header);
            async move { crate::log_in(&client, &json!({ "methods": ["oauth1"], "oauth1": {} }), None).await }
        };
        let tokens = "/identity/v3/auth/tokens";
        let keys = [("oauth_consumer_key", consumer.as_str()), ("oauth_token", access.as_str())];
        log_in(signed(&cloud, tokens, (&secret, "wrong"), &keys)).await.expect(401);
        let issued = log_in(signed(&cloud, tokens, (&secret, &access_secret), &keys)).await.expect(201);
        let shown = &issued.json["token"];
        assert_eq!(shown["OS-OAUTH1"], json!({ "access_token_id": access, "consumer_id": consumer }));
        assert_eq!(shown["roles"].as_array().unwrap().len(), 1);
        assert_eq!(shown["methods"], json!(["oauth1"]));
        cloud.log_in(&by_token(&token_of(&issued)), None).await.expect(403);
        // The user sees it and takes it back.
        let user = shown["user"]["id"].as_str().unwrap();
        let list = format!("/identity/v3/users/{user}/OS-OAUTH1/access_tokens");
        let listed = admin.get(&list).await.expect(200);
        assert_eq!(listed.json["access_tokens"][0]["id"], json!(access));
        let one = format!("{list}/{access}");
        assert_eq!(admin.get(&one).await.expect(200).json["access_token"]["consumer_id"], json!(consumer));
        assert_eq!(admin.get(&format!("{one}/roles")).await.expect(200).json["roles"][0]["id"], json!(reader));
        admin.get(&format!("{one}/roles/{reader}")).await.expect(200);
        admin.get(&format!("{one}/roles/other")).await.expect(404);
        admin.get(&format!("{list}/other")).await.expect(404);
        for hidden in [list.clone(), one.clone(), format!("{one}/roles"), format!("{one}/roles/{reader}")] {
            demo.get(&hidden).await.expect(403);
        }
        demo.delete(&one).await.expect(403);
        let client = cloud.anyone.clone().token(&token_of(&issued));
        client.get("/identity/v3/auth/catalog").await.expect(200);
        admin.delete(&one).await.expect(204);
        client.get("/identity/v3/auth/catalog").await.expect(401);
        log_in(signed(&cloud, tokens, (&secret, &access_secret), &keys)).await.expect(401);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.expect(404);
        // What voided tokens is told to services.
        let events = admin.get("/identity/v3/OS-REVOKE/events").await.expect(200);
        let has = |name: &str| events.json["events"].as_array().unwrap().iter().any(|e| e.get(name).is_some());
        assert!(has("OS-OAUTH1:access_token_id") && has("OS-OAUTH1:consumer_id"), "{}", events.json);
        let (voided, empty) = (make_user(&admin, "voided").await, make_project(&admin, "empty").await);
        grant(&admin, &voided, "member", &format!("projects/{empty}")).await;
        let member = role_id(&admin, "member").await;
        admin.delete(&format!("/identity/v3/projects/{empty}/users/{voided}/roles/{member}")).await.expect(204);
        let off = json!({ "project": { "enabled": false } });
        admin.patch(&format!("/identity/v3/projects/{empty}"), off).await.expect(200);
        let password = json!({ "user": { "password": "another" } });
        admin.patch(&format!("/identity/v3/users/{voided}"), password).await.expect(200);
        let events = admin.get("/identity/v3/OS-REVOKE/events").await.expect(200).json["events"].clone();
        let events = events.as_array().unwrap();
        let of = |wanted: &[(&str, &str)]| {
            events
                .iter()
                .any(|e| e.as_object().unwrap().len() == wanted.len() + 1 && wanted.iter().all(|(n, v)| e[*n] == *v))
        };
        assert!(of(&[("user_id", &voided), ("project_id", &empty), ("role_id", &member)]), "{events:?}");
        assert!(of(&[("project_id", &empty)]) && of(&[("user_id", &voided)]), "{events:?}");
        let later = admin.get("/identity/v3/OS-REVOKE/events?since=2027-01-01T00:00:00Z").await.expect(200);
        assert_eq!(later.json["events"], json!([]));
        admin.get("/identity/v3/OS-REVOKE/events?since=soon").await.expect(400);
        demo.get("/identity/v3/OS-REVOKE/events").await.expect(403);
    })
    .await;
}
