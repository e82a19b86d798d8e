//! Quota arithmetic. The counting itself happens in `store`, in the transaction that changes the resource.

use crate::{Error, Result};

/// "As many as you like", as OpenStack writes it.
pub const UNLIMITED: i64 = -1;

/// One quota that a request touches.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The quota's name: `instances`, `cores`, `port`...
    pub resource: &'static str,
    /// What is in use now.
    pub used: i64,
    /// What the request adds.
    pub wanted: i64,
    /// The limit, or [`UNLIMITED`].
    pub limit: i64,
}

/// Refuses when any of the demands exceeds its limit, and names all that do.
pub fn check(demands: &[Demand]) -> Result<()> {
    let over: Vec<&Demand> =
        demands.iter().filter(|d| d.limit >= 0 && d.wanted > 0 && d.used.saturating_add(d.wanted) > d.limit).collect();
    if over.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = over.iter().map(|d| d.resource).collect();
    let wanted: Vec<String> = over.iter().map(|d| d.wanted.to_string()).collect();
    let used: Vec<String> = over.iter().map(|d| format!("{} of {} {}", d.used, d.limit, d.resource)).collect();
    Err(Error::over_quota(
        "OverQuota",
        format!(
            "Quota exceeded for {}: Requested {}, but already used {}",
            names.join(", "),
            wanted.join(", "),
            used.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_exactly() {
        let demand = |used, wanted, limit| [Demand { resource: "cores", used, wanted, limit }];
        assert!(check(&demand(3, 1, 4)).is_ok());
        assert!(check(&demand(4, 1, 4)).is_err());
        assert!(check(&demand(400, 1, UNLIMITED)).is_ok());
        assert!(check(&demand(5, 0, 4)).is_ok(), "a lowered limit stops only what adds");
    }
}
