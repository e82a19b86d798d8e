//! The connection: one task that connects, keeps the replica, sends requests and matches their replies.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use super::{Event, Operation, OvsdbError, Remote, Replica, Row, TableSpec, frame::Framer};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// After this long without a word from the server we ask whether it is there; after as long again we hang up.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const REQUESTS_QUEUED_MAX: usize = 256;
const REQUESTS_IN_FLIGHT_MAX: usize = 256;
const EVENTS_QUEUED_MAX: usize = 1024;
const READ_BYTES: usize = 64 * 1024;

/// What a client connects to and monitors.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers, tried in turn.
    pub remotes: Vec<Remote>,
    /// The database: `OVN_Northbound`, `Open_vSwitch`.
    pub database: &'static str,
    /// What is kept in the replica.
    pub tables: &'static [TableSpec],
    /// How long a transaction may take, waiting for a connection included.
    pub request_time_max: Duration,
}

/// A handle to the connection; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    request_time_max: Duration,
    database: &'static str,
    state: watch::Receiver<State>,
}

/// What the task and the handles share.
struct Shared {
    replica: RwLock<Replica>,
    events: broadcast::Sender<Event>,
    transactions: AtomicU64,
}

/// The connection's state, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    synced: bool,
    /// Counts the updates applied, so that one can wait for the next.
    version: u64,
    last_error: Option<String>,
}

struct Request {
    method: &'static str,
    params: Value,
    reply: oneshot::Sender<Result<Value, OvsdbError>>,
}

impl Client {
    /// Starts the connection's task on the current runtime. Returns at once; requests wait until it is connected.
    pub fn start(config: Config) -> Self {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (state_out, state) = watch::channel(State { synced: false, version: 0, last_error: None });
        let replica = RwLock::new(Replica::new(config.tables));
        let shared = Arc::new(Shared {
            replica,
            events: broadcast::channel(EVENTS_QUEUED_MAX).0,
            transactions: AtomicU64::new(0),
        });
        let (request_time_max, database) = (config.request_time_max, config.database);
        let task = Task { config, shared: shared.clone(), queue, state: state_out, next_id: 0, last_txn: None };
        tokio::spawn(task.run());
        Self { shared, requests, request_time_max, database, state }
    }

    /// The monitored tables as they are now. Don't hold it across an `await`.
    pub fn replica(&self) -> RwLockReadGuard<'_, Replica> {
        self.shared.replica.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes from now on. A slow reader gets `Lagged` and must look at everything anew.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Whether the connection stands and the replica is complete.
    pub fn connected(&self) -> bool {
        self.state.borrow().synced
    }

