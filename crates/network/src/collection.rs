//! What all resources of Neutron's API have in common: envelopes, `fields`, links of pages, filters by tags, attribute
//! policies, and the shapes of request bodies.

use model::{Error, ErrorKind, Result, id::ProjectId};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use store::{
    Tx,
    list::{Page, Select},
    network::{
        Meta, Viewer,
        plain::{self, Plain, Standard},
        tags,
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{ListSpec, parse_flag},
};

/// A resource as its response shows it.
pub type Shape = Map<String, Value>;

/// Longest name and description, in characters.
const TEXT_CHARS_MAX: usize = 255;
/// Resources that one request may make.
const BULK_MAX: usize = 100;

/// Authorizes a list by the route's rule; says whose rows it may show.
///
/// # Errors
/// Forbidden; bad request for a token without project that is not an administrator's.
pub fn viewer(cx: &Cx) -> Result<Viewer> {
    match cx.caller.project() {
        // Its own networks' and groups', too.
        Some(project) => cx.authorize(
            &Target::project(project)
                .with("network:project_id", project.as_str())
                .with("security_group:project_id", project.as_str()),
        )?,
        None => cx.authorize(&Target::none())?,
    }
    if cx.can("admin_only", &Target::none()) { Ok(Viewer::Admin) } else { Ok(Viewer::Project(cx.project()?.clone())) }
}

/// Applies the route's rule to something that was found. Who may not even see it (`get_rule`) gets `not_found`.
///
/// # Errors
/// Forbidden or `not_found`.
pub fn authorize(cx: &Cx, get_rule: &str, target: &Target, not_found: impl FnOnce() -> Error) -> Result<()> {
    cx.authorize(target).map_err(|forbidden| if cx.can(get_rule, target) { forbidden } else { not_found() })
}

/// Holds a request to the revision that it was made for: `If-Match: revision_number=7`.
///
/// # Errors
/// `RevisionNumberConstraintFailed` where the resource has changed since; bad request for a header of another form.
pub fn expect_revision(cx: &Cx, revision: i64) -> Result<()> {
    let Some(header) = cx.header("if-match") else { return Ok(()) };
    let wanted = header.trim().strip_prefix("revision_number=").and_then(|number| number.parse::<i64>().ok());
    match wanted {
        Some(wanted) if wanted == revision => Ok(()),
        Some(wanted) => Err(Error::new(
            ErrorKind::PreconditionFailed,
            "RevisionNumberConstraintFailed",
            format!("Constrained to {wanted}, but current revision is {revision}"),
        )),
        None => Err(invalid(format!("If-Match '{header}' is not of the form revision_number=NUMBER"))),
    }
}

/// Adds the query's filters to a list, those by tags included.
///
/// # Errors
/// Bad request for a value that can't be read.
pub fn filter(cx: &Cx, spec: &ListSpec, select: &mut Select) -> Result<()> {
    spec.filter(&cx.query, select)?;
    let by_tags = [
        ("tags", tags::Match::All),
        ("tags-any", tags::Match::Any),
        ("not-tags", tags::Match::NotAll),
        ("not-tags-any", tags::Match::None),
    ];
    for (name, how) in by_tags {
        for list in cx.query.all(name) {
            tags::filter(select, how, &list.split(',').collect::<Vec<_>>());
        }
    }
    Ok(())
}

/// A page of resources in its envelope, with links to its neighbours.
///
/// # Errors
/// None but defects.
pub fn page(cx: &Cx, plural: &'static str, page: &Page, items: Vec<Shape>) -> Result<Reply> {
    let id = |item: Option<&Shape>| item.and_then(|i| i.get("id")?.as_str()).map(str::to_owned);
    let (first, last) = (id(items.first()), id(items.last()));
    let full = u32::try_from(items.len()).is_ok_and(|n| n >= page.limit);
    let mut links = Vec::new();
    if let Some(last) = last.filter(|_| full || page.reverse) {
        links.push(json!({"rel": "next", "href": cx.next_url(&last)}));
    }
    if let Some(first) = first.filter(|_| page.marker.is_some() && (full || !page.reverse)) {
        links.push(json!({"rel": "previous", "href": cx.previous_url(&first)}));
    }
    let items: Vec<Shape> = items.into_iter().map(|item| picked(cx, item)).collect();
    let mut body = json!({ plural: items });
    if !links.is_empty() {
        body[format!("{plural}_links")] = Value::Array(links);
    }
    Reply::ok(&body)
}

/// One resource in its envelope.
///
/// # Errors
/// None but defects.
pub fn one(cx: &Cx, status: StatusCode, singular: &'static str, item: Shape) -> Result<Reply> {
    Reply::json(status, &json!({ singular: picked(cx, item) }))
}

/// What `POST` made: one resource, or several where several were asked for.
///
/// # Errors
/// None but defects.
pub fn made(names: Names, bulk: bool, mut items: Vec<Shape>) -> Result<Reply> {
    if bulk {
        return Reply::created(&json!({ names.plural: items }));
    }
    Reply::created(&json!({ names.singular: items.pop() }))
}

/// Only the fields that the query asks for, if it asks for any.
fn picked(cx: &Cx, mut item: Shape) -> Shape {
    let wanted: Vec<&str> = cx.query.all("fields").filter(|f| !f.is_empty()).collect();
    if !wanted.is_empty() {
        item.retain(|name, _| wanted.contains(&name.as_str()));
    }
    item
}

/// The attributes that every resource shows.
pub fn standard(id: &str, project: &ProjectId, description: &str, meta: &Meta, tags: &[String]) -> Shape {
    let mut shape = Shape::new();
    shape.insert("id".into(), id.into());
    shape.insert("tenant_id".into(), project.as_str().into());
    shape.insert("project_id".into(), project.as_str().into());
    shape.insert("description".into(), description.into());
    shape.insert("created_at".into(), meta.created_at.to_seconds_z().into());
    shape.insert("updated_at".into(), meta.updated_at.to_seconds_z().into());
    shape.insert("revision_number".into(), meta.revision.into());
    shape.insert("tags".into(), tags.into());
    shape
}

/// How a resource is called in bodies and rules.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// `network`.
    pub singular: &'static str,
    /// `networks`.
    pub plural: &'static str,
}

