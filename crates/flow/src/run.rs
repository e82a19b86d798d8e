//! The loop of a server, and the stepping that tests do instead.

use std::{future::Future, pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};

use model::{Error, Timestamp, id, id::FlowId};
use store::flows::{self, Flow, Lease};
use tokio::task::JoinSet;

use crate::{Engine, Metrics, Result, Stepped, engine::Inner};

/// How long the loop stays away from a database that answers with errors.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// How long the loop leaves a flow alone that is due but locked: PostgreSQL, another server's transaction.
const LOCKED_PAUSE: Duration = Duration::from_millis(10);
/// Due flows among which a seeded test engine chooses.
const CHOICE_MAX: u32 = 100;
/// Steps after which [`Engine::settle`] takes it that flows chase each other.
const SETTLE_STEPS_MAX: usize = 100_000;

type Workers = JoinSet<Option<Timestamp>>;

impl Engine {
    /// Runs flows until `shutdown`; then lets steps under way end, for a while, and gives their flows back.
    ///
    /// It sleeps until a transaction makes a flow due or the next one is due by time.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let inner = &self.0;
        inner.stopping.store(false, Relaxed);
        let mut shutdown = pin!(shutdown);
        let mut workers = Workers::new();
        let mut look_at = inner.now();
        loop {
            let room = inner.config.concurrency.saturating_sub(workers.len());
            if room > 0 && look_at <= inner.now() {
                look_at = self.dispatch(&mut workers, room).await;
                continue;
            }
            let pause = look_at.since(inner.now());
            tokio::select! {
                () = &mut shutdown => break,
                () = inner.db.flows_due() => look_at = inner.now(),
                Some(ended) = workers.join_next() => {
                    look_at = note(look_at, ended);
                    // Those that ended meanwhile as well: one claim then fills all the room.
                    while let Some(ended) = workers.try_join_next() {
                        look_at = note(look_at, ended);
                    }
                }
                () = tokio::time::sleep(pause), if room > 0 => {}
            }
        }
        inner.stopping.store(true, Relaxed);
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(inner.config.grace, all).await.is_err() {
            tracing::warn!(left = workers.len(), "steps were still running at shutdown; their leases lapse");
        }
    }

    /// Claims what is due and starts workers on it. When to look again.
    async fn dispatch(&self, workers: &mut Workers, room: usize) -> Timestamp {
        let inner = &self.0;
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let claimed = match inner.claim(limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "flows could not be claimed");
                return inner.now() + DATABASE_PAUSE;
            }
        };
        let (all, none) = (claimed.len() < room, claimed.is_empty());
        for flow in claimed {
            let inner = inner.clone();
            workers.spawn(async move {
                inner.metrics.running.fetch_add(1, Relaxed);
                let outcome = inner.run_flow(flow).await;
                inner.metrics.running.fetch_sub(1, Relaxed);
                outcome.due_again()
            });
        }
        if !all {
            return inner.now();
        }
        let earliest = inner.now() + if none { LOCKED_PAUSE } else { Duration::ZERO };
        let guard = inner.now() + inner.config.guard;
        match inner.next_due().await {
            Ok(next) => next.map_or(guard, |next| next.max(earliest).min(guard)),
            Err(error) => {
                tracing::error!(%error, "the next flow could not be found");
                guard
            }
        }
    }

    /// Tests: runs one step of one flow that is due, if any. Without a seed it is the one that is due the longest.
    pub async fn step_due(&self) -> Result<Option<Stepped>> {
        let inner = &self.0;
        let claimed = match inner.config.seed {
            None => inner.claim(1).await?.pop(),
            Some(_) => inner.claim_any().await?,
        };
        let Some(flow) = claimed else { return Ok(None) };
        let (id, kind, step) = (flow.id.clone(), flow.kind.clone(), flow.step.clone());
        let (outcome, _) = inner.run_step(flow, false).await;
        Ok(Some(Stepped { id, kind, step, outcome }))
    }

    /// Tests: runs everything that is due now, one step at a time in this very task. The steps that were run.
    ///
    /// # Errors
    /// When flows never come to rest.
    pub async fn settle(&self) -> Result<Vec<Stepped>> {
        let mut steps = Vec::new();
        while let Some(stepped) = self.step_due().await? {
            steps.push(stepped);
            if steps.len() >= SETTLE_STEPS_MAX {
                return Err(Error::internal("settling flows", format!("no rest after {SETTLE_STEPS_MAX} steps")));
            }
        }
        Ok(steps)
    }

    /// Tests with a virtual clock: settles, then jumps from one due time to the next until `within` has passed. Ends
    /// early, with the clock where it is, once nothing is due any more unless woken.
    pub async fn run_for(&self, within: Duration) -> Result<Vec<Stepped>> {
        let end = self.0.now() + within;
        let mut steps = self.settle().await?;
        while let Some(next) = self.next_due().await?.filter(|next| *next <= end) {
            self.0.db.clock().advance(next.since(self.0.now()));
            steps.extend(self.settle().await?);
        }
        Ok(steps)
    }

    /// When the next flow is due, if any is by time.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        Ok(self.0.next_due().await?)
    }
}

/// Takes note of a worker that ended: when its flow is due again.
fn note(look_at: Timestamp, ended: Result<Option<Timestamp>, tokio::task::JoinError>) -> Timestamp {
    match ended {
        Ok(Some(due)) => look_at.min(due),
        Ok(None) => look_at,
        Err(error) => {
            // Machines' panics are caught; this one is the engine's own. The lease brings the flow back.
            tracing::error!(%error, "a flow worker died");
            look_at
        }
    }
}

impl Inner {
    async fn claim(&self, limit: u32) -> store::Result<Vec<Flow>> {
        let token = id::ordered_uuid().to_string();
        let mut tx = self.db.begin().await?;
        let lease = Lease { token: &token, until: tx.now() + self.config.lease };
        let flows = flows::claim_due(&mut tx, &self.kinds, limit, lease).await?;
        tx.commit().await?;
        flows.iter().for_each(|_| Metrics::add(&self.metrics.claims));
        Ok(flows)
    }

    /// Claims one of those that are due, chosen by the generator.
    async fn claim_any(&self) -> store::Result<Option<Flow>> {
        let token = id::ordered_uuid().to_string();
        let mut tx = self.db.begin().await?;
        let lease = Lease { token: &token, until: tx.now() + self.config.lease };
        let now = tx.now();
        let due: Vec<FlowId> = flows::due(&mut tx, &self.kinds, now, CHOICE_MAX).await?;
        let claimed = if due.is_empty() {
            None
        } else {
            let choice = usize::try_from(self.random() % due.len() as u64).unwrap_or(0);
            flows::claim(&mut tx, &due[choice], lease).await?
        };
        tx.commit().await?;
        Ok(claimed)
    }

    async fn next_due(&self) -> store::Result<Option<Timestamp>> {
        let now = self.now();
        flows::next_due(&mut *self.db.read().await?, &self.kinds, now).await
    }
}
