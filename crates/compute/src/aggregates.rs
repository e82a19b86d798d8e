//! `os-aggregates`: groups of hosts. One that has an `availability_zone` puts its hosts into that zone.

use std::collections::BTreeMap;

use model::{Error, Result, id::random_uuid};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    Conn, Tx,
    compute::{
        aggregates::{self, Aggregate, ZONE},
        allocations,
        hosts::{self, Host},
    },
};
use web::{Cx, Reply, StatusCode, Target, Version};

use crate::{
    State,
    input::{check_name, invalid},
};

/// `GET /v2.1/os-aggregates`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let all = aggregates::list(&mut *cx.db().read().await?).await?;
    Reply::ok(&json!({"aggregates": all.iter().map(|aggregate| shape(cx, aggregate)).collect::<Vec<_>>()}))
}

/// `GET /v2.1/os-aggregates/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let aggregate = find(&mut *cx.db().read().await?, cx.param("id")).await?;
    Reply::ok(&json!({"aggregate": shape(cx, &aggregate)}))
}

/// `POST /v2.1/os-aggregates`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Create {
        name: String,
        availability_zone: Option<String>,
    }
    cx.authorize(&Target::none())?;
    let request: Create = cx.json_in("aggregate")?;
    check_name("name", &request.name)?;
    let zone = request.availability_zone.map(check_zone).transpose()?;
    let mut tx = cx.db().begin().await?;
    allocations::lock(&mut tx).await?;
    let mut aggregate = Aggregate {
        number: 0,
        id: random_uuid().to_string(),
        name: request.name,
        metadata: zone.map(|zone| (ZONE.to_owned(), zone)).into_iter().collect(),
        hosts: BTreeMap::new(),
        created_at: tx.now(),
        updated_at: None,
    };
    aggregate.number = aggregates::insert(&mut tx, &aggregate).await.map_err(|e| taken(e, &aggregate.name))?;
    tx.commit().await?;
    let mut shown = shape(cx, &aggregate);
    if let Some(fields) = shown.as_object_mut() {
        // As Nova: a new one is shown without what it has none of yet.
        fields.remove("hosts");
        fields.remove("metadata");
    }
    Reply::ok(&json!({ "aggregate": shown }))
}

/// `PUT /v2.1/os-aggregates/{id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Update {
        name: Option<String>,
        availability_zone: Option<String>,
    }
    cx.authorize(&Target::none())?;
    let request: Update = cx.json_in("aggregate")?;
    if request.name.is_none() && request.availability_zone.is_none() {
        return Err(invalid("Invalid input for field/attribute aggregate. It needs a name or an availability_zone."));
    }
    let mut tx = cx.db().begin().await?;
    let aggregate = find(&mut tx, cx.param("id")).await?;
    if let Some(name) = &request.name {
        check_name("name", name)?;
        aggregates::rename(&mut tx, aggregate.number, name).await.map_err(|e| taken(e, name))?;
    }
    if let Some(zone) = request.availability_zone {
        let metadata = Map::from_iter([(ZONE.to_owned(), Value::String(check_zone(zone)?))]);
        merge(cx, &mut tx, &aggregate, metadata).await?;
    }
    answer(cx, tx, aggregate.number).await
}

/// `DELETE /v2.1/os-aggregates/{id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut tx = cx.db().begin().await?;
    let aggregate = find(&mut tx, cx.param("id")).await?;
    if !aggregate.hosts.is_empty() {
        let id = aggregate.number;
        let message = format!("Cannot remove host from aggregate {id}. Reason: Host aggregate is not empty.");
        return Err(Error::bad_request("InvalidAggregateAction", message));
    }
    aggregates::delete(&mut tx, aggregate.number).await?;
    tx.commit().await?;
    Ok(Reply::empty(StatusCode::OK))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostName {
    host: String,
}

/// `add_host`.
pub async fn add_host(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let HostName { host } = cx.json_in("add_host")?;
    let mut tx = cx.db().begin().await?;
    let aggregate = find(&mut tx, cx.param("id")).await?;
    let host = find_host(&mut tx, &host).await?;
    if aggregate.hosts.contains_key(&host.name) {
        let message = format!("Aggregate {} already has host {}.", aggregate.number, host.name);
        return Err(Error::conflict("AggregateHostExists", message));
    }
    if let Some(zone) = aggregate.zone() {
        let others = aggregates::list(&mut tx).await?;
        let other = others.iter().find(|other| {
            other.hosts.contains_key(&host.name) && other.zone().is_some_and(|elsewhere| elsewhere != zone)
        });
        if let Some(other) = other {
            let message = format!("Host already in availability zone {}.", other.zone().unwrap_or_default());
            return Err(Error::conflict("InvalidAggregateAction", message));
        }
        move_host(&mut tx, &host, zone).await?;
    }
    aggregates::add_host(&mut tx, aggregate.number, &host.id).await?;
    answer(cx, tx, aggregate.number).await
}

