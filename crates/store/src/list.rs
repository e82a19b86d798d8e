//! Lists: filters, order and pages, once for every table.
//!
//! A page is found by its order, never by counting (`where (name, id) > (marker's name, marker's id)`), so that the
//! thousandth costs what the first does. Only constants of the calling module become SQL; what a client sent is bound.

use model::limits::PAGE_SIZE_MAX;
use sqlx::AssertSqlSafe;

use crate::{Conn, Dialect, Error, Gathered, Result, Row, gather, query};

/// A value to bind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, ids, enums.
    Text(String),
    /// Whole numbers, flags, moments.
    Int(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(i64::from(flag))
    }
}
impl<K> From<&model::Id<K>> for Value {
    fn from(id: &model::Id<K>) -> Self {
        Self::Text(id.as_str().to_owned())
    }
}

/// How text may resemble another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resemblance {
    /// It is in it.
    Contains,
    /// It starts with it.
    StartsWith,
    /// It ends with it.
    EndsWith,
}

/// How a column compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// As text.
    Text,
    /// As a number.
    Int,
}

/// A key that a list may be sorted by. The expression must never be null: use `coalesce`.
#[derive(Clone, Copy, Debug)]
pub struct SortKey {
    /// As clients spell it.
    pub name: &'static str,
    /// As SQL has it, with the table's alias.
    pub sql: &'static str,
    /// How it compares.
    pub kind: Type,
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl Direction {
    fn flipped_if(self, flip: bool) -> Self {
        match (self, flip) {
            (direction, false) => direction,
            (Self::Ascending, true) => Self::Descending,
            (Self::Descending, true) => Self::Ascending,
        }
    }
}

/// Which page in which order.
#[derive(Clone, Debug)]
pub struct Page {
    /// Rows at the most.
    pub limit: u32,
    /// The id of the row before the page (after it, when going backwards).
    pub marker: Option<String>,
    /// The order; the id is always added last, so that it is total.
    pub sorts: Vec<(SortKey, Direction)>,
    /// The page before the marker, instead of after it (Neutron's `page_reverse`).
    pub reverse: bool,
}

impl Page {
    /// As many rows as a page may have, in this order.
    pub fn first(key: SortKey, direction: Direction) -> Self {
        Self { limit: PAGE_SIZE_MAX, marker: None, sorts: vec![(key, direction)], reverse: false }
    }
}

/// A `select` under construction.
pub struct Select {
    base: &'static str,
    table: &'static str,
    id: &'static str,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Select {
    /// `base` is everything up to `where` (`select s.*, h.name from servers s left join ...`), `table` the `from` part
    /// in which a marker is looked up (`servers s`), `id` the id's expression (`s.id`).
    pub fn new(base: &'static str, table: &'static str, id: &'static str) -> Self {
        Self { base, table, id, conditions: Vec::new(), values: Vec::new() }
    }

    /// Adds a condition. Each `?` in it stands for the next of the values.
    pub fn filter(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        let numbered = self.numbered(condition, values);
        self.conditions.push(numbered);
        self
    }

    /// `expression = value`.
    pub fn equal(&mut self, expression: &'static str, value: impl Into<Value>) -> &mut Self {
        let place = self.bind(value.into());
        self.conditions.push(format!("{expression} = {place}"));
        self
    }

    /// `expression in (values)`; no value at all means no row.
    pub fn any_of(&mut self, expression: &'static str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        let places: Vec<String> = values.into_iter().map(|v| self.bind(v)).collect();
        self.conditions.push(match places.as_slice() {
            [] => "1 = 0".to_owned(),
            [one] => format!("{expression} = {one}"),
            many => format!("{expression} in ({})", many.join(", ")),
        });
        self
    }

    /// That the condition, which has one `?`, holds for at least one of the values; none: it doesn't.
    pub fn any_holds(&mut self, condition: &'static str, values: Vec<Value>) -> &mut Self {
        let ways: Vec<String> = values.into_iter().map(|value| self.numbered(condition, [value])).collect();
        self.conditions.push(if ways.is_empty() { "1 = 0".to_owned() } else { format!("({})", ways.join(" or ")) });
        self
    }

    /// `expression in (ids)`, all of them bound as one value: for lists that may be long.
    pub fn in_list(&mut self, dialect: Dialect, expression: &'static str, ids: &[&str]) -> &mut Self {
        let place = self.bind(Value::Text(serde_json::Value::from(ids).to_string()));
        self.conditions.push(format!("{expression} in ({})", dialect.elements(&place)));
        self
    }

    /// Text that compares with `part` in one of the ways that Keystone's filters have.
    pub fn resembles(
        &mut self,
        expression: &'static str,
        how: Resemblance,
        ignore_case: bool,
        part: &str,
    ) -> &mut Self {
        let part = if ignore_case { part.to_lowercase() } else { part.to_owned() };
        let place = self.bind(Value::Text(part));
        let text = if ignore_case { format!("lower({expression})") } else { expression.to_owned() };
        // `like` heeds the case in one database and not in the other.
        self.conditions.push(match how {
            Resemblance::Contains => format!("({place} = '' or replace({text}, {place}, '') <> {text})"),
            Resemblance::StartsWith => format!("substr({text}, 1, length({place})) = {place}"),
            Resemblance::EndsWith => format!("substr({text}, length({text}) - length({place}) + 1) = {place}"),
        });
        self
    }

