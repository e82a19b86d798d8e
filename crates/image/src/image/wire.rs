//! Images on the wire: bodies, patches, filters, documents.

use model::{Error, ErrorKind, Result, Timestamp};
use serde_json::{Map, Value, json};
use store::{
    images::{Column, Comparison, Condition, Filter, Image, MemberStatus, SORTS, Shown, Viewer, Visibility},
    list::{self, Direction, Page},
};
use web::paging::{ListSpec, Query, parse_flag};

use crate::{import::wire::STORE, schema};

/// Images of a page for a client that names no limit, as Glance has it.
const PAGE_SIZE_DEFAULT: u32 = 25;

/// An image as clients see it.
pub(crate) fn view(image: &Image) -> Value {
    let path = format!("/v2/images/{}", image.id);
    // Properties first: an attribute wins over a property of its name.
    let mut view: Map<String, Value> = image.properties.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let attributes = json!({
        "id": image.id,
        "name": image.name,
        "owner": image.owner,
        "status": image.status.as_str(),
        "visibility": image.visibility.as_str(),
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "protected": image.protected,
        "os_hidden": image.hidden,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.hash_algo,
        "os_hash_value": image.hash_value,
        "created_at": image.created_at.to_seconds_z(),
        "updated_at": image.updated_at.to_seconds_z(),
        "tags": image.tags,
        "file": format!("{path}/file"),
        "self": path,
        "schema": "/v2/schemas/image",
    });
    if let Value::Object(attributes) = attributes {
        view.extend(attributes);
    }
    if image.file.is_some() {
        view.insert("stores".to_owned(), json!(STORE));
    }
    if let Some(state) = &image.import_state {
        let store_if = |wanted: &str| if state == wanted { json!(STORE) } else { json!("") };
        view.insert("os_glance_importing_to_stores".to_owned(), store_if("running"));
        view.insert("os_glance_failed_import".to_owned(), store_if("failed"));
    }
    Value::Object(view)
}

/// A page of images.
pub(crate) fn list_view(images: &[Image], first: String, next: Option<String>) -> Value {
    let mut view = json!({
        "images": images.iter().map(self::view).collect::<Vec<_>>(),
        "first": first,
        "schema": "/v2/schemas/images",
    });
    if let Some(next) = next {
        view["next"] = json!(next);
    }
    view
}

/// The body of a create, every attribute of it checked.
pub(crate) fn create_body(bytes: &[u8]) -> Result<Map<String, Value>> {
    let body: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|e| Error::bad_request("BadRequest", format!("The request body must be a JSON object: {e}")))?;
    for (name, value) in &body {
        schema::refuse_read_only(name)?;
        schema::check(name, value)?;
    }
    Ok(body)
}

/// One change of a patch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// What to do.
    pub op: Op,
    /// Which attribute or property.
    pub name: String,
}

/// What a change does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// Sets it, whether it is there or not.
    Add(Value),
    /// Sets it, if it is there.
    Replace(Value),
    /// Removes it.
    Remove,
}

const PATCH_2_0: &str = "application/openstack-images-v2.0-json-patch";
const PATCH_2_1: &str = "application/openstack-images-v2.1-json-patch";

/// A patch in either of Glance's spellings: `{"op": "replace", "path": "/name", "value": "x"}`, or the older
/// `{"replace": "/name", "value": "x"}`.
pub(crate) fn patch_body(content_type: Option<&str>, bytes: &[u8]) -> Result<Vec<Change>> {
    let media_type = content_type.and_then(|c| c.split(';').next()).map(str::trim);
    let parse = match media_type {
        Some(PATCH_2_1) => change_2_1,
        Some(PATCH_2_0) => change_2_0,
        _ => {
            let text = format!("Image PATCH expects Content-Type one of: {PATCH_2_0}, {PATCH_2_1}");
            return Err(Error::new(ErrorKind::UnsupportedMedia, "UnsupportedMediaType", text));
        }
    };
    let body: Vec<Map<String, Value>> = serde_json::from_slice(bytes)
        .map_err(|e| bad(format!("Request body must be a JSON array of operation objects: {e}")))?;
    body.into_iter().map(parse).collect()
}

