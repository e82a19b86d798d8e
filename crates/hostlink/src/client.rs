//! The agent's side of the link: where the control plane is and how to reach it.

use std::{path::PathBuf, time::Duration};

use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint as TonicEndpoint, Error, Identity as TonicIdentity,
};

use crate::pki::{CONTROL_NAME, Identity};

pub use crate::generated::host_link_client::HostLinkClient;

/// How long a connection attempt may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing moves is probed this often...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ...and given up when the probe stays unanswered this long.
const KEEP_ALIVE_TIME_MAX: Duration = Duration::from_secs(10);

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
