//! Requests straight into the router, without sockets.

use std::convert::Infallible;

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// A client of the API: an application, and the headers that go with every request. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    app: BoxCloneSyncService<Request<Body>, http::Response<Body>, Infallible>,
    headers: HeaderMap,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
    /// The body as JSON, null when it is none.
    pub json: Value,
}

impl Client {
    /// A client of this application: an `axum::Router`, or anything that answers as one does.
    pub fn new<S>(app: S) -> Self
    where
        S: Service<Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self { app: BoxCloneSyncService::new(app), headers: HeaderMap::new() }
    }

    /// The same client with this token.
    pub fn token(self, token: &str) -> Self {
        self.header("x-auth-token", token)
    }

    /// The same client with one more header in every request.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same client speaking this microversion of that service (`compute 2.100`).
    pub fn microversion(self, service_and_version: &str) -> Self {
        self.header("openstack-api-version", service_and_version)
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, None).await
    }

    /// `HEAD`.
    pub async fn head(&self, path: &str) -> Response {
        self.send(Method::HEAD, path, None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Response {
        self.send(Method::DELETE, path, None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, json: Value) -> Response {
        self.send(Method::POST, path, Some(json)).await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, json: Value) -> Response {
        self.send(Method::PUT, path, Some(json)).await
    }

    /// `PATCH` with JSON.
    pub async fn patch(&self, path: &str, json: Value) -> Response {
        self.send(Method::PATCH, path, Some(json)).await
    }

    /// Any method, with or without JSON.
    pub async fn send(&self, method: Method, path: &str, json: Option<Value>) -> Response {
        let (kind, body) = match json {
            Some(json) => (Some("application/json"), Body::from(json.to_string())),
            None => (None, Body::empty()),
        };
        self.send_body(method, path, kind, body).await
    }

    /// Any method with any body: uploads.
    pub async fn send_body(&self, method: Method, path: &str, content_type: Option<&str>, body: Body) -> Response {
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("nacre.test"));
        if let Some(kind) = content_type {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        self.request(request).await
    }

    /// The request as it is, without the client's headers.
    pub async fn request(&self, request: Request<Body>) -> Response {
        let Ok(response) = self.app.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let is_endless = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if is_endless {
            // How it begins: tests that want more read it themselves.
            let mut body = body;
            let first = body.frame().await.map(|frame| frame.expect("reading the body"));
            first.and_then(|frame| frame.into_data().ok()).unwrap_or_default()
        } else {
            body.collect().await.expect("reading the body").to_bytes()
        };
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Response { status: parts.status, headers: parts.headers, body, json }
    }
}

impl Response {
    /// Fails the test unless the status is this one; shows the body then.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// A header's text, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