fn change_2_1(mut raw: Map<String, Value>) -> Result<Change> {
    let op = raw.get("op").and_then(Value::as_str).map(str::to_owned);
    let path = raw.get("path").and_then(Value::as_str).map(str::to_owned);
    let op = op.ok_or_else(|| {
        bad("Unable to find `op` in JSON Schema change. It must be one of the following: add, remove, replace.")
    })?;
    let path = path.ok_or_else(|| bad("Unable to find 'path' in JSON Schema change"))?;
    change(&op, &path, raw.remove("value"))
}

fn change_2_0(mut raw: Map<String, Value>) -> Result<Change> {
    let mut ops = ["add", "remove", "replace"].into_iter().filter(|op| raw.contains_key(*op));
    let (Some(op), None) = (ops.next(), ops.next()) else {
        return Err(bad(
            "Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".",
        ));
    };
    let path = raw.get(op).and_then(Value::as_str).map(str::to_owned);
    let path = path.ok_or_else(|| bad("The path of an operation is a string."))?;
    change(op, &path, raw.remove("value"))
}

fn change(op: &str, path: &str, value: Option<Value>) -> Result<Change> {
    let name = pointer(path)?;
    let value = || value.ok_or_else(|| bad(format!("Operation \"{op}\" requires a member named \"value\".")));
    let op = match op {
        "add" => Op::Add(value()?),
        "replace" => Op::Replace(value()?),
        "remove" => Op::Remove,
        _ => {
            let text = format!("Invalid operation: `{op}`. It must be one of the following: add, remove, replace.");
            return Err(bad(text));
        }
    };
    Ok(Change { op, name })
}

/// A JSON pointer to something on the top: `/name`, `~1` for a slash and `~0` for a tilde in it.
fn pointer(path: &str) -> Result<String> {
    let name = path.strip_prefix('/').ok_or_else(|| bad(format!("Pointer `{path}` does not start with \"/\".")))?;
    if name.is_empty() || name.contains('/') {
        return Err(bad(format!("Invalid JSON pointer for this resource: '{path}'")));
    }
    if name.replace("~0", "").replace("~1", "").contains('~') {
        let text = format!("Pointer `{path}` contains \"~\" not part of a recognized escape sequence.");
        return Err(bad(text));
    }
    Ok(name.replace("~1", "/").replace("~0", "~").trim().to_owned())
}

fn bad(message: impl Into<String>) -> Error {
    Error::bad_request("BadRequest", message)
}

const LIST: ListSpec = ListSpec { sorts: SORTS, direction: Direction::Descending, filters: &[] };

/// Parameters of a list that are no filters.
const PAGING: &[&str] = &["limit", "marker", "sort_key", "sort_dir", "sort"];

/// What a list's query string asks for.
pub(crate) fn list_query(query: &Query, viewer: Viewer) -> Result<(Filter, Page)> {
    if query.has("sort") && (query.has("sort_key") || query.has("sort_dir")) {
        return Err(bad("Old and new sorting syntax cannot be combined"));
    }
    let mut page = LIST.page(query)?;
    if !query.has("limit") {
        page.limit = PAGE_SIZE_DEFAULT;
    }
    page.reverse = false;
    let mut filter = Filter {
        viewer,
        shown: Shown::Default,
        member_status: Some(MemberStatus::Accepted),
        hidden: false,
        conditions: Vec::new(),
    };
    for (name, value) in query.0.iter().filter(|(name, _)| !PAGING.contains(&name.as_str())) {
        add_filter(&mut filter, name, value)?;
    }
    Ok((filter, page))
}

