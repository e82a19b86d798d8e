//! Writes what the API answers into `NACRE_SAMPLES`, one file per operation and microversion, for tempest's schemas to
//! look at. Does nothing where that is not set.

use model::Clock;
use serde_json::json;
use testkit::for_each_db;

use crate::world::World;

#[tokio::test]
async fn samples() {
    let Ok(folder) = std::env::var("NACRE_SAMPLES") else { return };
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut request = world.request("web");
        request["server"]["metadata"] = json!({"a": "b"});
        let created = world.blue().post("/compute/v2.1/servers", request).await.expect(202);
        let write = |name: &str, json: &serde_json::Value| {
            std::fs::write(format!("{folder}/{name}.json"), json.to_string()).unwrap();
        };
        write("create_server_with_admin_pass-2.100", &created.json);
        let id = created.json["server"]["id"].as_str().unwrap().to_owned();
        world.status(&id, "ACTIVE").await;
        let actions = format!("/compute/v2.1/servers/{id}/os-instance-actions");
        let request = world.blue().get(&actions).await.json["instanceActions"][0]["request_id"].clone();
        let request = request.as_str().unwrap().to_owned();
        for (role, minor) in ["member", "admin"].into_iter().flat_map(|r| (1..=100).map(move |m| (r, m))) {
            let client = world.as_(role, "blue", &format!("2.{minor}"));
            for (name, path) in [
                ("list_servers", "/compute/v2.1/servers?limit=1".to_owned()),
                ("list_servers_detail", "/compute/v2.1/servers/detail?limit=1".to_owned()),
                ("get_server", format!("/compute/v2.1/servers/{id}")),
                ("list_addresses", format!("/compute/v2.1/servers/{id}/ips")),
                ("list_server_metadata", format!("/compute/v2.1/servers/{id}/metadata")),
                ("list_instance_actions", actions.clone()),
                ("show_instance_action", format!("{actions}/{request}")),
                ("list_interfaces", format!("/compute/v2.1/servers/{id}/os-interface")),
                ("list_volume_attachments", format!("/compute/v2.1/servers/{id}/os-volume_attachments")),
            ] {
                write(&format!("{name}-2.{minor}-{role}"), &client.get(&path).await.expect(200).json);
            }
            let server = format!("/compute/v2.1/servers/{id}");
            let updated = client.put(&server, json!({"server": {"name": "web"}})).await.expect(200);
            write(&format!("update_server-2.{minor}-{role}"), &updated.json);
        }
    })
    .await;
}
