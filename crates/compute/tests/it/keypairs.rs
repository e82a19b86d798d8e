//! Key pairs.

use serde_json::{Value, json};
use testkit::{for_each_db, virtual_clock};

use crate::administration::{Cloud, keys};

const KEYS: &str = "/compute/v2.1/os-keypairs";
const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBF60fFHDUsH8EdPhQOg2PwBKf8G5Nejvu46BROCKZmH u@h";

fn key(name: &str) -> Value {
    json!({"keypair": {"name": name, "public_key": PUBLIC}})
}

#[tokio::test]
async fn shapes_by_microversion() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let made = cloud.blue("2.1").post(KEYS, json!({"keypair": {"name": "made"}})).await.expect(200).json;
        assert_eq!(keys(&made["keypair"]), ["fingerprint", "name", "private_key", "public_key", "user_id"]);
        let taken = cloud.blue("2.92").post(KEYS, key("taken")).await.expect(201).json;
        assert_eq!(keys(&taken["keypair"]), ["fingerprint", "name", "public_key", "type", "user_id"]);
        assert_eq!(taken["keypair"]["fingerprint"], "44:47:a1:5f:c3:dc:fa:40:8c:6a:9d:7b:af:3b:f4:c5");
        cloud.blue("2.92").post(KEYS, json!({"keypair": {"name": "more"}})).await.expect(400);
        cloud.blue("2.1").post(KEYS, key("taken")).await.expect(409);
        let shown = cloud.blue("2.1").get(&format!("{KEYS}/taken")).await.expect(200).json["keypair"].clone();
        assert_eq!(shown["created_at"], "2026-01-01T12:00:00.000000");
        assert!(shown["id"].is_i64() && shown["deleted"] == false && shown.get("type").is_none());
        for bad in [json!({"name": "b", "public_key": ""}), json!({"name": "", "public_key": PUBLIC})] {
            cloud.blue("2.1").post(KEYS, json!({"keypair": bad})).await.expect(400);
        }
        cloud.blue("2.1").delete(&format!("{KEYS}/made")).await.expect(202);
        cloud.blue("2.2").delete(&format!("{KEYS}/taken")).await.expect(204);
        cloud.blue("2.2").delete(&format!("{KEYS}/taken")).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn pages_from_2_35_on() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        for name in ["c", "a", "b"] {
            cloud.blue("2.10").post(KEYS, key(name)).await.expect(201);
        }
        cloud.red("2.10").post(KEYS, key("z")).await.expect(201);
        let names = async |version: &str, query: &str| {
            let list = cloud.blue(version).get(&format!("{KEYS}{query}")).await.expect(200).json;
            let names: Vec<&str> =
                list["keypairs"].as_array().unwrap().iter().map(|k| k["keypair"]["name"].as_str().unwrap()).collect();
            (names.join(" "), list.get("keypairs_links").is_some())
        };
        assert_eq!(names("2.34", "?limit=1").await, ("a b c".to_owned(), false));
        assert_eq!(names("2.35", "?limit=2").await, ("a b".to_owned(), true));
        assert_eq!(names("2.35", "?limit=2&marker=b").await, ("c".to_owned(), false));
        cloud.blue("2.35").get(&format!("{KEYS}?marker=z")).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn belong_to_users() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        cloud.blue("2.10").post(KEYS, key("mine")).await.expect(201);
        let path = format!("{KEYS}/mine");
        cloud.red("2.10").get(&path).await.expect(404);
        cloud.red("2.10").delete(&path).await.expect(404);
        cloud.red("2.10").get(&format!("{path}?user_id=user-alice")).await.expect(403);
        cloud.red("2.10").delete(&format!("{path}?user_id=user-alice")).await.expect(403);
        cloud.red("2.10").get(&format!("{KEYS}?user_id=user-alice")).await.expect(403);
        cloud.admin("2.10").get(&format!("{path}?user_id=user-alice")).await.expect(200);
        let for_alice = json!({"keypair": {"name": "given", "public_key": PUBLIC, "user_id": "user-alice"}});
        cloud.red("2.10").post(KEYS, for_alice.clone()).await.expect(403);
        cloud.admin("2.10").post(KEYS, for_alice).await.expect(201);
        cloud.blue("2.10").get(&format!("{KEYS}/given")).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn have_a_quota() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let quota = json!({"quota_set": {"key_pairs": 1}});
        cloud.admin("2.100").put("/compute/v2.1/os-quota-sets/blue", quota).await.expect(200);
        cloud.blue("2.10").post(KEYS, key("one")).await.expect(201);
        cloud.blue("2.10").post(KEYS, key("two")).await.expect(403);
        cloud.blue("2.10").delete(&format!("{KEYS}/one")).await.expect(204);
        cloud.blue("2.10").post(KEYS, key("two")).await.expect(201);
    })
    .await;
}
