//! Flavors.

use serde_json::{Value, json};
use testkit::{for_each_db, virtual_clock};

use crate::administration::{Cloud, keys, texts};

const FLAVORS: &str = "/compute/v2.1/flavors";

fn flavor(id: &str, public: bool) -> Value {
    json!({"flavor": {"name": format!("f-{id}"), "id": id, "ram": 64, "vcpus": 1, "disk": 0,
        "os-flavor-access:is_public": public}})
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let ids = async |query: &str| {
            let list = cloud.blue("2.1").get(&format!("{FLAVORS}{query}")).await.expect(200).json;
            texts(&list["flavors"], "id").join(" ")
        };
        assert_eq!(ids("").await, "1 2 3 42 84");
        assert_eq!(ids("?sort_key=memory_mb&sort_dir=desc").await, "3 2 1 84 42");
        assert_eq!(ids("/detail?minRam=512").await, "1 2 3");
        assert_eq!(ids("/detail?minDisk=20").await, "2 3");
        assert_eq!(ids("?limit=2&marker=2").await, "3 42");
        let page = cloud.blue("2.1").get(&format!("{FLAVORS}?limit=2")).await.expect(200).json;
        assert_eq!(page["flavors_links"][0]["href"], "http://nacre.test/compute/v2.1/flavors?limit=2&marker=2");
        for bad in ["?minRam=x", "?limit=-1", "?marker=nothing", "?sort_key=secret"] {
            cloud.blue("2.1").get(&format!("{FLAVORS}{bad}")).await.expect(400);
        }
        cloud.blue("2.74").get(&format!("{FLAVORS}?odd=1")).await.expect(200);
        cloud.blue("2.75").get(&format!("{FLAVORS}?odd=1")).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn live_from_creation_to_deletion() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let old = cloud.admin("2.1").post(FLAVORS, flavor("7", true)).await.expect(200).json;
        assert_eq!(old["flavor"]["swap"], "");
        assert!(!keys(&old["flavor"]).contains(&"description"));
        cloud.admin("2.1").post(FLAVORS, flavor("7", true)).await.expect(409);
        let mut same_name = flavor("8", true);
        same_name["flavor"]["name"] = json!("f-7");
        cloud.admin("2.1").post(FLAVORS, same_name).await.expect(409);
        cloud.blue("2.1").post(FLAVORS, flavor("9", true)).await.expect(403);

        let path = format!("{FLAVORS}/7");
        cloud.admin("2.54").put(&path, json!({"flavor": {"description": "d"}})).await.expect(405);
        cloud.admin("2.55").put(&path, json!({"flavor": {}})).await.expect(400);
        cloud.admin("2.55").put(&path, json!({"flavor": {"description": "d"}})).await.expect(200);
        let new = cloud.blue("2.100").get(&path).await.expect(200).json;
        assert_eq!(new["flavor"]["description"], "d");
        assert_eq!(new["flavor"]["swap"], 0);
        assert_eq!(new["flavor"]["extra_specs"], json!({}));

        cloud.blue("2.1").delete(&path).await.expect(403);
        cloud.admin("2.1").delete(&path).await.expect(202);
        cloud.admin("2.1").delete(&path).await.expect(404);
        cloud.blue("2.1").get(&path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn private_ones_are_seen_by_those_with_access() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        cloud.admin("2.1").post(FLAVORS, flavor("p", false)).await.expect(200);
        let path = format!("{FLAVORS}/p");
        let action = |name: &str, project: &str| json!({ name: {"tenant": project} });
        let act = async |action: Value| cloud.admin("2.7").post(&format!("{path}/action"), action).await;
        let seen = async |client: testkit::Client| {
            let listed = client.get(FLAVORS).await.expect(200).json;
            let listed = texts(&listed["flavors"], "id").contains(&"p");
            (listed, client.get(&path).await.status.as_u16())
        };
        assert_eq!(seen(cloud.blue("2.1")).await, (false, 404));
        act(action("addTenantAccess", "nowhere")).await.expect(400);
        let access = act(action("addTenantAccess", "blue")).await.expect(200).json;
        assert_eq!(access, json!({"flavor_access": [{"flavor_id": "p", "tenant_id": "blue"}]}));
        act(action("addTenantAccess", "blue")).await.expect(409);
        assert_eq!(seen(cloud.blue("2.1")).await, (true, 200));
        assert_eq!(seen(cloud.red("2.1")).await, (false, 404));
        cloud.red("2.1").get(&format!("{path}/os-extra_specs")).await.expect(404);
        assert_eq!(seen(cloud.admin("2.1")).await, (false, 200));
        let all = cloud.admin("2.1").get(&format!("{FLAVORS}?is_public=None")).await.expect(200).json;
        assert!(texts(&all["flavors"], "id").contains(&"p"));
        cloud.blue("2.1").post(&format!("{path}/action"), action("addTenantAccess", "red")).await.expect(403);
        cloud.admin("2.1").get(&format!("{FLAVORS}/1/os-flavor-access")).await.expect(404);
        act(action("removeTenantAccess", "blue")).await.expect(200);
        act(action("removeTenantAccess", "blue")).await.expect(404);
        assert_eq!(seen(cloud.blue("2.1")).await, (false, 404));
    })
    .await;
}

#[tokio::test]
async fn extra_specs() {
    for_each_db(virtual_clock, async |db| {
        let cloud = Cloud::new(&db).await;
        let path = format!("{FLAVORS}/1/os-extra_specs");
        let admin = cloud.admin("2.1");
        let specs = json!({"extra_specs": {"a": "1", "hw:x": 2}});
        cloud.blue("2.1").post(&path, specs.clone()).await.expect(403);
        admin.post(&path, specs).await.expect(200);
        assert_eq!(admin.get(&format!("{path}/hw:x")).await.expect(200).json, json!({"hw:x": "2"}));
        assert_eq!(admin.put(&format!("{path}/a"), json!({"a": "3"})).await.expect(200).json, json!({"a": "3"}));
        admin.put(&format!("{path}/a"), json!({"b": "3"})).await.expect(400);
        admin.delete(&format!("{path}/hw:x")).await.expect(200);
        admin.delete(&format!("{path}/hw:x")).await.expect(404);
        let left = cloud.blue("2.1").get(&path).await.expect(200).json;
        assert_eq!(left, json!({"extra_specs": {"a": "3"}}));
        admin.post(&format!("{FLAVORS}/none/os-extra_specs"), json!({"extra_specs": {}})).await.expect(404);
    })
    .await;
}
