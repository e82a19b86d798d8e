//! Projects: what owns servers, networks and all the rest. A domain can be seen as a project, too: [`Found`].

pub mod tags;
pub mod tree;

use model::{
    Error, Result,
    id::{DomainId, ProjectId, UserId},
};
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        domains::{self, Domain},
        projects::{self, Project, Tagged},
        revocations,
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
const DEPTH_MAX: usize = 5;

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

/// `GET /v3/projects`: with `is_domain`, the domains as the projects that they act as.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let own = domain::own(cx);
    cx.authorize(&own.map_or_else(Target::none, |id| Target::none().with("target.domain_id", id.as_str())))?;
    if cx.query.flag("is_domain")? == Some(true) {
        return list_acting_as_domains(cx).await;
    }
    let mut select = projects::select();
    if let Some(own) = own {
        select.equal("t.domain_id", own.as_str());
    }
    page_of(cx, select).await
}

async fn list_acting_as_domains(cx: &Cx) -> Result<Reply> {
    let mut select = domains::select();
    wire::filter(cx, &domain::LIST, &mut select)?;
    // They are in no domain and below nothing, so a domain's own token shows none of them.
    if domain::own(cx).is_some() || cx.query.has("domain_id") || cx.query.has("parent_id") {
        select.filter("1 = 0", []);
    }
    filter_by_tags(cx, &mut select);
    let page = domain::LIST.page(&cx.query)?;
    let found = domains::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "projects", &page, &found, |d| (d.id.as_str(), show_acting_as_domain(cx, d)))
}

/// `GET /v3/users/{user_id}/projects`: where the user has a role.
pub async fn list_of_user(cx: &Cx) -> Result<Reply> {
    let id = UserId::new(cx.param("user_id"));
    user::load(cx, &id).await?;
    let mut select = projects::select();
    projects::with_role_of(&mut select, &id);
    page_of(cx, select).await
}

/// One page of projects, by the query's filters.
pub async fn page_of(cx: &Cx, mut select: Select) -> Result<Reply> {
    wire::filter(cx, &LIST, &mut select)?;
    if cx.query.flag("is_domain")? == Some(true) {
        select.filter("1 = 0", []);
    }
    filter_by_tags(cx, &mut select);
    let page = LIST.page(&cx.query)?;
    let found = projects::list(&mut *cx.db().read().await?, select, &page).await?;
    wire::collection(cx, "projects", &page, &found, |p| (p.id.as_str(), show(cx, p)))
}

fn filter_by_tags(cx: &Cx, select: &mut Select) {
    let ways = [
        ("tags", Tagged::All),
        ("tags-any", Tagged::Any),
        ("not-tags", Tagged::NotAll),
        ("not-tags-any", Tagged::NotAny),
    ];
    for (parameter, how) in ways {
        for tags in cx.query.all(parameter) {
            let tags: Vec<&str> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
            projects::tagged(select, how, &tags);
        }
    }
}

/// `GET /v3/projects/{project_id}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let mut document = match load(cx).await? {
        Found::Domain(domain) => show_acting_as_domain(cx, &domain),
        Found::Project(project) => show(cx, &project),
    };
    tree::add_relatives(cx, &mut document).await?;
    Reply::ok(&json!({ "project": document }))
}

/// `POST /v3/projects`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let mut fields = Fields::of(cx, "project")?;
    let named_domain = fields.nullable_text("domain_id")?;
    let parent = fields.nullable_text("parent_id")?.flatten();
    let has_domain = named_domain.as_ref().is_some_and(Option::is_some);
    if fields.flag("is_domain")? == Some(true) {
        return create_acting_as_domain(cx, fields, has_domain || parent.is_some()).await;
    }
    let domain_id = domain::of_new(cx, named_domain);
    cx.authorize(&Target::none().with("target.project.domain_id", domain_id.as_str()))?;
    let mut project = Project {
        id: ProjectId::random_hex(),
        domain_id,
        parent_id: None,
        name: fields.name("name", NAME_CHARS_MAX)?.ok_or_else(|| wire::required("name"))?,
        description: fields.nullable_text("description")?.flatten().unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
        generation: 0,
        tags: fields.tags()?.unwrap_or_default(),
        options: fields.immutable()?.options(),
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

/// A project that acts as a domain is a domain.
async fn create_acting_as_domain(cx: &Cx, fields: Fields, is_below: bool) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    if is_below {
        let message = "Only root projects are allowed to act as domains: leave domain_id and parent_id out.";
        return Err(Error::bad_request("ValidationError", message));
    }
    let domain = domain::new(cx, fields, DomainId::random_hex())?;
    let mut tx = state.begin().await?;
    domains::insert(&mut tx, &domain).await.map_err(wire::duplicate("project", &domain.name))?;
    state.commit(tx).await?;
    Reply::created(&json!({ "project": show_acting_as_domain(cx, &domain) }))
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
            if !tree::is_enabled_upwards(conn, &above).await? {
                let message =
                    format!("Cannot create a project in a branch containing a disabled project: {}.", above.id);
                return Err(Error::bad_request("ValidationError", message));
            }
            // The domain on top is none of its ancestors.
            if projects::above(conn, &above.id).await?.len() >= DEPTH_MAX {
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
    let id = match load(cx).await? {
        Found::Project(project) => project.id,
        Found::Domain(domain) => return update_acting_as_domain(cx, &domain.id).await,
    };
    let mut fields = Fields::of(cx, "project")?;
    let mut tx = state.begin().await?;
    let mut project = projects::get(&mut tx, &id).await?.ok_or_else(|| missing(&id))?;
    fields.immutable()?.apply("project", id.as_str(), &mut project.options)?;
    fields.unchanged("id", Some(project.id.as_str()))?;
    fields.unchanged("domain_id", Some(project.domain_id.as_str()))?;
    if fields.nullable_text("parent_id")?.is_some_and(|parent| parent.as_deref() != Some(parent_of(&project))) {
        return Err(Error::forbidden("ForbiddenNotSecurity", "Update of `parent_id` is not allowed."));
    }
    if fields.flag("is_domain")? == Some(true) {
        return Err(Error::bad_request("ValidationError", "Update of `is_domain` is not allowed."));
    }
    project.name = fields.name("name", NAME_CHARS_MAX)?.unwrap_or(project.name);
    if let Some(description) = fields.nullable_text("description")? {
        project.description = description.unwrap_or_default();
    }
    project.tags = fields.tags()?.unwrap_or(project.tags);
    let enabled = fields.flag("enabled")?.unwrap_or(project.enabled);
    project.extra.extend(fields.extra()?);
    tree::enable(&mut tx, &mut project, enabled).await?;
    projects::update(&mut tx, &project).await.map_err(wire::duplicate("project", &project.name))?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "project": show(cx, &project) }))
}

