//! Table `audit`: every request that changed something, and every one that was refused; hash-chained.
//!
//! A change's entry is written by the commit of the change itself ([`crate::Tx::commit`] for the request that
//! [`crate::request::scope`] named): there is none without the other, whenever the process dies. Refusals are written by
//! the dispatcher before it answers ([`refused`]).
//!
//! The chain: sealing gives each entry its place and the SHA-256 of the hash before and of all its columns. Whoever
//! changes, removes or moves a sealed entry breaks the chain there ([`verify`]); whoever writes the whole chain anew from
//! there on has another head, which is why heads are logged and can be kept elsewhere. Retention removes the oldest
//! entries, keeps the last hash of them as the chain's new beginning, and puts both into an entry of their own.

use std::fmt::Write as _;

use model::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use crate::{
    Conn, Result, Row, RowExt, Tx, journal,
    list::{Direction, Page, Select, SortKey, Type},
    query,
    request::Facts,
};

/// The action of the entries that retention writes.
pub const PRUNE: &str = "nacre:audit:prune";
/// Entries read at a time by [`verify`].
const VERIFY_PAGE: i64 = 1000;
/// Findings after which [`verify`] stops.
const FINDINGS_MAX: usize = 100;
/// Entries whose hashes one statement writes.
const SEAL_CHUNK: usize = 50;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Success,
    /// It was not allowed, or not possible as things stand.
    Refused,
    /// It failed by no fault of the client's.
    Failed,
}

impl Outcome {
    /// As entries name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// An entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the migration says what each column is")]
pub struct Entry {
    pub seq: i64,
    pub hash: String,
    pub at: Timestamp,
    pub request_id: String,
    pub actor: String,
    pub scope: String,
    pub address: String,
    pub service: String,
    pub method: String,
    pub path: String,
    pub action: String,
    pub target_type: String,
    pub target_id: String,
    pub project_id: String,
    pub outcome: String,
    pub status: i64,
    pub reason: String,
    pub details: String,
}

const COLUMNS: &str = "seq, hash, at, request_id, actor, scope, address, service, method, path, action, target_type, \
    target_id, project_id, outcome, status, reason, details";

impl Entry {
    /// What a request leaves.
    pub fn of(facts: Facts, outcome: Outcome, status: u16, reason: &str) -> Self {
        Self {
            request_id: facts.id,
            actor: facts.actor,
            scope: facts.scope,
            address: facts.address,
            service: facts.service.to_owned(),
            method: facts.method,
            path: facts.path,
            action: facts.action,
            target_type: facts.target_type,
            target_id: facts.target_id,
            project_id: facts.project_id,
            outcome: outcome.as_str().to_owned(),
            status: status.into(),
            reason: reason.to_owned(),
            ..Self::default()
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            seq: row.opt_int("seq")?.unwrap_or(0),
            hash: row.text("hash")?,
            at: row.time("at")?,
            request_id: row.text("request_id")?,
            actor: row.text("actor")?,
            scope: row.text("scope")?,
            address: row.text("address")?,
            service: row.text("service")?,
            method: row.text("method")?,
            path: row.text("path")?,
            action: row.text("action")?,
            target_type: row.text("target_type")?,
            target_id: row.text("target_id")?,
            project_id: row.text("project_id")?,
            outcome: row.text("outcome")?,
            status: row.int("status")?,
            reason: row.text("reason")?,
            details: row.text("details")?,
        })
    }

    /// The hash that belongs to it in this place: hex SHA-256 of a JSON list of the hash before and every column in the
    /// table's order. An export can be checked with nothing but that.
    pub fn digest(&self, before: &str) -> String {
        let list = json!([
            before,
            self.seq,
            self.at.0,
            self.request_id,
            self.actor,
            self.scope,
            self.address,
            self.service,
            self.method,
            self.path,
            self.action,
            self.target_type,
            self.target_id,
            self.project_id,
            self.outcome,
            self.status,
            self.reason,
            self.details,
        ]);
        hex::encode(Sha256::digest(list.to_string().as_bytes()))
    }
}

