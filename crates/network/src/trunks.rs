//! Trunks: ports whose guests send and receive several networks' packets, told apart by VLAN tags.

use model::{Error, Result, id::PortId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Conn, Tx,
    list::{Direction, SortKey, Type},
    network::{
        plain, ports,
        trunks::{self, Subport, Trunk},
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, flag, invalid};

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("port_id", "r.port_id"),
        Filter::flag("admin_state_up", "r.admin_state_up"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
    ],
};

impl Shown for Trunk {
    const NAMES: Names = Names { singular: "trunk", plural: "trunks" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_trunk";

    fn not_found(id: &str) -> Error {
        Error::not_found("TrunkNotFound", format!("Trunk {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        shape.insert("name".into(), json!(self.standard.name));
        shape.insert("port_id".into(), json!(self.port_id));
        shape.insert("admin_state_up".into(), json!(self.admin_state_up));
        shape
    }
}

/// A subport as clients write and read it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSubport {
    port_id: String,
    segmentation_type: Option<String>,
    segmentation_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<String>,
    description: Option<String>,
    port_id: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    admin_state_up: Option<bool>,
    sub_ports: Option<Vec<WireSubport>>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

fn subport(subport: &Subport) -> Value {
    json!({"port_id": subport.port_id, "segmentation_type": "vlan", "segmentation_id": subport.segmentation_id})
}

/// Trunks with their subports and what their ports say of their status.
async fn whole(conn: &mut Conn, items: &[Trunk]) -> Result<Vec<Shape>> {
    let ids: Vec<&str> = items.iter().map(|trunk| trunk.standard.id.as_str()).collect();
    let parents: Vec<&PortId> = items.iter().map(|trunk| &trunk.port_id).collect();
    let (carried, parents) = (trunks::subports(conn, &ids).await?, ports::by_ids(conn, &parents).await?);
    let shape = |trunk: &Trunk| {
        let subports = carried.get(&trunk.standard.id).map(Vec::as_slice).unwrap_or_default();
        let up = parents.iter().any(|port| port.id == trunk.port_id && port.status == "ACTIVE");
        let mut shape = collection::whole(trunk);
        shape.insert("status".into(), json!(if up { "ACTIVE" } else { "DOWN" }));
        shape.insert("sub_ports".into(), subports.iter().map(subport).collect());
        shape
    };
    Ok(items.iter().map(shape).collect())
}

async fn one(cx: &Cx, conn: &mut Conn, status: StatusCode, trunk: &Trunk) -> Result<Reply> {
    let shape = whole(conn, std::slice::from_ref(trunk)).await?.into_iter().next().unwrap_or_default();
    collection::one(cx, status, Trunk::NAMES.singular, shape)
}

/// `GET /trunks`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let viewer = collection::viewer(cx)?;
    let mut select = plain::select::<Trunk>(&viewer);
    collection::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let rows: Vec<Trunk> = plain::list(&mut conn, select, &page).await?;
    let shapes = whole(&mut conn, &rows).await?;
    collection::page(cx, Trunk::NAMES.plural, &page, shapes)
}

/// `GET /trunks/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let trunk: Trunk = plain::get(&mut conn, id).await?.ok_or_else(|| Trunk::not_found(id))?;
    collection::authorize(cx, Trunk::GET, &trunk.target(), || Trunk::not_found(id))?;
    one(cx, &mut conn, StatusCode::OK, &trunk).await
}

/// `POST /trunks`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let body = collection::input::<Body>(cx, Trunk::NAMES)?.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    cx.authorize(&Target::project(&project))?;
    let port = PortId::new(body.port_id.as_deref().ok_or_else(|| collection::missing("port_id"))?);
    let mut tx = cx.db().begin().await?;
    expect_port(cx, &mut tx, &port).await?;
    if trunks::has(&mut tx, &port).await? {
        return Err(Error::conflict(
            "ParentPortInUse",
            format!("Port {port} is in use by another trunk, or is a subport of one."),
        ));
    }
    let standard = collection::fresh(&project, body.name.as_deref(), body.description.as_deref())?;
    let mut trunk = Trunk { standard, port_id: port, admin_state_up: body.admin_state_up.unwrap_or(true) };
    plain::insert(&mut tx, &mut trunk).await?;
    add(cx, &mut tx, &trunk, body.sub_ports.as_deref().unwrap_or_default()).await?;
    trunks::touch(&mut tx, &mut trunk).await?;
    let reply = one(cx, &mut tx, StatusCode::CREATED, &trunk).await?;
    tx.commit().await?;
    Ok(reply)
}

/// The caller must own a port to make it part of a trunk.
async fn expect_port(cx: &Cx, tx: &mut Tx, id: &PortId) -> Result<()> {
    let port = ports::lock(tx, id).await?;
    if cx.can("get_port", &Target::project(&port.project_id)) { Ok(()) } else { Err(ports::not_found(id)) }
}

