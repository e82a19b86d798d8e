//! Resources that only the API writes: they have no flow and nothing of their own in OVN. Reading and writing what all
//! of them have, once; each table's module adds its own columns.

use model::{Timestamp, id::ProjectId};
use sqlx::AssertSqlSafe;

use super::{Meta, Viewer, tags};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select, Value},
    query,
};

/// The columns that all of them have.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed.
    pub updated_at: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Standard {
    /// One to be made.
    pub fn new(project_id: &ProjectId, name: &str, description: &str) -> Self {
        Self {
            id: model::id::random_uuid().to_string(),
            project_id: project_id.clone(),
            name: name.to_owned(),
            description: description.to_owned(),
            revision: 0,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            tags: Vec::new(),
        }
    }

    /// The same as other tables have it.
    pub fn meta(&self) -> Meta {
        Meta {
            revision: self.revision,
            realized_revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted: false,
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            revision: row.int("revision")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            tags: Vec::new(),
        })
    }
}

/// A column of one of these tables.
#[derive(Clone, Debug)]
pub enum Column {
    /// A value.
    Value(Value),
    /// Text, or null.
    Text(Option<String>),
    /// A whole number, or null.
    Int(Option<i64>),
}

impl<T: Into<Value>> From<T> for Column {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

/// A table of such resources. `select r.* from TABLE r` reads it; lists call it `r`.
pub trait Plain: Sized + Send {
    /// Its name.
    const TABLE: &'static str;
    /// Reads lists: `select r.* from TABLE r`.
    const SELECT: &'static str;
    /// The same from `from` on, where a page's marker is looked up: `TABLE r`.
    const FROM: &'static str;

    /// What the table has of its own.
    fn read(row: &Row, standard: Standard) -> Result<Self>;
    /// What all have.
    fn standard(&self) -> &Standard;
    /// What all have, to be completed.
    fn standard_mut(&mut self) -> &mut Standard;
    /// What the table has of its own, to be written.
    fn columns(&self) -> Vec<(&'static str, Column)>;

    /// Narrows a list to what the project may see.
    fn visible(select: &mut Select, project: &ProjectId) {
        select.equal("r.project_id", project);
    }
}

/// One of them.
pub async fn get<T: Plain>(conn: &mut Conn, id: &str) -> Result<Option<T>> {
    let sql = format!("select r.* from {} r where r.id = $1", T::TABLE);
    let row = query(AssertSqlSafe(sql)).bind(id).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One of them, locked until the transaction ends.
pub async fn lock<T: Plain>(tx: &mut Tx, id: &str) -> Result<Option<T>> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select r.* from {} r where r.id = $1{lock}", T::TABLE);
    let row = query(AssertSqlSafe(sql)).bind(id).fetch_optional(&mut **tx).await?;
    Ok(complete(tx, row.as_slice()).await?.pop())
}

/// A `select` of those that someone sees.
pub fn select<T: Plain>(viewer: &Viewer) -> Select {
    let mut select = Select::new(T::SELECT, T::FROM, "r.id");
    if let Viewer::Project(project) = viewer {
        T::visible(&mut select, project);
    }
    select
}

/// A page of them.
pub async fn list<T: Plain>(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<T>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

/// All that the filters leave: for short lists.
pub async fn all<T: Plain>(conn: &mut Conn, select: Select) -> Result<Vec<T>> {
    let rows = select.all(conn, "r.created_at, r.id").await?;
    complete(conn, &rows).await
}

async fn complete<T: Plain>(conn: &mut Conn, rows: &[Row]) -> Result<Vec<T>> {
    let read = |row| T::read(row, Standard::from_row(row)?);
    let mut items: Vec<T> = rows.iter().map(read).collect::<Result<_>>()?;
    tags::fill(conn, &mut items, |item| {
        let standard = item.standard_mut();
        (standard.id.as_str(), &mut standard.tags)
    })
    .await?;
    Ok(items)
}

/// Makes one, as of now.
pub async fn insert<T: Plain>(tx: &mut Tx, item: &mut T) -> Result<()> {
    let now = tx.now();
    let standard = item.standard_mut();
    (standard.created_at, standard.updated_at) = (now, now);
    let standard = standard.clone();
    let own = item.columns();
    let names: String = own.iter().map(|(name, _)| format!(", {name}")).collect();
    let places: String = (8..8 + own.len()).map(|place| format!(", ${place}")).collect();
    let sql = format!(
        "insert into {} (id, project_id, name, description, revision, created_at, updated_at{names}) \
         values ($1, $2, $3, $4, $5, $6, $7{places})",
        T::TABLE
    );
    let query = query(AssertSqlSafe(sql))
        .bind(standard.id)
        .bind(standard.project_id.as_str().to_owned())
        .bind(standard.name)
        .bind(standard.description)
        .bind(standard.revision)
        .bind(now.0)
        .bind(now.0);
    bind(query, own).execute(&mut **tx).await?;
    Ok(())
}

/// Writes all that may change, and raises the revision.
pub async fn update<T: Plain>(tx: &mut Tx, item: &mut T) -> Result<()> {
    let now = tx.now();
    let standard = item.standard_mut();
    standard.revision += 1;
    standard.updated_at = now;
    let standard = standard.clone();
    let own = item.columns();
    let sets: String = own.iter().zip(6..).map(|((name, _), place)| format!(", {name} = ${place}")).collect();
    let sql = format!(
        "update {} set name = $2, description = $3, revision = $4, updated_at = $5{sets} where id = $1",
        T::TABLE
    );
    let query = query(AssertSqlSafe(sql))
        .bind(standard.id)
        .bind(standard.name)
        .bind(standard.description)
        .bind(standard.revision)
        .bind(now.0);
    bind(query, own).execute(&mut **tx).await?;
    Ok(())
}

type Query = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

fn bind(mut query: Query, columns: Vec<(&'static str, Column)>) -> Query {
    for (_, column) in columns {
        query = match column {
            Column::Value(Value::Text(text)) => query.bind(text),
            Column::Value(Value::Int(number)) => query.bind(number),
            Column::Text(text) => query.bind(text),
            Column::Int(number) => query.bind(number),
        };
    }
    query
}

/// Deletes one with its tags. False if it is not there.
pub async fn delete<T: Plain>(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = format!("delete from {} where id = $1", T::TABLE);
    let gone = query(AssertSqlSafe(sql)).bind(id.to_owned()).execute(&mut **tx).await?;
    tags::clear(tx, id).await?;
    Ok(gone.rows_affected() > 0)
}
