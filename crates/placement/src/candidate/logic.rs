//! Which providers satisfy a request: for each tree, every way to give each group its providers.

use std::collections::{BTreeMap, BTreeSet};

use store::placement::Provider;

use super::wire::{Group, Request, in_tree, share_subtree};
use crate::provider::root;

/// Candidates of a request that names no limit, and ways that are tried for one tree.
const CANDIDATES_MAX: usize = 1000;
const WAYS_MAX: usize = 10_000;

/// One way to satisfy a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What is taken of whom.
    pub allocations: BTreeMap<String, BTreeMap<String, i64>>,
    /// Whose each group's are.
    pub mappings: BTreeMap<String, BTreeSet<String>>,
}

/// One way to satisfy one group: what is taken of whom.
type Way = Vec<(String, String, i64)>;

/// Every candidate, those of one tree together, in the order of the trees' tops.
pub(crate) fn candidates(request: &Request, all: &BTreeMap<String, Provider>) -> Vec<Candidate> {
    let mut trees: BTreeMap<&str, Vec<&Provider>> = BTreeMap::new();
    for provider in all.values() {
        trees.entry(root(provider, all)).or_default().push(provider);
    }
    let limit = request.limit.unwrap_or(CANDIDATES_MAX).min(CANDIDATES_MAX);
    let mut found = Vec::new();
    for (top, providers) in trees {
        if !all.get(top).is_some_and(|top| request.root_required.admits(&top.traits)) {
            continue;
        }
        found.extend(of_tree(request, &providers, all, limit - found.len()));
        if found.len() >= limit {
            break;
        }
    }
    found
}

fn of_tree(request: &Request, tree: &[&Provider], all: &BTreeMap<String, Provider>, limit: usize) -> Vec<Candidate> {
    // What is complete so far, and what a next group could add.
    let mut partial = vec![Candidate::default()];
    for (suffix, group) in &request.groups {
        let ways = if suffix.is_empty() { spread(group, tree, all) } else { of_one(group, tree, all) };
        let mut next = Vec::new();
        for (so_far, way) in partial.iter().flat_map(|so_far| ways.iter().map(move |way| (so_far, way))) {
            if next.len() >= WAYS_MAX {
                break;
            }
            if let Some(candidate) = extend(so_far, suffix, way, request, all) {
                next.push(candidate);
            }
        }
        partial = next;
    }
    partial.retain(|candidate| in_subtrees(candidate, request, all));
    partial.truncate(limit);
    partial
}

/// A group with a name: all of it of one provider.
fn of_one(group: &Group, tree: &[&Provider], all: &BTreeMap<String, Provider>) -> Vec<Way> {
    let fits = |provider: &&&Provider| {
        admits(group, provider, all)
            && group.required.admits(&provider.traits)
            && group.resources.iter().all(|(class, n)| provider.inventories.get(class).is_some_and(|i| i.fits(*n)))
    };
    let way = |provider: &&Provider| -> Way {
        if group.resources.is_empty() {
            return vec![(provider.id.clone(), String::new(), 0)];
        }
        group.resources.iter().map(|(class, n)| (provider.id.clone(), class.clone(), *n)).collect()
    };
    tree.iter().filter(fits).map(way).collect()
}

/// The group without a name: each class of any provider of the tree, the traits of all of them together.
fn spread(group: &Group, tree: &[&Provider], all: &BTreeMap<String, Provider>) -> Vec<Way> {
    let mut ways: Vec<Way> = vec![Vec::new()];
    for (class, amount) in &group.resources {
        let able: Vec<&&Provider> = tree
            .iter()
            .filter(|p| admits(group, p, all) && p.inventories.get(class).is_some_and(|i| i.fits(*amount)))
            .filter(|p| group.required.none_of.is_disjoint(&p.traits))
            .collect();
        let longer = ways.iter().flat_map(|way| {
            able.iter().map(move |provider| {
                let mut way = way.clone();
                way.push((provider.id.clone(), class.clone(), *amount));
                way
            })
        });
        ways = longer.take(WAYS_MAX).collect();
    }
    ways.retain(|way| {
        let traits: BTreeSet<String> = way
            .iter()
            .filter_map(|(id, ..)| all.get(id))
            .flat_map(|provider| provider.traits.iter().cloned())
            .collect();
        group.required.admits(&traits)
    });
    ways
}

fn admits(group: &Group, provider: &Provider, all: &BTreeMap<String, Provider>) -> bool {
    group.member_of.admits(provider, all) && group.in_tree.as_ref().is_none_or(|tree| in_tree(provider, tree, all))
}

/// Adds a way of a group, unless that takes more of a provider than there is, or one that is to be another's alone.
fn extend(
    so_far: &Candidate,
    suffix: &str,
    way: &Way,
    request: &Request,
    all: &BTreeMap<String, Provider>,
) -> Option<Candidate> {
    let mut candidate = so_far.clone();
    let ids: BTreeSet<String> = way.iter().map(|(id, ..)| id.clone()).collect();
    let mut named = so_far.mappings.iter().filter(|(other, _)| !other.is_empty());
    if request.isolate && !suffix.is_empty() && named.any(|(_, taken)| !taken.is_disjoint(&ids)) {
        return None;
    }
    for (id, class, amount) in way.iter().filter(|(_, _, amount)| *amount > 0) {
        let sum = candidate.allocations.entry(id.clone()).or_default().entry(class.clone()).or_default();
        *sum += amount;
        if !all.get(id)?.inventories.get(class)?.fits(*sum) {
            return None;
        }
    }
    candidate.mappings.insert(suffix.to_owned(), ids);
    Some(candidate)
}

