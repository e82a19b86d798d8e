//! The flow of an image: it waits for the end, and for uploads that nobody carries on.
//!
//! ```text
//! rest ──upload unheard of──> clear ──> rest        rest ──deleted──> remove ──> forget ──> done
//! rest ──import──> import ──> rest
//! ```
//!
//! Data arrives in the request that brings it (`data`), not in a step; what a step is for is what remains when that
//! request, or the whole process, dies. Agents keep copies of their own, so an image's files go with the image.

use std::{sync::Arc, time::Duration};

use ::flow::{BoxFuture, DONE, Done, Error, Flow, Machine, Next, Result, StepCx, StepInfo};
use model::id::ImageId;
use store::{
    images::{
        self, Data, Image, Status,
        tasks::{self, Task, TaskStatus},
    },
    quotas,
};

use super::logic::size_charge;
use crate::{
    State,
    data::{
        UNHEARD_OF_MAX,
        logic::{Declared, declared},
    },
    import::{
        self, ATTEMPTS_MAX,
        job::{self, Work},
    },
};

/// Removing files takes a moment; a disk that refuses is looked at again after that long.
const REMOVE_WITHIN: Duration = Duration::from_secs(600);

/// How long a deleted image's row stays: clients delete what they list, and go on from the last image they were shown.
const REMEMBERED: Duration = Duration::from_secs(3600);

const STEPS: &[StepInfo] = &[
    StepInfo::new(
        "rest",
        "waits for the delete; watches an upload, and gives up one that is unheard of",
        &["clear", "remove", "import"],
    ),
    StepInfo::new(
        "import",
        "makes staged data the image's; begins what fetches or converts, and watches it",
        &["rest", "clear"],
    ),
    StepInfo::new("clear", "removes the files that no row and no upload needs", &["rest"]),
    StepInfo::new("remove", "removes all files", &["forget"]),
    StepInfo::new("forget", "removes the row, once no list can have its id for a marker any more", &[DONE]),
];

/// The machine.
pub(crate) struct Images(pub(crate) Arc<State>);

impl Machine for Images {
    fn kind(&self) -> &'static str {
        images::deliveries::FLOW.0
    }

    fn steps(&self) -> &'static [StepInfo] {
        STEPS
    }

    fn run<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            let id: ImageId = flow.id.cast();
            match flow.step.as_str() {
                "rest" => rest(cx, &id).await,
                "import" => self.import(cx, &id).await,
                "clear" => self.clear(cx, &id).await,
                "remove" => self.remove(cx, &id).await,
                "forget" => self.forget(cx, &id).await,
                other => Err(Error::internal("running an image's flow", format!("no step {other}"))),
            }
        })
    }

    /// Only `remove` has a deadline, and there is nothing else that could be done: it goes on, for all to see.
    fn expired<'a>(&'a self, cx: &'a StepCx, flow: &'a Flow, _phase: &'a str) -> BoxFuture<'a, Result<Done>> {
        Box::pin(async move {
            tracing::error!(image = %flow.id, "the files of a deleted image could not be removed so far");
            cx.go(Next::wait("its files can't be removed").for_(REMOVE_WITHIN)).await
        })
    }
}

async fn read(cx: &StepCx, id: &ImageId) -> Result<Option<Image>> {
    Ok(images::get(&mut *cx.db().read().await?, id).await?)
}

async fn rest(cx: &StepCx, id: &ImageId) -> Result<Done> {
    let Some(image) = read(cx, id).await? else { return cx.go(Next::step("remove")).await };
    match image.status {
        Status::Deleted => cx.go(Next::step("remove").deadline("delete", REMOVE_WITHIN)).await,
        Status::Queued | Status::Active | Status::Deactivated => cx.go(Next::idle("at rest")).await,
        Status::Importing => cx.go(Next::step("import")).await,
        Status::Uploading if image.upload_seen.is_none() => cx.go(Next::idle("staged data waits for its import")).await,
        Status::Saving | Status::Uploading => {
            let limit = cx.now() - UNHEARD_OF_MAX;
            let mut tx = cx.begin().await?;
            let next = if images::abandon_upload(&mut tx, id, image.generation, limit).await? {
                tracing::warn!(image = %id, "an upload is unheard of and given up");
                Next::step("clear")
            } else {
                Next::wait("data is arriving").for_(UNHEARD_OF_MAX)
            };
            cx.finish(tx, next).await
        }
    }
}

