//! Application credentials with access rules, and trusts: what they hand on, and when that ends.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Response};

use crate::{
    ADMIN_PASSWORD, Cloud, DEMO_PASSWORD, by_password, by_token, grant, id_in, make_project, make_user, on_each_db,
    project_scope, role_id, token_of,
};

async fn user_id(cloud: &Cloud, name: &str) -> String {
    let found = cloud.admin().await.get(&format!("/identity/v3/users?name={name}")).await.expect(200);
    found.json["users"][0]["id"].as_str().unwrap().to_owned()
}

async fn make_credential(client: &Client, user: &str, what: Value) -> Response {
    let body = json!({ "application_credential": what });
    client.post(&format!("/identity/v3/users/{user}/application_credentials"), body).await
}

fn by_credential(made: &Response) -> Value {
    let own = &made.json["application_credential"];
    json!({ "methods": ["application_credential"],
        "application_credential": { "id": own["id"], "secret": own["secret"] } })
}

#[tokio::test]
async fn an_application_credential_logs_in_and_shows_its_secret_once() {
    on_each_db(|cloud| async move {
        let (demo, user) = (cloud.demo().await, user_id(&cloud, "demo").await);
        let made = make_credential(&demo, &user, json!({ "name": "ci", "description": "d" })).await.expect(201);
        let own = made.json["application_credential"].clone();
        assert_eq!((&own["unrestricted"], &own["description"]), (&json!(false), &json!("d")));
        assert_eq!(own["roles"].as_array().unwrap().len(), 2);
        make_credential(&demo, &user, json!({ "name": "ci" })).await.expect(409);
        let path = format!("/identity/v3/users/{user}/application_credentials/{}", own["id"].as_str().unwrap());
        let shown = demo.get(&path).await.expect(200);
        assert_eq!(shown.json["application_credential"].get("secret"), None);
        let list = format!("/identity/v3/users/{user}/application_credentials");
        assert_eq!(demo.get(&format!("{list}?name=ci")).await.json["application_credentials"][0]["name"], "ci");
        assert_eq!(demo.get(&format!("{list}?name=x")).await.json["application_credentials"], json!([]));
        // By id, and by name and user.
        let issued = cloud.log_in(&by_credential(&made), None).await.expect(201);
        let token = &issued.json["token"];
        assert_eq!(token["project"]["name"], "demo");
        assert_eq!(token["methods"], json!(["application_credential"]));
        let named = json!({ "id": own["id"], "name": "ci", "restricted": true });
        assert_eq!(token["application_credential"], named);
        assert!(token_of(&issued).len() <= 255);
        let by_name = |secret: &Value, name: &str| {
            json!({ "methods": ["application_credential"], "application_credential": { "name": name, "secret": secret,
                "user": { "name": "demo", "domain": { "id": "default" } } } })
        };
        cloud.log_in(&by_name(&own["secret"], "ci"), None).await.expect(201);
        // Wrong ones cost a hash each, whether they are there or not.
        let before = cloud.state.passwords.done();
        let wrong = cloud.log_in(&by_name(&json!("wrong"), "ci"), None).await.expect(401);
        let unknown = cloud.log_in(&by_name(&json!("wrong"), "cd"), None).await.expect(401);
        assert_eq!(wrong.json, unknown.json);
        assert_eq!(cloud.state.passwords.done() - before, 2);
        // No other scope, no other token, no other credential.
        cloud.log_in(&by_credential(&made), Some(project_scope("demo"))).await.expect(401);
        cloud.log_in(&by_token(&token_of(&issued)), None).await.expect(403);
        let client = cloud.anyone.clone().token(&token_of(&issued));
        make_credential(&client, &user, json!({ "name": "more" })).await.expect(403);
        client.delete(&path).await.expect(403);
        client.get(&path).await.expect(200);
        client.get("/identity/v3/credentials").await.expect(403);
        // Nobody else's.
        let mia = make_user(&cloud.admin().await, "mia").await;
        grant(&cloud.admin().await, &mia, "member", &format!("projects/{}", token["project"]["id"].as_str().unwrap()))
            .await;
        let stranger = cloud.with_token(&by_password("mia", "mia's"), Some(project_scope("demo"))).await;
        stranger.get(&path).await.expect(403);
        stranger.get(&list).await.expect(403);
        stranger.delete(&path).await.expect(403);
        make_credential(&stranger, &user, json!({ "name": "x" })).await.expect(403);
        let borrowed = path.replace(&user, &mia);
        stranger.get(&borrowed).await.expect(404);
        stranger.delete(&borrowed).await.expect(404);
        // Deleting it ends its tokens.
        demo.delete(&path).await.expect(204);
        client.get("/identity/v3/auth/projects").await.expect(401);
        cloud.log_in(&by_credential(&made), None).await.expect(401);
        demo.get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn an_application_credential_has_no_more_roles_than_its_user_and_ends() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let (user, project) = (make_user(&admin, "mia").await, make_project(&admin, "shop").await);
        let on = format!("projects/{project}");
        grant(&admin, &user, "member", &on).await;
        let scope = json!({ "project": { "id": project } });
        let mia = cloud.with_token(&by_password("mia", "mia's"), Some(scope)).await;
        make_credential(&mia, &user, json!({ "name": "a", "roles": [{ "name": "admin" }] })).await.expect(400);
        make_credential(&mia, &user, json!({ "name": "a", "roles": [{ "name": "nothing" }] })).await.expect(404);
        make_credential(&mia, &user, json!({ "name": "a", "expires_at": "soon" })).await.expect(400);
        make_credential(&mia, &user, json!({ "name": "a", "expires_at": "2020-01-01T00:00:00Z" })).await.expect(400);
        make_credential(&mia, &user, json!({})).await.expect(400);
        let body = json!({ "name": "a", "roles": [{ "name": "reader" }], "expires_at": "2026-01-01T13:00:00.000001" });
        let made = make_credential(&mia, &user, body).await.expect(201);
        assert_eq!(made.json["application_credential"]["expires_at"], "2026-01-01T13:00:00.000001");
        let issued = cloud.log_in(&by_credential(&made), None).await.expect(201);
        assert_eq!(issued.json["token"]["roles"].as_array().unwrap().len(), 1);
        assert_eq!(issued.json["token"]["expires_at"], "2026-01-01T13:00:00.000001Z");
        let client = cloud.anyone.clone().token(&token_of(&issued));
        client.get("/identity/v3/auth/catalog").await.expect(200);
        // Without the role it is nothing, and with it again it is what it was.
        let member = format!("/identity/v3/{on}/users/{user}/roles/{}", role_id(&admin, "member").await);
        grant(&admin, &user, "manager", &on).await;
        admin.delete(&member).await.expect(204);
        client.get("/identity/v3/auth/catalog").await.expect(200);
        let manager = format!("/identity/v3/{on}/users/{user}/roles/{}", role_id(&admin, "manager").await);
        admin.delete(&manager).await.expect(204);
        client.get("/identity/v3/auth/catalog").await.expect(401);
        cloud.log_in(&by_credential(&made), None).await.expect(401);
        grant(&admin, &user, "member", &on).await;
        let again = cloud.log_in(&by_credential(&made), None).await.expect(201);
        let client = cloud.anyone.clone().token(&token_of(&again));
        cloud.db.clock().advance(Duration::from_secs(3600) + Duration::from_micros(1));
        client.get("/identity/v3/auth/catalog").await.expect(401);
        cloud.log_in(&by_credential(&made), None).await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn an_unrestricted_one_may_make_others_but_no_stronger_ones() {
    on_each_db(|cloud| async move {
        let user = user_id(&cloud, "demo").await;
        let demo = cloud.demo().await;
        let body = json!({ "name": "a", "unrestricted": true, "roles": [{ "name": "reader" }] });
        let made = make_credential(&demo, &user, body).await.expect(201);
        let client = cloud.with_token(&by_credential(&made), None).await;
        make_credential(&client, &user, json!({ "name": "b", "roles": [{ "name": "member" }] })).await.expect(400);
        let other = make_credential(&client, &user, json!({ "name": "b" })).await.expect(201);
        let roles = other.json["application_credential"]["roles"].as_array().unwrap().clone();
        assert_eq!((roles.len(), &roles[0]["name"]), (1, &json!("reader")));
        // A trust neither.
        let trustee = make_user(&cloud.admin().await, "mia").await;
        let project = made.json["application_credential"]["project_id"].clone();
        let trust = |role: &str| {
            json!({ "trust": { "trustor_user_id": user, "trustee_user_id": trustee, "project_id": project,
                "impersonation": false, "roles": [{ "name": role }] } })
        };
        client.post("/identity/v3/OS-TRUST/trusts", trust("member")).await.expect(404);
        client.post("/identity/v3/OS-TRUST/trusts", trust("reader")).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn access_rules_restrict_requests() {
    on_each_db(|cloud| async move {
        let (demo, user) = (cloud.demo().await, user_id(&cloud, "demo").await);
        let rules = json!([
            { "service": "identity", "method": "GET", "path": "/v3/auth/*" },
            { "service": "compute", "method": "GET", "path": "/v2.1/servers" },
        ]);
        let made = make_credential(&demo, &user, json!({ "name": "a", "access_rules": rules })).await.expect(201);
        let own = made.json["application_credential"]["access_rules"].as_array().unwrap().clone();
        assert_eq!(own.len(), 2);
        let issued = cloud.log_in(&by_credential(&made), None).await.expect(201);
        assert_eq!(issued.json["token"]["application_credential"]["access_rules"].as_array().unwrap().len(), 2);
        let token = token_of(&issued);
        let client = cloud.anyone.clone().token(&token);
        client.get("/identity/v3/auth/projects").await.expect(200);
        client.get("/identity/v3/auth/catalog").await.expect(200);
        let refused = client.get(&format!("/identity/v3/users/{user}")).await.expect(401);
        assert!(refused.json["error"]["message"].as_str().unwrap().contains("access rules"), "{}", refused.json);
        client.head("/identity/v3/auth/projects").await.expect(401);
        client.get("/identity/v3/regions").await.expect(401);
        // Services may always look at a token.
        client.clone().header("x-subject-token", &token).get("/identity/v3/auth/tokens").await.expect(200);
        // None at all allow nothing.
        let none = make_credential(&demo, &user, json!({ "name": "b", "access_rules": [] })).await.expect(201);
        let nothing = cloud.with_token(&by_credential(&none), None).await;
        nothing.get("/identity/v3/auth/projects").await.expect(401);
        let invalid = [
            json!([{ "service": "compute", "method": "TRACE", "path": "/" }]),
            json!([{ "service": "compute", "method": "GET", "path": "no-slash" }]),
            json!([{ "service": "compute", "method": "GET" }]),
            json!("all"),
        ];
        for rules in invalid {
            make_credential(&demo, &user, json!({ "name": "c", "access_rules": rules })).await.expect(400);
        }
        // Rules are the user's: used again, and deleted when nothing uses them.
        let listed = demo.get(&format!("/identity/v3/users/{user}/access_rules")).await.expect(200);
        assert_eq!(listed.json["access_rules"].as_array().unwrap().len(), 2);
        let filtered = demo.get(&format!("/identity/v3/users/{user}/access_rules?service=compute")).await.expect(200);
        let rule = filtered.json["access_rules"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/identity/v3/users/{user}/access_rules/{rule}");
        demo.get(&path).await.expect(200);
        let again = json!({ "name": "d", "access_rules": [{ "id": rule }] });
        let again = make_credential(&demo, &user, again).await.expect(201);
        assert_eq!(again.json["application_credential"]["access_rules"][0]["id"], json!(rule));
        demo.delete(&path).await.expect(403);
        for made in [&made, &again] {
            let id = made.json["application_credential"]["id"].as_str().unwrap();
            demo.delete(&format!("/identity/v3/users/{user}/application_credentials/{id}")).await.expect(204);
        }
        let mia = make_user(&cloud.admin().await, "mia").await;
        let stranger = cloud.admin().await;
        stranger.get(&path).await.expect(403);
        stranger.delete(&path.replace(&user, &mia)).await.expect(403);
        demo.delete(&path).await.expect(204);
        demo.get(&path).await.expect(404);
    })
    .await;
}

/// A trustor with roles in a project, and a trustee without.
struct Parties {
    cloud: Cloud,
    admin: Client,
    trustor: String,
    trustee: String,
    project: String,
    client: Client,
}

impl Parties {
    async fn new(cloud: Cloud) -> Self {
        let admin = cloud.admin().await;
        let (trustor, trustee) = (make_user(&admin, "tom").await, make_user(&admin, "eve").await);
        let project = make_project(&admin, "shop").await;
        grant(&admin, &trustor, "member", &format!("projects/{project}")).await;
        let scope = json!({ "project": { "id": project } });
        let client = cloud.with_token(&by_password("tom", "tom's"), Some(scope)).await;
        Self { cloud, admin, trustor, trustee, project, client }
    }

    fn body(&self, more: Value) -> Value {
        let mut trust = json!({ "trustor_user_id": self.trustor, "trustee_user_id": self.trustee,
            "project_id": self.project, "impersonation": true, "roles": [{ "name": "member" }] });
        trust.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "trust": trust })
    }

    async fn trust(&self, more: Value) -> Response {
        self.client.post("/identity/v3/OS-TRUST/trusts", self.body(more)).await
    }

    async fn use_it(&self, trust: &str) -> Response {
        let scope = json!({ "OS-TRUST:trust": { "id": trust } });
        self.cloud.log_in(&by_password("eve", "eve's"), Some(scope)).await
    }
}

#[tokio::test]
async fn a_trust_hands_roles_on() {
    on_each_db(|cloud| async move {
        let all = Parties::new(cloud).await;
        let made = all.trust(json!({})).await.expect(201);
        let trust = id_in(&made, "trust");
        assert_eq!(made.json["trust"]["roles"][0]["name"], "member");
        assert_eq!(made.json["trust"]["redelegation_count"], 0);
        let issued = all.use_it(&trust).await.expect(201);
        let token = &issued.json["token"];
        assert_eq!((&token["user"]["id"], &token["project"]["id"]), (&json!(all.trustor), &json!(all.project)));
        let roles: Vec<&str> = token["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(roles, ["member", "reader"]);
        assert_eq!(token["OS-TRUST:trust"]["trustee_user"]["id"], json!(all.trustee));
        let plain = id_in(&all.trust(json!({ "impersonation": false })).await.expect(201), "trust");
        let as_trustee = all.use_it(&plain).await.expect(201);
        assert_eq!(as_trustee.json["token"]["user"]["id"], json!(all.trustee));
        // Not for others, not for more, and not for exchanging.
        let scope = json!({ "OS-TRUST:trust": { "id": trust } });
        all.cloud.log_in(&by_password("demo", DEMO_PASSWORD), Some(scope)).await.expect(403);
        all.use_it("nothing").await.expect(404);
        all.cloud.log_in(&by_token(&token_of(&issued)), None).await.expect(403);
        let user = all.trustor.as_str();
        let client = all.cloud.anyone.clone().token(&token_of(&issued));
        make_credential(&client, user, json!({ "name": "a" })).await.expect(403);
        client.get("/identity/v3/credentials").await.expect(403);
        // Only the trustor makes and deletes it; both see it.
        let path = format!("/identity/v3/OS-TRUST/trusts/{trust}");
        let eve = all.cloud.anyone.clone().token(&token_of(&all.use_it(&plain).await.expect(201)));
        eve.get(&path).await.expect(200);
        eve.get(&format!("{path}/roles")).await.expect(200);
        eve.delete(&path).await.expect(403);
        let demo = all.cloud.demo().await;
        for hidden in [path.clone(), format!("{path}/roles"), "/identity/v3/OS-TRUST/trusts".to_owned()] {
            demo.get(&hidden).await.expect(403);
        }
        demo.delete(&path).await.expect(403);
        demo.get(&format!("/identity/v3/OS-TRUST/trusts?trustor_user_id={user}")).await.expect(403);
        demo.post("/identity/v3/OS-TRUST/trusts", all.body(json!({}))).await.expect(403);
        let listed = all.client.get(&format!("/identity/v3/OS-TRUST/trusts?trustor_user_id={user}")).await.expect(200);
        assert_eq!(listed.json["trusts"].as_array().unwrap().len(), 2);
        assert_eq!(listed.json["trusts"][0].get("roles"), None);
        assert_eq!(
            all.admin.get("/identity/v3/OS-TRUST/trusts").await.expect(200).json["trusts"],
            listed.json["trusts"]
        );
        let member = role_id(&all.admin, "member").await;
        all.client.head(&format!("{path}/roles/{member}")).await.expect(200);
        let reader = role_id(&all.admin, "reader").await;
        all.client.head(&format!("{path}/roles/{reader}")).await.expect(404);
        // Deleted, it is over at once.
        client.get("/identity/v3/auth/catalog").await.expect(200);
        all.client.delete(&path).await.expect(204);
        client.get("/identity/v3/auth/catalog").await.expect(401);
        all.client.get(&path).await.expect(404);
        all.use_it(&trust).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn what_a_trust_may_not_be() {
    on_each_db(|cloud| async move {
        let all = Parties::new(cloud).await;
        let cases = [
            (json!({ "roles": [] }), 403),
            (json!({ "roles": [{ "name": "admin" }] }), 404),
            (json!({ "roles": [{ "id": "nothing" }] }), 404),
            (json!({ "trustor_user_id": "somebody" }), 403),
            (json!({ "trustee_user_id": "nobody" }), 404),
            (json!({ "project_id": "nowhere" }), 404),
            (json!({ "expires_at": "bad.123Z" }), 400),
            (json!({ "expires_at": "2020-01-01T00:00:00Z" }), 400),
            (json!({ "remaining_uses": 0 }), 400),
            (json!({ "impersonation": "yes" }), 400),
            (json!({ "allow_redelegation": true, "remaining_uses": 1 }), 400),
            (json!({ "allow_redelegation": true, "redelegation_count": 4 }), 403),
        ];
        for (more, status) in cases {
            let answer = all.trust(more.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{more}: {}", answer.json);
        }
    })
    .await;
}

#[tokio::test]
async fn a_trust_ends_by_time_by_uses_and_with_what_it_stands_on() {
    on_each_db(|cloud| async move {
        let all = Parties::new(cloud).await;
        let twice = id_in(&all.trust(json!({ "remaining_uses": 2 })).await.expect(201), "trust");
        let path = format!("/identity/v3/OS-TRUST/trusts/{twice}");
        all.use_it(&twice).await.expect(201);
        assert_eq!(all.client.get(&path).await.expect(200).json["trust"]["remaining_uses"], 1);
        let last = all.use_it(&twice).await.expect(201);
        all.use_it(&twice).await.expect(403);
        all.client.get(&path).await.expect(404);
        all.cloud.anyone.clone().token(&token_of(&last)).get("/identity/v3/auth/catalog").await.expect(200);
        let ends = json!({ "expires_at": "2026-01-01T12:10:00.000000Z" });
        let ending = id_in(&all.trust(ends).await.expect(201), "trust");
        let issued = all.use_it(&ending).await.expect(201);
        assert_eq!(issued.json["token"]["expires_at"], "2026-01-01T12:10:00.000000Z");
        let endless = id_in(&all.trust(json!({})).await.expect(201), "trust");
        all.cloud.db.clock().advance(Duration::from_secs(600));
        all.use_it(&ending).await.expect(401);
        // The role, either party's password, the trustor's being enabled.
        let set = |user: &str, what: Value| {
            let (admin, path) = (all.admin.clone(), format!("/identity/v3/users/{user}"));
            async move { admin.patch(&path, json!({ "user": what })).await.expect(200) }
        };
        let fresh = || async { all.cloud.anyone.clone().token(&token_of(&all.use_it(&endless).await.expect(201))) };
        let member = role_id(&all.admin, "member").await;
        let role = format!("/identity/v3/projects/{}/users/{}/roles/{member}", all.project, all.trustor);
        for what in ["role", "trustor's password", "trustee's password", "trustor", "trustee"] {
            let client = fresh().await;
            client.get("/identity/v3/auth/catalog").await.expect(200);
            match what {
                "role" => drop(all.admin.delete(&role).await.expect(204)),
                "trustor's password" => drop(set(&all.trustor, json!({ "password": "tom's" })).await),
                "trustee's password" => drop(set(&all.trustee, json!({ "password": "eve's" })).await),
                "trustor" => drop(set(&all.trustor, json!({ "enabled": false })).await),
                _ => drop(set(&all.trustee, json!({ "enabled": false })).await),
            }
            client.get("/identity/v3/auth/catalog").await.expect(401);
            match what {
                "role" => drop(all.admin.send(Method::PUT, &role, None).await.expect(204)),
                "trustor" => drop(set(&all.trustor, json!({ "enabled": true })).await),
                "trustee" => drop(set(&all.trustee, json!({ "enabled": true })).await),
                _ => {}
            }
        }
        all.admin.delete(&format!("/identity/v3/users/{}", all.trustor)).await.expect(204);
        all.use_it(&endless).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn a_trust_may_be_handed_on_and_no_wider() {
    on_each_db(|cloud| async move {
        let all = Parties::new(cloud).await;
        let max = make_user(&all.admin, "max").await;
        let more = json!({ "allow_redelegation": true, "redelegation_count": 2,
            "expires_at": "2026-01-01T13:00:00.000000Z" });
        let first = id_in(&all.trust(more).await.expect(201), "trust");
        let eve = all.cloud.anyone.clone().token(&token_of(&all.use_it(&first).await.expect(201)));
        let hand_on = |more: Value| {
            let mut body = all.body(json!({ "trustee_user_id": max }));
            body["trust"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let eve = eve.clone();
            async move { eve.post("/identity/v3/OS-TRUST/trusts", body).await }
        };
        hand_on(json!({ "remaining_uses": 1 })).await.expect(403);
        hand_on(json!({ "expires_at": "2026-01-01T14:00:00Z" })).await.expect(403);
        hand_on(json!({ "allow_redelegation": true, "redelegation_count": 2 })).await.expect(403);
        let second = hand_on(json!({ "roles": [{ "name": "member" }], "allow_redelegation": true })).await.expect(201);
        assert_eq!(second.json["trust"]["redelegated_trust_id"], json!(first));
        assert_eq!(second.json["trust"]["redelegation_count"], 1);
        assert_eq!(second.json["trust"]["expires_at"], "2026-01-01T13:00:00.000000Z");
        let second = id_in(&second, "trust");
        let scope = json!({ "OS-TRUST:trust": { "id": second } });
        let issued = all.cloud.log_in(&by_password("max", "max's"), Some(scope.clone())).await.expect(201);
        let client = all.cloud.anyone.clone().token(&token_of(&issued));
        client.get("/identity/v3/auth/catalog").await.expect(200);
        // Who passes it on must be there.
        let patch = |enabled: bool| {
            let (admin, path) = (all.admin.clone(), format!("/identity/v3/users/{}", all.trustee));
            async move { admin.patch(&path, json!({ "user": { "enabled": enabled } })).await.expect(200) }
        };
        patch(false).await;
        client.get("/identity/v3/auth/catalog").await.expect(401);
        patch(true).await;
        all.cloud.log_in(&by_password("max", "max's"), Some(scope.clone())).await.expect(201);
        // Deleting the first deletes the second.
        all.client.delete(&format!("/identity/v3/OS-TRUST/trusts/{first}")).await.expect(204);
        all.cloud.log_in(&by_password("max", "max's"), Some(scope)).await.expect(404);
        // One that doesn't allow it isn't handed on.
        let closed = id_in(&all.trust(json!({})).await.expect(201), "trust");
        let eve = all.cloud.anyone.clone().token(&token_of(&all.use_it(&closed).await.expect(201)));
        let body = all.body(json!({ "trustee_user_id": max }));
        eve.post("/identity/v3/OS-TRUST/trusts", body).await.expect(403);
        all.cloud.log_in(&by_password("admin", ADMIN_PASSWORD), None).await.expect(201);
    })
    .await;
}
