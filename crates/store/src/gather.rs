//! Long lists in one row.
//!
//! The driver's `Any` rows cost about a microsecond per column and several per row, most of it on the way from SQLite's
//! thread: a page of a thousand servers takes 50 ms that way. Here the database itself writes the rows into one JSON
//! text, which is read in a tenth of the time. Worth it for lists of hundreds of rows or many columns, and only there.

use std::cell::Cell;

use serde_json::Value;

use crate::{Dialect, Error, Result, Row, RowExt};

/// A row out of such a text, read like any other: by the names of its columns, fastest in their order.
pub struct GatheredRow {
    names: &'static [&'static str],
    values: Vec<Value>,
    next: Cell<usize>,
}

/// Wraps a query so that its rows come as one text. `columns` are names of its columns.
pub(crate) fn sql(dialect: Dialect, query: &str, columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|name| format!("x.{name}")).collect();
    format!("select {} as gathered from ({query}) x", dialect.gather(&columns.join(", ")))
}

/// The rows of such a text.
pub(crate) fn rows(row: &Row, names: &'static [&'static str]) -> Result<Vec<GatheredRow>> {
    let rows: Vec<Vec<Value>> = serde_json::from_str(&row.text("gathered")?).map_err(|e| bad("gathered", e))?;
    Ok(rows.into_iter().map(|values| GatheredRow { names, values, next: Cell::new(0) }).collect())
}

fn bad(column: &str, reason: impl ToString) -> Error {
    Error::Column { column: column.to_owned(), reason: reason.to_string() }
}

impl GatheredRow {
    fn value(&self, column: &str) -> Result<&Value> {
        let hint = self.next.get();
        let at = match self.names.get(hint) {
            Some(name) if *name == column => Some(hint),
            _ => self.names.iter().position(|name| *name == column),
        };
        let at = at.ok_or_else(|| bad(column, "it was not asked for"))?;
        self.next.set(at + 1);
        self.values.get(at).ok_or_else(|| bad(column, "it is missing"))
    }
}

impl RowExt for GatheredRow {
    fn text(&self, column: &str) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| bad(column, "it is null"))
    }

    fn opt_text(&self, column: &str) -> Result<Option<String>> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(bad(column, format!("{other} is no text"))),
        }
    }

    fn int(&self, column: &str) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| bad(column, "it is null"))
    }

    fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        match self.value(column)? {
            Value::Null => Ok(None),
            other => other.as_i64().map(Some).ok_or_else(|| bad(column, format!("{other} is no whole number"))),
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        match self.value(column)? {
            Value::String(text) => serde_json::from_str(text).map_err(|e| bad(column, e)),
            other => Err(bad(column, format!("{other} is no text"))),
        }
    }
}
