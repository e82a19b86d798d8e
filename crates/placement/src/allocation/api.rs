//! Handlers of allocations, and of reshaping. Claims of servers are shown as compute made them and can't be changed here.

use std::collections::{BTreeMap, BTreeSet};

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    compute::allocations,
    placement::{self, Consumer, Held, OF_HOSTS, Provider},
};
use web::{Cx, Reply, Version};

use super::wire::{Claim, Wanted};
use crate::{
    inventory,
    provider::{UNDEFINED, authorize, bad, find, fresh, load, take_generation},
};

/// Since this version consumers have generations.
const WITH_CONSUMERS: Version = Version(1, 28);

/// `GET /allocations/{consumer_uuid}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let uuid = cx.param("consumer_uuid");
    let mut conn = cx.db().read().await?;
    let held = placement::held_by(&mut conn, uuid).await?;
    let ids: BTreeSet<&str> = held.iter().map(|held| held.provider.as_str()).collect();
    let mut of = Map::new();
    for id in ids {
        let provider = load(cx, &mut conn, Some(id)).await?.remove(id);
        let generation = provider.map(|provider| provider.generation).unwrap_or_default();
        let own = held.iter().filter(|held| held.provider == id).map(|held| (held.class.clone(), json!(held.used)));
        of.insert(id.to_owned(), json!({"generation": generation, "resources": own.collect::<Map<_, _>>()}));
    }
    let mut view = json!({"allocations": of});
    if let Some(consumer) = placement::consumer(&mut conn, uuid).await? {
        if cx.version >= Version(1, 12) {
            view["project_id"] = json!(consumer.project_id);
            view["user_id"] = json!(consumer.user_id);
        }
        if cx.version >= WITH_CONSUMERS {
            view["consumer_generation"] = json!(consumer.generation);
        }
        if cx.version >= Version(1, 38) {
            view["consumer_type"] = json!(consumer.kind);
        }
    }
    Ok(fresh(cx, Reply::ok(&view)?))
}

/// `GET /resource_providers/{uuid}/allocations`.
pub(crate) async fn of_provider(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = find(cx, &mut conn).await?;
    let mut by_consumer: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for held in placement::held_of(&mut conn, &found.id).await? {
        by_consumer.entry(held.consumer).or_default().insert(held.class, json!(held.used));
    }
    let mut views: Map<String, Value> =
        by_consumer.into_iter().map(|(id, resources)| (id, json!({"resources": resources}))).collect();
    if cx.version >= WITH_CONSUMERS {
        for consumer in placement::consumers_of(&mut conn, &found.id).await? {
            if let Some(view) = views.get_mut(&consumer.id) {
                view["consumer_generation"] = json!(consumer.generation);
            }
        }
    }
    Ok(fresh(cx, Reply::ok(&json!({"allocations": views, "resource_provider_generation": found.generation}))?))
}

/// `PUT /allocations/{consumer_uuid}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let uuid = cx.param("consumer_uuid");
    let claim = cx.json::<Wanted>()?.check(cx, uuid)?;
    if claim.held.is_empty() && cx.version < WITH_CONSUMERS {
        return Err(bad("JSON does not validate: allocations must not be empty."));
    }
    let mut tx = cx.db().begin().await?;
    allocations::lock(&mut tx).await?;
    take(cx, &mut tx, vec![claim]).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `POST /allocations`: of several consumers at once, all or none.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let claims = claims(cx, cx.json()?)?;
    let mut tx = cx.db().begin().await?;
    allocations::lock(&mut tx).await?;
    take(cx, &mut tx, claims).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn claims(cx: &Cx, wanted: BTreeMap<String, Wanted>) -> Result<Vec<Claim>> {
    wanted.into_iter().map(|(uuid, wanted)| wanted.check(cx, &uuid)).collect()
}

/// `DELETE /allocations/{consumer_uuid}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let uuid = cx.param("consumer_uuid");
    let mut tx = cx.db().begin().await?;
    allocations::lock(&mut tx).await?;
    let consumer = placement::consumer(&mut tx, uuid)
        .await?
        .ok_or_else(|| Error::not_found(UNDEFINED, format!("No allocations for consumer '{uuid}'")))?;
    refuse_server(&consumer)?;
    let providers = load(cx, &mut tx, None).await?;
    placement::claim(&mut tx, &consumer, &[], &providers).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn refuse_server(consumer: &Consumer) -> Result<()> {
    if consumer.is_server {
        let text = format!("{} is a server: compute claims for it, and gives back when it is gone.", consumer.id);
        return Err(Error::conflict(UNDEFINED, text));
    }
    Ok(())
}

