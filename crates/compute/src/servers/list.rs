//! `GET /servers` and `GET /servers/detail`: which servers, in which order, as the query asks.

use model::{Error, Result, Timestamp, id::ProjectId};
use store::{
    compute::{
        hosts,
        server_list::{self, Details, TAGS_MAX, TagMatch},
        servers::Server,
    },
    list::{Direction, Select, SortKey, Type, Value},
};
use web::{
    Cx, Reply, StatusCode, Target, Version,
    paging::{Filter, ListSpec},
};

use super::view::{Amount, View, Viewing};
use crate::input;

/// What users may sort by and filter on.
const SPEC: ListSpec = ListSpec {
    sorts: &[
        key("created_at", "s.created_at", Type::Int),
        key("updated_at", "s.updated_at", Type::Int),
        key("launched_at", "coalesce(s.launched_at, 0)", Type::Int),
        key("terminated_at", "coalesce(s.terminated_at, 0)", Type::Int),
        key("display_name", "s.name", Type::Text),
        key("display_description", "coalesce(s.description, '')", Type::Text),
        key("uuid", "s.id", Type::Text),
        key("host", "coalesce(s.node, '')", Type::Text),
        key("node", "coalesce(s.node, '')", Type::Text),
        key("hostname", "s.hostname", Type::Text),
        key("project_id", "s.project_id", Type::Text),
        key("user_id", "s.user_id", Type::Text),
        key("image_ref", "s.image_id", Type::Text),
        key("instance_type_id", "s.flavor_id", Type::Text),
        key("key_name", "coalesce(s.key_name, '')", Type::Text),
        key("availability_zone", "coalesce(s.zone, '')", Type::Text),
        key("vm_state", "s.vm_state", Type::Text),
        key("task_state", "coalesce(s.task_state, '')", Type::Text),
        key("power_state", "s.power_state", Type::Int),
        key("launch_index", "s.launch_index", Type::Int),
        key("config_drive", "s.config_drive", Type::Int),
        key("access_ip_v4", "s.access_ipv4", Type::Text),
        key("access_ip_v6", "s.access_ipv6", Type::Text),
        key("locked", "s.locked", Type::Int),
    ],
    direction: Direction::Descending,
    filters: &[Filter::exact("reservation_id", "s.reservation_id")],
};

/// What administrators may filter on besides. From 2.83 on everyone may use those of [`OPEN`].
const ADMIN: ListSpec = ListSpec {
    filters: &[
        Filter::exact("host", "s.node"),
        Filter::exact("node", "s.node"),
        Filter::exact("user_id", "s.user_id"),
        Filter::exact("uuid", "s.id"),
        Filter::exact("hostname", "s.hostname"),
        Filter::contains("description", "coalesce(s.description, '')"),
        Filter::exact("access_ip_v4", "s.access_ipv4"),
        Filter::exact("access_ip_v6", "s.access_ipv6"),
        Filter::number("launch_index", "s.launch_index"),
        Filter::flag("locked", "s.locked"),
    ],
    ..OPEN
};

const OPEN: ListSpec = ListSpec { filters: OPEN_FILTERS, ..SPEC };

const OPEN_FILTERS: &[Filter] = &[
    Filter::exact("availability_zone", "s.zone"),
    Filter::flag("config_drive", "s.config_drive"),
    Filter::exact("key_name", "s.key_name"),
    Filter::number("power_state", "s.power_state"),
    Filter::exact("task_state", "s.task_state"),
    Filter::exact("vm_state", "s.vm_state"),
    Filter::exact("user_id", "s.user_id"),
];

/// Every parameter there is: from 2.75 on any other is refused.
const KNOWN: &[&str] = &[
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "all_tenants",
    "tenant_id",
    "project_id",
    "name",
    "status",
    "image",
    "flavor",
    "ip",
    "ip6",
    "changes-since",
    "changes-before",
    "reservation_id",
    "deleted",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
    "host",
    "node",
    "user_id",
    "uuid",
    "hostname",
    "description",
    "access_ip_v4",
    "access_ip_v6",
    "launch_index",
    "locked",
    "availability_zone",
    "config_drive",
    "key_name",
    "power_state",
    "task_state",
    "vm_state",
    "progress",
    "created_at",
    "launched_at",
    "terminated_at",
    "root_device_name",
    "kernel_id",
    "ramdisk_id",
    "soft_deleted",
    "block_device_mapping",
    "services",
    "metadata",
    "system_metadata",
    "info_cache",
    "security_groups",
    "pci_devices",
    "instance_type_id",
    "display_name",
    "display_description",
    "image_ref",
    "vcpus",
    "memory_mb",
    "root_gb",
    "ephemeral_gb",
    "auto_disk_config",
    "architecture",
    "os_type",
    "cell_name",
    "disable_terminate",
    "shutdown_terminate",
    "default_swap_device",
    "default_ephemeral_device",
    "vm_mode",
    "locked_by",
    "launched_on",
    "hidden",
];

