//! Placement's view of the cloud: hosts and what servers claim of them, as `store::compute` holds them, and beside them
//! what only Placement's clients know (tables `placement_*`): providers, classes, traits and consumers of their own.
//!
//! There is no second truth: a host is a provider, its facts are its inventory, and an allocation of its processors,
//! memory or disk is a row of `allocations`, whoever made it. Writers hold [`crate::compute::allocations::lock`].

mod write;

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;

use crate::{Conn, Error, Result, Row, RowExt, compute::allocations::Ratios, query};

pub use write::{
    claim, delete_class, delete_inventories, delete_provider, delete_trait, insert_class, insert_provider,
    insert_trait, put_inventory, set_aggregates, set_traits, update_provider, use_generation,
};

/// What hosts have of themselves: the classes of the three columns of `allocations`.
pub const OF_HOSTS: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

/// So much of a class, and how it may be taken.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "as Placement's API names them")]
pub struct Inventory {
    pub total: i64,
    pub reserved: i64,
    pub min_unit: i64,
    pub max_unit: i64,
    pub step_size: i64,
    pub ratio: f64,
    /// What is allocated of it.
    pub used: i64,
}

impl Inventory {
    /// What may be allocated in all.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as Placement computes it")]
    pub fn capacity(&self) -> i64 {
        ((self.total - self.reserved) as f64 * self.ratio) as i64
    }

    /// Whether so much can be taken of it, besides what is used.
    pub fn fits(&self, amount: i64) -> bool {
        self.is_unit(amount) && self.used.saturating_add(amount) <= self.capacity()
    }

    /// Whether so much can be taken of it by anyone at once.
    pub fn is_unit(&self, amount: i64) -> bool {
        amount >= self.min_unit && amount <= self.max_unit && amount % self.step_size == 0
    }
}

/// A resource provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The provider that it is a part of.
    pub parent: Option<String>,
    /// Grows with each change.
    pub generation: i64,
    /// It is a host: compute's.
    pub is_host: bool,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What it has, by class.
    pub inventories: BTreeMap<String, Inventory>,
    /// Its traits.
    pub traits: BTreeSet<String>,
    /// Its aggregates.
    pub aggregates: BTreeSet<String>,
}

/// Who holds allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its id.
    pub id: String,
    /// The project.
    pub project_id: String,
    /// The user.
    pub user_id: String,
    /// `INSTANCE`...
    pub kind: String,
    /// Changes with each change of its allocations.
    pub generation: i64,
    /// It is a server: compute's.
    pub is_server: bool,
}

/// So much of a provider's class, held by a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By whom.
    pub consumer: String,
    /// Of whom.
    pub provider: String,
    /// Of what.
    pub class: String,
    /// How much.
    pub used: i64,
}

/// Providers by their ids: all of them, or one.
pub async fn load(conn: &mut Conn, ratios: Ratios, only: Option<&str>) -> Result<BTreeMap<String, Provider>> {
    let only = only.unwrap_or_default();
    let mut all = BTreeMap::new();
    let hosts = query("select * from hosts where forgotten_at is null and ($1 = '' or id = $1)");
    for row in hosts.bind(only).fetch_all(&mut *conn).await? {
        let host = of_host(&row, ratios)?;
        all.insert(host.id.clone(), host);
    }
    let others = query("select * from placement_providers where $1 = '' or id = $1");
    for row in others.bind(only).fetch_all(&mut *conn).await? {
        let provider = Provider {
            id: row.text("id")?,
            name: row.text("name")?,
            parent: row.opt_text("parent_id")?,
            generation: row.int("generation")?,
            is_host: false,
            updated_at: row.time("updated_at")?,
            inventories: BTreeMap::new(),
            traits: BTreeSet::new(),
            aggregates: BTreeSet::new(),
        };
        all.insert(provider.id.clone(), provider);
    }
    add_inventories(conn, only, &mut all).await?;
    add_usages(conn, only, &mut all).await?;
    let traits = query("select * from placement_traits where provider_id <> '' and ($1 = '' or provider_id = $1)");
    for row in traits.bind(only).fetch_all(&mut *conn).await? {
        if let Some(provider) = all.get_mut(&row.text("provider_id")?) {
            provider.traits.insert(row.text("trait")?);
        }
    }
    let aggregates = query("select * from placement_aggregates where $1 = '' or provider_id = $1");
    for row in aggregates.bind(only).fetch_all(&mut *conn).await? {
        if let Some(provider) = all.get_mut(&row.text("provider_id")?) {
            provider.aggregates.insert(row.text("aggregate")?);
        }
    }
    Ok(all)
}

