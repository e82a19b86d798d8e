//! Requests that the cloud itself sends, to addresses that people gave it.
//!
//! Whoever may name an address could make the control plane ask what only it can reach: metadata services, databases,
//! neighbours. So a host name is resolved here, every address that isn't public is refused unless the operator's list
//! names its network, and the connection goes to the very address that was looked at. Redirects are not followed, plain
//! HTTP is for listed networks only, and time and answer have limits.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// How long one request may take, from the name's resolution to the last byte.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Why there is no answer. The text is for logs: it may tell what is reachable from here.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address isn't one that is ever asked.
    #[error("{0}")]
    Refused(String),
    /// It can't be reached, or breaks the protocol.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer within {TIME_MAX:?}")]
    Late,
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    allowed: Arc<[IpNet]>,
    tls: Arc<ClientConfig>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Outbound {
    /// `allowed` are the networks that are no public ones and may be asked all the same, by plain HTTP too. Certificates
    /// are checked against the system's (`SSL_CERT_FILE` names others). Reads them from disk: meant for the start.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: allowed.into(), tls: Self::tls_of_the_system() }
    }

    /// TLS with the certificates that the system trusts. Reads them from disk.
    pub fn tls_of_the_system() -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate of the system can't be used");
        }
        roots.add_parsable_certificates(found.certs);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        // Fails only where a provider has no cipher suite for any version; ring has.
        let tls = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            Err(_) => ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
        };
        Arc::new(tls)
    }

    /// Sends it and reads the answer, as far as that many bytes.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Result<Response<Bytes>, OutboundError> {
        tokio::time::timeout(TIME_MAX, self.exchange(request, bytes_max)).await.map_err(|_| OutboundError::Late)?
    }

    async fn exchange(&self, request: Request<Bytes>, bytes_max: usize) -> Result<Response<Bytes>, OutboundError> {
        let place = Place::of(request.uri())?;
        let stream = self.connect(&place).await?;
        if !place.tls {
            return exchange(stream, origin_form(request, &place)?, bytes_max).await;
        }
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| OutboundError::Refused(format!("{:?} is no name of a host", place.host)))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(failed("TLS"))?;
        exchange(stream, origin_form(request, &place)?, bytes_max).await
    }

    async fn connect(&self, place: &Place) -> Result<TcpStream, OutboundError> {
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await.map_err(failed("resolving"))?;
        let mut last = OutboundError::Refused(format!("{} has no address", place.host));
        for address in found.take(ADDRESSES_MAX) {
            last = match self.admits(address, place.tls) {
                Err(refused) => refused,
                Ok(()) => match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed("connecting")(error),
                },
            };
        }
        Err(last)
    }

    fn admits(&self, address: SocketAddr, tls: bool) -> Result<(), OutboundError> {
        let ip = address.ip().to_canonical();
        if self.allowed.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        if !is_public(ip) {
            return Err(OutboundError::Refused(format!(
                "{ip} is not a public address, and no --outbound-allow network has it"
            )));
        }
        if tls {
            Ok(())
        } else {
            Err(OutboundError::Refused("plain http is for --outbound-allow networks only".into()))
        }
    }
}

/// Where a request goes.
struct Place {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
}

impl Place {
    fn of(uri: &Uri) -> Result<Self, OutboundError> {
        let refused = |what: &str| OutboundError::Refused(format!("{what}: {uri}"));
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused("neither https nor http")),
        };
        let authority = uri.authority().ok_or_else(|| refused("no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("a user in an address"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned() })
    }
}

/// As servers expect it: the path in the first line, the host in a header.
fn origin_form(request: Request<Bytes>, place: &Place) -> Result<Request<Full<Bytes>>, OutboundError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    parts.uri = path.parse().map_err(|_| OutboundError::Refused(format!("{path:?} is no path")))?;
    let host = HeaderValue::from_str(&place.authority)
        .map_err(|_| OutboundError::Refused(format!("{:?} is no host", place.authority)))?;
    parts.headers.insert(header::HOST, host);
    Ok(Request::from_parts(parts, Full::new(body)))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, OutboundError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed("HTTP"))?;
    let work = async {
        let (parts, body) = sender.send_request(request).await.map_err(failed("HTTP"))?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await.map_err(failed("reading the answer"))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::pin!(work, connection);
    // One request a connection: it is driven here and closed after.
    tokio::select! {
        biased;
        answer = &mut work => answer,
        ended = &mut connection => match ended {
            Ok(()) => work.await,
            Err(error) => Err(failed("HTTP")(error)),
        },
    }
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> OutboundError {
    move |error| OutboundError::Failed(format!("{what}: {error}"))
}

/// Whether an address is the public internet's: none of those that the registries keep for anything else.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let kept = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !kept
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let [a, b, ..] = ip.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // NAT64 and 6to4 lead to the IPv4 address inside.
        (0x64, 0xff9b) => is_public_v4(embedded(ip.segments()[6], ip.segments()[7])),
        (0x2002, _) => is_public_v4(embedded(b, ip.segments()[2])),
        // Teredo, benchmarks, documentation.
        (0x2001, 0..0x200) | (0x2001, 0x0db8) | (0x3fff, 0..0x1000) => false,
        // What has been given out as global.
        (0x2000..0x4000, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[test]
    fn public_addresses() {
        let cases = [
            ("1.1.1.1", true),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("172.32.0.1", true),
            ("192.0.0.8", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:1.1.1.1", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b::101:101", true),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    /// A server that answers one request with these bytes; its address.
    async fn server(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.contains("\r\n\r\n") {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            text
        });
        (address, heard)
    }

    fn get(url: String) -> Request<Bytes> {
        Request::get(url).body(Bytes::new()).unwrap()
    }

    fn loopback() -> Outbound {
        Outbound::new(vec!["127.0.0.0/8".parse().unwrap()])
    }

    #[tokio::test]
    async fn only_listed_networks_are_asked_in_private() {
        let (address, heard) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        for url in [
            format!("http://{address}/"),
            format!("http://localhost:{}/", address.port()),
            format!("https://{address}/"),
            format!("http://[::ffff:127.0.0.1]:{}/", address.port()),
            "http://169.254.169.254/latest/".to_owned(),
            "ftp://localhost/".to_owned(),
            format!("http://me:secret@{address}/"),
        ] {
            let refused = Outbound::default().send(get(url.clone()), 100).await.unwrap_err();
            assert!(matches!(refused, OutboundError::Refused(_)), "{url} {refused}");
        }
        let answer = loopback().send(get(format!("http://{address}/a?b=c")), 100).await.unwrap();
        assert_eq!(answer.body().as_ref(), b"ok");
        let heard = heard.await.unwrap();
        assert!(heard.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains(&format!("host: {address}\r\n")), "{heard}");
    }

    #[tokio::test]
    async fn long_answers_and_redirects() {
        let (address, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n").await;
        assert!(loopback().send(get(format!("http://{address}/")), 100).await.is_err());
        let (address, _) =
            server("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(loopback().send(get(format!("http://{address}/")), 100).await.unwrap().status(), 302);
    }
}