/// `remove_host`.
pub async fn remove_host(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let HostName { host } = cx.json_in("remove_host")?;
    let state: &State = cx.state()?;
    let mut tx = cx.db().begin().await?;
    let aggregate = find(&mut tx, cx.param("id")).await?;
    let id = aggregate.hosts.get(&host).cloned().ok_or_else(|| {
        Error::not_found("AggregateHostNotFound", format!("Aggregate {} has no host {host}.", aggregate.number))
    })?;
    aggregates::remove_host(&mut tx, aggregate.number, &id).await?;
    if aggregate.zone().is_some() {
        let others = aggregates::list(&mut tx).await?;
        let zone = others.iter().filter(|other| other.hosts.contains_key(&host)).find_map(Aggregate::zone);
        let zone = zone.unwrap_or(&state.config.zone).to_owned();
        let row = find_host(&mut tx, &host).await?;
        move_host(&mut tx, &row, &zone).await?;
    }
    answer(cx, tx, aggregate.number).await
}

/// `set_metadata`: null removes a key.
pub async fn set_metadata(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SetMetadata {
        metadata: Map<String, Value>,
    }
    cx.authorize(&Target::none())?;
    let SetMetadata { metadata } = cx.json_in("set_metadata")?;
    let mut tx = cx.db().begin().await?;
    let aggregate = find(&mut tx, cx.param("id")).await?;
    merge(cx, &mut tx, &aggregate, metadata).await?;
    answer(cx, tx, aggregate.number).await
}

/// `POST /v2.1/os-aggregates/{id}/images`: hosts fetch images when a server needs them, which is soon enough.
pub async fn cache_images(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    find(&mut *cx.db().read().await?, cx.param("id")).await?;
    Err(Error::unsupported("NotSupported", "Hosts cache images by themselves, when the first server needs one."))
}

/// Changes metadata, and the zone of hosts with it.
async fn merge(cx: &Cx, tx: &mut Tx, aggregate: &Aggregate, changes: Map<String, Value>) -> Result<()> {
    let state: &State = cx.state()?;
    let mut metadata = aggregate.metadata.clone();
    for (name, value) in changes {
        let long = |text: &str| text.chars().count() > 255;
        if name.is_empty() || long(&name) {
            return Err(invalid("Invalid input for field/attribute metadata: a key has 1 to 255 characters."));
        }
        match value {
            Value::Null => {
                metadata.remove(&name);
            }
            Value::String(text) if !long(&text) => {
                let text = if name == ZONE { check_zone(text)? } else { text };
                metadata.insert(name, text);
            }
            _ => return Err(invalid("Invalid input for field/attribute metadata: a value is text of 255 characters.")),
        }
    }
    let zone = metadata.get(ZONE).cloned();
    if zone.as_deref() != aggregate.zone() {
        for name in aggregate.hosts.keys() {
            let host = find_host(tx, name).await?;
            move_host(tx, &host, zone.as_deref().unwrap_or(&state.config.zone)).await?;
        }
    }
    Ok(aggregates::set_metadata(tx, aggregate.number, &metadata).await?)
}

/// Puts a host into a zone; not while servers are on it that were promised another.
async fn move_host(tx: &mut Tx, host: &Host, zone: &str) -> Result<()> {
    if host.zone == zone {
        return Ok(());
    }
    if aggregates::is_in_use(tx, &host.id).await? {
        let message = format!("Host {} has servers: it can't change its availability zone.", host.name);
        return Err(Error::conflict("InvalidAggregateAction", message));
    }
    Ok(aggregates::set_zone(tx, &host.id, zone).await?)
}

async fn answer(cx: &Cx, mut tx: Tx, number: i64) -> Result<Reply> {
    let aggregate = find(&mut tx, &number.to_string()).await?;
    tx.commit().await?;
    Reply::ok(&json!({"aggregate": shape(cx, &aggregate)}))
}

async fn find(conn: &mut Conn, id: &str) -> Result<Aggregate> {
    let number: Option<i64> = id.parse().ok();
    let found = aggregates::list(conn).await?.into_iter().find(|aggregate| Some(aggregate.number) == number);
    found.ok_or_else(|| Error::not_found("AggregateNotFound", format!("Aggregate {id} could not be found.")))
}

async fn find_host(conn: &mut Conn, name: &str) -> Result<Host> {
    hosts::by_name(conn, name)
        .await?
        .ok_or_else(|| Error::not_found("ComputeHostNotFound", format!("Compute host {name} could not be found.")))
}

fn check_zone(zone: String) -> Result<String> {
    check_name("availability_zone", &zone)?;
    if zone.contains(':') {
        return Err(invalid("Invalid input for availability_zone: it has no colon."));
    }
    Ok(zone)
}

fn taken(error: store::Error, name: &str) -> Error {
    if error.is_unique_violation() {
        return Error::conflict("AggregateNameExists", format!("Aggregate {name} already exists."));
    }
    error.into()
}

fn shape(cx: &Cx, aggregate: &Aggregate) -> Value {
    let mut shown = json!({
        "id": aggregate.number, "name": aggregate.name, "availability_zone": aggregate.zone(),
        "hosts": aggregate.hosts.keys().collect::<Vec<_>>(), "metadata": aggregate.metadata,
        "created_at": aggregate.created_at.to_micros_naive(),
        "updated_at": aggregate.updated_at.map(|at| at.to_micros_naive()), "deleted": false, "deleted_at": null,
    });
    if cx.version >= Version(2, 41) {
        shown["uuid"] = json!(aggregate.id);
    }
    shown
}
