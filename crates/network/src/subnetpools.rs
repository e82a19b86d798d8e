//! Subnet pools: ranges that subnets are cut from.

use ipnet::IpNet;
use model::{Error, Result, id::ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Tx,
    list::{Direction, SortKey, Type},
    network::{
        plain,
        subnet_pools::{self, AddressScope, SubnetPool},
    },
};
use web::{
    Cx, Reply, StatusCode, Target,
    paging::{Filter, ListSpec},
};

use crate::collection::{self, Names, Shape, Shown, flag, invalid, nullable};

const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "id", sql: "r.id", kind: Type::Text },
        SortKey { name: "name", sql: "r.name", kind: Type::Text },
        SortKey { name: "created_at", sql: "r.created_at", kind: Type::Int },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("id", "r.id"),
        Filter::exact("name", "r.name"),
        Filter::exact("description", "r.description"),
        Filter::exact("project_id", "r.project_id"),
        Filter::exact("tenant_id", "r.project_id"),
        Filter::number("ip_version", "r.ip_version"),
        Filter::flag("shared", "r.shared"),
        Filter::flag("is_default", "r.is_default"),
        Filter::exact("address_scope_id", "coalesce(r.address_scope_id, '')"),
        Filter::number("default_prefixlen", "r.default_prefixlen"),
        Filter::number("min_prefixlen", "r.min_prefixlen"),
        Filter::number("max_prefixlen", "r.max_prefixlen"),
    ],
};

impl Shown for SubnetPool {
    const NAMES: Names = Names { singular: "subnetpool", plural: "subnetpools" };
    const LIST: &'static ListSpec = &LIST;
    const GET: &'static str = "get_subnetpool";

    fn not_found(id: &str) -> Error {
        Error::not_found("SubnetPoolNotFound", format!("Subnet pool {id} could not be found."))
    }

    fn shape(&self) -> Shape {
        let shape = json!({
            "name": self.standard.name,
            "prefixes": self.prefixes,
            // As in Neutron lengths of prefixes are text.
            "default_prefixlen": self.default_prefixlen.to_string(),
            "min_prefixlen": self.min_prefixlen.to_string(),
            "max_prefixlen": self.max_prefixlen.to_string(),
            "default_quota": self.default_quota,
            "address_scope_id": self.address_scope_id,
            "ip_version": self.ip_version(),
            "shared": self.shared,
            "is_default": self.is_default,
        });
        match shape {
            Value::Object(shape) => shape,
            _ => Shape::new(),
        }
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
    prefixes: Option<Vec<String>>,
    default_prefixlen: Option<Value>,
    min_prefixlen: Option<Value>,
    max_prefixlen: Option<Value>,
    #[serde(default, deserialize_with = "nullable")]
    default_quota: Option<Option<i64>>,
    #[serde(default, deserialize_with = "nullable")]
    address_scope_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "flag")]
    shared: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    is_default: Option<bool>,
    project_id: Option<String>,
    tenant_id: Option<String>,
}

/// `POST /subnetpools`
pub async fn create(cx: &Cx) -> Result<Reply> {
    let input = collection::input::<Body>(cx, SubnetPool::NAMES)?;
    let body = &input.body;
    let project = collection::owner(cx, body.project_id.as_ref(), body.tenant_id.as_ref())?;
    let target = Target::project(&project);
    cx.authorize(&target)?;
    collection::authorize_attributes(cx, "create_subnetpool", &input.attributes, &target)?;
    let mut pool = new_pool(body, &project)?;
    let mut tx = cx.db().begin().await?;
    expect_scope(cx, &mut tx, &pool).await?;
    expect_one_default(&mut tx, &pool).await?;
    plain::insert(&mut tx, &mut pool).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::CREATED, SubnetPool::NAMES.singular, collection::whole(&pool))
}

fn new_pool(body: &Body, project: &ProjectId) -> Result<SubnetPool> {
    let given = body.prefixes.as_deref().ok_or_else(|| collection::missing("prefixes"))?;
    let prefixes = prefixes(given)?;
    let longest = if prefixes.first().is_some_and(|net| net.addr().is_ipv6()) { 128 } else { 32 };
    let shortest = if longest == 128 { 64 } else { 8 };
    let min = length("min_prefixlen", body.min_prefixlen.as_ref())?.unwrap_or(shortest);
    let pool = SubnetPool {
        standard: collection::fresh(project, body.name.as_deref(), body.description.as_deref())?,
        default_prefixlen: length("default_prefixlen", body.default_prefixlen.as_ref())?.unwrap_or(min),
        min_prefixlen: min,
        max_prefixlen: length("max_prefixlen", body.max_prefixlen.as_ref())?.unwrap_or(longest),
        prefixes,
        default_quota: body.default_quota.flatten(),
        address_scope_id: body.address_scope_id.clone().flatten(),
        shared: body.shared.unwrap_or(false),
        is_default: body.is_default.unwrap_or(false),
    };
    lengths(&pool, longest)?;
    Ok(pool)
}

