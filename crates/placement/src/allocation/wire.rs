//! Allocations on the wire: as a list before 1.12, by provider since.

use std::collections::BTreeMap;

use model::{Result, id};
use serde::Deserialize;
use serde_json::Value;
use store::placement::{Consumer, Held};
use web::{Cx, Version};

use crate::provider::bad;

/// Who holds what nobody said.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Deserialize)]
struct Of {
    resources: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct OfListed {
    resource_provider: Uuid,
    resources: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Uuid {
    uuid: String,
}

/// What one consumer is to hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    allocations: Value,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    consumer_type: Option<String>,
    /// Null: a new one.
    #[serde(default, deserialize_with = "given")]
    consumer_generation: Option<Option<i64>>,
    /// Which group is of which provider: for those who ask, who know it already.
    #[serde(default)]
    mappings: Option<BTreeMap<String, Vec<String>>>,
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::<i64>::deserialize(deserializer).map(Some)
}

/// A request, checked: who, of which generation (none: whichever), what.
pub(super) struct Claim {
    pub consumer: Consumer,
    pub generation: Option<Option<i64>>,
    pub held: Vec<Held>,
}

impl Wanted {
    pub(super) fn check(self, cx: &Cx, uuid: &str) -> Result<Claim> {
        let missing = |name: &str| bad(format!("JSON does not validate: '{name}' is a required property"));
        if !id::is_uuid_like(uuid) {
            return Err(bad(format!("Invalid uuid: {uuid}")));
        }
        let since = |minor: u16| cx.version >= Version(1, minor);
        let text = |value: Option<String>, name: &str, minor: u16| match value {
            Some(text) if text.is_empty() || text.len() > 255 => Err(missing(name)),
            Some(text) => Ok(text),
            None if since(minor) => Err(missing(name)),
            None => Ok(NOBODY.to_owned()),
        };
        if self.mappings.is_some() && !since(34) {
            return Err(bad("Additional properties are not allowed ('mappings' was unexpected)"));
        }
        let generation = match self.consumer_generation {
            None if since(28) => return Err(missing("consumer_generation")),
            Some(_) if !since(28) => {
                return Err(bad("Additional properties are not allowed ('consumer_generation' was unexpected)"));
            }
            other => other,
        };
        let kind = match self.consumer_type {
            None if since(38) => return Err(missing("consumer_type")),
            None => "unknown".to_owned(),
            Some(kind) if kind.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') => kind,
            Some(kind) => return Err(bad(format!("JSON does not validate: {kind} is not in capitals."))),
        };
        let consumer = Consumer {
            id: uuid.to_owned(),
            project_id: text(self.project_id, "project_id", 8)?,
            user_id: text(self.user_id, "user_id", 8)?,
            kind,
            generation: 0,
            is_server: false,
        };
        let held = held(cx, uuid, self.allocations)?;
        Ok(Claim { consumer, generation, held })
    }
}

fn held(cx: &Cx, consumer: &str, allocations: Value) -> Result<Vec<Held>> {
    let odd = |e: serde_json::Error| bad(format!("JSON does not validate: allocations: {e}"));
    let by_provider: Vec<(String, BTreeMap<String, i64>)> = if cx.version < Version(1, 12) {
        let list: Vec<OfListed> = serde_json::from_value(allocations).map_err(odd)?;
        list.into_iter().map(|of| (of.resource_provider.uuid, of.resources)).collect()
    } else {
        let map: BTreeMap<String, Of> = serde_json::from_value(allocations).map_err(odd)?;
        map.into_iter().map(|(id, of)| (id, of.resources)).collect()
    };
    let mut all = Vec::new();
    for (provider, resources) in by_provider {
        if resources.is_empty() || resources.values().any(|used| !(1..=i64::from(i32::MAX)).contains(used)) {
            return Err(bad(format!("JSON does not validate: the amounts of {provider} are numbers from 1 on.")));
        }
        let of = |(class, used): (String, i64)| Held {
            consumer: consumer.to_owned(),
            provider: provider.clone(),
            class,
            used,
        };
        all.extend(resources.into_iter().map(of));
    }
    Ok(all)
}
