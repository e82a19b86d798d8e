//! Metadata definitions on the wire.

use model::{Error, Result, id::ProjectId};
use serde_json::{Map, Value, json};
use store::images::metadefs::{Association, Item, Kind, Namespace};

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 80;
/// Longest text, in characters.
const TEXT_CHARS_MAX: usize = 500;
/// Most that a property's or an object's JSON may be, in bytes.
const BODY_BYTES_MAX: usize = 65_535;
/// Types that a property may have.
pub(super) const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string", "null"];

pub(super) fn invalid(why: &str) -> Error {
    Error::bad_request("InvalidObject", format!("Provided object does not match its schema: {why}."))
}

/// A name that must be there.
pub(super) fn name(body: &Map<String, Value>, key: &str) -> Result<String> {
    match body.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.contains('\0') => {
            Ok(text.to_owned())
        }
        _ => Err(invalid(&format!("{key} is a text of 1 to {NAME_CHARS_MAX} characters"))),
    }
}

/// A text that need not be there.
pub(super) fn opt_text(body: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= TEXT_CHARS_MAX && !text.contains('\0') => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(invalid(&format!("{key} is a text of at most {TEXT_CHARS_MAX} characters"))),
    }
}

/// Writes what a body says about a namespace.
pub(super) fn apply(namespace: &mut Namespace, body: &Map<String, Value>) -> Result<()> {
    const KEYS: &[&str] = &[
        "namespace",
        "display_name",
        "description",
        "visibility",
        "protected",
        "owner",
        "objects",
        "properties",
        "tags",
        "resource_type_associations",
        "created_at",
        "updated_at",
        "self",
        "schema",
    ];
    if let Some(unknown) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(invalid(&format!("{unknown} is not an attribute of a namespace")));
    }
    namespace.display_name = opt_text(body, "display_name")?;
    namespace.description = opt_text(body, "description")?;
    if let Some(visibility) = body.get("visibility") {
        namespace.public = match visibility.as_str() {
            Some("public") => true,
            Some("private") => false,
            _ => return Err(invalid("visibility is public or private")),
        };
    }
    if let Some(protected) = body.get("protected") {
        namespace.protected = protected.as_bool().ok_or_else(|| invalid("protected is true or false"))?;
    }
    if let Some(owner) = opt_text(body, "owner")? {
        namespace.owner = ProjectId::new(owner);
    }
    Ok(())
}

/// A namespace without what it holds; of the associations, its own.
pub(super) fn namespace(namespace: &Namespace, associations: &[Association]) -> Map<String, Value> {
    let name = namespace.namespace.as_str();
    let own = associations.iter().filter(|a| a.namespace == name);
    let mut view = Map::new();
    let mut set = |key: &str, value: Value| view.insert(key.to_owned(), value);
    set("namespace", json!(name));
    if let Some(text) = &namespace.display_name {
        set("display_name", json!(text));
    }
    if let Some(text) = &namespace.description {
        set("description", json!(text));
    }
    set("visibility", json!(if namespace.public { "public" } else { "private" }));
    set("protected", json!(namespace.protected));
    set("owner", json!(namespace.owner));
    set("created_at", json!(namespace.created_at.to_seconds_z()));
    set("updated_at", json!(namespace.updated_at.to_seconds_z()));
    set("resource_type_associations", own.map(association).collect());
    set("self", json!(format!("/v2/metadefs/namespaces/{name}")));
    set("schema", json!("/v2/schemas/metadefs/namespace"));
    view
}

/// An association.
pub(super) fn association(association: &Association) -> Value {
    let mut view = json!({
        "name": association.resource_type,
        "created_at": association.created_at.to_seconds_z(),
        "updated_at": association.updated_at.to_seconds_z(),
    });
    if let Some(prefix) = &association.prefix {
        view["prefix"] = json!(prefix);
    }
    if let Some(target) = &association.properties_target {
        view["properties_target"] = json!(target);
    }
    view
}

/// An object, a property or a tag.
pub(super) fn item(namespace: &str, kind: Kind, item: &Item) -> Value {
    let mut view = item.body.clone();
    let mut set = |key: &str, value: Value| view.insert(key.to_owned(), value);
    set("name", json!(item.name));
    if kind != Kind::Property {
        set("created_at", json!(item.created_at.to_seconds_z()));
        set("updated_at", json!(item.updated_at.to_seconds_z()));
    }
    if kind == Kind::Object {
        set("self", json!(format!("/v2/metadefs/namespaces/{namespace}/objects/{}", item.name)));
        set("schema", json!("/v2/schemas/metadefs/object"));
    }
    Value::Object(view)
}

/// The name and the rest of an item, checked.
pub(super) fn parse_item(kind: Kind, mut body: Map<String, Value>) -> Result<(String, Map<String, Value>)> {
    let name = name(&body, "name")?;
    for shown in ["name", "created_at", "updated_at", "self", "schema"] {
        body.remove(shown);
    }
    let allowed: &[&str] = match kind {
        Kind::Tag => &[],
        Kind::Object => &["description", "required", "properties"],
        Kind::Property => PROPERTY,
    };
    if let Some(unknown) = body.keys().find(|key| !allowed.contains(&key.as_str())) {
        return Err(invalid(&format!("{unknown} is not an attribute of a {}", kind.as_str())));
    }
    opt_text(&body, "description")?;
    match kind {
        Kind::Tag => {}
        Kind::Object => {
            let of = body.get("properties").map_or(Some(Map::new()), |value| value.as_object().cloned());
            let of = of.ok_or_else(|| invalid("properties is an object"))?;
            of.values().try_for_each(|value| {
                value.as_object().map_or(Err(invalid("a property is an object")), check_property)
            })?;
        }
        Kind::Property => check_property(&body)?,
    }
    if Value::Object(body.clone()).to_string().len() > BODY_BYTES_MAX {
        return Err(invalid("it is too long"));
    }
    Ok((name, body))
}

/// Attributes of a property: those of JSON schema that Glance knows.
pub(super) const PROPERTY: &[&str] = &[
    "title",
    "description",
    "type",
    "operators",
    "readonly",
    "default",
    "enum",
    "required",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "additionalItems",
    "items",
    "format",
];

fn check_property(body: &Map<String, Value>) -> Result<()> {
    if !body.get("title").is_some_and(Value::is_string) {
        return Err(invalid("a property has a title"));
    }
    match body.get("type").and_then(Value::as_str) {
        Some(kind) if TYPES.contains(&kind) => Ok(()),
        _ => Err(invalid(&format!("the type of a property is one of {}", TYPES.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items() {
        let table = [
            (Kind::Tag, json!({"name": "t"}), true),
            (Kind::Tag, json!({"name": ""}), false),
            (Kind::Tag, json!({"name": "t", "color": "red"}), false),
            (Kind::Tag, json!({"name": "x".repeat(81)}), false),
            (Kind::Property, json!({"name": "p", "title": "P", "type": "string", "enum": ["a"]}), true),
            (Kind::Property, json!({"name": "p", "title": "P", "type": "text"}), false),
            (Kind::Property, json!({"name": "p", "type": "string"}), false),
            (Kind::Object, json!({"name": "o", "properties": {"p": {"title": "P", "type": "integer"}}}), true),
            (Kind::Object, json!({"name": "o", "properties": {"p": 1}}), false),
            (Kind::Object, json!({"name": "o", "properties": []}), false),
            (Kind::Object, json!({"description": "no name"}), false),
        ];
        for (kind, body, fits) in table {
            let object = body.as_object().unwrap().clone();
            assert_eq!(parse_item(kind, object).is_ok(), fits, "{body}");
        }
    }
}
