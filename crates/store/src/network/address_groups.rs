//! Table `address_groups`: lists of ranges that security group rules name.

use ipnet::IpNet;

use super::{
    json,
    plain::{Column, Plain, Standard},
    rows::{self, Table},
};
use crate::{Conn, Result, Row, RowExt, Tx, list::Select, query};

/// A list of ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressGroup {
    /// What all such tables have.
    pub standard: Standard,
    /// Its ranges.
    pub addresses: Vec<IpNet>,
}

impl Plain for AddressGroup {
    const TABLE: &'static str = "address_groups";
    const SELECT: &'static str = "select r.* from address_groups r";
    const FROM: &'static str = "address_groups r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self { standard, addresses: row.json("addresses")? })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![("addresses", json(&self.addresses).into())]
    }
}

/// Several of them, by id.
pub async fn by_ids(conn: &mut Conn, ids: &[&str]) -> Result<Vec<AddressGroup>> {
    let mut select: Select = super::plain::select::<AddressGroup>(&super::Viewer::Admin);
    select.any_of("r.id", ids.iter().map(|id| (*id).into()));
    super::plain::all(conn, select).await
}

/// Whether a rule names it.
pub async fn is_used(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query("select 1 as used from security_group_rules where remote_address_group_id = $1 limit 1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Raises the revision of the security groups whose rules name it, and wakes their flows: what they permit has changed.
pub async fn touch_users(tx: &mut Tx, id: &str) -> Result<()> {
    let rows = query("select distinct security_group_id from security_group_rules where remote_address_group_id = $1")
        .bind(id)
        .fetch_all(&mut **tx)
        .await?;
    for row in &rows {
        rows::touch(tx, Table::SecurityGroups, &row.text("security_group_id")?).await?;
    }
    Ok(())
}
