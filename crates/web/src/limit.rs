//! How often somebody may ask: token buckets, one per caller and per address, in bounded memory.
//!
//! What is limited, and why so:
//! - **a caller** (user in a scope), over all requests. Administrators and the cloud's own services are exempt unless the
//!   operator says otherwise: they could do worse than ask often, and validating tokens is what services live on;
//! - **an address** without a valid token, but for this machine's own: each such request looks at a token or a version
//!   document for nobody;
//! - **an address that logs in**: far less, as every attempt costs an argon2 and may be a guess. A login that succeeds
//!   costs nothing in the end.
//!
//! Each server counts for itself: with n of them behind a balancer, n times as much comes through.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use model::{Error, ErrorKind, Result, Timestamp};
use moka::sync::Cache;

/// Buckets kept; the ones used least go first.
const BUCKETS_MAX: u64 = 100_000;
/// A bucket that nobody has asked for that long is full again anyway.
const IDLE: Duration = Duration::from_secs(600);

/// So many at once, and so many per second in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Per second; 0 for no limit.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}

impl FromStr for Rate {
    type Err = String;

    /// `PER_SECOND:BURST`, or `0` for no limit.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not PER_SECOND:BURST");
        let (per_second, burst) = text.split_once(':').unwrap_or((text, "1"));
        let per_second: f64 = per_second.parse().map_err(|_| bad())?;
        if !(per_second == 0.0 || (0.0001..=1_000_000.0).contains(&per_second)) {
            return Err(bad());
        }
        Ok(Self { per_second, burst: burst.parse().map_err(|_| bad())? })
    }
}

/// The limits of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Of each caller.
    pub caller: Rate,
    /// Of each caller with the role admin or service.
    pub privileged: Rate,
    /// Of each address, for requests without a valid token.
    pub anonymous: Rate,
    /// Of each address, for logins that fail.
    pub login: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            caller: Rate { per_second: 1000.0, burst: 5000 },
            privileged: Rate { per_second: 0.0, burst: 0 },
            anonymous: Rate { per_second: 100.0, burst: 1000 },
            login: Rate { per_second: 1.0, burst: 60 },
        }
    }
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Caller(String),
    Anonymous(IpAddr),
    Login(IpAddr),
}

/// Counts.
pub(crate) struct Limiter {
    limits: Limits,
    /// When each bucket will be full again, in microseconds.
    full_at: Cache<Key, Arc<AtomicI64>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, full_at: Cache::builder().max_capacity(BUCKETS_MAX).time_to_idle(IDLE).build() }
    }

    /// A request with a valid token.
    pub(crate) fn caller(&self, name: impl FnOnce() -> String, privileged: bool, now: Timestamp) -> Result<()> {
        let rate = if privileged { self.limits.privileged } else { self.limits.caller };
        if rate.per_second > 0.0 { self.take(Key::Caller(name()), rate, now) } else { Ok(()) }
    }

    /// A request without one. From this machine itself as often as it likes: that is its operator, or a proxy that does
    /// not say for whom it asks.
    pub(crate) fn anonymous(&self, address: Option<IpAddr>, now: Timestamp) -> Result<()> {
        match address {
            Some(address) if address.to_canonical().is_loopback() => Ok(()),
            Some(address) => self.take(Key::Anonymous(network(address)), self.limits.anonymous, now),
            None => Ok(()),
        }
    }

    /// A login. Give it back with [`Limiter::logged_in`] when it succeeded.
    pub(crate) fn login(&self, address: Option<IpAddr>, now: Timestamp) -> Result<()> {
        match address {
            Some(address) => self.take(Key::Login(network(address)), self.limits.login, now),
            None => Ok(()),
        }
    }

    /// A login that succeeded.
    pub(crate) fn logged_in(&self, address: Option<IpAddr>) {
        let rate = self.limits.login;
        if let Some(bucket) = address.and_then(|address| self.full_at.get(&Key::Login(network(address))))
            && rate.per_second > 0.0
        {
            bucket.fetch_sub(cost(rate), Relaxed);
        }
    }

    fn take(&self, key: Key, rate: Rate, now: Timestamp) -> Result<()> {
        if rate.per_second <= 0.0 {
            return Ok(());
        }
        let bucket = self.full_at.get_with(key, || Arc::new(AtomicI64::new(now.0)));
        let cost = cost(rate);
        let most = cost.saturating_mul(i64::from(rate.burst.max(1)));
        let taken = bucket.fetch_update(Relaxed, Relaxed, |full_at| {
            let after = full_at.max(now.0).saturating_add(cost);
            (after - now.0 <= most).then_some(after)
        });
        taken.map(drop).map_err(|full_at| {
            let wait = u64::try_from(full_at.saturating_add(cost) - now.0 - most).unwrap_or(0);
            Error::new(
                ErrorKind::RateLimited,
                "TooManyRequests",
                "Too many requests: wait as long as Retry-After says, and ask less often.",
            )
            .retry_after(Duration::from_micros(wait))
        })
    }
}

/// Microseconds that one request takes to be made up for.
#[allow(clippy::cast_possible_truncation, reason = "a rate of one in some thousand years is none")]
fn cost(rate: Rate) -> i64 {
    (1_000_000.0 / rate.per_second) as i64
}

/// Who has one IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn limiter() -> Limiter {
        let few = Rate { per_second: 2.0, burst: 3 };
        Limiter::new(Limits { caller: few, privileged: Rate { per_second: 0.0, burst: 0 }, anonymous: few, login: few })
    }

    #[test]
    fn bursts_then_the_rate() {
        let limiter = limiter();
        let ask = |name: &str, at: Timestamp| limiter.caller(|| name.to_owned(), false, at);
        for _ in 0..3 {
            ask("a", NOW).unwrap();
        }
        let refused = ask("a", NOW).unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (ErrorKind::RateLimited, Some(Duration::from_millis(500))));
        ask("b", NOW).unwrap();
        ask("a", NOW + Duration::from_millis(500)).unwrap();
        ask("a", NOW + Duration::from_millis(500)).unwrap_err();
        for _ in 0..1000 {
            limiter.caller(|| "a".to_owned(), true, NOW).unwrap();
        }
    }

    #[test]
    fn this_machine_may_look_without_a_token_but_not_guess() {
        let limiter = limiter();
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(|text| Some(text.parse().unwrap())) {
            for _ in 0..100 {
                limiter.anonymous(address, NOW).unwrap();
            }
        }
        let (own, other) = (Some("127.0.0.1".parse().unwrap()), Some("192.0.2.1".parse().unwrap()));
        for _ in 0..3 {
            limiter.login(own, NOW).unwrap();
            limiter.anonymous(other, NOW).unwrap();
        }
        limiter.login(own, NOW).unwrap_err();
        limiter.anonymous(other, NOW).unwrap_err();
    }

    #[test]
    fn only_logins_that_fail_count() {
        let limiter = limiter();
        let address = Some("2001:db8::1".parse().unwrap());
        for _ in 0..100 {
            limiter.login(address, NOW).unwrap();
            limiter.logged_in(address);
        }
        let neighbour = Some("2001:db8::2".parse().unwrap());
        for _ in 0..3 {
            limiter.login(neighbour, NOW).unwrap();
        }
        limiter.login(address, NOW).unwrap_err();
        limiter.login(Some("2001:db8:0:1::1".parse().unwrap()), NOW).unwrap();
        limiter.login(None, NOW).unwrap();
    }
}
