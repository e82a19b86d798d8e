//! Tables `application_credentials`, `access_rules`, `application_credential_rules`.

use model::{
    Timestamp,
    id::{ProjectId, RoleId, UserId},
};

use super::json_text;
use crate::{
    Conn, Result, Row, RowExt, Tx,
    list::{Page, Select, Value},
    query,
};

/// An application credential.
#[derive(Clone, PartialEq)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// The one project that it is good for.
    pub project_id: ProjectId,
    /// Unique for the user.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The secret's hash as a PHC string.
    pub secret_hash: String,
    /// The roles that it has, each of which the user must still have.
    pub role_ids: Vec<RoleId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it may manage application credentials and trusts.
    pub unrestricted: bool,
    /// Whether only what its access rules allow is allowed.
    pub restricted_to_rules: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A rule about which requests are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// The service's type.
    pub service: String,
    /// The method.
    pub method: String,
    /// The path's pattern.
    pub path: String,
}

fn from_row(row: &Row) -> Result<ApplicationCredential> {
    Ok(ApplicationCredential {
        id: row.text("id")?,
        user_id: row.id("user_id")?,
        project_id: row.id("project_id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        secret_hash: row.text("secret_hash")?,
        role_ids: row.json("role_ids")?,
        expires_at: row.opt_time("expires_at")?,
        unrestricted: row.flag("unrestricted")?,
        restricted_to_rules: row.flag("restricted_to_rules")?,
        created_at: row.time("created_at")?,
    })
}

fn rule(row: &Row) -> Result<Rule> {
    Ok(Rule {
        id: row.text("id")?,
        user_id: row.id("user_id")?,
        service: row.text("service")?,
        method: row.text("method")?,
        path: row.text("path")?,
    })
}

/// Filters are added by the caller.
pub fn select() -> Select {
    Select::new("select t.* from application_credentials t", "application_credentials t", "t.id")
}

/// One page.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<ApplicationCredential>> {
    select.page(conn, page).await?.iter().map(from_row).collect()
}

/// One, by id.
pub async fn get(conn: &mut Conn, id: &str) -> Result<Option<ApplicationCredential>> {
    let row = query("select * from application_credentials where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// One, by its user and name.
pub async fn get_by_name(conn: &mut Conn, user: &UserId, name: &str) -> Result<Option<ApplicationCredential>> {
    let row = query("select * from application_credentials where user_id = $1 and name = $2")
        .bind(user.as_str())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// How many a user has.
pub async fn count(conn: &mut Conn, user: &UserId) -> Result<i64> {
    query("select count(*) as found from application_credentials where user_id = $1")
        .bind(user.as_str())
        .fetch_one(conn)
        .await?
        .int("found")
}

/// Adds one with its rules.
pub async fn insert(tx: &mut Tx, credential: &ApplicationCredential, rules: &[Rule]) -> Result<()> {
    query(
        "insert into application_credentials (id, user_id, project_id, name, description, secret_hash, role_ids, \
         expires_at, unrestricted, restricted_to_rules, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(credential.id.as_str())
    .bind(credential.user_id.as_str())
    .bind(credential.project_id.as_str())
    .bind(credential.name.as_str())
    .bind(credential.description.as_deref())
    .bind(credential.secret_hash.as_str())
    .bind(json_text(&credential.role_ids))
    .bind(credential.expires_at.map(|t| t.0))
    .bind(i64::from(credential.unrestricted))
    .bind(i64::from(credential.restricted_to_rules))
    .bind(credential.created_at.0)
    .execute(&mut **tx)
    .await?;
    for rule in rules {
        query(
            "insert into application_credential_rules (application_credential_id, access_rule_id) values ($1, $2) \
             on conflict (application_credential_id, access_rule_id) do nothing",
        )
        .bind(credential.id.as_str())
        .bind(rule.id.as_str())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Removes one; its rules stay the user's.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from application_credentials where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Removes a user's for a project in which it lost a role.
pub async fn delete_of(tx: &mut Tx, user: &UserId, project: &ProjectId) -> Result<()> {
    query("delete from application_credentials where user_id = $1 and project_id = $2")
        .bind(user.as_str())
        .bind(project.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Filters are added by the caller.
pub fn select_rules() -> Select {
    Select::new("select t.* from access_rules t", "access_rules t", "t.id")
}

/// One page of rules.
pub async fn list_rules(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Rule>> {
    select.page(conn, page).await?.iter().map(rule).collect()
}

/// The rules of some credentials, each with the credential's id.
pub async fn rules_of(conn: &mut Conn, ids: &[&str]) -> Result<Vec<(String, Rule)>> {
    let mut select = Select::new(
        "select r.*, a.application_credential_id as owner_id \
         from application_credential_rules a join access_rules r on r.id = a.access_rule_id",
        "access_rules r",
        "r.id",
    );
    select.any_of("a.application_credential_id", ids.iter().map(|id| Value::from(*id)));
    let rows = select.all(conn, "a.application_credential_id, r.id").await?;
    rows.iter().map(|row| Ok((row.text("owner_id")?, rule(row)?))).collect()
}

/// A rule, by id.
pub async fn get_rule(conn: &mut Conn, id: &str) -> Result<Option<Rule>> {
    let row = query("select * from access_rules where id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(rule).transpose()
}

/// The user's rule that says the same, or a new one.
pub async fn ensure_rule(tx: &mut Tx, wanted: &Rule) -> Result<Rule> {
    query(
        "insert into access_rules (id, user_id, service, method, path) values ($1, $2, $3, $4, $5) \
         on conflict (user_id, service, method, path) do nothing",
    )
    .bind(wanted.id.as_str())
    .bind(wanted.user_id.as_str())
    .bind(wanted.service.as_str())
    .bind(wanted.method.as_str())
    .bind(wanted.path.as_str())
    .execute(&mut **tx)
    .await?;
    let row = query("select * from access_rules where user_id = $1 and service = $2 and method = $3 and path = $4")
        .bind(wanted.user_id.as_str())
        .bind(wanted.service.as_str())
        .bind(wanted.method.as_str())
        .bind(wanted.path.as_str())
        .fetch_one(&mut **tx)
        .await?;
    rule(&row)
}

/// Whether a credential has the rule.
pub async fn rule_in_use(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query("select 1 as one from application_credential_rules where access_rule_id = $1 limit 1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Removes a rule.
pub async fn delete_rule(tx: &mut Tx, id: &str) -> Result<()> {
    query("delete from access_rules where id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}
