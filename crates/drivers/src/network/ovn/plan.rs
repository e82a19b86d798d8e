//! From wanted rows and the rows that are there to the operations that make the difference.
//!
//! Pure: a [`Plan`] reads a replica and collects [`Operation`]s. An empty plan means that everything is as wanted.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use crate::network::ovsdb::{Atom, Datum, Operation, Replica, Row};

/// A row as it should be. Columns that are not named are left alone.
pub(super) struct Wanted {
    pub table: &'static str,
    pub uuid: Uuid,
    pub columns: Vec<(&'static str, Datum)>,
    /// The one row that must refer to it; rows without parent are roots of the schema.
    pub parent: Option<Parent>,
}

/// A set column of a row that holds children.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub table: &'static str,
    pub column: &'static str,
    pub uuid: Uuid,
}

/// The operations so far.
pub(super) struct Plan<'a> {
    replica: &'a Replica,
    operations: Vec<Operation>,
    /// Rows that this plan inserts: OVSDB knows them, the replica not yet.
    inserted: BTreeSet<(&'static str, Uuid)>,
    /// Rows that the transaction expects to be there.
    expected: BTreeSet<(&'static str, Uuid)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(replica: &'a Replica) -> Self {
        Self { replica, operations: Vec::new(), inserted: BTreeSet::new(), expected: BTreeSet::new() }
    }

    pub(super) fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    pub(super) fn row(&self, table: &str, uuid: Uuid) -> Option<&'a Arc<Row>> {
        self.replica.row(table, uuid)
    }

    pub(super) fn replica(&self) -> &'a Replica {
        self.replica
    }

    /// Makes the row be there with these columns, under this parent and no other of the same column.
    pub(super) fn ensure(&mut self, wanted: Wanted) {
        let Wanted { table, uuid, mut columns, parent } = wanted;
        // A column that this server's schema does not have can be neither compared nor written.
        columns.retain(|(name, _)| self.replica.has_column(table, name));
        match self.replica.row(table, uuid) {
            None => {
                self.operations.push(Operation::insert(table, uuid, columns));
                self.inserted.insert((table, uuid));
            }
            Some(row) => {
                columns.retain(|(name, datum)| !same(row.get(name), datum));
                if !columns.is_empty() {
                    self.expect(table, uuid);
                    self.operations.push(Operation::update(table, uuid, columns));
                }
            }
        }
        if let Some(parent) = parent {
            let now: Vec<Uuid> = self.replica.referrers(parent.table, parent.column, uuid).collect();
            for other in now.iter().filter(|now| **now != parent.uuid) {
                self.take(Parent { uuid: *other, ..parent }, uuid);
            }
            if !now.contains(&parent.uuid) {
                self.add(parent, uuid);
            }
        }
    }

    /// Makes the members of a column of sets, over all its rows, be exactly those sets.
    pub(super) fn ensure_memberships(
        &mut self,
        table: &'static str,
        column: &'static str,
        member: Uuid,
        sets: &BTreeSet<Uuid>,
    ) {
        let now: BTreeSet<Uuid> = self.replica.referrers(table, column, member).collect();
        for uuid in now.difference(sets) {
            self.take(Parent { table, column, uuid: *uuid }, member);
        }
        for uuid in sets.difference(&now) {
            self.add(Parent { table, column, uuid: *uuid }, member);
        }
    }

    /// Takes away the children that are not among those to keep. Returns them.
    pub(super) fn keep_children(&mut self, parent: Parent, keep: impl Fn(Uuid) -> bool) -> Vec<Uuid> {
        let Some(row) = self.replica.row(parent.table, parent.uuid) else { return Vec::new() };
        let gone: Vec<Uuid> = row.get(parent.column).uuids().filter(|child| !keep(*child)).collect();
        if !gone.is_empty() {
            let children = Datum::set(gone.iter().copied());
            self.operations.push(Operation::take(parent.table, parent.uuid, parent.column, &children));
        }
        gone
    }

    /// Takes a row out of every parent, which removes it: OVSDB drops rows that nothing refers to.
    pub(super) fn remove_child(&mut self, table: &'static str, column: &'static str, child: Uuid) {
        for uuid in self.replica.referrers(table, column, child) {
            self.take(Parent { table, column, uuid }, child);
        }
    }

    /// Removes a root row.
    pub(super) fn remove_root(&mut self, table: &'static str, uuid: Uuid) {
        if self.replica.row(table, uuid).is_some() {
            self.operations.push(Operation::delete(table, uuid));
        }
    }

    fn add(&mut self, parent: Parent, child: Uuid) {
        self.expect(parent.table, parent.uuid);
        self.operations.push(Operation::add(parent.table, parent.uuid, parent.column, &Datum::set([child])));
    }

    fn take(&mut self, parent: Parent, child: Uuid) {
        self.operations.push(Operation::take(parent.table, parent.uuid, parent.column, &Datum::set([child])));
    }

    /// Lets the transaction fail if a row that the plan builds on went away meanwhile.
    fn expect(&mut self, table: &'static str, uuid: Uuid) {
        if !self.inserted.contains(&(table, uuid)) && self.expected.insert((table, uuid)) {
            self.operations.insert(0, Operation::expect_row(table, uuid));
        }
    }
}

/// Equal, where an empty set and an empty map, which look the same to the one who wants "nothing", are one.
fn same(there: &Datum, wanted: &Datum) -> bool {
    let empty = |datum: &Datum| match datum {
        Datum::Set(atoms) => atoms.is_empty() || atoms.iter().eq([&Atom::from("")]),
        Datum::Map(pairs) => pairs.is_empty(),
    };
    there == wanted || (empty(there) && empty(wanted))
}
