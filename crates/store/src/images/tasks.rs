//! Table `image_tasks`: how imports went. An image is changed by its flow alone; its newest task says what it is to do.

use model::{
    Timestamp,
    id::{ImageId, ProjectId},
};
use serde_json::Value as Json;

use super::{Data, row::words};
use crate::{
    Conn, Error, Result, Row, RowExt, Tx,
    list::{Page, Select, SortKey, Type},
    query,
};

words! {
    /// How far a task is.
    TaskStatus {
        Pending = "pending": "It has not begun.",
        Processing = "processing": "It is under way.",
        Success = "success": "It has brought its data.",
        Failure = "failure": "It has not.",
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The image.
    pub image_id: ImageId,
    /// The project that began it.
    pub owner: ProjectId,
    /// Who began it.
    pub user_id: String,
    /// By which request.
    pub request_id: String,
    /// `api_image_import`, or `import` where it was created by the tasks API.
    pub kind: String,
    /// How far it is.
    pub status: TaskStatus,
    /// What was asked for.
    pub input: Json,
    /// What came of it.
    pub result: Option<Json>,
    /// Why it failed.
    pub message: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it will be forgotten; none while it is under way.
    pub expires_at: Option<Timestamp>,
}

impl Task {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            image_id: row.id("image_id")?,
            owner: row.id("owner")?,
            user_id: row.text("user_id")?,
            request_id: row.text("request_id")?,
            kind: row.text("kind")?,
            status: TaskStatus::of(row, "status")?,
            input: row.json("input")?,
            result: row.opt_text("result")?.and_then(|text| serde_json::from_str(&text).ok()),
            message: row.text("message")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            expires_at: row.opt_time("expires_at")?,
        })
    }
}

/// The keys that lists may be sorted by; the first is the default.
pub const TASK_SORTS: &[SortKey] = &[
    SortKey { name: "created_at", sql: "t.created_at", kind: Type::Int },
    SortKey { name: "updated_at", sql: "t.updated_at", kind: Type::Int },
    SortKey { name: "id", sql: "t.id", kind: Type::Text },
    SortKey { name: "status", sql: "t.status", kind: Type::Text },
    SortKey { name: "type", sql: "t.kind", kind: Type::Text },
];