/// Ranges in order; those that touch or overlap become one.
fn prefixes(given: &[String]) -> Result<Vec<IpNet>> {
    let parse = |text: &String| {
        text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
            Error::bad_request(
                "HTTPBadRequest",
                format!("Invalid input for prefixes. Reason: '{text}' is not a valid IP subnet."),
            )
        })
    };
    let parsed: Vec<IpNet> = given.iter().map(parse).collect::<Result<_>>()?;
    let Some(first) = parsed.first() else {
        return Err(Error::bad_request("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list."));
    };
    if parsed.iter().any(|net| net.addr().is_ipv4() != first.addr().is_ipv4()) {
        return Err(Error::bad_request("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."));
    }
    Ok(IpNet::aggregate(&parsed))
}

fn length(name: &str, given: Option<&Value>) -> Result<Option<u8>> {
    let number = match given {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64().and_then(|n| u8::try_from(n).ok()),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    number.map(Some).ok_or_else(|| invalid(format!("{name} is no length of a prefix")))
}

fn lengths(pool: &SubnetPool, longest: u8) -> Result<()> {
    if pool.max_prefixlen > longest {
        return Err(Error::bad_request(
            "UnsupportedMaxSubnetPoolPrefix",
            format!("Prefix '{}' not supported in IPv{} pool.", pool.max_prefixlen, pool.ip_version()),
        ));
    }
    if pool.min_prefixlen > pool.max_prefixlen {
        return Err(Error::bad_request(
            "IllegalSubnetPoolPrefixBounds",
            format!(
                "Illegal prefix bounds: min_prefixlen={}, max_prefixlen={}.",
                pool.min_prefixlen, pool.max_prefixlen
            ),
        ));
    }
    if !(pool.min_prefixlen..=pool.max_prefixlen).contains(&pool.default_prefixlen) {
        return Err(Error::bad_request(
            "IllegalSubnetPoolPrefixBounds",
            format!("Illegal prefix bounds: default_prefixlen={} is outside them.", pool.default_prefixlen),
        ));
    }
    if pool.default_quota.is_some_and(|quota| quota < 0) {
        return Err(invalid("default_quota must not be negative"));
    }
    Ok(())
}

/// The scope must be visible and of the same family, and hold none of the pool's addresses yet.
async fn expect_scope(cx: &Cx, tx: &mut Tx, pool: &SubnetPool) -> Result<()> {
    let Some(id) = pool.address_scope_id.as_deref() else { return Ok(()) };
    let not_found = || AddressScope::not_found(id);
    let scope: AddressScope = plain::lock(tx, id).await?.ok_or_else(not_found)?;
    if !cx.can(AddressScope::GET, &scope.target()) {
        return Err(not_found());
    }
    if scope.ip_version != pool.ip_version() {
        return Err(Error::bad_request(
            "IllegalSubnetPoolIpVersionAssociationToAddressScope",
            format!(
                "Illegal subnetpool association: subnetpool {} cannot associate with address scope {id} because \
                 subnetpool ip_version is not {}.",
                pool.standard.id, scope.ip_version
            ),
        ));
    }
    for other in subnet_pools::in_scope(tx, id).await?.iter().filter(|other| other.standard.id != pool.standard.id) {
        let clash = |net: &IpNet| other.prefixes.iter().any(|held| held.contains(net) || net.contains(held));
        if pool.prefixes.iter().any(clash) {
            return Err(Error::conflict(
                "AddressScopePrefixConflict",
                "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.",
            ));
        }
    }
    Ok(())
}

async fn expect_one_default(tx: &mut Tx, pool: &SubnetPool) -> Result<()> {
    let other = subnet_pools::default_of(tx, pool.ip_version()).await?;
    match other.filter(|other| pool.is_default && other.standard.id != pool.standard.id) {
        None => Ok(()),
        Some(_) => Err(invalid(format!(
            "A default subnetpool for this IP family has already been set. Only one default \
                                        may exist per IP family ({})",
            pool.ip_version()
        ))),
    }
}

/// `PUT /subnetpools/{id}`
pub async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let mut pool: SubnetPool = collection::locked(cx, &mut tx).await?;
    let input = collection::input::<Body>(cx, SubnetPool::NAMES)?;
    collection::authorize_attributes(cx, "update_subnetpool", &input.attributes, &pool.target())?;
    change(&mut pool, &input.body)?;
    expect_scope(cx, &mut tx, &pool).await?;
    expect_one_default(&mut tx, &pool).await?;
    plain::update(&mut tx, &mut pool).await?;
    tx.commit().await?;
    collection::one(cx, StatusCode::OK, SubnetPool::NAMES.singular, collection::whole(&pool))
}

