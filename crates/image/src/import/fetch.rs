//! Fetching over HTTP what a user named, from nowhere that the user could not reach.
//!
//! Addresses are resolved once, checked, and connected to as they were checked, so that a name can't change its meaning
//! in between; each redirect begins anew. Private, local and reserved networks are refused unless the operator named
//! them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use model::{Error, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};
use url::{Host, Url};

/// How long connecting, and waiting for the first words of an answer, may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Ports that are asked: Glance's default.
const PORTS: [u16; 2] = [80, 443];
/// Longest address.
const URI_BYTES_MAX: usize = 2048;

/// The address, if it is one that could be fetched from.
///
/// # Errors
/// Bad request that says what is wrong with it.
pub(crate) fn parse(uri: &str) -> Result<Url> {
    let bad = |why: &str| Err(Error::bad_request("BadURI", format!("Invalid URI {uri}: {why}.")));
    if uri.len() > URI_BYTES_MAX {
        return Err(Error::bad_request("BadURI", format!("A URI has at most {URI_BYTES_MAX} bytes.")));
    }
    let Ok(url) = Url::parse(uri) else { return bad("it can't be read") };
    if !matches!(url.scheme(), "http" | "https") {
        return bad("it must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("it must not hold a password");
    }
    if url.host().is_none() {
        return bad("it names no host");
    }
    Ok(url)
}

/// Opens the address: the announced length, and the data.
///
/// # Errors
/// Bad request that says why it can't be fetched.
pub(crate) async fn open(uri: &str, allowed: &[IpNet]) -> Result<(Option<u64>, Body)> {
    let mut url = parse(uri)?;
    for _ in 0..=REDIRECTS_MAX {
        let response = ask(&url, allowed).await?;
        let header = |name| response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        match response.status() {
            StatusCode::OK => {
                let length = header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
                return Ok((length, Body::new(response.into_body())));
            }
            status if status.is_redirection() => {
                let to = header(header::LOCATION).and_then(|to| url.join(to).ok());
                let to =
                    to.ok_or_else(|| unfetched(&url, format!("it answers {status} without saying where to go")))?;
                url = parse(to.as_str())?;
            }
            status => return Err(unfetched(&url, format!("it answers {status}"))),
        }
    }
    Err(unfetched(&url, format!("it redirects more than {REDIRECTS_MAX} times")))
}

fn unfetched(url: &Url, why: impl std::fmt::Display) -> Error {
    Error::bad_request("ImportFailed", format!("{url} can't be fetched: {why}."))
}

async fn ask(url: &Url, allowed: &[IpNet]) -> Result<hyper::Response<hyper::body::Incoming>> {
    let asked = timeout(ANSWER_TIME_MAX, async {
        let addresses = resolve(url, allowed).await?;
        let stream = connect(url, &addresses).await?;
        if url.scheme() == "http" {
            return exchange(url, stream).await;
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|e| unfetched(url, e))?,
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::from(ip)),
            None => return Err(unfetched(url, "it names no host")),
        };
        let connector = TlsConnector::from(trust().map_err(|e| unfetched(url, e))?);
        exchange(url, connector.connect(name, stream).await.map_err(|e| unfetched(url, e))?).await
    });
    asked.await.map_err(|_| unfetched(url, format!("no answer for {} seconds", ANSWER_TIME_MAX.as_secs())))?
}

/// The addresses of the URL's host, all of them such as may be asked.
async fn resolve(url: &Url, allowed: &[IpNet]) -> Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or_default();
    let addresses: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => {
            tokio::net::lookup_host((name, port)).await.map_err(|e| unfetched(url, e))?.collect()
        }
        None => Vec::new(),
    };
    let listed = |address: &SocketAddr| allowed.iter().any(|network| network.contains(&address.ip().to_canonical()));
    if let Some(refused) = addresses.iter().find(|address| !listed(address) && !is_public(address.ip())) {
        let text = format!("{} is not an address of the internet, and the operator has not allowed it", refused.ip());
        return Err(unfetched(url, text));
    }
    if !PORTS.contains(&port) && !addresses.iter().all(listed) {
        return Err(unfetched(url, format!("port {port} is none of 80 and 443")));
    }
    if addresses.is_empty() { Err(unfetched(url, "its host has no address")) } else { Ok(addresses) }
}

async fn connect(url: &Url, addresses: &[SocketAddr]) -> Result<TcpStream> {
    TcpStream::connect(addresses).await.map_err(|e| unfetched(url, e))
}

async fn exchange<S>(url: &Url, stream: S) -> Result<hyper::Response<hyper::body::Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unfetched(url, e))?;
    tokio::spawn(connection);
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "nacre")
        .header(header::ACCEPT, "*/*")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| unfetched(url, e))?;
    sender.send_request(request).await.map_err(|e| unfetched(url, e))
}

/// The authorities that the system trusts.
fn trust() -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether an address is one of the internet's: none of ours, our neighbours' or nobody's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (169, 254, _)
            | (192, 168, _)
            | (224.., ..)
            | (100, 64..=127, _)
            | (172, 16..=31, _)
            | (198, 18 | 19, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !reserved
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, .., g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        // Ways to write a version 4 address: NAT64, 6to4.
        (0x64, 0xff9b) => is_public_v4(v4(g, h)),
        (0x2002, _) => is_public_v4(v4(b, c)),
        // Teredo, benchmarks, documentation.
        (0x2001, 0 | 2 | 0xdb8) => false,
        (0x3fff, _) => false,
        // What is assigned to the internet.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for public in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn uris() {
        for good in ["http://example.org/x.qcow2", "https://example.org:443/x?y=z"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "x", "ftp://example.org/", "file:///etc/passwd", "http://u:p@example.org/", "http://"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn names_and_numbers_that_mean_this_machine() {
        for uri in ["http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/"] {
            let refused = open(uri, &[]).await.unwrap_err();
            assert!(refused.message.contains("not an address of the internet"), "{uri}: {}", refused.message);
        }
    }
}