    /// Text that contains `part`, whatever its case.
    pub fn contains(&mut self, expression: &'static str, part: &str) -> &mut Self {
        let escaped = part.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let place = self.bind(Value::Text(format!("%{escaped}%")));
        self.conditions.push(format!("lower({expression}) like {place} escape '\\'"));
        self
    }

    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn numbered(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) -> String {
        let mut values = values.into_iter().peekable();
        let mut text = String::with_capacity(condition.len() + 8);
        for c in condition.chars() {
            match values.next_if(|_| c == '?') {
                Some(value) => text.push_str(&self.bind(value)),
                None => text.push(c),
            }
        }
        text
    }

    /// The rows of one page.
    ///
    /// # Errors
    /// [`Error::Marker`] when the marker names no row under these filters' table.
    pub async fn page(mut self, conn: &mut Conn, page: &Page) -> Result<Vec<Row>> {
        let sql = self.page_sql(conn, page).await?;
        let mut rows = self.run(conn, sql).await?;
        if page.reverse {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The same for long pages of many columns, which it reads far faster; forwards only. `columns` names those of
    /// the base, `omitted` those among them that come empty.
    ///
    /// # Errors
    /// [`Error::Marker`] as above.
    pub async fn gathered_page(
        mut self,
        conn: &mut Conn,
        dialect: Dialect,
        (columns, omitted): (&'static [&'static str], &[&str]),
        page: &Page,
    ) -> Result<Gathered> {
        let sql = gather::sql(dialect, &self.page_sql(conn, page).await?, columns, omitted);
        let rows = self.run(conn, sql).await?;
        Gathered::from_row(rows.first().ok_or(sqlx::Error::RowNotFound)?, columns)
    }

    async fn page_sql(&mut self, conn: &mut Conn, page: &Page) -> Result<String> {
        let keys: Vec<(SortKey, Direction)> =
            page.sorts.iter().map(|(key, direction)| (*key, direction.flipped_if(page.reverse))).collect();
        let id_direction = keys.last().map_or(Direction::Ascending, |(_, d)| *d);
        if let Some(marker) = &page.marker {
            let at = self.marker_values(conn, marker, &keys).await?;
            let after = self.after(&keys, at, marker, id_direction);
            self.conditions.push(after);
        }
        let order = keys.iter().map(|(key, direction)| (key.sql, *direction)).chain([(self.id, id_direction)]);
        let order: Vec<String> =
            order.map(|(sql, d)| format!("{sql}{}", if d == Direction::Descending { " desc" } else { "" })).collect();
        Ok(format!("{}{} order by {} limit {}", self.base, self.where_clause(), order.join(", "), page.limit))
    }

    /// Every row, in the order of the expression. For short lists whose length something else limits.
    pub async fn all(self, conn: &mut Conn, order: &'static str) -> Result<Vec<Row>> {
        let sql = format!("{}{} order by {order}", self.base, self.where_clause());
        self.run(conn, sql).await
    }

    async fn run(&self, conn: &mut Conn, sql: String) -> Result<Vec<Row>> {
        let mut query = query(AssertSqlSafe(sql));
        for value in &self.values {
            query = match value {
                Value::Text(text) => query.bind(text.as_str()),
                Value::Int(number) => query.bind(*number),
            };
        }
        Ok(query.fetch_all(conn).await?)
    }

    fn where_clause(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" where {}", self.conditions.join(" and ")) }
    }

    /// What the marker's row holds in the columns of the order.
    async fn marker_values(&self, conn: &mut Conn, marker: &str, keys: &[(SortKey, Direction)]) -> Result<Vec<Value>> {
        use sqlx::Row as _;
        let columns: Vec<&str> = keys.iter().map(|(key, _)| key.sql).chain(["1"]).collect();
        let sql = format!("select {} from {} where {} = $1", columns.join(", "), self.table, self.id);
        let row = query(AssertSqlSafe(sql)).bind(marker).fetch_optional(conn).await?;
        let row = row.ok_or_else(|| Error::Marker(marker.to_owned()))?;
        let value = |(at, (key, _)): (usize, &(SortKey, Direction))| {
            Ok(match key.kind {
                Type::Text => Value::Text(row.try_get(at)?),
                Type::Int => Value::Int(row.try_get(at)?),
            })
        };
        keys.iter().enumerate().map(value).collect()
    }

    /// `(a > x) or (a = x and b < y) or (a = x and b = y and id > marker)`.
    fn after(
        &mut self,
        keys: &[(SortKey, Direction)],
        at: Vec<Value>,
        marker: &str,
        id_direction: Direction,
    ) -> String {
        let columns = keys.iter().map(|(key, direction)| (key.sql, *direction)).zip(at);
        let columns = columns.chain([((self.id, id_direction), Value::Text(marker.to_owned()))]);
        let (mut equal, mut ways) = (String::new(), Vec::new());
        for ((sql, direction), value) in columns {
            let place = self.bind(value);
            let beyond = if direction == Direction::Ascending { '>' } else { '<' };
            ways.push(format!("({equal}{sql} {beyond} {place})"));
            equal.push_str(&format!("{sql} = {place} and "));
        }
        format!("({})", ways.join(" or "))
    }
}
