//! Tables `security_groups` and `security_group_rules`.

use std::collections::HashMap;

use model::{
    Error, Timestamp,
    id::{ProjectId, SecurityGroupId, SecurityGroupRuleId},
};
use sqlx::AssertSqlSafe;

use super::{
    Meta, Viewer, charge, release,
    rows::{self, Table},
    tags,
};
use crate::{
    Conn, Result, Row, RowExt, Tx, events, flows,
    list::{Page, Select},
    query,
};

/// The kind of its flow, and the step that a new one starts with.
pub const FLOW: (&str, &str) = ("security-group", "realize");
/// The name of each project's first group.
pub const DEFAULT_NAME: &str = "default";

/// A security group.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether answers to permitted traffic are permitted.
    pub stateful: bool,
    /// What all tables have.
    pub meta: Meta,
    /// What it permits.
    pub rules: Vec<Rule>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl SecurityGroup {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            stateful: row.flag("stateful")?,
            meta: Meta::from_row(row)?,
            rules: Vec::new(),
            tags: Vec::new(),
        })
    }
}

/// A rule, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// Its group.
    pub security_group_id: SecurityGroupId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its description.
    pub description: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `IPv4` or `IPv6`.
    pub ethertype: String,
    /// A name or a number; none is any.
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    pub port_range_min: Option<i64>,
    /// Last port, or ICMP code.
    pub port_range_max: Option<i64>,
    /// The other end's addresses.
    pub remote_ip_prefix: Option<String>,
    /// The other end's group.
    pub remote_group_id: Option<SecurityGroupId>,
    /// The other end's address group.
    pub remote_address_group_id: Option<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed.
    pub updated_at: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Rule {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            security_group_id: row.id("security_group_id")?,
            project_id: row.id("project_id")?,
            description: row.text("description")?,
            direction: row.text("direction")?,
            ethertype: row.text("ethertype")?,
            protocol: row.opt_text("protocol")?,
            port_range_min: row.opt_int("port_range_min")?,
            port_range_max: row.opt_int("port_range_max")?,
            remote_ip_prefix: row.opt_text("remote_ip_prefix")?,
            remote_group_id: row.opt_id("remote_group_id")?,
            remote_address_group_id: row.opt_text("remote_address_group_id")?,
            revision: row.int("revision")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            tags: Vec::new(),
        })
    }
}

/// A rule to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRule {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// Its description.
    pub description: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `IPv4` or `IPv6`.
    pub ethertype: String,
    /// A name or a number; none is any.
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    pub port_range_min: Option<i64>,
    /// Last port, or ICMP code.
    pub port_range_max: Option<i64>,
    /// The other end's addresses.
    pub remote_ip_prefix: Option<String>,
    /// The other end's group.
    pub remote_group_id: Option<SecurityGroupId>,
    /// The other end's address group.
    pub remote_address_group_id: Option<String>,
}

impl NewRule {
    /// A rule that permits everything of that direction and IP version.
    pub fn new(direction: &str, ethertype: &str) -> Self {
        Self {
            id: SecurityGroupRuleId::random(),
            description: String::new(),
            direction: direction.to_owned(),
            ethertype: ethertype.to_owned(),
            protocol: None,
            port_range_min: None,
            port_range_max: None,
            remote_ip_prefix: None,
            remote_group_id: None,
            remote_address_group_id: None,
        }
    }
}

/// `SecurityGroupNotFound`, in Neutron's words.
pub fn not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("SecurityGroupNotFound", format!("Security group {} does not exist", id.as_ref()))
}

/// `SecurityGroupRuleNotFound`, in Neutron's words.
pub fn rule_not_found(id: impl AsRef<str>) -> Error {
    Error::not_found("SecurityGroupRuleNotFound", format!("Security group rule {} does not exist", id.as_ref()))
}