/// The generation that the image had when the import was asked for.
fn task_base(task: &Task) -> i64 {
    task.input.get("generation").and_then(|n| n.as_i64()).unwrap_or_default()
}

async fn finish_staged(cx: &StepCx, image: &Image, data: &Data) -> Result<Done> {
    let mut tx = cx.begin().await?;
    let charge = size_charge(images::size_charge(data.size));
    if let Err(refused) = quotas::charge(&mut tx, &image.owner, &[charge]).await {
        drop(tx);
        return give_up(cx, &image.id, &refused).await;
    }
    if images::finish_upload(&mut tx, &image.id, image.generation, data).await? {
        import::succeeded(&mut tx, &image.id).await?;
    }
    cx.finish(tx, Next::step("rest")).await
}

async fn give_up(cx: &StepCx, id: &ImageId, why: &Error) -> Result<Done> {
    let mut tx = cx.begin().await?;
    if tasks::fail_import(&mut tx, id).await? {
        import::failed(&mut tx, id, why).await?;
    }
    cx.finish(tx, Next::step("clear")).await
}

impl Images {
    async fn clear(&self, cx: &StepCx, id: &ImageId) -> Result<Done> {
        if let Some(image) = read(cx, id).await? {
            // Only a generation that is older than the newest, or whose upload is over without data, is nobody's.
            let over = match image.status {
                Status::Saving | Status::Uploading | Status::Importing | Status::Active | Status::Deactivated => {
                    image.generation - 1
                }
                Status::Queued | Status::Deleted => image.generation,
            };
            self.0.files.remove_up_to(id, over).await?;
        }
        cx.go(Next::step("rest")).await
    }

    /// Staged data that hosts can open becomes the image's at once; what takes longer runs as a job of this process.
    async fn import(&self, cx: &StepCx, id: &ImageId) -> Result<Done> {
        let mut conn = cx.db().read().await?;
        let (Some(image), Some(task)) = (images::get(&mut conn, id).await?, tasks::newest(&mut conn, id).await?) else {
            return cx.go(Next::step("rest")).await;
        };
        if image.status != Status::Importing {
            return cx.go(Next::step("rest")).await;
        }
        let staged = tasks::staged(&mut conn, id).await?;
        drop(conn);
        let must_convert = matches!(declared(&image), Ok(Declared::Recognised(..)));
        let work = match (staged, task.input.pointer("/import_req/method/uri").and_then(|uri| uri.as_str())) {
            (Some(data), _) if must_convert => Work::Convert(data.file),
            (Some(data), _) => return finish_staged(cx, &image, &data).await,
            (None, Some(uri)) => Work::Fetch(uri.to_owned()),
            (None, None) => {
                let why = Error::conflict("ImportFailed", "The staged data is gone.");
                return give_up(cx, id, &why).await;
            }
        };
        if image.generation - task_base(&task) > ATTEMPTS_MAX {
            let why = Error::unavailable("ImportFailed", "The import was broken off too often.");
            return give_up(cx, id, &why).await;
        }
        let mut tx = cx.begin().await?;
        let begun = tasks::begin_fetch(&mut tx, id, cx.now() - UNHEARD_OF_MAX).await?;
        tasks::set_status(&mut tx, id, TaskStatus::Processing, "", None).await?;
        let done = cx.finish(tx, Next::wait("an import is under way").for_(UNHEARD_OF_MAX)).await?;
        // After the commit: a step that is repeated before it begins another generation.
        if let Some(generation) = begun {
            job::spawn(&self.0, cx.db(), id.clone(), generation, work);
        }
        Ok(done)
    }

    async fn remove(&self, cx: &StepCx, id: &ImageId) -> Result<Done> {
        self.0.files.remove_all(id).await?;
        cx.go(Next::step("forget").clear_deadline()).await
    }

    async fn forget(&self, cx: &StepCx, id: &ImageId) -> Result<Done> {
        if let Some(image) = read(cx, id).await? {
            let left = REMEMBERED.saturating_sub(cx.now().since(image.updated_at));
            if !left.is_zero() {
                return cx.go(Next::wait("lists may still go on from it").for_(left)).await;
            }
        }
        // Once more: an upload may have made its file just after they were removed, and died.
        self.0.files.remove_all(id).await?;
        let mut tx = cx.begin().await?;
        images::remove(&mut tx, id).await?;
        cx.finish(tx, Next::done()).await
    }
}
