//! Identity providers, mappings, and coming in by them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Response};
use web::Outbound;

use crate::{Cloud, grant, id_in, make_project, names, on_each_db, provider::Provider, token_of};

const DASHBOARD: &str = "http://dashboard.test/auth/websso/";
const IDP: &str = "/identity/v3/OS-FEDERATION/identity_providers/corp";
const PROTOCOL: &str = "/identity/v3/OS-FEDERATION/identity_providers/corp/protocols/openid";
const AUTH: &str = "/identity/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/auth";
const SETTINGS: &str = "/nacre/v1/identity/providers/corp/protocols/openid/oidc";
const MAPPING: &str = "/identity/v3/OS-FEDERATION/mappings/people";

/// A cloud that trusts a provider.
struct Federated {
    cloud: Cloud,
    admin: Client,
    provider: Provider,
    group: String,
}

impl Federated {
    async fn new(cloud: Cloud) -> Self {
        let provider = Provider::start().await;
        let loopback = Outbound::new(vec!["127.0.0.0/8".parse().unwrap()]);
        cloud.state.configure_sso(loopback, vec![DASHBOARD.to_owned()]);
        let admin = cloud.admin().await;
        admin
            .put(IDP, json!({ "identity_provider": { "enabled": true, "remote_ids": [provider.issuer] } }))
            .await
            .expect(201);
        let group = json!({ "group": { "name": "staff", "domain_id": "default" } });
        let group = id_in(&admin.post("/identity/v3/groups", group).await.expect(201), "group");
        let mapping = json!({ "mapping": { "rules": people(&group) } });
        admin.put(MAPPING, mapping).await.expect(201);
        admin.put(PROTOCOL, json!({ "protocol": { "mapping_id": "people" } })).await.expect(201);
        let this = Self { cloud, admin, provider, group };
        this.settings(json!({})).await;
        this
    }

