//! Several control planes over one database.

use std::time::Duration;

use crate::{DEMO_PASSWORD, by_password, log_in, on_each_db, project_scope, server, token_of};

#[tokio::test]
async fn a_revocation_reaches_other_servers_within_a_second() {
    on_each_db(|cloud| async move {
        let (_, other) = server(cloud.db.reconnect().await, cloud.master.clone()).await;
        let issued = cloud.log_in(&by_password("demo", DEMO_PASSWORD), Some(project_scope("demo"))).await.expect(201);
        let token = token_of(&issued);
        let (here, there) = (cloud.anyone.clone().token(&token), other.token(&token));
        here.get("/identity/v3/auth/projects").await.expect(200);
        there.get("/identity/v3/auth/projects").await.expect(200);
        here.clone().header("x-subject-token", &token).delete("/identity/v3/auth/tokens").await.expect(204);
        here.get("/identity/v3/auth/projects").await.expect(401);
        cloud.db.clock().advance(Duration::from_secs(1));
        there.get("/identity/v3/auth/projects").await.expect(401);
    })
    .await;
}

#[tokio::test]
async fn rotating_keys_ends_no_token() {
    on_each_db(|cloud| async move {
        let (_, other) = server(cloud.db.reconnect().await, cloud.master.clone()).await;
        let identity = by_password("demo", DEMO_PASSWORD);
        let mut tokens = vec![token_of(&cloud.log_in(&identity, None).await.expect(201))];
        for _ in 0..3 {
            cloud.state.rotate_keys().await.unwrap();
            // At once on the other server too: it knew the key before it signed.
            let fresh = token_of(&cloud.log_in(&identity, None).await.expect(201));
            other.clone().token(&fresh).get("/identity/v3/auth/projects").await.expect(200);
            tokens.push(fresh.clone());
            // The other server signs with what it knows; both read it.
            let theirs = token_of(&log_in(&other, &identity, None).await.expect(201));
            cloud.anyone.clone().token(&theirs).get("/identity/v3/auth/projects").await.expect(200);
            cloud.db.clock().advance(Duration::from_secs(1));
            other.clone().token(&fresh).get("/identity/v3/auth/projects").await.expect(200);
        }
        for token in &tokens {
            cloud.anyone.clone().token(token).get("/identity/v3/auth/projects").await.expect(200);
        }
        let keys = || async { store::identity::tokens::keys(&mut cloud.db.read().await.unwrap()).await.unwrap().len() };
        assert_eq!(keys().await, 5);
        // Once their tokens have ended, the old keys go.
        cloud.db.clock().advance(identity::state::TOKEN_LIFETIME + Duration::from_secs(61));
        cloud.state.rotate_keys().await.unwrap();
        assert_eq!(keys().await, 3);
        assert!(identity::doctor(&cloud.db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn another_master_key_is_refused() {
    on_each_db(|cloud| async move {
        let wrong = identity::State::open(cloud.db.reconnect().await, identity::MasterKey::random()).await;
        assert!(wrong.is_err_and(|e| e.kind == model::ErrorKind::Internal));
    })
    .await;
}
