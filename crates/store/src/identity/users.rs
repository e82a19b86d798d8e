//! Table `users`.

use std::fmt;

use model::{
    Timestamp,
    id::{DomainId, ProjectId, UserId},
};

use super::{Extra, json_text};
use crate::{
    Conn, Result, Row, RowExt, Tx, events,
    list::{Page, Select},
    query,
};

/// A user.
#[derive(Clone, PartialEq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its domain.
    pub domain_id: DomainId,
    /// Unique in the domain.
    pub name: String,
    /// A disabled one can't log in, and its tokens are void.
    pub enabled: bool,
    /// Where a token is good that was asked for without a scope.
    pub default_project_id: Option<ProjectId>,
    /// The password's hash as a PHC string; none: it can't log in by password.
    pub password_hash: Option<String>,
    /// Tokens of an older generation are void.
    pub generation: i64,
    /// The client's own attributes, `description` and `email` among them.
    pub extra: Extra,
    /// What secures its login.
    pub security: Security,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What secures a user's login.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Security {
    /// Keystone's resource options: `lock_password` and the like.
    pub options: Extra,
    /// When the password was set.
    pub password_at: Option<Timestamp>,
    /// When it expires.
    pub password_expires_at: Option<Timestamp>,
    /// Whether the user chose it, and not an administrator.
    pub password_by_self: bool,
    /// The last login, where the cloud counts idle days.
    pub active_at: Option<Timestamp>,
}

impl Security {
    /// Whether an option is on.
    pub fn has(&self, option: &str) -> bool {
        self.options.get(option) == Some(&serde_json::Value::Bool(true))
    }
}

impl fmt::Debug for User {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("domain_id", &self.domain_id)
            .field("name", &self.name)
            .field("enabled", &self.enabled)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

fn from_row(row: &Row) -> Result<User> {
    Ok(User {
        id: row.id("id")?,
        domain_id: row.id("domain_id")?,
        name: row.text("name")?,
        enabled: row.flag("enabled")?,
        default_project_id: row.opt_id("default_project_id")?,
        password_hash: row.opt_text("password_hash")?,
        generation: row.int("generation")?,
        extra: row.json("extra")?,
        security: Security {
            options: row.json("options")?,
            password_at: row.opt_time("password_at")?,
            password_expires_at: row.opt_time("password_expires_at")?,
            password_by_self: row.flag("password_by_self")?,
            active_at: row.opt_time("active_at")?,
        },
        created_at: row.time("created_at")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from users t", "users t", "t.id")
}

/// Narrows a list to those that their directory still has, where they have one.
pub fn only_present(select: &mut Select) {
    select.filter("t.id not in (select public_id from directory_entries where gone = 1)", []);
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<User>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &UserId) -> Result<Option<User>> {
    let row = query("select * from users where id = $1").bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One, by its name in a domain.
pub async fn get_by_name(conn: &mut Conn, domain: &DomainId, name: &str) -> Result<Option<User>> {
    let row = query("select * from users where domain_id = $1 and name = $2")
        .bind(domain.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Adds one.
pub async fn insert(tx: &mut Tx, user: &User) -> Result<()> {
    query(
        "insert into users (id, domain_id, name, enabled, default_project_id, password_hash, generation, extra, \
         created_at, options, password_at, password_expires_at, password_by_self, active_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(user.id.as_str())
    .bind(user.domain_id.as_str())
    .bind(user.name.as_str())
    .bind(i64::from(user.enabled))
    .bind(user.default_project_id.as_ref().map(|id| id.as_str()))
    .bind(user.password_hash.as_deref())
    .bind(user.generation)
    .bind(json_text(&user.extra))
    .bind(user.created_at.0)
    .bind(json_text(&user.security.options))
    .bind(user.security.password_at.map(|t| t.0))
    .bind(user.security.password_expires_at.map(|t| t.0))
    .bind(i64::from(user.security.password_by_self))
    .bind(user.security.active_at.map(|t| t.0))
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::USER, &user.id);
    Ok(())
}

/// Writes what may change.
pub async fn update(tx: &mut Tx, user: &User) -> Result<()> {
    query(
        "update users set name = $2, enabled = $3, default_project_id = $4, password_hash = $5, generation = $6, \
         extra = $7, options = $8, password_at = $9, password_expires_at = $10, password_by_self = $11, \
         active_at = $12 where id = $1",
    )
    .bind(user.id.as_str())
    .bind(user.name.as_str())
    .bind(i64::from(user.enabled))
    .bind(user.default_project_id.as_ref().map(|id| id.as_str()))
    .bind(user.password_hash.as_deref())
    .bind(user.generation)
    .bind(json_text(&user.extra))
    .bind(json_text(&user.security.options))
    .bind(user.security.password_at.map(|t| t.0))
    .bind(user.security.password_expires_at.map(|t| t.0))
    .bind(i64::from(user.security.password_by_self))
    .bind(user.security.active_at.map(|t| t.0))
    .execute(&mut **tx)
    .await?;
    events::updated(tx, events::USER, &user.id);
    Ok(())
}

/// Removes it and its assignments.
pub async fn delete(tx: &mut Tx, id: &UserId) -> Result<()> {
    events::deleted(tx, events::USER, id).await?;
    query("delete from role_assignments where actor_kind = 'user' and actor_id = $1")
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
    query("delete from users where id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    Ok(())
}