/// A request body: its shape, and which attributes it named.
pub struct Input<T> {
    /// The shape.
    pub body: T,
    /// The attributes as they came.
    pub attributes: Shape,
}

/// The body of a `POST`: one resource, or several under the plural's name. Whether it was several.
///
/// # Errors
/// Bad request that names the attribute that does not fit.
pub fn inputs<T: DeserializeOwned>(cx: &Cx, names: Names) -> Result<(Vec<Input<T>>, bool)> {
    let mut outer: Value = cx.json()?;
    if let Some(Value::Array(many)) = outer.get_mut(names.plural).map(Value::take) {
        if many.is_empty() || many.len() > BULK_MAX {
            return Err(invalid(format!("{} must hold 1 to {BULK_MAX} items", names.plural)));
        }
        return Ok((many.into_iter().map(parse).collect::<Result<_>>()?, true));
    }
    Ok((vec![input(cx, names)?], false))
}

/// The body of a `PUT`.
///
/// # Errors
/// Bad request that names the attribute that does not fit.
pub fn input<T: DeserializeOwned>(cx: &Cx, names: Names) -> Result<Input<T>> {
    let mut outer: Value = cx.json()?;
    let inner = outer.get_mut(names.singular).map(Value::take).ok_or_else(|| {
        Error::bad_request("HTTPBadRequest", format!("Unable to find '{}' in request body", names.singular))
    })?;
    parse(inner)
}

fn parse<T: DeserializeOwned>(inner: Value) -> Result<Input<T>> {
    let Value::Object(attributes) = inner.clone() else {
        return Err(invalid("a resource must be an object"));
    };
    let body = serde_json::from_value(inner).map_err(|e| {
        let text = e.to_string();
        match text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
            Some(name) => Error::bad_request("HTTPBadRequest", format!("Unrecognized attribute(s) '{name}'")),
            None => invalid(text),
        }
    })?;
    Ok(Input { body, attributes })
}

/// `InvalidInput`, in Neutron's words.
pub fn invalid(what: impl std::fmt::Display) -> Error {
    Error::bad_request("InvalidInput", format!("Invalid input for operation: {what}."))
}

/// The project that a new resource belongs to: the one named, or the caller's.
///
/// # Errors
/// Bad request where two are named, or none is and the token has none.
pub fn owner(cx: &Cx, project_id: Option<&String>, tenant_id: Option<&String>) -> Result<ProjectId> {
    match (project_id, tenant_id) {
        (Some(project), Some(tenant)) if project != tenant => {
            Err(Error::bad_request("HTTPBadRequest", "'project_id' and 'tenant_id' do not match"))
        }
        (Some(named), _) | (None, Some(named)) => {
            let own = cx.caller.project().is_some_and(|project| project.as_str() == named);
            // Not every rule looks at whose the new resource is to be: a shared network lets everybody in.
            if !own && !cx.can("admin_only", &Target::none()) && !cx.can("service_api", &Target::none()) {
                return Err(Error::forbidden(
                    "PolicyNotAuthorized",
                    "Specifying 'project_id' or 'tenant_id' other than the token's project requires admin privileges.",
                ));
            }
            Ok(ProjectId::new(named.as_str()))
        }
        (None, None) => cx.project().cloned(),
    }
}

/// Applies the rules that single attributes have (`create_network:shared`), as Neutron does: to those that the body
/// names with another value than the default.
///
/// # Errors
/// Forbidden, naming the rule.
pub fn authorize_attributes(cx: &Cx, operation: &str, attributes: &Shape, target: &Target) -> Result<()> {
    let creating = operation.starts_with("create_");
    for (name, value) in attributes {
        let rule = format!("{operation}:{name}");
        let guarded = cx.service().policy.iter().any(|known| known.name == rule);
        if guarded && !(creating && is_default(name, value)) {
            cx.authorize_rule(&rule, target)?;
        }
    }
    Ok(())
}

