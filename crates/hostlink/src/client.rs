//! The agent's side of the link: where the control plane is and how to reach it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use model::id::{HostId, ImageId};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint as TonicEndpoint, Error, Identity as TonicIdentity},
};

use crate::{
    ImageAnnouncement, ImagePart,
    image_part::Part,
    pki::{CONTROL_NAME, Identity},
};

pub use crate::generated::host_link_client::HostLinkClient;

/// How long a connection attempt may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing moves is probed this often...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ...and given up when the probe stays unanswered this long.
const KEEP_ALIVE_TIME_MAX: Duration = Duration::from_secs(10);

/// Images travel in pieces of this size, a few of which may wait for the network.
const IMAGE_PIECE_BYTES: usize = 256 << 10;
const IMAGE_PIECES_WAITING: usize = 4;

/// Delivers a file as the image's data: the way a snapshot of a server's disk reaches the image store. The control plane
/// must have been told to expect it of this host (`store::images::deliveries::expect`).
///
/// Returns when the data is verified and kept. It may be called again whenever it fails, for the whole file: what an
/// earlier attempt has left is replaced. The file must not change meanwhile.
///
/// # Errors
/// `NotFound`, `PermissionDenied` and `FailedPrecondition` are final: the image is gone, was not expected of this host, is
/// refused or over quota. With all others, trying again may help.
pub async fn deliver_image(
    client: &mut HostLinkClient<Channel>,
    host: &HostId,
    image: &ImageId,
    file: &Path,
) -> Result<(), Status> {
    let failed = |error: io::Error| Status::internal(format!("reading the image to deliver: {error}"));
    let path = file.to_owned();
    let digested = spawn_blocking(move || digest(&path)).await.map_err(|e| failed(io::Error::other(e)))?;
    let (size_bytes, sha256) = digested.map_err(failed)?;
    let announcement = ImageAnnouncement { host_id: host.to_string(), image_id: image.to_string(), size_bytes, sha256 };
    let (parts, waiting) = mpsc::channel(IMAGE_PIECES_WAITING);
    // There is room for the first.
    let _ = parts.try_send(ImagePart { part: Some(Part::Announcement(announcement)) });
    let path = file.to_owned();
    let reader = spawn_blocking(move || feed(&path, size_bytes, &parts));
    // A reader that failed ends the stream early, and the control plane refuses what is short.
    let delivered = client.deliver_image(ReceiverStream::new(waiting)).await;
    match reader.await.map_err(|e| failed(io::Error::other(e)))? {
        Err(error) => Err(failed(error)),
        Ok(()) => delivered.map(drop),
    }
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; IMAGE_PIECE_BYTES];
    let mut size = 0;
    loop {
        let read = file.read(&mut piece)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        size += bytes.len() as u64;
    }
    Ok((size, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Ends without an error when nobody listens any more: whoever stopped knows why.
fn feed(path: &Path, size: u64, parts: &mpsc::Sender<ImagePart>) -> io::Result<()> {
    let mut file = File::open(path)?.take(size);
    loop {
        let mut data = Vec::with_capacity(IMAGE_PIECE_BYTES);
        file.by_ref().take(IMAGE_PIECE_BYTES as u64).read_to_end(&mut data)?;
        let part = ImagePart { part: Some(Part::Data(data.into())) };
        let ended = matches!(&part.part, Some(Part::Data(data)) if data.is_empty());
        if ended || parts.blocking_send(part).is_err() {
            return Ok(());
        }
    }
}

/// Where the control plane listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// On this machine.
    Unix(PathBuf),
    /// On another machine, with mutual TLS.
    Tls {
        /// `host:port`.
        address: String,
        /// What this host shows and trusts.
        identity: Identity,
    },
}

impl Endpoint {
    /// Opens a connection. Fails when nobody listens; the caller decides when to try again.
    pub async fn connect(&self) -> Result<HostLinkClient<Channel>, Error> {
        let endpoint = match self {
            Self::Unix(path) => TonicEndpoint::from_shared(format!("unix:{}", path.display()))?,
            Self::Tls { address, identity } => {
                let tls = ClientTlsConfig::new()
                    .domain_name(CONTROL_NAME)
                    .ca_certificate(Certificate::from_pem(&identity.authority_pem))
                    .identity(TonicIdentity::from_pem(&identity.certificate_pem, &identity.key_pem));
                TonicEndpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
            }
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIME_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIME_MAX)
            .keep_alive_while_idle(true)
            .connect()
            .await?;
        Ok(HostLinkClient::new(channel))
    }
}
