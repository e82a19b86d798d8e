//! Tables `flavors` and `flavor_access`.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    id::{FlavorId, ProjectId},
};

use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Page, Select, SortKey, Type},
    query,
};

/// What flavors may be sorted by. Nova's names; `id` is the number that its database has and ours has not.
pub const SORTS: &[SortKey] = &[
    SortKey { name: "flavorid", sql: "f.id", kind: Type::Text },
    SortKey { name: "id", sql: "f.id", kind: Type::Text },
    SortKey { name: "name", sql: "f.name", kind: Type::Text },
    SortKey { name: "description", sql: "coalesce(f.description, '')", kind: Type::Text },
    SortKey { name: "memory_mb", sql: "f.memory_mib", kind: Type::Int },
    SortKey { name: "root_gb", sql: "f.disk_gib", kind: Type::Int },
    SortKey { name: "ephemeral_gb", sql: "f.ephemeral_gib", kind: Type::Int },
    SortKey { name: "swap", sql: "f.swap_mib", kind: Type::Int },
    SortKey { name: "vcpus", sql: "f.vcpus", kind: Type::Int },
    SortKey { name: "rxtx_factor", sql: "f.rxtx_factor", kind: Type::Text },
    SortKey { name: "is_public", sql: "f.is_public", kind: Type::Int },
    SortKey { name: "disabled", sql: "f.disabled", kind: Type::Int },
    SortKey { name: "created_at", sql: "f.created_at", kind: Type::Int },
    SortKey { name: "updated_at", sql: "f.updated_at", kind: Type::Int },
];

