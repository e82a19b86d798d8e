//! Microversions: which there are, which the client wants.
//!
//! <https://specs.openstack.org/openstack/api-sig/guidelines/microversion_specification.html>

use std::fmt;

use http::{HeaderMap, HeaderValue, header};
use model::{Error, ErrorKind, Result};

/// A microversion such as 2.90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16);

impl Version {
    /// Before any microversion: a route that was always there.
    pub const MIN: Version = Version(0, 0);
    /// After every microversion: a route that never went away.
    pub const MAX: Version = Version(u16::MAX, u16::MAX);

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |part: &str| if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None };
        Some(Self(number(major)?, number(minor)?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The microversions of one service.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// As `OpenStack-API-Version` calls the service: `compute`.
    pub service_type: &'static str,
    /// The older header of its own, if it has one: `x-openstack-nova-api-version`.
    pub legacy_header: Option<&'static str>,
    /// What a client gets that asks for nothing.
    pub min: Version,
    /// The newest.
    pub max: Version,
}

impl Versions {
    /// The version that the client asks for.
    ///
    /// # Errors
    /// Bad request for nonsense, not acceptable for one outside the range.
    pub fn negotiate(&self, headers: &HeaderMap) -> Result<Version> {
        let Some(wanted) = self.wanted(headers) else { return Ok(self.min) };
        if wanted.eq_ignore_ascii_case("latest") {
            return Ok(self.max);
        }
        let Some(version) = Version::parse(wanted) else {
            return Err(Error::bad_request(
                "InvalidAPIVersionString",
                format!("API Version String {wanted} is of invalid format. Must be of format MajorNum.MinorNum."),
            ));
        };
        if version < self.min || version > self.max {
            return Err(Error::new(
                ErrorKind::NotAcceptable,
                "InvalidGlobalAPIVersion",
                format!(
                    "Version {version} is not supported by the API. Minimum is {} and maximum is {}.",
                    self.min, self.max
                ),
            ));
        }
        Ok(version)
    }

    /// `OpenStack-API-Version: volume 3.1, compute 2.90` first, then the service's older header.
    fn wanted<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let new = headers.get_all("openstack-api-version").iter().filter_map(|v| v.to_str().ok());
        let ours = new.flat_map(|v| v.split(',')).find_map(|entry| {
            let (service, version) = entry.trim().split_once(' ')?;
            service.eq_ignore_ascii_case(self.service_type).then(|| version.trim())
        });
        ours.or_else(|| headers.get(self.legacy_header?)?.to_str().ok().map(str::trim))
    }

    /// Says in the response which version was used and that it depends on the headers.
    pub fn mark(&self, version: Version, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&format!("{} {version}", self.service_type)) {
            headers.insert("openstack-api-version", value);
        }
        headers.append(header::VARY, HeaderValue::from_static("OpenStack-API-Version"));
        if let (Some(legacy), Ok(value)) = (self.legacy_header, HeaderValue::from_str(&version.to_string())) {
            headers.insert(legacy, value);
            headers.append(header::VARY, HeaderValue::from_static(legacy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVA: Versions = Versions {
        service_type: "compute",
        legacy_header: Some("x-openstack-nova-api-version"),
        min: Version(2, 1),
        max: Version(2, 100),
    };

    fn ask(pairs: &[(&'static str, &'static str)]) -> Result<Version> {
        let headers =
            pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        NOVA.negotiate(&headers)
    }

    #[test]
    fn negotiation() {
        assert_eq!(ask(&[]).ok(), Some(Version(2, 1)));
        assert_eq!(ask(&[("openstack-api-version", "compute 2.90")]).ok(), Some(Version(2, 90)));
        assert_eq!(ask(&[("openstack-api-version", "volume 3.1, compute latest")]).ok(), Some(Version(2, 100)));
        assert_eq!(ask(&[("openstack-api-version", "volume 3.1")]).ok(), Some(Version(2, 1)));
        assert_eq!(ask(&[("x-openstack-nova-api-version", "2.9")]).ok(), Some(Version(2, 9)));
        assert_eq!(
            ask(&[("x-openstack-nova-api-version", "2.101")]).map_err(|e| e.kind),
            Err(ErrorKind::NotAcceptable)
        );
        assert_eq!(ask(&[("x-openstack-nova-api-version", "two")]).map_err(|e| e.kind), Err(ErrorKind::BadRequest));
    }
}