    /// Waits until the replica is complete.
    pub async fn ready(&self) -> Result<(), OvsdbError> {
        let mut state = self.state.clone();
        let waiting = timeout(self.request_time_max, state.wait_for(|state| state.synced)).await;
        match waiting {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.no_answer()),
        }
    }

    /// Waits until `done` holds of the replica; checks it after every change.
    pub async fn wait_until(&self, within: Duration, done: impl Fn(&Replica) -> bool) -> Result<(), OvsdbError> {
        let mut state = self.state.clone();
        let waiting = async {
            loop {
                let synced = state.borrow_and_update().synced;
                if synced && done(&self.replica()) {
                    return true;
                }
                if state.changed().await.is_err() {
                    return false;
                }
            }
        };
        match timeout(within, waiting).await {
            Ok(true) => Ok(()),
            _ => Err(self.no_answer()),
        }
    }

    /// How many transactions were asked for, for metrics.
    pub fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Relaxed)
    }

    /// Carries out the operations, all or none. Returns what each of them answered.
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Value>, OvsdbError> {
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        let mut params = vec![json!(self.database)];
        params.extend(operations.into_iter().map(Operation::into_value));
        let reply = self.request("transact", Value::Array(params)).await?;
        let Value::Array(results) = reply else {
            return Err(OvsdbError::NoAnswer(format!("a reply to transact that is no list: {reply}")));
        };
        for (index, result) in results.iter().enumerate() {
            if let Some(error) = result["error"].as_str() {
                let details = result["details"].as_str().unwrap_or_default().to_owned();
                return Err(OvsdbError::Refused { index, error: error.to_owned(), details });
            }
        }
        Ok(results)
    }

    /// A stream of what `map` makes of the rows of a table (with [`TableSpec::notify`]): first of every row, as if it
    /// were new, then of each change; of every row again after a gap. `map` gets the row as it was and as it is.
    pub fn watch_rows<T, M>(&self, table: &'static str, map: M) -> BoxStream<'static, T>
    where
        T: Send + 'static,
        M: Fn(Option<&Row>, Option<&Row>) -> Option<T> + Send + 'static,
    {
        let events = self.subscribe();
        let state = Watch { client: self.clone(), events, map, ready: VecDeque::new(), all: true };
        let next = move |mut watch: Watch<M, T>| async move {
            loop {
                if std::mem::take(&mut watch.all) {
                    let replica = watch.client.replica();
                    watch.ready = replica.rows(table).filter_map(|(_, row)| (watch.map)(None, Some(row))).collect();
                }
                if let Some(item) = watch.ready.pop_front() {
                    return Some((item, watch));
                }
                match watch.events.recv().await {
                    Ok(Event::Changed(changes)) => {
                        let own = changes.iter().filter(|change| change.table == table);
                        let items = own.filter_map(|c| (watch.map)(c.old.as_deref(), c.new.as_deref()));
                        watch.ready.extend(items);
                    }
                    Ok(Event::Reset) | Err(broadcast::error::RecvError::Lagged(_)) => watch.all = true,
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        futures_util::stream::unfold(state, next).boxed()
    }

    /// A stream of the moments at which the replica was read anew as a whole.
    pub fn watch_resets(&self) -> BoxStream<'static, ()> {
        let next = |mut events: broadcast::Receiver<Event>| async move {
            loop {
                match events.recv().await {
                    Ok(Event::Changed(_)) => {}
                    // Whoever missed some may have missed one.
                    Ok(Event::Reset) | Err(broadcast::error::RecvError::Lagged(_)) => return Some(((), events)),
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        futures_util::stream::unfold(self.subscribe(), next).boxed()
    }

    async fn request(&self, method: &'static str, params: Value) -> Result<Value, OvsdbError> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.requests.send(Request { method, params, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout(self.request_time_max, exchange).await {
            Ok(Some(result)) => result,
            _ => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> OvsdbError {
        let state = self.state.borrow();
        let seconds = self.request_time_max.as_secs_f32();
        OvsdbError::NoAnswer(match &state.last_error {
            Some(why) if !state.synced => format!("{}: {why}", self.database),
            _ => format!("{}: nothing within {seconds} s", self.database),
        })
    }
}

/// The state of [`Client::watch_rows`].
struct Watch<M, T> {
    client: Client,
    events: broadcast::Receiver<Event>,
    map: M,
    ready: VecDeque<T>,
    all: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

struct Task {
    config: Config,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    state: watch::Sender<State>,
    next_id: u64,
    last_txn: Option<String>,
}

/// One connection's life.
struct Session {
    stream: Box<dyn Stream>,
    framer: Framer,
    pending: HashMap<u64, oneshot::Sender<Result<Value, OvsdbError>>>,
    heard: Instant,
    probed: bool,
}

/// Why a session ended.
enum End {
    /// Every handle is gone.
    Unused,
    /// It broke.
    Broken(String),
}

impl<E: std::error::Error> From<E> for End {
    fn from(error: E) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        for turn in 0.. {
            let remote = self.config.remotes.get(turn % self.config.remotes.len().max(1)).cloned();
            let end = match remote {
                Some(remote) => self.session(&remote).await,
                None => End::Broken("no address given".into()),
            };
            let End::Broken(why) = end else { return };
            if self.state.borrow().synced {
                tracing::warn!(database = self.config.database, why, "the connection to OVSDB broke");
                backoff = BACKOFF_FIRST;
            }
            self.state.send_modify(|state| (state.synced, state.last_error) = (false, Some(why)));
            // The queue is left alone meanwhile: its requests wait for the next connection or their own time-out.
            if self.queue.is_closed() {
                return;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn session(&mut self, remote: &Remote) -> End {
        let mut session = match connect(remote).await {
            Ok(stream) => Session {
                stream,
                framer: Framer::default(),
                pending: HashMap::new(),
                heard: Instant::now(),
                probed: false,
            },
            Err(why) => return End::Broken(why),
        };
        match timeout(SYNC_TIME_MAX, self.synchronize(&mut session)).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return End::Broken("the server did not send its content in time".into()),
        }
        let Err(end) = self.serve(&mut session).await else { return End::Unused };
        end
    }

    /// Gets the schema and the content of the monitored tables.
    async fn synchronize(&mut self, session: &mut Session) -> Result<(), End> {
        let schema = self.call(session, "get_schema", json!([self.config.database])).await?;
        self.write_replica(|replica| replica.learn_schema(&schema));
        let requests = self.write_replica(|replica| replica.monitor_requests());
        let since = self.last_txn.clone().unwrap_or_else(|| uuid::Uuid::nil().to_string());
        let params = json!([self.config.database, "replica", requests, since]);
        let reply = self.call(session, "monitor_cond_since", params).await?;
        let known = reply[0] == json!(true);
        let applied = self.write_replica(|replica| {
            if !known {
                replica.clear();
            }
            replica.apply(&reply[2])
        });
        self.last_txn = reply[1].as_str().map(str::to_owned);
        if applied.is_none() {
            self.last_txn = None;
            return Err(End::Broken("the server sent content that can't be understood".into()));
        }
        self.state.send_modify(|state| {
            (state.synced, state.last_error) = (true, None);
            state.version += 1;
        });
        let _nobody_listens = self.shared.events.send(Event::Reset);
        Ok(())
    }

    /// A request of our own before requests of others are taken.
    async fn call(&mut self, session: &mut Session, method: &'static str, params: Value) -> Result<Value, End> {
        let (reply, mut answer) = oneshot::channel();
        self.send(session, Request { method, params, reply }).await?;
        loop {
            match answer.try_recv() {
                Ok(result) => return Ok(result?),
                Err(oneshot::error::TryRecvError::Closed) => return Err(End::Broken("no reply".into())),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let bytes = read(&mut session.stream).await?;
            self.take(session, &bytes).await?;
        }
    }

    /// Requests out, replies and updates in, until the connection breaks or nobody holds a handle.
    async fn serve(&mut self, session: &mut Session) -> Result<(), End> {
        loop {
            let deadline = session.heard + PROBE_AFTER * if session.probed { 2 } else { 1 };
            let roomy = session.pending.len() < REQUESTS_IN_FLIGHT_MAX;
            tokio::select! {
                bytes = read(&mut session.stream) => self.take(session, &bytes?).await?,
                request = self.queue.recv(), if roomy => match request {
                    Some(request) => self.send(session, request).await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(deadline) => {
                    if session.probed {
                        return Err(End::Broken("the server does not answer".into()));
                    }
                    session.probed = true;
                    let probe = json!({"method": "echo", "params": [], "id": "probe"});
                    write(&mut session.stream, &probe).await?;
                }
            }
        }
    }

    async fn send(&mut self, session: &mut Session, request: Request) -> Result<(), End> {
        if request.reply.is_closed() {
            return Ok(());
        }
        self.next_id += 1;
        let message = json!({"method": request.method, "params": request.params, "id": self.next_id});
        session.pending.insert(self.next_id, request.reply);
        write(&mut session.stream, &message).await
    }

    async fn take(&mut self, session: &mut Session, bytes: &[u8]) -> Result<(), End> {
        (session.heard, session.probed) = (Instant::now(), false);
        session.framer.push(bytes);
        while let Some(text) = session.framer.next() {
            let message: Value = serde_json::from_slice(&text)?;
            self.handle(session, message).await?;
        }
        if session.framer.too_large() {
            return Err(End::Broken("the server sends a message beyond every limit".into()));
        }
        Ok(())
    }

    async fn handle(&mut self, session: &mut Session, mut message: Value) -> Result<(), End> {
        match message["method"].as_str() {
            Some("echo") => {
                let reply = json!({"id": message["id"], "result": message["params"], "error": null});
                write(&mut session.stream, &reply).await
            }
            Some("update3") => self.update(&message["params"]),
            Some(_) => Ok(()),
            None => {
                let waiting = message["id"].as_u64().and_then(|id| session.pending.remove(&id));
                if let Some(waiting) = waiting {
                    let _given_up = waiting.send(match message["error"].take() {
                        Value::Null => Ok(message["result"].take()),
                        error => Err(OvsdbError::NoAnswer(format!("the server refused the request: {error}"))),
                    });
                }
                Ok(())
            }
        }
    }

    /// `update3`: `[monitor, transaction, changes]`.
    fn update(&mut self, params: &Value) -> Result<(), End> {
        let Some(changes) = self.write_replica(|replica| replica.apply(&params[2])) else {
            self.last_txn = None;
            return Err(End::Broken("the server sent a change that can't be understood".into()));
        };
        self.last_txn = params[1].as_str().map(str::to_owned);
        self.state.send_modify(|state| state.version += 1);
        if !changes.is_empty() {
            let _nobody_listens = self.shared.events.send(Event::Changed(changes.into()));
        }
        Ok(())
    }

    fn write_replica<T>(&self, change: impl FnOnce(&mut Replica) -> T) -> T {
        change(&mut self.shared.replica.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

async fn connect(remote: &Remote) -> Result<Box<dyn Stream>, String> {
    let connecting = async {
        match remote {
            Remote::Unix(path) => UnixStream::connect(path).await.map(|s| Box::new(s) as Box<dyn Stream>),
            Remote::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }
        }
    };
    match timeout(CONNECT_TIME_MAX, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(why)) => Err(format!("{remote:?}: {why}")),
        Err(_) => Err(format!("{remote:?}: no connection in time")),
    }
}

/// Cancel-safe: nothing is lost if another branch of a `select!` wins.
async fn read(stream: &mut Box<dyn Stream>) -> Result<bytes::Bytes, End> {
    let mut bytes = bytes::BytesMut::with_capacity(READ_BYTES);
    match stream.read_buf(&mut bytes).await? {
        0 => Err(End::Broken("the server hung up".into())),
        _ => Ok(bytes.freeze()),
    }
}

async fn write(stream: &mut Box<dyn Stream>, message: &Value) -> Result<(), End> {
    let bytes = serde_json::to_vec(message)?;
    match timeout(WRITE_TIME_MAX, stream.write_all(&bytes)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(End::Broken("the server does not read".into())),
    }
}