    async fn settings(&self, more: Value) -> Response {
        let mut settings = json!({ "issuer": self.provider.issuer, "client_id": "nacre", "client_secret": "s e:cret" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.admin.put(SETTINGS, json!({ "oidc": settings })).await.expect(200)
    }

    /// What the provider says of mia, changed.
    fn claims(&self, more: Value) -> Value {
        let now = self.cloud.db.clock().now().seconds();
        let mut claims = json!({ "iss": self.provider.issuer, "aud": "nacre", "exp": now + 300, "iat": now, "sub": "m-1",
            "name": "mia", "email": "mia@corp.test", "groups": ["staff"] });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }

    async fn bearer(&self, token: &str) -> Response {
        self.cloud.anyone.clone().header("authorization", &format!("Bearer {token}")).post(AUTH, Value::Null).await
    }

    async fn log_in(&self, more: Value) -> Response {
        self.bearer(&self.provider.sign(&self.claims(more))).await
    }
}

fn people(group: &str) -> Value {
    json!([
        { "remote": [{ "type": "sub" }, { "type": "name" }, { "type": "OIDC-email" }],
          "local": [{ "user": { "id": "{0}", "name": "{1}", "email": "{2}" } }] },
        { "remote": [{ "type": "groups", "any_one_of": ["staff"] }], "local": [{ "group": { "id": group } }] },
        { "remote": [{ "type": "groups", "any_one_of": ["^own-"], "regex": true }, { "type": "name" }],
          "local": [{ "projects": [{ "name": "home of {0}", "roles": [{ "name": "member" }] }] }] },
    ])
}

#[tokio::test]
async fn resources() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let made = admin.put(IDP, json!({ "identity_provider": { "remote_ids": ["b", "a"], "authorization_ttl": 5 } }));
        let made = made.await.expect(201).json["identity_provider"].clone();
        assert_eq!((&made["enabled"], &made["remote_ids"]), (&json!(false), &json!(["a", "b"])));
        let domain = format!("/identity/v3/domains/{}", made["domain_id"].as_str().unwrap());
        admin.get(&domain).await.expect(200);
        admin.put(IDP, json!({ "identity_provider": {} })).await.expect(409);
        let other = "/identity/v3/OS-FEDERATION/identity_providers/other";
        admin.put(other, json!({ "identity_provider": { "remote_ids": ["a"] } })).await.expect(409);
        admin.put(other, json!({ "identity_provider": { "domain_id": "nowhere" } })).await.expect(404);
        admin.put(other, json!({ "identity_provider": { "colour": "red" } })).await.expect(400);
        admin.put(other, json!({ "identity_provider": { "domain_id": "default" } })).await.expect(201);
        let list = |query: &str| format!("/identity/v3/OS-FEDERATION/identity_providers{query}");
        let ids = |response: Response| -> Vec<String> {
            let items = response.json["identity_providers"].as_array().unwrap().clone();
            items.iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(admin.get(&list("")).await.expect(200)), ["corp", "other"]);
        assert_eq!(ids(admin.get(&list("?id=other")).await.expect(200)), ["other"]);
        assert_eq!(ids(admin.get(&list("?remote_id=b")).await.expect(200)), ["corp"]);
        let patched = admin.patch(IDP, json!({ "identity_provider": { "enabled": true, "remote_ids": [] } })).await;
        assert_eq!(patched.expect(200).json["identity_provider"]["enabled"], true);
        admin.patch(IDP, json!({ "identity_provider": { "domain_id": "default" } })).await.expect(400);

        let rules = json!([{ "remote": [{ "type": "sub" }], "local": [{ "user": { "name": "{0}" } }] }]);
        admin.put(MAPPING, json!({ "mapping": { "rules": [{ "remote": [] }] } })).await.expect(400);
        admin.put(MAPPING, json!({ "mapping": { "rules": rules } })).await.expect(201);
        admin.put(MAPPING, json!({ "mapping": { "rules": rules } })).await.expect(409);
        let shown = admin.get(MAPPING).await.expect(200).json["mapping"].clone();
        assert_eq!((&shown["rules"], &shown["schema_version"]), (&rules, &json!("1.0")));
        admin.put(PROTOCOL, json!({ "protocol": { "mapping_id": "none" } })).await.expect(400);
        admin.put(PROTOCOL, json!({ "protocol": { "mapping_id": "people" } })).await.expect(201);
        admin.delete(MAPPING).await.expect(409);
        admin.put(SETTINGS, json!({ "oidc": { "issuer": "not one", "client_id": "n" } })).await.expect(400);
        admin.get(SETTINGS).await.expect(404);
        let settings = json!({ "oidc": { "issuer": "https://idp.test", "client_id": "n", "client_secret": "hidden" } });
        let shown = admin.put(SETTINGS, settings).await.expect(200);
        assert!(!String::from_utf8_lossy(&shown.body).contains("hidden"));
        assert_eq!(shown.json["oidc"]["has_client_secret"], true);
        // Left out, the secret stays; empty, it goes.
        let again = json!({ "oidc": { "issuer": "https://idp.test", "client_id": "m" } });
        assert_eq!(admin.put(SETTINGS, again).await.expect(200).json["oidc"]["has_client_secret"], true);
        let public = json!({ "oidc": { "issuer": "https://idp.test", "client_id": "m", "client_secret": "" } });
        assert_eq!(admin.put(SETTINGS, public).await.expect(200).json["oidc"]["has_client_secret"], false);

        let sp = "/identity/v3/OS-FEDERATION/service_providers/beta";
        let urls = json!({ "auth_url": "https://beta.test/auth", "sp_url": "https://beta.test/sp", "enabled": true });
        admin.put(sp, json!({ "service_provider": { "auth_url": "https://beta.test" } })).await.expect(400);
        admin.put(sp, json!({ "service_provider": urls })).await.expect(201);
        let token =
            cloud.log_in(&crate::by_password("demo", crate::DEMO_PASSWORD), Some(crate::project_scope("demo"))).await;
        assert_eq!(token.json["token"]["service_providers"][0]["id"], "beta");
        admin.patch(sp, json!({ "service_provider": { "enabled": false } })).await.expect(200);
        admin.get(sp).await.expect(200);
        admin.delete(sp).await.expect(204);

        for path in [IDP, MAPPING, PROTOCOL, SETTINGS, sp] {
            demo.get(path).await.expect(403);
            demo.delete(path).await.expect(403);
            demo.put(path, json!({})).await.expect(403);
        }
        admin.delete(SETTINGS).await.expect(204);
        admin.delete(PROTOCOL).await.expect(204);
        admin.delete(MAPPING).await.expect(204);
        admin.delete(IDP).await.expect(204);
        admin.get(IDP).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn a_bearer_comes_in() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let project = make_project(&f.admin, "shared").await;
        let member = crate::role_id(&f.admin, "member").await;
        let granted = format!("/identity/v3/projects/{project}/groups/{}/roles/{member}", f.group);
        f.admin.put(&granted, Value::Null).await.expect(204);
        let first = f.log_in(json!({})).await.expect(201);
        let token = &first.json["token"];
        assert_eq!((&token["methods"], &token["user"]["name"]), (&json!(["openid"]), &json!("mia")));
        assert_eq!(
            token["user"]["OS-FEDERATION"],
            json!({ "identity_provider": { "id": "corp" },
            "protocol": { "id": "openid" }, "groups": [{ "id": f.group }] })
        );
        assert!(token.get("roles").is_none() && token.get("project").is_none());
        // What one may ask a token for, by both addresses; and it.
        let mia = f.cloud.anyone.clone().token(&token_of(&first));
        for path in ["/identity/v3/OS-FEDERATION/projects", "/identity/v3/auth/projects"] {
            assert_eq!(names(&mia.get(path).await.expect(200), "projects"), ["shared"]);
        }
        mia.get("/identity/v3/OS-FEDERATION/domains").await.expect(200);
        let scope = json!({ "project": { "id": project } });
        let scoped = f.cloud.log_in(&crate::by_token(&token_of(&first)), Some(scope.clone())).await.expect(201);
        assert_eq!(scoped.json["token"]["methods"], json!(["token", "openid"]));
        assert_eq!(scoped.json["token"]["user"]["OS-FEDERATION"]["protocol"]["id"], "openid");
        // The same person again: the same user, and by a new name too.
        let again = f.log_in(json!({ "name": "mia m." })).await.expect(201);
        assert_eq!(again.json["token"]["user"]["id"], token["user"]["id"]);
        assert_eq!(again.json["token"]["user"]["name"], "mia m.");
        // Another who is called so is another.
        let other = f.log_in(json!({ "sub": "m-2", "name": "mia m." })).await.expect(201);
        assert_ne!(other.json["token"]["user"]["id"], token["user"]["id"]);
        // Out of the group at the provider, out of it here with the next login.
        let outside = f.log_in(json!({ "groups": [] })).await.expect(201);
        assert_eq!(outside.json["token"]["user"]["OS-FEDERATION"]["groups"], json!([]));
        f.cloud.log_in(&crate::by_token(&token_of(&outside)), Some(scope)).await.expect(401);
        mia.get("/identity/v3/auth/catalog").await.expect(403);
        f.cloud.anyone.clone().token(&token_of(&scoped)).get("/identity/v3/auth/catalog").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn who_does_not_come_in() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let now = f.cloud.db.clock().now().seconds();
        let stranger = Provider::start().await;
        let refused = [
            f.provider.sign(&f.claims(json!({ "aud": "other" }))),
            f.provider.sign(&f.claims(json!({ "exp": now - 61 }))),
            f.provider.sign(&f.claims(json!({ "iss": stranger.issuer }))),
            f.provider.sign(&f.claims(json!({ "name": null, "email": null }))),
            stranger.sign(&f.claims(json!({}))),
            "nonsense".to_owned(),
        ];
        for token in &refused {
            f.bearer(token).await.expect(401);
        }
        f.cloud.anyone.post(AUTH, Value::Null).await.expect(401);
        f.cloud.anyone.clone().header("authorization", "Basic bWlhOm1pYQ==").post(AUTH, Value::Null).await.expect(401);
        // What a client says of itself is nobody's word.
        let spoof = f.cloud.anyone.clone().header("http_oidc_sub", "m-1").header("remote_user", "admin");
        spoof.get(AUTH).await.expect(401);
        f.cloud
            .anyone
            .clone()
            .header("authorization", "Bearer x")
            .post(&AUTH.replace("corp", "none"), Value::Null)
            .await
            .expect(404);
        f.log_in(json!({})).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn switched_off() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let token = f.log_in(json!({})).await.expect(201);
        let mia = f.cloud.anyone.clone().token(&token_of(&token));
        mia.get("/identity/v3/auth/projects").await.expect(200);
        let user = format!("/identity/v3/users/{}", token.json["token"]["user"]["id"].as_str().unwrap());
        f.admin.patch(&user, json!({ "user": { "enabled": false } })).await.expect(200);
        mia.get("/identity/v3/auth/projects").await.expect(401);
        f.log_in(json!({})).await.expect(401);
        f.admin.patch(&user, json!({ "user": { "enabled": true } })).await.expect(200);
        let mia = f.cloud.anyone.clone().token(&token_of(&f.log_in(json!({})).await.expect(201)));
        f.admin.patch(IDP, json!({ "identity_provider": { "enabled": false } })).await.expect(200);
        mia.get("/identity/v3/auth/projects").await.expect(401);
        f.log_in(json!({})).await.expect(403);
        f.admin
            .patch(IDP, json!({ "identity_provider": { "enabled": true, "remote_ids": ["elsewhere"] } }))
            .await
            .expect(200);
        f.log_in(json!({})).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn projects_are_made_by_a_mapping() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let token = f.log_in(json!({ "groups": ["own-1"] })).await.expect(201);
        f.log_in(json!({ "groups": ["own-1"] })).await.expect(201);
        let mia = f.cloud.anyone.clone().token(&token_of(&token));
        let projects = mia.get("/identity/v3/auth/projects").await.expect(200);
        assert_eq!(names(&projects, "projects"), ["home of mia"]);
        let provider = f.admin.get(IDP).await.json["identity_provider"].clone();
        assert_eq!(projects.json["projects"][0]["domain_id"], provider["domain_id"]);
        let scope = json!({ "project": { "id": projects.json["projects"][0]["id"] } });
        f.cloud.log_in(&crate::by_token(&token_of(&token)), Some(scope)).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn memberships_end() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        f.admin.patch(IDP, json!({ "identity_provider": { "authorization_ttl": 600 } })).await.expect(200);
        let token = f.log_in(json!({})).await.expect(201);
        let groups = format!("/identity/v3/users/{}/groups", token.json["token"]["user"]["id"].as_str().unwrap());
        let group_count = |response: Response| response.json["groups"].as_array().unwrap().len();
        f.cloud.db.clock().advance(Duration::from_secs(599 * 60));
        let admin = f.cloud.admin().await;
        assert_eq!(group_count(admin.get(&groups).await.expect(200)), 1);
        f.cloud.db.clock().advance(Duration::from_secs(120));
        // Out of the group by the provider's silence: the next token of the user is without it.
        let outside = f.log_in(json!({ "groups": ["none"] })).await.expect(201);
        assert_eq!(outside.json["token"]["user"]["OS-FEDERATION"]["groups"], json!([]));
        assert_eq!(group_count(f.cloud.admin().await.get(&groups).await.expect(200)), 0);
    })
    .await;
}

