//! Inventories: what providers have, by class. Of hosts, processors, memory and disk are what their agents report.

use std::collections::BTreeMap;

use model::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    placement::{self, Inventory, OF_HOSTS, Provider},
};
use web::{Cx, Reply};

use crate::{
    provider::{UNDEFINED, bad, find, fresh, take_generation},
    resource_class,
};

/// Largest amount.
const AMOUNT_MAX: i64 = i32::MAX as i64;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    total: i64,
    #[serde(default)]
    reserved: i64,
    #[serde(default = "one")]
    min_unit: i64,
    #[serde(default = "most")]
    max_unit: i64,
    #[serde(default = "one")]
    step_size: i64,
    #[serde(default = "all")]
    allocation_ratio: f64,
    #[serde(default)]
    resource_class: Option<String>,
    #[serde(default)]
    resource_provider_generation: Option<i64>,
}

fn one() -> i64 {
    1
}
fn most() -> i64 {
    AMOUNT_MAX
}
fn all() -> f64 {
    1.0
}

impl Wanted {
    fn check(&self, class: &str) -> Result<Inventory> {
        let amount = |value: i64, least: i64| (least..=AMOUNT_MAX).contains(&value);
        let fits = amount(self.total, 1)
            && amount(self.reserved, 0)
            && amount(self.min_unit, 1)
            && amount(self.max_unit, 1)
            && amount(self.step_size, 1)
            && self.allocation_ratio.is_finite()
            && (0.0..=3.402_823e38).contains(&self.allocation_ratio);
        if !fits {
            return Err(bad(format!("JSON does not validate: the inventory of {class} has an amount out of range.")));
        }
        // Since 1.26 all of it may be reserved; no version of ours takes more.
        if self.reserved > self.total {
            return Err(bad(format!("Invalid inventory for '{class}': reserved is larger than total.")));
        }
        Ok(Inventory {
            total: self.total,
            reserved: self.reserved,
            min_unit: self.min_unit,
            max_unit: self.max_unit,
            step_size: self.step_size,
            ratio: self.allocation_ratio,
            used: 0,
        })
    }
}

/// What inventories a body wants, by class.
pub(crate) async fn parse(conn: &mut Conn, wanted: &BTreeMap<String, Wanted>) -> Result<BTreeMap<String, Inventory>> {
    let mut parsed = BTreeMap::new();
    for (class, wanted) in wanted {
        if !resource_class::exists(conn, class).await? {
            return Err(bad(format!("Unknown resource class in inventory: No such resource class {class}.")));
        }
        parsed.insert(class.clone(), wanted.check(class)?);
    }
    Ok(parsed)
}

fn view_one(inventory: &Inventory) -> Map<String, Value> {
    let view = json!({
        "total": inventory.total, "reserved": inventory.reserved, "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit, "step_size": inventory.step_size, "allocation_ratio": inventory.ratio,
    });
    view.as_object().cloned().unwrap_or_default()
}

fn view(provider: &Provider, generation: i64) -> Value {
    let all: Map<String, Value> =
        provider.inventories.iter().map(|(class, i)| (class.clone(), Value::Object(view_one(i)))).collect();
    json!({"resource_provider_generation": generation, "inventories": all})
}

fn view_class(provider: &Provider, class: &str, generation: i64) -> Result<Value> {
    let inventory = provider.inventories.get(class).ok_or_else(|| missing(provider, class))?;
    let mut view = view_one(inventory);
    view.insert("resource_provider_generation".to_owned(), json!(generation));
    Ok(Value::Object(view))
}

fn missing(provider: &Provider, class: &str) -> Error {
    let text = format!("No inventory of class {class} for {}", provider.id);
    Error::not_found(UNDEFINED, text)
}

/// `GET .../inventories`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    Ok(fresh(cx, Reply::ok(&view(&found, found.generation))?))
}

/// `GET .../inventories/{resource_class}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    Ok(fresh(cx, Reply::ok(&view_class(&found, cx.param("resource_class"), found.generation)?)?))
}

/// Makes the provider have exactly this, besides what its agent reports.
pub(crate) async fn replace(tx: &mut Tx, provider: &Provider, wanted: &BTreeMap<String, Inventory>) -> Result<()> {
    let reported = |class: &String| provider.is_host && OF_HOSTS.contains(&class.as_str());
    for (class, inventory) in wanted.iter().filter(|(class, _)| reported(class)) {
        refuse_reported(provider, class, inventory)?;
    }
    for (class, before) in provider.inventories.iter().filter(|(class, _)| !reported(class)) {
        if before.used > 0 && !wanted.contains_key(class) {
            return Err(in_use(provider, class));
        }
    }
    placement::delete_inventories(tx, &provider.id, None).await?;
    for (class, inventory) in wanted.iter().filter(|(class, _)| !reported(class)) {
        placement::put_inventory(tx, &provider.id, class, inventory).await?;
    }
    Ok(())
}

