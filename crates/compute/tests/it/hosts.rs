//! Hosts as administrators see them: services, hypervisors, zones; and the list of extensions.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{for_each_db, virtual_clock};

use crate::administration::{Cloud, HOST, join, keys, texts};

const SERVICES: &str = "/compute/v2.1/os-services";
const HYPERVISORS: &str = "/compute/v2.1/os-hypervisors";
const ZONES: &str = "/compute/v2.1/os-availability-zone";

#[tokio::test]
async fn services_are_disabled_and_given_up() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        join(&db).await;
        let list = async |version: &str, query: &str| {
            cloud.admin(version).get(&format!("{SERVICES}{query}")).await.expect(200).json["services"].clone()
        };
        let old = list("2.1", "").await[0].clone();
        assert!(old["id"].is_i64() && old.get("forced_down").is_none() && old["state"] == "up");
        assert_eq!(list("2.53", "").await[0]["id"], HOST);
        assert_eq!(list("2.53", "?binary=nova-scheduler").await, json!([]));
        assert_eq!(list("2.53", "?host=h1").await.as_array().unwrap().len(), 1);

        let disable = json!({"host": "h1", "binary": "nova-compute", "disabled_reason": "disk"});
        cloud.admin("2.1").put(&format!("{SERVICES}/disable-log-reason"), disable).await.expect(200);
        let disabled = list("2.100", "").await[0].clone();
        assert_eq!(
            (disabled["status"].clone(), disabled["disabled_reason"].clone()),
            (json!("disabled"), json!("disk"))
        );
        let path = format!("{SERVICES}/{HOST}");
        let admin = cloud.admin("2.100");
        let enabled = admin.put(&path, json!({"status": "enabled"})).await.expect(200).json["service"].clone();
        assert!(enabled["status"] == "enabled" && enabled["disabled_reason"].is_null());
        for bad in [json!({}), json!({"forced_down": true}), json!({"status": "enabled", "disabled_reason": "x"})] {
            admin.put(&path, bad).await.expect(400);
        }
        admin.put(&format!("{SERVICES}/h1"), json!({"status": "enabled"})).await.expect(400);
        admin
            .put(&format!("{SERVICES}/00000000-0000-4000-8000-000000000000"), json!({"status": "enabled"}))
            .await
            .expect(404);
        admin.delete(&path).await.expect(409);
        db.clock().advance(Duration::from_secs(120));
        assert_eq!(list("2.100", "").await[0]["state"], "down");
        admin.delete(&path).await.expect(204);
        assert_eq!(list("2.100", "").await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn hypervisors_by_microversion() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        join(&db).await;
        let detail = async |version: &str| {
            cloud.admin(version).get(&format!("{HYPERVISORS}/detail")).await.expect(200).json["hypervisors"][0].clone()
        };
        let old = detail("2.1").await;
        assert!(old["id"].is_i64() && old["cpu_info"].is_string() && old["memory_mb"] == 16384);
        let path = format!("{HYPERVISORS}/{}", old["id"]);
        cloud.admin("2.1").get(&path).await.expect(200);
        cloud.admin("2.1").get(&format!("{path}/uptime")).await.expect(501);
        assert!(detail("2.28").await["cpu_info"].is_object());
        let middle = detail("2.53").await;
        assert!(middle["id"] == HOST && middle["vcpus_used"] == 0 && middle.get("servers").is_none());
        let new = detail("2.88").await;
        let shown = [
            "host_ip",
            "hypervisor_hostname",
            "hypervisor_type",
            "hypervisor_version",
            "id",
            "service",
            "state",
            "status",
            "uptime",
        ];
        assert_eq!(keys(&new), shown);
        let admin = cloud.admin("2.100");
        let with_servers = admin.get(&format!("{HYPERVISORS}?with_servers=true")).await.expect(200).json;
        assert_eq!(with_servers["hypervisors"][0]["servers"], json!([]));
        admin.get(&format!("{HYPERVISORS}?hypervisor_hostname_pattern=zzz")).await.expect(404);
        admin.get(&format!("{HYPERVISORS}?hypervisor_hostname_pattern=h&limit=1")).await.expect(400);
        admin.get(&format!("{HYPERVISORS}/h1")).await.expect(400);
        admin.get(&format!("{HYPERVISORS}/statistics")).await.expect(404);
        cloud.admin("2.52").get(&format!("{HYPERVISORS}/h/search")).await.expect(200);
        let sums = cloud.admin("2.87").get(&format!("{HYPERVISORS}/statistics")).await.expect(200).json;
        assert_eq!(
            (&sums["hypervisor_statistics"]["count"], &sums["hypervisor_statistics"]["vcpus"]),
            (&json!(1), &json!(8))
        );
        let page = admin.get(&format!("{HYPERVISORS}?limit=1")).await.expect(200).json;
        assert!(page.get("hypervisors_links").is_some());
        let next = admin.get(&format!("{HYPERVISORS}?limit=1&marker={HOST}")).await.expect(200).json;
        assert_eq!(next, json!({"hypervisors": []}));
    })
    .await;
}

#[tokio::test]
async fn zones_and_extensions() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        join(&db).await;
        let zone = |hosts: Value| {
            json!({"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": true}, "hosts": hosts}]})
        };
        assert_eq!(cloud.blue("2.1").get(ZONES).await.expect(200).json, zone(Value::Null));
        let service = json!({"available": true, "active": true, "updated_at": "2026-01-01T12:00:00.000000"});
        let detail = cloud.admin("2.1").get(&format!("{ZONES}/detail")).await.expect(200).json;
        assert_eq!(detail, zone(json!({"h1": {"nova-compute": service}})));
        let extensions = cloud.blue("2.1").get("/compute/v2.1/extensions").await.expect(200).json;
        assert!(texts(&extensions["extensions"], "alias").contains(&"os-keypairs"));
        cloud.blue("2.1").get("/compute/v2.1/extensions/os-keypairs").await.expect(200);
        cloud.blue("2.1").get("/compute/v2.1/extensions/os-cells").await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn are_not_shown_to_users() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        join(&db).await;
        let blue = cloud.blue("2.52");
        for path in [SERVICES, HYPERVISORS] {
            blue.get(path).await.expect(403);
        }
        for path in ["detail", "statistics", "1", "1/uptime", "h/search", "h/servers"] {
            blue.get(&format!("{HYPERVISORS}/{path}")).await.expect(403);
        }
        blue.get(&format!("{ZONES}/detail")).await.expect(403);
        blue.put(&format!("{SERVICES}/disable"), json!({"host": "h1", "binary": "nova-compute"})).await.expect(403);
        cloud.blue("2.100").put(&format!("{SERVICES}/{HOST}"), json!({"status": "disabled"})).await.expect(403);
        blue.delete(&format!("{SERVICES}/{HOST}")).await.expect(403);
        blue.get("/compute/v2.1/os-simple-tenant-usage").await.expect(403);
        blue.get("/compute/v2.1/os-simple-tenant-usage/red?start=2025-01-01T00:00:00").await.expect(403);
        let usage = "/compute/v2.1/os-simple-tenant-usage/blue?start=2025-01-01T00:00:00";
        assert_eq!(blue.get(usage).await.expect(200).json, json!({"tenant_usage": {}}));
    })
    .await;
}
