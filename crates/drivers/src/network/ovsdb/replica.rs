//! The client's copy of the monitored tables, with the indexes that make every look-up cheap.
//!
//! Rows are found by their UUID, by the value of one key of one map column ([`TableSpec::index`]), and from the rows
//! they refer to ([`TableSpec::references`]): nothing here or in its users walks over a table to find a row.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::value::{Atom, Datum};

static EMPTY: Datum = Datum::Set(BTreeSet::new());

/// A table to monitor.
#[derive(Clone, Copy, Debug)]
pub struct TableSpec {
    /// Its name.
    pub table: &'static str,
    /// The columns; those the server's schema does not have are left out and read as empty.
    pub columns: &'static [&'static str],
    /// A map column and a key in it: rows are indexed by that key's value.
    pub index: Option<(&'static str, &'static str)>,
    /// Columns of references: kept in reverse, from the row referred to.
    pub references: &'static [&'static str],
    /// Whether changes of its rows are told to subscribers.
    pub notify: bool,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row(BTreeMap<&'static str, Datum>);

impl Row {
    /// A column; empty where the server's schema has no such column.
    pub fn get(&self, column: &str) -> &Datum {
        self.0.get(column).unwrap_or(&EMPTY)
    }
}

/// A change of one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// The table.
    pub table: &'static str,
    /// The row.
    pub uuid: Uuid,
    /// As it was, unless it is new.
    pub old: Option<Arc<Row>>,
    /// As it is, unless it is gone.
    pub new: Option<Arc<Row>>,
}

/// What subscribers are told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The whole content came anew: look at every row.
    Reset,
    /// These rows changed together.
    Changed(Arc<[Change]>),
}

struct Column {
    name: &'static str,
    composite: bool,
    default: Datum,
}

/// One monitored table.
pub struct Table {
    spec: TableSpec,
    columns: Vec<Column>,
    rows: HashMap<Uuid, Arc<Row>>,
    by_key: HashMap<Box<str>, BTreeSet<Uuid>>,
    referrers: HashMap<(&'static str, Uuid), BTreeSet<Uuid>>,
}

/// All monitored tables.
pub struct Replica {
    tables: HashMap<&'static str, Table>,
}

impl Replica {
    pub(super) fn new(specs: &[TableSpec]) -> Self {
        let table = |spec: &TableSpec| Table {
            spec: *spec,
            columns: Vec::new(),
            rows: HashMap::new(),
            by_key: HashMap::new(),
            referrers: HashMap::new(),
        };
        Self { tables: specs.iter().map(|spec| (spec.table, table(spec))).collect() }
    }

    /// A row by its UUID.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table)?.rows.get(&uuid)
    }

    /// The rows of a table whose indexed key has this value.
    pub fn by_key<'a>(&'a self, table: &str, key: &str) -> impl Iterator<Item = (Uuid, &'a Arc<Row>)> + use<'a> {
        let table = self.tables.get(table);
        let found = table.and_then(|t| t.by_key.get(key));
        found.into_iter().flatten().filter_map(move |id| Some((*id, table?.rows.get(id)?)))
    }

    /// The rows of a table that refer to `target` in that column.
    pub fn referrers<'a>(&'a self, table: &str, column: &'static str, target: Uuid) -> impl Iterator<Item = Uuid> + 'a {
        self.tables.get(table).and_then(|t| t.referrers.get(&(column, target))).into_iter().flatten().copied()
    }

    /// Every row of a table: for whole-table sweeps and tables of a few rows.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        self.tables.get(table).into_iter().flat_map(|t| t.rows.iter().map(|(id, row)| (*id, row)))
    }

    /// Whether the server's schema has the column.
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|t| t.columns.iter().any(|c| c.name == column))
    }

    /// Learns the column types from the reply to `get_schema`.
    pub(super) fn learn_schema(&mut self, schema: &Value) {
        for table in self.tables.values_mut() {
            let columns = &schema["tables"][table.spec.table]["columns"];
            let known = table.spec.columns.iter().filter(|name| columns.get(**name).is_some());
            table.columns = known.map(|name| Column::read(name, &columns[*name]["type"])).collect();
        }
    }

    /// What to ask `monitor_cond_since` for.
    pub(super) fn monitor_requests(&self) -> Value {
        let tables = self.tables.values().filter(|t| !t.columns.is_empty());
        let request = |t: &Table| json!([{ "columns": t.columns.iter().map(|c| c.name).collect::<Vec<_>>() }]);
        Value::Object(tables.map(|t| (t.spec.table.to_owned(), request(t))).collect())
    }

    pub(super) fn clear(&mut self) {
        for table in self.tables.values_mut() {
            table.rows.clear();
            table.by_key.clear();
            table.referrers.clear();
        }
    }

    /// Applies `<table-updates2>`; `None` if it can't be understood, and then the copy is worth nothing.
    pub(super) fn apply(&mut self, updates: &Value) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        for (name, rows) in updates.as_object()? {
            let Some(table) = self.tables.get_mut(name.as_str()) else { continue };
            for (id, update) in rows.as_object()? {
                let uuid = Uuid::try_parse(id).ok()?;
                if let Some(change) = table.apply(uuid, update)? {
                    changes.push(change);
                }
            }
        }
        Some(changes)
    }
}

