//! What the shapes of all resources share: fields of requests, links, collections.

use model::{Error, Result};
use serde_json::{Map, Value, json};
use store::{
    identity::Extra,
    list::{Page, Select},
};
use web::{Cx, Reply, paging::ListSpec};

/// Largest text of a client's own attributes, as JSON.
const EXTRA_BYTES_MAX: usize = 64 * 1024;
/// Words that a project may be tagged with, and how long each may be.
const TAGS_MAX: usize = 80;
const TAG_CHARS_MAX: usize = 255;

/// The object under a request's one key. Each field that is known is taken out and checked; what is left are the
/// client's own attributes, which Keystone keeps. Beside them, how many there were.
pub struct Fields(Map<String, Value>, usize);

impl Fields {
    /// Reads the body.
    ///
    /// # Errors
    /// Bad request where it isn't an object in an object.
    pub fn of(cx: &Cx, key: &str) -> Result<Self> {
        let map: Map<String, Value> = cx.json_in(key)?;
        let given = map.len();
        Ok(Self(map, given))
    }

    /// The same for one of several objects in a list.
    pub fn from_map(map: Map<String, Value>) -> Self {
        let given = map.len();
        Self(map, given)
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// Bad request for anything else.
    pub fn number(&mut self, field: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        match self.0.remove(field) {
            None => Ok(None),
            Some(value) => match value.as_i64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => {
                    let what = format!("is not a whole number from {} to {}", range.start(), range.end());
                    Err(invalid(field, &value, &what))
                }
            },
        }
    }

    /// Refuses what is left: for resources that keep nothing of the client's own.
    ///
    /// # Errors
    /// Bad request naming the first of them.
    pub fn nothing_else(self) -> Result<()> {
        match self.0.keys().find(|key| !["id", "links"].contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let message = format!("Additional properties are not allowed ('{key}' was unexpected)");
                Err(Error::bad_request("SchemaValidationError", message))
            }
        }
    }

    /// A value as it is.
    pub fn value(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// Anything that is there or isn't.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// A text that is there or isn't.
    ///
    /// # Errors
    /// Bad request for anything but text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.0.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(invalid(field, &other, "is not of type 'string'")),
        }
    }

    /// A text or null.
    ///
    /// # Errors
    /// Bad request for anything else.
    pub fn nullable_text(&mut self, field: &str) -> Result<Option<Option<String>>> {
        match self.0.remove(field) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text))),
            Some(other) => Err(invalid(field, &other, "is not of type 'string', 'null'")),
        }
    }

    /// A name: not blank, and no longer than that.
    ///
    /// # Errors
    /// Bad request for anything else.
    pub fn name(&mut self, field: &str, chars_max: usize) -> Result<Option<String>> {
        let Some(name) = self.text(field)? else { return Ok(None) };
        if name.trim().is_empty() {
            return Err(invalid(field, &json!(name), "is too short"));
        }
        if name.chars().count() > chars_max {
            return Err(invalid(field, &json!(name), "is too long"));
        }
        Ok(Some(name))
    }

    /// A flag.
    ///
    /// # Errors
    /// Bad request for anything but true and false.
    pub fn flag(&mut self, field: &str) -> Result<Option<bool>> {
        match self.0.remove(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(invalid(field, &other, "is not of type 'boolean'")),
        }
    }

    /// Words.
    ///
    /// # Errors
    /// Bad request for too many, too long ones, doubles, or any with a comma or slash.
    pub fn tags(&mut self) -> Result<Option<Vec<String>>> {
        self.0.remove("tags").map(tags).transpose()
    }

    /// The resource option `immutable`; null is its default.
    ///
    /// # Errors
    /// Bad request for any other option, and for a value that is no flag.
    pub fn immutable(&mut self) -> Result<Immutable> {
        let options = match self.0.remove("options") {
            None => return Ok(Immutable { given: None, alone: false }),
            Some(Value::Object(options)) => options,
            Some(other) => return Err(invalid("options", &other, "is not of type 'object'")),
        };
        let mut given = None;
        for (name, value) in options {
            match (name.as_str(), value) {
                ("immutable", Value::Bool(flag)) => given = Some(flag),
                ("immutable", Value::Null) => given = Some(false),
                ("immutable", other) => return Err(invalid("immutable", &other, "is not of type 'boolean', 'null'")),
                _ => {
                    let message = format!("Additional properties are not allowed ('{name}' was unexpected)");
                    return Err(Error::bad_request("SchemaValidationError", message));
                }
            }
        }
        Ok(Immutable { given, alone: self.1 == 1 })
    }

    /// Resource options: there are none yet.
    ///
    /// # Errors
    /// Unsupported for any option.
    pub fn no_options(&mut self) -> Result<()> {
        match self.0.remove("options") {
            None => Ok(()),
            Some(Value::Object(options)) if options.values().all(|v| v.is_null() || *v == json!(false)) => Ok(()),
            Some(Value::Object(_)) => {
                Err(Error::unsupported("NotImplemented", "Resource options are not available in this cloud."))
            }
            Some(other) => Err(invalid("options", &other, "is not of type 'object'")),
        }
    }

    /// A field that may be repeated but not changed.
    ///
    /// # Errors
    /// Bad request where it differs.
    pub fn unchanged(&mut self, field: &str, current: Option<&str>) -> Result<()> {
        match self.nullable_text(field)? {
            Some(value) if value.as_deref() != current => {
                Err(Error::bad_request("ValidationError", format!("Cannot change {field}.")))
            }
            _ => Ok(()),
        }
    }

    /// What is left.
    ///
    /// # Errors
    /// Bad request where it is too much.
    pub fn extra(mut self) -> Result<Extra> {
        for ours in ["id", "links"] {
            self.0.remove(ours);
        }
        if serde_json::to_string(&self.0).is_ok_and(|text| text.len() > EXTRA_BYTES_MAX) {
            let message = format!("Attributes of your own may take {EXTRA_BYTES_MAX} bytes at the most.");
            return Err(Error::bad_request("ValidationError", message));
        }
        Ok(self.0)
    }
}

