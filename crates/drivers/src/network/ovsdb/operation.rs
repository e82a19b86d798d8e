//! The operations of a transaction (RFC 7047, 5.2), as many of them as we use.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::value::{Atom, Datum};

/// One operation of a transaction. All of a transaction's operations take place, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation(Value);

impl Operation {
    /// Inserts a row under this UUID, which the following operations may refer to.
    pub fn insert<'a>(table: &str, uuid: Uuid, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Self {
        Self(json!({"op": "insert", "table": table, "uuid": uuid.to_string(), "row": row(columns)}))
    }

    /// Sets columns of a row.
    pub fn update<'a>(table: &str, uuid: Uuid, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Self {
        Self(json!({"op": "update", "table": table, "where": is(uuid), "row": row(columns)}))
    }

    /// Deletes a row that nothing needs.
    pub fn delete(table: &str, uuid: Uuid) -> Self {
        Self(json!({"op": "delete", "table": table, "where": is(uuid)}))
    }

    /// Adds elements to a set or keys to a map; keys that are there keep their value.
    pub fn add(table: &str, uuid: Uuid, column: &str, what: &Datum) -> Self {
        Self::mutate(table, uuid, json!([[column, "insert", tagged(what)]]))
    }

    /// Takes elements out of a set.
    pub fn take(table: &str, uuid: Uuid, column: &str, what: &Datum) -> Self {
        Self::mutate(table, uuid, json!([[column, "delete", tagged(what)]]))
    }

    /// Sets keys of a map and leaves its other keys alone.
    pub fn set_keys(table: &str, uuid: Uuid, column: &str, pairs: &Datum) -> Self {
        let keys = match pairs {
            Datum::Map(pairs) => Datum::Set(pairs.keys().cloned().collect()),
            Datum::Set(_) => pairs.clone(),
        };
        Self::mutate(table, uuid, json!([[column, "delete", tagged(&keys)], [column, "insert", tagged(pairs)]]))
    }

    /// Adds to an integer.
    pub fn increment(table: &str, uuid: Uuid, column: &str, by: i64) -> Self {
        Self::mutate(table, uuid, json!([[column, "+=", by]]))
    }

    /// Fails the transaction at once unless the row is there.
    pub fn expect_row(table: &str, uuid: Uuid) -> Self {
        let there = json!([{"_uuid": Atom::Uuid(uuid).write()}]);
        Self(json!({"op": "wait", "table": table, "timeout": 0, "where": is(uuid), "columns": ["_uuid"], "until": "==",
            "rows": there}))
    }

    /// Fails the transaction at once unless the row's columns are as given.
    pub fn expect<'a>(table: &str, uuid: Uuid, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Self {
        let row = row(columns);
        let names: Vec<&String> = row.keys().collect();
        Self(json!({"op": "wait", "table": table, "timeout": 0, "where": is(uuid), "columns": names, "until": "==",
            "rows": [row]}))
    }

    /// Reads columns of a row.
    pub fn select(table: &str, uuid: Uuid, columns: &[&str]) -> Self {
        Self(json!({"op": "select", "table": table, "where": is(uuid), "columns": columns}))
    }

    fn mutate(table: &str, uuid: Uuid, mutations: Value) -> Self {
        Self(json!({"op": "mutate", "table": table, "where": is(uuid), "mutations": mutations}))
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }
}

fn is(uuid: Uuid) -> Value {
    json!([["_uuid", "==", Atom::Uuid(uuid).write()]])
}

fn row<'a>(columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Map<String, Value> {
    columns.into_iter().map(|(name, datum)| (name.to_owned(), datum.write())).collect()
}

/// A set with its tag even around one element: mutations of maps demand it.
fn tagged(datum: &Datum) -> Value {
    match datum {
        Datum::Set(atoms) => json!(["set", atoms.iter().map(Atom::write).collect::<Vec<_>>()]),
        Datum::Map(_) => datum.write(),
    }
}
