//! What Nova's schemas let into request bodies and query strings, and the links that its answers carry.

use model::{Error, Result, id::ProjectId, limits::NAME_CHARS_MAX};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};
use store::Conn;
use web::{Cx, Version, paging::parse_flag};

/// A whole number, also as text: Nova takes `512` and `"512"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| D::Error::custom("expected a whole number"))
    }
}

/// A flag, also as text: `true`, `"True"`, `"1"`, `"on"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(flag) => Some(flag),
            Value::String(text) => parse_flag(&text),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| D::Error::custom("expected a boolean"))
    }
}

/// A request that a schema refuses.
pub fn invalid(message: impl Into<String>) -> Error {
    Error::bad_request("ValidationError", message)
}

/// A name: 1 to 255 printable characters, no space at its ends.
///
/// # Errors
/// Bad request for any other.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.trim() != name || name.chars().any(char::is_control) {
        return Err(invalid(format!(
            "Invalid input for {what}: a name has 1 to {NAME_CHARS_MAX} printable characters and no space at its ends."
        )));
    }
    Ok(())
}

/// From this microversion on, Nova refuses query parameters that it does not know; before, it leaves them alone.
///
/// # Errors
/// Bad request that names the parameter.
pub fn only_known(cx: &Cx, since: Version, known: &[&str]) -> Result<()> {
    let unknown = cx.query.0.iter().find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, _)) if cx.version >= since => Err(invalid(format!(
            "Invalid query parameter {name}: Additional properties are not allowed ('{name}' was unexpected)."
        ))),
        _ => Ok(()),
    }
}

/// Nova asks the identity service whether a project exists before it stores anything about it.
///
/// # Errors
/// Bad request where there is none.
pub async fn check_project(conn: &mut Conn, project: &ProjectId) -> Result<()> {
    match store::identity::projects::get(conn, project).await? {
        Some(_) => Ok(()),
        None => Err(Error::bad_request("InvalidProject", format!("Project ID {project} is not a valid project."))),
    }
}

/// Where a resource is found: by its versioned and by its lasting address.
pub fn links(cx: &Cx, collection: &str, id: &str) -> Value {
    let service = cx.service_url();
    json!([
        {"rel": "self", "href": format!("{service}/v2.1/{collection}/{id}")},
        {"rel": "bookmark", "href": format!("{service}/{collection}/{id}")}
    ])
}

/// The link to the next page, if this one is full.
pub fn next_link(cx: &Cx, limit: u32, shown: usize, last_id: Option<&str>) -> Option<Value> {
    let last_id = last_id.filter(|_| shown >= limit as usize)?;
    Some(json!([{"rel": "next", "href": cx.next_url(last_id)}]))
}