/// A list of words that something may be tagged with.
///
/// # Errors
/// Bad request for too many, too long ones, doubles, or any with a comma or slash.
pub fn tags(value: Value) -> Result<Vec<String>> {
    let tags: Vec<String> =
        serde_json::from_value(value.clone()).map_err(|_| invalid("tags", &value, "is not a list of texts"))?;
    let fits = |tag: &String| !tag.is_empty() && tag.chars().count() <= TAG_CHARS_MAX && !tag.contains([',', '/']);
    let unique: std::collections::BTreeSet<&String> = tags.iter().collect();
    if tags.len() > TAGS_MAX || unique.len() != tags.len() || !tags.iter().all(fits) {
        return Err(invalid("tags", &value, "is not a list of different tags without commas and slashes"));
    }
    Ok(tags)
}

/// What a request says about `immutable`.
#[derive(Clone, Copy, Debug)]
pub struct Immutable {
    given: Option<bool>,
    /// Whether the request says nothing else.
    alone: bool,
}

impl Immutable {
    /// The options of something new.
    pub fn options(self) -> Extra {
        let mut options = Extra::new();
        if let Some(flag) = self.given {
            options.insert("immutable".to_owned(), json!(flag));
        }
        options
    }

    /// Changes the options of something. What is immutable can only be told not to be so any more, by itself.
    ///
    /// # Errors
    /// Forbidden for any other change of it.
    pub fn apply(self, what: &str, id: &str, options: &mut Extra) -> Result<()> {
        if is_immutable(options) && !(self.alone && self.given == Some(false)) {
            return Err(immutable_update(what, id));
        }
        options.extend(self.options());
        Ok(())
    }
}

fn is_immutable(options: &Extra) -> bool {
    options.get("immutable") == Some(&json!(true))
}

fn immutable_update(what: &str, id: &str) -> Error {
    let message =
        format!("Unable to update immutable {what} resource: `{id}. Set resource option \"immutable\" to false first.");
    Error::forbidden("ResourceUpdateForbidden", message)
}

