//! Tables `server_metadata` and `server_tags`.

use std::collections::BTreeMap;

use model::id::ServerId;

use crate::{Conn, Result, RowExt, Tx, events, query};

/// A server's metadata.
pub async fn metadata(conn: &mut Conn, id: &ServerId) -> Result<BTreeMap<String, String>> {
    let rows = query("select name, value from server_metadata where server_id = $1 order by name")
        .bind(id.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.text("value")?))).collect()
}

/// Replaces a server's metadata.
pub async fn set_metadata(tx: &mut Tx, id: &ServerId, metadata: &BTreeMap<String, String>) -> Result<()> {
    query("delete from server_metadata where server_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    for (name, value) in metadata {
        query("insert into server_metadata (server_id, name, value) values ($1, $2, $3)")
            .bind(id.as_str())
            .bind(name.as_str())
            .bind(value.as_str())
            .execute(&mut **tx)
            .await?;
    }
    events::updated(tx, events::SERVER, id);
    Ok(())
}

/// A server's tags, sorted.
pub async fn tags(conn: &mut Conn, id: &ServerId) -> Result<Vec<String>> {
    let rows = query("select tag from server_tags where server_id = $1 order by tag")
        .bind(id.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.text("tag")).collect()
}

/// Replaces a server's tags.
pub async fn set_tags(tx: &mut Tx, id: &ServerId, tags: &[String]) -> Result<()> {
    query("delete from server_tags where server_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    for tag in tags {
        query("insert into server_tags (server_id, tag) values ($1, $2) on conflict (server_id, tag) do nothing")
            .bind(id.as_str())
            .bind(tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    events::updated(tx, events::SERVER, id);
    Ok(())
}
