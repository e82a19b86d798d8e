//! Tags, and lists by them.

use serde_json::json;

use crate::{create, id, ids, in_a_cloud, path, show};

#[tokio::test]
async fn tags_and_lists_by_them() {
    in_a_cloud(|world| async move {
        let mut networks = Vec::new();
        for tags in [vec!["red", "round"], vec!["red"], vec![]] {
            let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
            world.blue.put(&path(&format!("networks/{network}/tags")), json!({ "tags": tags })).await.expect(200);
            networks.push(network);
        }
        let [both, red, none] = [networks[0].as_str(), networks[1].as_str(), networks[2].as_str()];
        for (query, expected) in [
            ("tags=red", vec![both, red]),
            ("tags=red,round", vec![both]),
            ("tags-any=round,square", vec![both]),
            ("not-tags=red,round", vec![red, none]),
            ("not-tags-any=red", vec![none]),
        ] {
            let mut found = ids(&world.blue, &format!("networks?project_id=blue&{query}")).await;
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{query}");
        }
        let at = |rest: &str| path(&format!("networks/{none}/tags{rest}"));
        world.blue.put(&at("/blue"), json!({})).await.expect(201);
        world.blue.put(&at("/blue"), json!({})).await.expect(201);
        assert_eq!(show(&world.blue, &format!("networks/{none}")).await["tags"], json!(["blue"]));
        world.blue.get(&at("/blue")).await.expect(204);
        world.blue.get(&at("/green")).await.expect(404);
        world.red.get(&at("")).await.expect(404);
        world.red.put(&at("/mine"), json!({})).await.expect(404);
        world.reader.put(&at("/mine"), json!({})).await.expect(403);
        world.blue.put(&at(""), json!({"tags": ["a,b"]})).await.expect(400);
        world.blue.delete(&at("/blue")).await.expect(204);
        world.blue.delete(&at("/blue")).await.expect(404);
        world.blue.delete(&at("")).await.expect(204);
        assert_eq!(world.blue.get(&at("")).await.expect(200).json, json!({"tags": []}));
    })
    .await;
}
