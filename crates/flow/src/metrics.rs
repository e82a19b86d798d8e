//! Counters that the server exports.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// What an engine has done since it started. Times are sums in microseconds.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl Metrics {
            /// Name and value of each.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Flows claimed.
    claims;
    /// Steps that ended with a commit.
    steps;
    /// Time those and the failed ones took.
    step_micros;
    /// Steps that failed, in whatever way.
    failures;
    /// Of those, the ones that took too long.
    timeouts;
    /// Of those, the ones that panicked.
    panics;
    /// Phases whose deadline passed.
    expired;
    /// Steps whose lease was taken over by another worker.
    leases_lost;
    /// Flows that ended.
    done;
    /// Flows being worked on now.
    running;
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.step_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