/// A size that servers come in.
#[derive(Clone, Debug, PartialEq)]
pub struct Flavor {
    /// Its id, as users see it: `42`.
    pub id: FlavorId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory.
    pub memory_mib: i64,
    /// Root disk; 0: as large as the image.
    pub disk_gib: i64,
    /// Further empty disk.
    pub ephemeral_gib: i64,
    /// Swap.
    pub swap_mib: i64,
    /// Shown, of no effect.
    pub rxtx_factor: String,
    /// Whether every project may use it.
    pub is_public: bool,
    /// Whether it is out of use.
    pub disabled: bool,
    /// Extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

impl Flavor {
    /// A public flavor.
    pub fn new(id: &str, name: &str, vcpus: i64, memory_mib: i64, disk_gib: i64, now: Timestamp) -> Self {
        Self {
            id: FlavorId::new(id),
            name: name.to_owned(),
            description: None,
            vcpus,
            memory_mib,
            disk_gib,
            ephemeral_gib: 0,
            swap_mib: 0,
            rxtx_factor: "1.0".to_owned(),
            is_public: true,
            disabled: false,
            extra_specs: BTreeMap::new(),
            created_at: now,
            updated_at: now,
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            name: row.text("name")?,
            description: row.opt_text("description")?,
            vcpus: row.int("vcpus")?,
            memory_mib: row.int("memory_mib")?,
            disk_gib: row.int("disk_gib")?,
            ephemeral_gib: row.int("ephemeral_gib")?,
            swap_mib: row.int("swap_mib")?,
            rxtx_factor: row.text("rxtx_factor")?,
            is_public: row.flag("is_public")?,
            disabled: row.flag("disabled")?,
            extra_specs: row.json("extra_specs")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

/// Which flavors a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Public ones or the others; none: both.
    pub is_public: Option<bool>,
    /// Besides the public ones, those that this project was given access to.
    pub accessible_to: Option<ProjectId>,
    /// Those that are in use.
    pub enabled_only: bool,
    /// Memory at the least.
    pub memory_mib_min: Option<i64>,
    /// Root disk at the least.
    pub disk_gib_min: Option<i64>,
}

/// One page.
pub async fn list(conn: &mut Conn, filter: &Filter, page: &Page) -> Result<Vec<Flavor>> {
    let mut select = Select::new("select f.* from flavors f", "flavors f", "f.id");
    match (filter.is_public, &filter.accessible_to) {
        (Some(true), Some(project)) => {
            let accessible = "(f.is_public = 1 or f.id in (select flavor_id from flavor_access where project_id = ?))";
            select.filter(accessible, [project.into()]);
        }
        (Some(public), _) => {
            select.equal("f.is_public", public);
        }
        (None, _) => {}
    }
    if filter.enabled_only {
        select.equal("f.disabled", 0);
    }
    if let Some(memory_mib) = filter.memory_mib_min {
        select.filter("f.memory_mib >= ?", [memory_mib.into()]);
    }
    if let Some(disk_gib) = filter.disk_gib_min {
        select.filter("f.disk_gib >= ?", [disk_gib.into()]);
    }
    select.page(conn, page).await?.iter().map(Flavor::from_row).collect()
}

/// One flavor, whoever may use it.
pub async fn get(conn: &mut Conn, id: &FlavorId) -> Result<Option<Flavor>> {
    let row = query("select * from flavors where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(Flavor::from_row).transpose()
}

/// Whether the project was given access to a flavor that is not public.
pub async fn has_access(conn: &mut Conn, id: &FlavorId, project: &ProjectId) -> Result<bool> {
    let row = query("select 1 as found from flavor_access where flavor_id = $1 and project_id = $2")
        .bind(id.as_str())
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// How many there are.
pub async fn count(conn: &mut Conn) -> Result<i64> {
    query("select count(*) as flavors from flavors").fetch_one(conn).await?.int("flavors")
}

/// Adds a flavor. A taken id or name is a unique violation.
pub async fn insert(tx: &mut Tx, flavor: &Flavor) -> Result<()> {
    query(
        "insert into flavors (id, name, description, vcpus, memory_mib, disk_gib, ephemeral_gib, swap_mib, rxtx_factor, \
         is_public, disabled, extra_specs, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(flavor.id.as_str())
    .bind(flavor.name.as_str())
    .bind(flavor.description.as_deref())
    .bind(flavor.vcpus)
    .bind(flavor.memory_mib)
    .bind(flavor.disk_gib)
    .bind(flavor.ephemeral_gib)
    .bind(flavor.swap_mib)
    .bind(flavor.rxtx_factor.as_str())
    .bind(i64::from(flavor.is_public))
    .bind(i64::from(flavor.disabled))
    .bind(super::json(&flavor.extra_specs))
    .bind(flavor.created_at.0)
    .bind(flavor.updated_at.0)
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::FLAVOR, &flavor.id);
    Ok(())
}

/// Holds the flavor against other changes until the transaction ends, and notes when it was changed. None: it is gone.
pub async fn get_for_update(tx: &mut Tx, id: &FlavorId) -> Result<Option<Flavor>> {
    let now = tx.now();
    query("update flavors set updated_at = $2 where id = $1").bind(id.as_str()).bind(now.0).execute(&mut **tx).await?;
    get(tx, id).await
}

/// Writes what can be changed of a flavor: its description and its extra specs.
pub async fn update(tx: &mut Tx, flavor: &Flavor) -> Result<()> {
    query("update flavors set description = $2, extra_specs = $3 where id = $1")
        .bind(flavor.id.as_str())
        .bind(flavor.description.as_deref())
        .bind(super::json(&flavor.extra_specs))
        .execute(&mut **tx)
        .await?;
    events::updated(tx, events::FLAVOR, &flavor.id);
    Ok(())
}

/// Removes it. Servers keep the copy that they were made with. Whether it was there.
pub async fn delete(tx: &mut Tx, id: &FlavorId) -> Result<bool> {
    events::deleted(tx, events::FLAVOR, id).await?;
    let done = query("delete from flavors where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(done.rows_affected() > 0)
}

/// The projects that were given access.
pub async fn list_access(conn: &mut Conn, id: &FlavorId) -> Result<Vec<ProjectId>> {
    let rows = query("select project_id from flavor_access where flavor_id = $1 order by project_id")
        .bind(id.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.id("project_id")).collect()
}

/// Gives a project access. False: it had it already.
pub async fn insert_access(tx: &mut Tx, id: &FlavorId, project: &ProjectId) -> Result<bool> {
    events::updated(tx, events::FLAVOR, id);
    let done = query("insert into flavor_access (flavor_id, project_id) values ($1, $2) on conflict do nothing")
        .bind(id.as_str())
        .bind(project.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes a project's access. False: it had none.
pub async fn delete_access(tx: &mut Tx, id: &FlavorId, project: &ProjectId) -> Result<bool> {
    events::updated(tx, events::FLAVOR, id);
    let done = query("delete from flavor_access where flavor_id = $1 and project_id = $2")
        .bind(id.as_str())
        .bind(project.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