/// Writes an entry; sealing does the rest.
pub async fn insert(tx: &mut Tx, entry: &Entry) -> Result<()> {
    let now = tx.now();
    query(
        "insert into audit (hash, at, request_id, actor, scope, address, service, method, path, action, target_type, \
         target_id, project_id, outcome, status, reason, details) \
         values ('', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(now.0)
    .bind(entry.request_id.as_str())
    .bind(entry.actor.as_str())
    .bind(entry.scope.as_str())
    .bind(entry.address.as_str())
    .bind(entry.service.as_str())
    .bind(entry.method.as_str())
    .bind(entry.path.as_str())
    .bind(entry.action.as_str())
    .bind(entry.target_type.as_str())
    .bind(entry.target_id.as_str())
    .bind(entry.project_id.as_str())
    .bind(entry.outcome.as_str())
    .bind(entry.status)
    .bind(entry.reason.as_str())
    .bind(entry.details.as_str())
    .execute(&mut **tx)
    .await?;
    tx.note_written();
    Ok(())
}

/// Gives the oldest entries without one their place and hash. How many, and the new head's hash.
pub(crate) async fn seal(tx: &mut Tx, head: &journal::Head, limit: i64) -> Result<(u64, String)> {
    let place = tx.db().dialect().insertion();
    let sql = format!("select {place} as place, {COLUMNS} from audit where seq is null order by {place} limit {limit}");
    let rows = query(AssertSqlSafe(sql)).fetch_all(&mut **tx).await?;
    let (mut seq, mut hash, mut sealed) = (head.seq, head.hash.clone(), Vec::with_capacity(rows.len()));
    for row in &rows {
        seq += 1;
        hash = Entry { seq, ..Entry::from_row(row)? }.digest(&hash);
        sealed.push((row.int("place")?, seq, hash.clone()));
    }
    for chunk in sealed.chunks(SEAL_CHUNK) {
        let mut values = String::new();
        for at in 0..chunk.len() {
            let (comma, n) = (if at > 0 { ", " } else { "" }, at * 3);
            // Writing into a string can't fail.
            let _ = write!(values, "{comma}(cast(${} as bigint), cast(${} as bigint), ${})", n + 1, n + 2, n + 3);
        }
        let sql = format!(
            "with sealed (place, seq, hash) as (values {values}) \
             update audit set seq = sealed.seq, hash = sealed.hash from sealed where audit.{place} = sealed.place"
        );
        let mut update = query(AssertSqlSafe(sql));
        for (place, seq, hash) in chunk {
            update = update.bind(*place).bind(*seq).bind(hash.as_str());
        }
        update.execute(&mut **tx).await?;
    }
    Ok((sealed.len() as u64, hash))
}

/// The order of a list: the newest first unless asked otherwise.
pub const BY_SEQ: SortKey = SortKey { name: "seq", sql: "a.seq", kind: Type::Int };

/// Which entries a list shows.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Filter {
    pub project_id: Option<String>,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub outcome: Option<String>,
    pub request_id: Option<String>,
    pub service: Option<String>,
    pub target_type: Option<String>,
    pub target_id: Option<String>,
    pub since: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

impl Filter {
    fn select(&self) -> Select {
        const BASE: &str = "select a.seq, a.hash, a.at, a.request_id, a.actor, a.scope, a.address, a.service, a.method, \
            a.path, a.action, a.target_type, a.target_id, a.project_id, a.outcome, a.status, a.reason, a.details \
            from audit a";
        let mut select = Select::new(BASE, "audit a", "a.seq");
        select.filter("a.seq is not null", []);
        for (sql, value) in [
            ("a.project_id", &self.project_id),
            ("a.actor", &self.actor),
            ("a.action", &self.action),
            ("a.outcome", &self.outcome),
            ("a.request_id", &self.request_id),
            ("a.service", &self.service),
            ("a.target_type", &self.target_type),
            ("a.target_id", &self.target_id),
        ] {
            if let Some(value) = value {
                select.equal(sql, value.as_str());
            }
        }
        if let Some(since) = self.since {
            select.filter("a.at >= ?", [since.0.into()]);
        }
        if let Some(before) = self.before {
            select.filter("a.at < ?", [before.0.into()]);
        }
        select
    }
}

/// A page of sealed entries beyond the one with the place `marker`.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    marker: Option<i64>,
    direction: Direction,
    limit: u32,
) -> Result<Vec<Entry>> {
    let mut select = filter.select();
    if let Some(seq) = marker {
        let beyond = if direction == Direction::Ascending { "a.seq > ?" } else { "a.seq < ?" };
        select.filter(beyond, [seq.into()]);
    }
    let page = Page { limit, ..Page::first(BY_SEQ, direction) };
    select.page(conn, &page).await?.iter().map(Entry::from_row).collect()
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first place that is kept.
    pub first: i64,
    /// The newest place, as the head has it.
    pub last: i64,
    /// Its hash.
    pub hash: String,
    /// Entries checked.
    pub checked: i64,
    /// Entries that wait for their place.
    pub unsealed: i64,
    /// What is wrong, a sentence each.
    pub findings: Vec<String>,
}

/// Proves the chain: every place is there, in order, and every entry is what it was when it was sealed. `expected` is a
/// head that was noted earlier, outside the database: it must still be in the chain.
pub async fn verify(conn: &mut Conn, expected: Option<(i64, &str)>) -> Result<Report> {
    loop {
        // The head first: entries that are sealed meanwhile are beyond it and not looked at.
        let head = journal::head(conn, journal::AUDIT).await?;
        let report = verify_up_to(conn, &head, expected).await?;
        // Retention may have taken the oldest from under our eyes: then from its end on once more.
        if journal::head(conn, journal::AUDIT).await?.tail_seq == head.tail_seq {
            return Ok(report);
        }
    }
}

