//! Table `events`: each state change of a resource, for whoever follows it, in one order.
//!
//! A store function that changes what users see of a resource says so in the same transaction: [`created`], [`updated`],
//! or [`deleted`] once the row is locked and before it goes. That is all there is to do; the commit writes one row per
//! resource with the owner and status that hold then (`kinds.rs` says where they stand). Rows get their place when they
//! are sealed, see [`crate::journal`].
//!
//! Order: two transactions that change one resource exclude each other by its row's lock, and events are inserted last,
//! so that insertion order is the order of changes; sealing keeps it. Without gaps: places are given under one lock to
//! rows that are committed, so whoever has seen place n has seen, or will never see, every one before it.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;
use sqlx::AssertSqlSafe;

pub use kinds::*;

use crate::{Conn, Result, Row, RowExt, Tx, journal, query};

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Created,
    /// Something that users see is different.
    Updated,
    /// It is gone, or marked to go.
    Deleted,
}

impl Change {
    /// As events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// Changes of one transaction, gathered until it commits.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By kind and id, whether the resource is new.
    changed: BTreeMap<(Kind, String), bool>,
    deleted: BTreeMap<(Kind, String), Facts>,
    /// The first of all: what the request was about.
    first: Option<(Kind, String)>,
}

#[derive(Debug)]
struct Facts {
    project_id: String,
    user_id: String,
    status: String,
}

impl Notes {
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }

    /// The kind of the resource with this id, where the transaction changed it; the first of all for an empty id.
    pub(crate) fn find(&self, id: &str) -> Option<(&'static str, &str)> {
        let mut all = self.changed.keys().chain(self.deleted.keys());
        let found = if id.is_empty() { self.first.as_ref() } else { all.find(|(_, known)| known == id) };
        found.map(|(kind, id)| (kind.name, id.as_str()))
    }

    fn change(&mut self, kind: Kind, id: &str, new: bool) {
        let key = (kind, id.to_owned());
        self.first.get_or_insert_with(|| key.clone());
        if !self.deleted.contains_key(&key) {
            *self.changed.entry(key).or_insert(new) |= new;
        }
    }
}

/// A resource is new.
pub fn created(tx: &mut Tx, kind: Kind, id: impl AsRef<str>) {
    tx.notes.change(kind, id.as_ref(), true);
}

/// Something that users see of a resource is different.
pub fn updated(tx: &mut Tx, kind: Kind, id: impl AsRef<str>) {
    tx.notes.change(kind, id.as_ref(), false);
}

/// A resource goes. Call it before the row does: whose it was is read here, and the row is locked.
pub async fn deleted(tx: &mut Tx, kind: Kind, id: impl AsRef<str>) -> Result<()> {
    deleted_where(tx, kind, kind.id, id.as_ref()).await
}

/// All resources go that have this value in that column, before their rows do.
pub async fn deleted_where(tx: &mut Tx, kind: Kind, column: &'static str, value: &str) -> Result<()> {
    let sql = format!(
        "select {} as id, {} as project_id, {} as user_id, {} as status from {} where {column} = $1 order by {}{}",
        kind.id,
        kind.project,
        kind.user,
        kind.status,
        kind.table,
        kind.id,
        tx.db().dialect().for_update()
    );
    let rows = query(AssertSqlSafe(sql)).bind(value).fetch_all(&mut **tx).await?;
    for row in &rows {
        let key = (kind, row.text("id")?);
        let facts =
            Facts { project_id: row.text("project_id")?, user_id: row.text("user_id")?, status: row.text("status")? };
        tx.notes.first.get_or_insert_with(|| key.clone());
        let was_new = tx.notes.changed.remove(&key).unwrap_or(false);
        if !was_new {
            tx.notes.deleted.entry(key).or_insert(facts);
        }
    }
    Ok(())
}

