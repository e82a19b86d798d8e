//! What the flow does about uploads that nobody carries on, and the crash harness.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use flow::{BoxFuture, Result};
use futures_util::stream;
use image::State;
use model::id::{ImageId, ProjectId};
use store::{
    Db,
    images::{self, Image, Status},
    quotas,
};
use testkit::harness::{self, Options, Rest, Scenario, World as Play};
use tokio::sync::mpsc;

use crate::world::{World, on_each_db, queued, show, upload};

/// As a process leaves an upload that dies in its midst.
async fn die_in_upload(world: &World, id: &str) {
    let id = ImageId::new(id);
    let mut tx = world.db.begin().await.unwrap();
    let generation = images::begin_upload(&mut tx, &id).await.unwrap().unwrap();
    flow::wake(&mut tx, &id);
    tx.commit().await.unwrap();
    std::fs::create_dir_all(world.path(id.as_str())).unwrap();
    std::fs::write(world.path(&format!("{id}/{generation}.part")), b"half").unwrap();
}

#[tokio::test]
async fn an_upload_that_nobody_carries_on() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        die_in_upload(&world, &id).await;
        world.engine.settle().await.unwrap();
        assert_eq!(show(&blue, &id).await.json["status"], "saving");
        upload(&blue, &id, Body::from("x")).await.expect(409);
        assert_eq!(world.doctor().await, Vec::<String>::new(), "an upload may be under way");
        world.db.clock().advance(Duration::from_secs(200));
        world.engine.settle().await.unwrap();
        assert_eq!(show(&blue, &id).await.json["status"], "queued");
        assert_eq!(world.files(), Vec::<String>::new());
        upload(&blue, &id, Body::from("again")).await.expect(204);
        assert_eq!(world.files(), [format!("{id}/2")]);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

/// A body that is fed as the test goes.
fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), receiver))
    });
    (sender, Body::from_stream(pieces))
}

#[tokio::test]
async fn an_upload_that_was_given_up_never_becomes_the_data() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        let (sender, body) = fed();
        let slow = tokio::spawn({
            let (blue, id) = (blue.clone(), id.clone());
            async move { upload(&blue, &id, body).await }
        });
        sender.send(Bytes::from(vec![1; 70_000])).await.unwrap();
        sender.send(Bytes::from(vec![1; 70_000])).await.unwrap();
        world.db.clock().advance(Duration::from_secs(200));
        world.engine.settle().await.unwrap();
        assert_eq!(show(&blue, &id).await.json["status"], "queued");
        upload(&blue, &id, Body::from("the second")).await.expect(204);
        drop(sender);
        let answer = slow.await.unwrap();
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{}", answer.status);
        assert_eq!(&blue.get(&format!("/image/v2/images/{id}/file")).await.expect(200).body[..], b"the second");
        assert_eq!(world.files(), [format!("{id}/2")]);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn an_image_that_is_deleted_while_data_arrives() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let id = queued(&blue, "raw", "private").await;
        let (sender, body) = fed();
        let slow = tokio::spawn({
            let (blue, id) = (blue.clone(), id.clone());
            async move { upload(&blue, &id, body).await }
        });
        sender.send(Bytes::from(vec![1; 70_000])).await.unwrap();
        sender.send(Bytes::from(vec![1; 70_000])).await.unwrap();
        blue.delete(&format!("/image/v2/images/{id}")).await.expect(204);
        drop(sender);
        slow.await.unwrap().expect(410);
        world.engine.settle().await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

/// An image that is being saved by a process that has just died.
struct Dead {
    folder: tempfile::TempDir,
}

const ID: &str = "0f9c9a80-7c2b-4b62-9a4e-9dbb0f0b9d0f";

impl Dead {
    fn image(&self) -> PathBuf {
        self.folder.path().join(ID)
    }
}

impl Play for Dead {
    fn set_reachable<'a>(&'a self, db: &'a Db, reachable: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // Root writes where it likes: what can't be removed is a folder that is no folder.
            let (real, away) = (self.folder.path().to_owned(), self.folder.path().with_extension("away"));
            if reachable && away.exists() {
                std::fs::remove_file(&real).unwrap();
                std::fs::rename(&away, &real).unwrap();
            } else if !reachable {
                std::fs::rename(&real, &away).unwrap();
                std::fs::write(&real, b"").unwrap();
            }
            let mut tx = db.begin().await?;
            flow::wake(&mut tx, ID);
            Ok(tx.commit().await?)
        })
    }

    fn delete<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut tx = db.begin().await?;
            if images::mark_deleted(&mut tx, &ImageId::new(ID)).await? {
                quotas::release(&mut tx, &ProjectId::new("p"), images::COUNT_QUOTA, 1).await?;
            }
            flow::wake(&mut tx, ID);
            Ok(tx.commit().await?)
        })
    }

    fn check<'a>(&'a self, db: &'a Db, rest: Rest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let image = images::get(&mut db.read().await.unwrap(), &ImageId::new(ID)).await.unwrap();
            let files = std::fs::read_dir(self.image()).map_or(0, Iterator::count);
            let found = (image.map(|image| image.status), files);
            let wanted = match rest {
                Rest::Settled => (Some(Status::Queued), 0),
                Rest::Deleted => (None, 0),
            };
            if found == wanted { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
        })
    }
}

#[tokio::test]
async fn the_flow_survives_everything() {
    let report = harness::run(&Options::default(), |db| {
        Box::pin(async move {
            let world = Arc::new(Dead { folder: tempfile::tempdir().unwrap() });
            let state = State::open(world.folder.path()).await.unwrap();
            let id = ImageId::new(ID);
            let mut tx = db.begin().await.unwrap();
            let now = tx.now();
            images::insert(&mut tx, &Image::new(id.clone(), ProjectId::new("p"), now)).await.unwrap();
            images::begin_upload(&mut tx, &id).await.unwrap();
            flow::insert(&mut tx, &id, "image", "rest", None).await.unwrap();
            tx.commit().await.unwrap();
            std::fs::create_dir_all(world.image()).unwrap();
            std::fs::write(world.image().join("1.part"), b"half").unwrap();
            Scenario { machines: image::machines(state), world }
        })
    })
    .await;
    println!("{} plays, {} steps", report.plays, report.trace.len());
}