#[tokio::test]
async fn keys_rotate_and_are_cached() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        for _ in 0..3 {
            f.log_in(json!({})).await.expect(201);
        }
        assert_eq!((f.provider.asked("/keys"), f.provider.asked("/.well-known/openid-configuration")), (1, 1));
        f.provider.rotate("second");
        let unpublished = f.provider.sign(&f.claims(json!({})));
        // A key that nobody has published; asking again and again costs one request in a while.
        for _ in 0..5 {
            f.bearer(&unpublished).await.expect(401);
        }
        assert!(f.provider.asked("/keys") <= 2);
        f.provider.publish_key();
        f.settings(json!({})).await;
        f.bearer(&unpublished).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn introspection_and_user_info() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        f.settings(json!({ "access_tokens": "introspection" })).await;
        f.provider.answer("/introspect", json!({ "active": false }));
        f.bearer("opaque").await.expect(401);
        let mut said = f.claims(json!({}));
        said["active"] = json!(true);
        f.provider.answer("/introspect", said.clone());
        f.bearer("opaque").await.expect(201);
        let asked = f.provider.requests().into_iter().rfind(|text| text.starts_with("POST /introspect")).unwrap();
        // RFC 6749: form-encoded, then joined, then base64: nacre:s+e%3Acret.
        assert!(asked.to_lowercase().contains("authorization: basic"), "{asked}");
        assert!(asked.contains("bmFjcmU6cytlJTNBY3JldA=="), "{asked}");
        assert!(asked.ends_with("token=opaque&token_type_hint=access_token"), "{asked}");
        said["aud"] = json!("other");
        f.provider.answer("/introspect", said);
        f.bearer("opaque").await.expect(401);

        f.settings(json!({ "user_info": true })).await;
        let bare = f.provider.sign(&f.claims(json!({ "name": null, "email": null })));
        f.provider.answer("/me", json!({ "sub": "m-2", "name": "mia", "email": "m@x" }));
        f.bearer(&bare).await.expect(401);
        f.provider.answer("/me", json!({ "sub": "m-1", "name": "mia", "email": "m@x" }));
        f.bearer(&bare).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn providers_are_not_asked_in_private_networks() {
    on_each_db(|cloud| async move {
        // Nobody allowed loopback here.
        cloud.state.configure_sso(Outbound::default(), vec![DASHBOARD.to_owned()]);
        let f = Federated::new(cloud).await;
        f.log_in(json!({})).await.expect(503);
        assert!(f.provider.requests().is_empty());
    })
    .await;
}

