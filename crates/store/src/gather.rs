//! Long lists in one row.
//!
//! The driver's `Any` rows cost about a microsecond per column and several per row, most of it on the way from SQLite's
//! thread: a page of a thousand servers takes 50 ms that way. Here the database itself writes the rows into one JSON
//! text, which is read in a tenth of the time. Worth it for lists of hundreds of rows or many columns, and only there.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, Visitor},
};

use crate::{Dialect, Error, Result, Row, RowExt};

/// The text that a wrapped query yields.
pub struct Gathered {
    text: String,
    names: &'static [&'static str],
}

/// A row out of such a text, read like any other: by the names of its columns, fastest in their order.
pub struct GatheredRow<'a> {
    names: &'static [&'static str],
    fields: Vec<Field<'a>>,
    next: Cell<usize>,
}

/// A column's value, as far as it can in place.
enum Field<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
}

/// Wraps a query so that its rows come as one text. `columns` are names of its columns; those of `omitted` are long and
/// of no use to the list: they come empty.
pub(crate) fn sql(dialect: Dialect, query: &str, columns: &[&str], omitted: &[&str]) -> String {
    let column = |name: &&str| if omitted.contains(name) { "''".to_owned() } else { format!("x.{name}") };
    let columns: Vec<String> = columns.iter().map(column).collect();
    format!("select {} as gathered from ({query}) x", dialect.gather(&columns.join(", ")))
}

impl Gathered {
    /// From the one row that a wrapped query has.
    pub(crate) fn from_row(row: &Row, names: &'static [&'static str]) -> Result<Self> {
        Ok(Self { text: row.text("gathered")?, names })
    }

    /// The rows, in order.
    pub(crate) fn rows(&self) -> Result<Vec<GatheredRow<'_>>> {
        let rows: Vec<Vec<Field<'_>>> = serde_json::from_str(&self.text).map_err(|e| bad("gathered", e))?;
        Ok(rows.into_iter().map(|fields| GatheredRow { names: self.names, fields, next: Cell::new(0) }).collect())
    }
}

fn bad(column: &str, reason: impl ToString) -> Error {
    Error::Column { column: column.to_owned(), reason: reason.to_string() }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Field<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Field::Null)
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Field::Int(number))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                i64::try_from(number).map(Field::Int).map_err(E::custom)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_any(Any).map_err(D::Error::custom)
    }
}

impl<'a> GatheredRow<'a> {
    fn field(&self, column: &str) -> Result<&Field<'a>> {
        let hint = self.next.get();
        let at = match self.names.get(hint) {
            Some(name) if *name == column => Some(hint),
            _ => self.names.iter().position(|name| *name == column),
        };
        let at = at.ok_or_else(|| bad(column, "it was not asked for"))?;
        self.next.set(at + 1);
        self.fields.get(at).ok_or_else(|| bad(column, "it is missing"))
    }
}

impl RowExt for GatheredRow<'_> {
    fn text(&self, column: &str) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| bad(column, "it is null"))
    }

    fn opt_text(&self, column: &str) -> Result<Option<String>> {
        match self.field(column)? {
            Field::Null => Ok(None),
            Field::Text(text) => Ok(Some(text.clone().into_owned())),
            Field::Int(_) => Err(bad(column, "it is no text")),
        }
    }

    fn int(&self, column: &str) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| bad(column, "it is null"))
    }

    fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        match self.field(column)? {
            Field::Null => Ok(None),
            Field::Int(number) => Ok(Some(*number)),
            Field::Text(_) => Err(bad(column, "it is no whole number")),
        }
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        match self.field(column)? {
            Field::Text(text) => serde_json::from_str(text).map_err(|e| bad(column, e)),
            Field::Null | Field::Int(_) => Err(bad(column, "it is no text")),
        }
    }
}
