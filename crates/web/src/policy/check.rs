//! The check language: `role:x`, `rule:x`, `key:value`, `@`, `!`, `and`, `or`, `not`, brackets.

use super::{Policy, Target};
use crate::{Caller, Scope};

/// How deep `rule:` may refer to `rule:`; deeper is a loop and admits nobody.
const DEPTH_MAX: usize = 16;

/// A check string, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Check {
    Always,
    Never,
    Role(String),
    Rule(String),
    /// The caller's attribute (or a quoted literal) equals the text, or the target's attribute `%(name)s`.
    Equal(String, String),
    Not(Box<Check>),
    And(Vec<Check>),
    Or(Vec<Check>),
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
            Self::Role(role) => facts.caller.has_role(&facts.expanded(role)),
            Self::Rule(name) => {
                let deeper = Facts { depth: facts.depth + 1, ..*facts };
                facts.depth < DEPTH_MAX && facts.policy.check(name).is_some_and(|check| check.holds(&deeper))
            }
            Self::Equal(left, right) => facts.equal(left, right),
            Self::Not(check) => !check.holds(facts),
            Self::And(checks) => checks.iter().all(|check| check.holds(facts)),
            Self::Or(checks) => checks.iter().any(|check| check.holds(facts)),
        }
    }
}

impl Facts<'_> {
    fn equal(&self, left: &str, right: &str) -> bool {
        let right = match target_name(right) {
            // A target without the attribute is like Python's None.
            Some(name) => self.target.get(name).unwrap_or("None"),
            None => right,
        };
        match left.strip_prefix('\'').and_then(|l| l.strip_suffix('\'')) {
            Some(literal) => literal == right,
            None if left == "None" => right == "None",
            None => self.attribute(left).is_some_and(|value| value == right),
        }
    }

    fn expanded(&self, text: &str) -> String {
        target_name(text).map_or(text, |name| self.target.get(name).unwrap_or("")).to_owned()
    }

    /// The caller's attributes, as oslo.context names them.
    fn attribute(&self, name: &str) -> Option<&str> {
        match (name, &self.caller.scope) {
            ("user_id", _) => self.caller.user_id.as_ref().map(AsRef::as_ref),
            ("user_domain_id", _) => Some(&self.caller.user_domain_id),
            ("project_id" | "tenant_id" | "tenant", Scope::Project { id, .. }) => Some(id.as_str()),
            ("project_domain_id", Scope::Project { domain_id, .. }) => Some(domain_id.as_str()),
            ("domain_id", Scope::Domain { id, .. }) => Some(id.as_str()),
            ("system_scope", Scope::System) => Some("all"),
            ("is_admin", _) => Some(if self.caller.has_role("admin") { "1" } else { "0" }),
            _ => None,
        }
    }
}

fn target_name(text: &str) -> Option<&str> {
    text.strip_prefix("%(")?.strip_suffix(")s")
}

/// Reads a check string.
pub(super) fn parse(text: &str) -> Result<Check, String> {
    let mut tokens = tokens(text);
    tokens.reverse();
    if tokens.is_empty() {
        return Ok(Check::Always);
    }
    let check = any_of(&mut tokens)?;
    match tokens.pop() {
        None => Ok(check),
        Some(left_over) => Err(format!("unexpected {left_over:?} in {text:?}")),
    }
}

/// Words and brackets; a bracket inside `%(name)s` belongs to its word.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let mut word = word;
        while let Some(rest) = word.strip_prefix('(') {
            tokens.push("(".to_owned());
            word = rest;
        }
        let mut closing = 0;
        while word.ends_with(')') {
            word = &word[..word.len() - 1];
            closing += 1;
        }
        if !word.is_empty() {
            tokens.push(word.to_owned());
        }
        tokens.extend(std::iter::repeat_n(")".to_owned(), closing));
    }
    tokens
}

fn any_of(tokens: &mut Vec<String>) -> Result<Check, String> {
    sequence(tokens, "or", all_of).map(|mut checks| match checks.len() {
        1 => checks.remove(0),
        _ => Check::Or(checks),
    })
}

fn all_of(tokens: &mut Vec<String>) -> Result<Check, String> {
    sequence(tokens, "and", single).map(|mut checks| match checks.len() {
        1 => checks.remove(0),
        _ => Check::And(checks),
    })
}

fn sequence(
    tokens: &mut Vec<String>,
    joint: &str,
    part: fn(&mut Vec<String>) -> Result<Check, String>,
) -> Result<Vec<Check>, String> {
    let mut checks = vec![part(tokens)?];
    while tokens.last().is_some_and(|t| t.eq_ignore_ascii_case(joint)) {
        tokens.pop();
        checks.push(part(tokens)?);
    }
    Ok(checks)
}

fn single(tokens: &mut Vec<String>) -> Result<Check, String> {
    let token = tokens.pop().ok_or("a check is missing at the end")?;
    match token.as_str() {
        "(" => {
            let inner = any_of(tokens)?;
            match tokens.pop().as_deref() {
                Some(")") => Ok(inner),
                _ => Err("a bracket is not closed".to_owned()),
            }
        }
        "@" => Ok(Check::Always),
        "!" => Ok(Check::Never),
        word if word.eq_ignore_ascii_case("not") => Ok(Check::Not(Box::new(single(tokens)?))),
        word => {
            let (kind, matched) = word.split_once(':').ok_or_else(|| format!("{word:?} is no check"))?;
            Ok(match kind {
                "role" => Check::Role(matched.to_owned()),
                "rule" => Check::Rule(matched.to_owned()),
                _ => Check::Equal(kind.to_owned(), matched.to_owned()),
            })
        }
    }
}