/// Makes a group that lets everything out, and its flow; charges quota.
///
/// # Errors
/// `OverQuota`.
pub async fn create(
    tx: &mut Tx,
    project: &ProjectId,
    name: &str,
    description: &str,
    stateful: bool,
) -> Result<SecurityGroup, Error> {
    charge(tx, project, "security_group", 1).await?;
    let id = SecurityGroupId::random();
    insert(tx, &id, project, name, description, stateful).await?;
    for ethertype in ["IPv4", "IPv6"] {
        add_rule(tx, &id, project, &NewRule::new("egress", ethertype)).await?;
    }
    get(tx, &id).await?.ok_or_else(|| not_found(&id))
}

/// Whether the row was new: of a second default group nothing is inserted.
async fn insert(
    tx: &mut Tx,
    id: &SecurityGroupId,
    project: &ProjectId,
    name: &str,
    description: &str,
    stateful: bool,
) -> Result<bool> {
    let meta = Meta::new(tx.now());
    let inserted = query(
        "insert into security_groups (id, project_id, name, description, stateful, revision, realized_revision, \
         created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $8) on conflict do nothing",
    )
    .bind(id.as_str())
    .bind(project.as_str())
    .bind(name)
    .bind(description)
    .bind(i64::from(stateful))
    .bind(meta.revision)
    .bind(meta.realized_revision)
    .bind(meta.created_at.0)
    .execute(&mut **tx)
    .await?
    .rows_affected()
        > 0;
    if inserted {
        events::created(tx, events::SECURITY_GROUP, id);
        flows::insert(tx, id, FLOW.0, FLOW.1, None).await?;
    }
    Ok(inserted)
}

/// The project's default group, made where there is none: everything out, and in from each other.
///
/// # Errors
/// `OverQuota`.
pub async fn ensure_default(tx: &mut Tx, project: &ProjectId) -> Result<SecurityGroupId, Error> {
    if let Some(id) = default_of(tx, project).await? {
        return Ok(id);
    }
    let id = SecurityGroupId::random();
    // Two requests may find none at the same time: the index lets one through, and the other then reads its row.
    if !insert(tx, &id, project, DEFAULT_NAME, "Default security group", true).await? {
        return default_of(tx, project).await?.ok_or_else(|| not_found(DEFAULT_NAME));
    }
    charge(tx, project, "security_group", 1).await?;
    for ethertype in ["IPv4", "IPv6"] {
        add_rule(tx, &id, project, &NewRule::new("egress", ethertype)).await?;
        let within = NewRule { remote_group_id: Some(id.clone()), ..NewRule::new("ingress", ethertype) };
        add_rule(tx, &id, project, &within).await?;
    }
    Ok(id)
}

/// The project's default group, if it has one already.
pub async fn default_of(conn: &mut Conn, project: &ProjectId) -> Result<Option<SecurityGroupId>> {
    let row = query("select id from security_groups where project_id = $1 and name = 'default' and deleted_at is null")
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(|row| row.id("id")).transpose()
}

/// All of them must be there.
///
/// # Errors
/// `SecurityGroupNotFound` naming the first that is not.
pub async fn expect_all(conn: &mut Conn, ids: &[SecurityGroupId]) -> Result<(), Error> {
    for id in ids {
        let row = query("select id from security_groups where id = $1 and deleted_at is null").bind(id.as_str());
        if row.fetch_optional(&mut *conn).await.map_err(crate::Error::from)?.is_none() {
            return Err(not_found(id));
        }
    }
    Ok(())
}

