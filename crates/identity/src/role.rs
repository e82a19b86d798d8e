//! Roles, and which of them bring others.

use model::{
    Error, Result,
    id::{DomainId, RoleId},
};
use serde_json::{Value, json};
use store::{
    identity::{
        domains,
        roles::{self, Role},
    },
    list::{Direction, Page, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, domain,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 255;
const BY_NAME: SortKey = SortKey { name: "name", sql: "t.name", kind: Type::Text };

/// How roles are listed.
const LIST: ListSpec = ListSpec {
    sorts: &[BY_NAME, SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[Filter::exact("name", "t.name")],
};

/// `GET /v3/roles`: the cloud's, or with `domain_id` that domain's own.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let wanted = cx.query.get("domain_id").filter(|id| !id.is_empty());
    match wanted {
        Some(_) => cx.authorize_instead("identity:list_domain_roles", &Target::none())?,
        None => {
            let own = domain::own(cx);
            cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str())))?;
        }
    }
    let mut select = roles::select();
    wire::filter(cx, &LIST, &mut select)?;
    match wanted {
        Some(domain) => select.equal("t.domain_id", domain),
        None => select.filter("t.domain_id is null", []),
    };
    let page = LIST.page(&cx.query)?;
    let found = roles::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "roles", &page, &found, |r| (r.id.as_str(), show(cx, r)))
}

/// `GET /v3/roles/{role_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let role = load_for(cx, "identity:get_domain_role").await?;
    Reply::ok(&json!({ "role": show(cx, &role) }))
}

/// `POST /v3/roles`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "role")?;
    let domain_id = fields.nullable_text("domain_id")?.flatten().map(DomainId::new);
    match &domain_id {
        Some(id) => cx.authorize_instead("identity:create_domain_role", &in_domain(id))?,
        None => cx.authorize(&Target::none())?,
    }
    let role = Role {
        id: RoleId::random_hex(),
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        domain_id,
        description: fields.nullable_text("description")?.flatten(),
        options: fields.immutable()?.options(),
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    let mut tx = state.begin().await?;
    if let Some(id) = &role.domain_id
        && domains::get(&mut tx, id).await?.is_none()
    {
        return Err(domain::missing(id));
    }
    roles::insert(&mut tx, &role).await.map_err(wire::duplicate("role", &role.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "role": show(cx, &role) }))
}

/// `PATCH /v3/roles/{role_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = load_for(cx, "identity:update_domain_role").await?.id;
    let mut fields = Fields::of(cx, "role")?;
    let mut tx = state.begin().await?;
    let mut role = roles::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    fields.immutable()?.apply("role", id.as_str(), &mut role.options)?;
    fields.unchanged("id", Some(role.id.as_str()))?;
    fields.unchanged("domain_id", role.domain_id.as_ref().map(|id| id.as_str()))?;
    role.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(role.name);
    role.description = fields.nullable_text("description")?.unwrap_or(role.description);
    role.extra.extend(fields.extra()?);
    roles::update(&mut tx, &role).await.map_err(wire::duplicate("role", &role.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "role": show(cx, &role) }))
}

