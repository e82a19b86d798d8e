//! Tables `metadef_*`: Glance's catalogue of metadata definitions. A namespace holds objects, properties and tags
//! ([`Item`]) and is associated with the types of resources that it describes.

use model::{Timestamp, id::ProjectId};
use serde_json::{Map, Value as Json};

use super::row::words;
use crate::{
    Conn, Error, Result, Row, RowExt, Tx,
    list::{Page, Select, SortKey, Type},
    query,
};

words! {
    /// What a namespace holds.
    Kind {
        Object = "object": "A group of properties.",
        Property = "property": "A key, with the JSON schema of its value.",
        Tag = "tag": "A word.",
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name, which is its id.
    pub namespace: String,
    /// For people.
    pub display_name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Everyone sees it, not only its owner.
    pub public: bool,
    /// It can't be deleted.
    pub protected: bool,
    /// The project that owns it.
    pub owner: ProjectId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Namespace {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            namespace: row.text("namespace")?,
            display_name: row.opt_text("display_name")?,
            description: row.opt_text("description")?,
            public: row.text("visibility")? == "public",
            protected: row.flag("protected")?,
            owner: row.id("owner")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }

    fn visibility(&self) -> &'static str {
        if self.public { "public" } else { "private" }
    }
}

/// An object, a property or a tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// All else that the API shows.
    pub body: Map<String, Json>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Item {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.text("name")?,
            body: row.json("body")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

/// A type of resource that a namespace describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// The namespace.
    pub namespace: String,
    /// The type.
    pub resource_type: String,
    /// What the properties' names start with there.
    pub prefix: Option<String>,
    /// Which of the type's metadata is meant.
    pub properties_target: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Association {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            namespace: row.text("namespace")?,
            resource_type: row.text("resource_type")?,
            prefix: row.opt_text("prefix")?,
            properties_target: row.opt_text("properties_target")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

/// The keys that lists of namespaces may be sorted by; the first is the default.
pub const SORTS: &[SortKey] = &[
    SortKey { name: "created_at", sql: "n.created_at", kind: Type::Int },
    SortKey { name: "updated_at", sql: "n.updated_at", kind: Type::Int },
    SortKey { name: "namespace", sql: "n.namespace", kind: Type::Text },
];

/// Which namespaces a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only public ones and this project's; none: all.
    pub viewer: Option<ProjectId>,
    /// Only public ones, or only private ones.
    pub public: Option<bool>,
    /// Only those that describe one of these types; none: all.
    pub resource_types: Option<Vec<String>>,
}

/// A page of namespaces.
pub async fn list(conn: &mut Conn, filter: &Filter, page: &Page) -> Result<Vec<Namespace>> {
    let mut select = Select::new("select n.* from metadef_namespaces n", "metadef_namespaces n", "n.namespace");
    if let Some(project) = &filter.viewer {
        select.filter("(n.visibility = 'public' or n.owner = ?)", [project.into()]);
    }
    if let Some(public) = filter.public {
        select.equal("n.visibility", if public { "public" } else { "private" });
    }
    if let Some(types) = &filter.resource_types {
        let named = namespaces_of(conn, types).await?;
        select.any_of("n.namespace", named.into_iter().map(Into::into));
    }
    select.page(conn, page).await?.iter().map(Namespace::from_row).collect()
}

async fn namespaces_of(conn: &mut Conn, types: &[String]) -> Result<Vec<String>> {
    let mut select =
        Select::new("select distinct a.namespace from metadef_associations a", "metadef_associations a", "a.namespace");
    select.any_of("a.resource_type", types.iter().map(|name| name.as_str().into()));
    select.all(conn, "a.namespace").await?.iter().map(|row| row.text("namespace")).collect()
}

/// One namespace.
pub async fn get(conn: &mut Conn, namespace: &str) -> Result<Option<Namespace>> {
    let row =
        query("select * from metadef_namespaces where namespace = $1").bind(namespace).fetch_optional(conn).await?;
    row.as_ref().map(Namespace::from_row).transpose()
}

/// Inserts a namespace. A taken name is a unique violation.
pub async fn insert(tx: &mut Tx, new: &Namespace) -> Result<()> {
    query(
        "insert into metadef_namespaces (namespace, display_name, description, visibility, protected, owner, created_at, \
         updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(new.namespace.as_str())
    .bind(new.display_name.as_deref())
    .bind(new.description.as_deref())
    .bind(new.visibility())
    .bind(i64::from(new.protected))
    .bind(new.owner.as_str())
    .bind(new.created_at.0)
    .bind(new.updated_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a namespace that was called `before`.
pub async fn update(tx: &mut Tx, before: &str, new: &Namespace) -> Result<()> {
    query(
        "update metadef_namespaces set namespace = $2, display_name = $3, description = $4, visibility = $5, \
         protected = $6, owner = $7, updated_at = $8 where namespace = $1",
    )
    .bind(before)
    .bind(new.namespace.as_str())
    .bind(new.display_name.as_deref())
    .bind(new.description.as_deref())
    .bind(new.visibility())
    .bind(i64::from(new.protected))
    .bind(new.owner.as_str())
    .bind(new.updated_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes a namespace with all that is in it.
pub async fn delete(tx: &mut Tx, namespace: &str) -> Result<()> {
    query("delete from metadef_namespaces where namespace = $1").bind(namespace).execute(&mut **tx).await?;
    Ok(())
}

/// What a namespace holds of one kind, by age.
pub async fn items(conn: &mut Conn, namespace: &str, kind: Kind) -> Result<Vec<Item>> {
    let rows = query("select * from metadef_items where namespace = $1 and kind = $2 order by created_at, name")
        .bind(namespace)
        .bind(kind.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(Item::from_row).collect()
}

/// One of them.
pub async fn item(conn: &mut Conn, namespace: &str, kind: Kind, name: &str) -> Result<Option<Item>> {
    let row = query("select * from metadef_items where namespace = $1 and kind = $2 and name = $3")
        .bind(namespace)
        .bind(kind.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(Item::from_row).transpose()
}

/// Inserts an item. A taken name is a unique violation.
pub async fn insert_item(tx: &mut Tx, namespace: &str, kind: Kind, item: &Item) -> Result<()> {
    query(
        "insert into metadef_items (namespace, kind, name, body, created_at, updated_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(namespace)
    .bind(kind.as_str())
    .bind(item.name.as_str())
    .bind(Json::Object(item.body.clone()).to_string())
    .bind(item.created_at.0)
    .bind(item.updated_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes an item that was called `before`. False: there is none.
pub async fn update_item(tx: &mut Tx, namespace: &str, kind: Kind, before: &str, item: &Item) -> Result<bool> {
    let done = query(
        "update metadef_items set name = $4, body = $5, updated_at = $6 where namespace = $1 and kind = $2 and name = $3",
    )
    .bind(namespace)
    .bind(kind.as_str())
    .bind(before)
    .bind(item.name.as_str())
    .bind(Json::Object(item.body.clone()).to_string())
    .bind(item.updated_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes one item, or all of the kind. How many there were.
pub async fn delete_items(tx: &mut Tx, namespace: &str, kind: Kind, name: Option<&str>) -> Result<u64> {
    let done = query("delete from metadef_items where namespace = $1 and kind = $2 and ($3 = '' or name = $3)")
        .bind(namespace)
        .bind(kind.as_str())
        .bind(name.unwrap_or_default())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// Every type of resource: name, when it was created and changed.
pub async fn resource_types(conn: &mut Conn) -> Result<Vec<(String, Timestamp, Timestamp)>> {
    let rows = query("select * from metadef_resource_types order by name").fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.time("created_at")?, row.time("updated_at")?))).collect()
}

/// What these namespaces describe.
pub async fn associations(conn: &mut Conn, namespaces: &[&str]) -> Result<Vec<Association>> {
    let mut select = Select::new("select a.* from metadef_associations a", "metadef_associations a", "a.namespace");
    select.any_of("a.namespace", namespaces.iter().map(|name| (*name).into()));
    select.all(conn, "a.namespace, a.resource_type").await?.iter().map(Association::from_row).collect()
}

/// Associates a namespace with a type, which is made where there is none. Twice is a unique violation.
pub async fn associate(tx: &mut Tx, new: &Association) -> Result<()> {
    query(
        "insert into metadef_resource_types (name, protected, created_at, updated_at) values ($1, 0, $2, $2) \
         on conflict (name) do nothing",
    )
    .bind(new.resource_type.as_str())
    .bind(new.created_at.0)
    .execute(&mut **tx)
    .await?;
    query(
        "insert into metadef_associations (namespace, resource_type, prefix, properties_target, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(new.namespace.as_str())
    .bind(new.resource_type.as_str())
    .bind(new.prefix.as_deref())
    .bind(new.properties_target.as_deref())
    .bind(new.created_at.0)
    .bind(new.updated_at.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends an association. False: there is none.
pub async fn dissociate(tx: &mut Tx, namespace: &str, resource_type: &str) -> Result<bool> {
    let done = query("delete from metadef_associations where namespace = $1 and resource_type = $2")
        .bind(namespace)
        .bind(resource_type)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
