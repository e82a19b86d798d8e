//! One clock, one kind of time.

use std::{
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A moment as microseconds since 1970-01-01T00:00:00Z: the form the database stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// `2026-11-24T12:00:00Z`: Nova, Neutron and Glance.
    pub fn to_seconds_z(self) -> String {
        // Lists write thousands of these: jiff's own form is several times as fast as a pattern.
        jiff::Timestamp::from_second(self.seconds()).map(|t| t.to_string()).unwrap_or_default()
    }

    /// `2026-11-24T12:00:00.000000Z`: Keystone.
    pub fn to_micros_z(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S.%6fZ")
    }

    /// `2026-11-24T12:00:00.000000`, without a zone: Nova's services, hypervisors and instance actions.
    pub fn to_micros_naive(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S.%6f")
    }

    /// `Tue, 24 Nov 2026 12:00:00 GMT`, as HTTP's headers have it.
    pub fn to_http_date(self) -> String {
        self.format("%a, %d %b %Y %H:%M:%S GMT")
    }

    fn format(self, pattern: &str) -> String {
        jiff::Timestamp::from_microsecond(self.0).map(|t| t.strftime(pattern).to_string()).unwrap_or_default()
    }

    /// Reads an ISO 8601 moment as clients write it: with `Z`, an offset, or no zone at all (then UTC).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Some(Self(t.as_microsecond()));
        }
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok().map(|z| Self(z.timestamp().as_microsecond()))
    }

    /// The time from `earlier` to this, zero if it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}
impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Where time comes from. Cheap to clone; tests drive a virtual one.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn fixed_at(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.0))))
    }

    /// The present moment.
    #[allow(clippy::disallowed_methods, reason = "this is the source that the ban points to")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(at) => Timestamp(at.load(Ordering::SeqCst)),
            None => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a virtual clock forward; a system clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(at) = &self.0 {
            at.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Whether this is a clock that tests move.
    pub fn is_virtual(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses() {
        let t = Timestamp(1_764_000_000_123_456);
        assert_eq!(t.to_seconds_z(), "2025-11-24T16:00:00Z");
        assert_eq!(t.to_micros_z(), "2025-11-24T16:00:00.123456Z");
        assert_eq!(Timestamp::parse("2025-11-24T16:00:00.123456Z"), Some(t));
        assert_eq!(Timestamp::parse("2025-11-24T16:00:00.123456"), Some(t));
        assert_eq!(Timestamp::parse("2025-11-24T17:00:00.123456+01:00"), Some(t));
        assert_eq!(Timestamp::parse("soon"), None);
    }

    #[test]
    fn virtual_clock_moves_only_when_told() {
        let clock = Clock::fixed_at(Timestamp(5));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp(1_000_005));
    }
}
