//! Projects: what owns servers, networks and all the rest.

use model::{
    Error, Result,
    id::{DomainId, ProjectId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        domains,
        projects::{self, Project},
    },
    list::{Direction, Select, SortKey, Type},
};
use web::{
    Cx, Reply, Target,
    paging::{Filter, ListSpec},
};

use crate::{
    State, domain, user,
    wire::{self, Fields},
};

const NAME_CHARS_MAX: usize = 64;
/// How deep projects may stand below their domain (Keystone's `max_project_tree_depth`).
const DEPTH_MAX: i64 = 5;

/// How projects are listed.
pub const LIST: ListSpec = ListSpec {
    sorts: &[
        SortKey { name: "name", sql: "t.name", kind: Type::Text },
        SortKey { name: "id", sql: "t.id", kind: Type::Text },
    ],
    direction: Direction::Ascending,
    filters: &[
        Filter::exact("name", "t.name"),
        Filter::exact("domain_id", "t.domain_id"),
        Filter::flag("enabled", "t.enabled"),
        // A project without one stands below its domain, which is then its parent.
        Filter::exact("parent_id", "coalesce(t.parent_id, t.domain_id)"),
    ],
};

/// `GET /v3/projects`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = domain::own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str())))?;
    let mut select = projects::select();
    if let Some(own) = own {
        select.equal("t.domain_id", own.as_str());
    }
    page_of(cx, select).await
}

/// `GET /v3/users/{user_id}/projects`: where the user has a role.
pub async fn list_of_user(cx: &Cx) -> Result<Reply> {
    let id = UserId::new(cx.param("user_id"));
    user::load(cx, &id).await?;
    let mut select = projects::select();
    projects::with_role_of(&mut select, &id);
    page_of(cx, select).await
}

async fn page_of(cx: &Cx, mut select: Select) -> Result<Reply> {
    LIST.filter(&cx.query, &mut select)?;
    if cx.query.flag("is_domain")? == Some(true) {
        // No project is a domain here.
        select.filter("1 = 0", []);
    }
    let page = LIST.page(&cx.query)?;
    let found = projects::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "projects", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

/// `GET /v3/projects/{project_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let project = load(cx).await?;
    Reply::ok(&json!({ "project": show(cx, &project) }))
}

/// `POST /v3/projects`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "project")?;
    let named_domain = fields.nullable_text("domain_id")?;
    let parent = fields.nullable_text("parent_id")?.flatten();
    let has_domain = named_domain.as_ref().is_some_and(Option::is_some);
    let domain_id = domain::of_new(cx, named_domain);
    cx.authorize(&Target::none().with("target.project.domain_id", domain_id.as_str()))?;
    fields.no_options()?;
    if fields.flag("is_domain")? == Some(true) {
        return Err(Error::bad_request(
            "ValidationError",
            "Create domains as domains: a project can't act as one here.",
        ));
    }
    let mut project = Project {
        id: ProjectId::random_hex(),
        domain_id,
        parent_id: None,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        generation: 0,
        tags: fields.tags()?.unwrap_or_default(),
        extra: fields.extra()?,
        created_at: cx.now(),
    };
    let mut tx = state.begin().await?;
    place(&mut tx, &mut project, parent, has_domain).await?;
    cx.authorize(&target(&project))?;
    projects::insert(&mut tx, &project).await.map_err(wire::duplicate("project", &project.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "project": show(cx, &project) }))
}

