//! Policy documents, which services may fetch, and what they are for (OS-ENDPOINT-POLICY). Nobody here reads them.

use model::{Error, Result, id::PolicyId};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        catalog::{self, Endpoint},
        policies::{self, Policy, Spot},
    },
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, endpoint,
    endpoint_group::ENDPOINTS_MAX,
    region, service,
    wire::{self, Fields},
};

const TYPE_CHARS_MAX: usize = 255;
/// How far regions stand in each other.
const REGION_DEPTH_MAX: usize = 32;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("type", "t.type")],
};

/// `GET /v3/policies`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut select = policies::select();
    wire::filter(cx, &LIST, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = policies::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "policies", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

/// `GET /v3/policies/{policy_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let policy = load(cx, &mut *cx.db().read().await?).await?;
    Reply::ok(&json!({ "policy": show(cx, &policy) }))
}

/// `POST /v3/policies`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "policy")?;
    let policy = Policy {
        id: PolicyId::random_hex(),
        kind: fields.name("type", TYPE_CHARS_MAX)?.ok_or_else(|| wire::required("type"))?,
        blob: fields.text("blob")?.ok_or_else(|| wire::required("blob"))?,
        extra: fields.extra()?,
    };
    let mut tx = state.begin().await?;
    policies::put(&mut tx, &policy).await?;
    state.commit(tx).await?;
    Reply::created(&json!({ "policy": show(cx, &policy) }))
}

/// `PATCH /v3/policies/{policy_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut fields = Fields::of(cx, "policy")?;
    let mut tx = state.begin().await?;
    let mut policy = load(cx, &mut tx).await?;
    fields.unchanged("id", Some(policy.id.as_str()))?;
    policy.kind = fields.name("type", TYPE_CHARS_MAX)?.unwrap_or(policy.kind);
    policy.blob = fields.text("blob")?.unwrap_or(policy.blob);
    policy.extra.extend(fields.extra()?);
    policies::put(&mut tx, &policy).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "policy": show(cx, &policy) }))
}

/// `DELETE /v3/policies/{policy_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let policy = load(cx, &mut tx).await?;
    policies::delete(&mut tx, &policy.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/...`.
pub async fn associate(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let policy = load(cx, &mut tx).await?;
    let spot = spot(cx, &mut tx).await?;
    policies::associate(&mut tx, &policy.id, &spot).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET` and `HEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/...`.
pub async fn check(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let policy = load(cx, &mut conn).await?;
    let spot = spot(cx, &mut conn).await?;
    if policies::policy_at(&mut conn, &spot).await? == Some(policy.id) {
        Ok(Reply::no_content())
    } else {
        Err(Error::not_found("PolicyAssociationNotFound", "Could not find policy association."))
    }
}

/// `DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/...`.
pub async fn dissociate(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let mut tx = state.begin().await?;
    let policy = load(cx, &mut tx).await?;
    let spot = spot(cx, &mut tx).await?;
    if policies::policy_at(&mut tx, &spot).await? == Some(policy.id) {
        policies::dissociate(&mut tx, &spot).await?;
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy`: the endpoint's own, else that of its service in its
/// region or one above, else that of its service.
pub async fn get_of_endpoint(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let endpoint = endpoint::load(cx, &mut conn).await?;
    let service = endpoint.service_id.clone();
    let mut spots = vec![Spot::Endpoint(endpoint.id.clone())];
    spots.extend(upwards(&mut conn, &endpoint).await?.into_iter().map(|r| Spot::ServiceInRegion(service.clone(), r)));
    spots.push(Spot::Service(service));
    for spot in &spots {
        if let Some(id) = policies::policy_at(&mut conn, spot).await?
            && let Some(policy) = policies::get(&mut conn, &id).await?
        {
            return Reply::ok(&json!({ "policy": show(cx, &policy) }));
        }
    }
    Err(Error::not_found("NotFound", format!("No policy is associated with endpoint {}.", endpoint.id)))
}

/// `GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints`.
pub async fn list_endpoints(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let policy = load(cx, &mut conn).await?;
    let spots: Vec<Spot> = policies::associations(&mut conn, ENDPOINTS_MAX)
        .await?
        .into_iter()
        .filter(|(id, _)| *id == policy.id)
        .map(|(_, spot)| spot)
        .collect();
    let mut found = Vec::new();
    for endpoint in catalog::all_endpoints(&mut conn, ENDPOINTS_MAX).await? {
        let regions = upwards(&mut conn, &endpoint).await?;
        let covers = |spot: &Spot| match spot {
            Spot::Endpoint(id) => *id == endpoint.id,
            Spot::Service(id) => *id == endpoint.service_id,
            Spot::ServiceInRegion(id, region) => *id == endpoint.service_id && regions.contains(region),
        };
        if spots.iter().any(covers) {
            found.push(endpoint);
        }
    }
    wire::whole(cx, "endpoints", &found, |e| endpoint::show(cx, e))
}

/// The endpoint's region and those above it.
async fn upwards(conn: &mut Conn, endpoint: &Endpoint) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut next = endpoint.region_id.clone();
    while let Some(id) = next.filter(|_| found.len() < REGION_DEPTH_MAX) {
        next = catalog::get_region(conn, &id).await?.and_then(|region| region.parent_region_id);
        found.push(id);
    }
    Ok(found)
}

/// What the path says that the document is for; it must exist.
async fn spot(cx: &Cx, conn: &mut Conn) -> Result<Spot> {
    if !cx.param("endpoint_id").is_empty() {
        return Ok(Spot::Endpoint(endpoint::load(cx, conn).await?.id));
    }
    let service = service::load(cx, conn).await?.id;
    if cx.param("region_id").is_empty() {
        Ok(Spot::Service(service))
    } else {
        Ok(Spot::ServiceInRegion(service, region::load(cx, conn).await?.id))
    }
}

fn show(cx: &Cx, policy: &Policy) -> Value {
    let own = json!({ "type": policy.kind, "blob": policy.blob });
    wire::resource(cx, "policies", policy.id.as_str(), &policy.extra, own)
}

async fn load(cx: &Cx, conn: &mut Conn) -> Result<Policy> {
    let id = PolicyId::new(cx.param("policy_id"));
    let found = policies::get(conn, &id).await?;
    found.ok_or_else(|| wire::not_found("PolicyNotFound", "policy", id.as_str()))
}
