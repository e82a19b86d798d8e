//! Members of shared images.

use serde_json::json;

use crate::world::{active, on_each_db, queued, show};

#[tokio::test]
async fn a_member_from_beginning_to_end() {
    on_each_db(|world| async move {
        let (blue, red, green) = (world.blue(), world.red(), world.user("member", "green"));
        let id = active(&blue, b"data", "shared").await;
        let members = format!("/image/v2/images/{id}/members");
        let added = blue.post(&members, json!({"member": "red"})).await.expect(200).json;
        assert_eq!(
            added,
            json!({
                "image_id": id, "member_id": "red", "status": "pending", "schema": "/v2/schemas/member",
                "created_at": "2026-01-01T12:00:00Z", "updated_at": "2026-01-01T12:00:00Z"
            })
        );
        blue.post(&members, json!({"member": "red"})).await.expect(409);
        blue.post(&members, json!({"member": ""})).await.expect(400);
        blue.post(&members, json!({"project": "red"})).await.expect(400);
        blue.post(&members, json!({"member": "green"})).await.expect(200);
        // A member reads the image and its data, and sees itself, not the others.
        show(&red, &id).await.expect(200);
        assert_eq!(&red.get(&format!("/image/v2/images/{id}/file")).await.expect(200).body[..], b"data");
        let list = red.get(&members).await.expect(200).json;
        assert_eq!((list["members"].as_array().unwrap().len(), &list["schema"]), (1, &json!("/v2/schemas/members")));
        red.get(&format!("{members}/green")).await.expect(404);
        assert_eq!(blue.get(&members).await.expect(200).json["members"].as_array().unwrap().len(), 2);
        // Each speaks for itself; the owner for nobody.
        let one = format!("{members}/red");
        red.put(&one, json!({"status": "perhaps"})).await.expect(400);
        assert_eq!(red.put(&one, json!({"status": "accepted"})).await.expect(200).json["status"], "accepted");
        green.put(&one, json!({"status": "rejected"})).await.expect(404);
        blue.put(&one, json!({"status": "rejected"})).await.expect(403);
        // A member can't share on, and can't leave by deleting.
        red.post(&members, json!({"member": "yellow"})).await.expect(403);
        red.delete(&one).await.expect(403);
        blue.delete(&one).await.expect(204);
        blue.delete(&one).await.expect(404);
        show(&red, &id).await.expect(404);
        // Members go with the image.
        blue.delete(&format!("/image/v2/images/{id}")).await.expect(204);
        world.engine.settle().await.unwrap();
        green.get(&members).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn only_shared_images_have_members() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        let members = format!("/image/v2/images/{id}/members");
        blue.post(&members, json!({"member": "red"})).await.expect(403);
        blue.get(&members).await.expect(403);
    })
    .await;
}

#[tokio::test]
async fn members_have_a_limit() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "shared").await;
        let members = format!("/image/v2/images/{id}/members");
        for n in 0..128 {
            blue.post(&members, json!({"member": format!("p{n}")})).await.expect(200);
        }
        blue.post(&members, json!({"member": "one-more"})).await.expect(413);
    })
    .await;
}
