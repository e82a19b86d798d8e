//! Metadata definitions.

use serde_json::{Value, json};

use crate::world::on_each_db;

const NAMESPACES: &str = "/image/v2/metadefs/namespaces";

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn namespaces() {
    on_each_db(|world| async move {
        let (admin, blue, red) = (world.admin(), world.blue(), world.red());
        let body = json!({
            "namespace": "OS::Test", "display_name": "Test", "visibility": "private", "protected": true,
            "owner": "blue", "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "hw_"}],
            "objects": [{"name": "o", "properties": {"p": {"title": "P", "type": "string"}}}],
            "properties": {"cores": {"title": "Cores", "type": "integer"}},
            "tags": [{"name": "one"}],
        });
        blue.post(NAMESPACES, body.clone()).await.expect(403);
        let created = admin.post(NAMESPACES, body.clone()).await.expect(201);
        assert_eq!(created.header("location"), Some("http://nacre.test/image/v2/metadefs/namespaces/OS::Test"));
        admin.post(NAMESPACES, body).await.expect(409);
        let path = format!("{NAMESPACES}/OS::Test");
        let shown = blue.get(&path).await.expect(200).json;
        assert_eq!(shown["resource_type_associations"][0]["prefix"], "hw_");
        assert_eq!((&shown["objects"][0]["name"], &shown["tags"]), (&json!("o"), &json!([{"name": "one"}])));
        assert_eq!(shown["properties"], json!({"cores": {"title": "Cores", "type": "integer"}}));
        let prefixed = blue.get(&format!("{path}?resource_type=OS::Glance::Image")).await.expect(200).json;
        assert!(prefixed["properties"]["hw_cores"].is_object());
        red.get(&path).await.expect(404);
        assert_eq!(red.get(NAMESPACES).await.expect(200).json["namespaces"], json!([]));
        for (query, count) in
            [("visibility=public", 0), ("resource_types=OS::Glance::Image", 1), ("resource_types=x", 0)]
        {
            let list = blue.get(&format!("{NAMESPACES}?{query}")).await.expect(200).json;
            assert_eq!(list["namespaces"].as_array().unwrap().len(), count, "{query}");
        }
        admin.delete(&path).await.expect(403);
        admin.delete(&format!("{path}/tags")).await.expect(403);
        blue.put(&path, json!({"namespace": "OS::Mine"})).await.expect(403);
        let renamed = json!({"namespace": "OS::New", "visibility": "public", "protected": false});
        admin.put(&path, renamed).await.expect(200);
        let shown = red.get(&format!("{NAMESPACES}/OS::New")).await.expect(200).json;
        assert_eq!(shown["tags"], json!([{"name": "one"}]), "what it holds goes with its name");
        admin.delete(&format!("{NAMESPACES}/OS::New")).await.expect(204);
        admin.get(&format!("{NAMESPACES}/OS::New")).await.expect(404);
        for bad in [
            json!({"visibility": "public"}),
            json!({"namespace": "x", "color": 1}),
            json!({"namespace": "x", "visibility": "all"}),
        ] {
            admin.post(NAMESPACES, bad).await.expect(400);
        }
    })
    .await;
}

#[tokio::test]
async fn objects_properties_and_tags() {
    on_each_db(|world| async move {
        let (admin, blue) = (world.admin(), world.blue());
        admin.post(NAMESPACES, json!({"namespace": "n", "visibility": "public"})).await.expect(201);
        let table = [
            ("objects", json!({"name": "a", "description": "d"}), json!({"name": "b"})),
            (
                "properties",
                json!({"name": "a", "title": "A", "type": "string"}),
                json!({"name": "b", "title": "B", "type": "null"}),
            ),
        ];
        for (kind, first, second) in table {
            let path = format!("{NAMESPACES}/n/{kind}");
            blue.post(&path, first.clone()).await.expect(403);
            admin.post(&path, first.clone()).await.expect(201);
            admin.post(&path, first).await.expect(409);
            admin.post(&path, json!({"name": "x", "unknown": 1})).await.expect(400);
            assert_eq!(blue.get(&format!("{path}/a")).await.expect(200).json["name"], "a");
            admin.put(&format!("{path}/a"), second.clone()).await.expect(200);
            admin.put(&format!("{path}/a"), second).await.expect(404);
            let list = blue.get(&path).await.expect(200).json;
            assert!(list[kind].get("b").is_some() || names(&list[kind]) == ["b"], "{list}");
            blue.delete(&format!("{path}/b")).await.expect(403);
            admin.delete(&format!("{path}/b")).await.expect(204);
            admin.delete(&format!("{path}/b")).await.expect(404);
        }
        let tags = format!("{NAMESPACES}/n/tags");
        let three = json!({"tags": [{"name": "1"}, {"name": "2"}, {"name": "3"}]});
        admin.post(&tags, three.clone()).await.expect(201);
        admin.post(&tags, three).await.expect(201);
        admin.post(&format!("{tags}/4"), Value::Null).await.expect(201);
        admin.post(&format!("{tags}/4"), Value::Null).await.expect(409);
        admin.put(&format!("{tags}/4"), json!({"name": "5"})).await.expect(200);
        assert_eq!(names(&blue.get(&tags).await.expect(200).json["tags"]), ["1", "2", "3", "5"]);
        admin.delete(&tags).await.expect(204);
        assert_eq!(blue.get(&tags).await.expect(200).json["tags"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn resource_types_and_schemas() {
    on_each_db(|world| async move {
        let (admin, blue) = (world.admin(), world.blue());
        admin.post(NAMESPACES, json!({"namespace": "n"})).await.expect(201);
        let path = format!("{NAMESPACES}/n/resource_types");
        admin.post(&path, json!({"name": "Mine::Own"})).await.expect(201);
        admin.post(&path, json!({"name": "Mine::Own"})).await.expect(409);
        assert_eq!(names(&admin.get(&path).await.expect(200).json["resource_type_associations"]), ["Mine::Own"]);
        let all = blue.get("/image/v2/metadefs/resource_types").await.expect(200).json;
        assert!(names(&all["resource_types"]).contains(&"Mine::Own"));
        admin.delete(&format!("{path}/Mine::Own")).await.expect(204);
        admin.delete(&format!("{path}/Mine::Own")).await.expect(404);
        for name in ["namespace", "namespaces", "object", "objects", "property", "properties", "tag", "tags"] {
            assert_eq!(blue.get(&format!("/image/v2/schemas/metadefs/{name}")).await.expect(200).json["name"], name);
        }
        blue.get("/image/v2/schemas/metadefs/other").await.expect(404);
    })
    .await;
}
