//! Images: OpenStack's Image API v2 (Glance), below `/image`.
//!
//! | resource | where | what |
//! |---|---|---|
//! | image | `image/` | the record: name, formats, visibility, properties; its flow |
//! | data | `data/` | its content: streaming upload and download, the files behind them |
//! | import | `import/` | data that is staged or fetched, and becomes the image's in the background |
//! | task | `task.rs` | how imports went |
//! | delivery | `delivery.rs` | data that hosts bring: snapshots of servers' disks |
//! | member | `member.rs` | projects that a shared image is shared with |
//! | tag | `tag.rs` | one tag at a time |
//! | metadata definitions | `metadef/` | Glance's catalogue of what properties mean |
//! | schema | `schema.rs` | every attribute, once: the documents that clients read and the check of what they send |
//! | info | `info.rs` | what this installation offers |
//!
//! ```text
//! queued ──PUT file──> saving ──checked, on disk──> active <──> deactivated        * ──DELETE──> deleted, then gone
//! queued ──PUT stage──> uploading ──POST import──> importing ──> active
//!    ^                   │
//!    └── refused, broken off, or unheard of for a while
//! ```
//!
//! Invariants:
//! - A declared format is checked before anything reaches the disk; what names another file is refused.
//! - The data of an active image never changes and lies, complete and synced, in the file that its row names.
//! - A file belongs to one upload (its generation is the name), so any process can tell which files nobody needs.
//! - Whoever may not see an image is told that there is none.

mod data;
mod delivery;
mod doctor;
mod image;
mod import;
mod info;
mod member;
mod metadef;
pub mod policy;
mod routes;
mod schema;
mod tag;
mod task;
mod versions;

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data::Files;
use model::id::ImageId;

pub use data::convert::Convert;
pub use doctor::{doctor, repair};

/// What the handlers and the flow share.
pub struct State {
    files: Files,
    config: Config,
    /// Imports that this process carries on: image and generation.
    jobs: Mutex<HashSet<(ImageId, i64)>>,
}

/// Settings of the service; the defaults are for production.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Networks that web-download may fetch from though they are none of the internet.
    pub download_networks: Vec<ipnet::IpNet>,
    /// The tools of conversions.
    pub convert: Convert,
}

impl State {
    /// Images whose data lies in this directory, which is created where there is none.
    ///
    /// # Errors
    /// When it can't be.
    pub async fn open(directory: impl Into<PathBuf>) -> io::Result<Arc<Self>> {
        Self::with_config(directory, Config::default()).await
    }

    /// With other settings.
    ///
    /// # Errors
    /// As [`State::open`].
    pub async fn with_config(directory: impl Into<PathBuf>, config: Config) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { files: Files::open(directory.into()).await?, config, jobs: Mutex::default() }))
    }

    fn jobs(&self) -> MutexGuard<'_, HashSet<(ImageId, i64)>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service.
pub fn service(state: Arc<State>) -> web::Service {
    web::Service {
        name: "image",
        prefix: "/image",
        routes: routes::ROUTES,
        policy: policy::RULES,
        versions: None,
        faults: web::FaultStyle::Glance,
        state,
    }
}

/// Where the data goes that hosts deliver: for [`hostlink::server::Hub::take_images`].
pub fn intake(db: store::Db, state: Arc<State>) -> Arc<dyn hostlink::server::ImageIntake> {
    Arc::new(delivery::Deliveries { db, state })
}

/// The flows: one per image.
pub fn machines(state: Arc<State>) -> Vec<Arc<dyn flow::Machine>> {
    vec![Arc::new(image::flow::Images(state))]
}
