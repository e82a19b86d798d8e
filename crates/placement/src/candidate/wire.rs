//! What a query asks of providers: the same words in lists of providers and of candidates.

use std::collections::{BTreeMap, BTreeSet};

use model::{Error, Result};
use store::placement::Provider;
use web::{Cx, Version};

use crate::provider::{bad, below, root};

fn bad_value(message: String) -> Error {
    Error::bad_request("placement.query.bad_value", message)
}

/// What traits a provider must have, and must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Required {
    /// One of each of these.
    pub any_of: Vec<BTreeSet<String>>,
    /// None of these.
    pub none_of: BTreeSet<String>,
}

impl Required {
    /// `A,!B`, or since 1.39 `in:A,B`; may be given several times since then.
    pub(crate) fn add(&mut self, text: &str, version: Version) -> Result<()> {
        if let Some(words) = text.strip_prefix("in:") {
            if version < Version(1, 39) {
                return Err(bad_value("Invalid query string parameters: 'in:' in required needs 1.39.".to_owned()));
            }
            self.any_of.push(words.split(',').map(str::to_owned).collect());
            return Ok(());
        }
        for word in text.split(',') {
            match word.strip_prefix('!') {
                Some(word) if version >= Version(1, 22) && !word.is_empty() => {
                    self.none_of.insert(word.to_owned());
                }
                None if !word.is_empty() => self.any_of.push(BTreeSet::from([word.to_owned()])),
                _ => return Err(bad_value(format!("Invalid query string parameters: 'required' is not {text}."))),
            }
        }
        Ok(())
    }

    pub(crate) fn admits(&self, traits: &BTreeSet<String>) -> bool {
        self.any_of.iter().all(|any| !any.is_disjoint(traits)) && self.none_of.is_disjoint(traits)
    }
}

/// In which aggregates a provider must be, and must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberOf {
    any_of: Vec<BTreeSet<String>>,
    none_of: BTreeSet<String>,
}

impl MemberOf {
    /// `A`, `in:A,B`, `!A`, `!in:A,B`.
    pub(crate) fn add(&mut self, text: &str) -> Result<()> {
        let (forbidden, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let names: BTreeSet<String> = match text.strip_prefix("in:") {
            Some(list) => list.split(',').map(str::to_owned).collect(),
            None => BTreeSet::from([text.to_owned()]),
        };
        if let Some(odd) = names.iter().find(|name| !model::id::is_uuid_like(name)) {
            return Err(bad(format!("Expected 'member_of' parameter to contain valid UUID(s). Got: {odd}")));
        }
        if forbidden {
            self.none_of.extend(names);
        } else {
            self.any_of.push(names);
        }
        Ok(())
    }

    /// A provider is where it or the top of its tree is; it is kept out by its own aggregates and those of the top.
    pub(crate) fn admits(&self, provider: &Provider, all: &BTreeMap<String, Provider>) -> bool {
        let of_root = all.get(root(provider, all)).map(|root| &root.aggregates);
        let is_in = |names: &BTreeSet<String>| {
            !names.is_disjoint(&provider.aggregates) || of_root.is_some_and(|root| !names.is_disjoint(root))
        };
        self.any_of.iter().all(is_in) && !is_in(&self.none_of)
    }
}

/// `VCPU:1,MEMORY_MB:512`.
pub(crate) fn resources(text: &str) -> Result<BTreeMap<String, i64>> {
    let mut found = BTreeMap::new();
    for word in text.split(',') {
        let amount = word.split_once(':').and_then(|(class, amount)| Some((class, amount.parse::<i64>().ok()?)));
        match amount {
            Some((class, amount)) if amount > 0 && !class.is_empty() => {
                found.insert(class.to_owned(), amount);
            }
            _ => {
                let text = format!(
                    "Badly formed resources parameter. Expected resources query string parameter in form: \
                     ?resources=VCPU:2,MEMORY_MB:1024. Got: {word}."
                );
                return Err(bad_value(text));
            }
        }
    }
    Ok(found)
}

/// Which providers a list shows.
#[derive(Default)]
pub(crate) struct ProviderFilter {
    name: Option<String>,
    uuid: Option<String>,
    tree: Option<String>,
    resources: BTreeMap<String, i64>,
    required: Required,
    member_of: MemberOf,
}

impl ProviderFilter {
    pub(crate) fn parse(cx: &Cx) -> Result<Self> {
        let mut filter = Self::default();
        for (key, value) in &cx.query.0 {
            let since = |minor: u16| {
                if cx.version >= Version(1, minor) {
                    return Ok(());
                }
                Err(bad_value(format!("Invalid query string parameters: '{key}' needs microversion 1.{minor}.")))
            };
            match key.as_str() {
                "name" => filter.name = Some(value.clone()),
                "uuid" if model::id::is_uuid_like(value) => filter.uuid = Some(value.clone()),
                "uuid" => return Err(bad(format!("Invalid uuid value: {value}"))),
                "member_of" => since(3).and_then(|()| filter.member_of.add(value))?,
                "resources" => {
                    since(4)?;
                    filter.resources = resources(value)?;
                }
                "in_tree" => {
                    since(14)?;
                    filter.tree = Some(value.clone());
                }
                "required" => since(18).and_then(|()| filter.required.add(value, cx.version))?,
                _ => return Err(bad_value(format!("Invalid query string parameters: '{key}' is unknown."))),
            }
        }
        Ok(filter)
    }