#[allow(clippy::cast_precision_loss, reason = "ratios are small numbers")]
fn of_host(row: &Row, ratios: Ratios) -> Result<Provider> {
    let inventory = |total: i64, percent: i64| Inventory {
        total,
        reserved: 0,
        min_unit: 1,
        // As compute has it: a server may have more processors than the host, as long as the ratio lets it.
        max_unit: (total.saturating_mul(percent) / 100).max(1),
        step_size: 1,
        ratio: percent as f64 / 100.0,
        used: 0,
    };
    let has = [
        ("VCPU", row.int("vcpus")?, ratios.vcpus),
        ("MEMORY_MB", row.int("memory_mib")?, ratios.memory),
        ("DISK_GB", row.int("disk_gib")?, ratios.disk),
    ];
    let has = has.into_iter().filter(|(_, total, _)| *total > 0);
    Ok(Provider {
        id: row.text("id")?,
        name: row.text("name")?,
        parent: None,
        generation: row.int("generation")?,
        is_host: true,
        updated_at: row.time("updated_at")?,
        inventories: has.map(|(class, total, ratio)| (class.to_owned(), inventory(total, ratio))).collect(),
        traits: if row.flag("enabled")? { BTreeSet::new() } else { ["COMPUTE_STATUS_DISABLED".to_owned()].into() },
        aggregates: BTreeSet::new(),
    })
}

async fn add_inventories(conn: &mut Conn, only: &str, all: &mut BTreeMap<String, Provider>) -> Result<()> {
    let rows = query("select * from placement_inventories where $1 = '' or provider_id = $1");
    for row in rows.bind(only).fetch_all(conn).await? {
        let Some(provider) = all.get_mut(&row.text("provider_id")?) else { continue };
        let ratio = row.text("ratio")?;
        let unreadable =
            |e: std::num::ParseFloatError| Error::Column { column: "ratio".to_owned(), reason: e.to_string() };
        let inventory = Inventory {
            total: row.int("total")?,
            reserved: row.int("reserved")?,
            min_unit: row.int("min_unit")?,
            max_unit: row.int("max_unit")?,
            step_size: row.int("step_size")?,
            ratio: ratio.parse().map_err(unreadable)?,
            used: 0,
        };
        provider.inventories.insert(row.text("resource_class")?, inventory);
    }
    Ok(())
}

async fn add_usages(conn: &mut Conn, only: &str, all: &mut BTreeMap<String, Provider>) -> Result<()> {
    let mut add = |provider: &str, class: &str, used: i64| {
        if let Some(inventory) = all.get_mut(provider).and_then(|p| p.inventories.get_mut(class)) {
            inventory.used += used;
        }
    };
    let claims = query(
        "select host_id, cast(sum(vcpus) as bigint) as vcpus, cast(sum(memory_mib) as bigint) as memory_mib, \
         cast(sum(disk_gib) as bigint) as disk_gib from allocations where $1 = '' or host_id = $1 group by host_id",
    );
    for row in claims.bind(only).fetch_all(&mut *conn).await? {
        let host = row.text("host_id")?;
        for (class, column) in OF_HOSTS.into_iter().zip(["vcpus", "memory_mib", "disk_gib"]) {
            add(&host, class, row.int(column)?);
        }
    }
    let others = query(
        "select provider_id, resource_class, cast(sum(used) as bigint) as used from placement_allocations \
         where $1 = '' or provider_id = $1 group by provider_id, resource_class",
    );
    for row in others.bind(only).fetch_all(conn).await? {
        add(&row.text("provider_id")?, &row.text("resource_class")?, row.int("used")?);
    }
    Ok(())
}

/// What a consumer holds.
pub async fn held_by(conn: &mut Conn, consumer: &str) -> Result<Vec<Held>> {
    let claims = query("select * from allocations where server_id = $1").bind(consumer).fetch_all(&mut *conn).await?;
    let others =
        query("select * from placement_allocations where consumer_id = $1").bind(consumer).fetch_all(conn).await?;
    held(&claims, &others)
}

/// What is held of a provider.
pub async fn held_of(conn: &mut Conn, provider: &str) -> Result<Vec<Held>> {
    let claims = query("select * from allocations where host_id = $1 order by server_id")
        .bind(provider)
        .fetch_all(&mut *conn)
        .await?;
    let others = query("select * from placement_allocations where provider_id = $1 order by consumer_id")
        .bind(provider)
        .fetch_all(conn)
        .await?;
    held(&claims, &others)
}

fn held(claims: &[Row], others: &[Row]) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    for row in claims {
        for (class, column) in OF_HOSTS.into_iter().zip(["vcpus", "memory_mib", "disk_gib"]) {
            let used = row.int(column)?;
            if used > 0 {
                let (consumer, provider) = (row.text("server_id")?, row.text("host_id")?);
                all.push(Held { consumer, provider, class: class.to_owned(), used });
            }
        }
    }
    for row in others {
        all.push(Held {
            consumer: row.text("consumer_id")?,
            provider: row.text("provider_id")?,
            class: row.text("resource_class")?,
            used: row.int("used")?,
        });
    }
    Ok(all)
}

