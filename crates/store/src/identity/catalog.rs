//! Tables `regions`, `catalog_services`, `catalog_endpoints`: where the cloud's services are.

use model::id::{EndpointId, ServiceId};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select},
    query,
};

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its id, which is its name.
    pub id: String,
    /// For people.
    pub description: String,
    /// The region above it.
    pub parent_region_id: Option<String>,
    /// The client's own attributes.
    pub extra: Extra,
}

/// A service of the catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// What it is: `compute`.
    pub kind: String,
    /// What it is called: `nova`.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Whether catalogs show it.
    pub enabled: bool,
    /// The client's own attributes.
    pub extra: Extra,
}

/// An address of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its service.
    pub service_id: ServiceId,
    /// Its region.
    pub region_id: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The address, `$(project_id)s` and the like in it.
    pub url: String,
    /// Whether catalogs show it.
    pub enabled: bool,
    /// The client's own attributes.
    pub extra: Extra,
}

fn region(row: &Row) -> Result<Region> {
    Ok(Region {
        id: row.text("id")?,
        description: row.text("description")?,
        parent_region_id: row.opt_text("parent_region_id")?,
        extra: row.json("extra")?,
    })
}

fn service(row: &Row) -> Result<Service> {
    Ok(Service {
        id: row.id("id")?,
        kind: row.text("type")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        enabled: row.flag("enabled")?,
        extra: row.json("extra")?,
    })
}

fn endpoint(row: &Row) -> Result<Endpoint> {
    Ok(Endpoint {
        id: row.id("id")?,
        service_id: row.id("service_id")?,
        region_id: row.opt_text("region_id")?,
        interface: row.text("interface")?,
        url: row.text("url")?,
        enabled: row.flag("enabled")?,
        extra: row.json("extra")?,
    })
}

/// Filters are added by the caller.
pub fn select_regions() -> Select {
    Select::new("select t.* from regions t", "regions t", "t.id")
}

/// Filters are added by the caller.
pub fn select_services() -> Select {
    Select::new("select t.* from catalog_services t", "catalog_services t", "t.id")
}

/// Filters are added by the caller.
pub fn select_endpoints() -> Select {
    Select::new("select t.* from catalog_endpoints t", "catalog_endpoints t", "t.id")
}

/// One page of regions.
pub async fn list_regions(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Region>> {
    select.page(conn, page).await?.iter().map(region).collect()
}

/// One page of services.
pub async fn list_services(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Service>> {
    select.page(conn, page).await?.iter().map(service).collect()
}

/// One page of endpoints.
pub async fn list_endpoints(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Endpoint>> {
    select.page(conn, page).await?.iter().map(endpoint).collect()
}

/// What a token's catalog shows: enabled services with their enabled endpoints.
pub async fn whole(conn: &mut Conn) -> Result<Vec<(Service, Vec<Endpoint>)>> {
    let services =
        query("select * from catalog_services where enabled = 1 order by type, id").fetch_all(&mut *conn).await?;
    let endpoints = query("select * from catalog_endpoints where enabled = 1 order by region_id, interface, id")
        .fetch_all(conn)
        .await?;
    let endpoints: Vec<Endpoint> = endpoints.iter().map(endpoint).collect::<Result<_>>()?;
    let with_endpoints = |row: &Row| {
        let service = service(row)?;
        let own = endpoints.iter().filter(|e| e.service_id == service.id).cloned().collect();
        Ok((service, own))
    };
    services.iter().map(with_endpoints).collect()
}

/// Every endpoint, up to a number.
pub async fn all_endpoints(conn: &mut Conn, at_most: u32) -> Result<Vec<Endpoint>> {
    let sql = format!("select * from catalog_endpoints order by id limit {at_most}");
    let rows = query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(endpoint).collect()
}

/// A region, by id.
pub async fn get_region(conn: &mut Conn, id: &str) -> Result<Option<Region>> {
    let row = query("select * from regions where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(region).transpose()
}

/// Whether a region stands below this one, or an endpoint in it.
pub async fn region_in_use(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query(
        "select 1 as one from regions where parent_region_id = $1 \
         union select 1 as one from catalog_endpoints where region_id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// A service, by id.
pub async fn get_service(conn: &mut Conn, id: &ServiceId) -> Result<Option<Service>> {
    let row = query("select * from catalog_services where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(service).transpose()
}

/// The first service of a type.
pub async fn get_service_by_type(conn: &mut Conn, kind: &str) -> Result<Option<Service>> {
    let row = query("select * from catalog_services where type = $1 order by id limit 1")
        .bind(kind)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(service).transpose()
}

/// An endpoint, by id.
pub async fn get_endpoint(conn: &mut Conn, id: &EndpointId) -> Result<Option<Endpoint>> {
    let row = query("select * from catalog_endpoints where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(endpoint).transpose()
}

/// The endpoints of a service.
pub async fn endpoints_of(conn: &mut Conn, service: &ServiceId) -> Result<Vec<Endpoint>> {
    let rows = query("select * from catalog_endpoints where service_id = $1 order by region_id, interface, id")
        .bind(service.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(endpoint).collect()
}

/// Adds a region, or writes over the one of that id.
pub async fn put_region(tx: &mut Tx, region: &Region) -> Result<()> {
    query(
        "insert into regions (id, description, parent_region_id, extra) values ($1, $2, $3, $4) \
         on conflict (id) do update set description = excluded.description, \
         parent_region_id = excluded.parent_region_id, extra = excluded.extra",
    )
    .bind(region.id.as_str())
    .bind(region.description.as_str())
    .bind(region.parent_region_id.as_deref())
    .bind(json_text(&region.extra))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds a service, or writes over the one of that id.
pub async fn put_service(tx: &mut Tx, service: &Service) -> Result<()> {
    query(
        "insert into catalog_services (id, type, name, description, enabled, extra) values ($1, $2, $3, $4, $5, $6) \
         on conflict (id) do update set type = excluded.type, name = excluded.name, \
         description = excluded.description, enabled = excluded.enabled, extra = excluded.extra",
    )
    .bind(service.id.as_str())
    .bind(service.kind.as_str())
    .bind(service.name.as_deref())
    .bind(service.description.as_deref())
    .bind(i64::from(service.enabled))
    .bind(json_text(&service.extra))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds an endpoint, or writes over the one of that id.
pub async fn put_endpoint(tx: &mut Tx, endpoint: &Endpoint) -> Result<()> {
    query(
        "insert into catalog_endpoints (id, service_id, region_id, interface, url, enabled, extra) \
         values ($1, $2, $3, $4, $5, $6, $7) \
         on conflict (id) do update set service_id = excluded.service_id, region_id = excluded.region_id, \
         interface = excluded.interface, url = excluded.url, enabled = excluded.enabled, extra = excluded.extra",
    )
    .bind(endpoint.id.as_str())
    .bind(endpoint.service_id.as_str())
    .bind(endpoint.region_id.as_deref())
    .bind(endpoint.interface.as_str())
    .bind(endpoint.url.as_str())
    .bind(i64::from(endpoint.enabled))
    .bind(json_text(&endpoint.extra))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a region.
pub async fn delete_region(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from regions where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Removes a service with its endpoints.
pub async fn delete_service(tx: &mut Tx, id: &ServiceId) -> Result<()> {
    query("delete from catalog_services where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes an endpoint.
pub async fn delete_endpoint(tx: &mut Tx, id: &EndpointId) -> Result<()> {
    query("delete from catalog_endpoints where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}
