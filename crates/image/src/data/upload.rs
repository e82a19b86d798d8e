//! Uploads: a stream of bytes that becomes an image's data, wherever it comes from.
//!
//! An upload runs in a task of its own: a client that goes away ends its request, and must not end the tidying up.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use axum::body::Body;
use http_body_util::BodyExt;
use model::{Error, ErrorKind, Result, id::ImageId, quota::UNLIMITED};
use store::{
    Db, flows,
    images::{self, Data, Image, deliveries, tasks},
    quotas,
};
use tokio::sync::mpsc;
use web::{Cx, Reply};

use super::{
    Files,
    convert::Convert,
    files::{Piece, Received},
    logic::{self, Declared},
};
use crate::{State, image::logic::size_charge, import};

/// How long an upload may stand still.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often an upload says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Pieces between the socket and the disk.
const PIECES_MAX: usize = 16;
/// What is still read of an upload that is refused, so that its client comes to read why.
const DRAIN_BYTES_MAX: u64 = 256 << 20;
const OCTETS: &str = "application/octet-stream";

/// `PUT /v2/images/{image_id}/file`.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    take(cx, Purpose::Save).await
}

/// `PUT /v2/images/{image_id}/stage`.
pub(crate) async fn stage(cx: &Cx) -> Result<Reply> {
    take(cx, Purpose::Stage).await
}

async fn take(cx: &Cx, purpose: Purpose) -> Result<Reply> {
    let mut body = cx.take_stream();
    let refused = match begin(cx, purpose).await {
        Ok(upload) => {
            // On its own: a client that goes away ends this future, and must not end the tidying up.
            let run = tokio::spawn(upload.run(body));
            let (result, rest) = run.await.map_err(|e| Error::internal("receiving an upload", e))?;
            match result {
                Ok(()) => return Ok(Reply::no_content()),
                Err(refused) => {
                    body = rest;
                    refused
                }
            }
        }
        Err(refused) => refused,
    };
    drain(body).await;
    Err(refused)
}

/// What an upload's data becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The image's data, at once.
    Save,
    /// Data that waits for its import.
    Stage,
    /// The image's data, converted where no host could open it.
    Import,
}

/// An upload that has begun.
pub(crate) struct Upload {
    pub purpose: Purpose,
    pub convert: Convert,
    pub db: Db,
    pub files: Files,
    pub id: ImageId,
    pub generation: i64,
    pub declared: Declared,
    pub bytes_max: u64,
    /// What the client has announced.
    pub announced: Option<u64>,
    /// The hash that it must have: its name as Glance has it, and hex.
    pub expected: Option<(String, String)>,
}

