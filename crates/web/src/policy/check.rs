//! A check, parsed, and whether it holds for a caller and a target.

use std::fmt;

use super::{Policy, Target};
use crate::{Caller, Scope};

/// How deep `rule:` may refer to `rule:`. Files with loops are refused; a table with one admits nobody.
const DEPTH_MAX: usize = 32;

/// A check string, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// `@`
    Always,
    /// `!`
    Never,
    /// `role:member`
    Role(Text),
    /// `rule:admin_required`
    Rule(String),
    /// `project_id:%(project_id)s`: the caller's attribute, or a literal, is what the target has.
    Equal(Left, Text),
    /// `field:networks:shared=True`: the target's field is this, or begins with this (`=~^network:`). Neutron's.
    Field(String, Pattern),
    /// `not a`
    Not(Box<Check>),
    /// `a and b`
    And(Vec<Check>),
    /// `a or b`
    Or(Vec<Check>),
}

/// What stands left of the colon.
#[derive(Clone, Debug, PartialEq)]
pub enum Left {
    /// `'public'`, `True`, `None`, `7`
    Literal(String),
    /// `user_id`, `token.project.domain.id`
    Caller(String),
}

/// What a target's field is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// The whole value.
    Is(String),
    /// Its beginning.
    StartsWith(String),
}

/// Text with the target's attributes in it: `%(project_id)s`.
#[derive(Clone, Debug, PartialEq)]
pub struct Text(pub(super) Vec<Part>);

/// A piece of a [`Text`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Plain(String),
    Target(String),
}

/// What a check looks at.
pub(super) struct Facts<'a> {
    pub policy: &'a Policy,
    pub caller: &'a Caller,
    pub target: &'a Target,
    pub depth: usize,
}

impl Check {
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Role(role) => role.with(facts.target).is_some_and(|role| facts.caller.has_role(&role)),
            Self::Rule(name) => {
                let deeper = Facts { depth: facts.depth + 1, ..*facts };
                facts.depth < DEPTH_MAX && facts.policy.check(name).is_some_and(|check| check.holds(&deeper))
            }
            // Only a `None` that is written out is a caller's missing attribute: two missing ones are not each other's.
            Self::Equal(Left::Caller(name), right) if right.is_none() => facts.attribute(name).is_none(),
            Self::Equal(left, right) => right.with(facts.target).is_some_and(|right| facts.equal(left, &right)),
            Self::Field(name, pattern) => facts.target.get(name).is_some_and(|value| pattern.fits(value)),
            Self::Not(check) => !check.holds(facts),
            Self::And(checks) => checks.iter().all(|check| check.holds(facts)),
            Self::Or(checks) => checks.iter().any(|check| check.holds(facts)),
        }
    }

    /// The rules that it refers to.
    pub fn references(&self) -> Vec<&str> {
        match self {
            Self::Rule(name) => vec![name],
            Self::Not(check) => check.references(),
            Self::And(checks) | Self::Or(checks) => checks.iter().flat_map(Self::references).collect(),
            Self::Always | Self::Never | Self::Role(_) | Self::Equal(..) | Self::Field(..) => Vec::new(),
        }
    }

    /// What it decides if each of its smallest checks, `rule:` included, holds as `holds` says.
    pub fn decide(&self, holds: &impl Fn(&Self) -> bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Not(check) => !check.decide(holds),
            Self::And(checks) => checks.iter().all(|check| check.decide(holds)),
            Self::Or(checks) => checks.iter().any(|check| check.decide(holds)),
            Self::Role(_) | Self::Rule(_) | Self::Equal(..) | Self::Field(..) => holds(self),
        }
    }
}

impl Pattern {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Is(text) => value == text,
            Self::StartsWith(text) => value.starts_with(text.as_str()),
        }
    }
}

impl Text {
    fn is_none(&self) -> bool {
        matches!(&self.0[..], [Part::Plain(text)] if text == "None")
    }

    /// With the target's attributes put in. A target without one is like Python's `None`, alone; inside other text, the
    /// check does not hold.
    fn with(&self, target: &Target) -> Option<String> {
        match &self.0[..] {
            [Part::Plain(text)] => Some(text.clone()),
            [Part::Target(name)] => Some(target.get(name).unwrap_or("None").to_owned()),
            parts => parts
                .iter()
                .map(|part| match part {
                    Part::Plain(text) => Some(text.as_str()),
                    Part::Target(name) => target.get(name),
                })
                .collect(),
        }
    }
}

impl Facts<'_> {
    fn equal(&self, left: &Left, right: &str) -> bool {
        let Left::Caller(name) = left else {
            return matches!(left, Left::Literal(text) if text == right);
        };
        match name.as_str() {
            "roles" => self.caller.has_role(right),
            // Keystone compares it with 1, Nova with True.
            "is_admin" if self.caller.has_role("admin") => matches!(right, "1" | "True"),
            "is_admin" => matches!(right, "0" | "False"),
            // No project of ours makes administrators by being one.
            "is_admin_project" => right == "True",
            _ => match self.attribute(name) {
                Some(value) => value == right,
                None => false,
            },
        }
    }

    /// The caller's attributes, as oslo.context names them, and as Keystone's older checks do.
    fn attribute(&self, name: &str) -> Option<&str> {
        match (name, &self.caller.scope) {
            ("user_id" | "user" | "token.user.id", _) => self.caller.user_id.as_ref().map(AsRef::as_ref),
            ("user_domain_id" | "token.user.domain.id", _) => Some(&self.caller.user_domain_id),
            ("project_id" | "tenant_id" | "tenant" | "token.project.id", Scope::Project { id, .. }) => {
                Some(id.as_str())
            }
            ("project_name", Scope::Project { name, .. }) => Some(name),
            ("project_domain_id" | "token.project.domain.id", Scope::Project { domain_id, .. }) => {
                Some(domain_id.as_str())
            }
            ("domain_id" | "token.domain.id", Scope::Domain { id, .. }) => Some(id.as_str()),
            ("domain_name", Scope::Domain { name, .. }) => Some(name),
            ("system_scope" | "system", Scope::System) => Some("all"),
            _ => None,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, checks: &[Self], joint: &str| {
            let all: Vec<String> = checks.iter().map(ToString::to_string).collect();
            write!(f, "({})", all.join(joint))
        };
        match self {
            Self::Always => f.write_str("@"),
            Self::Never => f.write_str("!"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Rule(rule) => write!(f, "rule:{rule}"),
            Self::Equal(Left::Caller(left), right) => write!(f, "{left}:{right}"),
            Self::Equal(Left::Literal(left), right) => write!(f, "'{left}':{right}"),
            Self::Field(name, Pattern::Is(value)) => write!(f, "field:*:{name}={value}"),
            Self::Field(name, Pattern::StartsWith(value)) => write!(f, "field:*:{name}=~^{value}"),
            Self::Not(check) => write!(f, "not {check}"),
            Self::And(checks) => joined(f, checks, " and "),
            Self::Or(checks) => joined(f, checks, " or "),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Plain(text) => f.write_str(text),
            Part::Target(name) => write!(f, "%({name})s"),
        })
    }
}