/// `DELETE /v3/roles/{role_id}`: its assignments go with it.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let role = load_for(cx, "identity:delete_domain_role").await?;
    let mut tx = state.begin().await?;
    wire::deletable("role", role.id.as_str(), &role.options)?;
    roles::delete(&mut tx, &role.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/role_inferences`: every implication.
pub async fn list_inferences(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let all = all(&mut conn).await?;
    let implications = roles::implications(&mut conn).await?;
    let inferences: Vec<Value> = all
        .iter()
        .filter_map(|prior| {
            let implied: Vec<&Role> = implications
                .iter()
                .filter(|i| i.prior == prior.id)
                .filter_map(|i| all.iter().find(|r| r.id == i.implied))
                .collect();
            (!implied.is_empty()).then(|| inference(cx, prior, &implied))
        })
        .collect();
    Reply::ok(&json!({ "role_inferences": inferences, "links": { "self": cx.self_url() } }))
}

/// `GET /v3/roles/{role_id}/implies`.
pub async fn list_implied(cx: &Cx) -> Result<Reply> {
    let prior = load(cx, cx.param("role_id")).await?;
    let mut conn = cx.db().read().await?;
    let all = all(&mut conn).await?;
    let implications = roles::implications(&mut conn).await?;
    let is_implied = |role: &&Role| implications.iter().any(|i| i.prior == prior.id && i.implied == role.id);
    let implied: Vec<&Role> = all.iter().filter(is_implied).collect();
    Reply::ok(&json!({ "role_inference": inference(cx, &prior, &implied), "links": { "self": cx.self_url() } }))
}

/// `GET /v3/roles/{role_id}/implies/{implied_role_id}`.
pub async fn get_implied(cx: &Cx) -> Result<Reply> {
    let (prior, implied) = implying(cx).await?;
    Reply::ok(&one_inference(cx, &prior, &implied))
}

/// `HEAD /v3/roles/{role_id}/implies/{implied_role_id}`.
pub async fn check_implied(cx: &Cx) -> Result<Reply> {
    implying(cx).await?;
    Ok(Reply::no_content())
}

/// `PUT /v3/roles/{role_id}/implies/{implied_role_id}`.
pub async fn imply(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (prior, implied) = pair(cx).await?;
    if implied.name.eq_ignore_ascii_case("admin") {
        return Err(Error::forbidden("InvalidImpliedRole", format!("{} cannot be an implied roles", implied.id)));
    }
    if prior.domain_id.is_none() && implied.domain_id.is_some() {
        let message = format!("Global role cannot imply a domain-specific role: {}.", implied.id);
        return Err(Error::forbidden("InvalidImpliedRole", message));
    }
    let mut tx = state.begin().await?;
    roles::imply(&mut tx, &prior.id, &implied.id).await?;
    state.commit(tx).await?;
    Reply::created(&one_inference(cx, &prior, &implied))
}

/// `DELETE /v3/roles/{role_id}/implies/{implied_role_id}`.
pub async fn unimply(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let (prior, implied) = pair(cx).await?;
    let mut tx = state.begin().await?;
    if !roles::unimply(&mut tx, &prior.id, &implied.id).await? {
        return Err(no_implication(&prior, &implied));
    }
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

fn inference(cx: &Cx, prior: &Role, implied: &[&Role]) -> Value {
    let implied: Vec<Value> = implied.iter().map(|role| brief(cx, role)).collect();
    json!({ "prior_role": brief(cx, prior), "implies": implied })
}

fn one_inference(cx: &Cx, prior: &Role, implied: &Role) -> Value {
    json!({
        "role_inference": { "prior_role": brief(cx, prior), "implies": brief(cx, implied) },
        "links": { "self": cx.self_url() },
    })
}

fn brief(cx: &Cx, role: &Role) -> Value {
    json!({ "id": role.id, "name": role.name, "links": { "self": wire::link(cx, "roles", role.id.as_str()) } })
}

/// As clients see it.
pub fn show(cx: &Cx, role: &Role) -> Value {
    let own = json!({ "name": role.name, "domain_id": role.domain_id, "description": role.description,
        "options": role.options });
    wire::resource(cx, "roles", role.id.as_str(), &role.extra, own)
}

/// Every role there is, up to a page: clouds have a dozen.
pub(crate) async fn all(conn: &mut store::Conn) -> Result<Vec<Role>> {
    Ok(roles::list(conn, roles::select(), &Page::first(BY_NAME, Direction::Ascending)).await?)
}

/// The role of the path, once the caller may; of a domain's own ones another rule says who may.
async fn load_for(cx: &Cx, domain_rule: &str) -> Result<Role> {
    let id = RoleId::new(cx.param("role_id"));
    let found = roles::get(&mut *cx.db().read().await?, &id).await?;
    match found.as_ref().map(|role| (role, &role.domain_id)) {
        Some((role, Some(domain))) => {
            cx.authorize_instead(domain_rule, &in_domain(domain).with("target.role.name", role.name.as_str()))?;
        }
        Some((role, None)) => cx.authorize(&Target::none().with("target.role.name", role.name.as_str()))?,
        None => cx.authorize(&Target::none())?,
    }
    found.ok_or_else(|| missing(&id))
}

fn in_domain(id: &DomainId) -> Target {
    Target::none().with("target.role.domain_id", id.as_str())
}

async fn load(cx: &Cx, id: &str) -> Result<Role> {
    let id = RoleId::new(id);
    let found = roles::get(&mut *cx.db().read().await?, &id).await?;
    let target = found.as_ref().map_or_else(Target::none, |r| Target::none().with("target.role.name", r.name.as_str()));
    cx.authorize(&target)?;
    found.ok_or_else(|| missing(&id))
}

/// The two roles of the path, where the first implies the second.
async fn implying(cx: &Cx) -> Result<(Role, Role)> {
    let (prior, implied) = pair(cx).await?;
    let known = roles::implications(&mut *cx.db().read().await?).await?;
    if !known.iter().any(|i| i.prior == prior.id && i.implied == implied.id) {
        return Err(no_implication(&prior, &implied));
    }
    Ok((prior, implied))
}

async fn pair(cx: &Cx) -> Result<(Role, Role)> {
    Ok((load(cx, cx.param("role_id")).await?, load(cx, cx.param("implied_role_id")).await?))
}

/// That there is no such role.
pub fn missing(id: &RoleId) -> Error {
    wire::not_found("RoleNotFound", "role", id.as_str())
}

fn no_implication(prior: &Role, implied: &Role) -> Error {
    Error::not_found("ImpliedRoleNotFound", format!("{} does not imply {}.", prior.id, implied.id))
}
