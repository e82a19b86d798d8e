//! From what a mapping says of somebody to a user here, its groups and projects.

use std::{collections::BTreeSet, time::Duration};

use model::{
    Error, Result, Timestamp,
    id::{DomainId, GroupId, ProjectId, RoleId, UserId},
};
use store::{
    Conn,
    identity::{
        Extra,
        assignments::{self, Assignment, Target},
        domains,
        federated_users::{self, FederatedUser},
        federation::{IdentityProvider, Protocol},
        groups, projects,
        projects::Project,
        roles,
        users::{self, User},
    },
};

use super::logic::{Mapped, MappedProject, MappedUser, Place};
use crate::{
    State,
    state::{Write, unauthenticated},
};

/// Projects, groups and roles that one login may bring.
const PROJECTS_MAX: usize = 100;
const GROUPS_MAX: usize = 200;

/// The user whom the mapping names, with what the mapping gives it. `until` is when the login's token ends.
///
/// # Errors
/// Unauthenticated where the user can't be had; forbidden where the mapping asks for what isn't there.
pub async fn admit(
    state: &State,
    provider: &IdentityProvider,
    protocol: &Protocol,
    mapped: Mapped,
    until: Timestamp,
) -> Result<User> {
    let ttl = provider.authorization_ttl.unwrap_or(0).unsigned_abs();
    let until = until.max(state.db().clock().now() + Duration::from_secs(ttl * 60));
    let (unique_id, name, email, domain) = match mapped.user {
        MappedUser::Local { id, name, domain } => return local(state, id, name, domain).await,
        MappedUser::Ephemeral { unique_id, name, email, domain } => (unique_id, name, email, domain),
    };
    let mut conn = state.db().read().await?;
    let wanted = Wanted {
        domain_id: match domain {
            Some(place) => find_domain(&mut conn, &place).await?.ok_or_else(|| no_such("domain", &place))?,
            None => provider.domain_id.clone(),
        },
        groups: find_groups(&mut conn, mapped.group_ids, mapped.group_names).await?,
        projects: find_projects(&mut conn, provider, mapped.projects).await?,
        key: FederatedUser {
            idp_id: provider.id.clone(),
            protocol_id: protocol.id.clone(),
            unique_id,
            user_id: UserId::random_hex(),
            display_name: name,
        },
        email,
    };
    let as_it_is = wanted.as_it_is(&mut conn, state).await?;
    drop(conn);
    let user = match as_it_is {
        // Only the time is new, which no cached token depends on.
        Some(user) => {
            let mut tx = state.db().begin().await?;
            federated_users::set_groups(&mut tx, &user.id, &provider.id, &wanted.groups, until).await?;
            tx.commit().await?;
            user
        }
        None => {
            let mut tx = state.begin().await?;
            let user = wanted.make(&mut tx).await?;
            federated_users::set_groups(&mut tx, &user.id, &provider.id, &wanted.groups, until).await?;
            state.commit(tx).await?;
            user
        }
    };
    if user.enabled { Ok(user) } else { Err(unauthenticated()) }
}

/// A user that exists here, as the mapping names it.
async fn local(state: &State, id: Option<String>, name: Option<String>, domain: Option<Place>) -> Result<User> {
    let mut conn = state.db().read().await?;
    let found = match (id, name, domain) {
        (Some(id), _, _) => users::get(&mut conn, &UserId::new(id)).await?,
        (None, Some(name), Some(domain)) => match find_domain(&mut conn, &domain).await? {
            Some(domain) => users::get_by_name(&mut conn, &domain, &name).await?,
            None => None,
        },
        _ => None,
    };
    found.filter(|user| user.enabled).ok_or_else(unauthenticated)
}

/// What a login wants to be there.
struct Wanted {
    key: FederatedUser,
    domain_id: DomainId,
    email: Option<String>,
    groups: Vec<GroupId>,
    projects: Vec<WantedProject>,
}

struct WantedProject {
    domain_id: DomainId,
    name: String,
    roles: Vec<RoleId>,
}

