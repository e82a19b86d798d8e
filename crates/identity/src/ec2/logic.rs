//! Amazon's signatures: version 1 and 2 of queries, version 4 of requests, and what S3 signs.
//!
//! <https://docs.aws.amazon.com/general/latest/gr/signature-version-2.html>,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>

use std::{collections::BTreeMap, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use model::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How old a signature may be, and how far in the future (Keystone's `auth_ttl`).
const AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const V4: &str = "AWS4-HMAC-SHA256";
const S3_SERVICES: &[&str] = &["s3", "iam", "sts"];

/// A request as EC2's proxy saw it.
#[derive(Deserialize)]
pub(super) struct SignedRequest {
    /// Which credential.
    pub access: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body_hash: String,
}

/// What S3 says was signed.
#[derive(Deserialize)]
pub(super) struct StringToSign {
    /// Which credential.
    pub access: String,
    signature: String,
    /// In base64.
    token: String,
}

/// Whether the request is signed with the secret.
pub(super) fn is_signed(request: &SignedRequest, secret: &str) -> bool {
    let version = request.params.get("SignatureVersion").map(text);
    let expected = match version.as_deref() {
        Some("1") => vec![version_1(&params(request), secret)],
        // Some clients sign the host without its port.
        Some("2") => {
            let bare = request.host.split(':').next().unwrap_or_default();
            [request.host.as_str(), bare].map(|host| version_2(request, host, secret)).to_vec()
        }
        None => version_4(request, secret).into_iter().collect(),
        Some(_) => Vec::new(),
    };
    !request.signature.is_empty() && expected.iter().any(|e| same(e, &request.signature))
}

/// Whether it was signed just now. What has no time is taken for it: its signer left it out.
pub(super) fn is_recent(request: &SignedRequest, now: Timestamp) -> bool {
    let given = request.params.get("Timestamp").or_else(|| amz(request, "Date"));
    let Some(given) = given else { return true };
    Timestamp::parse(&text(given)).is_some_and(|at| now <= at + AGE_MAX && at <= now + AGE_MAX)
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn params(request: &SignedRequest) -> BTreeMap<String, String> {
    request.params.iter().filter(|(name, _)| *name != "Signature").map(|(n, v)| (n.clone(), text(v))).collect()
}

fn sign(algorithm: hmac::Algorithm, key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, key), message)
}

fn version_1(params: &BTreeMap<String, String>, secret: &str) -> String {
    let mut sorted: Vec<_> = params.iter().collect();
    sorted.sort_by_key(|(name, _)| name.to_lowercase());
    let message: String = sorted.into_iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
    STANDARD.encode(sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes(), message.as_bytes()))
}

fn version_2(request: &SignedRequest, host: &str, secret: &str) -> String {
    let params = params(request);
    let algorithm = match params.get("SignatureMethod").map(String::as_str) {
        Some("HmacSHA1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        _ => hmac::HMAC_SHA256,
    };
    let message = format!("{}\n{host}\n{}\n{}", request.verb, request.path, query(&params));
    STANDARD.encode(sign(algorithm, secret.as_bytes(), message.as_bytes()))
}

fn query(params: &BTreeMap<String, String>) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// A parameter of version 4, from the header or the query.
fn amz<'r>(request: &'r SignedRequest, name: &str) -> Option<&'r Value> {
    let key = format!("X-Amz-{name}");
    let header = request.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(&key)).map(|(_, value)| value);
    header.or_else(|| request.params.get(&key))
}

fn version_4(request: &SignedRequest, secret: &str) -> Option<String> {
    let authorization = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let authorization = authorization.map(|(_, value)| text(value)).filter(|value| value.starts_with(V4));
    let given = |name: &str| match &authorization {
        Some(header) => {
            let (_, rest) = header.split_once(&format!("{name}="))?;
            Some(rest.split([',', ' ']).next().unwrap_or_default().to_owned())
        }
        None => request.params.get(&format!("X-Amz-{name}")).map(text),
    };
    if authorization.is_none() && request.params.get("X-Amz-Algorithm").map(text).as_deref() != Some(V4) {
        return None;
    }
    let (credential, signed_headers) = (given("Credential")?, given("SignedHeaders")?);
    let (_, scope) = credential.split_once('/')?;
    let date = text(amz(request, "Date")?);
    // What was signed for another day is no signature of this request.
    if !date.starts_with(scope.split('/').next()?) {
        return None;
    }
    let headers: BTreeMap<String, String> = request
        .headers
        .iter()
        .map(|(name, value)| (name.trim().to_lowercase(), text(value).trim().to_owned()))
        .collect();
    let canonical: String = signed_headers
        .split(';')
        .filter_map(|name| headers.get(name).map(|value| format!("{name}:{value}\n")))
        .collect();
    let verb = request.verb.to_uppercase();
    let mut params = params(request);
    params.remove("X-Amz-Signature");
    let query = if verb == "POST" { String::new() } else { query(&params) };
    let canonical = [&verb, &request.path, &query, &canonical, &signed_headers, &request.body_hash];
    let canonical = canonical.map(String::as_str).join("\n");
    let message = format!("{V4}\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    version_4_of(&message, scope, secret)
}

/// The signature of a string to sign under its scope: `day/region/service/aws4_request`.
fn version_4_of(message: &str, scope: &str, secret: &str) -> Option<String> {
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, service, "aws4_request"] = parts[..] else { return None };
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = sign(hmac::HMAC_SHA256, &key, part.as_bytes()).as_ref().to_vec();
    }
    Some(hex::encode(sign(hmac::HMAC_SHA256, &key, message.as_bytes())))
}

