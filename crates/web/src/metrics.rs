//! What `/metrics` shows, in Prometheus' text format.

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Seconds; from a cached answer to an upload.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: &'static str,
    method: String,
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

/// The counters of all requests, and whatever else registers itself.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<ServiceLabels, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("nacre");
        let requests = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register("http_requests", "Requests by service, method, route and status", requests.clone());
        registry.register("http_request_seconds", "Time from the request's head to the response's", seconds.clone());
        Self { registry: Mutex::new(registry), requests, seconds }
    }
}

impl Metrics {
    /// Lets another part of the program add its own.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// Counts one request.
    pub(crate) fn count(
        &self,
        service: &'static str,
        method: &http::Method,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        let labels = RequestLabels { service, method: method.to_string(), route, status };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&ServiceLabels { service }).observe(took.as_secs_f64());
    }

    /// Everything as text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Writing into a string can't fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}
