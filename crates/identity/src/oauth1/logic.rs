//! The signature of RFC 5849: HMAC-SHA1 and HMAC-SHA256 in the `Authorization` header.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use model::{Error, Result, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;
use web::{Cx, paging::Query};

/// How far a signature's time may be from now.
const SKEW_MAX: Duration = Duration::from_secs(600);
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parameters of a signed request.
pub(crate) struct Signed(Vec<(String, String)>);

impl Signed {
    /// Reads the header.
    ///
    /// # Errors
    /// Bad request where there is none.
    pub(crate) fn of(cx: &Cx) -> Result<Self> {
        let header = cx.header("authorization").unwrap_or_default();
        Self::parse(header).ok_or_else(|| {
            Error::bad_request("ValidationError", "Expecting to find an Authorization header of the scheme OAuth.")
        })
    }

    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("oauth") {
            return None;
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = |part: &str| {
            let (name, value) = part.trim().split_once('=')?;
            Some((decode(name), decode(value.trim_matches('"'))))
        };
        Some(Self(rest.split(',').filter_map(pair).collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// Bad request.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            Error::bad_request("ValidationError", format!("Expecting to find {name} in the Authorization header."))
        })
    }

    /// Whether it was signed about now.
    pub(crate) fn is_recent(&self, now: Timestamp) -> bool {
        let at: Option<i64> = self.get("oauth_timestamp").and_then(|text| text.parse().ok());
        at.and_then(|seconds| seconds.checked_mul(1_000_000))
            .map(Timestamp)
            .is_some_and(|at| at <= now + SKEW_MAX && now <= at + SKEW_MAX)
    }

    /// Whether it is signed with these secrets. Compares in constant time.
    pub(crate) fn is_signed(
        &self,
        method: &str,
        url: &str,
        query: &Query,
        consumer_secret: &str,
        token_secret: Option<&str>,
    ) -> bool {
        let algorithm = match self.get("oauth_signature_method") {
            Some("HMAC-SHA1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Some("HMAC-SHA256") => hmac::HMAC_SHA256,
            _ => return false,
        };
        let version = self.get("oauth_version").is_none_or(|version| version == "1.0");
        let Some(tag) = self.get("oauth_signature").and_then(|text| STANDARD.decode(text).ok()) else { return false };
        let key = format!("{}&{}", encode(consumer_secret), encode(token_secret.unwrap_or_default()));
        let base = self.base(method, url, query);
        version && hmac::verify(&hmac::Key::new(algorithm, key.as_bytes()), base.as_bytes(), &tag).is_ok()
    }

    /// What is signed: method, address and all parameters, in order.
    fn base(&self, method: &str, url: &str, query: &Query) -> String {
        let own = self.0.iter().filter(|(name, _)| name != "oauth_signature" && name != "realm");
        let mut all: Vec<(String, String)> =
            own.chain(&query.0).map(|(name, value)| (encode(name), encode(value))).collect();
        all.sort();
        let all: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}&{}&{}", method.to_uppercase(), encode(&base_address(url)), encode(&all.join("&")))
    }
}

/// The address with its host in lower case, and without a port that goes without saying.
fn base_address(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (scheme, host) = (scheme.to_lowercase(), host.to_lowercase());
    let port = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}{path}", host.strip_suffix(port).unwrap_or(&host))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5849, 1.2: the exchange of its example, and the request that follows.
    #[test]
    fn the_rfcs_example() {
        let header = "OAuth realm=\"Photos\", oauth_consumer_key=\"dpf43f3p2l4k3l03\", \
             oauth_token=\"nnch734d00sl2jdk\", oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"137131202\", \
             oauth_nonce=\"chapoH\", oauth_signature=\"MdpQcU8iPSUjWoN%2FUDMsK2sui9I%3D\"";
        let signed = Signed::parse(header).unwrap();
        let query = Query::parse("file=vacation.jpg&size=original");
        let check = |secret: &str, url: &str| signed.is_signed("GET", url, &query, secret, Some("pfkkdhi9sl3r4s00"));
        assert!(check("kd94hf93k423kf44", "http://photos.example.net/photos"));
        assert!(check("kd94hf93k423kf44", "HTTP://Photos.example.net:80/photos"));
        assert!(!check("another", "http://photos.example.net/photos"));
        assert!(!check("kd94hf93k423kf44", "http://photos.example.net/other"));
        let exchange = "OAuth realm=\"Photos\", oauth_consumer_key=\"dpf43f3p2l4k3l03\", \
             oauth_token=\"hh5s93j4hdidpola\", oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"137131201\", \
             oauth_nonce=\"walatlh\", oauth_verifier=\"hfdp7dh39dks9884\", \
             oauth_signature=\"gKgrFCywp7rO0OXSjdot%2FIHF7IU%3D\"";
        let exchange = Signed::parse(exchange).unwrap();
        let url = "https://photos.example.net/token";
        let secret = Some("hdhd0244k9j7ao03");
        assert!(exchange.is_signed("POST", url, &Query::default(), "kd94hf93k423kf44", secret));
        assert!(!exchange.is_signed("POST", url, &Query::default(), "kd94hf93k423kf44", Some("another")));
        let at = Timestamp(137_131_201_000_000);
        assert!(exchange.is_recent(at + SKEW_MAX));
        assert!(!exchange.is_recent(at + SKEW_MAX + Duration::from_secs(1)));
        assert!(Signed::parse("Basic abc").is_none());
    }
}