/// The union of both kinds of consumers. A server's claim is a new row whenever it changes: the moment tells one from
/// the next.
const CONSUMERS: &str = "select * from (select id, project_id, user_id, kind, generation, cast(0 as bigint) as is_server \
     from placement_consumers union all select s.id, s.project_id, s.user_id, 'INSTANCE' as kind, \
     a.created_at as generation, cast(1 as bigint) as is_server from servers s join allocations a on a.server_id = s.id) c";

/// Who that is; none for one that holds nothing.
pub async fn consumer(conn: &mut Conn, id: &str) -> Result<Option<Consumer>> {
    let sql = format!("{CONSUMERS} where c.id = $1");
    let row = query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(conn).await?;
    row.as_ref().map(of_consumer).transpose()
}

/// The consumers that hold something of a provider.
pub async fn consumers_of(conn: &mut Conn, provider: &str) -> Result<Vec<Consumer>> {
    let sql = format!(
        "{CONSUMERS} where c.id in (select server_id from allocations where host_id = $1 union all \
         select consumer_id from placement_allocations where provider_id = $1)"
    );
    let rows = query(sqlx::AssertSqlSafe(sql)).bind(provider).fetch_all(conn).await?;
    rows.iter().map(of_consumer).collect()
}

/// The consumers of a project, or of one of its users.
pub async fn consumers_in(conn: &mut Conn, project: &str, user: Option<&str>) -> Result<Vec<Consumer>> {
    let sql = format!("{CONSUMERS} where c.project_id = $1 and ($2 = '' or c.user_id = $2) order by c.id");
    let rows = query(sqlx::AssertSqlSafe(sql)).bind(project).bind(user.unwrap_or_default()).fetch_all(conn).await?;
    rows.iter().map(of_consumer).collect()
}

/// What a project, or one of its users, holds: kind of consumer, class, amount.
pub async fn usages_in(conn: &mut Conn, project: &str, user: Option<&str>) -> Result<Vec<(String, String, i64)>> {
    let mut all = Vec::new();
    let claims = "select 'INSTANCE' as kind, cast(coalesce(sum(a.vcpus), 0) as bigint) as vcpus, \
        cast(coalesce(sum(a.memory_mib), 0) as bigint) as memory_mib, cast(coalesce(sum(a.disk_gib), 0) as bigint) as \
        disk_gib from allocations a join servers s on s.id = a.server_id where s.project_id = $1 and ($2 = '' or s.user_id = $2)";
    let kinds = "select c.kind as kind, cast(coalesce(sum(a.vcpus), 0) as bigint) as vcpus, \
        cast(coalesce(sum(a.memory_mib), 0) as bigint) as memory_mib, cast(coalesce(sum(a.disk_gib), 0) as bigint) as \
        disk_gib from allocations a join placement_consumers c on c.id = a.server_id \
        where c.project_id = $1 and ($2 = '' or c.user_id = $2) group by c.kind";
    for sql in [claims, kinds] {
        for row in query(sql).bind(project).bind(user.unwrap_or_default()).fetch_all(&mut *conn).await? {
            for (class, column) in OF_HOSTS.into_iter().zip(["vcpus", "memory_mib", "disk_gib"]) {
                all.push((row.text("kind")?, class.to_owned(), row.int(column)?));
            }
        }
    }
    let others = "select c.kind, a.resource_class, cast(sum(a.used) as bigint) as used from placement_allocations a \
        join placement_consumers c on c.id = a.consumer_id where c.project_id = $1 and ($2 = '' or c.user_id = $2) \
        group by c.kind, a.resource_class";
    for row in query(others).bind(project).bind(user.unwrap_or_default()).fetch_all(conn).await? {
        all.push((row.text("kind")?, row.text("resource_class")?, row.int("used")?));
    }
    Ok(all.into_iter().filter(|(_, _, used)| *used > 0).collect())
}

fn of_consumer(row: &Row) -> Result<Consumer> {
    Ok(Consumer {
        id: row.text("id")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        kind: row.text("kind")?,
        generation: row.int("generation")?,
        is_server: row.flag("is_server")?,
    })
}

/// Every trait that clients made or gave to a provider, and whether any provider has it.
pub async fn traits(conn: &mut Conn) -> Result<BTreeMap<String, bool>> {
    let rows = query(
        "select trait, cast(max(case when provider_id = '' then 0 else 1 end) as bigint) as used \
         from placement_traits group by trait",
    );
    rows.fetch_all(conn).await?.iter().map(|row| Ok((row.text("trait")?, row.flag("used")?))).collect()
}

/// Every class that clients made.
pub async fn classes(conn: &mut Conn) -> Result<BTreeSet<String>> {
    let rows = query("select name from placement_classes").fetch_all(conn).await?;
    rows.iter().map(|row| row.text("name")).collect()
}

/// Whether any provider has an inventory of the class.
pub async fn class_is_used(conn: &mut Conn, name: &str) -> Result<bool> {
    let row = query("select 1 as used from placement_inventories where resource_class = $1 limit 1");
    Ok(row.bind(name).fetch_optional(conn).await?.is_some())
}
