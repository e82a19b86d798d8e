//! Address groups: lists of ranges that security group rules name, and follow.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Error, Result};
use serde::Deserialize;
use serde_json::json;
use store::{
    list::{Direction, SortKey, Type},
    network::{
        address_groups::{self, AddressGroup},
        plain,
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, invalid};

/// Ranges of one group: each becomes a row in the switch's tables for each rule.
const ADDRESSES_MAX: usize = 1000;

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
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
    ],
};

impl Shown for AddressGroup {
    const NAMES: Names = Names { singular: "address_group", plural: "address_groups" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_address_group";

    fn not_found(id: &str) -> Error {
        Error::not_found("AddressGroupNotFound", format!("Address group {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        shape.insert("name".into(), json!(self.standard.name));
        shape.insert("addresses".into(), json!(self.addresses));
        shape.insert("shared".into(), json!(false));
        shape
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<String>,
    description: Option<String>,
    addresses: Option<Vec<String>>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

fn addresses(given: &[String]) -> Result<Vec<IpNet>> {
    let parse = |text: &String| {
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(alone).map(|net| net.trunc()).ok_or_else(|| {
            Error::bad_request(
                "HTTPBadRequest",
                format!("Invalid input for addresses. Reason: '{text}' is not a valid IP subnet."),
            )
        })
    };
    given.iter().map(parse).collect()
}

fn add(group: &mut AddressGroup, more: Vec<IpNet>) -> Result<()> {
    group.addresses.extend(more);
    group.addresses.sort_unstable();
    group.addresses.dedup();
    if group.addresses.len() > ADDRESSES_MAX {
        return Err(invalid(format!("an address group has at most {ADDRESSES_MAX} addresses")));
    }
    Ok(())
}

/// `POST /address-groups`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let body = collection::input::<Body>(cx, AddressGroup::NAMES)?.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    cx.authorize(&Target::project(&project))?;
    let standard = collection::fresh(&project, body.name.as_deref(), body.description.as_deref())?;
    let mut group = AddressGroup { standard, addresses: Vec::new() };
    add(&mut group, addresses(body.addresses.as_deref().unwrap_or_default())?)?;
    let mut tx = cx.db().begin().await?;
    plain::insert(&mut tx, &mut group).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, AddressGroup::NAMES.singular, collection::whole(&group))
}

/// `PUT /address-groups/{id}`: addresses are changed by the two actions.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut group: AddressGroup = collection::locked(cx, &mut tx).await?;
    let body = collection::input::<Body>(cx, AddressGroup::NAMES)?.body;
    if body.addresses.is_some() || body.project_id.is_some() || body.tenant_id.is_some() {
        return Err(invalid("addresses are changed by add_addresses and remove_addresses, project_id never"));
    }
    collection::rename(&mut group.standard, body.name.as_deref(), body.description.as_deref())?;
    plain::update(&mut tx, &mut group).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, AddressGroup::NAMES.singular, collection::whole(&group))
}

/// `DELETE /address-groups/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let group: AddressGroup = collection::locked(cx, &mut tx).await?;
    let id = &group.standard.id;
    if address_groups::is_used(&mut tx, id).await? {
        return Err(Error::conflict(
            "AddressGroupInUse",
            format!("Address group {id} is in use on one or more security group rules."),
        ));
    }
    plain::delete::<AddressGroup>(&mut tx, id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `PUT /address-groups/{id}/add_addresses`
pub async fn add_addresses(cx: &Cx) -> Result<Reply> {
    rewrite(cx, add).await
}

/// `PUT /address-groups/{id}/remove_addresses`
pub async fn remove_addresses(cx: &Cx) -> Result<Reply> {
    rewrite(cx, |group, gone| match gone.iter().find(|net| !group.addresses.contains(net)) {
        Some(net) => Err(Error::not_found("AddressesNotFound", format!("Address {net} is not in the address group."))),
        None => {
            group.addresses.retain(|net| !gone.contains(net));
            Ok(())
        }
    })
    .await
}

async fn rewrite(cx: &Cx, how: impl FnOnce(&mut AddressGroup, Vec<IpNet>) -> Result<()>) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut group: AddressGroup = collection::locked(cx, &mut tx).await?;
    let given = collection::input::<Body>(cx, AddressGroup::NAMES)?.body.addresses;
    how(&mut group, addresses(given.as_deref().ok_or_else(|| collection::missing("addresses"))?)?)?;
    plain::update(&mut tx, &mut group).await?;
    address_groups::touch_users(&mut tx, &group.standard.id).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, AddressGroup::NAMES.singular, collection::whole(&group))
}
