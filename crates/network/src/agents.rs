//! Agents and availability zones: what Neutron's clients ask of where the network runs. There are no Neutron agents;
//! what is shown are the hosts' OVN controllers, under the type that Neutron's own OVN driver gives them.

use model::{Error, Result};
use serde_json::{Value, json};
use store::network::chassis::{self, Chassis};
use web::{Cx, Reply, StatusCode, Target};

use crate::collection::{self, Shape};

/// The one zone: networks and routers are everywhere.
const ZONE: &str = "nova";

/// `GET /agents`: as in Neutron, who may see none gets an empty list.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut all = chassis::list(&mut *cx.db().read().await?).await?;
    all.retain(|_| cx.can("get_agent", &Target::none()));
    let wanted = |shape: &Shape| {
        ["host", "agent_type", "binary", "id"]
            .iter()
            .all(|name| cx.query.get(name).is_none_or(|text| shape.get(*name).and_then(Value::as_str) == Some(text)))
    };
    let shapes: Vec<Shape> = all.iter().map(shape).filter(wanted).collect();
    Reply::ok(&json!({ "agents": shapes }))
}

/// `GET /agents/{id}`
pub async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let id = cx.param("id");
    let all = chassis::list(&mut *cx.db().read().await?).await?;
    let found = all
        .iter()
        .find(|c| c.name == id)
        .ok_or_else(|| Error::not_found("AgentNotFound", format!("Agent {id} could not be found.")))?;
    collection::one(cx, StatusCode::OK, "agent", shape(found))
}

fn shape(chassis: &Chassis) -> Shape {
    let time = |at: model::Timestamp| at.to_seconds_z().replace('T', " ").replace('Z', "");
    let shape = json!({
        "id": chassis.name,
        "agent_type": "OVN Controller Gateway agent",
        "binary": "ovn-controller",
        "topic": "n/a",
        "host": chassis.host,
        "alive": chassis.alive,
        "admin_state_up": true,
        "availability_zone": ZONE,
        "configurations": {},
        "resources_synced": null,
        "description": null,
        "created_at": time(chassis.created_at),
        "started_at": time(chassis.created_at),
        "heartbeat_timestamp": time(chassis.updated_at),
    });
    match shape {
        Value::Object(shape) => shape,
        _ => Shape::new(),
    }
}

/// `GET /availability_zones`
pub async fn list_zones(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let zone = |resource: &str| json!({"name": ZONE, "resource": resource, "state": "available"});
    Reply::ok(&json!({"availability_zones": [zone("network"), zone("router")]}))
}
