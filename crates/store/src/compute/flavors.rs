//! Tables `flavors` and `flavor_access`.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    id::{FlavorId, ProjectId},
};

use crate::{Conn, Result, Row, RowExt, Tx, query};

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
    Ok(())
}
