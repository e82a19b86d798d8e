//! Data that hosts deliver.

use hostlink::{ImageAnnouncement, server::ImageReader};
use model::{
    ErrorKind, Timestamp,
    id::{FlowId, HostId, ImageId, ProjectId},
};
use sha2::{Digest, Sha256};
use store::images::{self, Image, Status, deliveries};

use crate::world::{World, on_each_db, show};

fn announce(image: &ImageId, data: &[u8]) -> ImageAnnouncement {
    ImageAnnouncement {
        host_id: String::new(),
        image_id: image.to_string(),
        size_bytes: data.len() as u64,
        sha256: hex::encode(Sha256::digest(data)),
    }
}

/// A snapshot that is expected of the host `h`, as compute's transaction leaves it.
async fn expected(world: &World) -> ImageId {
    let id = ImageId::random();
    let mut image = Image::new(id.clone(), ProjectId::new("blue"), Timestamp(0));
    image.disk_format = Some("qcow2".into());
    image.container_format = Some("bare".into());
    let mut tx = world.db.begin().await.unwrap();
    deliveries::create(&mut tx, &image).await.unwrap();
    deliveries::expect(&mut tx, &id, &HostId::new("h"), &FlowId::new("server")).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// A small but whole qcow2 header.
fn qcow2() -> Vec<u8> {
    let mut head = vec![0; 70_000];
    head[..4].copy_from_slice(b"QFI\xfb");
    head[4..8].copy_from_slice(&3u32.to_be_bytes());
    head[20..24].copy_from_slice(&16u32.to_be_bytes());
    head[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    head[96..100].copy_from_slice(&4u32.to_be_bytes());
    head[100..104].copy_from_slice(&104u32.to_be_bytes());
    head
}

fn reader(data: &[u8]) -> ImageReader {
    Box::pin(std::io::Cursor::new(data.to_vec()))
}

#[tokio::test]
async fn a_host_delivers_what_was_expected_of_it() {
    on_each_db(|world| async move {
        let intake = image::intake(world.db.clone(), world.state.clone());
        let (id, data) = (expected(&world).await, qcow2());
        let announced = announce(&id, &data);
        let other = intake.take_in(&HostId::new("other"), &announced, reader(&data)).await.unwrap_err();
        assert_eq!(other.kind, ErrorKind::NotFound);
        // Broken off, then changed on the way, then whole: each begins anew.
        let host = HostId::new("h");
        assert!(intake.take_in(&host, &announced, reader(&data[..66_000])).await.is_err());
        let mut changed = data.clone();
        changed[69_999] = 1;
        assert_eq!(intake.take_in(&host, &announced, reader(&changed)).await.unwrap_err().code, "HashMismatch");
        assert_eq!(world.files(), Vec::<String>::new());
        assert_eq!(show(&world.blue(), id.as_str()).await.json["status"], "queued");
        intake.take_in(&host, &announced, reader(&data)).await.unwrap();
        let shown = show(&world.blue(), id.as_str()).await.json;
        assert_eq!(
            (&shown["status"], &shown["size"], &shown["virtual_size"]),
            (&"active".into(), &70_000.into(), &(1 << 30).into())
        );
        assert_eq!(world.files(), [format!("{id}/3")]);
        assert_eq!(world.doctor().await, Vec::<String>::new());
        assert!(intake.take_in(&host, &announced, reader(&data)).await.is_err(), "it has its data");
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_for_good_says_so() {
    on_each_db(|world| async move {
        let intake = image::intake(world.db.clone(), world.state.clone());
        let (id, host) = (expected(&world).await, HostId::new("h"));
        let raw = vec![1; 100_000];
        let refused = intake.take_in(&host, &announce(&id, &raw), reader(&raw)).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::UnsupportedMedia);
        let mut conn = world.db.read().await.unwrap();
        let delivery = deliveries::get(&mut conn, &id).await.unwrap().unwrap();
        assert!(delivery.refusal.contains("declared as qcow2"), "{}", delivery.refusal);
        assert_eq!(images::get(&mut conn, &id).await.unwrap().unwrap().status, Status::Queued);
        assert_eq!(world.files(), Vec::<String>::new());
    })
    .await;
}