async fn add(cx: &Cx, tx: &mut Tx, trunk: &Trunk, given: &[WireSubport]) -> Result<()> {
    for wanted in given {
        let port = PortId::new(wanted.port_id.as_str());
        expect_port(cx, tx, &port).await?;
        if wanted.segmentation_type.as_deref().is_some_and(|kind| kind != "vlan") {
            return Err(invalid("segmentation_type of a subport is vlan"));
        }
        match wanted.segmentation_id {
            Some(tag) if (1..=4094).contains(&tag) => trunks::add_subport(tx, trunk, &port, tag).await?,
            _ => return Err(invalid("segmentation_id of a subport must be 1 to 4094")),
        }
    }
    Ok(())
}

/// `PUT /trunks/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut trunk: Trunk = collection::locked(cx, &mut tx).await?;
    let body = collection::input::<Body>(cx, Trunk::NAMES)?.body;
    if body.port_id.is_some() || body.sub_ports.is_some() || body.project_id.is_some() || body.tenant_id.is_some() {
        return Err(invalid("only name, description and admin_state_up of a trunk can be changed here"));
    }
    collection::rename(&mut trunk.standard, body.name.as_deref(), body.description.as_deref())?;
    trunk.admin_state_up = body.admin_state_up.unwrap_or(trunk.admin_state_up);
    trunks::touch(&mut tx, &mut trunk).await?;
    let reply = one(cx, &mut tx, StatusCode::OK, &trunk).await?;
    tx.commit().await?;
    Ok(reply)
}

/// `DELETE /trunks/{id}`: its ports stay.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let trunk: Trunk = collection::locked(cx, &mut tx).await?;
    if ports::get(&mut tx, &trunk.port_id).await?.is_some_and(|port| !port.host.is_empty()) {
        return Err(Error::conflict("TrunkInUse", format!("Trunk {} is currently in use.", trunk.standard.id)));
    }
    for subport in trunks::subports(&mut tx, &[&trunk.standard.id]).await?.into_values().flatten() {
        trunks::remove_subport(&mut tx, &subport.port_id).await?;
    }
    plain::delete::<Trunk>(&mut tx, &trunk.standard.id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subports {
    sub_ports: Vec<WireSubport>,
}

/// `PUT /trunks/{id}/add_subports`
pub async fn add_subports(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut trunk = usable(cx, &mut tx).await?;
    add(cx, &mut tx, &trunk, &cx.json::<Subports>()?.sub_ports).await?;
    finish(tx, &mut trunk).await
}

/// `PUT /trunks/{id}/remove_subports`
pub async fn remove_subports(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut trunk = usable(cx, &mut tx).await?;
    let now = trunks::subports(&mut tx, &[&trunk.standard.id]).await?.remove(&trunk.standard.id).unwrap_or_default();
    for gone in cx.json::<Subports>()?.sub_ports {
        let found = now.iter().find(|subport| subport.port_id.as_str() == gone.port_id).ok_or_else(|| {
            Error::not_found(
                "SubPortNotFound",
                format!("SubPort on trunk {} with parent port {} could not be found.", trunk.standard.id, gone.port_id),
            )
        })?;
        trunks::remove_subport(&mut tx, &found.port_id).await?;
    }
    finish(tx, &mut trunk).await
}

/// `GET /trunks/{id}/get_subports`
pub async fn get_subports(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id");
    let mut conn = cx.db().read().await?;
    let trunk: Trunk = plain::get(&mut conn, id).await?.ok_or_else(|| Trunk::not_found(id))?;
    collection::authorize(cx, Trunk::GET, &trunk.target(), || Trunk::not_found(id))?;
    let now = trunks::subports(&mut conn, &[id]).await?.remove(id).unwrap_or_default();
    Reply::ok(&json!({"sub_ports": now.iter().map(subport).collect::<Vec<_>>()}))
}

async fn usable(cx: &Cx, tx: &mut Tx) -> Result<Trunk> {
    let trunk: Trunk = collection::locked(cx, tx).await?;
    if !trunk.admin_state_up {
        return Err(Error::conflict("TrunkDisabled", format!("Trunk {} is currently disabled.", trunk.standard.id)));
    }
    Ok(trunk)
}

/// The whole trunk, as Neutron answers both changes.
async fn finish(mut tx: Tx, trunk: &mut Trunk) -> Result<Reply> {
    trunks::touch(&mut tx, trunk).await?;
    let shape = whole(&mut tx, std::slice::from_ref(trunk)).await?.into_iter().next();
    tx.commit().await?;
    Reply::ok(&shape)
}