/// Whether naming the attribute with this value says nothing.
fn is_default(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(false) => name != "port_security_enabled",
        Value::String(text) => text.is_empty() || (name == "binding:vnic_type" && text == "normal"),
        Value::Array(list) => list.is_empty() && name != "fixed_ips",
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A name or description within its length.
///
/// # Errors
/// Bad request.
pub fn text(attribute: &'static str, value: &str) -> Result<()> {
    if value.chars().count() > TEXT_CHARS_MAX {
        return Err(Error::bad_request(
            "HTTPBadRequest",
            format!("Invalid input for {attribute}. Reason: '{value}' exceeds maximum length of {TEXT_CHARS_MAX}."),
        ));
    }
    Ok(())
}

/// A flag in any of the spellings that Neutron takes; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// For anything else.
pub fn flag<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<bool>, D::Error> {
    use serde::de::Error as _;
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        Value::Number(n) if n.as_i64() == Some(0) || n.as_i64() == Some(1) => Ok(Some(n.as_i64() == Some(1))),
        Value::String(text) => match parse_flag(&text) {
            Some(flag) => Ok(Some(flag)),
            None => Err(D::Error::custom(format!("'{text}' cannot be converted to boolean"))),
        },
        other => Err(D::Error::custom(format!("'{other}' cannot be converted to boolean"))),
    }
}

/// Tells `null` from absence: for `#[serde(default, deserialize_with)]` on `Option<Option<T>>`.
///
/// # Errors
/// As for the value itself.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

/// A resource that only the API writes, as its lists and its path show it.
pub trait Shown: Plain + 'static {
    /// How it is called.
    const NAMES: Names;
    /// What lists sort and filter by.
    const LIST: &'static ListSpec;
    /// The rule of who may see it.
    const GET: &'static str;

    /// That there is none of that id.
    fn not_found(id: &str) -> Error;
    /// What it shows besides what all show.
    fn shape(&self) -> Shape;

    /// What policy rules refer to.
    fn target(&self) -> Target {
        Target::project(&self.standard().project_id)
    }
}

/// `GET` of the collection.
///
/// # Errors
/// Forbidden; bad request for a filter that can't be.
pub async fn list<R: Shown>(cx: &Cx) -> Result<Reply> {
    let viewer = viewer(cx)?;
    let mut select = plain::select::<R>(&viewer);
    filter(cx, R::LIST, &mut select)?;
    let asked = R::LIST.page(&cx.query)?;
    let rows: Vec<R> = plain::list(&mut *cx.db().read().await?, select, &asked).await?;
    page(cx, R::NAMES.plural, &asked, rows.iter().map(whole).collect())
}

/// `GET` of one.
///
/// # Errors
/// Not found, forbidden.
pub async fn show<R: Shown>(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let found: Option<R> = plain::get(&mut *cx.db().read().await?, id).await?;
    let item = found.ok_or_else(|| R::not_found(id))?;
    authorize(cx, R::GET, &item.target(), || R::not_found(id))?;
    one(cx, StatusCode::OK, R::NAMES.singular, whole(&item))
}

/// The one that the path names, locked, once the caller may do to it what the route does.
///
/// # Errors
/// Not found, forbidden, another revision than the one expected.
pub async fn locked<R: Shown>(cx: &Cx, tx: &mut Tx) -> Result<R> {
    let id = cx.param("id");
    let item: R = plain::lock(tx, id).await?.ok_or_else(|| R::not_found(id))?;
    authorize(cx, R::GET, &item.target(), || R::not_found(id))?;
    expect_revision(cx, item.standard().revision)?;
    Ok(item)
}

/// One with what all show.
pub fn whole<R: Shown>(item: &R) -> Shape {
    let own = item.standard();
    let mut shape = standard(&own.id, &own.project_id, &own.description, &own.meta(), &own.tags);
    shape.extend(item.shape());
    shape
}

/// What all such resources have, for one to be made.
///
/// # Errors
/// Bad request for names that are too long.
pub fn fresh(project: &ProjectId, name: Option<&str>, description: Option<&str>) -> Result<Standard> {
    let (name, description) = (name.unwrap_or_default(), description.unwrap_or_default());
    text("name", name)?;
    text("description", description)?;
    Ok(Standard::new(project, name, description))
}

/// Gives it another name or description, where there is one.
///
/// # Errors
/// Bad request for names that are too long.
pub fn rename(item: &mut Standard, name: Option<&str>, description: Option<&str>) -> Result<()> {
    text("name", name.unwrap_or_default())?;
    text("description", description.unwrap_or_default())?;
    if let Some(name) = name {
        name.clone_into(&mut item.name);
    }
    if let Some(description) = description {
        description.clone_into(&mut item.description);
    }
    Ok(())
}

/// That a request lacks an attribute that it must have.
pub fn missing(attribute: &str) -> Error {
    Error::bad_request(
        "HTTPBadRequest",
        format!("Failed to parse request. Required attribute '{attribute}' not specified"),
    )
}