const fn key(name: &'static str, sql: &'static str, kind: Type) -> SortKey {
    SortKey { name, sql, kind }
}

/// `GET /servers`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    answer(cx, Amount::Brief, "os_compute_api:servers:index:get_all_tenants").await
}

/// `GET /servers/detail`.
pub async fn detail(cx: &Cx) -> Result<Reply> {
    answer(cx, Amount::Detail, "os_compute_api:servers:detail:get_all_tenants").await
}

async fn answer(cx: &Cx, amount: Amount, all_tenants: &'static str) -> Result<Reply> {
    let project = cx.authorize_own_project()?.clone();
    let select = select(cx, &project, all_tenants)?;
    let page = SPEC.page(&cx.query)?;
    let dialect = cx.db().dialect();
    let mut conn = cx.db().read().await?;
    let servers = match &select {
        Some(_) if page.limit == 0 => Vec::new(),
        Some(_) => server_list::page(&mut conn, dialect, select.unwrap_or_else(server_list::select), &page).await?,
        None => Vec::new(),
    };
    let details = match amount {
        Amount::Brief => std::collections::HashMap::new(),
        _ => server_list::details(&mut conn, dialect, &servers).await?,
    };
    let mut viewing =
        Viewing::new(cx, cx.can("os_compute_api:os-extended-server-attributes", &Target::project(&project)));
    if amount == Amount::Detail && cx.version >= Version(2, 16) && cx.can(HOST_STATUS, &Target::project(&project)) {
        viewing.host_status = Some(host_states(&mut conn, cx.now()).await?);
    }
    drop(conn);
    let none = Details::default();
    let views = servers.iter().map(|server| {
        let details = details.get(&server.id).unwrap_or(&none);
        View { viewing: &viewing, server, details, amount }
    });
    write(cx, views, &servers, page.limit)
}

/// The policy rule of `host_status`.
pub const HOST_STATUS: &str = "os_compute_api:servers:show:host_status";

/// The state of each host, as `host_status` shows it.
///
/// # Errors
/// When the database fails.
pub async fn host_states(
    conn: &mut store::Conn,
    now: Timestamp,
) -> Result<std::collections::HashMap<model::id::HostId, &'static str>> {
    let state = |host: &hosts::Host| match (host.is_up(now), host.enabled) {
        (_, false) => "MAINTENANCE",
        (true, true) => "UP",
        (false, true) => "DOWN",
    };
    Ok(hosts::list(conn).await?.iter().map(|host| (host.id.clone(), state(host))).collect())
}

/// Straight into the body's buffer.
fn write<'a>(cx: &Cx, views: impl Iterator<Item = View<'a>>, servers: &[Server], limit: u32) -> Result<Reply> {
    let failed = |e| Error::internal("writing a response", e);
    let mut body = Vec::with_capacity(64 + servers.len() * 1600);
    body.extend_from_slice(b"{\"servers\":[");
    for (at, view) in views.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &view).map_err(failed)?;
    }
    body.push(b']');
    let last = servers.last().map(|server| server.id.as_str());
    if let Some(links) = input::next_link(cx, limit, servers.len(), last).filter(|_| limit > 0) {
        body.extend_from_slice(b",\"servers_links\":");
        serde_json::to_writer(&mut body, &links).map_err(failed)?;
    }
    body.push(b'}');
    Ok(Reply::bytes(StatusCode::OK, "application/json", body))
}

/// Which servers; none where the query can't match any.
fn select(cx: &Cx, project: &ProjectId, all_tenants: &'static str) -> Result<Option<Select>> {
    input::only_known(cx, Version(2, 75), KNOWN)?;
    let query = &cx.query;
    let mut select = server_list::select();
    let target = Target::project(project);
    let is_admin = cx.can("os_compute_api:servers:allow_all_filters", &target);
    let of_project = query.get("project_id").or(query.get("tenant_id"));
    // A bare `?all_tenants` means yes.
    let all = match query.get("all_tenants") {
        Some("") => true,
        Some(_) => query.flag("all_tenants")?.unwrap_or(false),
        None => is_admin && of_project.is_some(),
    };
    if all {
        cx.authorize_rule(all_tenants, &target)?;
        if let Some(of_project) = of_project {
            select.equal("s.project_id", of_project);
        }
    } else {
        select.equal("s.project_id", project);
    }
    select_alive(cx, is_admin, &mut select)?;
    if !select_status(cx, is_admin, &mut select)? {
        return Ok(None);
    }
    select_common(cx, &mut select)?;
    SPEC.filter(query, &mut select)?;
    if is_admin {
        ADMIN.filter(query, &mut select)?;
    }
    if is_admin || cx.version >= Version(2, 83) {
        OPEN.filter(query, &mut select)?;
    }
    Ok(Some(select))
}