async fn update_acting_as_domain(cx: &Cx, id: &DomainId) -> Result<Reply> {
    let mut fields = Fields::of(cx, "project")?;
    fields.unchanged("domain_id", None)?;
    fields.unchanged("parent_id", None)?;
    if fields.flag("is_domain")? == Some(false) {
        return Err(Error::bad_request("ValidationError", "Update of `is_domain` is not allowed."));
    }
    let domain = domain::change(cx, fields, id).await?;
    Reply::ok(&json!({ "project": show_acting_as_domain(cx, &domain) }))
}

/// `DELETE /v3/projects/{project_id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    let project = match load(cx).await? {
        Found::Project(project) => project,
        Found::Domain(domain) => return domain::remove(cx, &domain.id).await,
    };
    let mut tx = state.begin().await?;
    wire::deletable("project", project.id.as_str(), &project.options)?;
    if projects::has_children(&mut tx, &project.id, false).await? {
        let message = format!("Cannot delete the project {} since it is not a leaf in the hierarchy.", project.id);
        return Err(Error::forbidden("ForbiddenNotSecurity", message));
    }
    projects::delete(&mut tx, &project.id).await?;
    revocations::record(&mut tx, &[("project_id", project.id.as_str())]).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// As clients see it.
pub fn show(cx: &Cx, project: &Project) -> Value {
    let own = json!({
        "name": project.name, "domain_id": project.domain_id, "description": project.description,
        "enabled": project.enabled, "parent_id": parent_of(project), "is_domain": false,
        "tags": project.tags, "options": project.options,
    });
    wire::resource(cx, "projects", project.id.as_str(), &project.extra, own)
}

/// A domain as the project that it acts as.
fn show_acting_as_domain(cx: &Cx, domain: &Domain) -> Value {
    let own = json!({
        "name": domain.name, "domain_id": null, "description": domain.description, "enabled": domain.enabled,
        "parent_id": null, "is_domain": true, "tags": domain.tags, "options": domain.options,
    });
    wire::resource(cx, "projects", domain.id.as_str(), &domain.extra, own)
}

fn parent_of(project: &Project) -> &str {
    project.parent_id.as_ref().map_or(project.domain_id.as_str(), |id| id.as_str())
}

/// What policy rules know of a project.
pub fn target(project: &Project) -> Target {
    Target::none()
        .with("target.project.id", project.id.as_str())
        .with("target.project.domain_id", project.domain_id.as_str())
}

/// A project, or a domain as the project that it acts as.
pub enum Found {
    /// A project.
    Project(Project),
    /// A domain.
    Domain(Domain),
}

impl Found {
    /// Its id.
    pub fn id(&self) -> ProjectId {
        match self {
            Self::Project(project) => project.id.clone(),
            Self::Domain(domain) => domain.id.cast(),
        }
    }

    /// The domain that it is in; a domain is in none.
    pub fn domain_id(&self) -> Option<&DomainId> {
        match self {
            Self::Project(project) => Some(&project.domain_id),
            Self::Domain(_) => None,
        }
    }
}

/// A project, or the domain that acts as one.
///
/// # Errors
/// The database's.
pub async fn find(conn: &mut Conn, id: &ProjectId) -> Result<Option<Found>> {
    if let Some(project) = projects::get(conn, id).await? {
        return Ok(Some(Found::Project(project)));
    }
    Ok(domains::get(conn, &id.cast()).await?.map(Found::Domain))
}

/// The project of the path, once the caller may.
async fn load(cx: &Cx) -> Result<Found> {
    let id = ProjectId::new(cx.param("project_id"));
    let found = find(&mut *cx.db().read().await?, &id).await?;
    cx.authorize(&match &found {
        None => Target::none(),
        Some(Found::Project(project)) => target(project),
        Some(Found::Domain(domain)) => Target::none().with("target.project.id", domain.id.as_str()),
    })?;
    found.ok_or_else(|| missing(&id))
}

/// The same where only a project will do.
async fn load_project(cx: &Cx) -> Result<Project> {
    match load(cx).await? {
        Found::Project(project) => Ok(project),
        Found::Domain(domain) => Err(missing(&domain.id.cast())),
    }
}

/// That there is no such project.
pub fn missing(id: &ProjectId) -> Error {
    wire::not_found("ProjectNotFound", "project", id.as_str())
}