/// Writes what was gathered; the last thing that a transaction does but for its wakes.
pub(crate) async fn flush(tx: &mut Tx, request_id: &str) -> Result<()> {
    let notes = std::mem::take(&mut tx.notes);
    let mut groups: BTreeMap<(Kind, bool), BTreeSet<String>> = BTreeMap::new();
    for ((kind, id), new) in notes.changed {
        groups.entry((kind, new)).or_default().insert(id);
    }
    let (now, dialect) = (tx.now(), tx.db().dialect());
    for ((kind, new), ids) in groups {
        let sql = format!(
            "insert into events (at, resource, resource_id, change, project_id, user_id, status, request_id) \
             select $1, $2, {}, $3, {}, {}, {}, $4 from {} where {} in ({})",
            kind.id,
            kind.project,
            kind.user,
            kind.status,
            kind.table,
            kind.id,
            dialect.elements("$5")
        );
        query(AssertSqlSafe(sql))
            .bind(now.0)
            .bind(kind.name)
            .bind(if new { Change::Created } else { Change::Updated }.as_str())
            .bind(request_id)
            .bind(serde_json::to_string(&ids).unwrap_or_default())
            .execute(&mut **tx)
            .await?;
    }
    for ((kind, id), facts) in notes.deleted {
        query(
            "insert into events (at, resource, resource_id, change, project_id, user_id, status, request_id) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(now.0)
        .bind(kind.name)
        .bind(id)
        .bind(Change::Deleted.as_str())
        .bind(facts.project_id)
        .bind(facts.user_id)
        .bind(facts.status)
        .bind(request_id)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

const COLUMNS: &str = "seq, at, resource, resource_id, change, project_id, user_id, status, request_id";

/// A sealed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all.
    pub seq: i64,
    /// When it happened.
    pub at: Timestamp,
    /// `server`, `port`...
    pub resource: String,
    /// Which one.
    pub resource_id: String,
    /// `created`, `updated`, `deleted`.
    pub change: String,
    /// Whose it is; empty for nobody's.
    pub project_id: String,
    /// Whose it is, where it belongs to a user; else empty.
    pub user_id: String,
    /// The status as of then; empty where the resource has none.
    pub status: String,
    /// The request that did it; empty for the cloud's own work.
    pub request_id: String,
}

impl Event {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            seq: row.int("seq")?,
            at: row.time("at")?,
            resource: row.text("resource")?,
            resource_id: row.text("resource_id")?,
            change: row.text("change")?,
            project_id: row.text("project_id")?,
            user_id: row.text("user_id")?,
            status: row.text("status")?,
            request_id: row.text("request_id")?,
        })
    }
}

/// Whose events somebody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Everybody's.
    All,
    /// A project's; and a user's own, wherever the token is from.
    Owner {
        /// The project; empty without one.
        project_id: String,
        /// The user; empty without one.
        user_id: String,
    },
}

impl Viewer {
    /// Whether they see this one. The same as what [`after`] reads.
    pub fn sees(&self, event: &Event) -> bool {
        let is = |owner: &str, viewer: &str| !viewer.is_empty() && owner == viewer;
        match self {
            Self::All => true,
            Self::Owner { project_id, user_id } => is(&event.project_id, project_id) || is(&event.user_id, user_id),
        }
    }
}

/// The first events after that place, in order, at most `limit`.
pub async fn after(conn: &mut Conn, viewer: &Viewer, seq: i64, limit: i64) -> Result<Vec<Event>> {
    let rows = match viewer {
        Viewer::All => {
            let sql = format!("select {COLUMNS} from events where seq > $1 order by seq limit $2");
            query(AssertSqlSafe(sql)).bind(seq).bind(limit).fetch_all(conn).await?
        }
        // Two short walks along an index each, instead of one along everything.
        Viewer::Owner { project_id, user_id } => {
            let sql = format!(
                "select * from (\
                 select * from (select {COLUMNS} from events where project_id = $3 and project_id <> '' and seq > $1 \
                 order by seq limit $2) p union \
                 select * from (select {COLUMNS} from events where user_id = $4 and user_id <> '' and seq > $1 \
                 order by seq limit $2) u) e order by seq limit $2"
            );
            let select = query(AssertSqlSafe(sql)).bind(seq).bind(limit);
            select.bind(project_id.as_str()).bind(user_id.as_str()).fetch_all(conn).await?
        }
    };
    rows.iter().map(Event::from_row).collect()
}

/// The newest place that retention has removed, and the newest of all.
pub async fn bounds(conn: &mut Conn) -> Result<(i64, i64)> {
    let head = journal::head(conn, journal::EVENTS).await?;
    Ok((head.tail_seq, head.seq))
}

/// Removes sealed events from before that moment, oldest first, at most `limit`. How many.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<i64> {
    let head = journal::lock(tx, journal::EVENTS).await?;
    let row = query("select coalesce(max(seq), 0) as last from events where at < $1 and seq is not null and seq <= $2")
        .bind(before.0)
        .bind(head.tail_seq + limit)
        .fetch_one(&mut **tx)
        .await?;
    let last = row.int("last")?;
    if last <= head.tail_seq {
        return Ok(0);
    }
    let gone = query("delete from events where seq <= $1").bind(last).execute(&mut **tx).await?;
    journal::set_tail(tx, journal::EVENTS, last, "").await?;
    Ok(i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX))
}
