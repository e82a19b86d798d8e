//! Every attribute of an image, once: the JSON schemas that clients read, and the check of what they send.

use model::{Error, Result, id};
use serde_json::{Map, Value, json};
use store::images::{MemberStatus, Visibility};
use web::{Cx, Reply};

/// Container formats that are taken, `bare` first: clients that choose for themselves take the first.
pub(crate) const CONTAINER_FORMATS: &[&str] = &["bare", "ami", "ari", "aki", "ovf", "ova", "docker", "compressed"];
/// Disk formats that are taken. Guests boot from raw, qcow2 and iso; the others are kept for whoever needs them.
pub(crate) const DISK_FORMATS: &[&str] =
    &["raw", "qcow2", "iso", "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "vdi", "ploop"];
/// Every status that Glance's schema names; see [`store::images::Status`] for those that occur here.
const STATUSES: &[&str] =
    &["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated"];
/// Longest text of an attribute, in characters.
const TEXT_CHARS_MAX: usize = 255;
/// Longest value of an additional property, in bytes (a TEXT column of Glance's MySQL).
const PROPERTY_BYTES_MAX: usize = 65_535;
/// Largest `min_disk` and `min_ram`.
const NUMBER_MAX: i64 = i32::MAX as i64;

/// An attribute that the API itself knows.
pub(crate) struct Attribute {
    pub name: &'static str,
    kind: Kind,
    /// Clients can't set it.
    pub read_only: bool,
    description: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Id,
    Text,
    OptText(usize),
    Word(&'static [&'static str]),
    OptWord(&'static [&'static str]),
    Flag,
    Number,
    OptNumber,
    Tags,
}

const VISIBILITIES: &[&str] = &[
    Visibility::Community.as_str(),
    Visibility::Public.as_str(),
    Visibility::Private.as_str(),
    Visibility::Shared.as_str(),
];

/// The table.
pub(crate) const ATTRIBUTES: &[Attribute] = &[
    free("id", Kind::Id, "An identifier for the image"),
    free("name", Kind::OptText(TEXT_CHARS_MAX), "Descriptive name for the image"),
    fixed("status", Kind::Word(STATUSES), "Status of the image"),
    free("visibility", Kind::Word(VISIBILITIES), "Scope of image accessibility"),
    free("protected", Kind::Flag, "If true, image will not be deletable."),
    free("os_hidden", Kind::Flag, "If true, image will not appear in default image list response."),
    fixed("checksum", Kind::OptText(32), "md5 hash of image contents."),
    fixed("os_hash_algo", Kind::OptText(64), "Algorithm to calculate the os_hash_value"),
    fixed("os_hash_value", Kind::OptText(128), "Hexdigest of the image contents using the algorithm os_hash_algo"),
    free("owner", Kind::OptText(TEXT_CHARS_MAX), "Owner of the image"),
    fixed("size", Kind::OptNumber, "Size of image file in bytes"),
    fixed("virtual_size", Kind::OptNumber, "Virtual size of image in bytes"),
    free("container_format", Kind::OptWord(CONTAINER_FORMATS), "Format of the container"),
    free("disk_format", Kind::OptWord(DISK_FORMATS), "Format of the disk"),
    fixed("created_at", Kind::Text, "Date and time of image registration"),
    fixed("updated_at", Kind::Text, "Date and time of the last image modification"),
    free("tags", Kind::Tags, "List of strings related to the image"),
    fixed("direct_url", Kind::Text, "URL to access the image file kept in external store"),
    free("min_ram", Kind::Number, "Amount of ram (in MB) required to boot image."),
    free("min_disk", Kind::Number, "Amount of disk space (in GB) required to boot image."),
    fixed("self", Kind::Text, "An image self url"),
    fixed("file", Kind::Text, "An image file url"),
    fixed("schema", Kind::Text, "An image schema url"),
    fixed("stores", Kind::Text, "Store in which image data resides"),
];

/// Names that no additional property may have.
const RESERVED: &[&str] = &["location", "locations", "deleted", "deleted_at"];
/// What Glance keeps for itself.
const RESERVED_PREFIX: &str = "os_glance";

