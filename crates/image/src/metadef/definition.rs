//! The schemas of metadata definitions, as clients read them.

use model::{Error, Result};
use serde_json::{Value, json};
use web::{Cx, Reply};

use super::wire::TYPES;

/// `GET /v2/schemas/metadefs/{name}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let wanted = cx.param("name");
    let schema = match wanted {
        "namespace" => namespace(),
        "namespaces" => collection("namespaces", namespace()),
        "resource_type" => resource_type(),
        "resource_types" => plain_list("resource_type_associations", resource_type()),
        "object" => object(),
        "objects" => collection("objects", object()),
        "property" => with_name(property(), "property"),
        "properties" => json!({
            "name": "properties",
            "definitions": definitions(),
            "properties": {"properties": {"type": "object", "additionalProperties": property()}},
            "links": [{"rel": "first", "href": "{first}"}, {"rel": "describedby", "href": "{schema}"}],
        }),
        "tag" => tag(),
        "tags" => collection("tags", tag()),
        _ => return Err(Error::not_found("NotFound", format!("There is no schema metadefs/{wanted}."))),
    };
    Reply::ok(&schema)
}

fn text(description: &str, longest: usize) -> Value {
    json!({"type": "string", "description": description, "maxLength": longest})
}

fn moment(description: &str) -> Value {
    json!({"type": "string", "readOnly": true, "description": description, "format": "date-time"})
}

fn definitions() -> Value {
    json!({
        "positiveInteger": {"type": "integer", "minimum": 0},
        "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
        "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        "property": {"type": "object", "additionalProperties": property()},
    })
}

fn namespace() -> Value {
    json!({
        "name": "namespace",
        "required": ["namespace"],
        "additionalProperties": false,
        "definitions": definitions(),
        "properties": {
            "namespace": text("The unique namespace text.", 80),
            "display_name": text("The user friendly name for the namespace. Used by UI if available.", 80),
            "description": text("Provides a user friendly description of the namespace.", 500),
            "visibility": {
                "type": "string", "description": "Scope of namespace accessibility.", "enum": ["public", "private"]
            },
            "protected": {"type": "boolean", "description": "If true, namespace will not be deletable."},
            "owner": text("Owner of the namespace.", 255),
            "created_at": moment("Date and time of namespace creation"),
            "updated_at": moment("Date and time of the last namespace modification"),
            "self": {"type": "string", "readOnly": true},
            "schema": {"type": "string", "readOnly": true},
            "resource_type_associations": {"type": "array", "items": resource_type()},
            "properties": {"$ref": "#/definitions/property"},
            "objects": {"type": "array", "items": object()},
            "tags": {"type": "array", "items": tag()},
        },
    })
}

fn resource_type() -> Value {
    json!({
        "name": "resource_type_association",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": text("Resource type names should be aligned with Heat resource types whenever possible.", 80),
            "prefix": text("Specifies the prefix to use for the given resource type.", 80),
            "properties_target": text("Some resource types allow more than one key / value pair per instance.", 80),
            "created_at": moment("Date and time of resource type association"),
            "updated_at": moment("Date and time of the last resource type association modification"),
        },
    })
}

fn object() -> Value {
    json!({
        "name": "object",
        "required": ["name"],
        "additionalProperties": false,
        "definitions": definitions(),
        "properties": {
            "name": {"type": "string", "maxLength": 255},
            "description": {"type": "string"},
            "required": {"$ref": "#/definitions/stringArray"},
            "properties": {"$ref": "#/definitions/property"},
            "schema": {"type": "string", "readOnly": true},
            "self": {"type": "string", "readOnly": true},
            "created_at": moment("Date and time of object creation"),
            "updated_at": moment("Date and time of the last object modification"),
        },
    })
}

fn property() -> Value {
    json!({
        "type": "object",
        "required": ["title", "type"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "maxLength": 255},
            "title": {"type": "string"},
            "description": {"type": "string"},
            "type": {"type": "string", "enum": TYPES},
            "operators": {"$ref": "#/definitions/stringArray"},
            "readonly": {"type": "boolean"},
            "required": {"$ref": "#/definitions/stringArray"},
            "minimum": {"type": "number"},
            "maximum": {"type": "number"},
            "minLength": {"$ref": "#/definitions/positiveIntegerDefault0"},
            "maxLength": {"$ref": "#/definitions/positiveInteger"},
            "pattern": {"type": "string", "format": "regex"},
            "enum": {"type": "array"},
            "default": {},
            "format": {"type": "string"},
            "items": {"type": "object"},
            "minItems": {"$ref": "#/definitions/positiveIntegerDefault0"},
            "maxItems": {"$ref": "#/definitions/positiveInteger"},
            "uniqueItems": {"type": "boolean", "default": false},
            "additionalItems": {"type": "boolean"},
        },
    })
}

fn with_name(mut schema: Value, name: &str) -> Value {
    schema["name"] = json!(name);
    schema["definitions"] = definitions();
    schema
}

fn tag() -> Value {
    json!({
        "name": "tag",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "maxLength": 80},
            "created_at": moment("Date and time of tag creation"),
            "updated_at": moment("Date and time of the last tag modification"),
        },
    })
}

fn collection(name: &str, item: Value) -> Value {
    json!({
        "name": name,
        "definitions": definitions(),
        "properties": {
            name: {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn plain_list(name: &str, item: Value) -> Value {
    json!({
        "name": name,
        "properties": {name: {"type": "array", "items": item}, "first": {"type": "string"}, "schema": {"type": "string"}},
        "links": [{"rel": "describedby", "href": "{schema}"}],
    })
}
