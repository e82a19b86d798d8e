//! `Idempotency-Key`: a POST that is sent again takes effect once, and gets the first answer again.
//!
//! The key counts per user and scope, for 24 hours, on every POST with a token that is no upload. It is taken by the
//! commit of the change itself ([`store::idempotency`]): whatever dies when, the change and the key are there together or
//! not at all. What changed nothing does not take the key: it may simply be tried again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request::Parts};
use http_body_util::BodyExt;
use model::{Error, ErrorKind, Result, limits::REQUEST_TIME_MAX};
use ring::{aead, digest, hkdf};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::{
    Db,
    idempotency::{self, Claim},
};

use crate::{Caller, Reply, Scope};

const KEY_CHARS_MAX: usize = 255;
/// Said of an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Largest answer that is kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A request's key, and what becomes of its answer.
pub(crate) struct Key {
    text: String,
    pub(crate) claim: Claim,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Key {
    /// The key of a request, where it has one.
    ///
    /// # Errors
    /// Bad request for a key that is none.
    pub(crate) fn of(parts: &Parts, caller: &Caller, body: &[u8], request_id: &str) -> Result<Option<Self>> {
        let Some(text) = parts.headers.get("idempotency-key").filter(|_| parts.method == Method::POST) else {
            return Ok(None);
        };
        let Some(user) = &caller.user_id else { return Ok(None) };
        let text = text.to_str().ok().map(str::trim).filter(|text| (1..=KEY_CHARS_MAX).contains(&text.len()));
        let text = text.ok_or_else(|| {
            let message = format!("Idempotency-Key must be 1 to {KEY_CHARS_MAX} visible ASCII characters.");
            Error::bad_request("InvalidIdempotencyKey", message)
        })?;
        let scope = match &caller.scope {
            Scope::Unscoped => String::new(),
            Scope::Project { id, .. } => format!("project:{id}"),
            Scope::Domain { id, .. } => format!("domain:{id}"),
            Scope::System => "system".to_owned(),
        };
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let request_hash = hash([parts.method.as_str().as_bytes(), path.as_bytes(), body]);
        let claim = Claim {
            owner: format!("{user}@{scope}"),
            key_hash: hash([b"key".as_slice(), text.as_bytes()]),
            request_hash,
            request_id: request_id.to_owned(),
        };
        Ok(Some(Self { text: text.to_owned(), claim }))
    }

    /// The first answer, where the key was used before.
    ///
    /// # Errors
    /// Unprocessable where it was used for something else; conflict where there is no answer yet, or none any more.
    pub(crate) async fn first_answer(&self, db: &Db) -> Result<Option<Reply>> {
        let now = db.clock().now();
        let mut conn = db.read().await?;
        let Some(used) = idempotency::get(&mut conn, &self.claim.owner, &self.claim.key_hash, now).await? else {
            return Ok(None);
        };
        if used.request_hash != self.claim.request_hash {
            return Err(Error::new(
                ErrorKind::Unprocessable,
                "IdempotencyKeyReused",
                format!("This Idempotency-Key belongs to another request ({}); choose a new one.", used.request_id),
            ));
        }
        if used.answer.is_empty() && now.since(used.at) < REQUEST_TIME_MAX {
            return Err(in_progress());
        }
        let answer = self.open(&used.answer, &used.request_id).ok_or_else(|| {
            Error::conflict(
                "IdempotentAnswerLost",
                format!(
                    "The first request with this Idempotency-Key ({}) took effect, but its answer was lost. Look what it \
                     made before trying again with a new key.",
                    used.request_id
                ),
            )
        })?;
        Ok(Some(answer.into_reply()?))
    }

    /// Keeps the answer. It still leaves if that fails: the change was made.
    pub(crate) async fn keep(&self, db: &Db, reply: Reply, has_key: bool) -> Reply {
        let Reply { status, headers, body } = reply;
        let Ok(collected) = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect().await else {
            tracing::error!("an answer was too large to be kept");
            return Reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let bytes = collected.to_bytes();
        let stored = async {
            let mut tx = db.begin().await?;
            if !has_key {
                idempotency::insert(&mut tx, &self.claim).await?;
            }
            idempotency::set_answer(&mut tx, &self.claim, &self.seal(status, &headers, &bytes)).await?;
            tx.commit().await
        };
        if let Err(error) = stored.await {
            tracing::error!(%error, request_id = self.claim.request_id, "an answer could not be kept for replays");
        }
        Reply { status, headers, body: axum::body::Body::from(bytes) }
    }

    fn seal(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> String {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
        };
        let answer = Answer {
            status: status.as_u16(),
            headers: headers.iter().filter_map(text).collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        let mut bytes = serde_json::to_vec(&answer).unwrap_or_default();
        let sealed = self.cipher(&self.claim.request_id).and_then(|cipher| {
            let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
            cipher.seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut bytes).ok()
        });
        if sealed.is_some() { hex::encode(bytes) } else { String::new() }
    }

    fn open(&self, sealed: &str, request_id: &str) -> Option<Answer> {
        let mut bytes = hex::decode(sealed).ok().filter(|bytes| !bytes.is_empty())?;
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let plain = self.cipher(request_id)?.open_in_place(nonce, aead::Aad::empty(), &mut bytes).ok()?;
        serde_json::from_slice(plain).ok()
    }

    /// The cipher of one answer: its key is derived from the idempotency key and the request's id, so it is used once.
    fn cipher(&self, request_id: &str) -> Option<aead::LessSafeKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, request_id.as_bytes());
        let secret = salt.extract(self.text.as_bytes());
        let info = [b"nacre idempotent answer".as_slice(), self.claim.owner.as_bytes()];
        let key = secret.expand(&info, &aead::AES_256_GCM).ok()?;
        Some(aead::LessSafeKey::new(aead::UnboundKey::from(key)))
    }
}

impl Answer {
    fn into_reply(self) -> Result<Reply> {
        let status = StatusCode::from_u16(self.status).map_err(|e| Error::internal("reading a kept answer", e))?;
        let mut reply = Reply::empty(status);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                reply.headers.append(name, value);
            }
        }
        reply.headers.insert(REPLAYED, HeaderValue::from_static("true"));
        reply.body = axum::body::Body::from(self.body);
        Ok(reply)
    }
}

/// What a request hears whose twin is still under way.
pub(crate) fn in_progress() -> Error {
    Error::conflict("IdempotentRequestInProgress", "A request with this Idempotency-Key is being answered; ask again.")
        .retry_after(Duration::from_secs(1))
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // Lengths keep the parts apart.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex::encode(context.finish())
}
