//! From a directory's answers to rows here, and when it is asked.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use model::{
    Error, Result,
    id::{DomainId, GroupId, UserId},
};
use serde_json::{Map, Value};
use store::{
    Tx,
    identity::{
        directory::{self as rows, Kind, Known},
        domain_config,
        users::{self, User},
    },
};

use web::Cx;

use super::{
    directory::{Directory, ENTRIES_MAX},
    logic::{Entry, Settings, public_id},
};
use crate::{Password, State};

/// How old the mirror of a token's user may be.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// Length of a directory's ids: no other id has it, so that others need no look.
const PUBLIC_ID_CHARS: usize = 64;

/// The directories of this process, each with the settings that it was made of.
#[derive(Default)]
pub struct Directories(std::sync::Mutex<HashMap<DomainId, Arc<Directory>>>);

/// A domain's directory, where it has one.
///
/// # Errors
/// Unavailable where its settings are wrong: that must not make its users look unknown.
pub async fn of_domain(state: &State, domain: &DomainId) -> Result<Option<Arc<Directory>>> {
    let found = domain_config::get(&mut *state.db().read().await?, domain).await?;
    let mut options = Map::new();
    let mut is_ldap = false;
    for setting in found {
        let text = if setting.sensitive { state.unseal(&setting.value)?.to_string() } else { setting.value };
        let value: Value =
            serde_json::from_str(&text).map_err(|e| Error::internal("reading a domain's settings", e))?;
        match (setting.group.as_str(), setting.name.as_str()) {
            ("identity", "driver") => is_ldap = value == "ldap",
            ("ldap", name) => drop(options.insert(name.to_owned(), value)),
            _ => {}
        }
    }
    let known = |state: &State| -> Option<Arc<Directory>> {
        state.directories.0.lock().unwrap_or_else(PoisonError::into_inner).get(domain).cloned()
    };
    if !is_ldap {
        return Ok(None);
    }
    let settings = Settings::parse(&options).map_err(|why| {
        let message = "The settings of this domain's directory are wrong; the operator finds out how in the log.";
        Error::unavailable("DirectoryUnavailable", message).because(why)
    })?;
    if let Some(known) = known(state).filter(|known| *known.settings() == settings) {
        return Ok(Some(known));
    }
    let made = Arc::new(Directory::new(settings).await?);
    state.directories.0.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.clone(), made.clone());
    Ok(Some(made))
}

/// Refuses a write to what a directory owns.
///
/// # Errors
/// Forbidden.
pub async fn check_writable(state: &State, domain: &DomainId) -> Result<()> {
    match of_domain(state, domain).await? {
        None => Ok(()),
        Some(_) => {
            let message =
                "LDAP does not support write operations: change users and groups of this domain in its directory.";
            Err(Error::forbidden("Forbidden", message))
        }
    }
}

/// Whom a login names, and whether the password is right; none where no directory has a say.
///
/// # Errors
/// Unavailable.
pub async fn log_in(
    state: &State,
    domain: Option<&DomainId>,
    who: Who<'_>,
    password: &Password,
) -> Result<Option<(Option<User>, bool)>> {
    let (domain, local_id) = match (domain, &who) {
        (_, Who::Id(id)) => match entry_of(state, Kind::User, id).await? {
            Some(entry) => (entry.domain_id, Some(entry.local_id)),
            None => return Ok(None),
        },
        (Some(domain), Who::Name(_)) => (domain.clone(), None),
        (None, Who::Name(_)) => return Ok(None),
    };
    let Some(directory) = of_domain(state, &domain).await? else { return Ok(None) };
    let found = match (&local_id, &who) {
        (Some(local_id), _) => directory.get(Kind::User, local_id).await?,
        (None, Who::Name(name) | Who::Id(name)) => {
            // Two of one name are nobody.
            let mut found = directory.list(Kind::User, Some(name)).await?;
            if found.len() == 1 { found.pop() } else { None }
        }
    };
    let Some(found) = found else {
        // As much work as for somebody who is there.
        let nobody = format!("{}=nobody,{}", directory.settings().users.id, directory.settings().users.base);
        directory.is_password_of(&nobody, password).await?;
        return Ok(Some((None, false)));
    };
    let right = directory.is_password_of(&found.dn, password).await?;
    let user = if right {
        let groups = directory.groups_of(&found).await?;
        let id = UserId::new(public_id(domain.as_str(), Kind::User, &found.local_id));
        put(state, &domain, &[Said::User(&found, &groups)]).await?;
        users::get(&mut *state.db().read().await?, &id).await?
    } else {
        let id = UserId::new(public_id(domain.as_str(), Kind::User, &found.local_id));
        users::get(&mut *state.db().read().await?, &id).await?
    };
    Ok(Some((user, right)))
}