fn add_filter(filter: &mut Filter, name: &str, value: &str) -> Result<()> {
    let invalid = || bad(format!("Invalid value for the filter {name}: {value}"));
    if value.contains('\0') || name.contains('\0') {
        return Err(invalid());
    }
    let condition = match name {
        "visibility" => {
            filter.shown = match value {
                "all" => Shown::All,
                word => Shown::Only(
                    Visibility::parse(word).ok_or_else(|| bad(format!("Invalid visibility value: {word}")))?,
                ),
            };
            return Ok(());
        }
        "member_status" => {
            filter.member_status = match value {
                "all" => None,
                word => Some(MemberStatus::parse(word).ok_or_else(|| bad(format!("Invalid status: {word}")))?),
            };
            return Ok(());
        }
        "os_hidden" => {
            filter.hidden = parse_flag(value).ok_or_else(invalid)?;
            return Ok(());
        }
        "changes-since" => return Err(bad("The \"changes-since\" filter is no longer available on v2.")),
        "protected" => Condition::AnyOf(Column::Protected, vec![parse_flag(value).ok_or_else(invalid)?.into()]),
        "size_min" => Condition::Compare(Column::Size, Comparison::GreaterOrEqual, number(value).ok_or_else(invalid)?),
        "size_max" => Condition::Compare(Column::Size, Comparison::LessOrEqual, number(value).ok_or_else(invalid)?),
        "created_at" => moment(Column::CreatedAt, value)?,
        "updated_at" => moment(Column::UpdatedAt, value)?,
        "tag" => Condition::Tag(value.trim().to_owned()),
        _ => match column(name) {
            Some((column, Compared::Number)) => {
                Condition::AnyOf(column, vec![number(value).ok_or_else(invalid)?.into()])
            }
            Some((column, Compared::Text)) => Condition::AnyOf(column, vec![value.into()]),
            Some((column, Compared::AnyText)) => Condition::AnyOf(column, any_of(value)?),
            None => Condition::Property(name.to_owned(), value.to_owned()),
        },
    };
    filter.conditions.push(condition);
    Ok(())
}

/// How a filter's text is read.
enum Compared {
    Text,
    /// Also `in:a,b`.
    AnyText,
    Number,
}

fn column(name: &str) -> Option<(Column, Compared)> {
    Some(match name {
        "id" => (Column::Id, Compared::AnyText),
        "name" => (Column::Name, Compared::AnyText),
        "status" => (Column::Status, Compared::AnyText),
        "disk_format" => (Column::DiskFormat, Compared::AnyText),
        "container_format" => (Column::ContainerFormat, Compared::AnyText),
        "owner" => (Column::Owner, Compared::Text),
        "checksum" => (Column::Checksum, Compared::Text),
        "os_hash_algo" => (Column::HashAlgo, Compared::Text),
        "os_hash_value" => (Column::HashValue, Compared::Text),
        "min_disk" => (Column::MinDisk, Compared::Number),
        "min_ram" => (Column::MinRam, Compared::Number),
        "size" => (Column::Size, Compared::Number),
        _ => return None,
    })
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n| *n >= 0)
}

/// `a`, or `in:a,"b,c"`.
fn any_of(text: &str) -> Result<Vec<list::Value>> {
    let Some(rest) = text.strip_prefix("in:") else { return Ok(vec![text.into()]) };
    let unbalanced = || bad(format!("Invalid filter value {text}: the quotes don't match."));
    let (mut values, mut rest) = (Vec::new(), rest);
    loop {
        let (value, left) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(unbalanced)?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        values.push(list::Value::from(value));
        match left.strip_prefix(',') {
            Some(more) => rest = more,
            None if left.is_empty() => return Ok(values),
            None => return Err(unbalanced()),
        }
    }
}

/// `2026-11-24T12:00:00Z`, or with a comparison before it: `gte:2026-...`.
fn moment(column: Column, text: &str) -> Result<Condition> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("gte:", Comparison::GreaterOrEqual),
        ("gt:", Comparison::Greater),
        ("lte:", Comparison::LessOrEqual),
        ("lt:", Comparison::Less),
        ("neq:", Comparison::NotEqual),
        ("eq:", Comparison::Equal),
    ];
    let operator = OPERATORS.iter().find_map(|(prefix, how)| text.strip_prefix(prefix).map(|rest| (*how, rest)));
    let (how, moment) = operator.unwrap_or((Comparison::Equal, text));
    let moment = Timestamp::parse(moment).ok_or_else(|| bad(format!("Invalid time value {text}: it is ISO 8601.")))?;
    Ok(Condition::Compare(column, how, moment.seconds()))
}

