//! What a handler returns.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use model::{Error, Result};
use serde::Serialize;

/// A response before it becomes one.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: axum::body::Body,
}

impl Reply {
    /// No body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: axum::body::Body::empty() }
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self::empty(StatusCode::ACCEPTED)
    }

    /// A JSON document.
    pub fn json(status: StatusCode, document: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(document).map_err(|e| Error::internal("writing a response", e))?;
        Ok(Self::bytes(status, "application/json", bytes))
    }

    /// 200 with a JSON document.
    pub fn ok(document: &impl Serialize) -> Result<Self> {
        Self::json(StatusCode::OK, document)
    }

    /// 201 with a JSON document.
    pub fn created(document: &impl Serialize) -> Result<Self> {
        Self::json(StatusCode::CREATED, document)
    }

    /// Bytes of a media type.
    pub fn bytes(status: StatusCode, media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let mut reply = Self::empty(status);
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply.body = axum::body::Body::from(bytes.into());
        reply
    }

    /// A stream of bytes.
    pub fn stream(status: StatusCode, media_type: &'static str, body: axum::body::Body) -> Self {
        let mut reply = Self::empty(status);
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply.body = body;
        reply
    }

    /// Adds a header. A value that HTTP does not allow is left out: ours are ids, numbers and addresses.
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}