impl Column {
    fn read(name: &'static str, kind: &Value) -> Self {
        let composite = match &kind["max"] {
            Value::String(_) => true,
            Value::Number(n) => n.as_u64() > Some(1),
            _ => false,
        };
        let base = |kind: &Value| match kind.as_str().or_else(|| kind["type"].as_str()).unwrap_or_default() {
            "integer" => Atom::Int(0),
            "real" => Atom::Real(0),
            "boolean" => Atom::Bool(false),
            "uuid" => Atom::Uuid(Uuid::nil()),
            _ => Atom::from(""),
        };
        let default = match kind {
            Value::String(_) => Datum::one(base(kind)),
            _ if kind.get("value").is_some() => Datum::Map(BTreeMap::new()),
            _ if kind["min"].as_u64().unwrap_or(1) == 0 => Datum::Set(BTreeSet::new()),
            _ => Datum::one(base(&kind["key"])),
        };
        Self { name, composite, default }
    }
}

impl Table {
    fn apply(&mut self, uuid: Uuid, update: &Value) -> Option<Option<Change>> {
        let (verb, body) = update.as_object()?.iter().next()?;
        let old = match verb.as_str() {
            "initial" | "insert" => {
                let row = self.fill(body.as_object()?)?;
                let old = self.forget(uuid);
                self.link(uuid, &row);
                self.rows.insert(uuid, Arc::new(row));
                old
            }
            "delete" => self.forget(uuid),
            "modify" => self.modify(uuid, body.as_object()?)?,
            _ => return None,
        };
        let new = self.rows.get(&uuid);
        Some(self.spec.notify.then(|| Change { table: self.spec.table, uuid, old, new: new.cloned() }))
    }

    /// A whole row: columns that hold their default are not sent.
    fn fill(&self, sent: &Map<String, Value>) -> Option<Row> {
        let column = |c: &Column| {
            Some((c.name, sent.get(c.name).map_or_else(|| Some(c.default.clone()), |value| c.read_value(value))?))
        };
        self.columns.iter().map(column).collect::<Option<_>>().map(Row)
    }

    fn modify(&mut self, uuid: Uuid, sent: &Map<String, Value>) -> Option<Option<Arc<Row>>> {
        let mut shared = self.rows.remove(&uuid)?;
        let old = self.spec.notify.then(|| shared.clone());
        let row = Arc::make_mut(&mut shared);
        for column in &self.columns {
            let Some(value) = sent.get(column.name) else { continue };
            let difference = column.read_value(value)?;
            let datum = row.0.entry(column.name).or_insert_with(|| column.default.clone());
            if self.spec.references.contains(&column.name) {
                let moved = difference.uuids().chain((!column.composite).then(|| datum.uuids()).into_iter().flatten());
                let moved: Vec<Uuid> = moved.collect();
                datum.apply(difference, column.composite);
                for target in moved {
                    let there = datum.contains(&Atom::Uuid(target));
                    note(&mut self.referrers, (column.name, target), uuid, there);
                }
            } else {
                let key = |datum: &Datum| {
                    let (indexed, key) = self.spec.index?;
                    (indexed == column.name).then(|| datum.key(key).map(Box::<str>::from)).flatten()
                };
                let before = key(datum);
                datum.apply(difference, column.composite);
                let after = key(datum);
                if before != after {
                    before.into_iter().for_each(|key| note(&mut self.by_key, key, uuid, false));
                    after.into_iter().for_each(|key| note(&mut self.by_key, key, uuid, true));
                }
            }
        }
        self.rows.insert(uuid, shared);
        Some(old)
    }

