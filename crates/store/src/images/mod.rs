//! Tables `images`, `image_properties`, `image_tags`, `image_members`.
//!
//! An image's row says what the API shows and, once there is data, in which file it lies ([`Image::file`], relative to
//! the image directory): compute reads it from here and hands the file to agents.
//!
//! **Uploads and generations.** [`begin_upload`] raises the row's generation; the upload writes files that carry it in
//! their names; every later verb ([`touch_upload`], [`finish_upload`], [`abandon_upload`]) changes the row only while
//! that generation is still the newest and still being saved. An upload that was given up can therefore never become
//! the data, and a file tells by its name alone whether anyone still needs it.

pub mod deliveries;
mod list;
mod members;
pub mod metadefs;
pub(crate) mod row;
pub mod tasks;

use model::{
    Timestamp,
    id::{ImageId, ProjectId},
};
use sqlx::AssertSqlSafe;

use crate::{Conn, Result, RowExt, Tx, events, query};

pub use list::{Column, Comparison, Condition, Filter, SORTS, Shown, Viewer, list};
pub use members::{
    Member, MemberStatus, count_members, delete_member, get_member, insert_member, list_members, set_member_status,
};
pub use row::{Image, Status, Visibility};

/// One image, whatever its status.
pub async fn get(conn: &mut Conn, id: &ImageId) -> Result<Option<Image>> {
    let row = query("select i.* from images i where i.id = $1").bind(id.as_str()).fetch_optional(&mut *conn).await?;
    match row {
        Some(row) => Ok(row::with_details(conn, vec![Image::from_row(&row)?]).await?.pop()),
        None => Ok(None),
    }
}

/// As [`get`], keeping other writers away from the row until the transaction ends.
pub async fn get_for_update(tx: &mut Tx, id: &ImageId) -> Result<Option<Image>> {
    let sql = format!("select id from images where id = $1{}", tx.db().dialect().for_update());
    query(AssertSqlSafe(sql)).bind(id.as_str()).fetch_optional(&mut **tx).await?;
    get(tx, id).await
}