async fn verify_up_to(conn: &mut Conn, head: &journal::Head, expected: Option<(i64, &str)>) -> Result<Report> {
    let mut check =
        Check { at: head.tail_seq, hash: head.tail_hash.clone(), anchor: None, findings: Vec::new(), checked: 0 };
    let sql = format!("select {COLUMNS} from audit where seq > $1 and seq <= $2 order by seq limit {VERIFY_PAGE}");
    loop {
        let select = query(AssertSqlSafe(sql.clone())).bind(check.at).bind(head.seq);
        let rows = select.fetch_all(&mut *conn).await?;
        for row in &rows {
            check.entry(&Entry::from_row(row)?, expected);
        }
        if rows.is_empty() || check.findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    let unsealed = format!("select {COLUMNS} from audit where seq is null");
    let unsealed = query(AssertSqlSafe(unsealed)).fetch_all(&mut *conn).await?;
    for row in &unsealed {
        check.note_anchor(&Entry::from_row(row)?);
    }
    let outside = query("select count(*) as n from audit where seq <= $1").bind(head.tail_seq).fetch_one(conn).await?;
    if outside.int("n")? > 0 {
        check.findings.push(format!("{} entries stand before the beginning of the chain", outside.int("n")?));
    }
    check.end(head, expected);
    Ok(Report {
        first: head.tail_seq + 1,
        last: head.seq,
        hash: head.hash.clone(),
        checked: check.checked,
        unsealed: i64::try_from(unsealed.len()).unwrap_or(i64::MAX),
        findings: check.findings,
    })
}

struct Check {
    at: i64,
    hash: String,
    /// What the newest entry of retention says: the last place removed, and its hash.
    anchor: Option<(i64, String)>,
    findings: Vec<String>,
    checked: i64,
}

impl Check {
    fn entry(&mut self, entry: &Entry, expected: Option<(i64, &str)>) {
        self.checked += 1;
        if entry.seq != self.at + 1 {
            let (first, last) = (self.at + 1, entry.seq - 1);
            let which =
                if first == last { format!("entry {first} is") } else { format!("entries {first} to {last} are") };
            self.findings.push(format!("{which} missing"));
        } else if entry.digest(&self.hash) != entry.hash {
            self.findings.push(format!(
                "entry {} ({} {}, {}) is not what was sealed: it was changed, or another was put in its place",
                entry.seq, entry.method, entry.path, entry.request_id
            ));
        }
        if expected.is_some_and(|(seq, hash)| seq == entry.seq && hash != entry.hash) {
            self.findings
                .push(format!("entry {} has another hash than was noted: the chain was written anew", entry.seq));
        }
        self.note_anchor(entry);
        // From what is stored: one entry that was changed is one finding.
        (self.at, self.hash) = (entry.seq, entry.hash.clone());
    }

    fn note_anchor(&mut self, entry: &Entry) {
        if entry.action == PRUNE {
            let details: serde_json::Value = serde_json::from_str(&entry.details).unwrap_or_default();
            let hash = details["hash"].as_str().unwrap_or_default().to_owned();
            self.anchor = Some((details["last_removed"].as_i64().unwrap_or(-1), hash));
        }
    }

    fn end(&mut self, head: &journal::Head, expected: Option<(i64, &str)>) {
        if self.at != head.seq || self.hash != head.hash {
            self.findings.push(format!("the chain ends with entry {}, its head says {}", self.at, head.seq));
        }
        if expected.is_some_and(|(seq, _)| seq > head.seq) {
            self.findings.push("the chain is shorter than it was".to_owned());
        }
        let tail = (head.tail_seq, head.tail_hash.clone());
        let anchor = self.anchor.clone().unwrap_or((0, String::new()));
        if anchor != tail {
            self.findings.push(format!(
                "the chain begins after entry {}, its newest entry about retention says {}",
                tail.0, anchor.0
            ));
        }
    }
}

/// Removes sealed entries from before that moment, at most `limit`, and writes an entry that says so. How many.
pub(crate) async fn prune(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<i64> {
    let head = journal::lock(tx, journal::AUDIT).await?;
    let row = query(
        "select seq, hash from audit where seq = (select max(seq) from audit where at < $1 and seq is not null \
         and seq <= $2)",
    )
    .bind(before.0)
    .bind(head.tail_seq + limit)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(0) };
    let (last, hash) = (row.int("seq")?, row.text("hash")?);
    let gone = query("delete from audit where seq <= $1").bind(last).execute(&mut **tx).await?.rows_affected();
    journal::set_tail(tx, journal::AUDIT, last, &hash).await?;
    let details = json!({"last_removed": last, "hash": hash, "removed": gone}).to_string();
    let entry = Entry {
        service: "cloud".to_owned(),
        action: PRUNE.to_owned(),
        target_type: "audit".to_owned(),
        outcome: Outcome::Success.as_str().to_owned(),
        details,
        ..Entry::default()
    };
    insert(tx, &entry).await?;
    Ok(i64::try_from(gone).unwrap_or(i64::MAX))
}
