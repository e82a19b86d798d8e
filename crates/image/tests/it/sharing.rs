//! Who may do what to whose images: every operation on an image of each visibility, by everyone.

use axum::body::Body;
use http::Method;
use serde_json::json;
use testkit::Client;

use crate::world::{active, on_each_db, patch, show, upload};

#[tokio::test]
async fn other_projects_images() {
    on_each_db(|world| async move {
        // visibility -> what a member of another project gets for reading and for writing
        for (visibility, reads, writes) in
            [("private", 404, 404), ("shared", 404, 404), ("community", 200, 403), ("public", 200, 403)]
        {
            let owner = if visibility == "public" { world.admin() } else { world.blue() };
            let id = active(&owner, b"data", visibility).await;
            let red = world.red();
            show(&red, &id).await.expect(reads);
            let path = format!("/image/v2/images/{id}");
            red.get(&format!("{path}/file")).await.expect(reads);
            patch(&red, &id, json!([])).await.expect(writes);
            red.delete(&path).await.expect(writes);
            upload(&red, &id, Body::from("x")).await.expect(writes);
            red.send(Method::PUT, &format!("{path}/tags/x"), None).await.expect(writes);
            red.delete(&format!("{path}/tags/x")).await.expect(writes);
            red.send(Method::POST, &format!("{path}/actions/deactivate"), None).await.expect(writes);
            red.send(Method::POST, &format!("{path}/actions/reactivate"), None).await.expect(writes);
            red.get(&format!("{path}/members")).await.expect(writes);
            red.get(&format!("{path}/members/red")).await.expect(writes);
            red.post(&format!("{path}/members"), json!({"member": "red"})).await.expect(writes);
            red.put(&format!("{path}/members/red"), json!({"status": "accepted"})).await.expect(writes);
            red.delete(&format!("{path}/members/red")).await.expect(writes);
            assert_eq!(show(&owner, &id).await.expect(200).json["status"], "active");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_and_other_scopes() {
    on_each_db(|world| async move {
        let id = active(&world.blue(), b"data", "community").await;
        let paths =
            ["/image/v2/images".to_owned(), format!("/image/v2/images/{id}"), format!("/image/v2/images/{id}/file")];
        for path in paths {
            world.nobody().get(&path).await.expect(401);
            world.user("admin", "system:all").get(&path).await.expect(403);
            world.user("service", "blue").get(&path).await.expect(403);
        }
        // A reader reads the record, and not the data.
        let reader = world.user("reader", "blue");
        show(&reader, &id).await.expect(200);
        reader.get(&format!("/image/v2/images/{id}/file")).await.expect(403);
    })
    .await;
}

fn ids(list: &testkit::Response) -> Vec<String> {
    list.json["images"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
}

async fn listed(client: &Client, query: &str) -> Vec<String> {
    let mut ids = ids(&client.get(&format!("/image/v2/images{query}")).await.expect(200));
    ids.sort();
    ids
}

#[tokio::test]
async fn lists_show_what_is_visible() {
    on_each_db(|world| async move {
        let (blue, red, admin) = (world.blue(), world.red(), world.admin());
        let private = active(&blue, b"1", "private").await;
        let shared = active(&blue, b"2", "shared").await;
        let community = active(&blue, b"3", "community").await;
        let public = active(&admin, b"4", "public").await;
        let sorted = |ids: &[&String]| {
            let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
            ids.sort();
            ids
        };
        assert_eq!(listed(&blue, "").await, sorted(&[&private, &shared, &community, &public]));
        assert_eq!(listed(&red, "").await, sorted(&[&public]));
        assert_eq!(listed(&red, "?visibility=all").await, sorted(&[&public, &community]));
        assert_eq!(listed(&red, "?visibility=community").await, sorted(&[&community]));
        assert_eq!(listed(&red, "?visibility=private").await, sorted(&[]));
        assert_eq!(listed(&red, "?owner=blue").await, sorted(&[]));
        assert_eq!(listed(&admin, "").await, sorted(&[&private, &shared, &public]));
        assert_eq!(listed(&admin, "?visibility=all").await, sorted(&[&private, &shared, &community, &public]));
        let path = format!("/image/v2/images/{shared}/members");
        blue.post(&path, json!({"member": "red"})).await.expect(200);
        assert_eq!(listed(&red, "").await, sorted(&[&public]), "not before it is accepted");
        assert_eq!(listed(&red, "?visibility=shared&member_status=pending").await, sorted(&[&shared]));
        red.put(&format!("{path}/red"), json!({"status": "accepted"})).await.expect(200);
        assert_eq!(listed(&red, "").await, sorted(&[&public, &shared]));
        assert_eq!(listed(&red, "?member_status=all&visibility=shared").await, sorted(&[&shared]));
        patch(&blue, &shared, json!([{"op": "replace", "path": "/visibility", "value": "private"}])).await.expect(200);
        assert_eq!(
            listed(&red, "?member_status=all").await,
            sorted(&[&public]),
            "members of what is private see nothing"
        );
        show(&red, &shared).await.expect(404);
    })
    .await;
}
