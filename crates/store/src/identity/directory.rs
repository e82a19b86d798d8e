//! Table `directory_entries`, and the rows that stand for a directory's users and groups here.
//!
//! A directory owns its users; rows in `users`, `user_groups` and `group_members` repeat what it said when it was last
//! asked, so that tokens, assignments and lists need no second way to name somebody.

use model::{
    Timestamp,
    id::{DomainId, GroupId, UserId},
};

use super::{Extra, json_text};
use crate::{Conn, Result, Row, RowExt, Tx, query};

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Users.
    User,
    /// Groups.
    Group,
}

impl Kind {
    /// As the table has it, and as ids are made of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// Which entry of a directory an id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id here.
    pub public_id: String,
    /// The domain whose directory it is.
    pub domain_id: DomainId,
    /// As the directory has it.
    pub local_id: String,
    /// When the directory was last asked about it.
    pub seen_at: Timestamp,
    /// Whether the directory has it no more.
    pub gone: bool,
}

fn from_row(row: &Row) -> Result<Entry> {
    Ok(Entry {
        public_id: row.text("public_id")?,
        domain_id: row.id("domain_id")?,
        local_id: row.text("local_id")?,
        seen_at: row.time("seen_at")?,
        gone: row.flag("gone")?,
    })
}

/// One, by the id here.
pub async fn get(conn: &mut Conn, kind: Kind, public_id: &str) -> Result<Option<Entry>> {
    let row = query("select * from directory_entries where public_id = $1 and kind = $2")
        .bind(public_id)
        .bind(kind.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// The ids of a domain's entries that its directory had when it was last asked.
pub async fn present(conn: &mut Conn, domain: &DomainId, kind: Kind) -> Result<Vec<String>> {
    let rows = query("select public_id from directory_entries where domain_id = $1 and kind = $2 and gone = 0")
        .bind(domain.as_str())
        .bind(kind.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.text("public_id")).collect()
}

/// What a directory says of a user or group.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The id here.
    pub id: String,
    /// As the directory has it.
    pub local_id: String,
    /// Its name.
    pub name: String,
    /// For people; groups only.
    pub description: String,
    /// Whether it may log in; users only.
    pub enabled: bool,
    /// More attributes.
    pub extra: Extra,
}

/// Writes what a directory says of some users; whether anything is new that tokens depend on.
pub async fn put_users(tx: &mut Tx, domain: &DomainId, users: &[Known]) -> Result<bool> {
    let now = tx.now();
    let mut changed = false;
    for user in users {
        see(tx, domain, Kind::User, user, now).await?;
        let row = query("select name, enabled, extra from users where id = $1")
            .bind(user.id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        if let Some(row) = &row {
            let same = row.text("name")? == user.name
                && row.flag("enabled")? == user.enabled
                && row.json::<Extra>("extra")? == user.extra;
            if same {
                continue;
            }
        }
        changed = true;
        // Another entry that had the name has been renamed or is gone.
        query("update users set name = name || '~' || id where domain_id = $1 and name = $2 and id <> $3")
            .bind(domain.as_str())
            .bind(user.name.as_str())
            .bind(user.id.as_str())
            .execute(&mut **tx)
            .await?;
        query(
            "insert into users (id, domain_id, name, enabled, extra, created_at) values ($1, $2, $3, $4, $5, $6) \
             on conflict (id) do update set name = excluded.name, enabled = excluded.enabled, extra = excluded.extra, \
             generation = users.generation + case when excluded.enabled < users.enabled then 1 else 0 end",
        )
        .bind(user.id.as_str())
        .bind(domain.as_str())
        .bind(user.name.as_str())
        .bind(i64::from(user.enabled))
        .bind(json_text(&user.extra))
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    }
    Ok(changed)
}

/// Writes what a directory says of some groups; whether anything is new.
pub async fn put_groups(tx: &mut Tx, domain: &DomainId, groups: &[Known]) -> Result<bool> {
    let now = tx.now();
    let mut changed = false;
    for group in groups {
        see(tx, domain, Kind::Group, group, now).await?;
        let row = query("select name, description, extra from user_groups where id = $1")
            .bind(group.id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        if let Some(row) = &row {
            let same = row.text("name")? == group.name
                && row.text("description")? == group.description
                && row.json::<Extra>("extra")? == group.extra;
            if same {
                continue;
            }
        }
        changed = true;
        query("update user_groups set name = name || '~' || id where domain_id = $1 and name = $2 and id <> $3")
            .bind(domain.as_str())
            .bind(group.name.as_str())
            .bind(group.id.as_str())
            .execute(&mut **tx)
            .await?;
        query(
            "insert into user_groups (id, domain_id, name, description, extra, created_at) \
             values ($1, $2, $3, $4, $5, $6) on conflict (id) do update set name = excluded.name, \
             description = excluded.description, extra = excluded.extra",
        )
        .bind(group.id.as_str())
        .bind(domain.as_str())
        .bind(group.name.as_str())
        .bind(group.description.as_str())
        .bind(json_text(&group.extra))
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    }
    Ok(changed)
}

async fn see(tx: &mut Tx, domain: &DomainId, kind: Kind, known: &Known, now: Timestamp) -> Result<()> {
    query(
        "insert into directory_entries (public_id, domain_id, kind, local_id, seen_at) values ($1, $2, $3, $4, $5) \
         on conflict (public_id) do update set seen_at = excluded.seen_at, gone = 0",
    )
    .bind(known.id.as_str())
    .bind(domain.as_str())
    .bind(kind.as_str())
    .bind(known.local_id.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes the groups of a user exactly these; whether anything is new.
pub async fn set_groups(tx: &mut Tx, user: &UserId, groups: &[GroupId]) -> Result<bool> {
    let rows =
        query("select group_id from group_members where user_id = $1").bind(user.as_str()).fetch_all(&mut **tx).await?;
    let now: Vec<GroupId> = rows.iter().map(|row| row.id("group_id")).collect::<Result<_>>()?;
    for group in now.iter().filter(|group| !groups.contains(group)) {
        query("delete from group_members where user_id = $1 and group_id = $2")
            .bind(user.as_str())
            .bind(group.as_str())
            .execute(&mut **tx)
            .await?;
    }
    for group in groups.iter().filter(|group| !now.contains(group)) {
        query("insert into group_members (user_id, group_id) values ($1, $2)")
            .bind(user.as_str())
            .bind(group.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(now.len() != groups.len() || now.iter().any(|group| !groups.contains(group)))
}

/// Makes the members of a group exactly these; whether anything is new.
pub async fn set_members(tx: &mut Tx, group: &GroupId, users: &[UserId]) -> Result<bool> {
    let rows = query("select user_id from group_members where group_id = $1")
        .bind(group.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let now: Vec<UserId> = rows.iter().map(|row| row.id("user_id")).collect::<Result<_>>()?;
    for user in now.iter().filter(|user| !users.contains(user)) {
        query("delete from group_members where user_id = $1 and group_id = $2")
            .bind(user.as_str())
            .bind(group.as_str())
            .execute(&mut **tx)
            .await?;
    }
    for user in users.iter().filter(|user| !now.contains(user)) {
        query("insert into group_members (user_id, group_id) values ($1, $2)")
            .bind(user.as_str())
            .bind(group.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(now.len() != users.len() || now.iter().any(|user| !users.contains(user)))
}

/// A user that the directory doesn't know any more: nothing of it is good, but its id and assignments stay, should the
/// directory know it again.
pub async fn lose_user(tx: &mut Tx, id: &UserId) -> Result<()> {
    let now = tx.now();
    query("update users set enabled = 0, generation = generation + 1 where id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    query("delete from group_members where user_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    query("update directory_entries set seen_at = $2, gone = 1 where public_id = $1")
        .bind(id.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A group that the directory doesn't know any more: nobody is in it.
pub async fn lose_group(tx: &mut Tx, id: &GroupId) -> Result<()> {
    query("delete from group_members where group_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    query("update directory_entries set gone = 1 where public_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}
