//! What the doctor finds of what is broken on purpose.

use store::query;

use crate::world::{active, on_each_db, queued};

#[tokio::test]
async fn rows_and_files_that_disagree() {
    on_each_db(|world| async move {
        let blue = world.blue();
        let sound = active(&blue, b"data", "private").await;
        let missing = active(&blue, b"data", "private").await;
        let short = active(&blue, b"data", "private").await;
        let waiting = queued(&blue, "raw", "private").await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        std::fs::remove_file(world.path(&format!("{missing}/1"))).unwrap();
        std::fs::write(world.path(&format!("{short}/1")), b"dat").unwrap();
        std::fs::write(world.path(&format!("{sound}/7.part")), b"x").unwrap();
        std::fs::create_dir(world.path("stray")).unwrap();
        std::fs::write(world.path("stray/1"), b"x").unwrap();
        std::fs::create_dir(world.path(&waiting)).unwrap();
        std::fs::write(world.path(&format!("{waiting}/1")), b"x").unwrap();
        let mut tx = world.db.begin().await.unwrap();
        query("update quota_usages set used = used + 2 where resource = 'image_count_total'")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let mut found = world.doctor().await;
        found.sort();
        let mut expected = vec![
            format!("image {missing}: its file {missing}/1 is missing"),
            format!("image {short}: its file {short}/1 has 3 bytes instead of 4"),
            format!("image file {sound}/7.part: its image has other data"),
            format!("image file {waiting}/1: its image has other data"),
            "image file stray/1: no image has it".to_owned(),
            "quota blue: 6 of image_count_total are recorded, 4 are in use".to_owned(),
        ];
        expected.sort();
        assert_eq!(found, expected);
        image::repair(&world.db, &world.state).await.unwrap();
        let lost: Vec<String> =
            expected.into_iter().filter(|text| text.starts_with("image ") && !text.contains("image file")).collect();
        let mut left = world.doctor().await;
        left.sort();
        assert_eq!(left, lost, "what is lost stays a finding");
    })
    .await;
}
