//! The check language: `role:x`, `rule:x`, `key:value`, `@`, `!`, `and`, `or`, `not`, brackets.
//!
//! What oslo.policy logs and then refuses everybody for is an error here: whoever wrote it wants to know.

use super::check::{Check, Left, Part, Pattern, Text};

/// How deep brackets may nest.
const NESTING_MAX: usize = 64;
/// Longest check string in bytes.
const CHECK_BYTES_MAX: usize = 64 << 10;

/// Reads a check string. An empty one admits everybody.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Check, String> {
    if text.len() > CHECK_BYTES_MAX {
        return Err(format!("a check of more than {CHECK_BYTES_MAX} bytes"));
    }
    let mut tokens = tokens(text);
    tokens.reverse();
    if tokens.is_empty() {
        return Ok(Check::Always);
    }
    let mut parser = Parser { tokens, depth: 0 };
    let check = parser.any_of()?;
    match parser.tokens.pop() {
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
        let clean = word.trim_end_matches(')');
        if !clean.is_empty() {
            tokens.push(clean.to_owned());
        }
        tokens.extend(std::iter::repeat_n(")".to_owned(), word.len() - clean.len()));
    }
    tokens
}

/// What is left to read, the next token last.
struct Parser {
    tokens: Vec<String>,
    depth: usize,
}

impl Parser {
    fn any_of(&mut self) -> Result<Check, String> {
        Ok(match self.sequence("or", Self::all_of)? {
            mut one if one.len() == 1 => one.remove(0),
            checks => Check::Or(checks),
        })
    }

    fn all_of(&mut self) -> Result<Check, String> {
        Ok(match self.sequence("and", Self::single)? {
            mut one if one.len() == 1 => one.remove(0),
            checks => Check::And(checks),
        })
    }

    fn sequence(&mut self, joint: &str, part: fn(&mut Self) -> Result<Check, String>) -> Result<Vec<Check>, String> {
        let mut checks = vec![part(self)?];
        while self.tokens.last().is_some_and(|t| t.eq_ignore_ascii_case(joint)) {
            self.tokens.pop();
            checks.push(part(self)?);
        }
        Ok(checks)
    }

    fn single(&mut self) -> Result<Check, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(format!("brackets and nots nest deeper than {NESTING_MAX}"));
        }
        let token = self.tokens.pop().ok_or("a check is missing at the end")?;
        let check = match token.as_str() {
            "(" => {
                let inner = self.any_of()?;
                match self.tokens.pop().as_deref() {
                    Some(")") => inner,
                    _ => return Err("a bracket is not closed".to_owned()),
                }
            }
            word if word.eq_ignore_ascii_case("not") => Check::Not(Box::new(self.single()?)),
            word => smallest(word)?,
        };
        self.depth -= 1;
        Ok(check)
    }
}

/// A check without joints.
pub(super) fn smallest(word: &str) -> Result<Check, String> {
    match word {
        "@" => return Ok(Check::Always),
        "!" => return Ok(Check::Never),
        _ => {}
    }
    let (kind, matched) = word.split_once(':').ok_or_else(|| {
        format!("{word:?} is no check: expected role:NAME, rule:NAME, ATTRIBUTE:VALUE, @ (everybody) or ! (nobody)")
    })?;
    match kind {
        "" => Err(format!("{word:?} says nothing before its colon")),
        "role" => Ok(Check::Role(interpolated(matched)?)),
        "rule" => Ok(Check::Rule(matched.to_owned())),
        "field" => field(word, matched),
        "http" | "https" => Err(format!(
            "{word:?}: checks by a remote server are not supported, as every request would have to wait for it; \
             write the rule out"
        )),
        _ => Ok(Check::Equal(left(kind), interpolated(matched)?)),
    }
}

/// `networks:shared=True`, `port:device_owner=~^network:`
fn field(word: &str, matched: &str) -> Result<Check, String> {
    let shape = || format!("{word:?}: expected field:RESOURCE:FIELD=VALUE");
    let (_, rest) = matched.split_once(':').ok_or_else(shape)?;
    let (name, value) = rest.split_once('=').ok_or_else(shape)?;
    let Some(expression) = value.strip_prefix('~') else {
        return Ok(Check::Field(name.to_owned(), Pattern::Is(value.to_owned())));
    };
    match expression.strip_prefix('^') {
        Some(start) if !start.contains(['.', '*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '\\', '$', '^']) => {
            Ok(Check::Field(name.to_owned(), Pattern::StartsWith(start.to_owned())))
        }
        _ => Err(format!("{word:?}: of regular expressions only ~^BEGINNING is supported")),
    }
}

/// Python's literals, or the name of an attribute.
fn left(kind: &str) -> Left {
    let quoted = ['\'', '"'].iter().find_map(|quote| kind.strip_prefix(*quote)?.strip_suffix(*quote));
    match quoted {
        Some(text) => Left::Literal(text.to_owned()),
        None if matches!(kind, "True" | "False" | "None") || kind.parse::<i64>().is_ok() => {
            Left::Literal(kind.to_owned())
        }
        None => Left::Caller(kind.to_owned()),
    }
}

fn interpolated(text: &str) -> Result<Text, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once("%(") {
        let (name, after) = after.split_once(")s").ok_or_else(|| format!("{text:?}: %( is not closed by )s"))?;
        if !plain.is_empty() {
            parts.push(Part::Plain(plain.to_owned()));
        }
        parts.push(Part::Target(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Plain(rest.to_owned()));
    }
    Ok(Text(parts))
}