/// Refuses a change of what is immutable.
///
/// # Errors
/// Forbidden.
pub fn changeable(what: &str, id: &str, options: &Extra) -> Result<()> {
    if is_immutable(options) { Err(immutable_update(what, id)) } else { Ok(()) }
}

/// Refuses the end of what is immutable.
///
/// # Errors
/// Forbidden.
pub fn deletable(what: &str, id: &str, options: &Extra) -> Result<()> {
    if !is_immutable(options) {
        return Ok(());
    }
    let message =
        format!("Unable to delete immutable {what} resource: `{id}. Set resource option \"immutable\" to false first.");
    Err(Error::forbidden("ResourceDeleteForbidden", message))
}

/// A value that is not what its field takes.
pub fn invalid(field: &str, value: &Value, what: &str) -> Error {
    Error::bad_request("SchemaValidationError", format!("Invalid input for field '{field}': {value} {what}"))
}

/// That a field is missing.
pub fn required(field: &str) -> Error {
    Error::bad_request("SchemaValidationError", format!("'{field}' is a required property"))
}

/// That something isn't there.
pub fn not_found(code: &'static str, what: &str, id: &str) -> Error {
    Error::not_found(code, format!("Could not find {what}: {id}."))
}

/// The database's refusal of a second one of the same name.
pub fn duplicate(what: &'static str, name: &str) -> impl FnOnce(store::Error) -> Error {
    move |error| {
        if error.is_unique_violation() {
            let message =
                format!("Conflict occurred attempting to store {what} - Duplicate entry found with name {name}.");
            Error::conflict("Conflict", message)
        } else {
            error.into()
        }
    }
}

/// Adds the query's filters, the inexact ones too.
///
/// # Errors
/// Bad request for a value that is no flag or number.
pub fn filter(cx: &Cx, list: &ListSpec, select: &mut Select) -> Result<()> {
    list.filter(&cx.query, select)?;
    list.filter_inexactly(&cx.query, select);
    Ok(())
}

/// Whether a parameter asks for something: Keystone takes it for true when it is there at all, unless it says no.
pub fn is_asked(cx: &Cx, parameter: &str) -> bool {
    cx.query.get(parameter).is_some_and(|text| web::paging::parse_flag(text) != Some(false))
}

/// A resource as clients see it: its own attributes over those of the client, with a link to itself.
pub fn resource(cx: &Cx, collection: &str, id: &str, extra: &Extra, own: Value) -> Value {
    let mut document = extra.clone();
    if let Value::Object(own) = own {
        document.extend(own);
    }
    document.insert("id".to_owned(), json!(id));
    document.insert("links".to_owned(), json!({ "self": link(cx, collection, id) }));
    Value::Object(document)
}

/// The address of a resource.
pub fn link(cx: &Cx, collection: &str, id: &str) -> String {
    format!("{}/v3/{collection}/{id}", cx.service_url())
}

/// A page of resources, with a link to the next one where there may be one.
///
/// # Errors
/// Internal, never.
pub fn collection<'a, T>(
    cx: &Cx,
    key: &str,
    page: &Page,
    rows: &'a [T],
    show: impl Fn(&'a T) -> (&'a str, Value),
) -> Result<Reply> {
    let shown: Vec<(&str, Value)> = rows.iter().map(show).collect();
    let full = page.limit > 0 && rows.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
    let next = shown.last().filter(|_| full).map(|(id, _)| cx.next_url(id));
    let items: Vec<Value> = shown.into_iter().map(|(_, item)| item).collect();
    let mut document = json!({ key: items, "links": { "next": next, "self": cx.self_url(), "previous": null } });
    if full {
        document["truncated"] = json!(true);
    }
    Reply::ok(&document)
}

/// A list that has no pages.
///
/// # Errors
/// Internal, never.
pub fn whole<T>(cx: &Cx, key: &str, rows: &[T], show: impl Fn(&T) -> Value) -> Result<Reply> {
    let items: Vec<Value> = rows.iter().map(show).collect();
    Reply::ok(&json!({ key: items, "links": { "next": null, "self": cx.self_url(), "previous": null } }))
}
