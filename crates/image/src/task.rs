//! Tasks: how imports went.

use model::{Error, Result};
use serde_json::{Value, json};
use store::{
    images::tasks::{self, TASK_SORTS, Task},
    list::Direction,
};
use web::{Cx, Reply, Target, paging::ListSpec};

use crate::image::api;

const LIST: ListSpec = ListSpec { sorts: TASK_SORTS, direction: Direction::Descending, filters: &[] };

/// `GET /v2/tasks`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let page = LIST.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let found = tasks::list(&mut conn, cx.query.get("type"), cx.query.get("status"), &page).await?;
    let views: Vec<Value> = found.iter().map(summary).collect();
    let mut body = json!({"tasks": views, "first": cx.first_path(), "schema": "/v2/schemas/tasks"});
    if let Some(last) = found.last().filter(|_| found.len() == page.limit as usize) {
        body["next"] = json!(cx.next_path(&last.id));
    }
    Reply::ok(&body)
}

/// `GET /v2/tasks/{task_id}`.
pub(crate) async fn show(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let task = tasks::get(&mut *cx.db().read().await?, cx.param("task_id")).await?;
    let task =
        task.ok_or_else(|| Error::not_found("NotFound", format!("No task found with ID {}", cx.param("task_id"))))?;
    Reply::ok(&view(&task))
}

/// `GET /v2/images/{image_id}/tasks`.
pub(crate) async fn list_of_image(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let found = api::find(cx, &mut conn).await?;
    let all = tasks::of_image(&mut conn, &found.image.id).await?;
    Reply::ok(&json!({"tasks": all.iter().map(view).collect::<Vec<_>>()}))
}

fn summary(task: &Task) -> Value {
    let mut view = view(task);
    if let Some(object) = view.as_object_mut() {
        for key in ["input", "result", "message"] {
            object.remove(key);
        }
    }
    view
}

fn view(task: &Task) -> Value {
    let mut view = json!({
        "id": task.id,
        "type": task.kind,
        "status": task.status.as_str(),
        "owner": task.owner,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "input": task.input,
        "result": task.result,
        "message": task.message,
        "created_at": task.created_at.to_seconds_z(),
        "updated_at": task.updated_at.to_seconds_z(),
        "self": format!("/v2/tasks/{}", task.id),
        "schema": "/v2/schemas/task",
    });
    if let Some(at) = task.expires_at {
        view["expires_at"] = json!(at.to_seconds_z());
    }
    view
}
