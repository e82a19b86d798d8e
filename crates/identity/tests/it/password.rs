//! Changing one's own password.

use serde_json::json;

use crate::{by_password, make_user, on_each_db};

#[tokio::test]
async fn whoever_knows_the_old_one_may() {
    on_each_db(|cloud| async move {
        let admin = cloud.admin().await;
        let user = make_user(&admin, "mia").await;
        let mia = cloud.with_token(&by_password("mia", "mia's"), None).await;
        let path = format!("/identity/v3/users/{user}/password");
        let change = |from: &str, to: &str| json!({ "user": { "original_password": from, "password": to } });
        cloud.anyone.post(&path, change("wrong", "new")).await.expect(401);
        cloud.anyone.post("/identity/v3/users/nobody/password", change("x", "new")).await.expect(401);
        cloud.anyone.post(&path, json!({ "user": { "password": "new" } })).await.expect(400);
        mia.get("/identity/v3/auth/projects").await.expect(200);
        mia.post(&path, change("mia's", "new")).await.expect(204);
        // Tokens of before are void, and so is the password of before.
        mia.get("/identity/v3/auth/projects").await.expect(401);
        cloud.log_in(&by_password("mia", "mia's"), None).await.expect(401);
        cloud.log_in(&by_password("mia", "new"), None).await.expect(201);
        let off = json!({ "user": { "enabled": false } });
        admin.patch(&format!("/identity/v3/users/{user}"), off).await.expect(200);
        cloud.anyone.post(&path, change("new", "newer")).await.expect(401);
    })
    .await;
}
