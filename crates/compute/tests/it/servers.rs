//! Servers, from the request to the guest and back.

use model::Clock;
use serde_json::json;
use testkit::for_each_db;

use crate::world::World;

#[tokio::test]
async fn a_server_runs_stops_starts_reboots_and_goes() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.create("web").await;
        let server = world.status(&id, "ACTIVE").await;
        assert_eq!(server["OS-EXT-STS:power_state"], 1);
        assert_eq!(server["addresses"]["private"][0]["version"], 4);
        assert_eq!(server["OS-EXT-AZ:availability_zone"], "nova");
        assert!(server["fault"].is_null());

        world.act(&id, json!({"os-stop": null})).await.expect(202);
        let server = world.status(&id, "SHUTOFF").await;
        assert_eq!(server["OS-EXT-STS:vm_state"], "stopped");
        world.act(&id, json!({"os-stop": null})).await.expect(409);
        world.act(&id, json!({"os-start": null})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        for kind in ["SOFT", "HARD"] {
            world.act(&id, json!({"reboot": {"type": kind}})).await.expect(202);
            world.status(&id, "ACTIVE").await;
        }
        let actions = world.blue().get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).await.expect(200);
        assert_eq!(actions.json["instanceActions"].as_array().unwrap().len(), 5, "{:#}", actions.json);
        world.assert_sound().await;

        for _ in 0..2 {
            world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        }
        world.gone(&id).await;
        world.assert_sound().await;
        let ports = store::network::ports::of_device(&mut db.read().await.unwrap(), &id).await.unwrap();
        assert!(ports.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_guest_that_switches_itself_off_is_stopped() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        world.host.power_off_from_inside(&id.as_str().into());
        world.status(&id, "SHUTOFF").await;
        world.waits(&id, "nothing to do").await;
        world.act(&id, json!({"os-start": null})).await.expect(202);
        world.status(&id, "ACTIVE").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_waits_for_its_host() {
    for_each_db(Clock::system, async |db| {
        let mut world = World::start(&db).await;
        let id = world.active("web").await;
        world.stop_agent().await;
        for _ in 0..2 {
            world.blue().delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        }
        world.waits(&id, "which is away").await;
        assert_eq!(world.show(&id).await["OS-EXT-STS:task_state"], "deleting");
        world.start_agent();
        world.gone(&id).await;
        world.until("the host is sound", async || compute::doctor(&world.state, false).await.unwrap().is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn interfaces_come_and_go() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let other = crate::world::net(&db, "blue").await;
        let path = format!("/compute/v2.1/servers/{id}/os-interface");
        let made = world.blue().post(&path, json!({"interfaceAttachment": {"net_id": other}})).await.expect(200);
        let port = made.json["interfaceAttachment"]["port_id"].as_str().unwrap().to_owned();
        world
            .until("the interface is active", async || {
                let shown = world.blue().get(&format!("{path}/{port}")).await.expect(200);
                shown.json["interfaceAttachment"]["port_state"] == "ACTIVE"
            })
            .await;
        assert_eq!(world.host.nics(&id.as_str().into()).len(), 2);
        world.waits(&id, "nothing to do").await;
        world.blue().delete(&format!("{path}/{port}")).await.expect(202);
        world
            .until("the interface is gone", async || {
                let list = world.blue().get(&path).await.expect(200);
                list.json["interfaceAttachments"].as_array().unwrap().len() == 1
            })
            .await;
        assert_eq!(world.host.nics(&id.as_str().into()).len(), 1);
        world.waits(&id, "nothing to do").await;
        world.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn other_projects_know_nothing_of_it() {
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let id = world.active("web").await;
        let red = world.as_("member", "red", "2.100");
        let server = format!("/compute/v2.1/servers/{id}");
        for path in [
            "",
            "/ips",
            "/ips/private",
            "/metadata",
            "/metadata/x",
            "/tags",
            "/os-instance-actions",
            "/os-interface",
            "/os-security-groups",
            "/os-volume_attachments",
            "/os-server-password",
        ] {
            red.get(&format!("{server}{path}")).await.expect(404);
        }
        for action in [
            json!({"os-start": null}),
            json!({"os-stop": null}),
            json!({"reboot": {"type": "HARD"}}),
            json!({"os-getConsoleOutput": {}}),
            json!({"forceDelete": null}),
        ] {
            red.post(&format!("{server}/action"), action).await.expect(404);
        }
        red.put(&server, json!({"server": {"name": "mine"}})).await.expect(404);
        red.post(&format!("{server}/metadata"), json!({"metadata": {}})).await.expect(404);
        red.post(&format!("{server}/os-interface"), json!({"interfaceAttachment": {}})).await.expect(404);
        red.delete(&server).await.expect(404);
        for list in ["/compute/v2.1/servers", "/compute/v2.1/servers/detail"] {
            assert_eq!(red.get(list).await.expect(200).json["servers"], json!([]));
            red.get(&format!("{list}?all_tenants=1")).await.expect(403);
            let all = world.as_("admin", "red", "2.100").get(&format!("{list}?all_tenants=1")).await.expect(200);
            assert_eq!(all.json["servers"].as_array().unwrap().len(), 1);
        }
        // A reader of the project may look and not touch.
        let reader = world.as_("reader", "blue", "2.100");
        reader.get(&server).await.expect(200);
        reader.delete(&server).await.expect(403);
    })
    .await;
}
