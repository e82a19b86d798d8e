//! `os-migrations` and `/servers/{id}/migrations`: resizes. Servers don't move between hosts here, so none is ever under
//! way that could be followed or broken off.

use model::{Error, Result, Timestamp};
use serde_json::{Value, json};
use store::{
    compute::migrations::{self, BY_CREATION, Migration},
    list::{Direction, Value as Bound},
};
use web::{
    Cx, Reply, Target, Version,
    paging::{Filter, ListSpec},
};

use crate::{
    input::{self, invalid, only_known},
    servers::api,
};

const SPEC: ListSpec = ListSpec {
    sorts: &[BY_CREATION],
    direction: Direction::Descending,
    filters: &[
        Filter::exact("host", "m.host"),
        Filter::exact("source_compute", "m.host"),
        Filter::exact("instance_uuid", "m.server_id"),
        Filter::exact("status", "m.status"),
        Filter::exact("migration_type", "m.kind"),
    ],
};

const KNOWN: &[&str] = &[
    "host",
    "source_compute",
    "instance_uuid",
    "status",
    "migration_type",
    "hidden",
    "limit",
    "marker",
    "changes-since",
    "changes-before",
    "user_id",
    "project_id",
];

/// `GET /v2.1/os-migrations`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    only_known(cx, Version(2, 75), KNOWN)?;
    let mut select = migrations::select();
    SPEC.filter(&cx.query, &mut select)?;
    let mut page = SPEC.page(&cx.query)?;
    if cx.version < Version(2, 59) {
        (page.marker, page.limit) = (None, model::limits::PAGE_SIZE_MAX);
    }
    for (name, condition, since) in [
        ("changes-since", "m.updated_at >= ?", Version(2, 59)),
        ("changes-before", "m.updated_at <= ?", Version(2, 66)),
    ] {
        let Some(text) = cx.query.get(name).filter(|_| cx.version >= since) else { continue };
        let at = Timestamp::parse(text)
            .ok_or_else(|| invalid(format!("Invalid input for query parameters {name}. Value: {text}.")))?;
        select.filter(condition, [Bound::Int(at.0)]);
    }
    if cx.version >= Version(2, 80) {
        for (name, column) in [("user_id", "m.user_id"), ("project_id", "m.project_id")] {
            if let Some(wanted) = cx.query.get(name) {
                select.equal(column, wanted);
            }
        }
    }
    let rows = migrations::list(&mut *cx.db().read().await?, select, &page).await?;
    let mut body = json!({"migrations": rows.iter().map(|row| shape(cx, row)).collect::<Vec<_>>()});
    if cx.version >= Version(2, 59)
        && let Some(links) = input::next_link(cx, page.limit, rows.len(), rows.last().map(|row| row.id.as_str()))
    {
        body["migrations_links"] = links;
    }
    Reply::ok(&body)
}

/// `GET /v2.1/servers/{id}/migrations`: live migrations under way, of which there are none.
pub async fn list_of_server(cx: &Cx) -> Result<Reply> {
    api::load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({"migrations": []}))
}

/// `GET`, `DELETE` and the actions of `/v2.1/servers/{id}/migrations/{migration_id}`.
pub async fn none_under_way(cx: &Cx) -> Result<Reply> {
    let server = api::load(cx, &mut *cx.db().read().await?).await?;
    let migration = cx.param("migration_id");
    let message = format!("Migration {migration} is not found for server {}.", server.id);
    Err(Error::not_found("MigrationNotFoundForInstance", message))
}

fn shape(cx: &Cx, migration: &Migration) -> Value {
    let mut shown = json!({
        "id": migration.number, "instance_uuid": migration.server_id, "status": migration.status,
        "source_compute": migration.host, "source_node": migration.host, "dest_compute": migration.host,
        "dest_node": migration.host, "dest_host": null, "old_instance_type_id": migration.old_flavor_id,
        "new_instance_type_id": migration.new_flavor_id, "created_at": migration.created_at.to_micros_naive(),
        "updated_at": migration.updated_at.to_micros_naive(),
    });
    if cx.version >= Version(2, 23) {
        shown["migration_type"] = json!(migration.kind);
        shown["links"] = json!([]);
        if migration.kind == "resize"
            && let Some(fields) = shown.as_object_mut()
        {
            // Only live migrations under way have a place of their own.
            fields.remove("links");
        }
    }
    if cx.version >= Version(2, 59) {
        shown["uuid"] = json!(migration.id);
    }
    if cx.version >= Version(2, 80) {
        shown["user_id"] = json!(migration.user_id);
        shown["project_id"] = json!(migration.project_id);
    }
    shown
}
