//! Table `network_tags`.

use std::collections::HashMap;

use crate::{
    Conn, Result, RowExt, Tx,
    list::{Select, Value},
    query,
};

/// Fills in the tags of several resources, of each of which `parts` shows its id and the place for its tags.
pub(super) async fn fill<T>(
    conn: &mut Conn,
    items: &mut [T],
    parts: impl for<'a> Fn(&'a mut T) -> (&'a str, &'a mut Vec<String>),
) -> Result<()> {
    let ids: Vec<String> = items.iter_mut().map(|item| parts(item).0.to_owned()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut found = of(conn, &ids).await?;
    for item in items {
        let (id, tags) = parts(item);
        *tags = found.remove(id).unwrap_or_default();
    }
    Ok(())
}

/// The tags of several resources, by their ids.
async fn of(conn: &mut Conn, ids: &[&str]) -> Result<HashMap<String, Vec<String>>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let mut select = Select::new("select t.resource_id, t.tag from network_tags t", "network_tags t", "t.resource_id");
    select.any_of("t.resource_id", ids.iter().map(|id| (*id).into()));
    for row in select.all(conn, "t.resource_id, t.tag").await? {
        found.entry(row.text("resource_id")?).or_default().push(row.text("tag")?);
    }
    Ok(found)
}

/// The tags of one resource.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Vec<String>> {
    Ok(of(conn, &[id]).await?.remove(id).unwrap_or_default())
}

/// Adds one; false if it was there.
pub async fn add(tx: &mut Tx, id: &str, tag: &str) -> Result<bool> {
    let added = query("insert into network_tags (resource_id, tag) values ($1, $2) on conflict do nothing")
        .bind(id)
        .bind(tag)
        .execute(&mut **tx)
        .await?;
    Ok(added.rows_affected() > 0)
}

/// Removes one; false if it was not there.
pub async fn remove(tx: &mut Tx, id: &str, tag: &str) -> Result<bool> {
    let removed = query("delete from network_tags where resource_id = $1 and tag = $2")
        .bind(id)
        .bind(tag)
        .execute(&mut **tx)
        .await?;
    Ok(removed.rows_affected() > 0)
}

/// Removes all.
pub async fn clear(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from network_tags where resource_id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Replaces all.
pub async fn replace(tx: &mut Tx, id: &str, tags: &[String]) -> Result<()> {
    clear(tx, id).await?;
    for tag in tags {
        add(tx, id, tag).await?;
    }
    Ok(())
}

/// How a list is filtered by tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Has each of them: `tags`.
    All,
    /// Has one of them: `tags-any`.
    Any,
    /// Lacks one of them: `not-tags`.
    NotAll,
    /// Has none of them: `not-tags-any`.
    None,
}

/// Adds such a filter to a list of this service: all of them call their table `r`.
pub fn filter(select: &mut Select, how: Match, tags: &[&str]) {
    // Tags hold no commas: one that stands between commas in the list is in the list.
    let list = || Value::Text(format!(",{},", tags.join(",")));
    let count = || Value::Int(i64::try_from(tags.len()).unwrap_or(i64::MAX));
    match how {
        Match::All => select.filter(
            "(select count(*) from network_tags t where t.resource_id = r.id \
             and replace(?, ',' || t.tag || ',', '') <> ?) = ?",
            [list(), list(), count()],
        ),
        Match::Any => select.filter(
            "exists (select 1 from network_tags t where t.resource_id = r.id \
             and replace(?, ',' || t.tag || ',', '') <> ?)",
            [list(), list()],
        ),
        Match::NotAll => select.filter(
            "(select count(*) from network_tags t where t.resource_id = r.id \
             and replace(?, ',' || t.tag || ',', '') <> ?) <> ?",
            [list(), list(), count()],
        ),
        Match::None => select.filter(
            "not exists (select 1 from network_tags t where t.resource_id = r.id \
             and replace(?, ',' || t.tag || ',', '') <> ?)",
            [list(), list()],
        ),
    };
}
