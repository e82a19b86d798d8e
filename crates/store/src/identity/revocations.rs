//! Table `revocation_events`: what voided tokens, for clients that ask.

use std::time::Duration;

use model::Timestamp;
use serde_json::Value;

use super::json_text;
use crate::{
    Conn, Result, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// How long an event is kept: longer than any token that it voided.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Notes that all tokens with these attributes, made until now, are void; forgets events of tokens that are over.
pub async fn record(tx: &mut Tx, attributes: &[(&str, &str)]) -> Result<()> {
    let now = tx.now();
    let mut event: super::Extra =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    event.insert("issued_before".to_owned(), now.to_micros_z().into());
    query("delete from revocation_events where revoked_at < $1").bind((now - KEPT).0).execute(&mut **tx).await?;
    query("insert into revocation_events (id, event, revoked_at) values ($1, $2, $3)")
        .bind(model::id::ordered_uuid().to_string())
        .bind(json_text(&event))
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Those from that moment on, the oldest first, with their ids.
pub async fn list(conn: &mut Conn, since: Option<Timestamp>, page: &Page) -> Result<Vec<(String, Value)>> {
    let mut select = Select::new("select t.* from revocation_events t", "revocation_events t", "t.id");
    if let Some(since) = since {
        select.filter("t.revoked_at >= ?", [since.0.into()]);
    }
    select.page(conn, page).await?.iter().map(|row| Ok((row.text("id")?, row.json("event")?))).collect()
}