impl StringToSign {
    /// Whether it is signed with the secret.
    pub(super) fn is_signed(&self, secret: &str) -> bool {
        let Some(bytes) = URL_SAFE.decode(&self.token).or_else(|_| STANDARD.decode(&self.token)).ok() else {
            return false;
        };
        self.expected(&bytes, secret).is_some_and(|expected| same(&expected, self.signature.trim()))
    }

    fn expected(&self, bytes: &[u8], secret: &str) -> Option<String> {
        if !bytes.starts_with(b"AWS4") {
            let tag = sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes(), bytes);
            return Some(STANDARD.encode(tag));
        }
        let message = std::str::from_utf8(bytes).ok()?;
        let lines: Vec<&str> = message.split('\n').collect();
        let [V4, _, scope, _] = lines[..] else { return None };
        let service = scope.split('/').nth(2)?;
        if S3_SERVICES.contains(&service) { version_4_of(message, scope, secret) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(value: Value) -> SignedRequest {
        serde_json::from_value(value).unwrap()
    }

    /// The example in Amazon's documentation of version 2.
    #[test]
    fn amazons_example_of_version_2() {
        let request = request(json!({
            "access": "AKIAIOSFODNN7EXAMPLE", "verb": "GET", "host": "elasticmapreduce.amazonaws.com", "path": "/",
            "signature": "i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf/Mj6vPxyYIs=",
            "params": { "AWSAccessKeyId": "AKIAIOSFODNN7EXAMPLE", "Action": "DescribeJobFlows",
                "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": "2011-10-03T15:19:30",
                "Version": "2009-03-31" },
        }));
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert!(is_signed(&request, secret));
        assert!(!is_signed(&request, "another"));
        let at = Timestamp::parse("2011-10-03T15:19:30Z").unwrap();
        assert!(is_recent(&request, at + AGE_MAX));
        assert!(!is_recent(&request, at + AGE_MAX + Duration::from_secs(1)));
        assert!(!is_recent(&request, at - AGE_MAX - Duration::from_secs(1)));
    }

    /// The example in Amazon's documentation of version 4.
    #[test]
    fn amazons_example_of_version_4() {
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let request = request(json!({
            "access": "AKIDEXAMPLE", "verb": "GET", "host": "iam.amazonaws.com", "path": "/",
            "signature": "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            "params": { "Action": "ListUsers", "Version": "2010-05-08" },
            "headers": { "Authorization": authorization, "Host": "iam.amazonaws.com", "X-Amz-Date": "20150830T123600Z",
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8" },
            "body_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        }));
        assert!(is_signed(&request, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"));
        assert!(!is_signed(&request, "another"));
        assert!(is_recent(&request, Timestamp::parse("2015-08-30T12:36:00Z").unwrap()));
    }

    #[test]
    fn version_1_and_what_is_none() {
        let params = json!({ "Action": "Test", "SignatureVersion": "1", "b": "2", "A": "1" });
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"secret");
        let signature = STANDARD.encode(hmac::sign(&key, b"A1ActionTestb2SignatureVersion1"));
        assert!(is_signed(&request(json!({ "access": "a", "signature": signature, "params": params })), "secret"));
        for params in [json!({ "SignatureVersion": "0" }), json!({ "SignatureVersion": "9" }), json!({})] {
            assert!(!is_signed(&request(json!({ "access": "a", "signature": "", "params": params })), "secret"));
        }
    }

    /// The example in Amazon's documentation of S3's older signature.
    #[test]
    fn amazons_example_of_s3() {
        let text = "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/awsexamplebucket1/photos/puppy.jpg";
        let request =
            |token: String, signature: &str| StringToSign { access: "a".into(), signature: signature.into(), token };
        let signed = request(URL_SAFE.encode(text), "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=");
        assert!(signed.is_signed("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        assert!(!signed.is_signed("another"));
        let scope = "20150830/us-east-1/s3/aws4_request";
        let message = format!("{V4}\n20150830T123600Z\n{scope}\nhash");
        let signature = version_4_of(&message, scope, "secret").unwrap();
        assert!(request(URL_SAFE.encode(&message), &signature).is_signed("secret"));
        let other = message.replace("/s3/", "/ec2/");
        let signature = version_4_of(&other, &scope.replace("/s3/", "/ec2/"), "secret").unwrap();
        assert!(!request(URL_SAFE.encode(other), &signature).is_signed("secret"));
    }
}