/// One group, deleted ones apart.
pub async fn get(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<SecurityGroup>> {
    Ok(find(conn, id).await?.filter(|group| !group.meta.deleted))
}

/// One group, also one that is to go: for its flow.
pub async fn find(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<SecurityGroup>> {
    let row = query("select * from security_groups where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn).await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// One group, locked until the transaction ends: rules are added and compared under this lock.
///
/// # Errors
/// `SecurityGroupNotFound`.
pub async fn lock(tx: &mut Tx, id: impl AsRef<str>) -> Result<SecurityGroup, Error> {
    let lock = tx.db().dialect().for_update();
    let sql = format!("select * from security_groups where id = $1 and deleted_at is null{lock}");
    let row = query(AssertSqlSafe(sql)).bind(id.as_ref()).fetch_optional(&mut **tx).await;
    let row = row.map_err(crate::Error::from)?;
    complete(tx, row.as_slice()).await?.pop().ok_or_else(|| not_found(id.as_ref()))
}

/// The project's groups of that name or id: what a server's `security_groups` names.
pub async fn by_name(conn: &mut Conn, project: &ProjectId, name: &str) -> Result<Vec<SecurityGroupId>> {
    let rows = query(
        "select id from security_groups where project_id = $1 and (name = $2 or id = $2) and deleted_at is null order by id",
    )
    .bind(project.as_str())
    .bind(name)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// The names of several groups: what a server's `security_groups` shows.
pub async fn names(conn: &mut Conn, ids: &[&SecurityGroupId]) -> Result<HashMap<SecurityGroupId, String>> {
    let mut select = Select::new("select g.id, g.name from security_groups g", "security_groups g", "g.id");
    select.any_of("g.id", ids.iter().map(|id| (*id).into()));
    let rows = select.all(conn, "g.id").await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.text("name")?))).collect()
}

/// A `select` of the groups that someone sees.
pub fn select(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from security_groups r", "security_groups r", "r.id");
    select.filter("r.deleted_at is null", []);
    if let Viewer::Project(project) = viewer {
        select.equal("r.project_id", project);
    }
    select
}

/// A page of them.
pub async fn list(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<SecurityGroup>> {
    let rows = select.page(conn, page).await?;
    complete(conn, &rows).await
}

async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<SecurityGroup>> {
    let mut groups: Vec<SecurityGroup> = rows.iter().map(SecurityGroup::from_row).collect::<Result<_>>()?;
    if groups.is_empty() {
        return Ok(groups);
    }
    let mut select = select_rules(&Viewer::Admin);
    select.any_of("r.security_group_id", groups.iter().map(|g| (&g.id).into()));
    let rows = select.all(conn, "r.security_group_id, r.created_at, r.id").await?;
    let mut rules: HashMap<SecurityGroupId, Vec<Rule>> = HashMap::new();
    for rule in complete_rules(conn, &rows).await? {
        rules.entry(rule.security_group_id.clone()).or_default().push(rule);
    }
    for group in &mut groups {
        group.rules = rules.remove(&group.id).unwrap_or_default();
    }
    tags::fill(conn, &mut groups, |g| (g.id.as_str(), &mut g.tags)).await?;
    Ok(groups)
}

/// Writes what may change of a group, raises its revision, wakes its flow.
pub async fn update(tx: &mut Tx, group: &SecurityGroup) -> Result<()> {
    query("update security_groups set name = $2, description = $3, stateful = $4 where id = $1")
        .bind(group.id.as_str())
        .bind(group.name.as_str())
        .bind(group.description.as_str())
        .bind(i64::from(group.stateful))
        .execute(&mut **tx)
        .await?;
    rows::touch(tx, Table::SecurityGroups, group.id.as_str()).await
}

/// Deletes a group with its rules, and the rules of others that name it.
///
/// # Errors
/// `SecurityGroupNotFound`; `SecurityGroupInUse` while ports have it.
pub async fn delete(tx: &mut Tx, id: &SecurityGroupId) -> Result<(), Error> {
    let group = lock(tx, id).await?;
    let used = query("select port_id from port_security_groups where security_group_id = $1 limit 1")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    if used.is_some() {
        return Err(Error::conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
    }
    let rows = query("select * from security_group_rules where remote_group_id = $1 or security_group_id = $1")
        .bind(id.as_str())
        .fetch_all(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
    for row in &rows {
        let rule = Rule::from_row(row)?;
        delete_rule(tx, &rule).await?;
    }
    rows::mark_deleted(tx, Table::SecurityGroups, id.as_str()).await?;
    Ok(release(tx, &group.project_id, "security_group", 1).await?)
}

/// Adds a rule, raises the group's revision and wakes its flow; charges quota. What it must not repeat is the caller's
/// to compare.
///
/// # Errors
/// `OverQuota`.
pub async fn add_rule(tx: &mut Tx, group: &SecurityGroupId, project: &ProjectId, new: &NewRule) -> Result<Rule, Error> {
    charge(tx, project, "security_group_rule", 1).await?;
    query(
        "insert into security_group_rules (id, security_group_id, project_id, description, direction, ethertype, \
         protocol, port_range_min, port_range_max, remote_ip_prefix, remote_group_id, remote_address_group_id, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $13)",
    )
    .bind(new.id.as_str())
    .bind(group.as_str())
    .bind(project.as_str())
    .bind(new.description.as_str())
    .bind(new.direction.as_str())
    .bind(new.ethertype.as_str())
    .bind(new.protocol.as_deref())
    .bind(new.port_range_min)
    .bind(new.port_range_max)
    .bind(new.remote_ip_prefix.as_deref())
    .bind(new.remote_group_id.as_ref().map(|id| id.as_str()))
    .bind(new.remote_address_group_id.as_deref())
    .bind(tx.now().0)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    rows::touch(tx, Table::SecurityGroups, group.as_str()).await?;
    get_rule(tx, &new.id).await?.ok_or_else(|| rule_not_found(&new.id))
}

/// One rule.
pub async fn get_rule(conn: &mut Conn, id: impl AsRef<str>) -> Result<Option<Rule>> {
    let row = query("select * from security_group_rules where id = $1").bind(id.as_ref()).fetch_optional(&mut *conn);
    let row = row.await?;
    Ok(complete_rules(conn, row.as_slice()).await?.pop())
}

/// A `select` of the rules that someone sees.
pub fn select_rules(viewer: &Viewer) -> Select {
    let mut select = Select::new("select r.* from security_group_rules r", "security_group_rules r", "r.id");
    if let Viewer::Project(project) = viewer {
        select.filter(
            "(r.project_id = ? or r.security_group_id in (select id from security_groups where project_id = ?))",
            [project.into(), project.into()],
        );
    }
    select
}

/// A page of them.
pub async fn list_rules(conn: &mut Conn, select: Select, page: &Page) -> Result<Vec<Rule>> {
    let rows = select.page(conn, page).await?;
    complete_rules(conn, &rows).await
}

async fn complete_rules(conn: &mut Conn, rows: &[Row]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = rows.iter().map(Rule::from_row).collect::<Result<_>>()?;
    tags::fill(conn, &mut rules, |r| (r.id.as_str(), &mut r.tags)).await?;
    Ok(rules)
}

/// Deletes a rule, raises the group's revision and wakes its flow; gives the quota back.
pub async fn delete_rule(tx: &mut Tx, rule: &Rule) -> Result<()> {
    let deleted =
        query("delete from security_group_rules where id = $1").bind(rule.id.as_str()).execute(&mut **tx).await?;
    if deleted.rows_affected() > 0 {
        tags::clear(tx, rule.id.as_str()).await?;
        release(tx, &rule.project_id, "security_group_rule", 1).await?;
        rows::touch(tx, Table::SecurityGroups, rule.security_group_id.as_str()).await?;
    }
    Ok(())
}

/// The first of these groups that OVN does not have yet.
pub async fn first_not_in_ovn(conn: &mut Conn, ids: &[SecurityGroupId]) -> Result<Option<SecurityGroupId>> {
    let mut select = select(&Viewer::Admin);
    select.filter("r.realized_revision < ?", [1.into()]).any_of("r.id", ids.iter().map(Into::into));
    select.all(conn, "r.id").await?.first().map(|row| row.id("id")).transpose()
}