/// Inserts an image that has no data yet. A taken id is a unique violation.
pub async fn insert(tx: &mut Tx, image: &Image) -> Result<()> {
    query(
        "insert into images (id, owner, name, status, visibility, disk_format, container_format, min_disk, min_ram, \
         protected, hidden, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(image.id.as_str())
    .bind(image.owner.as_str())
    .bind(image.name.as_deref())
    .bind(image.status.as_str())
    .bind(image.visibility.as_str())
    .bind(image.disk_format.as_deref())
    .bind(image.container_format.as_deref())
    .bind(image.min_disk)
    .bind(image.min_ram)
    .bind(i64::from(image.protected))
    .bind(i64::from(image.hidden))
    .bind(image.created_at.0)
    .bind(image.updated_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::IMAGE, &image.id);
    insert_details(tx, image).await
}

/// Writes what clients may change: everything but the data and its upload. Read the row with [`get_for_update`] first.
pub async fn update(tx: &mut Tx, image: &Image) -> Result<()> {
    query(
        "update images set owner = $2, name = $3, visibility = $4, disk_format = $5, container_format = $6, \
         min_disk = $7, min_ram = $8, protected = $9, hidden = $10, updated_at = $11 where id = $1",
    )
    .bind(image.id.as_str())
    .bind(image.owner.as_str())
    .bind(image.name.as_deref())
    .bind(image.visibility.as_str())
    .bind(image.disk_format.as_deref())
    .bind(image.container_format.as_deref())
    .bind(image.min_disk)
    .bind(image.min_ram)
    .bind(i64::from(image.protected))
    .bind(i64::from(image.hidden))
    .bind(image.updated_at.0)
    .execute(&mut **tx)
    .await?;
    query("delete from image_properties where image_id = $1").bind(image.id.as_str()).execute(&mut **tx).await?;
    query("delete from image_tags where image_id = $1").bind(image.id.as_str()).execute(&mut **tx).await?;
    events::updated(tx, events::IMAGE, &image.id);
    insert_details(tx, image).await
}

async fn insert_details(tx: &mut Tx, image: &Image) -> Result<()> {
    for (name, value) in &image.properties {
        query("insert into image_properties (image_id, name, value) values ($1, $2, $3)")
            .bind(image.id.as_str())
            .bind(name.as_str())
            .bind(value.as_str())
            .execute(&mut **tx)
            .await?;
    }
    for tag in &image.tags {
        query("insert into image_tags (image_id, tag) values ($1, $2)")
            .bind(image.id.as_str())
            .bind(tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Begins an upload: its generation, or none where the image does not wait for data.
pub async fn begin_upload(tx: &mut Tx, id: &ImageId) -> Result<Option<i64>> {
    let now = tx.now();
    let row = query(
        "update images set status = 'saving', generation = generation + 1, upload_seen = $2, updated_at = $2 \
         where id = $1 and status = 'queued' returning generation",
    )
    .bind(id.as_str())
    .bind(now.0)
    .fetch_optional(&mut **tx)
    .await?;
    if row.is_some() {
        events::updated(tx, events::IMAGE, id);
    }
    row.map(|row| row.int("generation")).transpose()
}

/// Notes that the upload is alive. False: it has been given up, or the image is gone.
pub async fn touch_upload(tx: &mut Tx, id: &ImageId, generation: i64) -> Result<bool> {
    let now = tx.now();
    let done = query("update images set upload_seen = $3 where id = $1 and generation = $2 and status in ('saving', 'uploading', 'importing')")
        .bind(id.as_str())
        .bind(generation)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// What is known of an image's data once all of it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The file, relative to the image directory.
    pub file: String,
    /// Bytes of the file.
    pub size: i64,
    /// Bytes of the disk that a guest sees, where the format tells.
    pub virtual_size: Option<i64>,
    /// MD5, hex.
    pub checksum: String,
    /// Which hash the API shows: `sha512`.
    pub hash_algo: &'static str,
    /// That hash, hex.
    pub hash_value: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// The disk format that the data was converted to; none where it is as it came.
    pub format: Option<String>,
}

/// Makes the upload the image's data. False: it has been given up, or the image is gone.
pub async fn finish_upload(tx: &mut Tx, id: &ImageId, generation: i64, data: &Data) -> Result<bool> {
    let now = tx.now();
    let done = query(
        "update images set import_state = case when status = 'importing' then 'done' else import_state end, \
         disk_format = coalesce($11, disk_format), status = 'active', upload_seen = null, staged = null, file = $3, size = $4, virtual_size = $5, \
         checksum = $6, hash_algo = $7, hash_value = $8, sha256 = $9, updated_at = $10 \
         where id = $1 and generation = $2 and status in ('saving', 'importing')",
    )
    .bind(id.as_str())
    .bind(generation)
    .bind(data.file.as_str())
    .bind(data.size)
    .bind(data.virtual_size)
    .bind(data.checksum.as_str())
    .bind(data.hash_algo)
    .bind(data.hash_value.as_str())
    .bind(data.sha256.as_str())
    .bind(now.0)
    .bind(data.format.as_deref())
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() > 0 {
        events::updated(tx, events::IMAGE, id);
    }
    Ok(done.rows_affected() > 0)
}

/// Gives an upload up that was last heard of before `unseen_since`: the image waits for data again. False: it is alive,
/// or was ended otherwise.
pub async fn abandon_upload(tx: &mut Tx, id: &ImageId, generation: i64, unseen_since: Timestamp) -> Result<bool> {
    let now = tx.now();
    let done = query(
        "update images set import_state = case when status = 'importing' then 'failed' else import_state end, \
         status = 'queued', staged = null, upload_seen = null, updated_at = $4 \
         where id = $1 and generation = $2 and status in ('saving', 'uploading', 'importing') and upload_seen <= $3",
    )
    .bind(id.as_str())
    .bind(generation)
    .bind(unseen_since.0)
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() > 0 {
        events::updated(tx, events::IMAGE, id);
    }
    Ok(done.rows_affected() > 0)
}

/// Changes the status where it is `from`. False: it is another.
pub async fn set_status(tx: &mut Tx, id: &ImageId, from: Status, to: Status) -> Result<bool> {
    let now = tx.now();
    let done = query("update images set status = $3, updated_at = $4 where id = $1 and status = $2")
        .bind(id.as_str())
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() > 0 {
        events::updated(tx, events::IMAGE, id);
    }
    Ok(done.rows_affected() > 0)
}

/// Notes the wish that the image be gone: no list shows it any more, its flow removes the files and then the row.
pub async fn mark_deleted(tx: &mut Tx, id: &ImageId) -> Result<bool> {
    let now = tx.now();
    let done = query("update images set status = 'deleted', updated_at = $2 where id = $1 and status <> 'deleted'")
        .bind(id.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() > 0 {
        events::deleted(tx, events::IMAGE, id).await?;
    }
    Ok(done.rows_affected() > 0)
}

/// Removes the row with all that hangs on it.
pub async fn remove(tx: &mut Tx, id: &ImageId) -> Result<()> {
    query("delete from images where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Adds a tag; one that is there stays.
pub async fn insert_tag(tx: &mut Tx, id: &ImageId, tag: &str) -> Result<()> {
    query("insert into image_tags (image_id, tag) values ($1, $2) on conflict (image_id, tag) do nothing")
        .bind(id.as_str())
        .bind(tag)
        .execute(&mut **tx)
        .await?;
    touch(tx, id).await
}

/// Removes a tag. False: there was none.
pub async fn delete_tag(tx: &mut Tx, id: &ImageId, tag: &str) -> Result<bool> {
    let done = query("delete from image_tags where image_id = $1 and tag = $2")
        .bind(id.as_str())
        .bind(tag)
        .execute(&mut **tx)
        .await?;
    touch(tx, id).await?;
    Ok(done.rows_affected() > 0)
}

async fn touch(tx: &mut Tx, id: &ImageId) -> Result<()> {
    let now = tx.now();
    query("update images set updated_at = $2 where id = $1").bind(id.as_str()).bind(now.0).execute(&mut **tx).await?;
    events::updated(tx, events::IMAGE, id);
    Ok(())
}

/// An image's row as far as files are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The image.
    pub id: ImageId,
    /// Its status.
    pub status: Status,
    /// Its newest generation.
    pub generation: i64,
    /// The file, relative to the image directory.
    pub file: Option<String>,
    /// Bytes of the file.
    pub size: Option<i64>,
}

/// Where every image's data should lie: for the doctor.
pub async fn placements(conn: &mut Conn) -> Result<Vec<Placement>> {
    let rows = query("select id, status, generation, file, size from images order by id").fetch_all(conn).await?;
    let placement = |row| {
        Ok(Placement {
            id: RowExt::id(row, "id")?,
            status: row::status(row)?,
            generation: row.int("generation")?,
            file: row.opt_text("file")?,
            size: row.opt_int("size")?,
        })
    };
    rows.iter().map(placement).collect()
}

/// The quota that counts images.
pub const COUNT_QUOTA: &str = "image_count_total";
/// The quota that counts their data, in MiB, each image rounded up.
pub const SIZE_QUOTA: &str = "image_size_total";

/// What an image's data costs of [`SIZE_QUOTA`].
pub fn size_charge(bytes: i64) -> i64 {
    (bytes.max(0) + (1 << 20) - 1) >> 20
}

/// How each quota is counted.
const COUNTS: [(&str, &str); 2] = [
    (COUNT_QUOTA, "select owner as project_id, count(*) as used from images where status <> 'deleted' group by owner"),
    (
        SIZE_QUOTA,
        "select owner as project_id, sum((size + 1048575) / 1048576) as used from images \
         where status <> 'deleted' and size is not null group by owner",
    ),
];

/// For the doctor: projects whose quota differs from what they have, as (quota, project, recorded, counted).
pub async fn quota_drift(conn: &mut Conn) -> Result<Vec<(&'static str, ProjectId, i64, i64)>> {
    let mut all = Vec::new();
    for (quota, sql) in COUNTS {
        let drift = crate::quotas::drift(conn, quota, sql).await?;
        all.extend(
            drift.into_iter().map(|(project, recorded, counted)| (quota, ProjectId::new(project), recorded, counted)),
        );
    }
    Ok(all)
}

/// For the doctor: records what there is.
pub async fn recount_quotas(tx: &mut Tx) -> Result<()> {
    for (quota, sql) in COUNTS {
        crate::quotas::recount(tx, quota, sql).await?;
    }
    Ok(())
}