/// Those that are gone are shown to who asks for changes, and to administrators who ask for them.
fn select_alive(cx: &Cx, is_admin: bool, select: &mut Select) -> Result<()> {
    let query = &cx.query;
    let moment = |name: &'static str| {
        query.get(name).map(|text| {
            Timestamp::parse(text).ok_or_else(|| {
                Error::bad_request("InvalidInput", format!("Invalid input for query parameters {name}. Value: {text}."))
            })
        })
    };
    let since = moment("changes-since").transpose()?;
    let before = moment("changes-before").filter(|_| cx.version >= Version(2, 66)).transpose()?;
    if let Some(since) = since {
        select.filter("s.updated_at >= ?", [Value::Int(since.0)]);
    }
    if let Some(before) = before {
        select.filter("s.updated_at <= ?", [Value::Int(before.0)]);
    }
    if let (Some(since), Some(before)) = (since, before)
        && since > before
    {
        let message = "The value of changes-since must be less than or equal to changes-before.";
        return Err(Error::bad_request("InvalidInput", message));
    }
    let wants_gone = query.get("status").is_some_and(|status| status.eq_ignore_ascii_case("deleted"));
    let deleted = if is_admin { query.flag("deleted")? } else { None };
    match deleted {
        Some(true) => server_list::gone(select),
        Some(false) => server_list::alive(select),
        None if since.is_some() || before.is_some() || (wants_gone && is_admin) => {}
        None => server_list::alive(select),
    }
    Ok(())
}

/// False when the status is none that a server can have.
fn select_status(cx: &Cx, is_admin: bool, select: &mut Select) -> Result<bool> {
    const KNOWN: &[&str] = &[
        "ACTIVE",
        "BUILD",
        "REBOOT",
        "HARD_REBOOT",
        "PAUSED",
        "SUSPENDED",
        "SHUTOFF",
        "REBUILD",
        "RESIZE",
        "VERIFY_RESIZE",
        "REVERT_RESIZE",
        "RESCUE",
        "SHELVED",
        "SHELVED_OFFLOADED",
        "SOFT_DELETED",
        "ERROR",
        "DELETED",
    ];
    let wanted: Vec<String> = cx.query.all("status").map(str::to_uppercase).collect();
    if wanted.is_empty() {
        return Ok(true);
    }
    if wanted.iter().any(|status| status == "DELETED") && !is_admin {
        return Err(Error::forbidden("Forbidden", "Only administrators may list deleted instances"));
    }
    let known: Vec<Value> = wanted.iter().filter(|s| KNOWN.contains(&s.as_str())).map(|s| s.as_str().into()).collect();
    let any = !known.is_empty();
    select.any_of("s.status", known);
    Ok(any)
}

fn select_common(cx: &Cx, select: &mut Select) -> Result<()> {
    let query = &cx.query;
    if let Some(name) = query.get("name").or(query.get("display_name")) {
        // Nova takes a regular expression; what clients send is a part of the name, or an anchored whole.
        match name.strip_prefix('^').and_then(|n| n.strip_suffix('$')) {
            Some(whole) => select.equal("s.name", whole),
            None => {
                select.contains("s.name", name.trim_start_matches('^').trim_end_matches('$').trim_matches(['.', '*']))
            }
        };
    }
    if let Some(image) = query.get("image") {
        select.equal("s.image_id", super::wire::last_part(image));
    }
    if let Some(flavor) = query.get("flavor") {
        select.equal("s.flavor_id", super::wire::last_part(flavor));
    }
    if let Some(ip) = query.get("ip") {
        server_list::with_address(select, ip, 4);
    }
    if let Some(ip) = query.get("ip6").filter(|_| cx.version >= Version(2, 5)) {
        server_list::with_address(select, ip, 6);
    }
    if cx.version < Version(2, 26) {
        return Ok(());
    }
    for (name, how) in [
        ("tags", TagMatch::All),
        ("tags-any", TagMatch::Any),
        ("not-tags", TagMatch::NotAll),
        ("not-tags-any", TagMatch::NotAny),
    ] {
        let Some(text) = query.get(name) else { continue };
        let tags: Vec<&str> = text.split(',').filter(|tag| !tag.is_empty()).collect();
        if tags.len() > TAGS_MAX && matches!(how, TagMatch::Any | TagMatch::NotAll) {
            return Err(input::invalid(format!("At most {TAGS_MAX} tags can be given for {name}.")));
        }
        if !tags.is_empty() {
            server_list::with_tags(select, &tags, how);
        }
    }
    Ok(())
}
