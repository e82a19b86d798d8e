//! Handlers of data: download; upload is in `upload.rs`.

use axum::body::Body;
use model::{Error, Result};
use store::images::Status;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use web::{Cx, Reply, StatusCode};

use super::logic::{self, Part};
use crate::{State, image::api::find};

const READ_BYTES: usize = 256 << 10;
const OCTETS: &str = "application/octet-stream";

/// `GET /v2/images/{image_id}/file`.
pub(crate) async fn download(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    let image = found.image;
    if image.status == Status::Deactivated && !found.admin {
        return Err(Error::forbidden(
            "Forbidden",
            "The requested image has been deactivated. Image data download is forbidden.",
        ));
    }
    let (Some(file), Some(size)) = (&image.file, image.size) else { return Ok(Reply::no_content()) };
    let size = u64::try_from(size).unwrap_or(0);
    let (status, first, length) = match logic::part(cx.header("range"), size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Beyond => {
            return Ok(Reply::empty(StatusCode::RANGE_NOT_SATISFIABLE).with("content-range", format!("bytes */{size}")));
        }
    };
    let data = cx.state::<State>()?.files.read(file, first).await?.take(length);
    let body = Body::from_stream(ReaderStream::with_capacity(data, READ_BYTES));
    let mut reply =
        Reply::stream(status, OCTETS, body).with("content-length", length.to_string()).with("accept-ranges", "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        reply = reply.with("content-range", format!("bytes {first}-{}/{size}", first + length - 1));
    } else if let Some(checksum) = &image.checksum {
        // Hex, not base64 as HTTP once had it: clients of Glance compare it with `checksum`.
        reply = reply.with("content-md5", checksum);
    }
    Ok(reply)
}