fn in_subtrees(candidate: &Candidate, request: &Request, all: &BTreeMap<String, Provider>) -> bool {
    request.same_subtree.iter().all(|suffixes| {
        let ids = suffixes.iter().filter_map(|suffix| candidate.mappings.get(suffix)).flatten().map(String::as_str);
        share_subtree(&ids.collect(), all)
    })
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use store::placement::Inventory;
    use web::Version;

    use super::*;

    fn provider(id: &str, parent: Option<&str>, has: &[(&str, i64)], traits: &[&str]) -> (String, Provider) {
        let inventory = |total: i64| Inventory {
            total,
            reserved: 0,
            min_unit: 1,
            max_unit: total,
            step_size: 1,
            ratio: 1.0,
            used: 0,
        };
        let provider = Provider {
            id: id.to_owned(),
            name: id.to_owned(),
            parent: parent.map(str::to_owned),
            generation: 0,
            is_host: false,
            updated_at: Timestamp(0),
            inventories: has.iter().map(|(class, total)| ((*class).to_owned(), inventory(*total))).collect(),
            traits: traits.iter().map(|name| (*name).to_owned()).collect(),
            aggregates: BTreeSet::new(),
        };
        (id.to_owned(), provider)
    }

    #[test]
    fn requests() {
        let all = BTreeMap::from([
            provider("a", None, &[("VCPU", 4), ("MEMORY_MB", 1000)], &["FAST"]),
            provider("b", None, &[("VCPU", 2), ("MEMORY_MB", 4000)], &[]),
            provider("b1", Some("b"), &[("VGPU", 1)], &["GPU"]),
            provider("b2", Some("b"), &[("VGPU", 1)], &[]),
        ]);
        // query -> each candidate's providers
        let table: Vec<(&str, Vec<Vec<&str>>)> = vec![
            ("resources=VCPU:1", vec![vec!["a"], vec!["b"]]),
            ("resources=VCPU:3", vec![vec!["a"]]),
            ("resources=VCPU:5", vec![]),
            ("resources=VCPU:1,MEMORY_MB:2000", vec![vec!["b"]]),
            ("resources=VCPU:1&required=FAST", vec![vec!["a"]]),
            ("resources=VCPU:1&required=!FAST", vec![vec!["b"]]),
            ("resources=VCPU:1&required=in:FAST,SLOW", vec![vec!["a"]]),
            ("resources=VCPU:1,VGPU:1", vec![vec!["b", "b1"], vec!["b", "b2"]]),
            ("resources=VCPU:1,VGPU:1&required=GPU", vec![vec!["b", "b1"]]),
            ("resources=VCPU:1&resources1=VGPU:1&required1=GPU", vec![vec!["b", "b1"]]),
            ("resources1=VGPU:1&resources2=VGPU:1&group_policy=isolate", vec![vec!["b1", "b2"], vec!["b1", "b2"]]),
            ("resources1=VCPU:1&resources2=VCPU:2&group_policy=none", vec![vec!["a"]]),
            ("resources=VCPU:1&in_tree=b1", vec![vec!["b"]]),
            ("resources=VCPU:1&limit=1", vec![vec!["a"]]),
            ("resources=VCPU:1&root_required=FAST", vec![vec!["a"]]),
            (
                "resources_C=VCPU:1&resources_G=VGPU:1&group_policy=none&same_subtree=_C,_G",
                vec![vec!["b", "b1"], vec!["b", "b2"]],
            ),
            ("resources_1=VGPU:1&resources_2=VGPU:1&group_policy=isolate&same_subtree=_1,_2", vec![]),
        ];
        for (query, expected) in table {
            let request = Request::parse(&web::paging::Query::parse(query).0, Version(1, 39)).unwrap();
            let found = candidates(&request, &all);
            let found: Vec<Vec<&str>> =
                found.iter().map(|c| c.allocations.keys().map(String::as_str).collect()).collect();
            assert_eq!(found, expected, "{query}");
        }
    }

    #[test]
    fn queries_that_are_refused() {
        for (query, version) in [
            ("", 39),
            ("resources=VCPU", 39),
            ("resources=VCPU:0", 39),
            ("resources=VCPU:1&color=red", 39),
            ("resources1=VCPU:1&resources2=VCPU:1", 39),
            ("required=FAST", 39),
            ("resources=VCPU:1&required=in:A,B", 38),
            ("resources=VCPU:1&required=!A", 21),
            ("resources_A=VCPU:1", 32),
            ("resources=VCPU:1&member_of=x", 39),
            ("resources=VCPU:1&limit=0", 39),
        ] {
            assert!(Request::parse(&web::paging::Query::parse(query).0, Version(1, version)).is_err(), "{query}");
        }
    }
}
