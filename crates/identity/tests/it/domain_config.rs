//! Domains' own settings.

use model::id::DomainId;
use serde_json::{Value, json};
use store::identity::domain_config as rows;

use crate::{id_in, on_each_db};

#[tokio::test]
async fn life() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let east = id_in(&admin.post("/identity/v3/domains", json!({ "domain": { "name": "east" } })).await, "domain");
        let all = format!("/identity/v3/domains/{east}/config");
        admin.get(&all).await.expect(404);
        let config = json!({ "identity": { "driver": "ldap" },
            "ldap": { "url": "ldap://%(password)s@host", "password": "very secret" } });
        let shown = json!({ "identity": { "driver": "ldap" }, "ldap": { "url": "ldap://%(password)s@host" } });
        demo.put(&all, json!({ "config": config })).await.expect(403);
        assert_eq!(admin.put(&all, json!({ "config": config })).await.expect(201).json["config"], shown);
        assert_eq!(admin.put(&all, json!({ "config": config })).await.expect(200).json["config"], shown);
        assert_eq!(admin.get(&all).await.expect(200).json["config"], shown);
        // The secret is in no answer and not in the table, but there for whoever needs it.
        admin.get(&format!("{all}/ldap/password")).await.expect(404);
        let domain = DomainId::new(east.as_str());
        let mut conn = cloud.db.read().await.unwrap();
        let stored = rows::get(&mut conn, &domain).await.unwrap();
        assert!(stored.iter().all(|s| !s.value.contains("very secret")) && stored.iter().any(|s| s.sensitive));
        assert!(!format!("{stored:?}").contains("host"));
        let whole = identity::domain_config::with_secrets(&cloud.state, &mut conn, &domain).await.unwrap();
        assert_eq!(whole["ldap"]["url"], json!("ldap://very secret@host"));
        drop(conn);
        let group = format!("{all}/identity");
        assert_eq!(admin.get(&group).await.expect(200).json["config"], json!({ "identity": { "driver": "ldap" } }));
        let option = format!("{group}/driver");
        assert_eq!(admin.get(&option).await.expect(200).json["config"], json!({ "driver": "ldap" }));
        let limit = json!({ "config": { "identity": { "list_limit": 5 } } });
        assert_eq!(admin.patch(&group, limit.clone()).await.expect(200).json["config"]["identity"]["list_limit"], 5);
        let driver = json!({ "config": { "driver": "sql" } });
        assert_eq!(admin.patch(&option, driver.clone()).await.expect(200).json["config"]["identity"]["driver"], "sql");
        admin.patch(&option, json!({ "config": { "list_limit": 5 } })).await.expect(403);
        admin.patch(&format!("{all}/ldap"), limit.clone()).await.expect(403);
        for wrong in
            [json!({}), json!({ "cheese": { "a": 1 } }), json!({ "ldap": { "cheese": 1 } }), json!({ "ldap": {} })]
        {
            admin.put(&all, json!({ "config": wrong })).await.expect(403);
        }
        for path in [&all, &group, &option] {
            demo.get(path).await.expect(403);
            demo.patch(path, limit.clone()).await.expect(403);
            demo.delete(path).await.expect(403);
        }
        admin.delete(&option).await.expect(204);
        admin.get(&option).await.expect(404);
        admin.patch(&option, driver).await.expect(404);
        admin.delete(&group).await.expect(204);
        admin.delete(&group).await.expect(404);
        admin.delete(&all).await.expect(204);
        admin.get(&all).await.expect(404);
        admin.get("/identity/v3/domains/nowhere/config").await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn defaults() {
    on_each_db(|cloud| async move {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let all = admin.get("/identity/v3/domains/config/default").await.expect(200);
        assert_eq!(all.json["config"]["ldap"]["url"], "ldap://localhost");
        assert_eq!(all.json["config"]["ldap"].get("password"), None::<&Value>);
        let group = admin.get("/identity/v3/domains/config/identity/default").await.expect(200);
        assert_eq!(group.json["config"], json!({ "identity": { "driver": "sql", "list_limit": 1000 } }));
        let option = admin.get("/identity/v3/domains/config/identity/driver/default").await.expect(200);
        assert_eq!(option.json["config"], json!({ "driver": "sql" }));
        admin.get("/identity/v3/domains/config/ldap/password/default").await.expect(403);
        admin.get("/identity/v3/domains/config/cheese/default").await.expect(403);
        demo.get("/identity/v3/domains/config/default").await.expect(403);
        // What passwords must look like, everybody may read.
        let compliance = demo.get("/identity/v3/domains/default/config/security_compliance").await.expect(200);
        assert!(compliance.json["config"]["security_compliance"].get("password_regex").is_some());
        demo.get("/identity/v3/domains/default/config/security_compliance/password_regex").await.expect(200);
        demo.get("/identity/v3/domains/default/config/security_compliance/lockout_duration").await.expect(403);
    })
    .await;
}