/// Prefixes may grow and never shrink: subnets may have been cut from them.
fn change(pool: &mut SubnetPool, body: &Body) -> Result<()> {
    if body.shared.is_some() || body.project_id.is_some() || body.tenant_id.is_some() {
        return Err(invalid("shared and project_id of a subnet pool can't be changed"));
    }
    collection::rename(&mut pool.standard, body.name.as_deref(), body.description.as_deref())?;
    if let Some(given) = &body.prefixes {
        let mut all = given.clone();
        all.extend(pool.prefixes.iter().map(ToString::to_string));
        let (wanted, whole) = (prefixes(given)?, prefixes(&all)?);
        if wanted != whole {
            return Err(Error::bad_request(
                "IllegalSubnetPoolPrefixUpdate",
                "Illegal update to prefixes: a subnet pool keeps all that it has; name those too.",
            ));
        }
        pool.prefixes = whole;
    }
    let given = |name, value: &Option<Value>| length(name, value.as_ref());
    pool.min_prefixlen = given("min_prefixlen", &body.min_prefixlen)?.unwrap_or(pool.min_prefixlen);
    pool.max_prefixlen = given("max_prefixlen", &body.max_prefixlen)?.unwrap_or(pool.max_prefixlen);
    pool.default_prefixlen = given("default_prefixlen", &body.default_prefixlen)?.unwrap_or(pool.default_prefixlen);
    pool.default_quota = body.default_quota.unwrap_or(pool.default_quota);
    pool.is_default = body.is_default.unwrap_or(pool.is_default);
    if let Some(scope) = &body.address_scope_id {
        pool.address_scope_id.clone_from(scope);
    }
    lengths(pool, if pool.ip_version() == 6 { 128 } else { 32 })
}

/// `DELETE /subnetpools/{id}`
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let pool: SubnetPool = collection::locked(cx, &mut tx).await?;
    let id = &pool.standard.id;
    if subnet_pools::is_used(&mut tx, id).await? {
        return Err(Error::conflict(
            "SubnetPoolDeleteError",
            format!("Unable to delete subnet pool: Subnet pool has existing allocations ({id})."),
        ));
    }
    subnet_pools::forget(&mut tx, id).await?;
    plain::delete::<SubnetPool>(&mut tx, id).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_checked() {
        let body = |text: &str| serde_json::from_str::<Body>(text).unwrap();
        let make = |text: &str| new_pool(&body(text), &ProjectId::new("p"));
        let pool = make(r#"{"prefixes": ["10.1.0.0/16", "10.0.0.0/16"], "default_prefixlen": "24"}"#).unwrap();
        assert_eq!(pool.prefixes, ["10.0.0.0/15".parse().unwrap()]);
        assert_eq!((pool.min_prefixlen, pool.default_prefixlen, pool.max_prefixlen), (8, 24, 32));
        for (text, code) in [
            (r#"{"prefixes": []}"#, "EmptySubnetPoolPrefixList"),
            (r#"{"prefixes": ["10.0.0.0/8", "2001:db8::/32"]}"#, "PrefixVersionMismatch"),
            (r#"{"prefixes": ["nonsense"]}"#, "HTTPBadRequest"),
            (r#"{"prefixes": ["10.0.0.0/8"], "max_prefixlen": 33}"#, "UnsupportedMaxSubnetPoolPrefix"),
            (
                r#"{"prefixes": ["10.0.0.0/8"], "min_prefixlen": 30, "max_prefixlen": 20}"#,
                "IllegalSubnetPoolPrefixBounds",
            ),
        ] {
            assert_eq!(make(text).unwrap_err().code, code, "{text}");
        }
        let mut pool = make(r#"{"prefixes": ["10.0.0.0/16"]}"#).unwrap();
        assert!(change(&mut pool, &body(r#"{"prefixes": ["10.0.0.0/15"]}"#)).is_ok());
        let shrunk = change(&mut pool, &body(r#"{"prefixes": ["10.0.0.0/16"]}"#));
        assert_eq!(shrunk.unwrap_err().code, "IllegalSubnetPoolPrefixUpdate");
    }
}