/// Checks all that can be known before the first byte, and marks the image as being saved.
async fn begin(cx: &Cx, purpose: Purpose) -> Result<Upload> {
    let media_type = cx.header("content-type").and_then(|c| c.split(';').next()).map(str::trim);
    if media_type != Some(OCTETS) {
        return Err(Error::new(
            ErrorKind::UnsupportedMedia,
            "UnsupportedMediaType",
            format!("Image data is uploaded with Content-Type {OCTETS}."),
        ));
    }
    let announced = announced(cx)?;
    let mut tx = cx.db().begin().await?;
    let image = crate::image::api::find_for_update(cx, &mut tx).await?.image;
    logic::refuse_signed(&image)?;
    let declared = logic::declared(&image)?;
    let bytes_max = logic::bytes_max(quota_left(&mut tx, &image).await?);
    if announced.is_some_and(|size| size > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let (begun, to) = match purpose {
        Purpose::Stage => (tasks::begin_staging(&mut tx, &image.id).await?, "uploading"),
        Purpose::Save | Purpose::Import => (images::begin_upload(&mut tx, &image.id).await?, "saving"),
    };
    let generation = begun.ok_or_else(|| {
        let text = format!("Image status transition from {} to {to} is not allowed", image.status.as_str());
        Error::conflict("InvalidImageStatusTransition", text)
    })?;
    // It now watches the upload.
    flows::wake(&mut tx, &image.id);
    tx.commit().await?;
    let state = cx.state::<State>()?;
    Ok(Upload {
        purpose,
        convert: state.config.convert.clone(),
        db: cx.db().clone(),
        files: state.files.clone(),
        id: image.id,
        generation,
        declared,
        bytes_max,
        announced,
        expected: None,
    })
}

/// The size that the client announces, in either header.
fn announced(cx: &Cx) -> Result<Option<u64>> {
    let number = |name: &str| {
        let invalid = || Error::bad_request("InvalidSize", format!("The header {name} is a number of bytes."));
        cx.header(name).map(|text| text.trim().parse::<u64>().map_err(|_| invalid())).transpose()
    };
    Ok(number("x-openstack-image-size")?.or(number("content-length")?))
}

/// MiB that the owner may still store; none: as many as it likes.
pub(crate) async fn quota_left(conn: &mut store::Conn, image: &Image) -> Result<Option<i64>> {
    let charge = size_charge(0);
    let limit = quotas::limit(conn, &image.owner, charge.resource).await?.unwrap_or(charge.default_limit);
    let used = quotas::used(conn, &image.owner, charge.resource).await?;
    Ok((limit != UNLIMITED).then(|| limit - used))
}

pub(crate) fn too_large(bytes_max: u64) -> Error {
    let text = format!("The image data is larger than the {bytes_max} bytes that the size limit and the quota leave.");
    Error::too_large("ImageSizeLimitExceeded", text)
}

fn gone(id: &ImageId) -> Error {
    let text =
        format!("Image {id} could not be found after upload. The image may have been deleted during the upload.");
    Error::new(ErrorKind::Gone, "ImageGone", text)
}

impl Upload {
    /// The whole upload, tidied up whatever happens; and what is left of the body.
    pub(crate) async fn run(self, mut body: Body) -> (Result<()>, Body) {
        let result = async {
            let received = self.receive(&mut body).await?;
            self.verify(&received)?;
            self.keep(received).await
        };
        let result = result.await;
        if let Err(refused) = &result
            && let Err(error) = self.give_up(refused).await
        {
            // The flow finds it: nobody reports on this upload any more.
            tracing::error!(image = %self.id, ?error, "a failed upload could not be tidied up");
        }
        (result, body)
    }

    /// The end of an import whose data did not come as a stream: kept, or given up.
    pub(crate) async fn end(&self, received: Result<Received>) -> Result<()> {
        let result = match received {
            Ok(received) => self.finish(received, Some("qcow2".to_owned())).await,
            Err(refused) => Err(refused),
        };
        match result {
            Ok(()) => Ok(()),
            Err(refused) => self.give_up(&refused).await,
        }
    }

    async fn receive(&self, body: &mut Body) -> Result<Received> {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let write = self.files.receive(&self.id, self.generation, self.declared.clone(), pieces);
        let (sent, written) = tokio::join!(self.send(body, sender), write);
        // A reader that stopped because the writer did knows less than the writer.
        match (sent, written) {
            (Err(Stopped::Reading(error)), _) | (Ok(()), Err(error)) => Err(error),
            (_, written) => written,
        }
    }

    /// Reads the body into the channel, within its limits.
    async fn send(&self, body: &mut Body, pieces: mpsc::Sender<Piece>) -> Result<(), Stopped> {
        let (mut size, mut beat) = (0_u64, Instant::now());
        while let Some(data) = next_frame(body).await? {
            size += data.len() as u64;
            if size > self.bytes_max {
                return Err(too_large(self.bytes_max).into());
            }
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                self.report().await?;
            }
            pieces.send(Piece::Data(data)).await.map_err(|_| Stopped::Writing)?;
        }
        if let Some(announced) = self.announced.filter(|announced| *announced != size) {
            let text = format!("The upload was announced with {announced} bytes and has {size}.");
            return Err(Error::bad_request("SizeMismatch", text).into());
        }
        pieces.send(Piece::End).await.map_err(|_| Stopped::Writing)
    }

    fn verify(&self, received: &Received) -> Result<()> {
        let Some((algorithm, expected)) = &self.expected else { return Ok(()) };
        let found = match algorithm.as_str() {
            "md5" => &received.md5,
            "sha256" => &received.sha256,
            "sha512" => &received.sha512,
            other => return Err(Error::bad_request("BadHash", format!("The hash {other} is not supported."))),
        };
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        let text = format!("The data's {algorithm} is {found}, not {expected} as was announced.");
        Err(Error::bad_request("HashMismatch", text))
    }

    async fn report(&self) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !images::touch_upload(&mut tx, &self.id, self.generation).await? {
            return Err(gone(&self.id));
        }
        Ok(tx.commit().await?)
    }

    /// Converts what no host could open, where that is wanted, and makes the result the image's data.
    pub(crate) async fn keep(&self, received: Received) -> Result<()> {
        let Declared::Recognised(format, _) = self.declared else { return self.finish(received, None).await };
        if self.purpose != Purpose::Import {
            return self.finish(received, None).await;
        }
        let source = Files::name(&self.id, self.generation);
        let converted = self.convert_file(format, &source).await?;
        self.finish(converted, Some("qcow2".to_owned())).await
    }

    /// Converts a file of the image directory into this upload's. Reports meanwhile that it is alive.
    pub(crate) async fn convert_file(&self, format: &'static str, source: &str) -> Result<Received> {
        let target = Files::name(&self.id, self.generation);
        let work = self.convert.run(&self.files, format, source, &target, self.bytes_max);
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(HEARTBEAT, &mut work).await {
                Ok(converted) => return converted,
                Err(_) => self.report().await?,
            }
        }
    }

    /// Makes what was received the image's data, or what waits for its import.
    pub(crate) async fn finish(&self, received: Received, format: Option<String>) -> Result<()> {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let data = Data {
            file: Files::name(&self.id, self.generation),
            size: signed(received.size),
            virtual_size: received.virtual_size.map(signed),
            checksum: received.md5,
            hash_algo: "sha512",
            hash_value: received.sha512,
            sha256: received.sha256,
            format,
        };
        let mut tx = self.db.begin().await?;
        if self.purpose == Purpose::Stage {
            if !tasks::finish_staging(&mut tx, &self.id, self.generation, &data).await? {
                return Err(gone(&self.id));
            }
            flows::wake(&mut tx, &self.id);
            return Ok(tx.commit().await?);
        }
        // The owner may have changed meanwhile.
        let image = images::get_for_update(&mut tx, &self.id).await?.ok_or_else(|| gone(&self.id))?;
        quotas::charge(&mut tx, &image.owner, &[size_charge(images::size_charge(data.size))]).await?;
        if !images::finish_upload(&mut tx, &self.id, self.generation, &data).await? {
            return Err(gone(&self.id));
        }
        if self.purpose == Purpose::Import {
            import::succeeded(&mut tx, &self.id).await?;
        }
        flows::wake(&mut tx, &self.id);
        deliveries::wake(&mut tx, &self.id).await?;
        Ok(tx.commit().await?)
    }

    /// The files first: the row says that there may be some until then.
    async fn give_up(&self, refused: &Error) -> Result<()> {
        if self.purpose == Purpose::Import {
            // With what was staged, which nobody can import a second time.
            self.files.remove_up_to(&self.id, self.generation).await?;
        } else {
            self.files.remove(&self.id, self.generation).await?;
        }
        let mut tx = self.db.begin().await?;
        let now = tx.now();
        let abandoned = images::abandon_upload(&mut tx, &self.id, self.generation, now).await?;
        if abandoned && self.purpose == Purpose::Import {
            import::failed(&mut tx, &self.id, refused).await?;
        }
        flows::wake(&mut tx, &self.id);
        Ok(tx.commit().await?)
    }
}

/// Why reading the body stopped early.
enum Stopped {
    /// For a reason of its own.
    Reading(Error),
    /// Because nobody takes the pieces any more; the writer knows why.
    Writing,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Reading(error)
    }
}

/// The next bytes of a body that keeps moving.
async fn next_frame(body: &mut Body) -> Result<Option<bytes::Bytes>> {
    loop {
        let frame = within(STALL_MAX, body.frame()).await?;
        if !matches!(frame, Some(Ok(_))) {
            // What has ended must not be asked again.
            *body = Body::empty();
        }
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Error::bad_request("UploadBrokenOff", "The upload broke off.").because(error));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Error::bad_request("UploadStalled", format!("Nothing of the upload arrived for {} seconds.", limit.as_secs()))
    })
}

/// Reads on for a while: most clients look for an answer only when they have sent everything.
async fn drain(mut body: Body) {
    let mut size = 0;
    while let Ok(Some(data)) = next_frame(&mut body).await {
        size += data.len() as u64;
        if size > DRAIN_BYTES_MAX {
            break;
        }
    }
}
