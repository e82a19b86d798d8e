//! What serves: providers of services beside the network itself, of which there are none; addresses that networks have
//! left; each project's automatic network.

use model::{Result, id::ProjectId};
use serde_json::{Value, json};
use store::network::{
    ip_availability::{self, Availability},
    networks,
};
use web::{Cx, Reply, StatusCode, Target};

use crate::collection::{self, Shape};

/// `GET /service-providers`: routers and the rest are OVN's own.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    Reply::ok(&json!({"service_providers": []}))
}

/// `GET /network-ip-availabilities`
pub async fn list_availabilities(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let wanted = |name| cx.query.all(name).map(str::to_owned).collect::<Vec<String>>();
    let (ids, names, projects) = (wanted("network_id"), wanted("network_name"), wanted("project_id"));
    let all = ip_availability::list(&mut *cx.db().read().await?, &ids).await?;
    let fits = |set: &[String], value: &str| set.is_empty() || set.iter().any(|one| one == value);
    let shown = all.iter().filter(|a| fits(&names, &a.name) && fits(&projects, a.project_id.as_str()));
    Reply::ok(&json!({"network_ip_availabilities": shown.map(availability).collect::<Vec<_>>()}))
}

/// `GET /network-ip-availabilities/{network_id}`
pub async fn show_availability(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let id = cx.param("network_id").to_owned();
    let found = ip_availability::list(&mut *cx.db().read().await?, std::slice::from_ref(&id)).await?;
    let found = found.first().ok_or_else(|| networks::not_found(&id))?;
    collection::one(cx, StatusCode::OK, "network_ip_availability", availability(found))
}

fn availability(of: &Availability) -> Shape {
    let subnets: Vec<Value> = of
        .subnets
        .iter()
        .map(|s| {
            json!({
                "subnet_id": s.id, "subnet_name": s.name, "cidr": s.cidr.to_string(),
                "ip_version": if s.cidr.addr().is_ipv4() { 4 } else { 6 },
                "total_ips": number(s.total), "used_ips": s.used,
            })
        })
        .collect();
    let mut shape = Shape::new();
    shape.insert("network_id".into(), json!(of.id));
    shape.insert("network_name".into(), json!(of.name));
    shape.insert("project_id".into(), json!(of.project_id));
    shape.insert("tenant_id".into(), json!(of.project_id));
    shape.insert("total_ips".into(), number(of.subnets.iter().map(|s| s.total).sum()));
    shape.insert("used_ips".into(), json!(of.subnets.iter().map(|s| s.used).sum::<i64>()));
    shape.insert("subnet_ip_availability".into(), Value::Array(subnets));
    shape
}

/// A count of addresses: in IPv6 more than a JSON reader's integers may hold.
#[allow(clippy::cast_precision_loss, reason = "nobody counts IPv6 addresses to the last one")]
fn number(count: u128) -> Value {
    i64::try_from(count).map_or_else(|_| json!(count as f64), Value::from)
}

/// `GET /auto-allocated-topology/{project_id}`: makes what is missing. With `fields=dry-run` it only says whether it could.
pub async fn show_topology(cx: &Cx) -> Result<Reply> {
    let project = match cx.param("project_id") {
        "" | "None" | "null" => cx.project()?.clone(),
        named => ProjectId::new(named),
    };
    cx.authorize(&Target::project(&project))?;
    let mut tx = cx.db().begin().await?;
    let id = networks::auto_allocate(&mut tx, &project).await?;
    let dry = cx.query.all("fields").any(|field| field == "dry-run");
    let id = if dry { json!("dry-run=pass") } else { json!(id) };
    if !dry {
        tx.commit().await?;
    }
    let mut shape = Shape::new();
    shape.insert("id".into(), id);
    shape.insert("tenant_id".into(), json!(project));
    shape.insert("project_id".into(), json!(project));
    Reply::ok(&json!({ "auto_allocated_topology": shape }))
}

/// `DELETE /auto-allocated-topology/{project_id}`
pub async fn delete_topology(cx: &Cx) -> Result<Reply> {
    let project = ProjectId::new(cx.param("project_id"));
    cx.authorize(&Target::project(&project))?;
    let mut tx = cx.db().begin().await?;
    networks::remove_allocated(&mut tx, &project).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}
