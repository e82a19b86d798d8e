//! Many servers at once. `NACRE_SCALE` says how many; the times are printed for `bench/`.

use std::time::Instant;

use model::{Clock, id::ProjectId};
use serde_json::json;
use testkit::for_each_db;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_servers_of_one_request() {
    let count: usize = std::env::var("NACRE_SCALE").map_or(20, |n| n.parse().unwrap());
    for_each_db(Clock::system, async |db| {
        let world = World::start(&db).await;
        let mut tx = db.begin().await.unwrap();
        for quota in ["instances", "cores", "ram", "port"] {
            store::quotas::set_limit(&mut tx, &ProjectId::new("blue"), quota, -1).await.unwrap();
        }
        tx.commit().await.unwrap();
        let started = Instant::now();
        let mut request = world.request("web");
        request["server"]["min_count"] = json!(count);
        request["server"]["flavorRef"] = json!("42");
        world.blue().post("/compute/v2.1/servers", request).await.expect(202);
        let accepted = started.elapsed();
        let active = "/compute/v2.1/servers?status=ACTIVE";
        world
            .until("all are active", async || {
                let list = world.blue().get(active).await.expect(200);
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                list.json["servers"].as_array().unwrap().len() == count
            })
            .await;
        println!("{count} servers: accepted after {accepted:?}, active after {:?}", started.elapsed());
        let mut times: Vec<_> = Vec::new();
        for _ in 0..9 {
            let started = Instant::now();
            let detail = world.blue().get("/compute/v2.1/servers/detail").await.expect(200);
            times.push(started.elapsed());
            assert_eq!(detail.json["servers"].as_array().unwrap().len(), count);
        }
        times.sort();
        println!("GET /servers/detail with {count}: {:?} at the median, {:?} at best", times[4], times[0]);
        world.assert_sound().await;
    })
    .await;
}
