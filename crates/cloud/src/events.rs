//! State changes as they happen: `GET /v1/events`, a stream of server-sent events.
//!
//! ```text
//! id: 1042
//! event: server.updated
//! data: {"id":1042,"at":"...","resource":"server","resource_id":"...","change":"updated","project_id":"...",...}
//! ```
//!
//! A stream first reads from the database what lies between its last id and now, then listens to the one task of this
//! process that reads every new event once; a stream that falls behind that goes back to the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use model::{Error, ErrorKind, Result, Timestamp};
use serde_json::json;
use store::{
    Db,
    events::{self, Event, Viewer},
};
use tokio::sync::{OnceCell, broadcast, watch};
use web::{Cx, Reply, StatusCode, Target, cx::Session};

use crate::State;

/// Events read at a time.
const PAGE: i64 = 500;
/// Events that a stream may be behind before it goes back to the database.
const BEHIND_MAX: usize = 4096;
/// How often a stream that has nothing to say shows that it lives, and looks whether its token does.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The process looks at least that often, should a notification have been missed.
const GUARD: Duration = Duration::from_secs(2);
/// Streams at once: of this server, and of one user.
const STREAMS_MAX: usize = 2000;
const STREAMS_OF_USER_MAX: usize = 20;

/// `GET /v1/events`. `Last-Event-ID` (or `last_event_id`) resumes after that event, 0 begins with the oldest that is kept,
/// without it only what is new comes. `resource` and `resource_id` narrow it; `all_projects` widens it; `follow=false`
/// ends the stream once it has caught up.
pub async fn follow(cx: &Cx) -> Result<Reply> {
    let viewer = viewer(cx)?;
    let state: &State = cx.state()?;
    let last = cx.header("last-event-id").or_else(|| cx.query.get("last_event_id"));
    let last = last
        .map(|text| {
            text.trim().parse::<i64>().map_err(|_| {
                Error::bad_request("InvalidInput", format!("Last-Event-ID {text:?} is no id of an event."))
            })
        })
        .transpose()?;
    let slot = state.followers.enter(cx.caller.user().as_str())?;
    let live = state.followers.listen().await?;
    // After listening has begun: what is sealed from now on is heard.
    let (kept_after, newest) = events::bounds(&mut *cx.db().read().await?).await?;
    let at = last.map_or(newest, |last| last.clamp(0, newest));
    let stream = Stream {
        db: cx.db().clone(),
        session: cx.session(),
        checked_at: cx.now(),
        viewer,
        resources: cx.query.all("resource").map(str::to_owned).collect(),
        resource_id: cx.query.get("resource_id").map(str::to_owned),
        greeted: false,
        lost: (at < kept_after && at > 0).then_some(kept_after),
        at,
        caught_up: false,
        follow: cx.query.flag("follow")?.unwrap_or(true),
        live,
        closing: state.followers.closing.subscribe(),
        _slot: slot,
    };
    let chunks = stream::unfold(stream, |mut stream| async move {
        stream.next().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), stream))
    });
    Ok(Reply::stream(StatusCode::OK, "text/event-stream", Body::from_stream(chunks)).with("x-accel-buffering", "no"))
}

fn viewer(cx: &Cx) -> Result<Viewer> {
    let everybodys = cx.query.flag("all_projects")?.unwrap_or(cx.caller.project().is_none());
    if everybodys {
        cx.authorize(&Target::none().with("project_id", cx.caller.project().map_or("", |id| id.as_str())))?;
        cx.authorize_rule("nacre:events:list_all", &Target::none())?;
        return Ok(Viewer::All);
    }
    let project_id = cx.authorize_own_project()?.to_string();
    Ok(Viewer::Owner { project_id, user_id: cx.caller.user().to_string() })
}

/// Everybody who follows.
pub struct Followers {
    db: Db,
    /// What the process's own reader says; from the first stream on.
    reader: OnceCell<broadcast::Sender<Arc<Event>>>,
    closing: watch::Sender<bool>,
    by_user: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place among the followers, given back when dropped.
struct Slot {
    user: String,
    by_user: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(streams) = by_user.get_mut(&self.user) {
            *streams -= 1;
            if *streams == 0 {
                by_user.remove(&self.user);
            }
        }
    }
}

