//! OVSDB values (RFC 7047, 5.1): atoms, and columns that hold a set of atoms or a map between them.
//!
//! OVSDB writes a set of one element and a plain value alike, so [`Datum`] knows only sets and maps, and two data are
//! equal exactly when OVSDB holds them equal.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::{Value, json};
use uuid::Uuid;

/// One value of a basic type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// An integer.
    Int(i64),
    /// A real number, by its bits: OVSDB compares them so.
    Real(u64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(Box<str>),
    /// A reference to a row.
    Uuid(Uuid),
}

impl Atom {
    /// Reads an atom as OVSDB writes it.
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            Value::Bool(b) => Some(Self::Bool(*b)),
            Value::Number(n) => n.as_i64().map(Self::Int).or_else(|| n.as_f64().map(|f| Self::Real(f.to_bits()))),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(tag), Value::String(id)] if tag == "uuid" => Uuid::try_parse(id).ok().map(Self::Uuid),
                _ => None,
            },
            _ => None,
        }
    }

    /// The atom as OVSDB reads it.
    pub fn write(&self) -> Value {
        match self {
            Self::Int(n) => json!(n),
            Self::Real(bits) => json!(f64::from_bits(*bits)),
            Self::Bool(b) => json!(b),
            Self::Text(text) => json!(text),
            Self::Uuid(id) => json!(["uuid", id.to_string()]),
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The reference, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(id) => Some(*id),
            _ => None,
        }
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}
impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}
impl From<IpAddr> for Atom {
    fn from(ip: IpAddr) -> Self {
        Self::Text(ip.to_string().into())
    }
}
impl From<i64> for Atom {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}
impl From<bool> for Atom {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<Uuid> for Atom {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

/// What one column of a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// A set; a plain value is a set of one.
    Set(BTreeSet<Atom>),
    /// A map.
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    /// A plain value.
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self::Set(BTreeSet::from([atom.into()]))
    }

    /// A set, or an optional value.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// Reads a column as OVSDB writes it.
    pub fn read(value: &Value) -> Option<Self> {
        if let Value::Array(pair) = value
            && let [Value::String(tag), Value::Array(items)] = pair.as_slice()
        {
            return match tag.as_str() {
                "set" => items.iter().map(Atom::read).collect::<Option<_>>().map(Self::Set),
                "map" => items
                    .iter()
                    .map(|item| match item.as_array()?.as_slice() {
                        [key, value] => Some((Atom::read(key)?, Atom::read(value)?)),
                        _ => None,
                    })
                    .collect::<Option<_>>()
                    .map(Self::Map),
                _ => None,
            };
        }
        Atom::read(value).map(|atom| Self::Set(BTreeSet::from([atom])))
    }

    /// The column as OVSDB reads it.
    pub fn write(&self) -> Value {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms.iter().next().map_or(Value::Null, Atom::write),
            Self::Set(atoms) => json!(["set", atoms.iter().map(Atom::write).collect::<Vec<_>>()]),
            Self::Map(pairs) => {
                json!(["map", pairs.iter().map(|(k, v)| json!([k.write(), v.write()])).collect::<Vec<_>>()])
            }
        }
    }

    /// The elements, if it is a set.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        match self {
            Self::Set(atoms) => Some(atoms),
            Self::Map(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// The rows it refers to, if it is a set of references.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.atoms().filter_map(Atom::as_uuid)
    }

    /// The text of a column with at most one.
    pub fn as_text(&self) -> Option<&str> {
        self.atoms().next().and_then(Atom::as_text)
    }

    /// The boolean of a column with at most one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.atoms().next() {
            Some(Atom::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    /// The integer of a column with at most one.
    pub fn as_int(&self) -> Option<i64> {
        match self.atoms().next() {
            Some(Atom::Int(n)) => Some(*n),
            _ => None,
        }
    }

    /// The value of a key, if it is a map from text to text.
    pub fn key(&self, key: &str) -> Option<&str> {
        match self {
            Self::Map(pairs) => pairs.get(&Atom::from(key)).and_then(Atom::as_text),
            Self::Set(_) => None,
        }
    }

    /// A map's texts, by their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = match self {
            Self::Map(pairs) => Some(pairs.iter()),
            Self::Set(_) => None,
        };
        pairs.into_iter().flatten().filter_map(|(key, value)| Some((key.as_text()?, value.as_text()?)))
    }

    /// Whether it is a set with this element.
    pub fn contains(&self, atom: &Atom) -> bool {
        matches!(self, Self::Set(atoms) if atoms.contains(atom))
    }

    /// Applies a difference as `update2` sends it: columns of at most one element come whole, elements of a set change
    /// sides, keys of a map are set, or taken away where the same pair is there.
    pub(super) fn apply(&mut self, difference: Datum, composite: bool) {
        match (self, difference) {
            (this, whole) if !composite => *this = whole,
            (Self::Set(atoms), Self::Set(changed)) => {
                for atom in changed {
                    if !atoms.remove(&atom) {
                        atoms.insert(atom);
                    }
                }
            }
            (Self::Map(pairs), Self::Map(changed)) => {
                for (key, value) in changed {
                    if pairs.get(&key) == Some(&value) {
                        pairs.remove(&key);
                    } else {
                        pairs.insert(key, value);
                    }
                }
            }
            (this, whole) => *this = whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ovsdb_writes() {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        let cases = [
            (json!("a"), Datum::one("a")),
            (json!(["set", ["a"]]), Datum::one("a")),
            (json!(["set", []]), Datum::set::<Atom>([])),
            (json!(["uuid", id]), Datum::one(Uuid::try_parse(id).unwrap())),
            (json!(["set", [1, 2]]), Datum::set([1, 2])),
            (json!(["map", [["k", "v"]]]), Datum::map([("k", "v")])),
            (json!(true), Datum::one(true)),
        ];
        for (wire, datum) in cases {
            assert_eq!(Datum::read(&wire).as_ref(), Some(&datum), "{wire}");
            assert_eq!(Datum::read(&datum.write()), Some(datum));
        }
        assert_eq!(Datum::read(&json!(["bag", []])), None);
        assert_eq!(Datum::read(&json!({})), None);
    }

    #[test]
    fn differences() {
        let cases = [
            (Datum::set(["a", "b"]), Datum::set(["b", "c"]), true, Datum::set(["a", "c"])),
            (Datum::one("a"), Datum::one("b"), false, Datum::one("b")),
            (
                Datum::map([("a", "1"), ("b", "2"), ("c", "3")]),
                Datum::map([("a", "1"), ("b", "9"), ("d", "4")]),
                true,
                Datum::map([("b", "9"), ("c", "3"), ("d", "4")]),
            ),
        ];
        for (mut before, difference, composite, after) in cases {
            before.apply(difference, composite);
            assert_eq!(before, after);
        }
    }
}