const fn free(name: &'static str, kind: Kind, description: &'static str) -> Attribute {
    Attribute { name, kind, read_only: false, description }
}

const fn fixed(name: &'static str, kind: Kind, description: &'static str) -> Attribute {
    Attribute { name, kind, read_only: true, description }
}

/// The attribute of that name; none means that it is an additional property.
pub(crate) fn attribute(name: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|a| a.name == name)
}

/// Whether clients may set something of that name at all.
///
/// # Errors
/// Forbidden, in Glance's words.
pub(crate) fn refuse_read_only(name: &str) -> Result<()> {
    if attribute(name).is_some_and(|a| a.read_only) {
        return Err(Error::forbidden("ReadonlyProperty", format!("Attribute '{name}' is read-only.")));
    }
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err(Error::forbidden("ReservedProperty", format!("Attribute '{name}' is reserved.")));
    }
    Ok(())
}

/// Whether a value fits its attribute, or is one that an additional property can have.
///
/// # Errors
/// Bad request that says what would fit.
pub(crate) fn check(name: &str, value: &Value) -> Result<()> {
    let fits = match attribute(name) {
        Some(attribute) => attribute.kind.fits(value),
        None if name.is_empty() || name.chars().count() > TEXT_CHARS_MAX => {
            Err(format!("the name of a property has 1 to {TEXT_CHARS_MAX} characters"))
        }
        None => match value.as_str() {
            Some(text) if text.len() <= PROPERTY_BYTES_MAX => storable(text),
            Some(_) => Err(format!("a property has at most {PROPERTY_BYTES_MAX} bytes")),
            None => Err("a property is a string".to_owned()),
        },
    };
    fits.map_err(|why| invalid(&format!("{name}: {why}")))
}

fn invalid(why: &str) -> Error {
    Error::bad_request("InvalidObject", format!("Provided object does not match schema 'image': {why}"))
}

/// A tag alone, as `PUT .../tags/{tag}` has it.
///
/// # Errors
/// Bad request.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    short(tag, TEXT_CHARS_MAX).map_err(|why| invalid(&format!("tag: {why}")))
}

impl Kind {
    fn fits(self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::OptText(_) | Self::OptWord(_) | Self::OptNumber, Value::Null) => Ok(()),
            (Self::Id, Value::String(text)) if text.len() == 36 && id::is_uuid_like(text) => Ok(()),
            (Self::Id, _) => Err("it is a UUID with dashes".to_owned()),
            (Self::Text, Value::String(text)) => storable(text),
            (Self::OptText(max), Value::String(text)) => short(text, max),
            (Self::Text | Self::OptText(_), _) => Err("it is a string".to_owned()),
            (Self::Word(words) | Self::OptWord(words), value) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(()),
                _ => Err(format!("it is one of {}", words.join(", "))),
            },
            (Self::Flag, Value::Bool(_)) => Ok(()),
            (Self::Flag, _) => Err("it is true or false".to_owned()),
            (Self::Number | Self::OptNumber, value) => match value.as_i64() {
                Some(0..=NUMBER_MAX) => Ok(()),
                _ => Err(format!("it is a whole number from 0 to {NUMBER_MAX}")),
            },
            (Self::Tags, Value::Array(tags)) => {
                let tag =
                    |tag: &Value| tag.as_str().map_or(Err("tags are strings".to_owned()), |t| short(t, TEXT_CHARS_MAX));
                tags.iter().try_for_each(tag)
            }
            (Self::Tags, _) => Err("it is a list of strings".to_owned()),
        }
    }

    fn schema(self) -> Value {
        let nullable = |words: &[&str]| -> Vec<Value> {
            std::iter::once(Value::Null).chain(words.iter().map(|w| json!(w))).collect()
        };
        match self {
            Self::Id => json!({
                "type": "string",
                "pattern": "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$",
            }),
            Self::Text => json!({"type": "string"}),
            Self::OptText(max) => json!({"type": ["null", "string"], "maxLength": max}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::OptWord(words) => json!({"type": ["null", "string"], "enum": nullable(words)}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Number => json!({"type": "integer"}),
            Self::OptNumber => json!({"type": ["null", "integer"]}),
            Self::Tags => json!({"type": "array", "items": {"type": "string", "maxLength": TEXT_CHARS_MAX}}),
        }
    }
}

fn short(text: &str, max: usize) -> Result<(), String> {
    if text.chars().count() > max {
        return Err(format!("it has at most {max} characters"));
    }
    storable(text)
}

/// PostgreSQL's text holds everything but this.
fn storable(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it must not contain the character NUL".to_owned()) } else { Ok(()) }
}

/// `GET /v2/schemas/image`.
pub(crate) async fn image(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&image_schema())
}