impl Followers {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, reader: OnceCell::new(), closing: watch::Sender::new(false), by_user: Arc::default() }
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    fn enter(&self, user: &str) -> Result<Slot> {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (by_user.values().sum::<usize>(), by_user.get(user).copied().unwrap_or(0));
        if all >= STREAMS_MAX || own >= STREAMS_OF_USER_MAX {
            let message = format!("Too many event streams are open; one user may have {STREAMS_OF_USER_MAX}.");
            return Err(
                Error::new(ErrorKind::RateLimited, "TooManyStreams", message).retry_after(Duration::from_secs(5))
            );
        }
        *by_user.entry(user.to_owned()).or_default() += 1;
        Ok(Slot { user: user.to_owned(), by_user: self.by_user.clone() })
    }

    /// Hears every event that is sealed from now on.
    async fn listen(&self) -> Result<broadcast::Receiver<Arc<Event>>> {
        let start = || async {
            let (_, newest) = events::bounds(&mut *self.db.read().await?).await?;
            let (sender, _) = broadcast::channel(BEHIND_MAX);
            tokio::spawn(read_all(self.db.clone(), sender.clone(), newest, self.closing.subscribe()));
            Ok::<_, store::Error>(sender)
        };
        Ok(self.reader.get_or_try_init(start).await?.subscribe())
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads every event once, for all streams of the process.
async fn read_all(db: Db, to: broadcast::Sender<Arc<Event>>, after: i64, mut closing: watch::Receiver<bool>) {
    let (mut at, mut sealed) = (after, db.events_sealed());
    loop {
        match read_page(&db, at).await {
            Ok(page) => {
                let more = page.len() >= PAGE as usize;
                for event in page {
                    at = event.seq;
                    // Nobody may be listening.
                    let _ = to.send(Arc::new(event));
                }
                if more {
                    continue;
                }
            }
            Err(error) => tracing::error!(%error, "events could not be read"),
        }
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            // Woken or out of time: the same is to be done.
            _ = tokio::time::timeout(GUARD, sealed.changed()) => {}
        }
    }
}

async fn read_page(db: &Db, after: i64) -> store::Result<Vec<Event>> {
    events::after(&mut *db.read().await?, &Viewer::All, after, PAGE).await
}

/// One client that follows.
struct Stream {
    db: Db,
    session: Session,
    checked_at: Timestamp,
    viewer: Viewer,
    resources: Vec<String>,
    resource_id: Option<String>,
    greeted: bool,
    /// Events up to this place are no longer kept, and the client has not seen them.
    lost: Option<i64>,
    /// Everything up to this place has been said.
    at: i64,
    /// Whether the database has nothing more than the process's reader will say.
    caught_up: bool,
    follow: bool,
    live: broadcast::Receiver<Arc<Event>>,
    closing: watch::Receiver<bool>,
    _slot: Slot,
}

impl Stream {
    /// The next lines; none at the end. A client whose stream ends comes back with its last id.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            // The id first, so that a client that is cut off before the first event comes back to this place.
            return Some(format!("retry: 2000\nid: {}\n\n", self.at).into());
        }
        if let Some(last) = self.lost.take() {
            let data = json!({"reason": "Events from before this id are no longer kept: list what you follow anew."});
            return Some(format!("id: {last}\nevent: lost\ndata: {data}\n\n").into());
        }
        loop {
            if !self.may_go_on().await {
                return None;
            }
            let text = if self.caught_up {
                if !self.follow {
                    return None;
                }
                self.hear().await?
            } else {
                self.read().await?
            };
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }

    /// What the database has.
    async fn read(&mut self) -> Option<String> {
        let page = async { events::after(&mut *self.db.read().await?, &self.viewer, self.at, PAGE).await };
        let page = match page.await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "an event stream was cut off");
                return None;
            }
        };
        self.caught_up = page.len() < PAGE as usize;
        let mut text = String::new();
        for event in &page {
            self.at = event.seq;
            self.say(event, &mut text);
        }
        Some(text)
    }

    /// What the process's reader says next; or a sign of life.
    async fn hear(&mut self) -> Option<String> {
        let heard = tokio::select! {
            _ = self.closing.wait_for(|closing| *closing) => return None,
            heard = tokio::time::timeout(HEARTBEAT, self.live.recv()) => heard,
        };
        let mut text = String::new();
        match heard {
            Ok(Ok(event)) if event.seq > self.at => {
                self.at = event.seq;
                if self.viewer.sees(&event) {
                    self.say(&event, &mut text);
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => self.caught_up = false,
            Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            Err(_) => text.push_str(": alive\n\n"),
        }
        Some(text)
    }

    fn say(&self, event: &Event, text: &mut String) {
        let wanted = (self.resources.is_empty() || self.resources.contains(&event.resource))
            && self.resource_id.as_ref().is_none_or(|id| *id == event.resource_id);
        if wanted {
            let Event { seq, resource, change, .. } = event;
            text.push_str(&format!("id: {seq}\nevent: {resource}.{change}\ndata: {}\n\n", show(event)));
        }
    }

    /// Whether the token still holds; asked now and then.
    async fn may_go_on(&mut self) -> bool {
        let now = self.db.clock().now();
        if now.since(self.checked_at) < HEARTBEAT {
            return true;
        }
        self.checked_at = now;
        self.session.is_valid().await
    }
}

/// An event as clients see it.
pub fn show(event: &Event) -> serde_json::Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "id": event.seq,
        "at": event.at.to_micros_z(),
        "resource": event.resource,
        "resource_id": event.resource_id,
        "change": event.change,
        "status": some(&event.status),
        "project_id": some(&event.project_id),
        "user_id": some(&event.user_id),
        "request_id": some(&event.request_id),
    })
}