impl Wanted {
    /// The user, if all is there already.
    async fn as_it_is(&self, conn: &mut Conn, state: &State) -> Result<Option<User>> {
        let key = &self.key;
        let known = federated_users::get(conn, &key.idp_id, &key.protocol_id, &key.unique_id).await?;
        let Some(known) = known.filter(|known| known.display_name == key.display_name) else { return Ok(None) };
        let Some(user) = users::get(conn, &known.user_id).await? else { return Ok(None) };
        let now = state.db().clock().now();
        let groups: BTreeSet<GroupId> =
            federated_users::groups_of(conn, &user.id, now).await?.into_iter().map(|(id, _)| id).collect();
        if groups != self.groups.iter().cloned().collect() {
            return Ok(None);
        }
        for project in &self.projects {
            let Some(found) = projects::get_by_name(conn, &project.domain_id, &project.name).await? else {
                return Ok(None);
            };
            for role in &project.roles {
                let assignment = Assignment::of_user(&user.id, Target::Project(found.id.clone()), role);
                if !assignments::exists(conn, &assignment).await? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(user))
    }

    /// Makes what is missing.
    async fn make(&self, tx: &mut Write) -> Result<User> {
        let key = &self.key;
        let known = federated_users::get(tx, &key.idp_id, &key.protocol_id, &key.unique_id).await?;
        let user_id = known.as_ref().map_or_else(|| key.user_id.clone(), |known| known.user_id.clone());
        match users::get(tx, &user_id).await? {
            Some(mut user) if known.as_ref().is_some_and(|known| known.display_name != key.display_name) => {
                user.name = self.free_name(tx, &user_id).await?;
                users::update(tx, &user).await?;
            }
            Some(_) => {}
            None => {
                let name = self.free_name(tx, &user_id).await?;
                let mut extra = Extra::new();
                if let Some(email) = &self.email {
                    extra.insert("email".to_owned(), email.as_str().into());
                }
                federated_users::insert_shadow(tx, &user_id, &self.domain_id, &name, &extra).await?;
            }
        }
        federated_users::put(tx, &FederatedUser { user_id: user_id.clone(), ..key.clone() }).await?;
        for project in &self.projects {
            let id = ensure_project(tx, project).await?;
            for role in &project.roles {
                let assignment = Assignment::of_user(&user_id, Target::Project(id.clone()), role);
                assignments::insert(tx, &assignment).await?;
            }
        }
        users::get(tx, &user_id).await?.ok_or_else(unauthenticated)
    }

    /// The user's name, or one that tells it from another user of that name in the domain: being called alike must give
    /// nobody what is another's.
    async fn free_name(&self, conn: &mut Conn, id: &UserId) -> Result<String> {
        let name = &self.key.display_name;
        let taken = users::get_by_name(conn, &self.domain_id, name).await?;
        Ok(match taken {
            Some(other) if other.id != *id => format!("{name} ({})", id.as_str()),
            _ => name.clone(),
        })
    }
}

async fn ensure_project(tx: &mut Write, wanted: &WantedProject) -> Result<ProjectId> {
    if let Some(found) = projects::get_by_name(tx, &wanted.domain_id, &wanted.name).await? {
        return Ok(found.id);
    }
    let project = Project {
        id: ProjectId::random_hex(),
        domain_id: wanted.domain_id.clone(),
        parent_id: None,
        name: wanted.name.clone(),
        description: String::new(),
        enabled: true,
        generation: 0,
        tags: Vec::new(),
        options: Extra::new(),
        extra: Extra::new(),
        created_at: tx.now(),
    };
    projects::insert(tx, &project).await?;
    Ok(project.id)
}

async fn find_domain(conn: &mut Conn, place: &Place) -> Result<Option<DomainId>> {
    let found = match (&place.id, &place.name) {
        (Some(id), _) => domains::get(conn, &DomainId::new(id.as_str())).await?,
        (None, Some(name)) => domains::get_by_name(conn, name).await?,
        (None, None) => None,
    };
    Ok(found.map(|domain| domain.id))
}

/// Groups that are there; a mapping may name others, which are passed over as Keystone does.
async fn find_groups(conn: &mut Conn, ids: Vec<String>, names: Vec<(String, Place)>) -> Result<Vec<GroupId>> {
    if ids.len() + names.len() > GROUPS_MAX {
        return Err(too_much("groups", GROUPS_MAX));
    }
    let mut found = BTreeSet::new();
    for id in ids {
        found.extend(groups::get(conn, &GroupId::new(id)).await?.map(|group| group.id));
    }
    for (name, place) in names {
        if let Some(domain) = find_domain(conn, &place).await? {
            found.extend(groups::get_by_name(conn, &domain, &name).await?.map(|group| group.id));
        }
    }
    Ok(found.into_iter().collect())
}

/// The projects with the ids of their roles, which must be there.
async fn find_projects(
    conn: &mut Conn,
    provider: &IdentityProvider,
    mapped: Vec<MappedProject>,
) -> Result<Vec<WantedProject>> {
    if mapped.len() > PROJECTS_MAX {
        return Err(too_much("projects", PROJECTS_MAX));
    }
    let mut wanted = Vec::new();
    for project in mapped {
        let domain_id = match &project.domain {
            Some(place) => find_domain(conn, place).await?.ok_or_else(|| no_such("domain", place))?,
            None => provider.domain_id.clone(),
        };
        if project.name.trim().is_empty() || project.name.chars().count() > 64 {
            return Err(Error::forbidden("Forbidden", "The mapping names a project that can't be called so."));
        }
        let mut ids = Vec::new();
        for name in &project.roles {
            let role = roles::get_by_name(conn, name).await?;
            ids.push(role.ok_or_else(|| no_such("role", &Place { name: Some(name.clone()), ..Place::default() }))?.id);
        }
        wanted.push(WantedProject { domain_id, name: project.name, roles: ids });
    }
    Ok(wanted)
}

fn no_such(what: &str, place: &Place) -> Error {
    let named = place.name.as_ref().or(place.id.as_ref()).map_or("", String::as_str);
    Error::forbidden(
        "Forbidden",
        format!("The mapping gives you a {what} that isn't there: {named}. Tell the operator."),
    )
}

fn too_much(what: &str, at_most: usize) -> Error {
    Error::forbidden("Forbidden", format!("The mapping gives you more than {at_most} {what}. Tell the operator."))
}
