//! Reading columns into the model's types.

use model::{Id, Timestamp};
use serde::de::DeserializeOwned;
use sqlx::Row as _;

use crate::{Error, Result};

/// A row of any of the databases.
pub type Row = sqlx::any::AnyRow;

/// Columns as the model's types, by name.
pub trait RowExt {
    /// Text.
    fn text(&self, column: &str) -> Result<String>;
    /// Text or null.
    fn opt_text(&self, column: &str) -> Result<Option<String>>;
    /// A whole number.
    fn int(&self, column: &str) -> Result<i64>;
    /// A whole number or null.
    fn opt_int(&self, column: &str) -> Result<Option<i64>>;
    /// A flag stored as 0 or 1.
    fn flag(&self, column: &str) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }
    /// An identifier.
    fn id<K>(&self, column: &str) -> Result<Id<K>> {
        Ok(Id::new(self.text(column)?))
    }
    /// An identifier or null.
    fn opt_id<K>(&self, column: &str) -> Result<Option<Id<K>>> {
        Ok(self.opt_text(column)?.map(Id::new))
    }
    /// A moment.
    fn time(&self, column: &str) -> Result<Timestamp> {
        Ok(Timestamp(self.int(column)?))
    }
    /// A moment or null.
    fn opt_time(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.opt_int(column)?.map(Timestamp))
    }
    /// A JSON document.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|e| Error::Column { column: column.to_owned(), reason: e.to_string() })
    }
}

impl RowExt for Row {
    fn text(&self, column: &str) -> Result<String> {
        Ok(self.try_get(column)?)
    }
    fn opt_text(&self, column: &str) -> Result<Option<String>> {
        Ok(self.try_get(column)?)
    }
    fn int(&self, column: &str) -> Result<i64> {
        Ok(self.try_get(column)?)
    }
    fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        Ok(self.try_get(column)?)
    }
}
