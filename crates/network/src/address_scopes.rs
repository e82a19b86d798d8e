//! Address scopes: worlds in which no two subnets have the same address.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::json;
use store::{
    list::{Direction, SortKey, Type},
    network::{
        plain,
        subnet_pools::{self, AddressScope},
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
        SortKey { name: "ip_version", sql: "r.ip_version", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("ip_version", "r.ip_version"),
        Filter::flag("shared", "r.shared"),
    ],
};

impl Shown for AddressScope {
    const NAMES: Names = Names { singular: "address_scope", plural: "address_scopes" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_address_scope";

    fn not_found(id: &str) -> Error {
        Error::not_found("AddressScopeNotFound", format!("Address scope {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        shape.insert("name".into(), json!(self.standard.name));
        shape.insert("ip_version".into(), json!(self.ip_version));
        shape.insert("shared".into(), json!(self.shared));
        shape
    }

    fn target(&self) -> Target {
        Target::project(&self.standard.project_id).with("shared", if self.shared { "True" } else { "False" })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<String>,
    description: Option<String>,
    ip_version: Option<i64>,
    #[serde(default, deserialize_with = "flag")]
    shared: Option<bool>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

/// `POST /address-scopes`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let input = collection::input::<Body>(cx, AddressScope::NAMES)?;
    let body = &input.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    let target = Target::project(&project);
    cx.authorize(&target)?;
    collection::authorize_attributes(cx, "create_address_scope", &input.attributes, &target)?;
    let ip_version = body.ip_version.ok_or_else(|| collection::missing("ip_version"))?;
    if ![4, 6].contains(&ip_version) {
        return Err(invalid("ip_version is 4 or 6"));
    }
    let standard = collection::fresh(&project, body.name.as_deref(), body.description.as_deref())?;
    let mut scope = AddressScope { standard, ip_version, shared: body.shared.unwrap_or(false) };
    let mut tx = cx.db().begin().await?;
    plain::insert(&mut tx, &mut scope).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, AddressScope::NAMES.singular, collection::whole(&scope))
}

/// `PUT /address-scopes/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut scope: AddressScope = collection::locked(cx, &mut tx).await?;
    let input = collection::input::<Body>(cx, AddressScope::NAMES)?;
    collection::authorize_attributes(cx, "update_address_scope", &input.attributes, &scope.target())?;
    let body = input.body;
    if body.ip_version.is_some() || body.project_id.is_some() || body.tenant_id.is_some() {
        return Err(invalid("only name, description and shared of an address scope can be changed"));
    }
    if scope.shared && body.shared == Some(false) {
        return Err(invalid("a shared address scope can't be made unshared again"));
    }
    collection::rename(&mut scope.standard, body.name.as_deref(), body.description.as_deref())?;
    scope.shared = body.shared.unwrap_or(scope.shared);
    plain::update(&mut tx, &mut scope).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, AddressScope::NAMES.singular, collection::whole(&scope))
}

/// `DELETE /address-scopes/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let scope: AddressScope = collection::locked(cx, &mut tx).await?;
    let id = &scope.standard.id;
    if !subnet_pools::in_scope(&mut tx, id).await?.is_empty() {
        return Err(Error::conflict(
            "AddressScopeInUse",
            format!(
                "Unable to complete operation on address scope {id}. There are one or more subnet pools in use on the \
                 address scope."
            ),
        ));
    }
    plain::delete::<AddressScope>(&mut tx, id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
