//! Tables `identity_providers`, `identity_provider_remote_ids`, `federation_mappings`, `federation_protocols` and
//! `service_providers`.

use model::{Timestamp, id::DomainId};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::json_text;
use crate::{
    Conn, Dialect, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// An identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityProvider {
    /// As its creator called it.
    pub id: String,
    /// Where its users live.
    pub domain_id: DomainId,
    /// For people.
    pub description: Option<String>,
    /// Nobody comes in through a disabled one.
    pub enabled: bool,
    /// Minutes for which the groups of a login are kept.
    pub authorization_ttl: Option<i64>,
    /// How the provider names itself.
    pub remote_ids: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

fn provider(row: &Row) -> Result<IdentityProvider> {
    Ok(IdentityProvider {
        id: row.text("id")?,
        domain_id: row.id("domain_id")?,
        description: row.opt_text("description")?,
        enabled: row.flag("enabled")?,
        authorization_ttl: row.opt_int("authorization_ttl")?,
        remote_ids: Vec::new(),
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select_providers() -> Select {
    Select::new("select t.* from identity_providers t", "identity_providers t", "t.id")
}

/// One page, with remote ids.
pub async fn list_providers(
    conn: &mut Conn,
    dialect: Dialect,
    select: Select,
    page: &Page,
) -> Result<Vec<IdentityProvider>> {
    let mut found: Vec<IdentityProvider> =
        select.page(conn, page).await?.iter().map(provider).collect::<Result<_>>()?;
    let ids: Vec<&str> = found.iter().map(|p| p.id.as_str()).collect();
    let sql = format!(
        "select idp_id, remote_id from identity_provider_remote_ids where idp_id in ({}) order by remote_id",
        dialect.elements("$1")
    );
    let rows = query(AssertSqlSafe(sql)).bind(json_text(&ids)).fetch_all(conn).await?;
    for row in rows {
        let idp = row.text("idp_id")?;
        if let Some(provider) = found.iter_mut().find(|p| p.id == idp) {
            provider.remote_ids.push(row.text("remote_id")?);
        }
    }
    Ok(found)
}

/// One, by id.
pub async fn get_provider(conn: &mut Conn, id: &str) -> Result<Option<IdentityProvider>> {
    let row = query("select * from identity_providers where id = $1").bind(id).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = provider(&row)?;
    let rows = query("select remote_id from identity_provider_remote_ids where idp_id = $1 order by remote_id")
        .bind(id)
        .fetch_all(conn)
        .await?;
    found.remote_ids = rows.iter().map(|row| row.text("remote_id")).collect::<Result<_>>()?;
    Ok(Some(found))
}

/// Narrows a list to the provider that calls itself so.
pub fn with_remote_id(select: &mut Select, remote_id: &str) {
    select.filter("t.id in (select idp_id from identity_provider_remote_ids where remote_id = ?)", [remote_id.into()]);
}

/// The id of the provider that calls itself so.
pub async fn provider_of_remote_id(conn: &mut Conn, remote_id: &str) -> Result<Option<String>> {
    let row = query("select idp_id from identity_provider_remote_ids where remote_id = $1")
        .bind(remote_id)
        .fetch_optional(conn)
        .await?;
    row.map(|row| row.text("idp_id")).transpose()
}

/// Adds one.
pub async fn insert_provider(tx: &mut Tx, provider: &IdentityProvider) -> Result<()> {
    query(
        "insert into identity_providers (id, domain_id, description, enabled, authorization_ttl, created_at) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(provider.id.as_str())
    .bind(provider.domain_id.as_str())
    .bind(provider.description.as_deref())
    .bind(i64::from(provider.enabled))
    .bind(provider.authorization_ttl)
    .bind(provider.created_at.0)
    .execute(&mut **tx)
    .await?;
    insert_remote_ids(tx, provider).await
}

/// Writes what may change.
pub async fn update_provider(tx: &mut Tx, provider: &IdentityProvider) -> Result<()> {
    query("update identity_providers set description = $2, enabled = $3, authorization_ttl = $4 where id = $1")
        .bind(provider.id.as_str())
        .bind(provider.description.as_deref())
        .bind(i64::from(provider.enabled))
        .bind(provider.authorization_ttl)
        .execute(&mut **tx)
        .await?;
    query("delete from identity_provider_remote_ids where idp_id = $1")
        .bind(provider.id.as_str())
        .execute(&mut **tx)
        .await?;
    insert_remote_ids(tx, provider).await
}

async fn insert_remote_ids(tx: &mut Tx, provider: &IdentityProvider) -> Result<()> {
    for remote_id in &provider.remote_ids {
        query("insert into identity_provider_remote_ids (remote_id, idp_id) values ($1, $2)")
            .bind(remote_id.as_str())
            .bind(provider.id.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Removes it with its protocols; the users that it sent stay, with nobody to let them in.
pub async fn delete_provider(tx: &mut Tx, id: &str) -> Result<()> {
    void_tokens(tx, id).await?;
    query("delete from identity_providers where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Voids every token of the users that the provider sent.
pub async fn void_tokens(tx: &mut Tx, idp_id: &str) -> Result<()> {
    query(
        "update users set generation = generation + 1 where id in (select user_id from federated_users where idp_id = $1)",
    )
    .bind(idp_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// As its creator called it.
    pub id: String,
    /// Rules, as they came.
    pub rules: Value,
    /// Which version of the language they are in.
    pub schema_version: String,
}

fn mapping(row: &Row) -> Result<Mapping> {
    Ok(Mapping { id: row.text("id")?, rules: row.json("rules")?, schema_version: row.text("schema_version")? })
}

/// Filters are added by the caller.
pub fn select_mappings() -> Select {
    Select::new("select t.* from federation_mappings t", "federation_mappings t", "t.id")
}

/// One page.
pub async fn list_mappings(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Mapping>> {
    select.page(conn, page).await?.iter().map(mapping).collect()
}

/// One, by id.
pub async fn get_mapping(conn: &mut Conn, id: &str) -> Result<Option<Mapping>> {
    let row = query("select * from federation_mappings where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(mapping).transpose()
}

/// Adds one.
pub async fn insert_mapping(tx: &mut Tx, mapping: &Mapping) -> Result<()> {
    query("insert into federation_mappings (id, rules, schema_version) values ($1, $2, $3)")
        .bind(mapping.id.as_str())
        .bind(json_text(&mapping.rules))
        .bind(mapping.schema_version.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes what may change.
pub async fn update_mapping(tx: &mut Tx, mapping: &Mapping) -> Result<()> {
    query("update federation_mappings set rules = $2, schema_version = $3 where id = $1")
        .bind(mapping.id.as_str())
        .bind(json_text(&mapping.rules))
        .bind(mapping.schema_version.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes it.
pub async fn delete_mapping(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from federation_mappings where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Whether a protocol uses it.
pub async fn mapping_is_used(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query("select 1 as one from federation_protocols where mapping_id = $1 limit 1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// A way in through a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// The provider.
    pub idp_id: String,
    /// As its creator called it: `openid`.
    pub id: String,
    /// What tells who somebody is here.
    pub mapping_id: String,
    /// Which claim names the provider, where it isn't `iss`.
    pub remote_id_attribute: Option<String>,
}

fn protocol(row: &Row) -> Result<Protocol> {
    Ok(Protocol {
        idp_id: row.text("idp_id")?,
        id: row.text("id")?,
        mapping_id: row.text("mapping_id")?,
        remote_id_attribute: row.opt_text("remote_id_attribute")?,
    })
}

/// The protocols of a provider. Filters are added by the caller; within one provider ids are unique.
pub fn select_protocols(idp_id: &str) -> Select {
    let mut select = Select::new("select t.* from federation_protocols t", "federation_protocols t", "t.id");
    select.equal("t.idp_id", idp_id);
    select
}

/// One page.
pub async fn list_protocols(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Protocol>> {
    select.page(conn, page).await?.iter().map(protocol).collect()
}

/// One of a provider.
pub async fn get_protocol(conn: &mut Conn, idp_id: &str, id: &str) -> Result<Option<Protocol>> {
    let row = query("select * from federation_protocols where idp_id = $1 and id = $2")
        .bind(idp_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(protocol).transpose()
}

/// The providers that are enabled and can be logged in with by a protocol of this name; two at the most.
pub async fn providers_of_protocol(conn: &mut Conn, id: &str) -> Result<Vec<String>> {
    let rows = query(
        "select c.idp_id from oidc_clients c join identity_providers p on p.id = c.idp_id \
         where c.protocol_id = $1 and p.enabled = 1 order by c.idp_id limit 2",
    )
    .bind(id)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.text("idp_id")).collect()
}

/// The service providers that tokens show: those that are enabled.
pub async fn enabled_service_providers(conn: &mut Conn) -> Result<Vec<ServiceProvider>> {
    let rows = query("select * from service_providers where enabled = 1 order by id limit 100").fetch_all(conn).await?;
    rows.iter().map(service_provider).collect()
}

/// Adds one.
pub async fn insert_protocol(tx: &mut Tx, protocol: &Protocol) -> Result<()> {
    query("insert into federation_protocols (idp_id, id, mapping_id, remote_id_attribute) values ($1, $2, $3, $4)")
        .bind(protocol.idp_id.as_str())
        .bind(protocol.id.as_str())
        .bind(protocol.mapping_id.as_str())
        .bind(protocol.remote_id_attribute.as_deref())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes what may change.
pub async fn update_protocol(tx: &mut Tx, protocol: &Protocol) -> Result<()> {
    query("update federation_protocols set mapping_id = $3, remote_id_attribute = $4 where idp_id = $1 and id = $2")
        .bind(protocol.idp_id.as_str())
        .bind(protocol.id.as_str())
        .bind(protocol.mapping_id.as_str())
        .bind(protocol.remote_id_attribute.as_deref())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes it.
pub async fn delete_protocol(tx: &mut Tx, idp_id: &str, id: &str) -> Result<()> {
    query(
        "update users set generation = generation + 1 where id in \
         (select user_id from federated_users where idp_id = $1 and protocol_id = $2)",
    )
    .bind(idp_id)
    .bind(id)
    .execute(&mut **tx)
    .await?;
    query("delete from federation_protocols where idp_id = $1 and id = $2")
        .bind(idp_id)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Another cloud that trusts this one.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceProvider {
    /// As its creator called it.
    pub id: String,
    /// For people.
    pub description: Option<String>,
    /// Whether tokens show it.
    pub enabled: bool,
    /// Where its federated tokens are asked for.
    pub auth_url: String,
    /// Where assertions go.
    pub sp_url: String,
    /// What its relay states begin with.
    pub relay_state_prefix: String,
}

fn service_provider(row: &Row) -> Result<ServiceProvider> {
    Ok(ServiceProvider {
        id: row.text("id")?,
        description: row.opt_text("description")?,
        enabled: row.flag("enabled")?,
        auth_url: row.text("auth_url")?,
        sp_url: row.text("sp_url")?,
        relay_state_prefix: row.text("relay_state_prefix")?,
    })
}

/// Filters are added by the caller.
pub fn select_service_providers() -> Select {
    Select::new("select t.* from service_providers t", "service_providers t", "t.id")
}

/// One page.
pub async fn list_service_providers(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<ServiceProvider>> {
    select.page(conn, page).await?.iter().map(service_provider).collect()
}

/// One, by id.
pub async fn get_service_provider(conn: &mut Conn, id: &str) -> Result<Option<ServiceProvider>> {
    let row = query("select * from service_providers where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(service_provider).transpose()
}

/// Adds one.
pub async fn insert_service_provider(tx: &mut Tx, provider: &ServiceProvider) -> Result<()> {
    query(
        "insert into service_providers (id, description, enabled, auth_url, sp_url, relay_state_prefix) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(provider.id.as_str())
    .bind(provider.description.as_deref())
    .bind(i64::from(provider.enabled))
    .bind(provider.auth_url.as_str())
    .bind(provider.sp_url.as_str())
    .bind(provider.relay_state_prefix.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what may change.
pub async fn update_service_provider(tx: &mut Tx, provider: &ServiceProvider) -> Result<()> {
    query(
        "update service_providers set description = $2, enabled = $3, auth_url = $4, sp_url = $5, \
         relay_state_prefix = $6 where id = $1",
    )
    .bind(provider.id.as_str())
    .bind(provider.description.as_deref())
    .bind(i64::from(provider.enabled))
    .bind(provider.auth_url.as_str())
    .bind(provider.sp_url.as_str())
    .bind(provider.relay_state_prefix.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes it.
pub async fn delete_service_provider(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from service_providers where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}