fn parameter(url: &str, name: &str) -> String {
    let query = web::paging::Query::parse(url.split_once('?').unwrap().1);
    query.get(name).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_browser_comes_in() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let anyone = f.cloud.anyone.clone();
        let begin = |origin: &str| format!("/identity/v3/auth/OS-FEDERATION/websso/openid?origin={origin}");
        anyone.get("/identity/v3/auth/OS-FEDERATION/websso/openid").await.expect(400);
        anyone.get(&begin("http://evil.test/")).await.expect(401);
        anyone.get(&begin(&format!("{DASHBOARD}x"))).await.expect(401);
        anyone.get(&begin(DASHBOARD).replace("openid", "saml2")).await.expect(404);
        let sent = anyone.get(&begin(DASHBOARD)).await.expect(302);
        let url = sent.header("location").unwrap().to_owned();
        assert!(url.starts_with(&format!("{}/login?", f.provider.issuer)), "{url}");
        let callback = "http://nacre.test/identity/v3/auth/OS-FEDERATION/callback";
        assert_eq!(parameter(&url, "redirect_uri"), callback);
        assert_eq!(parameter(&url, "code_challenge_method"), "S256");
        let cookie = sent.header("set-cookie").unwrap().to_owned();
        assert!(cookie.contains("HttpOnly; SameSite=Lax") && cookie.contains("Path=/identity/v3/auth"), "{cookie}");
        let browser = anyone.clone().header("cookie", cookie.split(';').next().unwrap());
        let back = |url: &str| {
            let (state, iss) = (parameter(url, "state"), f.provider.issuer.clone());
            format!("/identity/v3/auth/OS-FEDERATION/callback?code=c0de&state={state}&iss={iss}")
        };
        let with_nonce = |nonce: &str| {
            f.provider.answer("/token", json!({ "id_token": f.provider.sign(&f.claims(json!({ "nonce": nonce }))) }));
        };
        with_nonce(&parameter(&url, "nonce"));
        let page = browser.get(&back(&url)).await.expect(200);
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(text.contains(&format!("action=\"{DASHBOARD}\" method=\"post\"")), "{text}");
        let token = text.split("name=\"token\" id=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        anyone.clone().token(token).get("/identity/v3/auth/projects").await.expect(200);
        // The code came with what the challenge was made of.
        let asked = f.provider.requests().into_iter().rfind(|text| text.starts_with("POST /token")).unwrap();
        assert!(asked.contains("code=c0de") && asked.contains("code_verifier="), "{asked}");
        // Once only; not in another browser; not for another login or provider; not without a code.
        browser.get(&back(&url)).await.expect(401);
        for what in ["browser", "nonce", "provider", "code"] {
            let sent = anyone.get(&begin(DASHBOARD)).await.expect(302);
            let url = sent.header("location").unwrap().to_owned();
            let cookie = sent.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
            with_nonce(if what == "nonce" { "other" } else { "" });
            if what != "nonce" {
                with_nonce(&parameter(&url, "nonce"));
            }
            let mut back = back(&url);
            match what {
                "provider" => back = back.replace("&iss=", "&iss=x"),
                "code" => back = back.replace("code=c0de", "error=access_denied"),
                _ => {}
            }
            let client = if what == "browser" { anyone.clone() } else { anyone.clone().header("cookie", &cookie) };
            client.get(&back).await.expect(401);
        }
        let sent = anyone.get(&begin(DASHBOARD)).await.expect(302);
        f.cloud.db.clock().advance(Duration::from_secs(601));
        let late = sent.header("location").unwrap().to_owned();
        browser.get(&back(&late)).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn local_users_by_a_mapping() {
    on_each_db(|cloud| async move {
        let f = Federated::new(cloud).await;
        let local = json!([{ "remote": [{ "type": "name" }],
            "local": [{ "user": { "name": "{0}", "type": "local", "domain": { "id": "default" } } }] }]);
        f.admin.patch(MAPPING, json!({ "mapping": { "rules": local } })).await.expect(200);
        f.log_in(json!({ "name": "nobody" })).await.expect(401);
        let user = crate::make_user(&f.admin, "mia").await;
        grant(&f.admin, &user, "reader", "domains/default").await;
        let token = f.log_in(json!({})).await.expect(201);
        assert_eq!(token.json["token"]["user"]["id"], json!(user));
    })
    .await;
}
