//! Servers that become others: held, rebuilt, resized, rescued, shelved; groups, aggregates and locks.

use std::time::Duration;

use model::Clock;
use serde_json::{Value, json};
use testkit::for_each_db;

use crate::world::World;

async fn flavor(world: &World, id: &str, memory: i64, disk: i64) {
    let body = json!({"flavor": {"id": id, "name": format!("f{id}"), "vcpus": 1, "ram": memory, "disk": disk}});
    world.as_("admin", "admin", "2.100").post("/compute/v2.1/flavors", body).await.expect(200);
}

#[tokio::test]
async fn a_server_stands_still_and_goes_on() {
    for_each_db(Clock::system, async |db| {
        let mut world = World::start(&db).await;
        let id = world.active("web").await;
        for (action, undo, status, power) in [("pause", "unpause", "PAUSED", 3), ("suspend", "resume", "SUSPENDED", 7)]
        {
            world.act(&id, json!({ undo: null })).await.expect(409);
            world.act(&id, json!({ action: null })).await.expect(202);
            assert_eq!(world.status(&id, status).await["OS-EXT-STS:power_state"], power);
            world.act(&id, json!({ action: null })).await.expect(409);
            // It still stands when the agent comes back.
            world.stop_agent().await;
            world.start_agent();
            world.until("the host is back", async || !world.state.hub.connected().is_empty()).await;
            world.waits(&id, "nothing to do").await;
            world.status(&id, status).await;
            world.act(&id, json!({ undo: null })).await.expect(202);
            assert_eq!(world.status(&id, "ACTIVE").await["OS-EXT-STS:power_state"], 1);
        }
        world.act(&id, json!({"suspend": null})).await.expect(202);
        world.status(&id, "SUSPENDED").await;
        world.act(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_rebuilt_server_keeps_its_identity() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let before = world.show(&id).await;
        let body =
            json!({"rebuild": {"imageRef": world.image, "name": "new", "metadata": {"a": "b"}, "user_data": "aGk="}});
        let answer = world.act(&id, body).await.expect(202);
        assert!(answer.json["server"]["adminPass"].is_string(), "{:#}", answer.json);
        let after = world.status(&id, "ACTIVE").await;
        assert_eq!((&after["name"], &after["metadata"]), (&json!("new"), &json!({"a": "b"})));
        assert_eq!(after["addresses"], before["addresses"]);
        world.act(&id, json!({"rebuild": {"imageRef": "00000000-0000-4000-8000-000000000000"}})).await.expect(400);
        world.act(&id, json!({"os-stop": null})).await.expect(202);
        world.status(&id, "SHUTOFF").await;
        world.act(&id, json!({"rebuild": {"imageRef": world.image}})).await.expect(202);
        world.status(&id, "SHUTOFF").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_resize_is_confirmed_or_reverted() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        flavor(&world, "900", 128, 2).await;
        let id = world.active("web").await;
        let before = world.show(&id).await["flavor"].clone();
        world.act(&id, json!({"resize": {"flavorRef": "42"}})).await.expect(400);
        world.act(&id, json!({"confirmResize": null})).await.expect(409);
        for (end, code) in [("revertResize", 202), ("confirmResize", 204)] {
            world.act(&id, json!({"resize": {"flavorRef": "900"}})).await.expect(202);
            world.status(&id, "VERIFY_RESIZE").await;
            world.assert_sound().await;
            world.act(&id, json!({ end: null })).await.expect(code);
            let after = world.status(&id, "ACTIVE").await;
            assert_eq!(after["flavor"] == before, end == "revertResize", "{after:#}");
            world.assert_sound().await;
        }
        let admin = world.as_("admin", "admin", "2.100");
        let list = admin.get(&format!("/compute/v2.1/os-migrations?instance_uuid={id}")).await.expect(200);
        let states: Vec<&Value> = list.json["migrations"].as_array().unwrap().iter().map(|m| &m["status"]).collect();
        assert_eq!(states, ["confirmed", "reverted"]);
    })
    .await;
}

#[tokio::test]
async fn a_resize_beyond_quota_or_host_changes_nothing() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        flavor(&world, "901", 1 << 20, 1).await;
        let id = world.active("web").await;
        world.act(&id, json!({"resize": {"flavorRef": "901"}})).await.expect(403);
        let quota = json!({"quota_set": {"ram": -1}});
        world.as_("admin", "admin", "2.100").put("/compute/v2.1/os-quota-sets/blue", quota).await;
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_is_rescued_and_recovers() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let answer = world.act(&id, json!({"rescue": {"adminPass": "secret"}})).await.expect(200);
        assert_eq!(answer.json["adminPass"], "secret");
        world.status(&id, "RESCUE").await;
        world.act(&id, json!({"pause": null})).await.expect(409);
        world.act(&id, json!({"unrescue": null})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn images_are_made_of_servers() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let made = world.act(&id, json!({"createImage": {"name": "snap", "metadata": {"k": "v"}}})).await.expect(202);
        let image = made.json["image_id"].as_str().unwrap().to_owned();
        world.status(&id, "ACTIVE").await;
        let row = store::images::get(&mut db.read().await.unwrap(), &image.as_str().into()).await.unwrap().unwrap();
        assert_eq!(row.status, store::images::Status::Active);
        assert_eq!(row.properties["k"], "v");
        assert_eq!(row.properties["image_type"], "snapshot");
        let mut kept = Vec::new();
        for at in 0..3 {
            let body = json!({"createBackup": {"name": format!("b{at}"), "backup_type": "daily", "rotation": 2}});
            kept.push(world.act(&id, body).await.expect(202).json["image_id"].as_str().unwrap().to_owned());
            world.status(&id, "ACTIVE").await;
        }
        let status = async |image: &String| {
            store::images::get(&mut db.read().await.unwrap(), &image.as_str().into()).await.unwrap().unwrap().status
        };
        assert_eq!(status(&kept[0]).await, store::images::Status::Deleted);
        assert_eq!(status(&kept[2]).await, store::images::Status::Active);
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_shelved_server_leaves_its_host_and_comes_back() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let before = world.show(&id).await;
        world.act(&id, json!({"shelve": null})).await.expect(202);
        let shelved = world.status(&id, "SHELVED_OFFLOADED").await;
        assert_eq!(shelved["addresses"], before["addresses"]);
        world.assert_sound().await;
        assert!(world.host.nics(&id.as_str().into()).is_empty());
        world.act(&id, json!({"unshelve": null})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
        world.act(&id, json!({"shelve": null})).await.expect(202);
        world.status(&id, "SHELVED_OFFLOADED").await;
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.gone(&id).await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_server_can_be_restored_for_a_while() {
    for_each_db(Clock::system, async |db| {
        let config = compute::Config { reclaim_after: Some(Duration::from_secs(3600)), ..compute::Config::default() };
        let world = World::with_config(&db, config).await;
        let id = world.active("web").await;
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.status(&id, "SOFT_DELETED").await;
        world.assert_sound().await;
        world.act(&id, json!({"restore": null})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.status(&id, "SOFT_DELETED").await;
        world.act(&id, json!({"forceDelete": null})).await.expect(204);
        world.gone(&id).await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn locks_hold_others_off() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        world.act(&id, json!({"lock": {"locked_reason": "mine"}})).await.expect(202);
        let shown = world.show(&id).await;
        assert_eq!((&shown["locked"], &shown["locked_reason"]), (&json!(true), &json!("mine")));
        world.act(&id, json!({"os-stop": null})).await.expect(409);
        world.act(&id, json!({"lock": {"reason": "x"}})).await.expect(400);
        world
            .as_("member", "red", "2.100")
            .post(&format!("/compute/v2.1/servers/{id}/action"), json!({"unlock": null}))
            .await
            .expect(404);
        world.act(&id, json!({"unlock": null})).await.expect(202);
        world.act(&id, json!({"os-stop": null})).await.expect(202);
        world.status(&id, "SHUTOFF").await;
    })
    .await;
}

#[tokio::test]
async fn groups_of_servers_are_enforced() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let groups = "/compute/v2.1/os-server-groups";
        let make = async |policy: &str| {
            let body = json!({"server_group": {"name": "g", "policy": policy}});
            world.blue().post(groups, body).await.expect(200).json["server_group"]["id"].as_str().unwrap().to_owned()
        };
        let apart = make("anti-affinity").await;
        let create = async |group: &str| {
            let mut body = world.request("member");
            body["os:scheduler_hints"] = json!({ "group": group });
            world.blue().post("/compute/v2.1/servers", body).await.expect(202).json["server"]["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let first = create(&apart).await;
        assert_eq!(world.status(&first, "ACTIVE").await["server_groups"], json!([apart]));
        let second = create(&apart).await;
        let failed = world.status(&second, "ERROR").await;
        assert!(failed["fault"]["message"].as_str().unwrap().contains("with servers of its group"), "{failed:#}");
        let together = make("soft-anti-affinity").await;
        for _ in 0..2 {
            let id = create(&together).await;
            world.status(&id, "ACTIVE").await;
        }
        let shown = world.blue().get(&format!("{groups}/{together}")).await.expect(200);
        assert_eq!(shown.json["server_group"]["members"].as_array().unwrap().len(), 2);
        world.as_("member", "red", "2.100").get(&format!("{groups}/{together}")).await.expect(404);
        world.blue().post(groups, json!({"server_group": {"name": "g", "policy": "none"}})).await.expect(400);
        world.blue().delete(&format!("{groups}/{apart}")).await.expect(204);
        world.blue().get(&format!("{groups}/{apart}")).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn aggregates_make_zones() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let admin = world.as_("admin", "admin", "2.100");
        let path = "/compute/v2.1/os-aggregates";
        let body = json!({"aggregate": {"name": "a", "availability_zone": "az2"}});
        world.blue().post(path, body.clone()).await.expect(403);
        let made = admin.post(path, body.clone()).await.expect(200).json["aggregate"]["id"].to_string();
        admin.post(path, body).await.expect(409);
        let one = format!("{path}/{made}");
        let act = async |body: Value| admin.post(&format!("{one}/action"), body).await;
        act(json!({"add_host": {"host": "nobody"}})).await.expect(404);
        act(json!({"add_host": {"host": "h1"}})).await.expect(200);
        act(json!({"add_host": {"host": "h1"}})).await.expect(409);
        let zones = world.blue().get("/compute/v2.1/os-availability-zone").await.expect(200);
        assert_eq!(zones.json["availabilityZoneInfo"][0]["zoneName"], "az2");
        let id = world.active("web").await;
        assert_eq!(world.show(&id).await["OS-EXT-AZ:availability_zone"], "az2");
        act(json!({"set_metadata": {"metadata": {"availability_zone": "az3"}}})).await.expect(409);
        act(json!({"set_metadata": {"metadata": {"ssd": "true"}}})).await.expect(200);
        admin.delete(&one).await.expect(400);
        world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        world.gone(&id).await;
        act(json!({"remove_host": {"host": "h1"}})).await.expect(200);
        admin.delete(&one).await.expect(200);
        admin.get(&one).await.expect(404);
    })
    .await;
}
