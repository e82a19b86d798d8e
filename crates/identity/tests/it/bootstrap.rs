//! What a cloud begins with.

use serde_json::json;

use crate::{ADMIN_PASSWORD, by_password, names, on_each_db, project_scope, wanted};

#[tokio::test]
async fn running_it_again_changes_nothing() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let everything = || async {
            let mut all = Vec::new();
            for kind in
                ["domains", "projects", "users", "roles", "services", "endpoints", "regions", "role_assignments"]
            {
                all.push(admin.get(&format!("/identity/v3/{kind}")).await.expect(200).json);
            }
            all
        };
        let before = everything().await;
        assert_eq!(names(&admin.get("/identity/v3/users").await, "users"), ["admin", "demo"]);
        assert_eq!(names(&admin.get("/identity/v3/projects").await, "projects"), ["admin", "demo"]);
        assert_eq!(
            names(&admin.get("/identity/v3/roles").await, "roles"),
            ["admin", "manager", "member", "reader", "service"]
        );
        let mut again = wanted("http://nacre.test");
        again.admin_password = identity::Password::new("another");
        identity::bootstrap(&cloud.state, &again).await.unwrap();
        assert_eq!(everything().await, before);
        // The password stays what it was.
        cloud.log_in(&by_password("admin", "another"), None).await.expect(401);
        cloud.log_in(&by_password("admin", ADMIN_PASSWORD), Some(project_scope("admin"))).await.expect(201);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_catalog_follows_the_public_address() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let urls = || async {
            let catalog = admin.get("/identity/v3/auth/catalog").await.expect(200).json;
            let compute =
                catalog["catalog"].as_array().unwrap().iter().find(|s| s["type"] == "compute").unwrap().clone();
            let of = |interface: &str| {
                let endpoints = compute["endpoints"].as_array().unwrap();
                endpoints.iter().find(|e| e["interface"] == interface).unwrap()["url"].as_str().unwrap().to_owned()
            };
            [of("public"), of("internal")]
        };
        assert_eq!(urls().await, ["http://nacre.test/compute/v2.1", "http://nacre.test/compute/v2.1"]);
        // One that an administrator moved stays where it is.
        let endpoints = admin.get("/identity/v3/endpoints?interface=internal").await.expect(200);
        let compute = endpoints.json["endpoints"].as_array().unwrap();
        let moved =
            compute.iter().find(|e| e["url"].as_str().unwrap().contains("/compute")).unwrap()["id"].as_str().unwrap();
        let body = json!({ "endpoint": { "url": "http://10.0.0.1/compute/v2.1" } });
        admin.patch(&format!("/identity/v3/endpoints/{moved}"), body).await.expect(200);
        identity::bootstrap(&cloud.state, &wanted("https://cloud.example/")).await.unwrap();
        assert_eq!(urls().await, ["https://cloud.example/compute/v2.1", "http://10.0.0.1/compute/v2.1"]);
    })
    .await;
}

#[tokio::test]
async fn the_doctor_finds_what_dangles() {
    on_each_db(|cloud| async move {
        let mut tx = cloud.db.begin().await.unwrap();
        store::query("delete from users where name = 'demo'").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let findings = identity::doctor(&cloud.db).await.unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].kind, "role assignment");
        identity::repair(&cloud.db).await.unwrap();
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}
