//! Upload and download.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use model::id::ProjectId;
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};
use store::{images, quotas};
use testkit::Client;

use crate::world::{World, active, on_each_db, queued, show, upload};

/// The first 64 KiB of a sound qcow2 file of 1 GiB.
fn qcow2() -> Vec<u8> {
    let mut head = vec![0; 64 << 10];
    head[..4].copy_from_slice(b"QFI\xfb");
    head[4..8].copy_from_slice(&3u32.to_be_bytes());
    head[20..24].copy_from_slice(&16u32.to_be_bytes());
    head[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    head[96..100].copy_from_slice(&4u32.to_be_bytes());
    head[100..104].copy_from_slice(&104u32.to_be_bytes());
    head
}

async fn file(client: &Client, id: &str) -> testkit::Response {
    client.get(&format!("/image/v2/images/{id}/file")).await
}

#[tokio::test]
async fn upload_and_download() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "qcow2", "private").await;
        assert!(file(&blue, &id).await.expect(204).body.is_empty(), "no data yet");
        // In pieces of awkward sizes, the header across several of them.
        let content = [qcow2(), vec![5; 300_001]].concat();
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            content.chunks(7_919).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        upload(&blue, &id, Body::from_stream(stream::iter(pieces))).await.expect(204);
        let image = show(&blue, &id).await.expect(200).json;
        assert_eq!(
            (&image["status"], &image["size"], &image["virtual_size"]),
            (&json!("active"), &json!(content.len()), &json!(1 << 30))
        );
        assert_eq!(image["checksum"].as_str().unwrap().len(), 32);
        assert_eq!(
            (&image["os_hash_algo"], &image["os_hash_value"]),
            (&json!("sha512"), &json!(hex::encode(Sha512::digest(&content))))
        );
        let row = images::get(&mut world.db.read().await.unwrap(), &id.as_str().into()).await.unwrap().unwrap();
        assert_eq!(row.sha256, Some(hex::encode(Sha256::digest(&content))));
        assert_eq!(std::fs::read(world.path(&row.file.unwrap())).unwrap(), content);
        let data = file(&blue, &id).await.expect(200);
        assert_eq!(data.body, content);
        assert_eq!(data.header("content-md5"), image["checksum"].as_str());
        assert_eq!(data.header("content-type"), Some("application/octet-stream"));
        assert_eq!(data.header("content-length"), Some(content.len().to_string().as_str()));
        upload(&blue, &id, Body::from(content)).await.expect(409);
        assert_eq!(world.files(), [format!("{id}/1")]);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn parts_of_a_file() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = active(&blue, b"0123456789", "private").await;
        let part = |range: &'static str| {
            let client = blue.clone().header("range", range);
            let id = id.clone();
            async move { file(&client, &id).await }
        };
        let middle = part("bytes=2-4").await.expect(206);
        assert_eq!((&middle.body[..], middle.header("content-range")), (&b"234"[..], Some("bytes 2-4/10")));
        assert_eq!(&part("bytes=-3").await.expect(206).body[..], b"789");
        assert_eq!(part("bytes=10-").await.expect(416).header("content-range"), Some("bytes */10"));
        assert_eq!(&part("bytes=0-1,3-4").await.expect(200).body[..], b"0123456789");
    })
    .await;
}

#[tokio::test]
async fn an_empty_raw_image() {
    on_each_db(|world| async move {
        let id = active(&world.blue(), b"", "private").await;
        assert_eq!(show(&world.blue(), &id).await.json["size"], 0);
        assert!(file(&world.blue(), &id).await.expect(200).body.is_empty());
    })
    .await;
}

/// The head of a sparse vmdk file of a disk of 1 MiB.
fn vmdk() -> Vec<u8> {
    let text = "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 2048 SPARSE \"x\"\n";
    let mut head = vec![0; 4096];
    head[..4].copy_from_slice(b"KDMV");
    head[12..20].copy_from_slice(&2048_u64.to_le_bytes());
    head[28] = 1;
    head[36] = 4;
    head[512..512 + text.len()].copy_from_slice(text.as_bytes());
    head
}

/// Refused, and nothing left: neither on disk nor in the quota; and the image can be tried again.
async fn refused(world: &World, format: &str, body: Body, status: u16, why: &str) {
    let blue = world.blue();
    let id = queued(&blue, format, "private").await;
    let answer = upload(&blue, &id, body).await.expect(status);
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains(why), "{message}");
    assert_eq!(show(&blue, &id).await.json["status"], "queued");
    assert_eq!(world.files(), Vec::<String>::new());
    let good = match format {
        "qcow2" => qcow2(),
        "vmdk" => vmdk(),
        _ => vec![1; 512],
    };
    upload(&blue, &id, Body::from(good)).await.expect(204);
    assert_eq!(world.doctor().await, Vec::<String>::new());
    blue.delete(&format!("/image/v2/images/{id}")).await.expect(204);
    world.engine.settle().await.unwrap();
}