/// Puts a new project below its parent: a project, or the domain itself.
async fn place(conn: &mut Conn, project: &mut Project, parent: Option<String>, has_domain: bool) -> Result<()> {
    let parent_project = match &parent {
        Some(id) => projects::get(conn, &ProjectId::new(id.as_str())).await?,
        None => None,
    };
    match (parent, parent_project) {
        (_, Some(above)) => {
            if has_domain && above.domain_id != project.domain_id {
                let message = "The parent project is in another domain than domain_id says.";
                return Err(Error::bad_request("ValidationError", message));
            }
            if !above.enabled {
                return Err(Error::forbidden("ForbiddenNotSecurity", "The parent project is disabled."));
            }
            if projects::depth(conn, &above.id).await? >= DEPTH_MAX {
                let message = format!("Max hierarchy depth reached for {} branch.", above.id);
                return Err(Error::forbidden("ForbiddenNotSecurity", message));
            }
            project.domain_id = above.domain_id;
            project.parent_id = Some(above.id);
        }
        // The parent may be a domain.
        (Some(id), None) if has_domain && id != project.domain_id.as_str() => {
            return Err(Error::bad_request("ValidationError", format!("Could not find project: {id}.")));
        }
        (Some(id), None) => project.domain_id = DomainId::new(id),
        (None, None) => {}
    }
    if domains::get(conn, &project.domain_id).await?.is_none() {
        return Err(Error::bad_request("ValidationError", format!("Could not find domain: {}.", project.domain_id)));
    }
    Ok(())
}

/// `PATCH /v3/projects/{project_id}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let id = load(cx).await?.id;
    let mut fields = Fields::of(cx, "project")?;
    let mut tx = state.begin().await?;
    let mut project = projects::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    fields.unchanged("id", Some(project.id.as_str()))?;
    fields.unchanged("domain_id", Some(project.domain_id.as_str()))?;
    fields.unchanged("parent_id", Some(parent_of(&project)))?;
    fields.no_options()?;
    if fields.flag("is_domain")? == Some(true) {
        return Err(Error::bad_request("ValidationError", "Cannot change is_domain."));
    }
    project.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(project.name);
    if let Some(description) = fields.nullable_text("description")? {
        project.description = description.unwrap_or_default();
    }
    project.tags = fields.tags()?.unwrap_or(project.tags);
    let enabled = fields.flag("enabled")?.unwrap_or(project.enabled);
    let disabling = project.enabled && !enabled;
    project.enabled = enabled;
    project.extra.extend(fields.extra()?);
    if disabling {
        if projects::has_children(&mut tx, &project.id, true).await? {
            let message = format!("Cannot disable project {}: its subtree contains enabled projects.", project.id);
            return Err(Error::forbidden("ForbiddenNotSecurity", message));
        }
        project.generation += 1;
    }
    projects::update(&mut tx, &project).await.map_err(wire::duplicate("project", &project.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "project": show(cx, &project) }))
}

/// `DELETE /v3/projects/{project_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let project = load(cx).await?;
    let mut tx = state.begin().await?;
    if projects::has_children(&mut tx, &project.id, false).await? {
        let message = format!("Cannot delete the project {} since it is not a leaf in the hierarchy.", project.id);
        return Err(Error::forbidden("ForbiddenNotSecurity", message));
    }
    projects::delete(&mut tx, &project.id).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// As clients see it.
pub fn show(cx: &Cx, project: &Project) -> Value {
    let own = json!({
        "name": project.name, "domain_id": project.domain_id, "description": project.description,
        "enabled": project.enabled, "parent_id": parent_of(project), "is_domain": false,
        "tags": project.tags, "options": {},
    });
    wire::resource(cx, "projects", project.id.as_str(), &project.extra, own)
}

fn parent_of(project: &Project) -> &str {
    project.parent_id.as_ref().map_or(project.domain_id.as_str(), |id| id.as_str())
}

fn target(project: &Project) -> Target {
    Target::none()
        .with("target.project.id", project.id.as_str())
        .with("target.project.domain_id", project.domain_id.as_str())
}

/// The project of the path, once the caller may.
async fn load(cx: &Cx) -> Result<Project> {
    let id = ProjectId::new(cx.param("project_id"));
    let found = projects::get(&mut *cx.db().read().await?, &id).await?;
    cx.authorize(&found.as_ref().map_or_else(Target::none, target))?;
    found.ok_or_else(|| missing(&id))
}

/// That there is no such project.
pub fn missing(id: &ProjectId) -> Error {
    wire::not_found("ProjectNotFound", "project", id.as_str())
}