    pub(crate) fn admits(&self, provider: &Provider, all: &BTreeMap<String, Provider>) -> bool {
        self.name.as_ref().is_none_or(|name| *name == provider.name)
            && self.uuid.as_ref().is_none_or(|uuid| *uuid == provider.id)
            && self.tree.as_ref().is_none_or(|tree| in_tree(provider, tree, all))
            && self.resources.iter().all(|(class, n)| provider.inventories.get(class).is_some_and(|i| i.fits(*n)))
            && self.required.admits(&provider.traits)
            && self.member_of.admits(provider, all)
    }
}

/// Whether a provider is in the same tree as another.
pub(crate) fn in_tree(provider: &Provider, other: &str, all: &BTreeMap<String, Provider>) -> bool {
    all.get(other).is_some_and(|other| root(other, all) == root(provider, all))
}

/// A group of what is asked for: the one without a name may be spread over a tree, the others are of one provider each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// What it needs.
    pub resources: BTreeMap<String, i64>,
    /// Traits.
    pub required: Required,
    /// Aggregates.
    pub member_of: MemberOf,
    /// A provider whose tree it must be in.
    pub in_tree: Option<String>,
}

/// A request for candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The groups by their suffixes; the empty one is the one without.
    pub groups: BTreeMap<String, Group>,
    /// Each group with a name has a provider of its own.
    pub isolate: bool,
    /// Candidates at the most.
    pub limit: Option<usize>,
    /// Groups whose providers must have a common ancestor among them.
    pub same_subtree: Vec<BTreeSet<String>>,
    /// What the top of the tree must be like.
    pub root_required: Required,
}

impl Request {
    pub(crate) fn parse(query: &[(String, String)], version: Version) -> Result<Self> {
        let mut request = Self::default();
        let mut policy = None;
        for (key, value) in query {
            match key.as_str() {
                "limit" if version >= Version(1, 16) => {
                    let limit = value.parse().ok().filter(|n| *n > 0);
                    request.limit = Some(limit.ok_or_else(|| bad_value("'limit' is a number from 1 on.".to_owned()))?);
                }
                "group_policy" if version >= Version(1, 25) => match value.as_str() {
                    "isolate" | "none" => policy = Some(value == "isolate"),
                    _ => return Err(bad_value("'group_policy' is none or isolate.".to_owned())),
                },
                "same_subtree" if version >= Version(1, 36) => {
                    request.same_subtree.push(value.split(',').map(str::to_owned).collect());
                }
                "root_required" if version >= Version(1, 35) => request.root_required.add(value, version)?,
                key => request.add(key, value, version)?,
            }
        }
        request.isolate = policy.unwrap_or_default();
        request.check(policy.is_some(), version)?;
        Ok(request)
    }

    fn add(&mut self, key: &str, value: &str, version: Version) -> Result<()> {
        let unknown = || bad_value(format!("Invalid query string parameters: '{key}' is unknown."));
        for (word, since) in [("resources", 10), ("required", 17), ("member_of", 21), ("in_tree", 31)] {
            let Some(suffix) = key.strip_prefix(word) else { continue };
            let number = suffix.bytes().all(|b| b.is_ascii_digit());
            let name = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            let fits =
                suffix.is_empty() || (version >= Version(1, 25) && number) || (version >= Version(1, 33) && name);
            if version < Version(1, since) || !fits {
                return Err(unknown());
            }
            let group = self.groups.entry(suffix.to_owned()).or_default();
            match word {
                "resources" => group.resources = resources(value)?,
                "required" => group.required.add(value, version)?,
                "member_of" => group.member_of.add(value)?,
                _ => group.in_tree = Some(value.to_owned()),
            }
            return Ok(());
        }
        Err(unknown())
    }

    fn check(&self, has_policy: bool, version: Version) -> Result<()> {
        if self.groups.values().all(|group| group.resources.is_empty()) {
            let text = "At least one request group (`resources` or `resources{$S}`) is required.";
            return Err(Error::bad_request("placement.query.missing_value", text));
        }
        let named = self.groups.keys().filter(|suffix| !suffix.is_empty());
        if named.count() > 1 && !has_policy && self.same_subtree.is_empty() {
            let text =
                "The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.";
            return Err(bad(text));
        }
        for (suffix, group) in &self.groups {
            let in_subtree = version >= Version(1, 36) && self.same_subtree.iter().any(|set| set.contains(suffix));
            if group.resources.is_empty() && !in_subtree {
                return Err(bad(format!(
                    "All traits and aggregates of the group \"{suffix}\" need resources{suffix}."
                )));
            }
        }
        if let Some(odd) = self.same_subtree.iter().flatten().find(|suffix| !self.groups.contains_key(*suffix)) {
            return Err(bad(format!("Real suffixes should be specified in same_subtree: {odd} is none.")));
        }
        Ok(())
    }
}

/// Whether one of these providers has all the others below it.
pub(crate) fn share_subtree(ids: &BTreeSet<&str>, all: &BTreeMap<String, Provider>) -> bool {
    ids.iter().any(|top| {
        let tree = below(top, all);
        ids.iter().all(|id| tree.contains(*id))
    })
}