/// Makes consumers hold what they want, if all of it fits at the same time.
async fn take(cx: &Cx, tx: &mut Tx, claims: Vec<Claim>) -> Result<()> {
    for claim in &claims {
        check_consumer(tx, claim).await?;
    }
    // What they held before is free for what they want now.
    let providers = load(cx, tx, None).await?;
    let touched: BTreeSet<&str> = claims.iter().map(|claim| claim.consumer.id.as_str()).collect();
    let mut after = providers.clone();
    for consumer in touched {
        for held in placement::held_by(tx, consumer).await? {
            if let Some(inventory) = after.get_mut(&held.provider).and_then(|p| p.inventories.get_mut(&held.class)) {
                inventory.used -= held.used;
            }
        }
    }
    for claim in &claims {
        check_hosts(claim, &providers)?;
        for held in &claim.held {
            add(held, &mut after)?;
        }
    }
    for claim in &claims {
        placement::claim(tx, &claim.consumer, &claim.held, &providers).await?;
    }
    Ok(())
}

async fn check_consumer(conn: &mut Conn, claim: &Claim) -> Result<()> {
    let known = placement::consumer(conn, &claim.consumer.id).await?;
    if let Some(known) = &known {
        refuse_server(known)?;
    }
    let generation = known.map(|known| known.generation);
    match claim.generation {
        Some(expected) if expected != generation => {
            let show = |generation: Option<i64>| generation.map_or("null".to_owned(), |n| n.to_string());
            let text =
                format!("consumer generation conflict - expected {} but got {}", show(generation), show(expected));
            Err(Error::conflict("placement.concurrent_update", text))
        }
        _ => Ok(()),
    }
}

/// A claim of processors, memory or disk is of one host, as a server's is.
fn check_hosts(claim: &Claim, providers: &BTreeMap<String, Provider>) -> Result<()> {
    let is_host = |held: &&Held| providers.get(&held.provider).is_some_and(|p| p.is_host);
    let of_hosts = claim.held.iter().filter(is_host).filter(|held| OF_HOSTS.contains(&held.class.as_str()));
    let hosts: BTreeSet<&str> = of_hosts.map(|held| held.provider.as_str()).collect();
    if hosts.len() > 1 {
        let text = "Unable to allocate inventory: one consumer can't hold processors, memory or disk of several hosts.";
        return Err(Error::conflict(UNDEFINED, text));
    }
    Ok(())
}

fn add(held: &Held, after: &mut BTreeMap<String, Provider>) -> Result<()> {
    let (id, class) = (&held.provider, &held.class);
    let provider = after
        .get_mut(id)
        .ok_or_else(|| bad(format!("Allocation for resource provider '{id}' that does not exist.")))?;
    let inventory = provider.inventories.get_mut(class).ok_or_else(|| {
        let text =
            format!("Unable to allocate inventory: Inventory for '{class}' on resource provider '{id}' invalid.");
        Error::conflict(UNDEFINED, text)
    })?;
    if !inventory.fits(held.used) {
        let text = format!(
            "Unable to allocate inventory: Unable to create allocation for '{class}' on resource provider '{id}'. The \
             requested amount would exceed the capacity or violates min_unit, max_unit or step_size."
        );
        return Err(Error::conflict(UNDEFINED, text));
    }
    inventory.used += held.used;
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reshape {
    inventories: BTreeMap<String, inventory::All>,
    allocations: BTreeMap<String, Wanted>,
}

/// `POST /reshaper`: inventories and allocations at once, so that what is held may move to where the inventory goes.
pub(crate) async fn reshape(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let body: Reshape = cx.json()?;
    let claims = claims(cx, body.allocations)?;
    let mut tx = cx.db().begin().await?;
    allocations::lock(&mut tx).await?;
    let providers = load(cx, &mut tx, None).await?;
    // First all that is wanted besides what there is, then who holds it, then nothing but what is wanted.
    let mut wanted = Vec::new();
    for (id, all) in body.inventories {
        let provider = providers.get(&id).ok_or_else(|| bad(format!("Resource provider {id} does not exist.")))?;
        take_generation(&mut tx, provider, all.resource_provider_generation).await?;
        let parsed = inventory::parse(&mut tx, &all.inventories).await?;
        let mut both: BTreeMap<_, _> = provider.inventories.clone();
        both.extend(parsed.clone());
        inventory::replace(
            &mut tx,
            provider,
            &both.into_iter().map(|(class, i)| (class, placement::Inventory { used: 0, ..i })).collect(),
        )
        .await?;
        wanted.push((id, parsed));
    }
    take(cx, &mut tx, claims).await?;
    let providers = load(cx, &mut tx, None).await?;
    for (id, parsed) in wanted {
        if let Some(provider) = providers.get(&id) {
            inventory::replace(&mut tx, provider, &parsed).await?;
        }
    }
    tx.commit().await?;
    Ok(Reply::no_content())
}
