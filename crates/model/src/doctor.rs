//! What `nacre doctor` reports: two sides of the cloud that disagree.

use std::fmt;

/// Something that has no counterpart, or differs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing: `process`, `tap`, `ovn port`, `file`, `server`, `quota`...
    pub kind: &'static str,
    /// Which one, as an operator can look it up.
    pub id: String,
    /// What is wrong, and with what it was compared.
    pub problem: String,
}

impl Finding {
    /// A finding.
    pub fn new(kind: &'static str, id: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { kind, id: id.into(), problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.id, self.problem)
    }
}