#[tokio::test]
async fn hostile_files() {
    on_each_db(|world| async move {
        let mut backed = qcow2();
        backed[8..16].copy_from_slice(&512u64.to_be_bytes());
        backed[16..20].copy_from_slice(&11u32.to_be_bytes());
        backed[512..523].copy_from_slice(b"/etc/passwd");
        let mut outside = qcow2();
        outside[72..80].copy_from_slice(&4u64.to_be_bytes());
        // What comes after the head must not matter: it is refused before.
        backed.extend(vec![0; 1 << 20]);
        refused(&world, "qcow2", Body::from(backed), 415, "backing file").await;
        refused(&world, "qcow2", Body::from(outside), 415, "external data file").await;
        refused(&world, "qcow2", Body::from(vec![7; 1024]), 415, "the content is raw").await;
        refused(&world, "qcow2", Body::empty(), 415, "the content is empty").await;
        refused(&world, "raw", Body::from(qcow2()), 415, "the content is qcow2").await;
        refused(&world, "vmdk", Body::from(qcow2()), 415, "declared as vmdk").await;
    })
    .await;
}

#[tokio::test]
async fn uploads_that_break_off() {
    on_each_db(|world| async move {
        let broken = |after: usize| {
            let end = Err(std::io::Error::other("the client is gone"));
            let pieces = (0..after).map(|_| Ok(Bytes::from(vec![3; 100_000])));
            Body::from_stream(stream::iter(pieces.chain([end]).collect::<Vec<_>>()))
        };
        refused(&world, "raw", broken(0), 400, "broke off").await;
        refused(&world, "raw", broken(5), 400, "broke off").await;
    })
    .await;
}

#[tokio::test]
async fn sizes_that_do_not_fit() {
    on_each_db(|world| async move {
        let mut tx = world.db.begin().await.unwrap();
        quotas::set_limit(&mut tx, &ProjectId::new("blue"), images::SIZE_QUOTA, 2).await.unwrap();
        quotas::set_limit(&mut tx, &ProjectId::new("blue"), images::COUNT_QUOTA, 3).await.unwrap();
        tx.commit().await.unwrap();
        let streamed =
            || Body::from_stream(stream::iter((0..30).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![3; 100_000])))));
        refused(&world, "raw", streamed(), 413, "larger than").await;
        let blue = world.blue();
        let announced = queued(&blue.clone(), "raw", "private").await;
        upload(&blue.clone().header("x-openstack-image-size", "5000000"), &announced, Body::empty()).await.expect(413);
        upload(&blue.clone().header("x-openstack-image-size", "7"), &announced, Body::from("12345678"))
            .await
            .expect(400);
        upload(&blue.clone().header("x-openstack-image-size", "many"), &announced, Body::empty()).await.expect(400);
        upload(&blue, &announced, Body::from(vec![1; 2 << 20])).await.expect(204);
        let second = queued(&blue, "raw", "private").await;
        upload(&blue, &second, Body::from("x")).await.expect(413);
        queued(&blue, "raw", "private").await;
        blue.post("/image/v2/images", json!({})).await.expect(413);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_an_upload_needs() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        let path = format!("/image/v2/images/{id}/file");
        blue.send_body(Method::PUT, &path, Some("application/json"), Body::from("{}")).await.expect(415);
        upload(&world.red(), &id, Body::from("x")).await.expect(404);
        upload(&world.user("reader", "blue"), &id, Body::from("x")).await.expect(403);
        let formless = blue.post("/image/v2/images", json!({})).await.json["id"].as_str().unwrap().to_owned();
        upload(&blue, &formless, Body::from("x")).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn deactivated_data_is_withheld() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = active(&blue, b"data", "private").await;
        let action = |client: Client, verb: &'static str| {
            let path = format!("/image/v2/images/{id}/actions/{verb}");
            async move { client.send(Method::POST, &path, None).await }
        };
        action(world.red(), "deactivate").await.expect(404);
        action(blue.clone(), "deactivate").await.expect(204);
        action(blue.clone(), "deactivate").await.expect(204);
        assert_eq!(show(&blue, &id).await.json["status"], "deactivated");
        file(&blue, &id).await.expect(403);
        assert_eq!(&file(&world.admin(), &id).await.expect(200).body[..], b"data");
        action(blue.clone(), "reactivate").await.expect(204);
        assert_eq!(&file(&blue, &id).await.expect(200).body[..], b"data");
        let queued = queued(&blue, "raw", "private").await;
        let path = format!("/image/v2/images/{queued}/actions/deactivate");
        blue.send(Method::POST, &path, None).await.expect(403);
    })
    .await;
}