/// `GET /v2/schemas/images`.
pub(crate) async fn images(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&collection("images", image_schema(), true))
}

/// `GET /v2/schemas/member`.
pub(crate) async fn member(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&member_schema())
}

/// `GET /v2/schemas/members`.
pub(crate) async fn members(_cx: &Cx) -> Result<Reply> {
    Reply::ok(&collection("members", member_schema(), false))
}

fn image_schema() -> Value {
    let property = |attribute: &Attribute| {
        let mut schema = attribute.kind.schema();
        schema["description"] = json!(attribute.description);
        if attribute.read_only {
            schema["readOnly"] = json!(true);
        }
        (attribute.name.to_owned(), schema)
    };
    json!({
        "name": "image",
        "properties": ATTRIBUTES.iter().map(property).collect::<Map<_, _>>(),
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn member_schema() -> Value {
    let statuses: Vec<&str> = MemberStatus::ALL.iter().map(|s| s.as_str()).collect();
    json!({
        "name": "member",
        "properties": {
            "created_at": {"type": "string", "description": "Date and time of image member creation"},
            "image_id": {
                "type": "string",
                "description": "An identifier for the image",
                "pattern": "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$",
            },
            "member_id": {"type": "string", "description": "An identifier for the image member (tenantId)"},
            "schema": {"readOnly": true, "type": "string"},
            "status": {"type": "string", "description": "The status of this image member", "enum": statuses},
            "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
        },
    })
}

fn collection(name: &str, item: Value, paged: bool) -> Value {
    let mut properties = json!({name: {"type": "array", "items": item}, "schema": {"type": "string"}});
    let mut links = vec![json!({"rel": "describedby", "href": "{schema}"})];
    if paged {
        properties["first"] = json!({"type": "string"});
        properties["next"] = json!({"type": "string"});
        links.extend([json!({"rel": "first", "href": "{first}"}), json!({"rel": "next", "href": "{next}"})]);
    }
    json!({"name": name, "properties": properties, "links": links})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let long = "x".repeat(256);
        let table: Vec<(&str, Value, bool)> = vec![
            ("id", json!("0f9c9a80-7c2b-4b62-9a4e-9dbb0f0b9d0f"), true),
            ("id", json!("0f9c9a807c2b4b629a4e9dbb0f0b9d0f"), false),
            ("id", json!("../../../../../../../../../etc/passwd"), false),
            ("name", json!(null), true),
            ("name", json!(7), false),
            ("name", json!(long), false),
            ("name", json!("a\0b"), false),
            ("visibility", json!("shared"), true),
            ("visibility", json!(null), false),
            ("disk_format", json!(null), true),
            ("disk_format", json!("floppy"), false),
            ("protected", json!("yes"), false),
            ("min_ram", json!(-1), false),
            ("min_ram", json!(1 << 31), false),
            ("min_ram", json!(512), true),
            ("tags", json!(["a", "b"]), true),
            ("tags", json!(["a", 1]), false),
            ("tags", json!([long]), false),
            ("anything", json!("text"), true),
            ("anything", json!(1), false),
            ("anything", json!("x".repeat(65_536)), false),
            (&long, json!("x"), false),
        ];
        for (name, value, fits) in table {
            assert_eq!(check(name, &value).is_ok(), fits, "{name}: {value}");
        }
    }

    #[test]
    fn what_clients_may_not_set() {
        for name in ["status", "checksum", "self", "location", "deleted", "os_glance_importing", "locations"] {
            assert!(refuse_read_only(name).is_err(), "{name}");
        }
        for name in ["name", "id", "os_distro", "hw_disk_bus"] {
            assert!(refuse_read_only(name).is_ok(), "{name}");
        }
    }
}
