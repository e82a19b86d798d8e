//! Table `server_ports`: which ports a server has, in which order. The ports' own facts are in `ports`.

use model::id::{PortId, ServerId};

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPort {
    /// The port.
    pub port_id: PortId,
    /// Its place among the server's.
    pub position: i64,
    /// It was made for the server, so it goes with it.
    pub ours: bool,
    /// The user's tag of the interface.
    pub tag: Option<String>,
    /// It is to be unplugged.
    pub detach: bool,
}

impl ServerPort {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            port_id: row.id("port_id")?,
            position: row.int("position")?,
            ours: row.flag("ours")?,
            tag: row.opt_text("tag")?,
            detach: row.flag("detach")?,
        })
    }
}

/// A server's interfaces in their order, also those that are to be unplugged.
pub async fn list(conn: &mut Conn, server: &ServerId) -> Result<Vec<ServerPort>> {
    let rows = query("select * from server_ports where server_id = $1 order by position, port_id")
        .bind(server.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(ServerPort::from_row).collect()
}

/// Adds an interface.
pub async fn insert(tx: &mut Tx, server: &ServerId, port: &ServerPort) -> Result<()> {
    query("insert into server_ports (server_id, port_id, position, ours, tag, detach) values ($1, $2, $3, $4, $5, $6)")
        .bind(server.as_str())
        .bind(port.port_id.as_str())
        .bind(port.position)
        .bind(i64::from(port.ours))
        .bind(port.tag.as_deref())
        .bind(i64::from(port.detach))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Marks an interface as one to unplug.
pub async fn set_detach(tx: &mut Tx, server: &ServerId, port: &PortId) -> Result<()> {
    query("update server_ports set detach = 1 where server_id = $1 and port_id = $2")
        .bind(server.as_str())
        .bind(port.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes an interface.
pub async fn delete(tx: &mut Tx, server: &ServerId, port: &PortId) -> Result<()> {
    query("delete from server_ports where server_id = $1 and port_id = $2")
        .bind(server.as_str())
        .bind(port.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Which of a server's ports OVN does not have as they are wanted. Empty: the server may be started.
pub async fn unrealized(conn: &mut Conn, server: &ServerId) -> Result<Vec<PortId>> {
    let rows = query(
        "select p.id from server_ports sp join ports p on p.id = sp.port_id where sp.server_id = $1 \
         and sp.detach = 0 and p.deleted_at is null and p.realized_revision < p.revision order by p.id",
    )
    .bind(server.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.id("id")).collect()
}
