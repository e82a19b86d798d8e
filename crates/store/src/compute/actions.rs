//! Tables `instance_actions` and `instance_action_events`: what was done with a server, by whom, and what came of it.
//!
//! An action belongs to the generation of the spec that it made. When the host has reached that generation it is over.

use model::{Timestamp, id::ServerId};

use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select, SortKey, Type},
    query,
};

/// Something that a user did with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The request's id: `req-...`.
    pub request_id: String,
    /// The server.
    pub server_id: ServerId,
    /// The generation that it made.
    pub generation: i64,
    /// `create`, `start`, `stop`, `reboot`, `delete`...
    pub action: String,
    /// Who.
    pub user_id: String,
    /// In which project.
    pub project_id: String,
    /// Why it failed; none when it did not.
    pub message: Option<String>,
    /// When it was asked for.
    pub start_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was over.
    pub finish_at: Option<Timestamp>,
}

/// A part of an action, done by a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As Nova calls it: `compute__do_build_and_run_instance`.
    pub event: String,
    /// When it began.
    pub start_at: Timestamp,
    /// When it was over.
    pub finish_at: Option<Timestamp>,
    /// `Success` or `Error`.
    pub result: Option<String>,
    /// Why it failed.
    pub details: Option<String>,
    /// The host.
    pub host: Option<String>,
}

impl Action {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            request_id: row.text("request_id")?,
            server_id: row.id("server_id")?,
            generation: row.int("generation")?,
            action: row.text("action")?,
            user_id: row.text("user_id")?,
            project_id: row.text("project_id")?,
            message: row.opt_text("message")?,
            start_at: row.time("start_at")?,
            updated_at: row.time("updated_at")?,
            finish_at: row.opt_time("finish_at")?,
        })
    }
}

/// Begins an action with its one event.
pub async fn begin(tx: &mut Tx, action: &Action, event: &str, host: Option<&str>) -> Result<()> {
    query(
        "insert into instance_actions (request_id, server_id, generation, action, user_id, project_id, start_at, \
         updated_at) values ($1, $2, $3, $4, $5, $6, $7, $7) on conflict (server_id, request_id) do nothing",
    )
    .bind(action.request_id.as_str())
    .bind(action.server_id.as_str())
    .bind(action.generation)
    .bind(action.action.as_str())
    .bind(action.user_id.as_str())
    .bind(action.project_id.as_str())
    .bind(action.start_at.0)
    .execute(&mut **tx)
    .await?;
    query(
        "insert into instance_action_events (server_id, request_id, event, start_at, host) values ($1, $2, $3, $4, $5) \
         on conflict (server_id, request_id, event) do nothing",
    )
    .bind(action.server_id.as_str())
    .bind(action.request_id.as_str())
    .bind(event)
    .bind(action.start_at.0)
    .bind(host)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends the open actions of generations up to this one: well, or with the reason why not.
pub async fn finish(
    tx: &mut Tx,
    server: &ServerId,
    up_to_generation: i64,
    failure: Option<&str>,
    host: Option<&str>,
) -> Result<()> {
    let now = tx.now();
    query(
        "update instance_action_events set finish_at = $3, result = $4, details = $5, host = coalesce($6, host) \
         where server_id = $1 and finish_at is null and request_id in (select request_id from instance_actions \
         where server_id = $1 and generation <= $2 and finish_at is null)",
    )
    .bind(server.as_str())
    .bind(up_to_generation)
    .bind(now.0)
    .bind(if failure.is_some() { "Error" } else { "Success" })
    .bind(failure)
    .bind(host)
    .execute(&mut **tx)
    .await?;
    query(
        "update instance_actions set finish_at = $3, updated_at = $3, message = $4 \
         where server_id = $1 and generation <= $2 and finish_at is null",
    )
    .bind(server.as_str())
    .bind(up_to_generation)
    .bind(now.0)
    .bind(failure.map(|_| "Error"))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The order of an instance's actions.
pub const BY_UPDATE: SortKey = SortKey { name: "updated_at", sql: "a.updated_at", kind: Type::Int };

/// A server's actions.
pub fn select(server: &ServerId) -> Select {
    let mut select = Select::new("select a.* from instance_actions a", "instance_actions a", "a.request_id");
    select.equal("a.server_id", server);
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Action>> {
    select.page(conn, page).await?.iter().map(Action::from_row).collect()
}

/// One action.
pub async fn get(conn: &mut Conn, server: &ServerId, request_id: &str) -> Result<Option<Action>> {
    let row = query("select * from instance_actions where server_id = $1 and request_id = $2")
        .bind(server.as_str())
        .bind(request_id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(Action::from_row).transpose()
}

/// An action's events.
pub async fn events(conn: &mut Conn, server: &ServerId, request_id: &str) -> Result<Vec<Event>> {
    let rows = query(
        "select * from instance_action_events where server_id = $1 and request_id = $2 order by start_at desc, event",
    )
    .bind(server.as_str())
    .bind(request_id)
    .fetch_all(conn)
    .await?;
    let event = |row: &Row| {
        Ok(Event {
            event: row.text("event")?,
            start_at: row.time("start_at")?,
            finish_at: row.opt_time("finish_at")?,
            result: row.opt_text("result")?,
            details: row.opt_text("details")?,
            host: row.opt_text("host")?,
        })
    };
    rows.iter().map(event).collect()
}
