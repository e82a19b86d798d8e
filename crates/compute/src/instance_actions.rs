//! `/servers/{id}/os-instance-actions`: what was done with a server.

use model::{Error, Result, Timestamp};
use serde_json::{Value, json};
use store::{
    Conn,
    compute::{
        actions::{self, Action, Event},
        servers::{self, Server},
    },
    list::{Direction, Value as Bound},
};
use web::{Cx, Reply, Version, paging::ListSpec};

use crate::{
    input,
    servers::{api, host_digest},
};

const SPEC: ListSpec = ListSpec { sorts: &[actions::BY_UPDATE], direction: Direction::Descending, filters: &[] };

/// `GET`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    let mut select = actions::select(&server.id);
    let mut page = SPEC.page(&cx.query)?;
    if cx.version < Version(2, 58) {
        (page.marker, page.limit) = (None, model::limits::PAGE_SIZE_MAX);
    }
    for (name, condition, since) in [
        ("changes-since", "a.updated_at >= ?", Version(2, 58)),
        ("changes-before", "a.updated_at <= ?", Version(2, 66)),
    ] {
        let Some(text) = cx.query.get(name).filter(|_| cx.version >= since) else { continue };
        let at = Timestamp::parse(text)
            .ok_or_else(|| input::invalid(format!("Invalid input for query parameters {name}. Value: {text}.")))?;
        select.filter(condition, [Bound::Int(at.0)]);
    }
    let rows = actions::list(&mut conn, select, &page).await?;
    let shown: Vec<Value> = rows.iter().map(|action| shape(cx, action)).collect();
    let mut body = json!({ "instanceActions": shown });
    if cx.version >= Version(2, 58)
        && let Some(links) = input::next_link(cx, page.limit, rows.len(), rows.last().map(|a| a.request_id.as_str()))
    {
        body["links"] = links;
    }
    Reply::ok(&body)
}

/// `GET .../{request_id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let server = load(cx, &mut conn).await?;
    let request = cx.param("request_id");
    let action = actions::get(&mut conn, &server.id, request)
        .await?
        .ok_or_else(|| Error::not_found("InstanceActionNotFound", format!("Action {request} not found")))?;
    let mut shown = shape(cx, &action);
    let target = api::target(&server);
    let sees_errors = cx.can("os_compute_api:os-instance-actions:events", &target);
    if sees_errors || cx.version >= Version(2, 51) {
        let sees_details = cx.can("os_compute_api:os-instance-actions:events:details", &target);
        let events = actions::events(&mut conn, &server.id, request).await?;
        let shape = |event| shape_event(cx, &server, event, sees_errors, sees_details);
        shown["events"] = events.iter().map(shape).collect();
    }
    Reply::ok(&json!({ "instanceAction": shown }))
}

/// From 2.21 on also of a server that is gone.
async fn load(cx: &Cx, conn: &mut Conn) -> Result<Server> {
    if cx.version < Version(2, 21) {
        return api::load(cx, conn).await;
    }
    let id = cx.param("id");
    let server = servers::get(conn, id).await?.ok_or_else(|| api::not_found(id))?;
    cx.authorize_found(&api::target(&server), || api::not_found(id))?;
    Ok(server)
}

fn shape(cx: &Cx, action: &Action) -> Value {
    let mut shown = json!({
        "action": action.action, "instance_uuid": action.server_id, "request_id": action.request_id,
        "user_id": action.user_id, "project_id": action.project_id, "message": action.message,
        "start_time": action.start_at.to_micros_naive(),
    });
    if cx.version >= Version(2, 58) {
        shown["updated_at"] = json!(action.updated_at.to_micros_naive());
    }
    shown
}

fn shape_event(cx: &Cx, server: &Server, event: &Event, sees_errors: bool, sees_details: bool) -> Value {
    let mut shown = json!({
        "event": event.event, "start_time": event.start_at.to_micros_naive(),
        "finish_time": event.finish_at.map(Timestamp::to_micros_naive), "result": event.result,
    });
    if sees_errors {
        shown["traceback"] = json!(event.details);
    }
    if cx.version >= Version(2, 62) {
        shown["hostId"] = json!(host_digest(server.project_id.as_str(), event.host.as_deref()));
        if let Some(host) = event.host.as_ref().filter(|_| sees_errors) {
            shown["host"] = json!(host);
        }
    }
    if cx.version >= Version(2, 84) {
        shown["details"] =
            if sees_details { json!(event.details) } else { json!(event.details.as_ref().map(|_| "Error")) };
    }
    shown
}
