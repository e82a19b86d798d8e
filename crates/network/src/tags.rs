//! Tags of networks, subnets, ports, routers, floating IPs, security groups and their rules, subnet
//! pools, trunks and QoS policies.

use model::{Error, Result};
use serde::Deserialize;
use serde_json::json;
use store::{
    Conn, Tx,
    network::{
        floating_ips, networks, ports, qos::Policy, routers, rows, rows::Table, security_groups,
        subnet_pools::SubnetPool, subnets, tags, trunks::Trunk,
    },
};
use web::{Cx, Reply, StatusCode, Target};

use crate::collection::{self, Shown, invalid};

/// Neutron's limits.
const TAG_CHARS_MAX: usize = 255;
const TAGS_MAX: usize = 50;

/// What the path names: its table, and the rule by which one may see it.
struct Tagged {
    /// None where tags change nothing else.
    table: Option<Table>,
    id: String,
}

/// The resource, once the caller may do to its tags what the route does.
async fn tagged(cx: &Cx, conn: &mut Conn) -> Result<Tagged> {
    let id = cx.param("id").to_owned();
    let collection = cx.path.rsplit("/v2.0/").next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let missing = || Error::not_found("TagResourceNotFound", format!("Resource {collection} {id} could not be found."));
    let (table, get_rule, target) = match collection {
        "networks" => {
            let network = networks::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::Networks), "get_network", crate::networks::logic::target(&network))
        }
        "subnets" => {
            let subnet = subnets::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::Subnets), "get_subnet", Target::project(&subnet.project_id))
        }
        "ports" => {
            let port = ports::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::Ports), "get_port", Target::project(&port.project_id))
        }
        "routers" => {
            let router = routers::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::Routers), "get_router", Target::project(&router.project_id))
        }
        "floatingips" => {
            let floating_ip = floating_ips::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::FloatingIps), "get_floatingip", Target::project(&floating_ip.project_id))
        }
        "security-groups" => {
            let group = security_groups::get(conn, &id).await?.ok_or_else(missing)?;
            (Some(Table::SecurityGroups), "get_security_group", Target::project(&group.project_id))
        }
        "security-group-rules" => {
            let rule = security_groups::get_rule(conn, &id).await?.ok_or_else(missing)?;
            (None, "get_security_group_rule", Target::project(&rule.project_id))
        }
        "subnetpools" => plain::<SubnetPool>(conn, &id, missing).await?,
        "trunks" => plain::<Trunk>(conn, &id, missing).await?,
        "policies" => plain::<Policy>(conn, &id, missing).await?,
        _ => return Err(missing()),
    };
    collection::authorize(cx, get_rule, &target, missing)?;
    Ok(Tagged { table, id })
}

async fn plain<R: Shown>(
    conn: &mut Conn,
    id: &str,
    missing: impl FnOnce() -> Error,
) -> Result<(Option<Table>, &'static str, Target)> {
    let found: R = store::network::plain::get(conn, id).await?.ok_or_else(missing)?;
    Ok((None, R::GET, found.target()))
}

async fn touch(tx: &mut Tx, tagged: &Tagged) -> Result<()> {
    match tagged.table {
        Some(table) => Ok(rows::touch(tx, table, &tagged.id).await?),
        None => Ok(()),
    }
}

/// `GET .../tags`
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let tagged = tagged(cx, &mut conn).await?;
    Reply::ok(&json!({"tags": tags::get(&mut conn, &tagged.id).await?}))
}

/// `GET .../tags/{tag}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let tagged = tagged(cx, &mut conn).await?;
    let tag = cx.param("tag");
    if tags::get(&mut conn, &tagged.id).await?.iter().any(|have| have == tag) {
        return Ok(Reply::no_content());
    }
    Err(not_found(tag))
}

/// `PUT .../tags/{tag}`
pub async fn add(cx: &Cx) -> Result<Reply> {
    let tag = cx.param("tag");
    check(&[tag.to_owned()])?;
    let mut tx = cx.db().begin().await?;
    let tagged = tagged(cx, &mut tx).await?;
    if tags::get(&mut tx, &tagged.id).await?.len() >= TAGS_MAX {
        return Err(invalid(format!("a resource has at most {TAGS_MAX} tags")));
    }
    if tags::add(&mut tx, &tagged.id, tag).await? {
        touch(&mut tx, &tagged).await?;
    }
    tx.commit().await?;
    Ok(Reply::empty(StatusCode::CREATED))
}

/// `PUT .../tags`
pub async fn replace(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        tags: Vec<String>,
    }
    let mut wanted = cx.json::<Body>()?.tags;
    wanted.sort_unstable();
    wanted.dedup();
    check(&wanted)?;
    let mut tx = cx.db().begin().await?;
    let tagged = tagged(cx, &mut tx).await?;
    tags::replace(&mut tx, &tagged.id, &wanted).await?;
    touch(&mut tx, &tagged).await?;
    tx.commit().await?;
    Reply::ok(&json!({ "tags": wanted }))
}

/// `DELETE .../tags/{tag}`
pub async fn remove(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let tagged = tagged(cx, &mut tx).await?;
    let tag = cx.param("tag");
    if !tags::remove(&mut tx, &tagged.id, tag).await? {
        return Err(not_found(tag));
    }
    touch(&mut tx, &tagged).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

/// `DELETE .../tags`
pub async fn clear(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let tagged = tagged(cx, &mut tx).await?;
    tags::clear(&mut tx, &tagged.id).await?;
    touch(&mut tx, &tagged).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn not_found(tag: &str) -> Error {
    Error::not_found("TagNotFound", format!("Tag {tag} could not be found."))
}

/// A comma would end the tag where lists are filtered by it.
fn check(tags: &[String]) -> Result<()> {
    let bad = |tag: &&String| tag.is_empty() || tag.chars().count() > TAG_CHARS_MAX || tag.contains(',');
    match tags.iter().find(bad) {
        Some(tag) => Err(invalid(format!("'{tag}' is no tag: 1 to {TAG_CHARS_MAX} characters, no comma"))),
        None if tags.len() > TAGS_MAX => Err(invalid(format!("a resource has at most {TAGS_MAX} tags"))),
        None => Ok(()),
    }
}