#[cfg(test)]
mod tests {
    use model::id::ProjectId;

    use super::*;

    #[test]
    fn patches() {
        let one = |op, name: &str| Ok(vec![Change { op, name: name.to_owned() }]);
        let bad = || Err(ErrorKind::BadRequest);
        type Expected = Result<Vec<Change>, ErrorKind>;
        let table: Vec<(&str, &str, Expected)> = vec![
            (PATCH_2_1, r#"[{"op": "replace", "path": "/name", "value": "x"}]"#, one(Op::Replace(json!("x")), "name")),
            (PATCH_2_1, r#"[{"op": "add", "path": "/a~1b~0c", "value": "x"}]"#, one(Op::Add(json!("x")), "a/b~c")),
            (PATCH_2_1, r#"[{"op": "remove", "path": "/name"}]"#, one(Op::Remove, "name")),
            (PATCH_2_0, r#"[{"replace": "/name", "value": "x"}]"#, one(Op::Replace(json!("x")), "name")),
            (PATCH_2_0, r#"[{"remove": "/name"}]"#, one(Op::Remove, "name")),
            (PATCH_2_0, r#"[{"remove": "/name", "add": "/b", "value": "x"}]"#, bad()),
            (PATCH_2_0, r#"[{"op": "remove", "path": "/name"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "move", "path": "/name", "value": "x"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "add", "path": "/name"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "add", "path": "name", "value": "x"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "add", "path": "/", "value": "x"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "add", "path": "/tags/-", "value": "x"}]"#, bad()),
            (PATCH_2_1, r#"[{"op": "add", "path": "/a~2", "value": "x"}]"#, bad()),
            (PATCH_2_1, r#"{"op": "remove", "path": "/name"}"#, bad()),
            ("application/json", "[]", Err(ErrorKind::UnsupportedMedia)),
        ];
        for (content_type, body, expected) in table {
            let found = patch_body(Some(content_type), body.as_bytes()).map_err(|e| e.kind);
            assert_eq!(found, expected, "{content_type}: {body}");
        }
    }

    #[test]
    fn filters() {
        let condition = |query: &str| {
            let viewer = Viewer::Project(ProjectId::new("p"));
            list_query(&Query::parse(query), viewer).map(|(filter, _)| filter.conditions).map_err(|e| e.kind)
        };
        let any = |column, values: &[&str]| {
            Ok(vec![Condition::AnyOf(column, values.iter().map(|v| list::Value::from(*v)).collect())])
        };
        assert_eq!(condition("name=a,b"), any(Column::Name, &["a,b"]));
        assert_eq!(condition("name=in:a,b"), any(Column::Name, &["a", "b"]));
        assert_eq!(condition("status=in:\"a,b\",c"), any(Column::Status, &["a,b", "c"]));
        assert_eq!(condition("owner=in:a,b"), any(Column::Owner, &["in:a,b"]));
        assert_eq!(condition("os_distro=debian"), Ok(vec![Condition::Property("os_distro".into(), "debian".into())]));
        assert_eq!(
            condition("created_at=gte:1970-01-01T00:00:07Z"),
            Ok(vec![Condition::Compare(Column::CreatedAt, Comparison::GreaterOrEqual, 7)])
        );
        assert_eq!(condition("limit=1&sort=name:asc&visibility=all"), Ok(vec![]));
        for bad in [
            "name=in:\"a",
            "name=in:\"a\"b",
            "created_at=soon",
            "size_min=-1",
            "visibility=everyone",
            "member_status=maybe",
            "os_hidden=perhaps",
            "limit=x",
            "sort_key=secret",
            "sort=name&sort_key=name",
            "changes-since=2026-01-01",
        ] {
            assert_eq!(condition(bad), Err(ErrorKind::BadRequest), "{bad}");
        }
    }
}