/// Whom a login names.
pub enum Who<'a> {
    /// By the id here.
    Id(&'a str),
    /// By a name in the domain.
    Name(&'a str),
}

/// Asks the directory about a user, if it is a directory's; whether it is still there.
///
/// # Errors
/// Unavailable.
pub async fn refresh_user(state: &State, id: &UserId) -> Result<bool> {
    let Some(entry) = entry_of(state, Kind::User, id.as_str()).await? else { return Ok(true) };
    let Some(directory) = of_domain(state, &entry.domain_id).await? else { return Ok(true) };
    match directory.get(Kind::User, &entry.local_id).await? {
        Some(found) => {
            let groups = directory.groups_of(&found).await?;
            put(state, &entry.domain_id, &[Said::User(&found, &groups)]).await?;
            Ok(true)
        }
        None if entry.gone => Ok(false),
        None => {
            let mut tx = state.begin().await?;
            rows::lose_user(&mut tx, id).await?;
            state.commit(tx).await?;
            Ok(false)
        }
    }
}

/// The same for a token's user, once in [`ASK_AGAIN_AFTER`]. A directory that can't be asked ends no session.
///
/// # Errors
/// The database's.
pub async fn keep_fresh(state: &State, id: &UserId) -> Result<()> {
    let Some(entry) = entry_of(state, Kind::User, id.as_str()).await? else { return Ok(()) };
    if state.db().clock().now().since(entry.seen_at) < ASK_AGAIN_AFTER {
        return Ok(());
    }
    match refresh_user(state, id).await {
        Err(error) if error.kind == model::ErrorKind::Unavailable => {
            tracing::warn!(chain = error.chain(), "a user's directory can't be asked: going by what it said last");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Asks the directory about a group and who is in it, if it is a directory's; whether it is still there.
///
/// # Errors
/// Unavailable.
pub async fn refresh_group(state: &State, id: &GroupId) -> Result<bool> {
    let Some(entry) = entry_of(state, Kind::Group, id.as_str()).await? else { return Ok(true) };
    let Some(directory) = of_domain(state, &entry.domain_id).await? else { return Ok(true) };
    match directory.get(Kind::Group, &entry.local_id).await? {
        Some(found) => {
            let members = directory.members_of(&found).await?;
            put(state, &entry.domain_id, &[Said::Group(&found, Some(&members))]).await?;
            Ok(true)
        }
        None if entry.gone => Ok(false),
        None => {
            let mut tx = state.begin().await?;
            rows::lose_group(&mut tx, id).await?;
            state.commit(tx).await?;
            Ok(false)
        }
    }
}

/// Asks for all of a kind, or those of a name, before they are listed.
///
/// # Errors
/// Unavailable.
pub async fn refresh_list(state: &State, domain: &DomainId, kind: Kind, name: Option<&str>) -> Result<()> {
    let Some(directory) = of_domain(state, domain).await? else { return Ok(()) };
    let found = directory.list(kind, name).await?;
    let said: Vec<Said<'_>> = found
        .iter()
        .map(|entry| match kind {
            Kind::User => Said::Name(entry),
            Kind::Group => Said::Group(entry, None),
        })
        .collect();
    put(state, domain, &said).await?;
    if name.is_none() && found.len() < ENTRIES_MAX {
        lose_others(state, domain, kind, &found).await?;
    }
    Ok(())
}

/// Loses those that a complete list has no more.
async fn lose_others(state: &State, domain: &DomainId, kind: Kind, found: &[Entry]) -> Result<()> {
    let here: HashSet<String> = found.iter().map(|entry| public_id(domain.as_str(), kind, &entry.local_id)).collect();
    let known = rows::present(&mut *state.db().read().await?, domain, kind).await?;
    let lost: Vec<String> = known.into_iter().filter(|id| !here.contains(id)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut tx = state.begin().await?;
    for id in lost {
        match kind {
            Kind::User => rows::lose_user(&mut tx, &UserId::new(id)).await?,
            Kind::Group => rows::lose_group(&mut tx, &GroupId::new(id)).await?,
        }
    }
    state.commit(tx).await
}

/// Asks before a list is made, where the list is of one domain: the token's, or the one that the query names.
///
/// # Errors
/// Unavailable.
pub async fn before_list(cx: &Cx, state: &State, own: Option<&DomainId>, kind: Kind) -> Result<()> {
    let named = cx.query.get("domain_id").map(DomainId::new);
    match own.or(named.as_ref()) {
        Some(domain) => refresh_list(state, domain, kind, cx.query.get("name")).await,
        None => Ok(()),
    }
}

/// Whether an id may be a directory's: no other has its length.
pub fn is_mirrored(id: &str) -> bool {
    id.len() == PUBLIC_ID_CHARS
}

async fn entry_of(state: &State, kind: Kind, id: &str) -> Result<Option<rows::Entry>> {
    if !is_mirrored(id) {
        return Ok(None);
    }
    Ok(rows::get(&mut *state.db().read().await?, kind, id).await?)
}

/// What a directory said.
enum Said<'a> {
    /// That a user is there.
    Name(&'a Entry),
    /// That a user is there and in exactly these groups.
    User(&'a Entry, &'a [Entry]),
    /// That a group is there, and perhaps who exactly is in it.
    Group(&'a Entry, Option<&'a [Entry]>),
}

/// Writes what was said. Only what is new counts as a write of identity: most of what directories say is known.
async fn put(state: &State, domain: &DomainId, said: &[Said<'_>]) -> Result<()> {
    let mut tx = state.db().begin().await?;
    if !write(&mut tx, domain, said).await? {
        return Ok(tx.commit().await?);
    }
    tx.rollback().await?;
    let mut tx = state.begin().await?;
    write(&mut tx, domain, said).await?;
    state.commit(tx).await
}

async fn write(tx: &mut Tx, domain: &DomainId, said: &[Said<'_>]) -> Result<bool> {
    let known = |kind: Kind, entry: &Entry| Known {
        id: public_id(domain.as_str(), kind, &entry.local_id),
        local_id: entry.local_id.clone(),
        name: entry.name.clone(),
        description: entry.description.clone(),
        enabled: entry.enabled,
        extra: entry.extra.clone(),
    };
    let id = |kind: Kind, entry: &Entry| public_id(domain.as_str(), kind, &entry.local_id);
    let mut changed = false;
    for one in said {
        match one {
            Said::Name(user) => changed |= rows::put_users(tx, domain, &[known(Kind::User, user)]).await?,
            Said::User(user, groups) => {
                changed |= rows::put_users(tx, domain, &[known(Kind::User, user)]).await?;
                let all: Vec<Known> = groups.iter().map(|group| known(Kind::Group, group)).collect();
                changed |= rows::put_groups(tx, domain, &all).await?;
                let ids: Vec<GroupId> = groups.iter().map(|group| GroupId::new(id(Kind::Group, group))).collect();
                changed |= rows::set_groups(tx, &UserId::new(id(Kind::User, user)), &ids).await?;
            }
            Said::Group(group, members) => {
                changed |= rows::put_groups(tx, domain, &[known(Kind::Group, group)]).await?;
                let Some(members) = members else { continue };
                let all: Vec<Known> = members.iter().map(|user| known(Kind::User, user)).collect();
                changed |= rows::put_users(tx, domain, &all).await?;
                let ids: Vec<UserId> = members.iter().map(|user| UserId::new(id(Kind::User, user))).collect();
                changed |= rows::set_members(tx, &GroupId::new(id(Kind::Group, group)), &ids).await?;
            }
        }
    }
    Ok(changed)
}