    fn forget(&mut self, uuid: Uuid) -> Option<Arc<Row>> {
        let row = self.rows.remove(&uuid)?;
        self.index(uuid, &row, false);
        Some(row)
    }

    fn link(&mut self, uuid: Uuid, row: &Row) {
        self.index(uuid, row, true);
    }

    fn index(&mut self, uuid: Uuid, row: &Row, there: bool) {
        if let Some((column, key)) = self.spec.index
            && let Some(value) = row.get(column).key(key)
        {
            note(&mut self.by_key, value.into(), uuid, there);
        }
        for column in self.spec.references {
            for target in row.get(column).uuids() {
                note(&mut self.referrers, (*column, target), uuid, there);
            }
        }
    }
}

impl Column {
    /// A sent value; an empty map must not be taken for an empty set, nor the other way round.
    fn read_value(&self, value: &Value) -> Option<Datum> {
        let datum = Datum::read(value)?;
        match (&datum, &self.default) {
            (Datum::Set(_), Datum::Set(_)) | (Datum::Map(_), Datum::Map(_)) => Some(datum),
            _ => None,
        }
    }
}

/// Enters `uuid` under `key`, or takes it away.
fn note<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<Uuid>>, key: K, uuid: Uuid, there: bool) {
    if there {
        index.entry(key).or_default().insert(uuid);
    } else if let std::collections::hash_map::Entry::Occupied(mut entry) = index.entry(key) {
        entry.get_mut().remove(&uuid);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[TableSpec] = &[TableSpec {
        table: "T",
        columns: &["name", "ids", "members", "absent"],
        index: Some(("ids", "id")),
        references: &["members"],
        notify: true,
    }];

    fn replica() -> Replica {
        let mut replica = Replica::new(SPECS);
        let many = |key: &str| json!({"type": {"key": {"type": key}, "min": 0, "max": "unlimited"}});
        let mut ids = many("string");
        ids["type"]["value"] = json!("string");
        replica.learn_schema(&json!({"tables": {"T": {"columns": {
            "name": {"type": "string"}, "ids": ids, "members": many("uuid"), "other": {"type": "integer"}}}}}));
        replica
    }

    #[test]
    fn indexes_follow_every_kind_of_update() {
        let (row, a, b) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let mut replica = replica();
        assert_eq!(replica.monitor_requests(), json!({"T": [{"columns": ["name", "ids", "members"]}]}));
        let mut send = |update: Value| replica.apply(&json!({"T": {row.to_string(): update}})).unwrap().len();
        assert_eq!(send(json!({"insert": {"ids": ["map", [["id", "x"]]], "members": ["uuid", a.to_string()]}})), 1);
        let wire = |ids: [Uuid; 2]| json!(["set", ids.map(|id| json!(["uuid", id.to_string()]))]);
        send(json!({"modify": {"members": wire([a, b]), "ids": ["map", [["id", "y"], ["k", "v"]]], "name": "n"}}));
        assert_eq!(replica.by_key("T", "x").count(), 0);
        let (found, content) = replica.by_key("T", "y").next().unwrap();
        assert_eq!((found, content.get("name"), content.get("absent")), (row, &Datum::one("n"), &EMPTY));
        assert_eq!(replica.referrers("T", "members", a).count(), 0);
        assert_eq!(replica.referrers("T", "members", b).collect::<Vec<_>>(), [row]);
        let gone = replica.apply(&json!({"T": {row.to_string(): {"delete": null}}})).unwrap();
        assert!(gone[0].new.is_none() && gone[0].old.is_some());
        assert_eq!(replica.referrers("T", "members", b).count() + replica.by_key("T", "y").count(), 0);
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut replica = replica();
        let row = Uuid::from_u128(1);
        replica.apply(&json!({"T": {row.to_string(): {"initial": {}}}})).unwrap();
        let content = replica.row("T", row).unwrap();
        assert_eq!(content.get("name"), &Datum::one(""));
        assert_eq!(content.get("ids"), &Datum::Map(BTreeMap::new()));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let mut replica = replica();
        let id = Uuid::from_u128(1).to_string();
        for update in [json!({"modify": {}}), json!({"insert": {"ids": ["set", []]}}), json!({"replace": {}})] {
            assert!(replica.apply(&json!({"T": {id.clone(): update}})).is_none());
        }
    }
}
