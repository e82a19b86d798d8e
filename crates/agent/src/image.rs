//! Image bytes from the control plane, for the disk driver to verify and keep.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use drivers::disk::ImageSource;
use futures_util::TryStreamExt;
use hostlink::{
    ImageRequest,
    client::{HostLinkClient, deliver_image},
};
use model::id::{HostId, ImageId};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use tonic::{Code, Status, transport::Channel};

use crate::failure::{Failure, RefusedImage};

/// Where images come from while the link is up.
#[derive(Default)]
pub(crate) struct Images {
    link: Mutex<Option<(HostLinkClient<Channel>, String)>>,
}

impl Images {
    /// The link is up (with this host's id) or down.
    pub(crate) fn set_link(&self, link: Option<(HostLinkClient<Channel>, String)>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// The link and this host's id, while it is up.
    pub(crate) fn link(&self) -> Option<(HostLinkClient<Channel>, String)> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The image's bytes. Nothing is asked of the control plane before the future is polled.
    pub(crate) fn source<'a>(&'a self, image: &'a ImageId) -> ImageSource<'a> {
        Box::pin(async move {
            let Some((mut client, host_id)) = self.link() else {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the control plane is not connected"));
            };
            let request = ImageRequest { host_id, image_id: image.as_str().to_owned() };
            let chunks = client.fetch_image(request).await.map_err(to_io)?.into_inner();
            let reader = StreamReader::new(chunks.map_ok(|chunk| chunk.data).map_err(to_io));
            Ok(Box::new(reader) as Box<dyn AsyncRead + Send + Unpin>)
        })
    }
}

impl Images {
    /// Sends a file as the image's data.
    pub(crate) async fn deliver(&self, image: &ImageId, file: &Path) -> Result<(), Failure> {
        let away = || io::Error::new(io::ErrorKind::NotConnected, "the control plane is not connected");
        let (mut client, host_id) = self.link().ok_or_else(|| Failure::Delivery(away()))?;
        let delivered = deliver_image(&mut client, &HostId::new(host_id), image, file).await;
        delivered.map_err(|status| Failure::Delivery(to_io(status)))
    }
}

fn to_io(status: Status) -> io::Error {
    match status.code() {
        Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition => {
            io::Error::other(RefusedImage(status.message().to_owned()))
        }
        _ => io::Error::new(io::ErrorKind::ConnectionAborted, status.message().to_owned()),
    }
}
