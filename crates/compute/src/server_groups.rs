//! `os-server-groups`: servers that are kept together or apart. The scheduler sees to it when it claims a host.

use model::{Error, Result, id::random_uuid, quota::UNLIMITED};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{
    compute::server_groups::{self, BY_CREATION, ServerGroup},
    list::Direction,
    quotas::{self, Charge},
};
use web::{Cx, Reply, Target, Version, paging::ListSpec};

use crate::input::{Whole, check_name, invalid, only_known};

const SPEC: ListSpec = ListSpec { sorts: &[BY_CREATION], direction: Direction::Ascending, filters: &[] };
const QUOTA: &str = "server_groups";
const POLICIES: [&str; 4] = ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"];

/// `GET /v2.1/os-server-groups`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["all_projects", "limit", "offset", "marker"])?;
    let project = cx.authorize_own_project()?.clone();
    let all = cx.query.has("all_projects")
        && cx.can("os_compute_api:os-server-groups:index:all_projects", &Target::project(&project));
    let page = SPEC.page(&cx.query)?;
    let mut conn = cx.db().read().await?;
    let groups = server_groups::list(&mut conn, (!all).then_some(&project), &page).await?;
    let offset = cx.query.number("offset")?.unwrap_or(0);
    let groups: Vec<ServerGroup> = groups.into_iter().skip(usize::try_from(offset).unwrap_or(0)).collect();
    let members = server_groups::members(&mut conn, &groups).await?;
    let shown: Vec<Value> = groups
        .iter()
        .map(|group| shape(cx, group, members.get(&group.id).map_or(&[] as &[_], Vec::as_slice)))
        .collect();
    Reply::ok(&json!({ "server_groups": shown }))
}

/// `GET /v2.1/os-server-groups/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let mut conn = cx.db().read().await?;
    let group = load(cx, &mut conn).await?;
    let members = server_groups::members(&mut conn, std::slice::from_ref(&group)).await?;
    Reply::ok(&json!({"server_group": shape(cx, &group, members.get(&group.id).map_or(&[] as &[_], Vec::as_slice))}))
}

async fn load(cx: &Cx, conn: &mut store::Conn) -> Result<ServerGroup> {
    let id = cx.param("id");
    let missing = || Error::not_found("InstanceGroupNotFound", format!("Instance group {id} could not be found."));
    let group = server_groups::get(conn, id).await?.ok_or_else(missing)?;
    cx.authorize_found(&Target::project(&group.project_id), missing)?;
    Ok(group)
}

/// `POST /v2.1/os-server-groups`: `policies`, a list of one, until 2.63; `policy` and `rules` from 2.64 on.
pub async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Create {
        name: String,
        policies: Option<Vec<String>>,
        policy: Option<String>,
        rules: Option<Rules>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rules {
        max_server_per_host: Option<Whole>,
    }
    let project = cx.authorize_own_project()?.clone();
    let body: Map<String, Value> = cx.json_in("server_group")?;
    let request: Create = serde_json::from_value(Value::Object(body))
        .map_err(|e| invalid(format!("Invalid input for field/attribute server_group: {e}")))?;
    check_name("name", &request.name)?;
    let newer = cx.version >= Version(2, 64);
    let policy = match (newer, request.policies.as_deref(), request.policy) {
        (true, None, Some(policy)) => policy,
        (false, Some([policy]), None) if request.rules.is_none() => policy.clone(),
        _ => return Err(invalid("Invalid input for field/attribute server_group: it needs exactly one policy.")),
    };
    let known = if cx.version >= Version(2, 15) { &POLICIES[..] } else { &POLICIES[..2] };
    if !known.contains(&policy.as_str()) {
        return Err(invalid(format!(
            "Invalid input for field/attribute policy. Value: {policy}. It is one of {}.",
            known.join(", ")
        )));
    }
    let per_host = request.rules.and_then(|rules| rules.max_server_per_host).map(|whole| whole.0);
    if per_host.is_some() && policy != "anti-affinity" {
        return Err(invalid("Only anti-affinity policy supports rules."));
    }
    if per_host.is_some_and(|most| most < 1) {
        return Err(invalid("Invalid input for field/attribute max_server_per_host. It is at least 1."));
    }
    let mut tx = cx.db().begin().await?;
    let default_limit = store::compute::default_quota(QUOTA);
    quotas::charge(&mut tx, &project, &[Charge { resource: QUOTA, default_limit, amount: 1 }]).await.map_err(|e| {
        if e.kind == model::ErrorKind::OverQuota {
            return Error::forbidden("OverQuota", "Quota exceeded, too many server groups.");
        }
        e
    })?;
    let group = ServerGroup {
        id: random_uuid().to_string(),
        project_id: project,
        user_id: cx.caller.user().to_string(),
        name: request.name,
        policy,
        per_host,
        created_at: tx.now(),
    };
    server_groups::insert(&mut tx, &group).await?;
    tx.commit().await?;
    debug_assert!(default_limit != UNLIMITED, "groups are limited");
    Reply::ok(&json!({"server_group": shape(cx, &group, &[])}))
}

/// `DELETE /v2.1/os-server-groups/{id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let group = load(cx, &mut tx).await?;
    server_groups::delete(&mut tx, &group.id).await?;
    quotas::release(&mut tx, &group.project_id, QUOTA, 1).await?;
    tx.commit().await?;
    Ok(Reply::no_content())
}

fn shape(cx: &Cx, group: &ServerGroup, members: &[model::id::ServerId]) -> Value {
    let mut shown = json!({"id": group.id, "name": group.name, "members": members});
    if cx.version >= Version(2, 13) {
        shown["project_id"] = json!(group.project_id);
        shown["user_id"] = json!(group.user_id);
    }
    if cx.version >= Version(2, 64) {
        shown["policy"] = json!(group.policy);
        shown["rules"] = group.per_host.map_or_else(|| json!({}), |most| json!({"max_server_per_host": most}));
    } else {
        shown["policies"] = json!([group.policy]);
        shown["metadata"] = json!({});
    }
    shown
}
