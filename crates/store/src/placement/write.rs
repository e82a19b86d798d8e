//! Changes of Placement's rows.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{HostId, ServerId};

use super::{Consumer, Held, Inventory, OF_HOSTS, Provider, held_by};
use crate::{
    Result, Tx,
    compute::allocations::{self, Allocation},
    query,
};

/// Inserts a provider. A taken id or name is a unique violation.
pub async fn insert_provider(tx: &mut Tx, id: &str, name: &str, parent: Option<&str>) -> Result<()> {
    let now = tx.now();
    query("insert into placement_providers (id, name, parent_id, created_at, updated_at) values ($1, $2, $3, $4, $4)")
        .bind(id)
        .bind(name)
        .bind(parent)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes a provider's name and parent. A taken name is a unique violation.
pub async fn update_provider(tx: &mut Tx, id: &str, name: &str, parent: Option<&str>) -> Result<()> {
    let now = tx.now();
    query("update placement_providers set name = $2, parent_id = $3, updated_at = $4 where id = $1")
        .bind(id)
        .bind(name)
        .bind(parent)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a provider with what it has; nobody may hold anything of it.
pub async fn delete_provider(tx: &mut Tx, id: &str) -> Result<()> {
    for sql in [
        "delete from placement_inventories where provider_id = $1",
        "delete from placement_traits where provider_id = $1",
        "delete from placement_aggregates where provider_id = $1",
        "delete from placement_providers where id = $1",
    ] {
        query(sql).bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Raises a provider's generation if it is this one. False: somebody else was faster.
pub async fn use_generation(tx: &mut Tx, provider: &Provider, generation: i64) -> Result<bool> {
    let sql = if provider.is_host {
        "update hosts set generation = generation + 1 where id = $1 and generation = $2"
    } else {
        "update placement_providers set generation = generation + 1, updated_at = $3 where id = $1 and generation = $2"
    };
    let now = tx.now();
    let mut update = query(sql).bind(provider.id.as_str()).bind(generation);
    if !provider.is_host {
        update = update.bind(now.0);
    }
    Ok(update.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Writes how much of a class a provider has.
pub async fn put_inventory(tx: &mut Tx, provider: &str, class: &str, inventory: &Inventory) -> Result<()> {
    query(
        "insert into placement_inventories (provider_id, resource_class, total, reserved, min_unit, max_unit, step_size, \
         ratio) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (provider_id, resource_class) do update set \
         total = excluded.total, reserved = excluded.reserved, min_unit = excluded.min_unit, max_unit = excluded.max_unit, \
         step_size = excluded.step_size, ratio = excluded.ratio",
    )
    .bind(provider)
    .bind(class)
    .bind(inventory.total)
    .bind(inventory.reserved)
    .bind(inventory.min_unit)
    .bind(inventory.max_unit)
    .bind(inventory.step_size)
    .bind(inventory.ratio.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes what a provider has of a class, or of every class.
pub async fn delete_inventories(tx: &mut Tx, provider: &str, class: Option<&str>) -> Result<u64> {
    let done = query("delete from placement_inventories where provider_id = $1 and ($2 = '' or resource_class = $2)")
        .bind(provider)
        .bind(class.unwrap_or_default())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// Writes a provider's traits, all of them.
pub async fn set_traits(tx: &mut Tx, provider: &str, traits: &BTreeSet<String>) -> Result<()> {
    query("delete from placement_traits where provider_id = $1").bind(provider).execute(&mut **tx).await?;
    for name in traits {
        query("insert into placement_traits (provider_id, trait) values ($1, $2)")
            .bind(provider)
            .bind(name.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Writes a provider's aggregates, all of them.
pub async fn set_aggregates(tx: &mut Tx, provider: &str, aggregates: &BTreeSet<String>) -> Result<()> {
    query("delete from placement_aggregates where provider_id = $1").bind(provider).execute(&mut **tx).await?;
    for aggregate in aggregates {
        query("insert into placement_aggregates (provider_id, aggregate) values ($1, $2)")
            .bind(provider)
            .bind(aggregate.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Makes a trait. False: it was there.
pub async fn insert_trait(tx: &mut Tx, name: &str) -> Result<bool> {
    let done = query("insert into placement_traits (provider_id, trait) values ('', $1) on conflict do nothing")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes a trait that no provider has. False: there was none.
pub async fn delete_trait(tx: &mut Tx, name: &str) -> Result<bool> {
    let done = query("delete from placement_traits where provider_id = '' and trait = $1")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Makes a class. False: it was there.
pub async fn insert_class(tx: &mut Tx, name: &str) -> Result<bool> {
    let done = query("insert into placement_classes (name) values ($1) on conflict do nothing")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes a class. False: there was none.
pub async fn delete_class(tx: &mut Tx, name: &str) -> Result<bool> {
    let done = query("delete from placement_classes where name = $1").bind(name).execute(&mut **tx).await?;
    Ok(done.rows_affected() > 0)
}

/// Makes the consumer hold exactly this, of which nothing is a server's. Processors, memory and disks of hosts become a
/// claim as compute's: of one host only. Generations of all providers before and after grow.
pub async fn claim(
    tx: &mut Tx,
    consumer: &Consumer,
    wanted: &[Held],
    providers: &BTreeMap<String, Provider>,
) -> Result<()> {
    let before = held_by(tx, &consumer.id).await?;
    allocations::delete(tx, &ServerId::new(&*consumer.id)).await?;
    query("delete from placement_allocations where consumer_id = $1")
        .bind(consumer.id.as_str())
        .execute(&mut **tx)
        .await?;
    let is_host = |id: &str| providers.get(id).is_some_and(|provider| provider.is_host);
    let (of_hosts, others): (Vec<&Held>, Vec<&Held>) =
        wanted.iter().partition(|held| is_host(&held.provider) && OF_HOSTS.contains(&held.class.as_str()));
    if let Some(first) = of_hosts.first() {
        let amount = |class: &str| of_hosts.iter().filter(|held| held.class == class).map(|held| held.used).sum();
        let claim = Allocation {
            server_id: ServerId::new(&*consumer.id),
            host_id: HostId::new(&*first.provider),
            vcpus: amount("VCPU"),
            memory_mib: amount("MEMORY_MB"),
            disk_gib: amount("DISK_GB"),
        };
        allocations::insert(tx, &claim).await?;
    }
    for held in others {
        query("insert into placement_allocations (consumer_id, provider_id, resource_class, used) values ($1, $2, $3, $4)")
            .bind(consumer.id.as_str())
            .bind(held.provider.as_str())
            .bind(held.class.as_str())
            .bind(held.used)
            .execute(&mut **tx)
            .await?;
    }
    let touched: BTreeSet<&str> = before.iter().chain(wanted).map(|held| held.provider.as_str()).collect();
    for id in touched {
        for sql in [
            "update placement_providers set generation = generation + 1 where id = $1",
            "update hosts set generation = generation + 1 where id = $1",
        ] {
            query(sql).bind(id).execute(&mut **tx).await?;
        }
    }
    write_consumer(tx, consumer, wanted.is_empty()).await
}

async fn write_consumer(tx: &mut Tx, consumer: &Consumer, is_gone: bool) -> Result<()> {
    let now = tx.now();
    if is_gone {
        query("delete from placement_consumers where id = $1").bind(consumer.id.as_str()).execute(&mut **tx).await?;
        return Ok(());
    }
    query(
        "insert into placement_consumers (id, project_id, user_id, kind, generation, created_at, updated_at) \
         values ($1, $2, $3, $4, 1, $5, $5) on conflict (id) do update set project_id = excluded.project_id, \
         user_id = excluded.user_id, kind = excluded.kind, generation = placement_consumers.generation + 1, \
         updated_at = excluded.updated_at",
    )
    .bind(consumer.id.as_str())
    .bind(consumer.project_id.as_str())
    .bind(consumer.user_id.as_str())
    .bind(consumer.kind.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
