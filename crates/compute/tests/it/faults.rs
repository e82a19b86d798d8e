//! Servers that can't be built, and what is left of them: nothing.

use model::{Clock, id::ProjectId};
use serde_json::json;
use testkit::{TestDb, for_each_db};

use crate::world::World;

async fn used(db: &TestDb) -> Vec<(String, i64)> {
    let mut conn = db.read().await.unwrap();
    let all = store::quotas::usages(&mut conn, &ProjectId::new("blue")).await.unwrap();
    all.into_iter()
        .filter(|(name, used)| *used != 0 && ["instances", "cores", "ram", "port"].contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn no_host_is_large_enough() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut tx = db.begin().await.unwrap();
        let flavor = store::compute::flavors::Flavor::new("9", "huge", 2, 1 << 40, 1, tx.now());
        store::compute::flavors::insert(&mut tx, &flavor).await.unwrap();
        store::quotas::set_limit(&mut tx, &ProjectId::new("blue"), "ram", -1).await.unwrap();
        tx.commit().await.unwrap();
        let mut request = world.request("huge");
        request["server"]["flavorRef"] = json!("9");
        let created = world.blue().post("/compute/v2.1/servers", request).await.expect(202);
        let id = created.json["server"]["id"].as_str().unwrap().to_owned();
        let server = world.status(&id, "ERROR").await;
        let message = server["fault"]["message"].as_str().unwrap();
        assert!(message.contains("1 too little free memory"), "{message}");
        assert_eq!(server["fault"]["code"], 500);
        assert!(server["fault"]["details"].is_null(), "operators only");
        let actions = format!("/compute/v2.1/servers/{id}/os-instance-actions");
        let list = world.blue().get(&actions).await.expect(200);
        assert_eq!(list.json["instanceActions"][0]["message"], "Error");
        let request = list.json["instanceActions"][0]["request_id"].as_str().unwrap().to_owned();
        let shown = world.blue().get(&format!("{actions}/{request}")).await.expect(200);
        assert_eq!(shown.json["instanceAction"]["events"][0]["result"], "Error");
        world.act(&id, json!({"os-start": null})).await.expect(409);
        world.assert_sound().await;
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.gone(&id).await;
        assert_eq!(used(&db).await, []);
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_broken_image_is_told_with_its_reason() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut tx = db.begin().await.unwrap();
        store::query("update images set sha256 = $1").bind("0".repeat(64)).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let id = world.create("web").await;
        let server = world.status(&id, "ERROR").await;
        assert_ne!(server["fault"]["message"], "");
        world.waits(&id, "could not be built").await;
        world
            .until("nothing is left on the host", async || {
                compute::doctor(&world.state, false).await.unwrap().is_empty()
            })
            .await;
        let shown = world.show(&id).await;
        assert_eq!(shown["hostId"], "");
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.gone(&id).await;
        assert_eq!(used(&db).await, []);
    })
    .await;
}

#[tokio::test]
async fn deleted_while_it_is_built() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        for _ in 0..5 {
            let id = world.create("web").await;
            world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
            world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.status.is_success();
            world.gone(&id).await;
        }
        assert_eq!(used(&db).await, []);
        world.until("the host is sound", async || compute::doctor(&world.state, false).await.unwrap().is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn quota_refuses_and_allows_as_many_as_fit() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut tx = db.begin().await.unwrap();
        store::quotas::set_limit(&mut tx, &ProjectId::new("blue"), "instances", 3).await.unwrap();
        tx.commit().await.unwrap();
        let ask = async |min: u32, max: u32| {
            let mut request = world.request("web");
            request["server"]["min_count"] = json!(min);
            request["server"]["max_count"] = json!(max);
            world.blue().post("/compute/v2.1/servers", request).await
        };
        let refused = ask(4, 4).await.expect(403);
        let message = refused.json["forbidden"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Quota exceeded for instances: Requested 4, but already used 0 of 3"), "{message}");
        assert_eq!(used(&db).await, []);
        ask(1, 10).await.expect(202);
        let list = world.blue().get("/compute/v2.1/servers?sort_key=display_name&sort_dir=asc").await.expect(200);
        let names: Vec<&str> =
            list.json["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["web-1", "web-2", "web-3"]);
        ask(1, 1).await.expect(403);
    })
    .await;
}