/// Inserts a task.
pub async fn insert(tx: &mut Tx, task: &Task) -> Result<()> {
    query(
        "insert into image_tasks (id, image_id, owner, user_id, request_id, kind, status, input, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(task.id.as_str())
    .bind(task.image_id.as_str())
    .bind(task.owner.as_str())
    .bind(task.user_id.as_str())
    .bind(task.request_id.as_str())
    .bind(task.kind.as_str())
    .bind(task.status.as_str())
    .bind(task.input.to_string())
    .bind(task.created_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One task.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Option<Task>> {
    let row = query("select * from image_tasks where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(Task::from_row).transpose()
}

/// A page of tasks, of one kind or status where they are given.
pub async fn list(conn: &mut Conn, kind: Option<&str>, status: Option<&str>, page: &Page) -> Result<Vec<Task>> {
    let mut select = Select::new("select t.* from image_tasks t", "image_tasks t", "t.id");
    if let Some(kind) = kind {
        select.equal("t.kind", kind);
    }
    if let Some(status) = status {
        select.equal("t.status", status);
    }
    select.page(conn, page).await?.iter().map(Task::from_row).collect()
}

/// An image's tasks, the newest first; at most as many as a page may have.
pub async fn of_image(conn: &mut Conn, image: &ImageId) -> Result<Vec<Task>> {
    let rows = query("select * from image_tasks where image_id = $1 order by created_at desc, id desc limit 1000")
        .bind(image.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(Task::from_row).collect()
}

/// The task that an image's import is about: its newest.
pub async fn newest(conn: &mut Conn, image: &ImageId) -> Result<Option<Task>> {
    let row = query("select * from image_tasks where image_id = $1 order by created_at desc, id desc limit 1")
        .bind(image.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(Task::from_row).transpose()
}

/// Notes how far the image's unfinished tasks are. A finished one is forgotten at `expires_at`.
pub async fn set_status(
    tx: &mut Tx,
    image: &ImageId,
    status: TaskStatus,
    message: &str,
    expires_at: Option<Timestamp>,
) -> Result<()> {
    let now = tx.now();
    let result = (status == TaskStatus::Success).then(|| serde_json::json!({"image_id": image}).to_string());
    query(
        "update image_tasks set status = $2, message = $3, result = $4, updated_at = $5, expires_at = $6 \
         where image_id = $1 and status in ('pending', 'processing')",
    )
    .bind(image.as_str())
    .bind(status.as_str())
    .bind(message)
    .bind(result)
    .bind(now.0)
    .bind(expires_at.map(|at| at.0))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets tasks whose time has come. How many there were.
pub async fn purge(tx: &mut Tx) -> Result<u64> {
    let now = tx.now();
    let done = query("delete from image_tasks where expires_at <= $1").bind(now.0).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}

/// Begins to stage data: its generation, or none where the image does not wait for data.
pub async fn begin_staging(tx: &mut Tx, id: &ImageId) -> Result<Option<i64>> {
    let now = tx.now();
    let row = query(
        "update images set status = 'uploading', generation = generation + 1, staged = null, upload_seen = $2, \
         updated_at = $2 where id = $1 and status = 'queued' returning generation",
    )
    .bind(id.as_str())
    .bind(now.0)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.int("generation")).transpose()
}

/// Notes that the staged data is whole. False: it has been given up, or the image is gone.
pub async fn finish_staging(tx: &mut Tx, id: &ImageId, generation: i64, data: &Data) -> Result<bool> {
    let now = tx.now();
    let staged = serde_json::json!({
        "file": data.file, "size": data.size, "virtual_size": data.virtual_size, "checksum": data.checksum,
        "hash_value": data.hash_value, "sha256": data.sha256, "format": data.format,
    });
    let done = query(
        "update images set staged = $3, upload_seen = null, updated_at = $4 \
         where id = $1 and generation = $2 and status = 'uploading'",
    )
    .bind(id.as_str())
    .bind(generation)
    .bind(staged.to_string())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The staged data of an image, once it is whole.
pub async fn staged(conn: &mut Conn, id: &ImageId) -> Result<Option<Data>> {
    let row = query("select staged from images where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    let Some(text) = row.map(|row| row.opt_text("staged")).transpose()?.flatten() else { return Ok(None) };
    let unreadable = |reason: String| Error::Column { column: "staged".to_owned(), reason };
    let json: Json = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    let text = |key: &str| {
        json.get(key).and_then(Json::as_str).map(str::to_owned).ok_or_else(|| unreadable(format!("no {key}")))
    };
    Ok(Some(Data {
        file: text("file")?,
        size: json.get("size").and_then(Json::as_i64).ok_or_else(|| unreadable("no size".to_owned()))?,
        virtual_size: json.get("virtual_size").and_then(Json::as_i64),
        checksum: text("checksum")?,
        hash_algo: "sha512",
        hash_value: text("hash_value")?,
        sha256: text("sha256")?,
        format: json.get("format").and_then(Json::as_str).map(str::to_owned),
    }))
}

/// Begins an import: of staged data, or of data that is still to be fetched. False: the image is in another status.
pub async fn begin_import(tx: &mut Tx, id: &ImageId, is_staged: bool) -> Result<bool> {
    let now = tx.now();
    let sql = if is_staged {
        "update images set status = 'importing', import_state = 'running', updated_at = $2 \
         where id = $1 and status = 'uploading' and staged is not null"
    } else {
        "update images set status = 'importing', import_state = 'running', upload_seen = null, updated_at = $2 \
         where id = $1 and status = 'queued'"
    };
    Ok(query(sql).bind(id.as_str()).bind(now.0).execute(&mut **tx).await?.rows_affected() > 0)
}

/// Begins an attempt to fetch: its generation, or none where another is alive since `unseen_since`, or nothing is to be
/// imported.
pub async fn begin_fetch(tx: &mut Tx, id: &ImageId, unseen_since: Timestamp) -> Result<Option<i64>> {
    let now = tx.now();
    let row = query(
        "update images set generation = generation + 1, upload_seen = $3 where id = $1 and status = 'importing' \
         and (upload_seen is null or upload_seen <= $2) returning generation",
    )
    .bind(id.as_str())
    .bind(unseen_since.0)
    .bind(now.0)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.int("generation")).transpose()
}

/// Ends an import that failed: the image waits for data again. False: it was none (any more).
pub async fn fail_import(tx: &mut Tx, id: &ImageId) -> Result<bool> {
    let now = tx.now();
    let done = query(
        "update images set status = 'queued', import_state = 'failed', staged = null, upload_seen = null, \
         updated_at = $2 where id = $1 and status = 'importing'",
    )
    .bind(id.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// A project's staged bytes, and how many of its images wait for data that is on its way.
pub async fn under_way(conn: &mut Conn, project: &ProjectId) -> Result<(i64, i64)> {
    let rows = query("select staged from images where owner = $1 and status in ('saving', 'uploading', 'importing')")
        .bind(project.as_str())
        .fetch_all(conn)
        .await?;
    let mut bytes = 0;
    for row in &rows {
        let staged: Option<Json> = row.opt_text("staged")?.and_then(|text| serde_json::from_str(&text).ok());
        bytes += staged.and_then(|data| data.get("size").and_then(Json::as_i64)).unwrap_or_default();
    }
    Ok((bytes, i64::try_from(rows.len()).unwrap_or(i64::MAX)))
}