fn refuse_reported(provider: &Provider, class: &str, wanted: &Inventory) -> Result<()> {
    let found = provider.inventories.get(class);
    if found.is_some_and(|found| Inventory { used: 0, ..found.clone() } == *wanted) {
        return Ok(());
    }
    let text =
        format!("{} is a compute host: its {class} is what its agent reports and compute over-commits.", provider.name);
    Err(Error::conflict(UNDEFINED, text))
}

fn in_use(provider: &Provider, class: &str) -> Error {
    let text = format!("Inventory for '{class}' on resource provider '{}' in use.", provider.id);
    Error::conflict("placement.inventory.inuse", text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct All {
    pub resource_provider_generation: i64,
    pub inventories: BTreeMap<String, Wanted>,
}

/// `PUT .../inventories`.
pub(crate) async fn update_all(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    store::compute::allocations::lock(&mut tx).await?;
    let found = find(cx, &mut tx).await?;
    let body: All = cx.json()?;
    let wanted = parse(&mut tx, &body.inventories).await?;
    take_generation(&mut tx, &found, body.resource_provider_generation).await?;
    replace(&mut tx, &found, &wanted).await?;
    let now = find(cx, &mut tx).await?;
    tx.commit().await?;
    Ok(fresh(cx, Reply::ok(&view(&now, now.generation))?))
}

/// `POST .../inventories`: one class.
pub(crate) async fn create(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    let body: Wanted = cx.json()?;
    let class =
        body.resource_class.clone().ok_or_else(|| bad("JSON does not validate: resource_class is required."))?;
    if found.inventories.contains_key(&class) {
        return Err(Error::conflict(
            UNDEFINED,
            format!("Update conflict: {class} is in the inventory of {} already.", found.id),
        ));
    }
    let now = put(cx, &mut tx, &found, &class, &body).await?;
    tx.commit().await?;
    let location = format!("{}/resource_providers/{}/inventories/{class}", cx.service_url(), found.id);
    Ok(fresh(cx, Reply::created(&view_class(&now, &class, now.generation)?)?).with("location", location))
}

/// `PUT .../inventories/{resource_class}`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    let body: Wanted = cx.json()?;
    let class = cx.param("resource_class");
    if !found.inventories.contains_key(class) {
        return Err(bad(format!("Unknown inventory: the resource provider {} has none of {class}.", found.id)));
    }
    let now = put(cx, &mut tx, &found, class, &body).await?;
    tx.commit().await?;
    Ok(fresh(cx, Reply::ok(&view_class(&now, class, now.generation)?)?))
}

async fn put(cx: &Cx, tx: &mut Tx, found: &Provider, class: &str, body: &Wanted) -> Result<Provider> {
    let wanted = parse(tx, &BTreeMap::from([(class.to_owned(), body.clone())])).await?;
    take_generation(tx, found, body.resource_provider_generation.unwrap_or(found.generation)).await?;
    for (class, inventory) in &wanted {
        if found.is_host && OF_HOSTS.contains(&class.as_str()) {
            refuse_reported(found, class, inventory)?;
        } else {
            placement::put_inventory(tx, &found.id, class, inventory).await?;
        }
    }
    find(cx, tx).await
}

/// `DELETE .../inventories/{resource_class}`.
pub(crate) async fn delete(cx: &Cx) -> Result<Reply> {
    let class = cx.param("resource_class");
    let mut tx = cx.db().begin().await?;
    store::compute::allocations::lock(&mut tx).await?;
    let found = find(cx, &mut tx).await?;
    let inventory = found.inventories.get(class).ok_or_else(|| missing(&found, class))?;
    if inventory.used > 0 {
        return Err(in_use(&found, class));
    }
    if found.is_host && OF_HOSTS.contains(&class) {
        let text = format!("{} is a compute host: its {class} is what its agent reports.", found.name);
        return Err(Error::conflict(UNDEFINED, text));
    }
    take_generation(&mut tx, &found, found.generation).await?;
    placement::delete_inventories(&mut tx, &found.id, Some(class)).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `DELETE .../inventories`.
pub(crate) async fn delete_all(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    store::compute::allocations::lock(&mut tx).await?;
    let found = find(cx, &mut tx).await?;
    if found.is_host {
        let text = format!("{} is a compute host: its inventory is what its agent reports.", found.name);
        return Err(Error::conflict(UNDEFINED, text));
    }
    take_generation(&mut tx, &found, found.generation).await?;
    replace(&mut tx, &found, &BTreeMap::new()).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
