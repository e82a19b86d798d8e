//! Tables `trunks` and `trunk_subports`: ports that carry other ports' packets, told apart by VLAN tags.

use std::collections::HashMap;

use model::{Error, id::PortId};

use super::{
    plain::{self, Column, Plain, Standard},
    ports,
    rows::{self, Table},
};
use crate::{Conn, Result, Row, RowExt, Tx, flows, list::Select, query};

/// `device_owner` of a port that a trunk carries.
pub const OWNER_SUBPORT: &str = "trunk:subport";

/// A trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// What all such tables have.
    pub standard: Standard,
    /// The port that carries the others.
    pub port_id: PortId,
    /// Whether subports may come and go.
    pub admin_state_up: bool,
}

impl Plain for Trunk {
    const TABLE: &'static str = "trunks";
    const SELECT: &'static str = "select r.* from trunks r";
    const FROM: &'static str = "trunks r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self { standard, port_id: row.id("port_id")?, admin_state_up: row.flag("admin_state_up")? })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![("port_id", self.port_id.as_str().into()), ("admin_state_up", self.admin_state_up.into())]
    }
}

/// A port that a trunk carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subport {
    /// The port.
    pub port_id: PortId,
    /// The trunk.
    pub trunk_id: String,
    /// The VLAN tag of its packets on the trunk's port.
    pub segmentation_id: i64,
}

impl Subport {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            port_id: row.id("port_id")?,
            trunk_id: row.text("trunk_id")?,
            segmentation_id: row.int("segmentation_id")?,
        })
    }
}

/// The subports of several trunks, by trunk.
pub async fn subports(conn: &mut Conn, trunks: &[&str]) -> Result<HashMap<String, Vec<Subport>>> {
    let mut select = Select::new("select s.* from trunk_subports s", "trunk_subports s", "s.port_id");
    select.any_of("s.trunk_id", trunks.iter().map(|id| (*id).into()));
    let mut found: HashMap<String, Vec<Subport>> = HashMap::new();
    for row in select.all(conn, "s.trunk_id, s.segmentation_id").await? {
        let subport = Subport::from_row(&row)?;
        found.entry(subport.trunk_id.clone()).or_default().push(subport);
    }
    Ok(found)
}

/// The trunks of these ports.
pub async fn of_ports(conn: &mut Conn, ports: &[&PortId]) -> Result<Vec<Trunk>> {
    let mut select = plain::select::<Trunk>(&super::Viewer::Admin);
    select.any_of("r.port_id", ports.iter().map(|id| (*id).into()));
    plain::all(conn, select).await
}

/// What carries a port: the trunk's port, and the tag.
pub async fn carrier(conn: &mut Conn, port: &PortId) -> Result<Option<(PortId, i64)>> {
    let row = query(
        "select t.port_id, s.segmentation_id from trunk_subports s join trunks t on t.id = s.trunk_id where s.port_id = $1",
    )
    .bind(port.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.id("port_id")?, row.int("segmentation_id")?))).transpose()
}

/// Whether the port is a trunk's, or is carried by one.
pub async fn has(conn: &mut Conn, port: &PortId) -> Result<bool> {
    let row = query(
        "select id from trunks where port_id = $1 union all select trunk_id as id from trunk_subports where port_id = $1",
    )
    .bind(port.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Lets a locked trunk carry a port.
///
/// # Errors
/// `PortNotFound`; `PortInUse`; `TrunkPortInUse`-like conflicts; a tag that another one has.
pub async fn add_subport(tx: &mut Tx, trunk: &Trunk, port: &PortId, tag: i64) -> Result<(), Error> {
    let found = ports::lock(tx, port).await?;
    if has(tx, port).await? {
        return Err(Error::conflict(
            "PortInUseAsTrunkParent",
            format!("Port {port} is currently a trunk's port or subport."),
        ));
    }
    if !found.device_id.is_empty() {
        return Err(Error::conflict("PortInUse", format!("Port {port} is in use by device {}.", found.device_id)));
    }
    let added = query("insert into trunk_subports (port_id, trunk_id, segmentation_id) values ($1, $2, $3)")
        .bind(port.as_str())
        .bind(trunk.standard.id.as_str())
        .bind(tag)
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from);
    match added {
        Err(error) if error.is_unique_violation() => {
            return Err(Error::bad_request(
                "DuplicateSubPort",
                format!(
                    "segmentation_type vlan and segmentation_id {tag} already in use on trunk {}.",
                    trunk.standard.id
                ),
            ));
        }
        other => other?,
    };
    let device_id = trunk.standard.id.clone();
    ports::update(tx, &ports::Port { device_owner: OWNER_SUBPORT.to_owned(), device_id, ..found }).await?;
    let parent = ports::get(tx, &trunk.port_id).await?;
    if parent.is_some_and(|parent| parent.active) {
        ports::set_active(tx, port, true).await?;
    }
    Ok(())
}

/// Takes a port from a trunk.
pub async fn remove_subport(tx: &mut Tx, port: &PortId) -> Result<(), Error> {
    query("delete from trunk_subports where port_id = $1")
        .bind(port.as_str())
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    ports::unbind(tx, port).await
}

/// Records of the subports what holds of the port that carries them.
pub(super) async fn follow(tx: &mut Tx, parent: &PortId, active: bool) -> Result<()> {
    let rows = query("select s.port_id from trunk_subports s join trunks t on t.id = s.trunk_id where t.port_id = $1")
        .bind(parent.as_str())
        .fetch_all(&mut **tx)
        .await?;
    for row in &rows {
        query(
            "update ports set active = $2, \
             status = case when $2 = 1 and admin_state_up = 1 and realized_revision > 0 then 'ACTIVE' else 'DOWN' end \
             where id = $1 and deleted_at is null",
        )
        .bind(row.text("port_id")?)
        .bind(i64::from(active))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Raises a trunk's revision and wakes its port.
pub async fn touch(tx: &mut Tx, trunk: &mut Trunk) -> Result<()> {
    plain::update(tx, trunk).await?;
    rows::touch(tx, Table::Ports, trunk.port_id.as_str()).await?;
    flows::wake(tx, &trunk.port_id);
    Ok(())
}
