//! Access rules: kinds of requests that a user's application credentials are restricted to.

use model::{Error, Result, id::UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    identity::application_credentials::{self, Rule},
    list::{Direction, SortKey, Type},
};
use web::{
    Cx, Reply,
    paging::{Filter, ListSpec},
};

use crate::{
    State,
    application_credential::{refuse_delegated, target},
    state::Write,
    wire,
};

const METHODS: &[&str] = &["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];
const PATH_CHARS_MAX: usize = 225;
const SERVICE_CHARS_MAX: usize = 64;
/// Rules of one application credential.
const RULES_MAX: usize = 100;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "id", sql: "t.id", kind: Type::Text }],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("service", "t.service"),
        Filter::exact("path", "t.path"),
        Filter::exact("method", "t.method"),
    ],
};

/// `GET /v3/users/{user_id}/access_rules`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let user = UserId::new(cx.param("user_id"));
    cx.authorize(&target(&user))?;
    refuse_delegated(cx, false)?;
    let mut select = application_credentials::select_rules();
    select.equal("t.user_id", &user);
    LIST.filter(&cx.query, &mut select)?;
    let page = LIST.page(&cx.query)?;
    let found = application_credentials::list_rules(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "access_rules", &page, &found, |r| (r.id.as_str(), show_with_link(cx, r)))
}

/// `GET /v3/users/{user_id}/access_rules/{access_rule_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let rule = load(cx, false).await?;
    Reply::ok(&json!({ "access_rule": show_with_link(cx, &rule) }))
}

/// `DELETE /v3/users/{user_id}/access_rules/{access_rule_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let rule = load(cx, true).await?;
    let mut tx = state.begin().await?;
    if application_credentials::rule_in_use(&mut tx, &rule.id).await? {
        let message = "The access rule is in use by an application credential: delete that first.";
        return Err(Error::forbidden("ForbiddenAction", message));
    }
    application_credentials::delete_rule(&mut tx, &rule.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// A rule as an application credential names it: by id, or what it says.
#[derive(Deserialize)]
struct Wanted {
    id: Option<String>,
    service: Option<String>,
    method: Option<String>,
    path: Option<String>,
}

/// The user's rules that a new application credential names; what there isn't yet is made.
pub(crate) async fn ensure_all(tx: &mut Write, user: &UserId, wanted: Option<Value>) -> Result<Vec<Rule>> {
    let invalid =
        |what: String| Error::bad_request("SchemaValidationError", format!("Invalid input for access_rules: {what}"));
    let Some(wanted) = wanted else { return Ok(Vec::new()) };
    let wanted: Vec<Wanted> = serde_json::from_value(wanted).map_err(|e| invalid(e.to_string()))?;
    if wanted.len() > RULES_MAX {
        return Err(invalid(format!("there may be {RULES_MAX} at the most")));
    }
    let mut rules = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        rules.push(match (wanted.id, wanted.service, wanted.method, wanted.path) {
            (Some(id), None, None, None) => {
                let found = application_credentials::get_rule(tx, &id).await?.filter(|rule| rule.user_id == *user);
                found.ok_or_else(|| missing(&id))?
            }
            (_, Some(service), Some(method), Some(path)) => {
                let fits = METHODS.contains(&method.as_str())
                    && path.starts_with('/')
                    && path.chars().count() <= PATH_CHARS_MAX
                    && (1..=SERVICE_CHARS_MAX).contains(&service.chars().count());
                if !fits {
                    return Err(invalid(format!(
                        "{method} {path} of {service:?}: the method is one of {}, the path begins with / and has \
                         {PATH_CHARS_MAX} characters at the most",
                        METHODS.join(", ")
                    )));
                }
                let id = model::Id::<()>::random_hex().as_str().to_owned();
                let new = Rule { id, user_id: user.clone(), service, method, path };
                application_credentials::ensure_rule(tx, &new).await?
            }
            _ => return Err(invalid("each has either an id, or service, method and path".to_owned())),
        });
    }
    Ok(rules)
}

/// As application credentials show it.
pub(crate) fn show(rule: &Rule) -> Value {
    json!({ "id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path })
}

fn show_with_link(cx: &Cx, rule: &Rule) -> Value {
    let mut shown = show(rule);
    let collection = format!("users/{}/access_rules", rule.user_id);
    shown["links"] = json!({ "self": wire::link(cx, &collection, &rule.id) });
    shown
}

async fn load(cx: &Cx, writes: bool) -> Result<Rule> {
    let id = cx.param("access_rule_id");
    let found = application_credentials::get_rule(&mut *cx.db().read().await?, id).await?;
    cx.authorize(&target(&UserId::new(cx.param("user_id"))))?;
    refuse_delegated(cx, writes)?;
    found.filter(|rule| rule.user_id.as_str() == cx.param("user_id")).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Error {
    wire::not_found("AccessRuleNotFound", "access rule", id)
}
